//! A thin view over simd-json's tape: values by key, in order, and as their own text.
//!
//! The tape has no offsets, yet numbers and subtrees are passed on as they were written. Two
//! facts give every value its place in the text without a second parse:
//!
//! - simd-json unescapes a string where it stands, so the address of an unescaped string tells
//!   where it began in the frame;
//! - the tape holds exactly one node for each key, scalar and opening bracket, in the order of
//!   the text, so the *n*-th node after a known place is the *n*-th token after it.
//!
//! So a value's place is found from the nearest string before it, and the last place found is
//! kept: reading a document in order stays linear, whatever it is made of.

use std::{borrow::Cow, cell::Cell, cmp::Ordering, fmt};

use simd_json::{StaticNode, Tape, tape::Node as TapeNode};

use crate::json;

/// A parsed frame.
pub(super) struct Doc<'a> {
    tape: Tape<'a>,
    /// Address of the copy that was parsed.
    base: usize,
    /// The bytes as read, or as mended; as long as the copy and equal to it outside of strings.
    text: &'a [u8],
    /// True if the copy had to be mended: numbers in it are no numbers of the text.
    is_mended: bool,
    /// A node and the place of its token, the last that was asked for.
    seen: Cell<(u32, u32)>,
}

impl<'a> Doc<'a> {
    pub(super) fn new(tape: Tape<'a>, base: usize, text: &'a [u8], is_mended: bool) -> Self {
        let first = skip_blanks(text, 0);
        Self { tape, base, text, is_mended, seen: Cell::new((0, narrow(first))) }
    }
    pub(super) fn root(&self) -> Node<'_> {
        Node { doc: self, at: 0 }
    }
    pub(super) fn into_tape(self) -> Tape<'a> {
        self.tape
    }

    fn node(&self, at: u32) -> TapeNode<'a> {
        self.tape.0.get(at as usize).copied().unwrap_or(TapeNode::Static(StaticNode::Null))
    }

    /// The node after this one and all that it contains.
    fn after(&self, at: u32) -> u32 {
        match self.node(at) {
            TapeNode::Object { count, .. } | TapeNode::Array { count, .. } => at + 1 + narrow(count),
            _ => at + 1,
        }
    }

    /// Where the token of a node begins in the text.
    fn place(&self, at: u32) -> usize {
        let (mut near, mut place) = self.seen.get();
        if near > at {
            (near, place) = (0, narrow(skip_blanks(self.text, 0)));
        }
        let mut back = at;
        while back > near {
            if let TapeNode::String(s) = self.node(back) {
                let offset = (s.as_ptr() as usize).wrapping_sub(self.base).wrapping_sub(1);
                if self.text.get(offset) == Some(&b'"') {
                    (near, place) = (back, narrow(offset));
                    break;
                }
            }
            back -= 1;
        }
        let mut place = place as usize;
        while near < at {
            place = next_token(self.text, place);
            near += 1;
        }
        self.seen.set((at, narrow(place)));
        place
    }
}

impl Doc<'_> {
    /// Where the text of a node ends: behind its last scalar, and as many closing brackets as
    /// are open between the two.
    fn end(&self, of: u32) -> usize {
        let mut at = of;
        let mut open = 0;
        loop {
            let (len, step) = match self.node(at) {
                TapeNode::Object { len, .. } => (len, 1),
                TapeNode::Array { len, .. } => (len, 0),
                _ => break,
            };
            open += 1;
            if len == 0 {
                break;
            }
            let mut last = at + 1 + step;
            for _ in 1..len {
                last = self.after(last) + step;
            }
            at = last;
        }
        let mut end = token_end(self.text, self.place(at));
        for _ in 0..open {
            end = skip_blanks(self.text, end) + 1;
        }
        end.min(self.text.len())
    }
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Null,
    Bool,
    Number,
    String,
    Array,
    Object,
}

