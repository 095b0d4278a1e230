//! User models: what an operator trained elsewhere, asked about an event or a window.
//!
//! A model is a file in one of two forms: LightGBM's own text (`lightgbm`, read here), and ONNX (`onnx`, by tract, in
//! builds with that feature). What executes code when it is read is never opened: a pickle is named and refused.
//!
//! A [`Model`] knows which inputs it wants, in its own order, and how each is scaled. [`Models`] are several, asked together:
//! their answer is the mean by weight over those that answer. Nothing here knows what an event is, or when a score is an
//! alert.
//!
//! Start at [`Model::read`] and [`Model::score`].

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod forest;
mod form;
mod inputs;
mod lightgbm;
#[cfg(feature = "onnx")]
mod onnx;
mod panel;

pub use form::Format;
pub use inputs::{FEATURES, INPUTS, Input, Row};
pub use panel::{Models, Scope};

use lightgbm::LightGbm;

/// A model cannot be used: what of it, and the remedy after `;`. Reads on after "the model PATH".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModelError(String);

impl ModelError {
    fn new(what: String) -> Self {
        Self(what)
    }

    /// The same of a part of the file.
    fn of(self, part: &str) -> Self {
        Self(format!("has a block {part} that {}", self.0))
    }
}

/// One input as the model was trained with it: `(value - mean) / scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wanted {
    pub input: Input,
    pub mean: f64,
    /// Not 0.
    pub scale: f64,
}

/// What the config says of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// `None`: by what the file holds.
    pub format: Option<Format>,
    /// In the order in which the model was trained; at least one.
    pub inputs: Vec<Wanted>,
    /// Stands for a missing input, before it is scaled.
    pub fill: Option<f64>,
    /// Which of the numbers that the model gives is its answer, from 0.
    pub output: usize,
    /// Of its answer, beside those of other models; above 0.
    pub weight: f64,
}

/// A model that can be asked.
#[derive(Debug)]
pub struct Model {
    inputs: Vec<Wanted>,
    fill: f64,
    weight: f64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    LightGbm(LightGbm),
    #[cfg(feature = "onnx")]
    Onnx(onnx::Network),
}

/// Memory that is used again; one for each who asks.
#[derive(Debug, Default)]
pub struct Desk {
    values: Vec<f64>,
    scratch: Vec<f64>,
}

impl Model {
    /// Reads a file's bytes.
    ///
    /// # Errors
    /// If they are no model that can be used, or not one with these inputs.
    pub fn read(bytes: &[u8], asked: &Asked) -> Result<Self, ModelError> {
        let kind = match form::of(bytes, asked.format)? {
            Format::LightGbm => Kind::LightGbm(lightgbm(bytes, asked)?),
            #[cfg(feature = "onnx")]
            Format::Onnx => Kind::Onnx(onnx::Network::read(bytes, asked)?),
            #[cfg(not(feature = "onnx"))]
            Format::Onnx => {
                let what = "is in ONNX form, and this build has no feature onnx; install the package, or build with --features onnx";
                return Err(ModelError::new(what.into()));
            }
        };
        Ok(Self { inputs: asked.inputs.clone(), fill: asked.fill.unwrap_or(f64::NAN), weight: asked.weight, kind })
    }

    /// The model's answer for a row; `None` if that is no finite number.
    pub fn score(&self, row: &Row, desk: &mut Desk) -> Option<f64> {
        let Desk { values, scratch } = desk;
        values.clear();
        values.extend(self.inputs.iter().map(|wanted| {
            let value = row.get(wanted.input);
            let value = if value.is_nan() { self.fill } else { value };
            (value - wanted.mean) / wanted.scale
        }));
        let answer = match &self.kind {
            Kind::LightGbm(model) => model.answer(values, scratch),
            #[cfg(feature = "onnx")]
            Kind::Onnx(network) => network.answer(values)?,
        };
        answer.is_finite().then_some(answer)
    }

    /// True if one event has all its inputs; else only a closed window has.
    pub fn is_for_events(&self) -> bool {
        self.inputs.iter().all(|wanted| wanted.input.is_feature())
    }

    /// What it is, in a few words for a log.
    pub fn about(&self) -> String {
        let what = match &self.kind {
            Kind::LightGbm(model) => format!("LightGBM, {} trees", model.trees()),
            #[cfg(feature = "onnx")]
            Kind::Onnx(network) => format!("ONNX, {} operations", network.operations()),
        };
        let scope = if self.is_for_events() { "events and windows" } else { "windows" };
        format!("{what}, {} inputs, for {scope}", self.inputs.len())
    }
}

/// Reads the text form, and sees that its inputs are those of the config.
fn lightgbm(bytes: &[u8], asked: &Asked) -> Result<LightGbm, ModelError> {
    let text = std::str::from_utf8(bytes).map_err(|_| ModelError::new("is no UTF-8; copy it anew".into()))?;
    let model = LightGbm::read(text)?;
    if asked.output != 0 {
        return Err(ModelError::new(format!("gives one number, and output is {}; remove output", asked.output)));
    }
    if model.names.len() != asked.inputs.len() {
        let (has, set) = (model.names.len(), asked.inputs.len());
        return Err(ModelError::new(format!("has {has} inputs, and inputs names {set}; name them in the order of its training")));
    }
    // Names of ours in another order are the mistake that nobody would see.
    for (n, (name, wanted)) in model.names.iter().zip(&asked.inputs).enumerate() {
        if Input::of(name).is_some_and(|input| input != wanted.input) {
            let set = wanted.input.name();
            return Err(ModelError::new(format!(
                "was trained with {name} as input {n}, and inputs has {set} there; put them in its order"
            )));
        }
    }
    Ok(model)
}

#[cfg(test)]
pub(crate) mod tests;
