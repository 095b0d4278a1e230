//! A fail2ban alert as a line of syslog in JSON.
//!
//! The receivers call it RFC 5424 and parse `<PRI> 1 TEXT`: a blank behind the priority, and
//! neither time, host nor process behind the version. So that is what is written, byte for byte;
//! `syslog = "rfc5424"` writes what the standard says.

use std::{borrow::Cow, fmt::Write};

use super::{Ban, Common, text, write_or_null};
use crate::alert::{Node, json_body, json_str};

/// Severities by the word that fail2ban uses; any other word is 6, informational.
const SEVERITIES: &[(&str, u8)] = &[("NOTICE", 5), ("WARNING", 4), ("ERROR", 3)];
/// Facility 4 (security), as part of a priority.
const FACILITY: u8 = 4 << 3;
/// What a site's own rsyslog puts before a line; it is not shipped.
const SITE_PREFIX: &str = "fail2ban: ";

/// Appends the message.
pub(super) fn write(w: &mut Vec<u8>, common: &Common<'_>, ban: &Ban<'_>, rfc5424: bool) {
    let word = text(ban.data.get("severity"));
    let severity = SEVERITIES.iter().find(|(name, _)| *name == word).map_or(6, |(_, n)| *n);
    let priority = FACILITY + severity;
    let log = text(ban.root.get("full_log"));
    let log = log.strip_prefix(SITE_PREFIX).unwrap_or(&log);
    let pid = ban.data.get("pid");

    // A short text of digits and names: the only thing here that is built before it is written.
    let mut head = String::with_capacity(16);
    let _ = if rfc5424 { header(&mut head, priority, common, ban.program, pid) } else { write!(head, "<{priority}> 1 ") };

    w.extend_from_slice(b"{\"timestamp\": ");
    write_or_null(w, common.timestamp);
    w.extend_from_slice(
        b", \"event_format\": \"syslog5424-json\", \"event_forward\": true, \"event_parser\": \"wazuh\", \"event_source\": \"soc-agent\", \
          \"hostName\": ",
    );
    match common.agent_name {
        Some(name) => name.write_json(w),
        None => w.extend_from_slice(b"\"\""),
    }
    w.extend_from_slice(b", \"structuredData\": \"\", \"body\": \"");
    body(w, &head, log, &word);
    w.extend_from_slice(b"\", \"appName\": ");
    json_str(w, ban.program);
    w.extend_from_slice(b", \"appInst\": ");
    json_str(w, ban.program);
    if let Some(pid) = pid {
        w.extend_from_slice(b", \"procId\": ");
        pid.write_json(w);
    }
    w.extend_from_slice(b", \"facility\": \"4\", \"priority\": ");
    number(w, priority);
    w.extend_from_slice(b", \"severity\": ");
    number(w, severity);
    w.extend_from_slice(b", \"event_raw\": \"");
    json_body(w, &head);
    json_body(w, log);
    w.extend_from_slice(b"\"}");
}

/// Appends the text from the first occurrence of the severity's word on, or all of it.
fn body(w: &mut Vec<u8>, head: &str, log: &str, word: &str) {
    // The word may lie in the head (a digit of the priority) or across its end, which is short.
    let seam: String = head.chars().chain(log.chars().take(word.chars().count())).collect();
    let in_head = if word.is_empty() { Some(0) } else { seam.find(word).filter(|at| *at < head.len()) };
    match (in_head, log.find(word)) {
        (Some(at), _) => {
            json_body(w, head.get(at..).unwrap_or_default());
            json_body(w, log);
        }
        (None, Some(at)) => json_body(w, log.get(at..).unwrap_or_default()),
        (None, None) => {
            json_body(w, head);
            json_body(w, log);
        }
    }
}

fn number(w: &mut Vec<u8>, n: u8) {
    if n >= 10 {
        w.push(b'0' + n / 10);
    }
    w.push(b'0' + n % 10);
}

/// RFC 5424 §6: `HEADER SP STRUCTURED-DATA SP`, and MSG follows.
fn header(head: &mut String, priority: u8, common: &Common<'_>, program: &str, pid: Option<Node<'_>>) -> std::fmt::Result {
    let stamp = text(common.timestamp);
    let (host, pid) = (text(common.agent_name), text(pid));
    write!(
        head,
        "<{priority}>1 {} {} {} {} - - ",
        time(&stamp).as_deref().unwrap_or("-"),
        printable(&host, 255),
        printable(program, 48),
        printable(&pid, 128)
    )
}

/// RFC 5424 §6.2.3: as RFC 3339, so with a colon in the zone, and with six decimals at most.
fn time(stamp: &str) -> Option<String> {
    crate::alert::timestamp_ms(stamp)?;
    let (clock, zone) = match stamp.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, "Z".into()),
        None => {
            let (clock, zone) = stamp.split_at_checked(stamp.rfind(['+', '-'])?)?;
            let digits: String = zone.chars().filter(|c| *c != ':').collect();
            let (hours, minutes) = digits.split_at_checked(3)?;
            (clock, format!("{hours}:{minutes}"))
        }
    };
    let (date, rest) = clock.split_at_checked(10)?;
    let clock = rest.get(1..)?;
    Some(format!("{date}T{}{zone}", clock.get(..clock.len().min(15))?))
}

/// RFC 5424 §6.2.4 to 6.2.6: printable ASCII without blanks, of limited length, `-` for nothing.
fn printable(text: &str, max: usize) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("-");
    }
    if text.len() <= max && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(max).map(|c| if c.is_ascii_graphic() { c } else { '_' }).collect())
}
