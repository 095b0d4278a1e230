//! `shipper apt produce`: messages of ten features, every third of them anomalous.

use std::{path::PathBuf, process::ExitCode};

use argh::FromArgs;

use super::{
    connection::{self, Server},
    out::{self, Out, Pace},
};
use crate::synth::apt::features::Features;

/// Send messages of ten features to Kafka, every third of them anomalous, and wait until each is acknowledged:
/// message 0, 3, 6, ... must raise an alert, and no other. 0 if all were acknowledged, 74 if one was not.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "produce",
    example = "shipper apt produce --num 20",
    example = "shipper apt produce --num 100000 --rate 0 --brokers kafka.example:9092 --topic apt_topic",
    example = "shipper apt produce --config /etc/shipper/shipper.toml --component sources.events",
    example = "shipper apt produce --num 3 --rate 0 --output stdout | shipper try --handler apt",
    note = "A password never stands in the command line: with --config, brokers, TLS, login and topic are those of a source or sink of kind kafka in that config. What is given as well wins."
)]
pub(super) struct Produce {
    /// messages (default 20)
    #[argh(option, default = "20")]
    num: u64,
    /// no message is anomalous
    #[argh(switch)]
    no_anomalies: bool,
    /// messages a second (default 2); 0: as fast as they are taken
    #[argh(option, default = "2.0", from_str_fn(out::rate))]
    rate: f64,
    /// the same seed gives the same messages, but for their times (default 1)
    #[argh(option, default = "1")]
    seed: u64,
    /// topic (default apt_topic, or the config's)
    #[argh(option)]
    topic: Option<String>,
    /// host:port, with commas between (default localhost:9092, or the config's)
    #[argh(option)]
    brokers: Option<String>,
    /// agent's config that names brokers, TLS, login and topic
    #[argh(option)]
    config: Option<PathBuf>,
    /// which source or sink of the config, where it has more than one of kind kafka: sources.NAME or sinks.NAME
    #[argh(option)]
    component: Option<String>,
    /// kafka or stdout (default kafka)
    #[argh(option, default = "String::from(\"kafka\")")]
    output: String,
}

/// Runs the command: 0, or 74 if a message was not acknowledged.
///
/// # Errors
/// If the config cannot be read, the client cannot be made, or standard output fails.
pub(super) fn run(args: &Produce) -> anyhow::Result<ExitCode> {
    let mut out = match args.output.as_str() {
        "stdout" => Out::stdout(),
        "kafka" => {
            let asked = connection::Asked {
                config: args.config.as_deref(),
                component: args.component.as_deref(),
                place: args.brokers.as_deref(),
                target: args.topic.as_deref(),
            };
            match connection::find(&asked, Server::Kafka)? {
                Ok(found) => Out::to(found)?,
                Err(what) => return super::usage(&what),
            }
        }
        other => return super::usage(&format!("no output {other:?}; known: kafka, stdout")),
    };
    let mut features = Features::new(args.seed, !args.no_anomalies);
    let mut pace = Pace::new(args.rate);
    let interrupted = out::interrupts();
    let mut sent = 0;
    while sent < args.num && !interrupted.is_set() {
        if !pace.wait(sent, &interrupted, &mut out)? {
            break;
        }
        out.send(&features.message(out::now()))?;
        sent += 1;
        pace.tell(&format!("{sent} of {} messages", args.num), &out);
    }
    let account = out.finish()?;
    pace.end();
    let anomalous = features.anomalous(sent);
    eprintln!("{sent} messages, {anomalous} anomalous: {account}");
    Ok(account.code())
}
