//! `shipper apt`: what one does beside the agent for APT detection.

mod broker;
mod connection;
pub mod eval;
mod out;
mod produce;
mod score;
mod simulate;
mod stream;

pub use score::STDIN;

use std::process::ExitCode;

use argh::FromArgs;

/// For APT detection: make messages and events to try it with, score records, and measure the detector.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "apt",
    example = "shipper apt produce --num 20 --output stdout",
    example = "shipper apt produce --num 20 --brokers kafka.example:9092 --topic apt_topic",
    example = "shipper apt simulate --scenario brute_force --output stdout",
    example = "shipper apt score - < events.json",
    example = "shipper apt eval --ait fox_alerts.csv.gz"
)]
pub struct Apt {
    #[argh(subcommand)]
    what: What,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
enum What {
    Produce(produce::Produce),
    Simulate(simulate::Simulate),
    Score(score::Score),
    Eval(eval::Eval),
}

/// Runs the command.
///
/// # Errors
/// If what it reads or writes fails.
pub fn run(args: &Apt) -> anyhow::Result<ExitCode> {
    let done = match &args.what {
        What::Produce(args) => produce::run(args),
        What::Simulate(args) => simulate::run(args),
        What::Score(args) => score::run(args),
        What::Eval(args) => eval::run(args),
    };
    match done {
        Err(error) if error.is::<out::Gone>() => Ok(ExitCode::SUCCESS),
        done => done,
    }
}

fn usage(what: &str) -> anyhow::Result<ExitCode> {
    eprintln!("shipper: {what}");
    Ok(ExitCode::from(crate::cli::USAGE))
}
