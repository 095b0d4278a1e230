//! Several models, asked together.

use super::{Desk, Model, Row};
use crate::tables::{Reader, Shelf};

/// What is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One event: a model that wants more than the ten features does not answer.
    Event,
    /// A closed window.
    Window,
}

/// Models by name, from their places on a shelf; one for each who asks.
#[derive(Debug)]
pub struct Models {
    members: Vec<(String, Reader<Model>)>,
    scope: Scope,
    desk: Desk,
    answers: Vec<Option<f64>>,
}

impl Models {
    /// The models of these names. One whose table is empty does not answer until it is filled.
    pub fn new(shelf: &Shelf, names: &[String], scope: Scope) -> Self {
        let members: Vec<_> = names.iter().filter_map(|name| Some((name.clone(), shelf.of::<Model>(name)?.reader()))).collect();
        Self { answers: vec![None; members.len()], members, scope, desk: Desk::default() }
    }

    /// True if there is none, so that a row need not be made.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The mean of the answers by weight, 0 to 1; `None` if no model answers.
    pub fn ask(&mut self, row: &Row) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for ((_, reader), answer) in self.members.iter_mut().zip(&mut self.answers) {
            let model = reader.get().filter(|model| self.scope == Scope::Window || model.is_for_events());
            *answer = model.and_then(|model| {
                let score = model.score(row, &mut self.desk)?;
                sum += model.weight * score;
                weights += model.weight;
                Some(score)
            });
        }
        (weights > 0.0).then(|| (sum / weights).clamp(0.0, 1.0))
    }

    /// What each model said when last asked, by name in the order of the config; those that said nothing are left out.
    pub fn answers(&self) -> impl Iterator<Item = (&str, f64)> {
        self.members.iter().zip(&self.answers).filter_map(|((name, _), answer)| Some((name.as_str(), (*answer)?)))
    }
}
