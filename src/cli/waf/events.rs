//! Events of audit logs, one after the other, whatever is between and around them.

#![allow(clippy::disallowed_methods, reason = "a command of the operator reads real files")]

use std::{
    collections::BTreeMap,
    io::{self, Read},
    path::Path,
};

use anyhow::Context;
use jiff::tz::TimeZone;

use super::From;
use crate::{
    alert::{Form, Parser, Piece, salvage_as},
    clock::Nanos,
    framing::{Objects, objects},
    handlers::waf::{event::Event, reader::Reader, time},
    limits::{FRAME_BYTES_MAX, SLAB_BYTES},
};

/// What was read of the logs.
#[derive(Debug, Default)]
pub(in crate::cli) struct Account {
    pub events: u64,
    /// Of them without a time that can be read; they count as of now.
    pub timeless: u64,
    /// Frames that are no events, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Account {
    /// For the end of what is printed; empty if all was read.
    pub(super) fn told(&self) -> String {
        let refused: Vec<String> = self.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        match refused.as_slice() {
            [] => String::new(),
            _ => format!("left out, since they are no events: {}", refused.join(", ")),
        }
    }
}

/// Calls `tell` with each event and its time.
///
/// - `now`: for events without a time.
///
/// # Errors
/// If a file cannot be read, or the zone is unknown.
pub(super) fn each(from: &From<'_>, now: Nanos, tell: &mut dyn FnMut(&Event<'_>, Nanos)) -> anyhow::Result<Account> {
    let zone = match from.timezone {
        None => TimeZone::UTC,
        Some(name) => TimeZone::get(name).with_context(|| format!("--timezone {name}; name one such as Europe/Berlin"))?,
    };
    let mut log = Log { reader: Reader::default(), parser: Parser::new(), zone, now, tell, read: Account::default() };
    if from.files.is_empty() {
        log.read(&mut io::stdin().lock()).context("cannot read standard input")?;
    }
    for path in from.files {
        let mut file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        if is_gzip(path) {
            anyhow::bail!("{} is compressed; use zcat {0} | shipper waf …", path.display());
        }
        log.read(&mut file).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(log.read)
}

/// Calls `tell` with each event of what is read, whenever it was.
///
/// # Errors
/// Of `input`.
pub(in crate::cli) fn of(input: &mut dyn Read, tell: &mut dyn FnMut(&Event<'_>)) -> io::Result<Account> {
    let tell = &mut |event: &Event<'_>, _: Nanos| tell(event);
    let mut log = Log { reader: Reader::default(), parser: Parser::new(), zone: TimeZone::UTC, now: 0, tell, read: Account::default() };
    log.read(input)?;
    Ok(log.read)
}

fn is_gzip(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "gz")
}

struct Log<'t> {
    reader: Reader,
    parser: Parser,
    zone: TimeZone,
    now: Nanos,
    tell: &'t mut dyn FnMut(&Event<'_>, Nanos),
    read: Account,
}

impl Log<'_> {
    fn read(&mut self, input: &mut dyn Read) -> io::Result<()> {
        let (mut bytes, mut cutter, mut filled) = (Vec::new(), Objects::default(), 0);
        loop {
            bytes.resize(filled + SLAB_BYTES, 0);
            let count = match input.read(bytes.get_mut(filled..).unwrap_or_default()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            filled += count;
            bytes.truncate(filled);
            let mut whole = cutter.whole(&bytes);
            if count == 0 || (whole == 0 && filled >= FRAME_BYTES_MAX) {
                // What is open now will not end.
                (whole, cutter) = (filled, Objects::default());
            }
            for (frame, is_lost) in objects(bytes.get(..whole).unwrap_or_default()) {
                self.frame(bytes.get(frame.start..frame.end).unwrap_or_default(), is_lost);
            }
            bytes.drain(..whole);
            filled -= whole;
            if count == 0 {
                return Ok(());
            }
        }
    }

    fn frame(&mut self, frame: &[u8], is_lost: bool) {
        if frame.is_empty() {
            return;
        }
        let Err(reason) = self.event(frame) else { return };
        if !is_lost && reason != "not_json" {
            *self.read.refused.entry(reason).or_default() += 1;
            return;
        }
        for piece in salvage_as(Form::Event, frame) {
            let reason = match piece {
                Piece::Alert(range) => self.event(frame.get(range).unwrap_or_default()).err(),
                Piece::Broken(_, reason) => Some(reason),
                Piece::Padding(_) => None,
            };
            if let Some(reason) = reason {
                *self.read.refused.entry(reason).or_default() += 1;
            }
        }
    }

    /// Tells of the event in a frame, or why there is none.
    fn event(&mut self, frame: &[u8]) -> Result<(), &'static str> {
        let Self { reader, parser, zone, now, tell, read } = self;
        let mut alert = parser.alert(frame);
        let told = reader.read(&mut alert, FRAME_BYTES_MAX as u64, |event, _| {
            let at = time::nanos(event, "", "", zone, 0);
            let at = u64::try_from(at).ok().filter(|at| *at > 0);
            read.events += 1;
            read.timeless += u64::from(at.is_none());
            tell(event, at.unwrap_or(*now));
        });
        told.map_err(|refusal| refusal.reason())
    }
}
