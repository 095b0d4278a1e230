//! One row of `files.log`, out of TSV by its `#fields`, or of JSON.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use crate::scan::lines::{instant, objects};

/// Bytes of a text that is kept of a row: it comes from the network.
const TEXT_BYTES: usize = 1024;
/// Bytes of an id: Zeek's have 18.
const ID_BYTES: usize = 64;

/// One of the connections that carried a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub uid: String,
    /// Who opened it. Before Zeek 5.1 no row tells.
    pub orig: Option<SocketAddr>,
    pub resp: Option<SocketAddr>,
}

/// What one row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub fuid: String,
    /// One; before Zeek 5.1 any number, and none for a file that was read from a disk.
    pub connections: Vec<Connection>,
    /// Addresses, senders first.
    pub hosts: Vec<IpAddr>,
    pub sender: String,
    pub receiver: String,
    /// When its first byte was seen, and its last; nanoseconds since 1970.
    pub span: Option<(i64, i64)>,
    pub source: String,
    pub mime_type: String,
    pub filename: String,
    /// The file's name below the folder into which Zeek extracts, or its path; never one that leads upwards.
    pub extracted: Option<Vec<u8>>,
    pub has_cutoff: bool,
    pub has_missing_bytes: bool,
    pub has_timed_out: bool,
}

/// What the comments of a TSV log say of its rows.
#[derive(Clone, Debug)]
pub(super) struct Header {
    separator: u8,
    set_separator: u8,
    empty: Vec<u8>,
    unset: Vec<u8>,
    /// Empty until a `#fields` was seen.
    fields: Vec<Vec<u8>>,
}

impl Default for Header {
    fn default() -> Self {
        Self { separator: b'\t', set_separator: b',', empty: b"(empty)".into(), unset: b"-".into(), fields: Vec::new() }
    }
}

impl Header {
    fn take(&mut self, line: &[u8]) {
        // The separator itself is told with a space, and escaped.
        if let Some(separator) = line.strip_prefix(b"#separator ") {
            if let [separator] = unescaped(separator)[..] {
                *self = Self { separator, ..Self::default() };
            }
            return;
        }
        let mut words = line.split(|byte| *byte == self.separator);
        let (name, mut rest) = (words.next().unwrap_or_default(), words);
        match name {
            b"#fields" => self.fields = rest.map(<[u8]>::to_vec).collect(),
            b"#set_separator" => self.set_separator = rest.next_back().and_then(|word| word.first().copied()).unwrap_or(b','),
            b"#empty_field" => self.empty = rest.next_back().unwrap_or_default().to_vec(),
            b"#unset_field" => self.unset = rest.next_back().unwrap_or_default().to_vec(),
            _ => {}
        }
    }
}

/// The rows of a line, and whether all of it was read. JSON may be glued.
pub(super) fn rows(header: &mut Header, line: &[u8]) -> (Vec<Row>, bool) {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.starts_with(b"#") {
        header.take(line);
        return (Vec::new(), true);
    }
    let start = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    if start.is_empty() {
        return (Vec::new(), true);
    }
    if start.starts_with(b"{") || header.fields.is_empty() {
        let (objects, is_whole) = objects(line);
        let is_ours = |object: &&Map<_, _>| object.get("_path").is_none_or(|path| path == "files");
        let ours: Vec<_> = objects.iter().filter(is_ours).collect();
        let rows: Vec<Row> = ours.iter().filter_map(|object| row(*object)).collect();
        let is_whole = is_whole && rows.len() == ours.len();
        return (rows, is_whole);
    }
    let cells: Vec<&[u8]> = line.split(|byte| *byte == header.separator).collect();
    if cells.len() != header.fields.len() {
        return (Vec::new(), false);
    }
    let row = row(&Tsv { header, cells });
    let is_whole = row.is_some();
    (row.into_iter().collect(), is_whole)
}

/// Named values of a row; unset ones are `None`.
trait Cells {
    fn text(&self, name: &str) -> Option<Vec<u8>>;
    fn list(&self, name: &str) -> Vec<String>;
    fn flag(&self, name: &str) -> Option<bool>;
    fn count(&self, name: &str) -> Option<u64>;
    /// Seconds, as nanoseconds.
    fn time(&self, name: &str) -> Option<i64>;
}

struct Tsv<'l> {
    header: &'l Header,
    cells: Vec<&'l [u8]>,
}

impl Tsv<'_> {
    fn raw(&self, name: &str) -> Option<&[u8]> {
        let at = self.header.fields.iter().position(|field| field == name.as_bytes())?;
        self.cells.get(at).copied().filter(|cell| *cell != self.header.unset)
    }
    fn str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.raw(name)?).ok()
    }
}

impl Cells for Tsv<'_> {
    fn text(&self, name: &str) -> Option<Vec<u8>> {
        let raw = self.raw(name)?;
        Some(if raw == self.header.empty { Vec::new() } else { unescaped(raw) })
    }
    fn list(&self, name: &str) -> Vec<String> {
        let all = self.raw(name).filter(|raw| *raw != self.header.empty);
        let one = |raw| String::from_utf8_lossy(&unescaped(raw)).into_owned();
        all.into_iter().flat_map(|all| all.split(|byte| *byte == self.header.set_separator)).map(one).collect()
    }
    fn flag(&self, name: &str) -> Option<bool> {
        match self.raw(name)? {
            b"T" => Some(true),
            b"F" => Some(false),
            _ => None,
        }
    }
    fn count(&self, name: &str) -> Option<u64> {
        self.str(name)?.parse().ok()
    }
    fn time(&self, name: &str) -> Option<i64> {
        let text = self.str(name)?;
        decimal(text).or_else(|| instant(text))
    }
}

