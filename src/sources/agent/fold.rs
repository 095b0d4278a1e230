//! News to events: what is worth telling, and how often.
//!
//! Of one component at most one trouble and one end of trouble are told in
//! [`limits::OWN_EVENT_EVERY_MS`]; what happened in between is a number, and so is what passed at
//! once: the moment at midnight in which Wazuh's file has no name is no trouble. A component that runs on
//! several shards is in trouble while one of them is. Pure: time comes in as a number.

use std::collections::BTreeMap;

use crate::{
    clock::Nanos,
    limits,
    metrics::{Change, News, State, Words},
};

/// Something to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// `error`, `lasting`, `recovered`, `loss`, …
    pub(super) event: &'static str,
    pub(super) component: String,
    pub(super) description: String,
    /// Messages held while the trouble lasted, or let go.
    pub(super) held: Option<u64>,
    pub(super) lost: Option<u64>,
    /// How long the trouble lasted.
    pub(super) seconds: Option<u64>,
    /// Troubles that came and went untold.
    pub(super) repeated: Option<u64>,
}

/// What is known of every component.
#[derive(Debug, Default)]
pub(super) struct Fold {
    seen: BTreeMap<String, Seen>,
    losses: BTreeMap<(String, &'static str), Lost>,
}

#[derive(Debug, Default)]
struct Seen {
    words: Words,
    /// Rows in trouble.
    rows: BTreeMap<u64, State>,
    since: Nanos,
    /// In trouble without a pause since then, and whether it was told that it lasts.
    down_since: Nanos,
    lasts: bool,
    held: u64,
    /// Whether the trouble last told was one of holding; `None` once its end was told.
    told: Option<bool>,
    trouble_at: Option<Nanos>,
    end_at: Option<Nanos>,
    /// Troubles that ended before they could be told.
    repeated: u64,
}

#[derive(Debug, Default)]
struct Lost {
    messages: u64,
    told_at: Option<Nanos>,
}

/// How long a trouble must last to be told.
const LASTS: Nanos = limits::OWN_EVENT_AFTER_MS * 1_000_000;
/// How long it must last without a pause to be told once more.
const LASTS_LONG: Nanos = limits::OWN_EVENT_LASTING_MS * 1_000_000;
const EVERY: Nanos = limits::OWN_EVENT_EVERY_MS * 1_000_000;

/// When something told at `last` may be told again.
fn again(last: Option<Nanos>) -> Nanos {
    last.map_or(0, |last| last + EVERY)
}

impl Fold {
    /// Takes news, and gives what is to be told now (monotonic nanoseconds).
    pub(super) fn take(&mut self, news: News, now: Nanos) -> Vec<Event> {
        let mut events = Vec::new();
        for change in news.changes {
            let component = change.component.clone();
            let seen = self.seen.entry(component.clone()).or_default();
            seen.change(change, now);
            // Each change by itself: an end and the next trouble may lie in the same news.
            events.extend(seen.tell(&component, now));
        }
        for loss in news.losses {
            self.losses.entry((loss.component, loss.reason)).or_default().messages += loss.messages;
        }
        events.extend(self.tell(now));
        events
    }

    /// What was put off until `now`.
    fn tell(&mut self, now: Nanos) -> Vec<Event> {
        let mut events: Vec<Event> = self.seen.iter_mut().filter_map(|(component, seen)| seen.tell(component, now)).collect();
        for ((component, reason), lost) in &mut self.losses {
            if lost.messages > 0 && again(lost.told_at) <= now {
                let messages = std::mem::take(&mut lost.messages);
                lost.told_at = Some(now);
                events.push(Event {
                    event: "loss",
                    component: component.clone(),
                    description: format!("{component} let go {messages} messages: {reason}"),
                    lost: Some(messages),
                    ..Event::default()
                });
            }
        }
        events
    }

