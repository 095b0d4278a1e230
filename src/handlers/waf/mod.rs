//! `waf`: how grave each event of a web application firewall is, and which are alerts.
//!
//! Reads the audit logs of ModSecurity 3 and 2 and of Coraza, as JSON. An event becomes one or two points for
//! InfluxDB on the first output, and, if it is grave enough, one record on `alert`. Output `event` has a record of
//! every event, for what counts them. docs/WAF.md has every decision with an example.
//!
//! | question | module |
//! |---|---|
//! | is it an event, and where is it | `reader`, `mend` |
//! | what are its members | `event`, `number` |
//! | which rules matched | `message`, `rule` |
//! | how grave is it | `score` |
//! | when was it, who asked, for what | `time`, `client`, `uri` |
//! | what may be shown | `mask`, `shown` |
//! | what is written | `line`, `record`, and `request` for its key |
//!
//! Everything in an event may have been written by an attacker. Nothing of it chooses where anything goes,
//! no type of a member is relied on, and what cannot be read stays in the dead letter.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod around;
mod client;
pub mod event;
mod figures;
mod line;
mod mask;
mod mend;
pub mod message;
mod number;
pub mod reader;
mod record;
mod request;
pub mod rule;
mod score;
mod settings;
mod shown;
pub mod time;
mod uri;

use std::time::Duration;

use super::{Fate, Handler, Kind, Latencies, Needles, Output, Record, Rejection, Spec};
use crate::{
    alert::{Alert, Form, Piece, json_str_plain, salvage_as},
    batch::Outbox,
    limits,
    metrics::Counted,
    register::{Field, Section},
    tables::{Shelf, suppressions},
};
use around::Around;
use event::Event;
use reader::{How, Reader};
use settings::Settings;
use shown::Shown;

/// The kind.
pub struct Waf;

const PRIMARY: usize = 0;
const ALERT: usize = 1;
const EVENT: usize = 2;

impl Kind for Waf {
    fn name(&self) -> &'static str {
        "waf"
    }
    fn about(&self) -> &'static str {
        "how grave events of ModSecurity and Coraza are: points for InfluxDB, and alerts"
    }
    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }
    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "", after: None }, Output { name: "alert", after: None }, Output { name: "event", after: None }]
    }
    fn needs_primary(&self) -> bool {
        false
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
}

impl Spec for Settings {
    fn build(&self, tables: &Shelf) -> Box<dyn Handler> {
        let around = Around::new(self.bad.clone(), &self.tables, tables);
        let judge = Judge { settings: self.clone(), around, client: String::new(), rules: Vec::new() };
        Box::new(Running { reader: Reader::default(), judge })
    }
    fn members(&self, output: usize) -> Option<&'static [&'static str]> {
        match output {
            ALERT => Some(record::members(self.is_full)),
            EVENT => Some(record::EVENT_MEMBERS),
            _ => None,
        }
    }
    fn latencies(&self) -> Latencies {
        Latencies { event: Some(&figures::LATENCY), receipt: self.upstream_names.then_some(&figures::upstream::LATENCY) }
    }
}

/// The handler.
struct Running {
    reader: Reader,
    judge: Judge,
}

/// What judges an event that was read.
struct Judge {
    settings: Settings,
    around: Around,
    /// The client as it is shown.
    client: String,
    /// Rules that the event set off.
    rules: Vec<u64>,
}

/// What an event came to.
struct Verdict<'e> {
    shown: Shown<'e>,
    /// Rules that it set off.
    rules: &'e [u64],
    /// Why it is no alert although it is grave enough.
    unsaid: Option<&'static str>,
}

impl Verdict<'_> {
    fn is_alert(&self) -> bool {
        self.shown.score.alert && self.unsaid.is_none()
    }
}

impl Judge {
    /// True if the event is not on the track that is wanted.
    fn passes_over(&self, event: &Event<'_>) -> bool {
        self.settings.only_track.as_ref().is_some_and(|track| track != event.classification.track)
    }