/// One value of a parsed frame.
#[derive(Clone, Copy)]
pub struct Node<'t> {
    doc: &'t Doc<'t>,
    at: u32,
}

impl<'t> Node<'t> {
    /// What it is.
    pub fn kind(self) -> Kind {
        match self.doc.node(self.at) {
            TapeNode::String(_) => Kind::String,
            TapeNode::Object { .. } => Kind::Object,
            TapeNode::Array { .. } => Kind::Array,
            TapeNode::Static(StaticNode::Null) => Kind::Null,
            TapeNode::Static(StaticNode::Bool(_)) => Kind::Bool,
            TapeNode::Static(_) => Kind::Number,
        }
    }

    /// True for `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// True for an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// A string's characters, unescaped.
    pub fn as_str(self) -> Option<&'t str> {
        match self.doc.node(self.at) {
            TapeNode::String(s) => Some(s),
            _ => None,
        }
    }

    /// `true` or `false`.
    pub fn as_bool(self) -> Option<bool> {
        match self.doc.node(self.at) {
            TapeNode::Static(StaticNode::Bool(b)) => Some(b),
            _ => None,
        }
    }

    /// A number's own text, digit for digit as it was written.
    pub fn number(self) -> Option<&'t str> {
        (self.kind() == Kind::Number).then(|| std::str::from_utf8(self.raw()).unwrap_or_default())
    }

    /// A number that is whole and fits; also one written in quotes, as the manager does.
    pub fn as_u64(self) -> Option<u64> {
        match self.kind() {
            Kind::Number => self.number()?.parse().ok(),
            Kind::String => self.as_str()?.trim().parse().ok(),
            _ => None,
        }
    }

    /// A number as a double; also one written in quotes. Beyond the range of a double: infinite.
    pub fn as_f64(self) -> Option<f64> {
        match self.doc.node(self.at) {
            TapeNode::Static(StaticNode::F64(x)) if !self.doc.is_mended => Some(x),
            TapeNode::Static(StaticNode::I64(n)) if !self.doc.is_mended => Some(n as f64),
            TapeNode::Static(StaticNode::U64(n)) if !self.doc.is_mended => Some(n as f64),
            TapeNode::Static(StaticNode::Null | StaticNode::Bool(_)) => None,
            TapeNode::Static(_) => self.number()?.parse().ok(),
            TapeNode::String(text) => text.trim().parse().ok().filter(|x: &f64| x.is_finite()),
            _ => None,
        }
    }

    /// The member of that name; of equal names the last. `None` in anything but an object.
    ///
    /// The name is taken as it stands: a dot in it is a dot.
    pub fn get(self, key: &str) -> Option<Node<'t>> {
        let TapeNode::Object { len, .. } = self.doc.node(self.at) else { return None };
        let mut at = self.at + 1;
        let mut found = None;
        for _ in 0..len {
            if let TapeNode::String(name) = self.doc.node(at)
                && name == key
            {
                found = Some(Node { doc: self.doc, at: at + 1 });
            }
            at = self.doc.after(at + 1);
        }
        found
    }

    /// The value at the end of these names.
    pub fn path(self, keys: &[&str]) -> Option<Node<'t>> {
        keys.iter().try_fold(self, |node, key| node.get(key))
    }

    /// Elements of an array or members of an object, counted; 0 for anything else.
    pub fn len(self) -> usize {
        match self.doc.node(self.at) {
            TapeNode::Object { len, .. } | TapeNode::Array { len, .. } => len,
            _ => 0,
        }
    }

    /// True where [`Self::len`] is 0.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// True if no bracket of the value, its own counted, is inside of `max` others.
    pub fn is_within(self, max: usize) -> bool {
        // Where the containers end that hold the node at hand, the innermost last.
        let mut ends: Vec<u32> = Vec::new();
        let end = self.doc.after(self.at);
        if (end - self.at) as usize <= max {
            // So many brackets are not there.
            return true;
        }
        for at in self.at..end {
            while ends.last().is_some_and(|end| *end <= at) {
                ends.pop();
            }
            if matches!(self.doc.node(at), TapeNode::Object { .. } | TapeNode::Array { .. }) {
                if ends.len() >= max {
                    return false;
                }
                ends.push(self.doc.after(at));
            }
        }
        true
    }

    /// The elements of an array, in order; none for anything else.
    pub fn elements(self) -> Elements<'t> {
        let left = if self.kind() == Kind::Array { self.len() } else { 0 };
        Elements { doc: self.doc, at: self.at + 1, left }
    }

    /// The members of an object as they were written, equal names and all; none for anything else.
    pub fn members(self) -> Members<'t> {
        let left = if self.kind() == Kind::Object { self.len() } else { 0 };
        Members { doc: self.doc, at: self.at + 1, left }
    }

    /// The members of an object, each name once: at the place of its first occurrence, with the
    /// value of its last.
    pub fn distinct(self) -> impl Iterator<Item = (&'t str, Node<'t>)> {
        let last = Repeats::of(self);
        self.members().enumerate().filter_map(move |(n, (name, value))| match &last {
            Repeats::None => Some((name, value)),
            Repeats::Some(last) => last.get(n).copied().flatten().map(|at| (name, Node { doc: value.doc, at })),
        })
    }

    /// The bytes that say this value: from the frame, or from its mended copy where it had to be
    /// mended. Always UTF-8.
    pub fn raw(self) -> &'t [u8] {
        let start = self.doc.place(self.at);
        self.doc.text.get(start..self.doc.end(self.at)).unwrap_or_default()
    }

    /// The value as text: a string's characters, a number's own text, `true`, `false`, an array's
    /// or object's JSON (without blanks, non-ASCII as it is), nothing for `null`.
    pub fn text(self) -> Cow<'t, str> {
        match self.kind() {
            Kind::String => Cow::Borrowed(self.as_str().unwrap_or_default()),
            Kind::Null => Cow::Borrowed(""),
            Kind::Array | Kind::Object => {
                let mut out = Vec::new();
                self.write_compact(&mut out);
                Cow::Owned(String::from_utf8(out).unwrap_or_default())
            }
            Kind::Bool | Kind::Number => Cow::Borrowed(std::str::from_utf8(self.raw()).unwrap_or_default()),
        }
    }

    /// Appends the value as JSON: a string with all non-ASCII escaped, anything else as written.
    pub fn write_json(self, out: &mut Vec<u8>) {
        match self.as_str() {
            Some(s) => json::json_str(out, s),
            None => out.extend_from_slice(self.raw()),
        }
    }

    /// Appends the value as JSON without blanks between tokens, strings escaped only where JSON
    /// asks for it, numbers as written.
    pub fn write_compact(self, out: &mut Vec<u8>) {
        let text = self.raw();
        let (mut at, mut place) = (self.at, 0);
        while let Some(&byte) = text.get(place) {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => place += 1,
                b',' | b':' | b'}' | b']' => {
                    out.push(byte);
                    place += 1;
                }
                _ => {
                    let end = token_end(text, place);
                    match self.doc.node(at) {
                        TapeNode::String(s) => json::json_str_plain(out, s),
                        _ => out.extend_from_slice(text.get(place..end).unwrap_or_default()),
                    }
                    at += 1;
                    place = end;
                }
            }
        }
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(self.raw()))
    }
}

