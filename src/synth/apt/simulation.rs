//! A site whose events come on a clock of their own.
//!
//! Every turn is one event of a generator that is drawn by its weight, and one of each attack that goes on. Turns
//! lie a minute divided by the rate apart, times the pattern of the hour. Once a minute an attack may start.

use std::{collections::VecDeque, time::Duration};

use super::{
    Made,
    draws::Draws,
    endpoint, network,
    scenario::{self, Active, Scenario},
    site::Site,
    user,
};
use crate::clock::{Nanos, nanos};

/// A minute in nanoseconds.
const MINUTE: Nanos = 60_000_000_000;
/// Outside of working hours a turn takes so many times as long.
const QUIET: u64 = 5;
/// And a user's event has so small a share of its weight.
const ASLEEP: u32 = 5;

/// How often an attack starts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frequency {
    Off,
    Low,
    Medium,
    High,
}

impl Frequency {
    /// Every one with its name.
    pub const ALL: [(&'static str, Frequency); 4] =
        [("off", Frequency::Off), ("low", Frequency::Low), ("medium", Frequency::Medium), ("high", Frequency::High)];

    /// The chance of each minute, in percent.
    fn percent(self) -> u64 {
        match self {
            Self::Off => 0,
            Self::Low => 10,
            Self::Medium => 30,
            Self::High => 50,
        }
    }
}

/// When people work, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// Hour of the day, 0 to 23.
    pub start: u8,
    /// Hour of the day at which it is over; before `start`: over midnight.
    pub end: u8,
    /// Days of the week from Monday.
    pub days: [bool; 7],
}

impl Default for Hours {
    fn default() -> Self {
        Self { start: 9, end: 17, days: [true, true, true, true, true, false, false] }
    }
}

impl Hours {
    /// Whether people work at that time. What begins in the evening belongs to the day on which it began.
    pub fn hold(&self, at: Nanos) -> bool {
        let hours = at / (60 * MINUTE);
        // 1970 began on a Thursday.
        let (hour, day) = (hours % 24, (hours / 24 + 3) % 7);
        let (start, end) = (u64::from(self.start), u64::from(self.end));
        let is_on = |day: u64| self.days[day as usize % 7];
        if start <= end { (start..end).contains(&hour) && is_on(day) } else { hour >= start && is_on(day) || hour < end && is_on(day + 6) }
    }
}

/// What a simulation is like.
#[derive(Clone, Debug)]
pub struct Settings {
    pub seed: u64,
    /// When it begins, nanoseconds since 1970.
    pub start: Nanos,
    /// Turns a minute, more than 0.
    pub per_minute: f64,
    pub hosts: u32,
    pub users: u32,
    /// Weights of events of the network, of hosts and of users; one at least above 0.
    pub weights: [u32; 3],
    pub frequency: Frequency,
    /// Attacks that go on at the same time, at most, unless they are started by hand.
    pub concurrent: usize,
    /// Slower outside of them, and with fewer users; `None`: always the same.
    pub hours: Option<Hours>,
}

impl Settings {
    /// Ten hosts and twenty users that make five events a minute, and an attack now and then.
    pub fn new(seed: u64, start: Nanos) -> Self {
        Self {
            seed,
            start,
            per_minute: 5.0,
            hosts: 10,
            users: 20,
            weights: [40, 40, 20],
            frequency: Frequency::Medium,
            concurrent: 2,
            hours: None,
        }
    }
}

/// Events without end, in the order of their times.
#[derive(Clone, Debug)]
pub struct Simulation {
    settings: Settings,
    site: Site,
    draws: Draws,
    /// When the next turn is.
    now: Nanos,
    /// When the next minute begins, in which an attack may start.
    minute: Nanos,
    started: u64,
    active: Vec<Active>,
    /// Made in this turn, and not taken yet.
    ready: VecDeque<Made>,
}

impl Simulation {
    /// A simulation that has not begun.
    pub fn new(settings: Settings) -> Self {
        let mut draws = Draws::new(settings.seed);
        let site = Site::new(&mut draws, settings.hosts, settings.users);
        let (now, minute) = (settings.start, settings.start.saturating_add(MINUTE));
        Self { settings, site, draws, now, minute, started: 0, active: Vec::new(), ready: VecDeque::new() }
    }

    /// Starts an attack, beside those that go on.
    pub fn start(&mut self, scenario: &'static Scenario) {
        self.started += 1;
        self.active.push(Active::new(scenario, self.started, self.now, &self.site, &mut self.draws));
    }

    /// Attacks that go on.
    pub fn active(&self) -> usize {
        self.active.len()
    }

    /// Attacks that were started so far.
    pub fn started(&self) -> u64 {
        self.started
    }

    fn turn(&mut self) {
        let Self { settings, site, draws, .. } = self;
        let works = settings.hours.is_none_or(|hours| hours.hold(self.now));
        let [network, endpoint, user] = settings.weights;
        // Where nothing but users is simulated, they are awake.
        let user = if works || network + endpoint == 0 { user } else { user / ASLEEP };
        let kinds = match draws.weighted(&[network, endpoint, user]) {
            0 => &network::KINDS,
            1 => &endpoint::KINDS,
            _ => &user::KINDS,
        };
        let kind = *draws.one(kinds);
        self.ready.push_back(kind(site, draws).made(self.now, None));
        while self.now >= self.minute {
            self.minute = self.minute.saturating_add(MINUTE);
            // Drawn in any case, so that the number of attacks moves nothing else.
            let (starts, scenario) = (self.draws.percent(self.settings.frequency.percent()), self.draws.one(scenario::ALL));
            if starts && self.active.len() < self.settings.concurrent {
                self.start(scenario);
            }
        }
        let Self { active, ready, draws, now, .. } = self;
        active.retain_mut(|attack| {
            let made = attack.next(*now, draws);
            let goes_on = made.is_some();
            ready.extend(made);
            goes_on
        });
        let quiet = if works { 1 } else { QUIET };
        let turn = nanos(Duration::try_from_secs_f64(60.0 / self.settings.per_minute).unwrap_or(Duration::MAX));
        self.now = self.now.saturating_add(turn.saturating_mul(quiet).max(1));
    }
}

impl Iterator for Simulation {
    type Item = Made;

    fn next(&mut self) -> Option<Made> {
        if self.ready.is_empty() {
            self.turn();
        }
        self.ready.pop_front()
    }
}
