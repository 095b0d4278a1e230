//! What `shipper check` tells of a source `kafka`.

use std::time::Duration;

use super::Settings;
use crate::{
    net::kafka::survey::topics,
    sources::{Finding, Level},
};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// Asks the cluster for the topics; joins no group, so nobody's partitions move.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let (brokers, known) = match topics(&settings.connection, PATIENCE) {
        Ok(told) => told,
        Err(why) => return vec![finding(Level::Bad, why)],
    };
    let mut found = vec![finding(Level::Good, format!("the cluster answers, {brokers} brokers"))];
    for topic in settings.topics.iter().filter(|topic| !topic.starts_with('^')) {
        found.push(match known.iter().find(|(name, _)| name == topic) {
            Some((_, partitions)) => finding(Level::Good, format!("topic {topic:?} is there, {partitions} partitions")),
            None => finding(
                Level::Bad,
                format!("topic {topic:?} does not exist, or this user may not see it; create it, grant Read and Describe on it, or correct topics"),
            ),
        });
    }
    found
}
