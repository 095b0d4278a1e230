//! `read`: how fast a file's lines are found.

use std::{fs::File, os::unix::fs::FileExt, path::PathBuf};

use anyhow::Context;
use argh::FromArgs;
use shipper::limits;

use crate::size;

/// reads a file and finds its lines
#[derive(FromArgs)]
#[argh(subcommand, name = "read")]
pub struct Read {
    /// the file
    #[argh(positional)]
    file: PathBuf,
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
        let mut lines = || {
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
        let figures = size::alternate(self.rounds, &mut [("pread + memchr (reference)", &mut lines)])?;
        size::print(&figures, self.json)
    }
}
