//! Bytes to alert; the only module that names simd-json.
//!
//! A frame is parsed when somebody first asks for its content, and then once, whoever asks
//! again. simd-json's tape is the fast path: it rewrites its input (it unescapes strings in
//! place), so it works on a copy in the [`Parser`]'s own buffers, and the frame stays as it was
//! read. What the tape refuses although a reader of JSON should take it (bad UTF-8, lone
//! surrogate escapes, numbers beyond 64 bits) is mended in one linear pass and parsed again;
//! only what fails then is [`NotJson`].
//!
//! Invariants: nothing here recurses on the depth of the input; every pass is linear in the
//! frame; no input panics. Refuses to know what an alert means: that is the handlers' business.
//!
//! Start at [`Parser::alert`] and [`Node`]; for frames that look broken at [`looks_broken`] and
//! [`salvage`].

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

mod node;
mod repair;
mod salvage;
mod scan;
mod time;

use std::fmt;

pub use node::{Elements, Kind, Members, Node};
pub use salvage::{Form, Piece, looks_broken, salvage, salvage_as};
pub use time::timestamp_ms;

pub use crate::json::{json_body, json_body_plain, json_str, json_str_plain};
use crate::limits;
use node::Doc;

/// The reusable memory of parsing; one per shard.
pub struct Parser {
    buffers: simd_json::Buffers,
    tape: Option<simd_json::Tape<'static>>,
    scratch: Vec<u8>,
    mended: Vec<u8>,
    second: Vec<u8>,
}

impl Parser {
    /// A parser with empty buffers; they grow to the longest frame seen.
    pub fn new() -> Self {
        Self {
            buffers: simd_json::Buffers::with_max_depth(0, limits::JSON_DEPTH_MAX),
            tape: None,
            scratch: Vec::new(),
            mended: Vec::new(),
            second: Vec::new(),
        }
    }

    /// An alert over `frame`, not yet parsed.
    pub fn alert<'p>(&'p mut self, frame: &'p [u8]) -> Alert<'p> {
        let Self { buffers, tape, scratch, mended, second } = self;
        Alert { frame, tape, state: State::Unread(Desk { buffers, scratch, mended, second }), repaired: 0 }
    }
}

impl Default for Parser {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Parser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parser({} bytes)", self.scratch.capacity() + self.mended.capacity() + self.second.capacity())
    }
}

/// A frame that parses on first use.
pub struct Alert<'f> {
    frame: &'f [u8],
    /// Where the tape's memory goes when the alert is dropped.
    tape: &'f mut Option<simd_json::Tape<'static>>,
    state: State<'f>,
    repaired: u32,
}

enum State<'f> {
    Unread(Desk<'f>),
    Read(Doc<'f>),
    Refused(NotJson),
}

/// The parser's buffers, waiting for first use.
struct Desk<'f> {
    buffers: &'f mut simd_json::Buffers,
    scratch: &'f mut Vec<u8>,
    mended: &'f mut Vec<u8>,
    second: &'f mut Vec<u8>,
}

/// A frame is not JSON, not even after mending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not JSON: {what} at byte {at}")]
pub struct NotJson {
    /// What stands in the way.
    pub what: &'static str,
    /// Bytes from the start of the frame (of its mended copy, where bytes were replaced).
    pub at: usize,
}

impl NotJson {
    /// True if it may be JSON, but is nested deeper than [`limits::JSON_DEPTH_MAX`].
    pub fn is_too_deep(&self) -> bool {
        self.what == scan::TOO_DEEP
    }
}

impl<'f> Alert<'f> {
    /// The frame as it was read.
    pub fn frame(&self) -> &'f [u8] {
        self.frame
    }

    /// The topmost value; parses the frame if nobody did yet.
    ///
    /// # Errors
    /// [`NotJson`] if it is no JSON, or is nested deeper than [`limits::JSON_DEPTH_MAX`].
    pub fn root(&mut self) -> Result<Node<'_>, NotJson> {
        if matches!(self.state, State::Unread(_)) {
            // The state is replaced at once, so a panic below would leave a refused alert.
            let unread = std::mem::replace(&mut self.state, State::Refused(NotJson { what: "nothing", at: 0 }));
            if let State::Unread(desk) = unread {
                self.state = self.read(desk);
            }
        }
        match &self.state {
            State::Read(doc) => Ok(doc.root()),
            State::Refused(error) => Err(*error),
            State::Unread(_) => Err(NotJson { what: "nothing", at: 0 }),
        }
    }

    /// Characters that were replaced by U+FFFD so that the frame could be parsed: sequences that
    /// are not UTF-8, and escapes of lone surrogates. 0 before first use.
    pub fn repaired(&self) -> u32 {
        self.repaired
    }

    fn read(&mut self, desk: Desk<'f>) -> State<'f> {
        let Desk { buffers, scratch, mended, second } = desk;
        let mut tape = self.tape.take().unwrap_or_else(simd_json::Tape::null).reset();
        let base = load(scratch, self.frame);
        if simd_json::fill_tape_padded(scratch, self.frame.len(), buffers, &mut tape).is_ok() {
            return State::Read(Doc::new(tape, base, self.frame, false));
        }
        let mut tape = tape.reset();
        match repair::repair(self.frame, mended, second) {
            Ok(replaced) => self.repaired = replaced,
            Err(error) => {
                *self.tape = Some(tape.reset());
                return State::Refused(error);
            }
        }
        let len = second.len();
        second.resize(len + simd_json::INPUT_PADDING, 0);
        let base = second.as_ptr() as usize;
        match simd_json::fill_tape_padded(second, len, buffers, &mut tape) {
            Ok(()) => State::Read(Doc::new(tape, base, mended, true)),
            Err(error) => {
                let at = error.index();
                *self.tape = Some(tape.reset());
                State::Refused(NotJson { what: "a value that the parser refuses", at })
            }
        }
    }
}

/// Copies a frame to where it can be parsed; gives the address of the copy.
fn load(scratch: &mut Vec<u8>, frame: &[u8]) -> usize {
    scratch.clear();
    scratch.extend_from_slice(frame);
    scratch.extend_from_slice(&[0; simd_json::INPUT_PADDING]);
    scratch.as_ptr() as usize
}

impl Drop for Alert<'_> {
    fn drop(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Refused(NotJson { what: "nothing", at: 0 }));
        if let State::Read(doc) = state {
            *self.tape = Some(doc.into_tape().reset());
        }
    }
}

impl fmt::Debug for Alert<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Unread(_) => "unread",
            State::Read(_) => "read",
            State::Refused(_) => "refused",
        };
        write!(f, "Alert({} bytes, {state})", self.frame.len())
    }
}

#[cfg(test)]
mod tests;
