//! Bytes to an event, or why they are none.
//!
//! An event is an object with an object `transaction`. Shippers pack the line of the log into a string of
//! their own: one such string is opened, once.

use super::{
    event::{Event, trimmed},
    mend,
};
use crate::{
    alert::{Alert, Node, NotJson, Parser},
    handlers::Rejection,
    limits,
};

/// Members that may hold a whole event as text, in the order in which they are tried.
const PACKED_IN: [&[&str]; 4] = [&["message"], &["log"], &["event", "original"], &["event.original"]];

/// What libmodsecurity writes when it was built without its JSON library.
const NO_JSON: &str = "ModSecurity was not compiled with JSON support.";

/// Reads events; keeps the memory that needs.
#[derive(Debug, Default)]
pub struct Reader {
    mended: Vec<u8>,
    outer: Parser,
    packed: Vec<u8>,
    inner: Parser,
}

/// How an event was got at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// It stood as text in another object.
    pub is_packed: bool,
    /// The version of HTTP made it no JSON.
    pub is_mended: bool,
    /// Characters that were replaced because they are no UTF-8.
    pub repaired: u32,
}

/// Why bytes are no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooLong {
        bytes: usize,
        max: u64,
    },
    NotJson(NotJson),
    TooDeep,
    NotObject,
    NoTransaction,
    /// The engine cannot write JSON.
    NoJsonSupport,
    /// The engine writes sections.
    NativeFormat,
    /// The engine writes the Open Cybersecurity Schema.
    Ocsf,
}

impl Refusal {
    /// As the dead letter and metrics have it.
    pub fn reason(&self) -> &'static str {
        match self {
            Refusal::TooLong { .. } => "too_long",
            Refusal::NotJson(_) => "not_json",
            Refusal::TooDeep => "too_deep",
            Refusal::NotObject => "not_object",
            Refusal::NoTransaction => "no_transaction",
            Refusal::NoJsonSupport => "no_json_support",
            Refusal::NativeFormat => "native_format",
            Refusal::Ocsf => "ocsf",
        }
    }

    /// True if the bytes may well be sound, and something else than an event.
    pub fn is_foreign(&self) -> bool {
        !matches!(self, Refusal::TooLong { .. } | Refusal::NotJson(_) | Refusal::TooDeep)
    }
}

impl From<Refusal> for Rejection {
    fn from(refusal: Refusal) -> Self {
        let detail = match &refusal {
            Refusal::TooLong { bytes, max } => {
                format!("{bytes} bytes, {max} are read; raise max_bytes, or keep bodies (parts E and I of SecAuditLogParts) out of the log")
            }
            Refusal::NotJson(error) => error.to_string(),
            Refusal::TooDeep => format!("brackets inside each other deeper than {}; no engine writes that", limits::WAF_DEPTH_MAX),
            Refusal::NotObject => "is JSON but no object; an event is an object with an object \"transaction\"".into(),
            Refusal::NoTransaction => {
                "has no object \"transaction\", nor has a text in message, log or event.original; name a source of audit events".into()
            }
            Refusal::NoJsonSupport => {
                "this ModSecurity cannot write JSON; install one that is built with YAJL, or its package from elsewhere".into()
            }
            Refusal::NativeFormat => "is the sectioned audit log; set SecAuditLogFormat JSON in the engine's configuration".into(),
            Refusal::Ocsf => "is Coraza's OCSF; set SecAuditLogFormat JSON in its configuration".into(),
        };
        Rejection { reason: refusal.reason(), detail }
    }
}

