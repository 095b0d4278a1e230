//! How the node is, by what was measured last. Pure.
//!
//! | part | warning | critical |
//! |---|---|---|
//! | queue | more than 1000 wait | |
//! | workers | fewer than 0.8 are healthy | none, or at most half are healthy |
//! | cpu, memory | more than 80 % | more than 90 % |
//! | disk | more than 90 % | more than 95 % |
//!
//! The worst of them is the whole. What was not measured is left out.

use serde_json::{Value, json};

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    Healthy,
    Warning,
    Critical,
}

impl Grade {
    pub fn word(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// A judgement.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    pub overall: Grade,
    /// Each part with its grade, its value, and what is wrong.
    pub parts: Vec<(&'static str, Grade, f64, String)>,
}

impl Health {
    pub(super) fn of(value: impl Fn(&str) -> Option<f64>) -> Self {
        let mut parts = Vec::new();
        if let Some(queued) = value("queue.size") {
            let grade = if queued > 1000.0 { Grade::Warning } else { Grade::Healthy };
            parts.push(("queue", grade, queued, format!("{queued} tasks wait")));
        }
        if let (Some(total), Some(healthy)) = (value("workers.total"), value("workers.healthy")) {
            let share = if total > 0.0 { healthy / total } else { 0.0 };
            let grade = match share {
                _ if total <= 0.0 || share <= 0.5 => Grade::Critical,
                _ if share < 0.8 => Grade::Warning,
                _ => Grade::Healthy,
            };
            parts.push(("workers", grade, share, format!("{healthy} of {total} workers are healthy")));
        }
        let bounds = [
            ("cpu", "system.cpu_percent", 80.0, 90.0),
            ("memory", "system.memory_percent", 80.0, 90.0),
            ("disk", "system.disk_percent", 90.0, 95.0),
        ];
        for (part, metric, warning, critical) in bounds {
            if let Some(percent) = value(metric) {
                let grade = match percent {
                    _ if percent > critical => Grade::Critical,
                    _ if percent > warning => Grade::Warning,
                    _ => Grade::Healthy,
                };
                parts.push((part, grade, percent, format!("{percent:.1} % of {part} are in use")));
            }
        }
        let overall = parts.iter().map(|(_, grade, ..)| *grade).max().unwrap_or(Grade::Healthy);
        Self { overall, parts }
    }

    /// `{status, checks: {part: {status, value, message}}}`.
    pub fn told(&self) -> Value {
        let checks = self
            .parts
            .iter()
            .map(|(part, grade, value, message)| ((*part).to_owned(), json!({"status": grade.word(), "value": value, "message": message})));
        json!({"status": self.overall.word(), "checks": Value::Object(checks.collect())})
    }
}
