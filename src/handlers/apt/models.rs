//! The operator's models, asked about each event that carries features.

use super::Read;
use crate::{
    detect::{Detection, Severity},
    tables::{
        Shelf,
        model::{Models, Row, Scope},
    },
};

/// Models and the score from which on they make an alert.
#[derive(Debug)]
pub(super) struct Panel {
    models: Models,
    threshold: f64,
}

/// What the models said of an event that is an alert by it.
pub(super) struct Answer<'p> {
    pub score: f64,
    /// Of each model.
    pub scores: Vec<(&'p str, f64)>,
}

impl Panel {
    /// - `names`: of tables.
    pub fn new(tables: &Shelf, names: &[String], threshold: f64) -> Self {
        Self { models: Models::new(tables, names, Scope::Event), threshold }
    }

    /// Asks about an event; `None` if it is no alert.
    pub fn ask(&mut self, read: &Read<'_>) -> Option<Answer<'_>> {
        if self.models.is_empty() || read.event.present == 0 {
            return None;
        }
        let score = self.models.ask(&Row::of_event(&read.event.features, read.event.present))?;
        (score >= self.threshold).then(|| Answer { score, scores: self.models.answers().collect() })
    }
}

impl Answer<'_> {
    /// The finding that it is.
    pub fn finding(&self) -> super::Finding {
        super::Finding { detection: Detection::Model, reason: "model", score: self.score, severity: Severity::of_score(self.score) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::Value;

    use super::super::{Apt, Handler, Kind, Record};
    use crate::{
        alert::Parser,
        batch::{Draft, Place},
        io::Slab,
        position::{Origin, Position},
        register::{Errors, Node, Section},
        tables::model::tests::shelf_with,
    };

    fn alerts(handler: &mut dyn Handler, frame: &str) -> Vec<Value> {
        let frame = frame.as_bytes();
        let origin = Origin { stream: "kafka/apt/3", offset: 17, len: None };
        let mut draft = Draft::new(Slab::from_bytes(frame.to_vec()));
        let place = Place { start: 0, len: u32::try_from(frame.len()).unwrap() };
        {
            let (_, mut out) = draft.outbox(place, 0, &[Some(0), None], origin);
            handler.handle(&Record { frame, origin, received: 0, own: false }, &mut Parser::new().alert(frame), &mut out);
        }
        let batch = draft.finish(0, Position::Count(1), 0);
        batch.numbers().map(|n| serde_json::from_slice(batch.message(n).payload).unwrap()).collect()
    }

    #[test]
    fn an_event_that_the_models_score_high_is_an_alert_of_theirs() {
        let settings = Node::parse_toml("models = ['m']\n").unwrap();
        let mut errors = Errors::default();
        let spec = Apt.parse(&mut Section::open("handlers.apt", &settings, Apt.fields(), &[], &mut errors));
        assert!(errors.is_empty(), "{errors}");
        let mut handler = spec.build(&shelf_with("m", "number_of_logins_mean", 0.5));
        let message = |logins: &str| format!("{{\"entity\":\"h\",\"timestamp\":\"2026-11-30T09:00:00Z\",{logins}\"cpu_usage_mean\":0.1}}");
        assert_eq!(alerts(&mut *handler, &message("\"number_of_logins_mean\":0.4,")), Vec::<Value>::new());
        let found = alerts(&mut *handler, &message("\"number_of_logins_mean\":0.6,"));
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["detection_type"], &found[0]["severity"]), (&"model".into(), &"Medium".into()), "{found:?}");
        assert_eq!((&found[0]["prediction_score"], &found[0]["models"]["m"]), (&0.75.into(), &0.75.into()), "{found:?}");
        // Missing goes left, by the model's own branch; and one feature above 0.8 is an alert besides.
        assert_eq!(alerts(&mut *handler, &message("")).len(), 0);
        let both = alerts(&mut *handler, &message("\"number_of_logins_mean\":0.9,"));
        assert_eq!(both.iter().map(|alert| alert["detection_type"].as_str().unwrap()).collect::<Vec<_>>(), ["feature_high", "model"]);
        assert_ne!(both[0]["id"], both[1]["id"]);
    }

    #[test]
    fn a_threshold_that_is_no_score_is_told() {
        let settings = Node::parse_toml("model_threshold = 70\n").unwrap();
        let mut errors = Errors::default();
        Apt.parse(&mut Section::open("handlers.apt", &settings, Apt.fields(), &[], &mut errors));
        assert!(errors.to_string().contains("70 is no score"), "{errors}");
    }
}
