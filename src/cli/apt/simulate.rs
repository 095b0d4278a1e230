//! `shipper apt simulate`: events of an imagined site, with attacks among them.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use argh::FromArgs;

use super::{
    connection::{self, Server},
    out::{self, Out, Pace},
};
use crate::{
    clock::{Nanos, nanos},
    register::section::parse_span,
    synth::apt::{
        scenario::{self, Scenario},
        simulation::{Frequency, Hours, Settings, Simulation},
    },
};

/// Imagine a site: hosts and users whose events go to Kafka, to a stream of Redis or to standard output, with attacks
/// among them. The clock is the simulation's own: it runs as fast as --speed says. 0 if every event was
/// acknowledged, 74 if one was not.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "simulate",
    example = "shipper apt simulate --brokers kafka.example:9092 --topic apt_topic",
    example = "shipper apt simulate --config /etc/shipper/shipper.toml --component sources.events --rate 600",
    example = "shipper apt simulate --scenario brute_force --scenario data_exfiltration --duration 30m",
    example = "shipper apt simulate --output stdout --duration 24h --speed 0 --start 2026-03-16T00:00:00Z --hours 9-17 > day.jsonl",
    example = "shipper apt simulate --output redis --url redis://localhost:6379 --key apt:events",
    note = "Two runs with the same --seed, --start and other options give the same events. A password never stands in the command line: with --config, place and login are those of a source or sink in that config (kind kafka; redis_stream, or redis with a stream). What is given as well wins. Ctrl-C ends it once all that was sent is acknowledged."
)]
pub(super) struct Simulate {
    /// turns a minute (default 5): each is one event, and one of each attack that goes on
    #[argh(option, default = "5.0", from_str_fn(out::rate))]
    rate: f64,
    /// an attack that starts at once, and anew when it has ended: data_exfiltration or brute_force; may be given more than once
    #[argh(option, from_str_fn(named))]
    scenario: Vec<&'static Scenario>,
    /// how often an attack starts by chance: off, low, medium or high (default medium, off with --scenario)
    #[argh(option, from_str_fn(frequency))]
    frequency: Option<Frequency>,
    /// attacks that chance lets go on at the same time (default 2)
    #[argh(option, default = "2")]
    concurrent: usize,
    /// how much of the site's time is simulated (30m, 24h); without it, until Ctrl-C
    #[argh(option, from_str_fn(span))]
    duration: Option<Duration>,
    /// how many times as fast as a real clock (default 1); 0: as fast as events are taken
    #[argh(option, default = "1.0", from_str_fn(out::rate))]
    speed: f64,
    /// when it begins in the site's time, as 2026-03-16T08:00:00Z (default now)
    #[argh(option, from_str_fn(moment))]
    start: Option<Nanos>,
    /// the same seed gives the same events (default 1)
    #[argh(option, default = "1")]
    seed: u64,
    /// hosts (default 10)
    #[argh(option, default = "10", from_str_fn(entities))]
    hosts: u32,
    /// users (default 20)
    #[argh(option, default = "20", from_str_fn(entities))]
    users: u32,
    /// weights of events of the network, of hosts and of users (default 40,40,20)
    #[argh(option, default = "[40, 40, 20]", from_str_fn(weights))]
    weights: [u32; 3],
    /// working hours, UTC, Monday to Friday, as 9-17: a fifth of the events outside of them, and few of users
    #[argh(option, from_str_fn(hours))]
    hours: Option<Hours>,
    /// kafka, redis or stdout (default kafka)
    #[argh(option, default = "String::from(\"kafka\")")]
    output: String,
    /// kafka: topic (default apt_topic, or the config's)
    #[argh(option)]
    topic: Option<String>,
    /// kafka: host:port, with commas between (default localhost:9092, or the config's)
    #[argh(option)]
    brokers: Option<String>,
    /// redis: key of the stream (default apt:events, or the config's)
    #[argh(option)]
    key: Option<String>,
    /// redis: redis://host:port, rediss://host:port or unix:/path (default redis://localhost:6379, or the config's)
    #[argh(option)]
    url: Option<String>,
    /// agent's config that names the server, TLS and login
    #[argh(option)]
    config: Option<PathBuf>,
    /// which source or sink of the config, where more than one fits: sources.NAME or sinks.NAME
    #[argh(option)]
    component: Option<String>,
}

fn named(text: &str) -> Result<&'static Scenario, String> {
    let known = || scenario::ALL.iter().map(|scenario| scenario.kind).collect::<Vec<_>>().join(", ");
    scenario::named(text).ok_or_else(|| format!("no scenario {text:?}; known: {}", known()))
}

fn frequency(text: &str) -> Result<Frequency, String> {
    let found = Frequency::ALL.iter().find(|(name, _)| *name == text);
    found.map(|(_, frequency)| *frequency).ok_or_else(|| format!("no frequency {text:?}; known: off, low, medium, high"))
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).filter(|span| !span.is_zero()).ok_or_else(|| format!("{text:?} is no span of time; write 30m or 24h"))
}

