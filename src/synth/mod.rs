//! Realistic alerts from our own templates, and Wazuh's writer as a model.
//!
//! [`Synth`] writes alerts as a manager writes them: keys in its order, values of its types, in
//! the mix and the lengths that real sites show. It is deterministic: the same seed, mix and
//! times give the same bytes, so a receiver can make the stream again and compare. Each alert
//! carries its number in its `id` (`<epoch>.<ordinal>`), from which order and loss can be read.
//!
//! [`apt`] makes messages and events for APT detection.
//! [`firewall`] makes events of a web application firewall.
//! [`indicators`] makes alerts of which it is chosen how many indicators are new.
//! [`writer`] says with which file operations such lines reach the disk, rotations and accidents
//! included.
//!
//! Refuses to touch a file or a clock: times are handed in, operations are handed out. Start at
//! [`Synth::alert`].

pub mod apt;
pub mod firewall;
pub mod indicators;
mod kinds;
mod stamp;
mod template;
mod windows;
mod words;
pub mod writer;

use crate::clock::Nanos;
use stamp::Moment;
use template::{Cast, Template, below, mix};

/// Bytes that one alert takes on average in the natural mix, for sizing buffers.
pub const ALERT_BYTES_MEAN: usize = 1600;

/// Which alerts are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// What a manager with Windows and Linux agents sees; about one in eleven is for `dfn`.
    Natural,
    /// Windows events only, all with ids that `dfn` selects: its worst case.
    Windows,
    /// fail2ban bans only.
    Fail2ban,
    /// What `dfn` selects nothing of, Windows events with other ids included.
    Irrelevant,
    /// Neither Windows events nor fail2ban bans: nothing that `dfn` could have any use for.
    Plain,
}

impl Mix {
    /// Every mix with its name.
    pub const ALL: [(&'static str, Mix); 5] = [
        ("natural", Mix::Natural),
        ("windows", Mix::Windows),
        ("fail2ban", Mix::Fail2ban),
        ("irrelevant", Mix::Irrelevant),
        ("plain", Mix::Plain),
    ];

    fn takes(self, class: Class) -> bool {
        match self {
            Mix::Natural => true,
            Mix::Windows => class == Class::WindowsSelected,
            Mix::Fail2ban => class == Class::Ban,
            Mix::Irrelevant => matches!(class, Class::WindowsOther | Class::Other),
            Mix::Plain => class == Class::Other,
        }
    }
}

/// What `dfn` makes of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A fail2ban ban or its end.
    Ban,
    /// A Windows event with a selected id.
    WindowsSelected,
    /// A Windows event with another id.
    WindowsOther,
    /// Anything else.
    Other,
}

/// Makes alerts.
///
/// ```
/// use shipper::synth::{Mix, Synth};
/// let mut lines = Vec::new();
/// Synth::new(7, Mix::Natural).alert(&mut lines, 1_773_465_912_004_000_000, 60);
/// assert!(lines.starts_with(br#"{"timestamp":"2026-03-14T06:25:12.004+0100","rule":{"#));
/// assert!(lines.ends_with(b"\n"));
/// ```
#[derive(Debug)]
pub struct Synth {
    seed: u64,
    ordinal: u64,
    kinds: Vec<Made>,
    /// Kind by draw: a draw below 4096 falls on kinds in proportion to their weights.
    draws: Vec<u16>,
    moment: Moment,
    hosts: [Vec<Host>; 2],
    manager: Vec<u8>,
}

#[derive(Debug)]
struct Made {
    class: Class,
    windows: bool,
    template: Template,
    fired: u64,
}

#[derive(Debug)]
struct Host {
    agent: Vec<u8>,
    name: Vec<u8>,
}

/// Slots of the table that draws are looked up in: the least share of a kind is 1/4096.
const DRAWS: u32 = 4096;
/// Agents of one system on the imagined site.
const HOSTS: u32 = 48;

