//! What is known and shall raise no alarm for a while: rules of an operator, each with an end and a reason.
//!
//! An event is suppressed when every rule of the firewall that it set off is covered by a suppression that fits
//! its host, path and client and has not expired. So a suppression of rule 920350 never hides the injection in the
//! same request. It is still scored, written and counted; only its alert is held back, and that is counted here.

use std::{
    net::IpAddr,
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use super::networks::{Networks, canonical};
use crate::clock::Nanos;

/// What an operator asks for. What is empty fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// Ids of the firewall's rules.
    pub rules: Vec<RangeInclusive<u64>>,
    /// Host names in lower case; one that begins with `*.` stands for all names below it.
    pub hosts: Vec<String>,
    /// Beginnings of paths.
    pub paths: Vec<String>,
    /// Networks of clients.
    pub clients: Networks,
    /// Wall time from which on it no longer counts, nanoseconds since 1970.
    pub until: Nanos,
    /// For people.
    pub reason: String,
}

/// A rule at work.
#[derive(Debug, Default)]
pub struct Suppression {
    pub rule: Rule,
    /// Alerts that it held back. Of one event that several together cover, the first counts.
    count: AtomicU64,
    /// Of these, those that are in the figures.
    shown: AtomicU64,
    /// Its end was told.
    told: AtomicBool,
}

/// What an alert would be about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'e> {
    /// Every rule that it set off, those aside that only sum up or report.
    pub rules: &'e [u64],
    /// The host that was asked for; a port is passed over.
    pub host: &'e str,
    /// Path of the request; from `?` or `#` on it is passed over.
    pub path: &'e str,
    pub client: Option<IpAddr>,
    /// Wall time of the record, nanoseconds since 1970: what a suppression's end is held against.
    pub at: Nanos,
}

impl Rule {
    /// Whether it names nothing that an event must have.
    pub fn is_boundless(&self) -> bool {
        self.rules.is_empty() && self.hosts.is_empty() && self.paths.is_empty() && self.clients.is_empty()
    }

    /// Whether it has ended.
    pub fn is_expired(&self, at: Nanos) -> bool {
        self.until <= at
    }

    /// Whether it fits all but the rules.
    fn fits(&self, seen: &Seen<'_>) -> bool {
        let is_below = |host: &str, wanted: &str| match wanted.strip_prefix('*') {
            Some(parent) => host.len() > parent.len() && host.ends_with(parent),
            None => host == wanted,
        };
        !self.is_expired(seen.at)
            && (self.hosts.is_empty() || self.hosts.iter().any(|wanted| is_below(&seen.host, wanted)))
            && (self.paths.is_empty() || (!seen.climbs && self.paths.iter().any(|wanted| seen.path.starts_with(wanted.as_str()))))
            && (self.clients.is_empty() || seen.client.is_some_and(|client| self.clients.around(client).next().is_some()))
    }

    fn covers(&self, rule: u64) -> bool {
        self.rules.is_empty() || self.rules.iter().any(|range| range.contains(&rule))
    }
}

impl Suppression {
    /// Alerts that it held back so far.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Alerts that it held back since the last call, for figures.
    pub fn take_new(&self) -> u64 {
        let count = self.count();
        count - self.shown.swap(count, Ordering::Relaxed)
    }
}

/// An event as suppressions are held against it.
struct Seen<'e> {
    host: String,
    path: &'e str,
    /// The path goes up: where it leads is not where it begins.
    climbs: bool,
    client: Option<IpAddr>,
    at: Nanos,
}

impl<'e> Seen<'e> {
    fn of(event: &Event<'e>) -> Self {
        let name = match event.host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => event.host.split(':').next().unwrap_or_default(),
        };
        let path = event.path.split(['?', '#']).next().unwrap_or_default();
        Self {
            host: name.trim_end_matches('.').to_ascii_lowercase(),
            path,
            climbs: climbs(path),
            client: event.client.map(canonical),
            at: event.at,
        }
    }
}