fn moment(text: &str) -> Result<Nanos, String> {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| Nanos::try_from(time.as_nanosecond()).ok());
    time.ok_or_else(|| format!("{text:?} is no time; write 2026-03-16T08:00:00Z"))
}

fn entities(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|n| (1..=100_000).contains(n));
    number.ok_or_else(|| format!("{text:?} is no number from 1 to 100000"))
}

fn weights(text: &str) -> Result<[u32; 3], String> {
    let numbers: Option<Vec<u32>> = text.split(',').map(|part| part.trim().parse().ok().filter(|n| *n <= 1_000_000)).collect();
    let all = numbers.and_then(|numbers| <[u32; 3]>::try_from(numbers).ok()).filter(|all| all.iter().any(|n| *n > 0));
    all.ok_or_else(|| format!("{text:?} are no weights; write three whole numbers, as 40,40,20"))
}

fn hours(text: &str) -> Result<Hours, String> {
    let hour = |text: &str| text.trim().parse::<u8>().ok().filter(|hour| *hour < 24);
    let pair = text.split_once('-').and_then(|(start, end)| Some((hour(start)?, hour(end)?))).filter(|(start, end)| start != end);
    let (start, end) = pair.ok_or_else(|| format!("{text:?} are no hours; write two from 0 to 23, as 9-17"))?;
    Ok(Hours { start, end, ..Hours::default() })
}

/// Runs the command: 0, or 74 if an event was not acknowledged.
///
/// # Errors
/// If the config cannot be read, the client cannot be made, or standard output fails.
pub(super) fn run(args: &Simulate) -> anyhow::Result<ExitCode> {
    if args.rate <= 0.0 {
        return super::usage("--rate is more than 0; --speed 0 is as fast as events are taken");
    }
    let of = |server| match server {
        Server::Kafka => (args.brokers.as_deref(), args.topic.as_deref()),
        Server::Redis => (args.url.as_deref(), args.key.as_deref()),
    };
    let server = match args.output.as_str() {
        "stdout" => None,
        "kafka" => Some(Server::Kafka),
        "redis" => Some(Server::Redis),
        other => return super::usage(&format!("no output {other:?}; known: kafka, redis, stdout")),
    };
    let mut out = match server {
        None => Out::stdout(),
        Some(server) => {
            let (place, target) = of(server);
            let asked = connection::Asked { config: args.config.as_deref(), component: args.component.as_deref(), place, target };
            match connection::find(&asked, server)? {
                Ok(found) => Out::to(found)?,
                Err(what) => return super::usage(&what),
            }
        }
    };
    let start = args.start.unwrap_or_else(out::now);
    let mut simulation = Simulation::new(Settings {
        seed: args.seed,
        start,
        per_minute: args.rate,
        hosts: args.hosts,
        users: args.users,
        weights: args.weights,
        frequency: args.frequency.unwrap_or(if args.scenario.is_empty() { Frequency::Medium } else { Frequency::Off }),
        concurrent: args.concurrent,
        hours: args.hours,
    });
    let end = args.duration.map_or(Nanos::MAX, |span| start.saturating_add(nanos(span)));
    let (mut pace, interrupted) = (Pace::new(0.0), out::interrupts());
    let mut sent = 0u64;
    while !interrupted.is_set() {
        if simulation.active() == 0 {
            args.scenario.iter().for_each(|scenario| simulation.start(scenario));
        }
        let Some(made) = simulation.next().filter(|made| made.at < end) else { break };
        if args.speed > 0.0 {
            let since = Duration::from_nanos(made.at - start).as_secs_f64() / args.speed;
            if !pace.until(Duration::try_from_secs_f64(since).unwrap_or(Duration::MAX), &interrupted, &mut out)? {
                break;
            }
        }
        out.send(&made)?;
        sent += 1;
        pace.tell(&format!("{sent} events, {} attacks, {} of them go on", simulation.started(), simulation.active()), &out);
    }
    let account = out.finish()?;
    pace.end();
    eprintln!("{sent} events, {} attacks: {account}", simulation.started());
    Ok(account.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_wrong_ones_are_told_with_a_remedy() {
        assert_eq!(weights("1, 0,3"), Ok([1, 0, 3]));
        assert_eq!(hours("22-6"), Ok(Hours { start: 22, end: 6, ..Hours::default() }));
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000_000_000));
        for (error, part) in [
            (weights("0,0,0").err(), "40,40,20"),
            (weights("1,2").err(), "40,40,20"),
            (hours("9-24").err(), "9-17"),
            (hours("9-9").err(), "9-17"),
            (moment("soon").err(), "2026-03-16T08:00:00Z"),
            (entities("0").err(), "from 1"),
            (named("ransomware").err(), "data_exfiltration, brute_force"),
            (frequency("often").err(), "off, low, medium, high"),
            (span("0").err(), "30m"),
            (out::rate("-1").err(), "from 0"),
        ] {
            assert!(error.as_ref().is_some_and(|error| error.contains(part)), "{error:?}");
        }
    }
}
