//! What the handler counts.

use crate::metrics::Figure;

const fn counter(name: &'static str, help: &'static str, labels: [&'static str; 2]) -> Figure {
    Figure { name, help, labels, buckets: &[] }
}

pub(super) static EVENTS: Figure = counter("shipper_apt_events", "Events read, by what they were recognised as", ["kind", ""]);

pub(super) static ALERTS: Figure =
    counter("shipper_apt_alerts", "Alerts of single events, by what found them and how grave they are", ["detection_type", "severity"]);

pub(super) static UNTIMED: Figure = counter(
    "shipper_apt_events_without_time",
    "Events whose time could not be read; the time at which they came in stands for it",
    ["kind", ""],
);

pub(super) static INVALID: Figure = counter("shipper_apt_events_invalid", "Events with a feature that is no number", ["", ""]);