/// True for a path that may lead elsewhere than it begins: `..`, also encoded once or more, or with `\`.
fn climbs(path: &str) -> bool {
    let plain = percent_once(&path.to_ascii_lowercase());
    plain.replace("%2e", ".").contains("..") || plain.contains('\\') || plain.contains("%5c")
}

/// `%` for each `%25`, however often it was encoded, in one pass: a client chooses how long this takes.
fn percent_once(text: &str) -> String {
    let (mut plain, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        plain.push('%');
        rest = after;
        while let Some(shorter) = rest.strip_prefix("25") {
            rest = shorter;
        }
    }
    plain.push_str(rest);
    plain
}

/// All suppressions of a table, in the order of the config.
#[derive(Debug, Default)]
pub struct Suppressions {
    all: Vec<Suppression>,
}

impl Suppressions {
    /// - `before`: the table before, whose counts go on for what is the same.
    pub fn new(rules: Vec<Rule>, before: Option<&Self>) -> Self {
        let at_work = |rule: Rule| {
            let old = before.and_then(|before| before.all.iter().find(|old| old.rule == rule));
            let number = |of: fn(&Suppression) -> &AtomicU64| AtomicU64::new(old.map_or(0, |old| of(old).load(Ordering::Relaxed)));
            let told = AtomicBool::new(old.is_some_and(|old| old.told.load(Ordering::Relaxed)));
            Suppression { count: number(|old| &old.count), shown: number(|old| &old.shown), told, rule }
        };
        Self { all: rules.into_iter().map(at_work).collect() }
    }

    /// All of them.
    pub fn all(&self) -> &[Suppression] {
        &self.all
    }

    /// Why an event's alert is held back: the first suppression that covers one of its rules, if all of them are
    /// covered; `None` if it is not. An event without rules must be covered by a suppression that names none.
    pub fn covering(&self, event: &Event<'_>) -> Option<&Suppression> {
        if self.all.is_empty() {
            return None;
        }
        let seen = Seen::of(event);
        let fitting: Vec<&Suppression> = self.all.iter().filter(|suppression| suppression.rule.fits(&seen)).collect();
        let cover = |rule: u64| fitting.iter().find(|suppression| suppression.rule.covers(rule)).copied();
        match event.rules {
            [] => fitting.iter().find(|suppression| suppression.rule.rules.is_empty()).copied(),
            [first, rest @ ..] => cover(*first).filter(|_| rest.iter().all(|rule| cover(*rule).is_some())),
        }
    }

    /// As [`covering`](Self::covering), for an alert that is due: what is held back is counted.
    ///
    /// Returns the reason.
    pub fn hold_back(&self, event: &Event<'_>) -> Option<&str> {
        let suppression = self.covering(event)?;
        suppression.count.fetch_add(1, Ordering::Relaxed);
        Some(&suppression.rule.reason)
    }

    /// Alerts that all of them held back so far.
    pub fn count(&self) -> u64 {
        self.all.iter().map(Suppression::count).sum()
    }

