//! Events of the network: connections, scans, spikes, names that are asked for, a firewall.

use super::{
    draws::Draws,
    event::Event,
    site::{Site, foreign, private},
};

const PORTS: [u32; 12] = [22, 25, 53, 80, 123, 143, 443, 445, 993, 3389, 8080, 8443];
/// Ports of databases.
const DATABASES: [u32; 4] = [1433, 3306, 5432, 27017];

pub(super) const KINDS: [fn(&Site, &mut Draws) -> Event; 5] = [connection, port_scan, traffic_spike, dns_query, firewall];

/// One of ten is suspicious.
fn connection(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let to = if draws.percent(70) { private(draws) } else { foreign(draws) };
    let event = Event::of_host("network_connection", host)
        .text("source_ip", &host.address)
        .text("destination_ip", &to)
        .bare("destination_port", draws.one(&PORTS))
        .text("protocol", draws.one(&["TCP", "TCP", "UDP"]))
        .bare("bytes_sent", draws.from(100, 10_000))
        .bare("bytes_received", draws.from(100, 10_000))
        .bare("connection_duration", draws.from(1, 300))
        .text("connection_status", draws.one(&["established", "closed", "reset", "timeout"]));
    if !draws.percent(10) {
        return event.usual(draws);
    }
    let count = draws.from(1, 3) as usize;
    let techniques = draws.some(&["T1041", "T1071", "T1095", "T1571", "T1572"], count);
    let reason =
        *draws.one(&["address of a known attacker", "port that this host never used", "protocol that does not belong to the port"]);
    event.suspicious(draws, reason, &techniques.into_iter().copied().collect::<Vec<_>>())
}

fn port_scan(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    Event::of_host("port_scan", host)
        .text("target_ip", &host.address)
        .text("source_ip", private(draws))
        .text("scan_type", draws.one(&["SYN", "FIN", "XMAS", "NULL", "ACK"]))
        .bare("ports_scanned", draws.from(1, 1000))
        .bare("duration", draws.from(1, 60))
        .suspicious(draws, "many ports of one host were tried", &["T1046"])
}

fn traffic_spike(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let count = draws.from(1, 2) as usize;
    let techniques: Vec<&str> = draws.some(&["T1020", "T1041", "T1048", "T1567"], count).into_iter().copied().collect();
    Event::of_host("traffic_spike", host)
        .text("source_ip", &host.address)
        .text("destination_ip", foreign(draws))
        .text("protocol", draws.one(&["TCP", "UDP", "ICMP"]))
        .bare("bytes_sent", draws.from(10_000, 1_000_000))
        .bare("normal_bytes_sent", draws.from(1000, 5000))
        .bare("duration", draws.from(60, 300))
        .suspicious(draws, "far more bytes than usual", &techniques)
}

/// One of ten asks for a name that nobody needs.
fn dns_query(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let is_suspicious = draws.percent(10);
    let domain = match is_suspicious {
        true => *draws.one(&["update-check.invalid", "x7f3k9q2.invalid", "relay.c2.invalid", "files.drop.invalid"]),
        false => *draws.one(&["www.example.com", "mail.example.org", "cdn.example.net", "intranet.test", "time.test", "repo.test"]),
    };
    let event = Event::of_host("dns_query", host)
        .text("source_ip", &host.address)
        .text("domain", domain)
        .text("query_type", draws.one(&["A", "AAAA", "MX", "TXT", "CNAME"]))
        .text("response_code", draws.one(&["NOERROR", "NOERROR", "NXDOMAIN", "SERVFAIL"]))
        .bare("response_time", draws.from(1, 500));
    if !is_suspicious {
        return event.usual(draws);
    }
    let technique = *draws.one(&["T1071.004", "T1568", "T1008", "T1105"]);
    event.suspicious(draws, "name of a suspicious domain", &[technique])
}

/// What is let through is usual, everything else is not.
fn firewall(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let port = *draws.one(&[22, 445, 3389, 8080, 8443, 1433, 3306, 5432, 27017]);
    let action = *draws.one(&["allow", "block", "drop", "reject"]);
    let from = if draws.percent(50) { private(draws) } else { foreign(draws) };
    let event = Event::of_host("firewall", host)
        .text("source_ip", &from)
        .text("destination_ip", &host.address)
        .bare("destination_port", port)
        .text("protocol", draws.one(&["TCP", "UDP"]))
        .text("action", action)
        .text("rule_id", format!("FW-{}", draws.from(1000, 9999)));
    if action == "allow" {
        return event.usual(draws);
    }
    let techniques: &[&str] = match port {
        22 => &["T1021.004"],
        3389 => &["T1021.001"],
        445 => &["T1021.002"],
        port if DATABASES.contains(&port) => &["T1190"],
        _ => &[],
    };
    event.suspicious(draws, &format!("a connection to port {port} was stopped"), techniques)
}
