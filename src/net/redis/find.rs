//! Which server it is: the primary that sentinels name, or the node of a cluster that has a slot.
//!
//! Asked anew for every connection, so whoever connects again after a failure is where the primary is now. A
//! cluster is spoken to by way of one node: all keys of a caller are in one slot, by their hash tag, and when that
//! moves the node says so (`MOVED`).

use super::{
    Place, Settings,
    commands::{Answer, Command, Connection, NoAnswer},
};

/// Slots of a cluster: Redis Cluster specification, *Key distribution model*.
const SLOTS: u16 = 16_384;

/// The slot of a key that is hashed whole, or of its hash tag.
pub fn slot_of(tag: &[u8]) -> u16 {
    // CRC16 of XMODEM (polynomial 0x1021, from 0), as the specification's appendix A has it.
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 })
    });
    crc % SLOTS
}

/// A connection to the server that others name, and how it is reached; `None` where the settings name it themselves.
///
/// # Errors
/// Why none is to be had: what the last of them said that was asked, or that it is wrong.
pub(super) async fn server(settings: &Settings) -> Result<Option<(Connection, Settings)>, NoAnswer> {
    let hosts = match &settings.place {
        Place::Tcp { .. } | Place::Tls { .. } | Place::Unix(_) => return Ok(None),
        Place::Sentinel { sentinels, .. } => sentinels,
        Place::Cluster { nodes, .. } => nodes,
    };
    let mut last = NoAnswer::Away("nobody is there to be asked".into());
    for (host, port) in &hosts.all {
        let asked = Settings { place: hosts.place(host, *port), ..settings.clone() };
        let found = match &settings.place {
            Place::Sentinel { primary, user, password_file, .. } => {
                let (user, password_file) = (user.clone(), password_file.clone());
                primary_of(&Settings { user, password_file, db: 0, ..asked }, primary).await
            }
            Place::Cluster { slot, .. } => node_of(&asked, *slot).await,
            _ => return Ok(None),
        };
        let (host, port) = match found {
            Ok(found) => found,
            Err(why) => {
                last = why;
                continue;
            }
        };
        let named = Settings { place: hosts.place(&host, port), ..settings.clone() };
        match connect(&named, matches!(settings.place, Place::Sentinel { .. })).await {
            Ok(connection) => return Ok(Some((connection, named))),
            Err(why) => last = why,
        }
    }
    Err(last)
}

/// Connects to the server that was named. A primary that sentinels name may have been one a moment ago only.
async fn connect(named: &Settings, must_lead: bool) -> Result<Connection, NoAnswer> {
    let of = |why| about(&named.place, why);
    let mut connection = Connection::direct(named).await.map_err(of)?;
    if must_lead {
        // Whoever may write need not be allowed to ask; a replica refuses to write all the same.
        let role = one(&mut connection, &[b"ROLE"]).await.map_err(of)?;
        if let Some(role) = role.parts().first().and_then(Answer::text)
            && role != "master"
        {
            return Err(NoAnswer::Away(format!("{} is named as the primary, and is a {role}", named.place)));
        }
    }
    Ok(connection)
}