/// The elements of an array.
#[derive(Clone)]
pub struct Elements<'t> {
    doc: &'t Doc<'t>,
    at: u32,
    left: usize,
}

impl<'t> Iterator for Elements<'t> {
    type Item = Node<'t>;
    fn next(&mut self) -> Option<Node<'t>> {
        self.left = self.left.checked_sub(1)?;
        let node = Node { doc: self.doc, at: self.at };
        self.at = self.doc.after(self.at);
        Some(node)
    }
}

/// The members of an object.
#[derive(Clone)]
pub struct Members<'t> {
    doc: &'t Doc<'t>,
    at: u32,
    left: usize,
}

impl<'t> Iterator for Members<'t> {
    type Item = (&'t str, Node<'t>);
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let name = match self.doc.node(self.at) {
            TapeNode::String(name) => name,
            _ => "",
        };
        let value = Node { doc: self.doc, at: self.at + 1 };
        self.at = self.doc.after(self.at + 1);
        Some((name, value))
    }
}

/// Which members of an object repeat a name.
enum Repeats {
    /// None does, which is nearly always so.
    None,
    /// For each member the value of the last of its name, or `None` where it is not the first.
    Some(Vec<Option<u32>>),
}

/// Members up to which marks are cheaper than sorting.
const FEW: usize = 64;