    /// When to look again although nothing new came; `None` if nothing was put off.
    pub(super) fn due(&self) -> Option<Nanos> {
        let seen = self.seen.values().filter_map(Seen::due);
        let lost = self.losses.values().filter(|lost| lost.messages > 0).map(|lost| again(lost.told_at));
        seen.chain(lost).min()
    }
}

impl Seen {
    fn change(&mut self, change: Change, now: Nanos) {
        self.words = change.words;
        match change.now {
            State::Retrying(_) | State::Holding(_) => {
                if self.rows.is_empty() && self.told.is_none() {
                    (self.since, self.held) = (now, 0);
                }
                if self.rows.is_empty() {
                    (self.down_since, self.lasts) = (now, false);
                }
                self.rows.insert(change.row, change.now);
            }
            State::Starting | State::Ready => {
                if self.rows.remove(&change.row).is_some() {
                    self.held += change.held;
                    if self.rows.is_empty() && self.told.is_none() {
                        self.repeated += 1;
                    }
                }
            }
        }
    }

    /// The worst row: one that holds needs a person.
    fn worst(&self) -> Option<(bool, &State)> {
        let holds = |state: &&State| matches!(state, State::Holding(_));
        self.rows.values().find(holds).map(|state| (true, state)).or_else(|| self.rows.values().next().map(|state| (false, state)))
    }

    /// When the next thing about it may be told; `None` if there is nothing to tell.
    fn due(&self) -> Option<Nanos> {
        match (self.worst(), self.told) {
            (Some((holds, _)), told) if told != Some(holds) => Some(again(self.trouble_at).max(self.since + LASTS)),
            (Some(_), Some(_)) if !self.lasts => Some(self.down_since + LASTS_LONG),
            (None, Some(_)) => Some(again(self.end_at)),
            _ => None,
        }
    }

