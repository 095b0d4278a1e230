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

pub(super) static REFUSED: Figure = counter("shipper_waf_refused", "Lines of which no event could be made, by reason", ["reason", ""]);

pub(super) static ALERTS: Figure = counter("shipper_waf_alerts", "Events grave enough for an alert, by what became of it", ["outcome", ""]);

pub(super) static NO_MESSAGES: Figure = counter(
    "shipper_waf_events_without_rules",
    "Events in which no rule stands: part H of the audit log may be switched off",
    ["engine", ""],
);

/// Seconds: from what a lingering batch takes to a log of yesterday.
const SPANS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0];

pub(super) static LATENCY: Figure = Figure {
    name: "shipper_waf_latency_seconds",
    help: "From an event's own time until all that is required of it was delivered",
    labels: ["", ""],
    buckets: SPANS,
};

/// Names under which the service that we replace says that it tells its figures.
pub(super) mod upstream {
    use super::{Figure, SPANS, counter};

    pub(in super::super) static EVENTS: Figure =
        counter("waf_events_processed", "Events scored, by level and attack type", ["severity", "rule_category"]);

    pub(in super::super) static SCORES: Figure =
        Figure { name: "waf_severity_scores", help: "Severity of events", labels: ["", ""], buckets: super::SEVERITY.buckets };

    pub(in super::super) static ALERTS: Figure = counter("waf_alerts_generated", "Alerts emitted, by level", ["alert_type", "severity"]);

    /// The only type of alert that there is.
    pub(in super::super) const ALERT: &str = "CRITICAL_SECURITY_EVENT";

    pub(in super::super) static LATENCY: Figure = Figure {
        name: "waf_processing_latency_seconds",
        help: "From receipt until all that is required of an event was delivered",
        labels: ["processor_id", ""],
        buckets: SPANS,
    };
}
