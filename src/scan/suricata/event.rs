//! One event of `eve.json`: an alert, or a file.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::scan::lines::instant;

/// Bytes of a text that is kept of an event.
const TEXT_BYTES: usize = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Alert,
    #[serde(rename = "fileinfo")]
    FileInfo,
}

/// What is kept of an event; payloads and packets are not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    #[serde(rename = "event_type")]
    pub kind: Kind,
    /// As it was written.
    pub timestamp: String,
    /// Nanoseconds since 1970.
    #[serde(skip)]
    pub at: i64,
    pub flow_id: u64,
    pub tx_id: Option<u64>,
    pub src_ip: Option<IpAddr>,
    pub src_port: Option<u16>,
    pub dest_ip: Option<IpAddr>,
    pub dest_port: Option<u16>,
    pub proto: String,
    pub community_id: Option<String>,
    pub gid: Option<u64>,
    pub signature_id: Option<u64>,
    pub signature: Option<String>,
    pub category: Option<String>,
    /// 1 is the gravest.
    pub severity: Option<u64>,
    /// What was done: allowed or blocked.
    pub action: Option<String>,
    pub filename: Option<String>,
    /// In hex, lower case.
    pub sha256: Option<String>,
    pub md5: Option<String>,
}

impl Event {
    /// Both ends, where there are ports.
    pub(super) fn flow(&self) -> Option<(SocketAddr, SocketAddr)> {
        Some((SocketAddr::new(self.src_ip?, self.src_port?), SocketAddr::new(self.dest_ip?, self.dest_port?)))
    }

    pub(super) fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        [self.src_ip, self.dest_ip].into_iter().flatten()
    }

    /// The same for an event that is written twice.
    pub(super) fn key(&self) -> String {
        let tx = self.tx_id.map_or_else(|| "-".to_owned(), |tx| tx.to_string());
        match self.kind {
            Kind::Alert => format!("{}/{tx}/{}:{}", self.flow_id, self.gid.unwrap_or(0), self.signature_id.unwrap_or(0)),
            Kind::FileInfo => format!("{}/{tx}/{}", self.flow_id, self.sha256.as_deref().or(self.md5.as_deref()).unwrap_or("file")),
        }
    }
}

/// An event without a time, or with nothing that could relate it to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoUse;

/// `None` for an event of another kind.
pub(super) fn read(object: &Map<String, Value>) -> Result<Option<Event>, NoUse> {
    let kind = match object.get("event_type").and_then(Value::as_str) {
        Some("alert") => Kind::Alert,
        Some("fileinfo") => Kind::FileInfo,
        Some(_) => return Ok(None),
        None => return Err(NoUse),
    };
    let nothing = Map::new();
    let part = |name: &str| object.get(name).and_then(Value::as_object).unwrap_or(&nothing);
    let (alert, file) = (part("alert"), part("fileinfo"));
    let timestamp = text(object, "timestamp").ok_or(NoUse)?;
    let host = |name: &str| Some(object.get(name)?.as_str()?.parse::<IpAddr>().ok()?.to_canonical());
    let port = |name: &str| number(object, name).and_then(|port| u16::try_from(port).ok());
    let event = Event {
        at: instant(&timestamp).ok_or(NoUse)?,
        kind,
        timestamp,
        flow_id: number(object, "flow_id").unwrap_or(0),
        tx_id: number(object, "tx_id").or_else(|| number(file, "tx_id")),
        src_ip: host("src_ip"),
        src_port: port("src_port"),
        dest_ip: host("dest_ip"),
        dest_port: port("dest_port"),
        proto: text(object, "proto").unwrap_or_default(),
        community_id: text(object, "community_id"),
        gid: number(alert, "gid"),
        signature_id: number(alert, "signature_id"),
        signature: text(alert, "signature"),
        category: text(alert, "category").filter(|category| !category.is_empty()),
        severity: number(alert, "severity"),
        action: text(alert, "action"),
        filename: text(file, "filename"),
        sha256: digest(file, "sha256", 64),
        md5: digest(file, "md5", 32),
    };
    let relates = event.hosts().next().is_some() || event.sha256.is_some() || event.md5.is_some() || event.community_id.is_some();
    if relates { Ok(Some(event)) } else { Err(NoUse) }
}

/// Also where it is written as text.
fn number(object: &Map<String, Value>, name: &str) -> Option<u64> {
    let value = object.get(name)?;
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    let text = object.get(name)?.as_str()?;
    Some(text.get(..text.floor_char_boundary(TEXT_BYTES)).unwrap_or_default().to_owned())
}

fn digest(object: &Map<String, Value>, name: &str, digits: usize) -> Option<String> {
    let text = object.get(name)?.as_str()?;
    (text.len() == digits && text.bytes().all(|digit| digit.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}
