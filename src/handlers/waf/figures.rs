//! What the handler counts.

use crate::metrics::Figure;

const fn counter(name: &'static str, help: &'static str, labels: [&'static str; 2]) -> Figure {
    Figure { name, help, labels, buckets: &[] }
}

pub(super) static EVENTS: Figure = counter("shipper_waf_events", "Events scored, by level and attack type", ["level", "category"]);

pub(super) static SEVERITY: Figure = Figure {
    name: "shipper_waf_severity",
    help: "Severity of events",
    labels: ["", ""],
    buckets: &[10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0],
};

pub(super) static SCORE_SOURCE: Figure =
    counter("shipper_waf_score_source", "Events scored, by where their anomaly score came from", ["from", ""]);

pub(super) static WRITER: Figure =
    counter("shipper_waf_engine", "Events scored, by the engine that wrote them and how it is set", ["engine", "mode"]);

pub(super) static SALVAGED: Figure =
    counter("shipper_waf_salvaged", "Events that were read although their line was broken, by what was wrong", ["kind", ""]);

pub(super) static ALERTS: Figure = counter("shipper_waf_alerts", "Events grave enough for an alert, by what became of it", ["outcome", ""]);

pub(super) static NO_MESSAGES: Figure = counter(
    "shipper_waf_events_without_rules",
    "Events in which no rule stands: part H of the audit log may be switched off",
    ["engine", ""],
);