/// Where a sentinel says that the primary is.
async fn primary_of(sentinel: &Settings, name: &str) -> Result<(String, u16), NoAnswer> {
    let of = |why| about(&sentinel.place, why);
    let mut connection = Connection::direct(sentinel).await.map_err(of)?;
    let answer = one(&mut connection, &[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", name.as_bytes()]).await.map_err(of)?;
    match answer.parts() {
        [host, port] => address(host, port),
        _ => None,
    }
    .ok_or_else(|| NoAnswer::Away(format!("sentinel {} knows no primary of the name {name}", sentinel.place)))
}

/// Where a node says that the slot is.
async fn node_of(node: &Settings, slot: u16) -> Result<(String, u16), NoAnswer> {
    let of = |why| about(&node.place, why);
    let mut connection = Connection::direct(node).await.map_err(of)?;
    let answer = one(&mut connection, &[b"CLUSTER", b"SLOTS"]).await.map_err(of)?;
    let asked = match &node.place {
        Place::Tcp { host, .. } | Place::Tls { host, .. } => host.as_str(),
        _ => "",
    };
    has_slot(answer.parts(), slot, asked).ok_or_else(|| NoAnswer::Away(format!("{} knows no node that has slot {slot}", node.place)))
}

/// The primary of the range that holds the slot.
///
/// - `ranges`: of `CLUSTER SLOTS`: first and last slot, then nodes with host and port, the primary first.
/// - `asked`: host of the node that was asked: an empty or unknown host is its own.
fn has_slot(ranges: &[Answer], slot: u16, asked: &str) -> Option<(String, u16)> {
    let is_in = |range: &&Answer| match range.parts() {
        [Answer::Number(first), Answer::Number(last), ..] => (*first..=*last).contains(&i64::from(slot)),
        _ => false,
    };
    let primary = ranges.iter().find(is_in)?.parts().get(2)?;
    match primary.parts() {
        [Answer::Nil, port, ..] => address(&Answer::Text(asked.to_owned()), port),
        [Answer::Text(host), port, ..] if host.is_empty() || host == "?" => address(&Answer::Text(asked.to_owned()), port),
        [host, port, ..] => address(host, port),
        _ => None,
    }
}

fn address(host: &Answer, port: &Answer) -> Option<(String, u16)> {
    let port = match port {
        Answer::Number(port) => u16::try_from(*port).ok()?,
        Answer::Text(port) => port.parse().ok()?,
        _ => return None,
    };
    Some((host.text()?.to_owned(), port))
}

/// One command; what is said against it is an answer that tells nothing.
async fn one(connection: &mut Connection, words: &[&[u8]]) -> Result<Answer, NoAnswer> {
    let answers = connection.send(&[Command::of(words)]).await?;
    match answers.into_iter().next() {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(refusal)) if ["NOAUTH", "WRONGPASS"].contains(&refusal.code.as_str()) => Err(NoAnswer::Refused(refusal)),
        Some(Err(refusal)) if refusal.text.contains("cluster support disabled") => {
            Err(NoAnswer::Away("it is no cluster; write url as redis://host:6379".into()))
        }
        _ => Ok(Answer::Other),
    }
}

/// Says who it was.
fn about(place: &Place, why: NoAnswer) -> NoAnswer {
    match why {
        NoAnswer::Away(text) => NoAnswer::Away(format!("{place}: {text}")),
        NoAnswer::Refused(mut refusal) => {
            refusal.text = format!("{place}: {}", refusal.text);
            NoAnswer::Refused(refusal)
        }
        NoAnswer::Settings(text) => NoAnswer::Settings(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        // Appendix A gives the check value; the other two are what `CLUSTER KEYSLOT` of Redis 7 says.
        assert_eq!(slot_of(b"123456789"), 0x31C3);
        assert_eq!((slot_of(b""), slot_of(b"foo"), slot_of(b"hello")), (0, 12_182, 866));
    }

    #[test]
    fn the_node_is_the_primary_of_the_range() {
        let text = |text: &str| Answer::Text(text.into());
        let node = |host: Answer, port| Answer::List(vec![host, Answer::Number(port), text("id"), Answer::List(Vec::new())]);
        let range = |first, last, nodes: Vec<Answer>| Answer::List([vec![Answer::Number(first), Answer::Number(last)], nodes].concat());
        let ranges = [
            range(0, 99, vec![node(text("a"), 1), node(text("b"), 2)]),
            range(100, 199, vec![node(Answer::Nil, 3)]),
            range(200, 299, vec![node(text(""), 4)]),
            range(300, 399, vec![]),
            Answer::Other,
        ];
        let of = |slot| has_slot(&ranges, slot, "asked");
        assert_eq!([of(0), of(99)], [Some(("a".into(), 1)), Some(("a".into(), 1))]);
        assert_eq!([of(100), of(299)], [Some(("asked".into(), 3)), Some(("asked".into(), 4))]);
        assert_eq!([of(300), of(16_383)], [None, None]);
    }
}
