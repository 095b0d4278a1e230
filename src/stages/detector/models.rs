//! The operator's models, asked about each window that is closed.

use crate::{
    detect::detector::Scored,
    tables::{
        Shelf,
        model::{Input, Models, Row, Scope},
    },
};

/// Models, and the score from which on they make an alert.
pub(super) struct Panel {
    models: Models,
    threshold: f64,
}

/// What the models said of a window.
#[derive(Default)]
pub(super) struct Answer<'p> {
    /// Their mean by weight, if it is an alert.
    pub alert: Option<f64>,
    /// Of each model that answered.
    pub scores: Vec<(&'p str, f64)>,
}

impl Panel {
    /// - `names`: of tables.
    pub fn new(tables: &Shelf, names: &[String], threshold: f64) -> Self {
        Self { models: Models::new(tables, names, Scope::Window), threshold }
    }

    /// Asks about a window.
    pub fn ask(&mut self, scored: &Scored) -> Answer<'_> {
        if self.models.is_empty() {
            return Answer::default();
        }
        let mut row = Row::default().with_vector(&scored.vector.map(f64::from));
        for (name, value) in scored.row.members(scored.window.is_of_alerts()) {
            if let Some(input) = Input::of(name) {
                row.set(input, value);
            }
        }
        let alert = self.models.ask(&row).filter(|score| *score >= self.threshold);
        Answer { alert, scores: self.models.answers().collect() }
    }
}