    /// Judges an event, and hands on what came of it.
    ///
    /// - `counts`: what a suppression holds back is counted there.
    fn judge<R>(&mut self, event: &Event<'_>, received: u64, counts: bool, then: impl FnOnce(&Verdict<'_>, &Settings) -> R) -> R {
        let Self { settings, around, client, rules } = self;
        let (text, address) = client::of(event, settings.proxies.as_ref());
        settings.mask.show(text, address, client);
        let known = around.of(address);
        let score = score::score(event, &settings.rules, known.reputation.is_some(), limits::WAF_MESSAGES_MAX, rules);
        let uri = settings.uri.show(event.uri);
        let time = time::nanos(event, client, &uri, &settings.zone, received);
        let unsaid = if score.alert {
            let is_old = settings.alert_max_age.is_some_and(|age| is_older(time, received, age));
            let about = suppressions::Event { rules, host: event.site(), path: event.uri, client: address, at: received };
            let is_held = known.suppressions.is_some_and(|all| match counts {
                true => all.hold_back(&about).is_some(),
                false => all.covering(&about).is_some(),
            });
            if is_held { Some("suppressed") } else { is_old.then_some("alert_max_age") }
        } else {
            None
        };
        let shown = Shown {
            event,
            score: &score,
            client,
            uri: &uri,
            host: if settings.by_name { event.site() } else { event.server },
            time,
            place: known.place,
            reputation: known.reputation,
        };
        then(&Verdict { shown, rules, unsaid }, settings)
    }
}

fn is_older(time: i64, received: u64, age: Duration) -> bool {
    let signed = |nanos: u128| i64::try_from(nanos).unwrap_or(i64::MAX);
    signed(received.into()).saturating_sub(time) > signed(age.as_nanos())
}

impl Handler for Running {
    fn needles(&self) -> Needles {
        if self.judge.settings.drops_others {
            // As a key, and as a key in a text: `{\"transaction\":…}`.
            Needles::Any(vec![b"\"transaction\"".to_vec(), b"\"transaction\\\"".to_vec()])
        } else {
            // Nearly every line has one, and one without belongs into the dead letter.
            Needles::All
        }
    }

    fn handle(&mut self, record: &Record<'_>, alert: &mut Alert<'_>, out: &mut Outbox<'_>) -> Fate {
        if record.own {
            return Fate::Dropped("own_event");
        }
        let Self { reader, judge } = self;
        let max = judge.settings.max_bytes;
        let fate = reader.read(alert, max, |event, how| {
            if judge.passes_over(event) {
                return Fate::Dropped("other_track");
            }
            judge.judge(event, record.received, true, |verdict, settings| {
                count(verdict, how, settings.upstream_names, out);
                emit(verdict, settings, out)
            })
        });
        fate.unwrap_or_else(|refusal| match refusal {
            refusal if judge.settings.drops_others && refusal.is_foreign() => Fate::Dropped(refusal.reason()),
            refusal => {
                out.count(&figures::REFUSED, Counted::One([refusal.reason(), ""]));
                Fate::Rejected(refusal.into())
            }
        })
    }

    fn salvage(&mut self, frame: &[u8]) -> Option<Vec<Piece>> {
        if reader::is_native(frame) || self.reader.can_mend(frame) {
            // It is ours to judge as it stands.
            return Some(vec![Piece::Alert(0..frame.len())]);
        }
        Some(salvage_as(Form::Event, frame))
    }

    fn explain(&mut self, record: &Record<'_>, alert: &mut Alert<'_>) -> Vec<(&'static str, String)> {
        let Self { reader, judge } = self;
        let max = judge.settings.max_bytes;
        let facts = reader.read(alert, max, |event, how| {
            if judge.passes_over(event) {
                return vec![("why_not", quoted("other_track"))];
            }
            judge.judge(event, record.received, false, |verdict, _| facts(verdict, how))
        });
        facts.unwrap_or_else(|refusal| vec![("why_not", quoted(&Rejection::from(refusal).detail))])
    }
}

