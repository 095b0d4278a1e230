//! The whole agent as a process, from `alerts.json` over MISP to files: nothing is lost and nothing is
//! made up, whatever MISP does and however often the agent is killed.
//!
//! Twenty thousand alerts carry a thousand indicators, of which MISP knows 829.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use serde_json::Value;
use shipper::{
    register::section::parse_span,
    synth::indicators::{Indicators, indicator},
};

use crate::{
    agent::{House, Process, wait},
    misp_standin::{Fault, KEY, Misp, World, key_file, row},
};

const ALERTS: u64 = 20_000;
const DISTINCT: u64 = 1000;
const KNOWN: u64 = 829;
/// Alerts that are written once more at the end, each a repeat for stage `dedup`.
const REPEATS: usize = 100;
/// What goes wrong all the time, in percent of searches.
const ERRORS: (u64, Fault) = (1, Fault::Status(500));
const HANGS: (u64, Fault) = (1, Fault::Hang);
const RESETS: (u64, Fault) = (5, Fault::Reset);

/// How long MISP is out.
fn outage() -> Duration {
    let text = std::env::var("SERVICES_OUTAGE").unwrap_or_else(|_| "5s".into());
    parse_span(&text).expect("SERVICES_OUTAGE is a span of time, such as 60s")
}

/// A MISP, an agent's house, and what was written into it.
struct Site {
    misp: Misp,
    house: House,
    /// The lines; the indicator of each.
    lines: Vec<String>,
    numbers: Vec<u64>,
    _key: tempfile::NamedTempFile,
}

impl Site {
    /// - `lookup`: further settings of the lookup, as lines of TOML.
    fn new(world: World, lookup: &str) -> Self {
        let rows = (0..KNOWN).map(indicator).map(|(kind, value)| row(kind, value)).collect();
        let misp = Misp::start(World { rows, ..world });
        let key = key_file(KEY);
        let (url, key_file) = (misp.url(), key.path().to_owned());
        let house = House::with(|dir| {
            format!(
                r#"
[api]
listen = "unix:{dir}/api.sock"
[handlers.iocs]
kind = "ioc"
inputs = ["alerts"]
[stages.once]
kind = "dedup"
inputs = ["iocs"]
members = ["alert_id"]
[lookups.intel]
kind = "misp"
inputs = ["once"]
url = {url:?}
key_file = {key_file:?}
timeout = "1s"
{lookup}
[sinks.matches]
kind = "file"
inputs = ["intel"]
path = "{dir}/matches"
fsync = false
[sinks.gaps]
kind = "file"
inputs = ["intel.failed"]
path = "{dir}/gaps"
"#,
                dir = dir.display()
            )
        });
        let mut made = Indicators::new(0, DISTINCT);
        let (mut lines, mut numbers) = (Vec::new(), Vec::new());
        for n in 0..ALERTS {
            let mut line = Vec::new();
            // 500 a second; the day is that of the house.
            numbers.push(made.alert(&mut line, 1_773_465_912_000_000_000 + n * 2_000_000));
            lines.push(String::from_utf8(line).unwrap());
        }
        let site = Self { misp, house, lines, numbers, _key: key };
        site.house.append(&site.lines.concat());
        site.house.append(&site.lines[..REPEATS].concat());
        site
    }

    /// Records of matches, by number of the alert; what a kill cut short is no record.
    fn matches(&self) -> BTreeMap<usize, u32> {
        let mut times = BTreeMap::new();
        let text = fs::read_to_string(self.house.dir.path().join("matches")).unwrap_or_default();
        for line in text.split_inclusive('\n').filter(|line| line.ends_with("}\n")) {
            let record: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            let id = record["alert_id"].as_str().expect("an id");
            let number: usize = id.split_once('.').expect("epoch.number").1.parse().unwrap();
            let value = indicator(self.numbers[number]).1;
            assert_eq!((record["ioc"]["value"].as_str(), record["misp"]["value"].as_str()), (Some(&*value), Some(&*value)), "{line}");
            assert_eq!(record["full_alert"], serde_json::from_str::<Value>(&self.lines[number]).unwrap());
            *times.entry(number).or_default() += 1;
        }
        times
    }

