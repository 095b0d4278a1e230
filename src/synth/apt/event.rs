//! One simulated event, member by member.

use std::{fmt::Display, io::Write};

use super::{
    Made,
    draws::Draws,
    site::{Host, User},
    stamp, technique,
};
use crate::clock::Nanos;

/// How grave an event says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    /// In percent.
    const USUAL: [(Severity, u32); 4] = [(Self::Low, 50), (Self::Medium, 30), (Self::High, 15), (Self::Critical, 5)];

    fn name(self) -> &'static str {
        match self {
            Self::Low => "Low",
            Self::Medium => "Medium",
            Self::High => "High",
            Self::Critical => "Critical",
        }
    }
}

/// Of which scenario an event is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub id: u64,
    pub kind: &'static str,
    pub name: &'static str,
    pub stage: usize,
}

/// An event in the making.
#[derive(Clone, Debug)]
pub(super) struct Event {
    kind: &'static str,
    entity: Box<str>,
    entity_type: &'static str,
    severity: Severity,
    /// Members of its kind, each with a comma before it.
    members: Vec<u8>,
}

impl Event {
    /// Of a host.
    pub(super) fn of_host(kind: &'static str, host: &Host) -> Self {
        Self::new(kind, &host.name, "host")
    }

    /// Of a user.
    pub(super) fn of_user(kind: &'static str, user: &User) -> Self {
        Self::new(kind, &user.name, "user")
    }

    fn new(kind: &'static str, entity: &str, entity_type: &'static str) -> Self {
        Self { kind, entity: entity.into(), entity_type, severity: Severity::Low, members: Vec::with_capacity(512) }
    }

    /// Adds text.
    pub(super) fn text(mut self, name: &str, text: impl AsRef<str>) -> Self {
        let _ = write!(self.members, ",\"{name}\":");
        let _ = serde_json::to_writer(&mut self.members, text.as_ref());
        self
    }

    /// Adds what needs no quotes: a number, true or false.
    pub(super) fn bare(mut self, name: &str, value: impl Display) -> Self {
        let _ = write!(self.members, ",\"{name}\":{value}");
        self
    }

    /// Nothing odd: how grave it is, is chance.
    pub(super) fn usual(mut self, draws: &mut Draws) -> Self {
        let weights = Severity::USUAL.map(|(_, weight)| weight);
        self.severity = Severity::USUAL[draws.weighted(&weights)].0;
        self
    }

    /// Suspicious, of medium or high severity.
    pub(super) fn suspicious(self, draws: &mut Draws, reason: &str, techniques: &[&str]) -> Self {
        let severity = *draws.one(&[Severity::Medium, Severity::High]);
        self.marked(severity, reason, techniques)
    }

    /// Suspicious, of this severity.
    pub(super) fn marked(mut self, severity: Severity, reason: &str, techniques: &[&str]) -> Self {
        self.severity = severity;
        self = self.bare("suspicious", true).text("reason", reason);
        technique::write(&mut self.members, techniques);
        self
    }

    /// Suspicious or usual.
    pub(super) fn judged(self, draws: &mut Draws, suspicion: Option<(&str, &[&str])>) -> Self {
        match suspicion {
            Some((reason, techniques)) => self.suspicious(draws, reason, techniques),
            None => self.usual(draws),
        }
    }

    /// The whole event.
    pub(super) fn made(self, at: Nanos, part: Option<Part>) -> Made {
        let Self { kind, entity, entity_type, severity, members } = self;
        let mut json = Vec::with_capacity(members.len() + 384);
        let _ = write!(
            json,
            "{{\"timestamp\":\"{}\",\"source\":{{\"type\":\"simulation\",\"name\":\"shipper apt simulate\"}},\"severity\":\"{}\",\"is_simulated\":true",
            stamp(at),
            severity.name()
        );
        if let Some(Part { id, kind, name, stage }) = part {
            let _ = write!(
                json,
                ",\"scenario_id\":\"scenario-{id:04}\",\"scenario_type\":\"{kind}\",\"scenario_name\":\"{name}\",\"scenario_stage\":{stage}"
            );
        }
        // Names of entities are ours: a word and a number.
        let _ = write!(json, ",\"event_type\":\"{kind}\",\"entity\":\"{entity}\",\"entity_type\":\"{entity_type}\"");
        json.extend_from_slice(&members);
        json.push(b'}');
        Made { at, entity, json }
    }
}