impl Reader {
    /// Reads one event and hands it on.
    ///
    /// - `max`: bytes of a line.
    ///
    /// # Errors
    /// Why it is none.
    pub fn read<R>(&mut self, alert: &mut Alert<'_>, max: u64, then: impl FnOnce(&Event<'_>, How) -> R) -> Result<R, Refusal> {
        let Self { mended, outer, packed, inner } = self;
        let frame = alert.frame();
        if frame.len() as u64 > max {
            return Err(Refusal::TooLong { bytes: frame.len(), max });
        }
        // Asked for first, as it needs the alert itself.
        let refusal = match alert.root().map_err(Refusal::NotJson).and_then(shallow) {
            Ok(_) => {
                let repaired = alert.repaired();
                let root = alert.root().map_err(Refusal::NotJson)?;
                return open(root, How { repaired, ..How::default() }, packed, inner, then);
            }
            Err(refusal) => refusal,
        };
        if is_native(frame) {
            return Err(Refusal::NativeFormat);
        }
        for end in mend::ENDS {
            if !mend::mend(frame, end, mended) {
                break;
            }
            let mut alert = outer.alert(mended);
            if alert.root().is_ok_and(|root| shallow(root).is_ok()) {
                let repaired = alert.repaired();
                let root = alert.root().map_err(Refusal::NotJson)?;
                return open(root, How { repaired, is_mended: true, is_packed: false }, packed, inner, then);
            }
        }
        Err(refusal)
    }
}

impl Reader {
    /// True for a line that is no JSON, and becomes JSON without its version of HTTP.
    pub fn can_mend(&mut self, frame: &[u8]) -> bool {
        let Self { mended, outer, .. } = self;
        mend::ENDS.into_iter().any(|end| mend::mend(frame, end, mended) && outer.alert(mended).root().is_ok())
    }
}

fn shallow(root: Node<'_>) -> Result<Node<'_>, Refusal> {
    if root.is_within(limits::WAF_DEPTH_MAX) { Ok(root) } else { Err(Refusal::TooDeep) }
}

/// Hands on the event that `root` is or holds.
fn open<R>(
    root: Node<'_>,
    how: How,
    packed: &mut Vec<u8>,
    parser: &mut Parser,
    then: impl FnOnce(&Event<'_>, How) -> R,
) -> Result<R, Refusal> {
    if !root.is_object() {
        return Err(Refusal::NotObject);
    }
    let beside = root.get("classification").filter(|node| node.is_object());
    if let Some(event) = Event::of(root, None) {
        return Ok(then(&event, how));
    }
    for path in PACKED_IN {
        let Some(text) = root.path(path).and_then(Node::as_str).map(trimmed).filter(|text| text.starts_with('{')) else { continue };
        let mut alert = parser.alert(text.as_bytes());
        if alert.root().is_ok_and(|root| shallow(root).is_ok()) {
            let root = alert.root().map_err(Refusal::NotJson)?;
            if let Some(event) = Event::of(root, beside) {
                return Ok(then(&event, How { is_packed: true, ..how }));
            }
            continue;
        }
        drop(alert);
        for end in mend::ENDS {
            if !mend::mend(text.as_bytes(), end, packed) {
                break;
            }
            let mut alert = parser.alert(packed);
            if alert.root().is_ok_and(|root| shallow(root).is_ok())
                && let Some(event) = Event::of(alert.root().map_err(Refusal::NotJson)?, beside)
            {
                return Ok(then(&event, How { is_packed: true, is_mended: true, ..how }));
            }
        }
    }
    Err(foreign(root))
}

/// What an object without a transaction is.
fn foreign(root: Node<'_>) -> Refusal {
    if root.get("error").and_then(Node::as_str) == Some(NO_JSON) {
        return Refusal::NoJsonSupport;
    }
    if ["class_uid", "category_uid", "metadata"].iter().all(|key| root.get(key).is_some()) {
        return Refusal::Ocsf;
    }
    Refusal::NoTransaction
}

/// True for the first line of a sectioned entry: `--a1b2c3d4-A--`.
pub fn is_native(frame: &[u8]) -> bool {
    let Some((id, section)) = frame.trim_ascii().strip_prefix(b"--").and_then(|rest| rest.split_at_checked(8)) else { return false };
    id.iter().all(u8::is_ascii_alphanumeric) && matches!(section, [b'-', b'A'..=b'Z', b'-', b'-'])
}
