//! The members of a record that say anything, found in one pass.
//!
//! A record has some twenty members, and there are some sixty names to tell apart: comparing each with each would cost
//! more than the parse. So a name is looked up by a hash of its length and three of its bytes, and compared once or
//! twice.

use crate::{alert::Node, detect::FEATURES};

/// Declares the names.
macro_rules! names {
    ($($key:ident $name:literal,)*) => {
        /// A name that is looked for at the top of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Key { $($key,)* }

        /// By number of the key; the ten features follow.
        #[allow(clippy::indexing_slicing, reason = "at compile time")]
        const NAMES: [&str; [$($name),*].len() + FEATURES.len()] = {
            const OWN: &[&str] = &[$($name),*];
            let mut names = [""; OWN.len() + FEATURES.len()];
            let mut n = 0;
            while n < names.len() {
                names[n] = if n < OWN.len() { OWN[n] } else { FEATURES[n - OWN.len()] };
                n += 1;
            }
            names
        };
    };
}

names! {
    IsSimulated "is_simulated", Source "source", Severity "severity", Suspicious "suspicious", Reason "reason",
    MitreAttack "mitre_attack", EventType "event_type", Entity "entity", EntityType "entity_type", Host "host",
    Timestamp "timestamp", Action "action", ProcessName "process_name", CommandLine "command_line",
    DestinationPort "destination_port", BytesSent "bytes_sent", ConnectionDuration "connection_duration",
    AuthenticationStatus "authentication_status", LoginStatus "login_status", FileExtension "file_extension",
    ChangeType "change_type",
    Hit "_source", Rule "rule", Agent "agent", Manager "manager", Data "data",
    At "@timestamp", Event "event", EventCategory "event.category", EventKind "event.kind", EventModule "event.module",
    Evtx "Event",
    Uid "uid", Id "id", Originator "id.orig_h", Ts "ts", OrigBytes "orig_bytes", RespBytes "resp_bytes",
    Service "service", Proto "proto",
}

/// For properties that make objects of any members.
#[cfg(test)]
pub(super) const TEST_NAMES: &[&str] = &NAMES;

const FIRST_FEATURE: usize = NAMES.len() - FEATURES.len();
const SLOTS: usize = 256;
const NONE: u8 = u8::MAX;

const _: () = assert!(NAMES.len() < NONE as usize, "a slot holds a number of a name");
const _: () = assert!(NAMES.len() * 2 <= SLOTS, "half of the slots are free, so a search is short");

/// Where a search for a name begins.
#[allow(clippy::indexing_slicing, reason = "within its length")]
const fn slot(name: &[u8]) -> usize {
    let len = name.len();
    if len == 0 {
        return 0;
    }
    let mixed = len as u32 | (name[0] as u32) << 8 | (name[len / 2] as u32) << 16 | (name[len - 1] as u32) << 24;
    (mixed.wrapping_mul(0x9e37_79b1) >> 24) as usize
}

/// Numbers of names by slot; a name stands in the first free slot from its own on.
#[allow(clippy::indexing_slicing, reason = "at compile time")]
const TABLE: [u8; SLOTS] = {
    let mut table = [NONE; SLOTS];
    let mut n = 0;
    while n < NAMES.len() {
        let mut at = slot(NAMES[n].as_bytes());
        while table[at] != NONE {
            at = (at + 1) % SLOTS;
        }
        table[at] = n as u8;
        n += 1;
    }
    table
};

/// The number of a name.
fn number(name: &str) -> Option<usize> {
    let mut at = slot(name.as_bytes());
    loop {
        let n = usize::from(*TABLE.get(at)?);
        match NAMES.get(n) {
            None => return None,
            Some(known) if *known == name => return Some(n),
            Some(_) => at = (at + 1) % SLOTS,
        }
    }
}

/// The members of one object that are looked for, of equal names the last.
pub(super) struct Members<'t>([Option<Node<'t>>; NAMES.len()]);

impl<'t> Members<'t> {
    /// The members of `root`; none if it is no object.
    pub(super) fn of(root: Node<'t>) -> Self {
        let mut found = [None; NAMES.len()];
        for (name, value) in root.members() {
            if let Some(place) = number(name).and_then(|n| found.get_mut(n)) {
                *place = Some(value);
            }
        }
        Self(found)
    }

    /// A member, whatever it is; `null` also.
    pub(super) fn any(&self, key: Key) -> Option<Node<'t>> {
        self.0.get(key as usize).copied().flatten()
    }

    /// A member that is not `null`.
    pub(super) fn get(&self, key: Key) -> Option<Node<'t>> {
        self.any(key).filter(|node| !node.is_null())
    }

    /// A member that is an object.
    pub(super) fn object(&self, key: Key) -> Option<Node<'t>> {
        self.any(key).filter(|node| node.is_object())
    }

    /// A member that is text, and not empty.
    pub(super) fn text(&self, key: Key) -> Option<&'t str> {
        self.any(key).and_then(Node::as_str).filter(|text| !text.is_empty())
    }

    /// A member that is a number, also one in quotes.
    pub(super) fn number(&self, key: Key) -> Option<f64> {
        self.any(key).and_then(Node::as_f64).filter(|x| x.is_finite())
    }

    /// The ten features as they stand there.
    pub(super) fn features(&self) -> impl Iterator<Item = Option<Node<'t>>> + use<'_, 't> {
        self.0.iter().skip(FIRST_FEATURE).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing, clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_name_is_found_and_no_other() {
        for (n, name) in NAMES.iter().enumerate() {
            assert_eq!(number(name), Some(n), "{name}");
            for other in [format!("{name}x"), format!("x{name}"), name[1..].to_owned(), name.to_uppercase()] {
                assert_eq!(number(&other), NAMES.iter().position(|known| *known == other), "{other}");
            }
        }
        assert_eq!(number(""), None);
        let longest = (0..SLOTS).map(|at| (0..SLOTS).take_while(|n| TABLE[(at + n) % SLOTS] != NONE).count()).max();
        assert!(longest.unwrap() <= 12, "{longest:?} names in a row");
    }

    #[test]
    fn of_equal_names_the_last_counts() {
        let mut parser = crate::alert::Parser::new();
        let mut alert = parser.alert(br#"{"host":"a","uid":null,"host":"b","cpu_usage_mean":1,"":2}"#);
        let members = Members::of(alert.root().unwrap());
        assert_eq!(members.text(Key::Host), Some("b"));
        assert!(members.any(Key::Uid).is_some() && members.get(Key::Uid).is_none());
        assert_eq!(members.features().map(|node| node.is_some()).collect::<Vec<_>>(), (0..10).map(|n| n == 5).collect::<Vec<_>>());
    }
}
