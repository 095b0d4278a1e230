//! What scores a window's vector: one of two forests.

use super::{
    forest::Forest,
    oif::OnlineForest,
    saved::{Reader, Writer},
};

/// Which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Robust random cut forest: the better one.
    #[default]
    Rcf,
    /// Online isolation forest: ten times as fast.
    Oif,
}

impl Engine {
    /// As settings have it.
    pub fn word(self) -> &'static str {
        match self {
            Engine::Rcf => "rcf",
            Engine::Oif => "oif",
        }
    }
}

/// A forest of either kind.
#[derive(Clone, Debug)]
pub enum Model {
    Rcf(Box<Forest>),
    Oif(Box<OnlineForest>),
}

impl Model {
    /// One over vectors of eight numbers, that has learnt nothing.
    pub fn new(engine: Engine, seed: u64) -> Self {
        match engine {
            Engine::Rcf => Model::Rcf(Box::new(Forest::new(8, seed))),
            Engine::Oif => Model::Oif(Box::new(OnlineForest::new(8, seed))),
        }
    }

    /// The score of a vector, more for what is less like the others; 0 while too little is known.
    pub fn score(&mut self, vector: &[f32; 8]) -> f64 {
        match self {
            Model::Rcf(forest) => forest.score(vector),
            Model::Oif(forest) => forest.score(vector),
        }
    }

    /// Which part of the score each number has; all 0 where the engine cannot tell.
    pub fn shares(&mut self, vector: &[f32; 8]) -> [f64; 8] {
        let Model::Rcf(forest) = self else { return [0.0; 8] };
        forest.shares(vector).try_into().unwrap_or([0.0; 8])
    }

    /// Learns a vector.
    ///
    /// - `decay`: by how much less every earlier one weighs from now on, as a logarithm; engine `oif` has a window of
    ///   its own instead.
    pub fn learn(&mut self, vector: &[f32; 8], decay: f64) {
        match self {
            Model::Rcf(forest) => forest.learn(vector, decay),
            Model::Oif(forest) => forest.learn(vector),
        }
    }

    /// Writes it.
    pub fn save(&self, out: &mut Writer) {
        match self {
            Model::Rcf(forest) => forest.save(out),
            Model::Oif(forest) => forest.save(out),
        }
    }

    /// Reads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn load(engine: Engine, from: &mut Reader<'_>) -> Result<Self, &'static str> {
        Ok(match engine {
            Engine::Rcf => Model::Rcf(Box::new(Forest::load(8, from)?)),
            Engine::Oif => Model::Oif(Box::new(OnlineForest::load(8, from)?)),
        })
    }
}