    fn count(&self) -> usize {
        fs::read(self.house.dir.path().join("matches")).map_or(0, |bytes| memchr::memchr_iter(b'\n', &bytes).count())
    }

    #[track_caller]
    fn until_matches(&self, agent: &Process, least: usize) {
        let now = || format!("{} matches; the agent says {}", self.count(), agent.said());
        wait(&format!("there are {least} matches"), || self.count() >= least, now);
    }

    /// Waits until all is acked, looks at the sums and at every record; gives how often records came again.
    #[track_caller]
    fn ends(&self, agent: Process, began: Instant) -> u32 {
        self.house.until_saved();
        let took = began.elapsed();
        let sums = Sums::of(&self.house);
        assert_eq!(sums.get("read"), sums.get("shipped") + sums.get("dropped") + sums.get("dead_letter"), "{sums:?}");
        assert_eq!((sums.get("dead_letter"), sums.get("in_flight")), (0, 0), "{sums:?}");
        agent.stop();
        let times = self.matches();
        let expected: BTreeSet<usize> = (0..self.numbers.len()).filter(|n| self.numbers[*n] < KNOWN).collect();
        let lost = expected.iter().filter(|n| !times.contains_key(n)).count();
        let made_up = times.keys().filter(|n| !expected.contains(n)).count();
        assert_eq!((lost, made_up), (0, 0), "of {} alerts with an indicator that MISP knows", expected.len());
        let values: BTreeSet<u64> = times.keys().map(|n| self.numbers[*n]).collect();
        assert_eq!(values.len() as u64, KNOWN, "known indicators that are represented");
        assert_eq!(fs::read_to_string(self.house.dir.path().join("gaps")).unwrap(), "", "no indicator was given up");
        assert_eq!(self.house.dead_letters(), []);
        let again = times.values().map(|times| times - 1).sum();
        eprintln!(
            "{} alerts in {:.1} s: {} indicators, {} records, {again} of them again; {} searches, {} met the limit",
            ALERTS,
            took.as_secs_f64(),
            values.len(),
            times.values().sum::<u32>(),
            self.misp.searches().len(),
            self.misp.limited()
        );
        again
    }
}

/// The accounting of the one branch, as `/metrics` tells it.
#[derive(Debug)]
struct Sums(BTreeMap<String, u64>);

impl Sums {
    fn of(house: &House) -> Self {
        let mut socket = UnixStream::connect(house.dir.path().join("api.sock")).unwrap();
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse::<f64>().ok()? as u64))
        };
        Self(text.lines().filter(|line| line.starts_with("shipper_")).filter_map(sample).collect())
    }
    /// Bytes, over all reasons.
    fn get(&self, what: &str) -> u64 {
        let names = [format!("shipper_{what}_bytes_total{{"), format!("shipper_{what}_bytes{{")];
        let is_it = |name: &str| names.iter().any(|known| name.starts_with(known.as_str())) && name.contains("iocs");
        self.0.iter().filter(|(name, _)| is_it(name)).map(|(_, bytes)| bytes).sum()
    }
    fn dropped(&self, reason: &str) -> u64 {
        let reason = format!("reason=\"{reason}\"");
        self.0.iter().filter(|(name, _)| name.starts_with("shipper_dropped_bytes") && name.contains(&reason)).map(|(_, bytes)| bytes).sum()
    }
}