impl Synth {
    /// A maker that begins at alert 0.
    pub fn new(seed: u64, mix: Mix) -> Self {
        let kinds: Vec<_> = kinds::all().into_iter().filter(|kind| mix.takes(kind.class)).collect();
        let total: u32 = kinds.iter().map(|kind| kind.weight).sum();
        let mut draws = Vec::with_capacity(DRAWS as usize);
        let mut upto = 0;
        for (n, kind) in kinds.iter().enumerate() {
            upto += kind.weight;
            draws.resize((upto * DRAWS / total) as usize, n as u16);
        }
        let made = kinds.iter().map(|kind| Made {
            class: kind.class,
            windows: kind.windows,
            template: Template::parse(&kind.line(), kinds::FRAGMENTS),
            fired: 0,
        });
        let kinds = made.collect();
        Self {
            seed,
            ordinal: 0,
            kinds,
            draws,
            moment: Moment::new(0, 0),
            hosts: [linux_hosts(), windows_hosts()],
            manager: b"siem-mgr-1".to_vec(),
        }
    }

    /// Appends one alert with its newline and says what `dfn` will make of it.
    ///
    /// - `now`: when the manager got it, nanoseconds since 1970.
    /// - `zone_offset_minutes`: the manager's zone, minutes east of UTC.
    pub fn alert(&mut self, out: &mut Vec<u8>, now: Nanos, zone_offset_minutes: i32) -> Class {
        self.moment.set(now, zone_offset_minutes);
        let seed = mix(self.seed ^ mix(self.ordinal));
        let kind = &mut self.kinds[usize::from(self.draws[below(seed, u64::from(DRAWS)) as usize])];
        kind.fired += 1;
        let hosts = &self.hosts[usize::from(kind.windows)];
        let host = &hosts[below(mix(seed), hosts.len() as u64) as usize];
        let cast = Cast {
            seed,
            moment: &self.moment,
            agent: &host.agent,
            host: &host.name,
            manager: &self.manager,
            ordinal: self.ordinal,
            fired: kind.fired,
        };
        kind.template.fill(&cast, out);
        self.ordinal += 1;
        kind.class
    }

    /// Number of the next alert.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }
}

/// The number of an alert that [`Synth`] made: the digits after the dot of its `id`.
///
/// `None` if the line has no such `id`. Looks at bytes only, so it is cheap enough for every line.
pub fn ordinal_of(line: &[u8]) -> Option<u64> {
    // The manager's own `id` is the first that has this form; event data come after it.
    let at = memchr::memmem::find(line, br#"},"id":""#)? + br#"},"id":""#.len();
    let id = line.get(at..)?;
    let id = &id[..memchr::memchr(b'"', id)?];
    let dot = memchr::memchr(b'.', id)?;
    std::str::from_utf8(&id[dot + 1..]).ok()?.parse().ok()
}

fn linux_hosts() -> Vec<Host> {
    let host = |n: u32| {
        let name = format!("{}-{:02}", ["web", "db", "mail", "app", "proxy", "build"][n as usize % 6], n / 6 + 1);
        match n {
            // The manager reports on itself without an address.
            0 => Host { agent: br#""id":"000","name":"siem-mgr-1""#.to_vec(), name: b"siem-mgr-1".to_vec() },
            n => {
                Host { agent: format!(r#""id":"{n:03}","name":"{name}","ip":"172.20.4.{}""#, n + 10).into_bytes(), name: name.into_bytes() }
            }
        }
    };
    (0..HOSTS).map(host).collect()
}

fn windows_hosts() -> Vec<Host> {
    let host = |n: u32| {
        let name = format!("{}-{:03}", ["PC", "NB", "SRV", "DC", "LAB"][n as usize % 5], n * 7 + 3);
        Host {
            agent: format!(r#""id":"{:03}","name":"{name}","ip":"10.30.{}.{}""#, n + 200, n % 4, n + 20).into_bytes(),
            name: name.into_bytes(),
        }
    };
    (0..HOSTS).map(host).collect()
}

#[cfg(test)]
mod tests;
