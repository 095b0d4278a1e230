//! Who asked, where proxies stand between.

use std::net::{IpAddr, SocketAddr};

use super::event::Event;
use crate::tables::networks::Networks;

/// The client of an event and its address, if that is one.
///
/// - `proxies`: whose word is taken; `None` takes the address that the server saw.
///
/// Of `X-Forwarded-For` only what trusted proxies wrote is believed: it is read from the right, up to the first
/// address that is none of theirs. What stands to the left of it the client may have made up.
pub fn of<'t>(event: &Event<'t>, proxies: Option<&Networks>) -> (&'t str, Option<IpAddr>) {
    let seen = (event.client, event.client.parse::<IpAddr>().ok());
    let (Some(proxies), (_, Some(mut address))) = (proxies, seen) else { return seen };
    let mut client = seen;
    let is_trusted = |address: IpAddr| proxies.around(address).next().is_some();
    for value in event.header("x-forwarded-for").rev() {
        for entry in value.rsplit(',') {
            if !is_trusted(address) {
                return client;
            }
            // What is no address was not written by one of ours.
            let Some((text, next)) = entry_of(entry.trim()) else { return client };
            (client, address) = ((text, Some(next)), next);
        }
    }
    client
}

/// An address, with or without a port.
fn entry_of(entry: &str) -> Option<(&str, IpAddr)> {
    if let Ok(address) = entry.parse::<IpAddr>() {
        return Some((entry, address));
    }
    let address = entry.parse::<SocketAddr>().map(|with_port| with_port.ip()).ok();
    let bare = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')).or_else(|| entry.rsplit_once(':'));
    match (address, bare) {
        (Some(address), Some((text, _))) => Some((text, address)),
        (None, Some((text, ""))) => Some((text, text.parse().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests state what must hold")]
mod tests {
    use super::*;
    use crate::{alert::Parser, tables::networks::parse};

    fn client(headers: &str, peer: &str, trusts: bool) -> (String, bool) {
        let proxies = Networks::build(["10.0.0.0/8", "2001:db8::/32"].map(|net| (parse(net).unwrap(), 0)));
        let text = format!("{{\"transaction\":{{\"client_ip\":\"{peer}\",\"request\":{{\"headers\":{headers}}}}}}}");
        let mut parser = Parser::new();
        let mut alert = parser.alert(text.as_bytes());
        let event = Event::of(alert.root().unwrap(), None).unwrap();
        let (text, address) = of(&event, trusts.then_some(&proxies));
        (text.to_owned(), address.is_some())
    }

    #[test]
    fn only_the_word_of_trusted_proxies_is_taken() {
        for (value, peer, expected) in [
            ("203.0.113.9", "10.0.0.1", "203.0.113.9"),
            ("203.0.113.9", "198.51.100.1", "198.51.100.1"),
            ("1.1.1.1, 203.0.113.9", "10.0.0.1", "203.0.113.9"),
            ("1.1.1.1, 203.0.113.9, 10.9.9.9", "10.0.0.1", "203.0.113.9"),
            ("1.1.1.1, evil, 10.9.9.9", "10.0.0.1", "10.9.9.9"),
            ("10.1.1.1,10.2.2.2", "10.0.0.1", "10.1.1.1"),
            ("203.0.113.9:4711", "10.0.0.1", "203.0.113.9"),
            ("[2001:db9::7]:4711", "2001:db8::1", "2001:db9::7"),
            ("[2001:db9::7]", "10.0.0.1", "2001:db9::7"),
            ("", "10.0.0.1", "10.0.0.1"),
        ] {
            let text = format!("{{\"X-Forwarded-For\":\"{value}\"}}");
            assert_eq!(client(&text, peer, true), (expected.to_owned(), true), "{value} by {peer}");
            assert_eq!(client(&text, peer, false).0, peer);
        }
        let twice = r#"{"x-forwarded-for":"203.0.113.9","X-FORWARDED-FOR":"10.3.3.3"}"#;
        assert_eq!(client(twice, "10.0.0.1", true).0, "203.0.113.9");
        assert_eq!(client(r#"{"x-forwarded-for":["9.9.9.9","203.0.113.9"]}"#, "10.0.0.1", true).0, "203.0.113.9");
        assert_eq!(client(r#"{"x-forwarded-for":"9.9.9.9"}"#, "unix:", true), ("unix:".to_owned(), false));
    }
}