impl Repeats {
    fn of(object: Node<'_>) -> Self {
        if object.len() <= FEW {
            // A name is compared with those before it only where its mark was set by one of them.
            let mut marks = [0_u64; 16];
            let mut any = false;
            for (n, (name, _)) in object.members().enumerate() {
                let mark = mark(name);
                let Some(word) = marks.get_mut(mark >> 6) else { continue };
                if *word & 1 << (mark & 63) != 0 {
                    any |= object.members().take(n).any(|(other, _)| other == name);
                }
                *word |= 1 << (mark & 63);
            }
            if !any {
                return Repeats::None;
            }
        }
        let mut order: Vec<(&str, usize, u32)> = object.members().enumerate().map(|(n, (name, value))| (name, n, value.at)).collect();
        order.sort_unstable();
        let mut last = vec![None; order.len()];
        let mut first: Option<(&str, usize)> = None;
        for (name, n, at) in order {
            let head = match first {
                Some((known, head)) if known.cmp(name) == Ordering::Equal => head,
                _ => n,
            };
            first = Some((name, head));
            if let Some(slot) = last.get_mut(head) {
                *slot = Some(at);
            }
        }
        Repeats::Some(last)
    }
}

/// A number below 1024 for a name, different for most names that differ.
fn mark(name: &str) -> usize {
    let bytes = name.as_bytes();
    let byte = |n: usize| bytes.get(n).copied().map_or(0, u32::from);
    let len = bytes.len();
    let mixed = [byte(0), byte(len / 2), byte(len.wrapping_sub(2)), byte(len.wrapping_sub(1))];
    let hash = mixed.iter().fold(narrow(len), |hash, byte| (hash ^ byte).wrapping_mul(0x9e37_79b1).rotate_left(9));
    (hash >> 22) as usize
}

/// The next place that is no blank of JSON.
fn skip_blanks(text: &[u8], from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    from + rest.iter().position(|b| !matches!(b, b' ' | b'\t' | b'\r' | b'\n')).unwrap_or(rest.len())
}

/// The end of the string whose opening quote stands at `from`.
fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from + 1;
    while let Some(n) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += n;
        if text.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// The end of the token at `from`; of a bracket, its own end.
fn token_end(text: &[u8], from: usize) -> usize {
    match text.get(from) {
        Some(b'"') => string_end(text, from),
        Some(b'{' | b'[') => from + 1,
        _ => {
            let rest = text.get(from..).unwrap_or_default();
            let ends = |b: &u8| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n' | b':');
            from + rest.iter().position(ends).unwrap_or(rest.len())
        }
    }
}

/// The token after the one at `from`.
fn next_token(text: &[u8], from: usize) -> usize {
    let at = token_end(text, from);
    let rest = text.get(at..).unwrap_or_default();
    let between = |b: &u8| matches!(b, b',' | b':' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
    at + rest.iter().position(|b| !between(b)).unwrap_or(rest.len())
}

/// Counts of one frame fit 32 bits: simd-json itself takes no longer input.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
