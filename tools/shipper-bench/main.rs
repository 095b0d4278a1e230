//! shipper-bench: makes alerts, and measures against a reference in the same run.

#![allow(clippy::disallowed_methods, reason = "a measuring tool works on the real machine")]

mod agent;
mod generate;
mod handle;
mod intel;
mod kafka;
mod live;
mod misp;
mod read;
mod size;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use argh::{EarlyExit, FromArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes realistic alerts and measures shipper's parts, each beside a reference in the same run.
#[derive(FromArgs)]
#[argh(
    example = "A file of a million alerts:\n  {command_name} gen --count 1M --out alerts.json",
    example = "A live manager for a minute, with a rotation every ten seconds:\n  {command_name} gen --live --rate 500 --for 60s --rotate-every 10s --dir ./alerts",
    example = "How fast the file is read, and its alerts handled:\n  {command_name} read alerts.json\n  {command_name} handle --handler forward alerts.json",
    note = "Sizes and counts may end in K, M or G (powers of 1000) or KiB, MiB, GiB.",
    error_code(64, "wrong usage"),
    error_code(74, "a file could not be read or written")
)]
struct Args {
    #[argh(subcommand)]
    command: Command,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Command {
    Gen(generate::Gen),
    Read(read::Read),
    Handle(handle::Handle),
    Intel(intel::Intel),
    Kafka(kafka::Kafka),
    Live(live::Live),
    Misp(misp::Misp),
}

/// Wrong usage that the parser of flags cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let args = match Args::from_args(&["shipper-bench"], words.get(1..).unwrap_or_default()) {
        Ok(args) => args,
        Err(EarlyExit { output, status: Ok(()) }) => {
            // Whoever reads only the first lines (`| head`) is no error.
            let _ = writeln!(io::stdout(), "{output}");
            return ExitCode::SUCCESS;
        }
        Err(EarlyExit { output, status: Err(()) }) => {
            eprintln!("{output}");
            return ExitCode::from(64);
        }
    };
    let result = match args.command {
        Command::Gen(command) => command.run(),
        Command::Read(command) => command.run(),
        Command::Handle(command) => command.run(),
        Command::Intel(command) => command.run(),
        Command::Kafka(command) => command.run(),
        Command::Live(command) => command.run(),
        Command::Misp(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shipper-bench: {error:#}");
            ExitCode::from(if error.is::<Usage>() { 64 } else { 74 })
        }
    }
}