    fn tell(&mut self, component: &str, now: Nanos) -> Option<Event> {
        if self.due()? > now {
            return None;
        }
        if let Some((holds, state)) = self.worst()
            && self.told == Some(holds)
        {
            let seconds = now.saturating_sub(self.down_since) / 1_000_000_000;
            let description = format!("{component} has been in trouble for {seconds} s: {state}");
            self.lasts = true;
            return Some(Event {
                event: "lasting",
                component: component.to_owned(),
                description,
                seconds: Some(seconds),
                ..Event::default()
            });
        }
        let repeated = std::mem::take(&mut self.repeated);
        let (event, description) = match self.worst() {
            Some((holds, state)) => {
                let again = if repeated > 0 { format!(" (repeated {repeated} times)") } else { String::new() };
                let description = format!("{component}: {state}{again}");
                (self.told, self.trouble_at) = (Some(holds), Some(now));
                (self.words.trouble, description)
            }
            None => {
                (self.told, self.end_at) = (None, Some(now));
                let seconds = now.saturating_sub(self.since) / 1_000_000_000;
                let held = if self.held > 0 { format!("; {} messages were held", self.held) } else { String::new() };
                let event = Event {
                    event: self.words.end,
                    component: component.to_owned(),
                    description: format!("{component} works again after {seconds} s{held}"),
                    held: (self.held > 0).then_some(self.held),
                    seconds: Some(seconds),
                    ..Event::default()
                };
                return Some(event);
            }
        };
        Some(Event {
            event,
            component: component.to_owned(),
            description,
            repeated: (repeated > 0).then_some(repeated),
            ..Event::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Loss;

    const SECOND: Nanos = 1_000_000_000;

    fn away() -> State {
        State::Retrying("away".into())
    }

    fn news(row: u64, now: State, held: u64) -> News {
        let (component, before, words) = ("sinks.out".to_owned(), State::Starting, Words::default());
        News { changes: [Change { row, component, before, now, held, words }].into(), ..News::default() }
    }

    fn told(fold: &mut Fold, at: Nanos, news: News) -> Vec<String> {
        fold.take(news, at * SECOND).into_iter().map(|event| format!("{}: {}", event.event, event.description)).collect()
    }

    #[test]
    fn an_outage_is_one_trouble_and_one_end_with_what_was_held() {
        let mut fold = Fold::default();
        assert_eq!(told(&mut fold, 1, news(0, State::Ready, 0)), [""; 0], "that a component works is no news");
        assert_eq!(told(&mut fold, 5, news(0, away(), 0)), [""; 0], "it may pass at once");
        assert_eq!(fold.due(), Some(6 * SECOND));
        assert_eq!(told(&mut fold, 6, News::default()), ["error: sinks.out: retrying: away"]);
        assert_eq!(fold.due(), Some(65 * SECOND), "told once more if it lasts");
        assert_eq!(told(&mut fold, 7, news(0, State::Retrying("still away".into()), 0)), [""; 0], "other words are no news");
        assert_eq!(told(&mut fold, 8, news(0, State::Holding("refused".into()), 0)), [""; 0], "put off");
        assert_eq!(fold.due(), Some(66 * SECOND));
        assert_eq!(told(&mut fold, 66, News::default()), ["error: sinks.out: holding: refused"]);
        assert_eq!(told(&mut fold, 67, News::default()), ["lasting: sinks.out has been in trouble for 62 s: holding: refused"]);
        assert_eq!(fold.due(), None);
        let end = fold.take(news(0, State::Ready, 400), 3605 * SECOND);
        assert_eq!(end.len(), 1);
        assert_eq!((end[0].event, end[0].held, end[0].seconds), ("recovered", Some(400), Some(3600)));
        assert_eq!(end[0].description, "sinks.out works again after 3600 s; 400 messages were held");
    }

    #[test]
    fn a_sink_on_two_shards_is_in_trouble_while_one_of_them_is() {
        let mut fold = Fold::default();
        assert_eq!(told(&mut fold, 0, news(0, away(), 0)), [""; 0]);
        assert_eq!(told(&mut fold, 1, news(1, away(), 0)).len(), 1);
        assert_eq!(told(&mut fold, 9, news(0, State::Ready, 3)), [""; 0]);
        assert_eq!(told(&mut fold, 10, news(1, State::Ready, 4)), ["recovered: sinks.out works again after 10 s; 7 messages were held"]);
    }

    #[test]
    fn flapping_is_a_number() {
        let mut fold = Fold::default();
        let mut all = Vec::new();
        for second in 0..130 {
            // Two seconds away, one second well; then one that passes at once.
            let state = if second % 3 == 2 { State::Ready } else { away() };
            all.extend(told(&mut fold, second, news(0, state, 0)));
        }
        all.extend(told(&mut fold, 130, news(0, State::Ready, 0)));
        assert_eq!(
            all,
            [
                "error: sinks.out: retrying: away",
                "recovered: sinks.out works again after 2 s",
                "error: sinks.out: retrying: away (repeated 19 times)",
                "recovered: sinks.out works again after 2 s",
                "error: sinks.out: retrying: away (repeated 19 times)",
                "recovered: sinks.out works again after 2 s",
            ]
        );
        assert_eq!(fold.due(), None, "it stands well, and that is told");
    }

    #[test]
    fn losses_are_summed() {
        let loss = |messages| News { losses: vec![Loss { component: "sinks.q".into(), reason: "too_old", messages }], ..News::default() };
        let mut fold = Fold::default();
        assert_eq!(told(&mut fold, 0, loss(2)), ["loss: sinks.q let go 2 messages: too_old"]);
        assert_eq!(told(&mut fold, 1, loss(3)), [""; 0]);
        assert_eq!(told(&mut fold, 2, loss(4)), [""; 0]);
        assert_eq!(told(&mut fold, 60, News::default()), ["loss: sinks.q let go 7 messages: too_old"]);
        assert_eq!(fold.due(), None);
    }
}
