//! What the board and the lags come to: fine, degraded, or failing, and why.
//!
//! Pure: two readings in, a judgement out.
//!
//! | | status | code of `/health` |
//! |---|---|---|
//! | something required holds, or a source is stalled | failing | 503 |
//! | anything else is not ready | degraded | 200 |
//! | everything is ready | ok | 200 |

use std::time::Duration;

use super::Part;
use crate::metrics::{Behind, State};

/// How the agent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Everything is ready and moves.
    Ok,
    /// Something is not ready, and nothing is lost or stuck by it yet.
    Degraded,
    /// Records wait for a person.
    Failing,
}

impl Status {
    /// As `/health` says it.
    pub fn word(self) -> &'static str {
        match self {
            Status::Ok => "ok",
            Status::Degraded => "degraded",
            Status::Failing => "failing",
        }
    }
}

/// One component now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    pub name: String,
    /// Empty for what is no component of the config: the store.
    pub kind: &'static str,
    pub required: bool,
    pub state: State,
}

/// One source's lag now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    pub source: String,
    pub behind: Behind,
    pub stalled: bool,
}

/// One judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub status: Status,
    /// One sentence for each thing that makes it no better.
    pub reasons: Vec<String>,
    pub components: Vec<Component>,
    pub streams: Vec<Stream>,
    /// Sources that are not open and required sinks that are not ready.
    pub unready: Vec<Component>,
}

impl Health {
    /// Judges.
    ///
    /// - `parts`: of the plan; one that is not on the board yet is starting.
    /// - `standings`: each component on the board once.
    /// - `behind`: each source's lag.
    /// - `stall_after`: a standstill of so long is a stall; zero is never.
    pub fn of(parts: &[Part], standings: &[(String, State)], behind: &[(String, Behind)], stall_after: Duration) -> Self {
        let state = |name: &str| standings.iter().find(|(component, _)| component == name).map_or(State::Starting, |(_, s)| s.clone());
        let mut components: Vec<Component> = parts
            .iter()
            .map(|part| Component { name: part.name.clone(), kind: part.kind, required: part.required, state: state(&part.name) })
            .collect();
        for (name, state) in standings.iter().filter(|(name, _)| parts.iter().all(|part| part.name != *name)) {
            components.push(Component { name: name.clone(), kind: "", required: true, state: state.clone() });
        }
        let streams: Vec<Stream> = behind
            .iter()
            .map(|(source, behind)| Stream { source: source.clone(), behind: *behind, stalled: behind.is_stalled(stall_after) })
            .collect();
        let mut status = Status::Ok;
        let mut reasons = Vec::new();
        for component in components.iter().filter(|c| c.state != State::Ready) {
            let holds = matches!(component.state, State::Holding(_));
            status = status.max(if holds && component.required { Status::Failing } else { Status::Degraded });
            reasons.push(format!("{} is {}", component.name, component.state));
        }
        for stream in streams.iter().filter(|s| s.stalled) {
            status = Status::Failing;
            reasons.push(format!(
                "sources.{} is stalled: it is {} bytes behind, and nothing was acked for {} s",
                stream.source,
                stream.behind.lag(),
                stream.behind.still.as_secs()
            ));
        }
        let is_waited_for = |c: &&Component| c.name.starts_with("sources.") || c.name.starts_with("sinks.") && c.required;
        let unready = components.iter().filter(is_waited_for).filter(|c| c.state != State::Ready).cloned().collect();
        Self { status, reasons, components, streams, unready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let part = |name: &str, required| Part { name: name.into(), kind: "file", required };
        vec![part("sources.alerts", true), part("sinks.kafka", true), part("sinks.queue", false)]
    }

    /// States of alerts, kafka, queue; `None` is not on the board.
    fn judge(states: [Option<State>; 3]) -> Health {
        let names = ["sources.alerts", "sinks.kafka", "sinks.queue"];
        let mut standings: Vec<(String, State)> = names.iter().zip(states).filter_map(|(n, s)| Some(((*n).to_owned(), s?))).collect();
        standings.push(("store".into(), State::Ready));
        Health::of(&parts(), &standings, &[], Duration::from_secs(60))
    }

    #[test]
    fn the_worst_of_what_is_required_decides() {
        use State::{Ready, Retrying, Starting};
        let away = || Retrying("away".into());
        let holding = || State::Holding("refused".into());
        let cases = [
            ([Some(Ready), Some(Ready), Some(Ready)], Status::Ok, vec![]),
            ([None, Some(Ready), Some(Ready)], Status::Degraded, vec!["sources.alerts"]),
            ([Some(Ready), Some(Starting), Some(Ready)], Status::Degraded, vec!["sinks.kafka"]),
            ([Some(away()), Some(away()), Some(away())], Status::Degraded, vec!["sources.alerts", "sinks.kafka"]),
            ([Some(Ready), Some(Ready), Some(holding())], Status::Degraded, vec![]),
            ([Some(Ready), Some(holding()), Some(Ready)], Status::Failing, vec!["sinks.kafka"]),
            ([Some(holding()), Some(Ready), Some(Ready)], Status::Failing, vec!["sources.alerts"]),
        ];
        for (states, status, unready) in cases {
            let health = judge(states.clone());
            assert_eq!(health.status, status, "{states:?}");
            assert_eq!(health.unready.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), unready, "{states:?}");
            assert_eq!(health.reasons.is_empty(), status == Status::Ok, "{states:?}");
        }
    }

    #[test]
    fn a_stall_fails_whatever_the_board_says() {
        let still = |seconds| Behind { unread: 5, unacked: 7, age: Duration::ZERO, still: Duration::from_secs(seconds) };
        let of = |seconds| Health::of(&[], &[], &[("alerts".into(), still(seconds))], Duration::from_secs(60));
        assert_eq!(of(59).status, Status::Ok);
        let stalled = of(61);
        assert_eq!(stalled.status, Status::Failing);
        assert_eq!(stalled.reasons, ["sources.alerts is stalled: it is 12 bytes behind, and nothing was acked for 61 s"]);
    }
}