    /// Those that have expired and were not told yet; each comes once.
    pub fn newly_expired(&self, now: Nanos) -> impl Iterator<Item = &Suppression> {
        self.all.iter().filter(move |suppression| suppression.rule.is_expired(now) && !suppression.told.swap(true, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tables::networks;

    fn rule(rules: &[RangeInclusive<u64>], host: &str, path: &str, client: &str, reason: &str) -> Rule {
        let texts = |text: &str| text.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let clients = Networks::build(texts(client).iter().map(|text| (networks::parse(text).unwrap(), 0)));
        let (hosts, paths) = (texts(host), texts(path));
        Rule { rules: rules.to_vec(), hosts, paths, clients, until: 100, reason: reason.to_owned() }
    }

    proptest! {
        /// The twin decodes until nothing changes.
        #[test]
        fn percent_signs_are_decoded_at_once_as_often_as_they_were_encoded(text in "[%25a]{0,40}") {
            let mut naive = text.clone();
            while naive.contains("%25") {
                naive = naive.replace("%25", "%");
            }
            prop_assert_eq!(percent_once(&text), naive);
        }
    }

    #[test]
    fn every_rule_of_an_event_must_be_covered() {
        let table = Suppressions::new(
            vec![
                rule(&[920_350..=920_350], "", "", "", "numeric host"),
                rule(&[942_000..=942_999], "shop.example,*.old.example", "/search/,/find", "", "search takes SQL"),
                rule(&[], "", "", "192.0.2.0/24,2001:db8::/32", "our scanner"),
            ],
            None,
        );
        let reason = |rules: &[u64], host: &str, path: &str, client: &str, at: Nanos| {
            let event = Event { rules, host, path, client: client.parse().ok(), at };
            table.covering(&event).map(|suppression| suppression.rule.reason.as_str())
        };
        for (rules, host, path, client, at, expected) in [
            (&[920_350][..], "x", "/", "198.51.100.1", 99, Some("numeric host")),
            (&[920_350], "x", "/", "198.51.100.1", 100, None),
            (&[920_350, 942_100], "x", "/", "198.51.100.1", 0, None),
            (&[920_350, 942_100], "shop.example", "/search/a?q=/..", "198.51.100.1", 0, Some("numeric host")),
            (&[942_100, 942_999], "SHOP.example.:8443", "/find", "", 0, Some("search takes SQL")),
            (&[942_100, 943_000], "shop.example", "/find", "", 0, None),
            (&[942_100], "shop.example", "/search", "", 0, None),
            (&[942_100], "shop.example", "/search/../login", "", 0, None),
            (&[942_100], "shop.example", "/search/%2E%2e/login", "", 0, None),
            (&[942_100], "shop.example", "/search/%252e%252e/login", "", 0, None),
            (&[942_100], "shop.example", "/search/..%5clogin", "", 0, None),
            (&[942_100], "a.old.example", "/find", "", 0, Some("search takes SQL")),
            (&[942_100], "old.example", "/find", "", 0, None),
            (&[942_100], "aold.example", "/find", "", 0, None),
            (&[932_100], "x", "/", "192.0.2.9", 0, Some("our scanner")),
            (&[932_100], "x", "/", "::ffff:192.0.2.9", 0, Some("our scanner")),
            (&[932_100], "[2001:db8::1]:80", "/", "2001:db8::9", 0, Some("our scanner")),
            (&[], "x", "/", "192.0.2.9", 0, Some("our scanner")),
            (&[], "x", "/", "198.51.100.1", 0, None),
            (&[932_100], "x", "/", "no address", 0, None),
        ] {
            assert_eq!(reason(rules, host, path, client, at), expected, "{rules:?} {host} {path} {client} {at}");
        }
        assert_eq!(table.count(), 0, "a look counts nothing");
    }

    #[test]
    fn counts_outlive_a_reload_and_an_end_is_told_once() {
        let rules = || vec![rule(&[1..=9], "", "", "", "a"), rule(&[10..=19], "", "", "", "b")];
        let first = Suppressions::new(rules(), None);
        let event = |rule| Event { rules: rule, ..Event::default() };
        assert_eq!(
            (first.hold_back(&event(&[5])), first.hold_back(&event(&[12, 5])), first.hold_back(&event(&[20]))),
            (Some("a"), Some("b"), None)
        );
        assert_eq!(first.newly_expired(99).count(), 0);
        assert_eq!(first.newly_expired(100).map(|s| s.rule.reason.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let mut changed = rules();
        changed[1].reason = "c".into();
        let second = Suppressions::new(changed, Some(&first));
        assert_eq!((second.all()[0].count(), second.all()[1].count(), second.count()), (1, 0, 1));
        assert_eq!(second.newly_expired(100).map(|s| s.rule.reason.as_str()).collect::<Vec<_>>(), ["c"], "the other was told");
        assert_eq!(second.newly_expired(100).count(), 0);
    }

    #[test]
    fn what_names_nothing_is_boundless() {
        assert!(rule(&[], "", "", "", "x").is_boundless());
        assert!(!rule(&[], "", "/a", "", "x").is_boundless());
    }
}