/// - `twice`: also under the names of the service that we replace.
fn count(verdict: &Verdict<'_>, how: How, twice: bool, out: &mut Outbox<'_>) {
    let (event, score) = (verdict.shown.event, verdict.shown.score);
    let writer = event.writer.word();
    out.count(&figures::EVENTS, Counted::One([score.level, score.attack_type]));
    out.count(&figures::SEVERITY, Counted::Value(score.severity));
    out.count(&figures::SCORE_SOURCE, Counted::One([score.from.word(), ""]));
    out.count(&figures::WRITER, Counted::One([writer, event.mode_word()]));
    if event.messages.is_none() {
        out.count(&figures::NO_MESSAGES, Counted::One([writer, ""]));
    }
    if score.alert {
        out.count(&figures::ALERTS, Counted::One([verdict.unsaid.unwrap_or("emitted"), ""]));
    }
    if twice {
        out.count(&figures::upstream::EVENTS, Counted::One([score.level, score.attack_type]));
        out.count(&figures::upstream::SCORES, Counted::Value(score.severity));
        if verdict.is_alert() {
            out.count(&figures::upstream::ALERTS, Counted::One([figures::upstream::ALERT, score.level]));
        }
    }
    for (is_so, kind) in [(how.is_mended, "http_version"), (how.repaired > 0, "utf8")] {
        if is_so {
            out.count(&figures::SALVAGED, Counted::One([kind, ""]));
        }
    }
}

fn emit(verdict: &Verdict<'_>, settings: &Settings, out: &mut Outbox<'_>) -> Fate {
    let shown = &verdict.shown;
    if shown.score.unread > 0 {
        out.cut("max_messages");
    }
    let time_ms = shown.time.div_euclid(1_000_000);
    let key = settings.by_request.then(|| request::key(shown, verdict.rules));
    let send = |out: &mut Outbox<'_>, output: usize, write: &dyn Fn(&mut Vec<u8>)| {
        let message = out.message(output).time_ms(time_ms);
        match &key {
            Some(key) => message.key(key.as_bytes()).payload(write),
            None => message.payload(write),
        }
    };
    for n in 0..settings.layout.points() {
        send(out, PRIMARY, &|w| settings.layout.write(n, w, shown));
    }
    if out.wants(EVENT) {
        send(out, EVENT, &|w| record::write_event(w, shown, verdict.rules));
    }
    if !verdict.is_alert() && !out.wants(PRIMARY) && !out.wants(EVENT) {
        return Fate::Dropped("no_alert");
    }
    if verdict.is_alert() && out.wants(ALERT) {
        send(out, ALERT, &|w| record::write(w, shown, settings.is_full));
    }
    Fate::Emitted
}

fn facts(verdict: &Verdict<'_>, how: How) -> Vec<(&'static str, String)> {
    let (shown, score) = (&verdict.shown, verdict.shown.score);
    let mut facts = vec![
        ("anomaly_score", score.base.to_string()),
        ("severity", score.severity.to_string()),
        ("level", quoted(score.level)),
        ("rule_id", quoted(&score.rule_id)),
        ("score_from", quoted(score.from.word())),
        ("attack_type", quoted(score.attack_type)),
        ("blocked", shown.event.is_blocked().to_string()),
        ("alert", verdict.is_alert().to_string()),
    ];
    if let Some(why) = verdict.unsaid {
        facts.push(("no_alert_because", quoted(why)));
    }
    if how.is_mended {
        facts.push(("mended", quoted("http_version")));
    }
    if score.unread > 0 {
        facts.push(("messages_past_limit", score.unread.to_string()));
    }
    facts
}

fn quoted(text: &str) -> String {
    let mut out = Vec::new();
    json_str_plain(&mut out, text);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests;