impl Cells for Map<String, Value> {
    fn text(&self, name: &str) -> Option<Vec<u8>> {
        Some(self.get(name)?.as_str()?.as_bytes().to_vec())
    }
    fn list(&self, name: &str) -> Vec<String> {
        let all = self.get(name).and_then(Value::as_array).into_iter().flatten();
        all.filter_map(|value| Some(value.as_str()?.to_owned())).collect()
    }
    fn flag(&self, name: &str) -> Option<bool> {
        self.get(name)?.as_bool()
    }
    fn count(&self, name: &str) -> Option<u64> {
        self.get(name)?.as_u64()
    }
    fn time(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            // Microseconds are what Zeek keeps, and what a double holds of this century.
            Value::Number(seconds) => {
                let micros = (seconds.as_f64()? * 1e6).round();
                (micros.abs() < 9e15).then_some(micros as i64 * 1000)
            }
            Value::String(text) => instant(text),
            _ => None,
        }
    }
}

/// `None` without an id that names a file.
fn row(cells: &impl Cells) -> Option<Row> {
    let fuid = id(cells, "fuid")?;
    let address = |name: &str| lossy(cells, name).parse::<IpAddr>().ok();
    let end = |host: &str, port: &str| {
        let port = cells.count(port).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        Some(SocketAddr::new(address(host)?, port))
    };
    let (orig, resp) = (end("id.orig_h", "id.orig_p"), end("id.resp_h", "id.resp_p"));
    let mut connections: Vec<Connection> = id(cells, "uid").map(|uid| Connection { uid, orig, resp }).into_iter().collect();
    let known = |uid: &String| (1..=ID_BYTES).contains(&uid.len());
    connections.extend(cells.list("conn_uids").into_iter().filter(known).map(|uid| Connection { uid, orig: None, resp: None }));
    let (from, to) = if cells.flag("is_orig") == Some(true) { (orig, resp) } else { (resp, orig) };
    let hosts_of = |end: Option<SocketAddr>, name: &str| -> Vec<IpAddr> {
        let listed = cells.list(name);
        end.map(|end| end.ip()).into_iter().chain(listed.iter().filter_map(|host| host.parse().ok())).collect()
    };
    let (senders, receivers) = (hosts_of(from, "tx_hosts"), hosts_of(to, "rx_hosts"));
    let first = |hosts: &[IpAddr]| hosts.first().map(IpAddr::to_string).unwrap_or_default();
    let begin = cells.time("ts");
    let lasts = cells.time("duration").unwrap_or(0).max(0);
    Some(Row {
        sender: first(&senders),
        receiver: first(&receivers),
        hosts: senders.into_iter().chain(receivers).collect(),
        span: begin.map(|begin| (begin, begin.saturating_add(lasts))),
        source: lossy(cells, "source"),
        mime_type: lossy(cells, "mime_type"),
        filename: lossy(cells, "filename"),
        extracted: cells.text("extracted").filter(|name| is_name(name)),
        has_cutoff: cells.flag("extracted_cutoff") == Some(true),
        has_missing_bytes: cells.count("missing_bytes").is_some_and(|bytes| bytes > 0),
        has_timed_out: cells.flag("timedout") == Some(true),
        fuid,
        connections,
    })
}

fn id(cells: &impl Cells, name: &str) -> Option<String> {
    let bytes = cells.text(name)?;
    let is_id = (1..=ID_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_alphanumeric);
    is_id.then(|| String::from_utf8(bytes).ok()).flatten()
}

fn lossy(cells: &impl Cells, name: &str) -> String {
    let mut text = String::from_utf8_lossy(&cells.text(name).unwrap_or_default()).into_owned();
    text.truncate(text.floor_char_boundary(TEXT_BYTES));
    text
}

/// Whether it could be the name of a file below a root.
fn is_name(path: &[u8]) -> bool {
    let is_last = path.last().is_some_and(|byte| *byte != b'/');
    is_last
        && path.len() <= crate::limits::SCAN_PATH_BYTES_MAX
        && !path.contains(&0)
        && !path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// `\xNN` and `\\` taken back.
fn unescaped(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let [first, behind @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        let (byte, behind) = match rest {
            [b'\\', b'x', digits @ ..] => match digits.split_at_checked(2).and_then(|(digits, behind)| Some((hex(digits)?, behind))) {
                Some(found) => found,
                None => (*first, behind),
            },
            [b'\\', b'\\', behind @ ..] => (b'\\', behind),
            _ => (*first, behind),
        };
        out.push(byte);
        rest = behind;
    }
    out
}

/// Seconds with a point as nanoseconds, without a double in between.
fn decimal(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    let mut nanos = 0;
    for n in 0..9 {
        let digit = part.as_bytes().get(n).map_or(Some(0), |digit| (*digit as char).to_digit(10))?;
        nanos = nanos * 10 + i64::from(digit);
    }
    seconds.checked_mul(1_000_000_000)?.checked_add(if whole.starts_with('-') { -nanos } else { nanos })
}