#[test]
fn every_alert_with_a_known_indicator_becomes_a_match_with_ten_calls_at_most() {
    let site = Site::new(World::default(), "rate = 0\n");
    let began = Instant::now();
    let agent = site.house.start();
    site.house.until_saved();
    let sums = Sums::of(&site.house);
    let bytes =
        |is: &dyn Fn(u64) -> bool| (0..site.lines.len()).filter(|n| is(site.numbers[*n])).map(|n| site.lines[n].len() as u64).sum::<u64>();
    let repeated: u64 = site.lines[..REPEATS].iter().map(|line| line.len() as u64).sum();
    assert_eq!(sums.get("read"), bytes(&|_| true) + repeated, "{sums:?}");
    assert_eq!(sums.get("shipped"), bytes(&|n| n < KNOWN), "{sums:?}");
    assert_eq!((sums.dropped("looked_up"), sums.dropped("duplicate")), (bytes(&|n| n >= KNOWN), repeated), "{sums:?}");
    assert_eq!(site.ends(agent, began), 0);
    let searches = site.misp.searches().len();
    assert!(searches <= 10, "{searches} searches");
}

/// Runs the agent on a disturbed MISP to its end.
fn endures(world: World, lookup: &str) -> Site {
    let site = Site::new(world, lookup);
    let began = Instant::now();
    let agent = site.house.start();
    assert_eq!(site.ends(agent, began), 0, "records that came again, though nobody was killed");
    site
}

#[test]
fn errors_of_misp_lose_nothing() {
    let site = endures(World { faults: vec![ERRORS], ..World::default() }, "batch = 1\nrate = 0\n");
    assert!(site.misp.searches().len() > 1001, "some were sent again");
}

#[test]
fn hangs_of_misp_lose_nothing() {
    let site = endures(World { faults: vec![HANGS], ..World::default() }, "batch = 1\nrate = 0\n");
    assert!(site.misp.searches().len() > 1001, "some were sent again");
}

#[test]
fn resets_of_connections_lose_nothing() {
    let site = endures(World { faults: vec![RESETS], ..World::default() }, "batch = 1\nrate = 0\n");
    assert!(site.misp.searches().len() > 1001, "some were sent again");
}

#[test]
fn the_limit_of_misp_loses_nothing() {
    let site = endures(World { limit: Some((100, Duration::from_secs(1))), ..World::default() }, "batch = 2\nrate = 0\n");
    assert!(site.misp.limited() > 0);
}

#[test]
fn an_outage_of_misp_loses_nothing() {
    let site = Site::new(World::default(), "batch = 1\nrate = 200\nbreaker.wait_max = \"2s\"\n");
    let began = Instant::now();
    let mut agent = site.house.start();
    site.until_matches(&agent, 1);
    site.misp.out(true);
    agent.says(&["lookups.intel", "retrying"]);
    std::thread::sleep(outage());
    assert!(agent.is_running());
    assert!(site.count() < 16_000, "the outage came too late to be one: {} matches", site.count());
    site.misp.out(false);
    assert_eq!(site.ends(agent, began), 0);
}

#[test]
fn kills_lose_nothing() {
    let site = Site::new(World::default(), "batch = 1\nrate = 400\n");
    let began = Instant::now();
    let agent = killed_twice(&site);
    site.ends(agent, began);
}

/// Starts the agent, and kills it twice on its way.
fn killed_twice(site: &Site) -> Process {
    for least in [500, 6000] {
        let agent = site.house.start();
        site.until_matches(&agent, least);
        agent.kill();
        let count = site.count();
        assert!(count < 16_000, "the kill came too late to be one: {count} matches");
    }
    site.house.start()
}

#[test]
fn all_of_it_together_loses_nothing() {
    let world = World { faults: vec![ERRORS, HANGS, RESETS], limit: Some((200, Duration::from_secs(1))), ..World::default() };
    let site = Site::new(world, "batch = 1\nrate = 0\nbreaker.wait_max = \"2s\"\n");
    let began = Instant::now();
    let mut agent = killed_twice(&site);
    let least = site.count() + 1;
    site.until_matches(&agent, least);
    site.misp.out(true);
    std::thread::sleep(outage());
    assert!(agent.is_running());
    site.misp.out(false);
    site.ends(agent, began);
}
