//! `stdin`: lines of standard input, until its end.
//!
//! Reading blocks, so a thread of its own does it; two slabs are under way at most. Nothing of it
//! can be read again: what is not acked when the agent is killed is the sender's to repeat.

use std::{io::Read, rc::Rc, sync::Arc};

use super::{Admit, At, Chunk, ChunkKind, Kind, Source, SourceError, Spec};
use crate::{
    framing::{frames, whole_frames},
    io::{Io, LocalFuture, Slab},
    limits,
    metrics::{Standing, State},
    position::Position,
    register::{Field, Section},
    ring::Mailbox,
};

/// The kind.
pub struct Stdin;

impl Kind for Stdin {
    fn name(&self) -> &'static str {
        "stdin"
    }
    fn about(&self) -> &'static str {
        "lines of standard input, until its end"
    }
    fn fields(&self) -> &'static [Field] {
        &[]
    }
    fn parse(&self, _section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings)
    }
}

#[derive(Debug)]
struct Settings;

impl Spec for Settings {
    fn build(&self, _name: &str, _instance: &str) -> Box<dyn Source> {
        Box::new(Running)
    }
}

struct Running;

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let started = io.clock().now() / 1_000_000;
            let stream = format!("stdin/{started}");
            let origin: Arc<str> = stream.as_str().into();
            admit.open(&stream, Position::Count(0));
            standing.set(State::Ready);
            let full = Mailbox::<Vec<u8>>::new(2);
            let reader = full.clone();
            let reading = crate::io::aside("stdin", move || read(&reader));
            if let Err(e) = reading {
                standing.set(State::Retrying(format!("cannot start the thread that reads standard input: {e}")));
                return Ok(());
            }
            let (mut first, mut part) = (0, Vec::new());
            loop {
                let piece = tokio::select! {
                    () = admit.closed() => None,
                    piece = full.pop() => piece,
                };
                let end = piece.is_none();
                part.extend_from_slice(&piece.unwrap_or_default());
                if end && !part.is_empty() && !admit.is_closed() {
                    part.push(b'\n');
                }
                let whole =
                    if part.len() >= limits::FRAME_BYTES_MAX && whole_frames(&part) == 0 { part.len() } else { whole_frames(&part) };
                if whole > 0 {
                    let rest = part.split_off(whole);
                    let bytes = std::mem::replace(&mut part, rest);
                    let kind = if bytes.ends_with(b"\n") { ChunkKind::Lines } else { ChunkKind::Broken("too_long") };
                    let count = (frames(&bytes).count() as u64).max(1);
                    let at = At::Count { origin: origin.clone(), first };
                    first += count;
                    let received = io.clock().now();
                    admit.chunk(&stream, Chunk { slab: Slab::from_bytes(bytes), at, kind, received, own: false, rung: None }).await;
                }
                if end {
                    return Ok(());
                }
            }
        })
    }
}

fn read(full: &Mailbox<Vec<u8>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut bytes = vec![0; limits::SLAB_BYTES];
        match input.read(&mut bytes) {
            Ok(n) if n > 0 => {
                bytes.truncate(n);
                // The shard is behind: wait here, where waiting costs nobody anything.
                while let Err(back) = full.push(bytes) {
                    bytes = back;
                    std::thread::park_timeout(std::time::Duration::from_millis(1));
                }
            }
            _ => {
                full.close();
                return;
            }
        }
    }
}
