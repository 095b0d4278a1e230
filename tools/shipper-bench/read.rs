//! `read`: how fast a file's lines are found, and how fast the agent reads the file into nothing.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use anyhow::Context;
use argh::FromArgs;
use shipper::limits;

use crate::{
    agent::{self, Job},
    size::{self, Round},
};

/// reads a file and finds its lines; then the whole agent reads it into nothing, on one core and on more
#[derive(FromArgs)]
#[argh(subcommand, name = "read")]
pub struct Read {
    /// the file
    #[argh(positional)]
    file: PathBuf,
    /// the most shards of the agent; beyond one, one core and all of them are measured
    #[argh(option, default = "1")]
    cores: usize,
    /// handler: dfn, forward or ioc
    #[argh(option, default = "String::from(\"dfn\")")]
    handler: String,
    /// rounds; the quickest counts
    #[argh(option, default = "3")]
    rounds: u32,
    /// print the figures as JSON
    #[argh(switch)]
    json: bool,
}

impl Read {
    /// Measures.
    pub fn run(&self) -> anyhow::Result<()> {
        let name = self.file.display();
        let file = File::open(&self.file).with_context(|| format!("cannot open {name}; make one with `shipper-bench gen`"))?;
        let mut buffer = vec![0; limits::SLAB_BYTES];
        let mut count = || {
            let (mut at, mut lines) = (0, 0);
            loop {
                let n = file.read_at(&mut buffer, at).with_context(|| format!("cannot read {name}; is it a file?"))?;
                if n == 0 {
                    return Ok((lines, at));
                }
                lines += memchr::memchr_iter(b'\n', &buffer[..n]).count() as u64;
                at += n as u64;
            }
        };
        let mut lines = || Round::of(&mut count);
        let bytes = file.metadata().with_context(|| format!("cannot read {name}; is it a file?"))?.len();
        let handler = format!("kind = {:?}", self.handler);
        let job = |cores| Job { part: &self.file, handler: &handler, sink: "kind = \"blackhole\"", cores, embedded: None, bytes };
        let mut jobs = vec![job(1)];
        if self.cores > 1 {
            jobs.push(job(self.cores));
        }
        let mut runs = Vec::new();
        for (name, engine) in agent::engines() {
            for job in &jobs {
                let name = format!("agent, {name}, {} core{}", job.cores, if job.cores == 1 { "" } else { "s" });
                runs.push((name, move || job.run(engine)));
            }
        }
        let mut ways: Vec<size::Way<'_>> = vec![("pread + memchr (reference)", &mut lines)];
        ways.extend(runs.iter_mut().map(|(name, run)| (name.as_str(), run as &mut dyn FnMut() -> _)));
        let figures = size::alternate(self.rounds, &mut ways)?;
        size::print(&figures, self.json)
    }
}
