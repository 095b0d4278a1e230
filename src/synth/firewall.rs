//! Events of a web application firewall, in two forms: short, as a filter hands them on, and as libmodsecurity writes
//! them, its rules' tags and all.
//!
//! Event `n` is always the same: who asks, for what, and which rules match follow from its number, so what it
//! must come to can be told without reading it ([`Events::expected`]).

use std::io::Write;

use super::template::{below, mix};
use crate::clock::Nanos;

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Some 320 bytes: scored by its writer, with a classification beside it.
    Short,
    /// Some 1,800 bytes: the audit log of ModSecurity 3, the score stated by a rule.
    ModSecurity,
}

impl Form {
    /// Every form with its name.
    pub const ALL: [(&'static str, Form); 2] = [("short", Form::Short), ("modsecurity", Form::ModSecurity)];
}

/// A way to attack: rule, its tag, its message, its weight in the severity, what is asked for.
struct Attack {
    rule: u32,
    tag: &'static str,
    message: &'static str,
    weight: u32,
    query: &'static str,
}

const ATTACKS: [Attack; 6] = [
    Attack {
        rule: 942_100,
        tag: "attack-sqli",
        message: "SQL Injection Attack Detected via libinjection",
        weight: 30,
        query: "/item?id=1%27%20OR%20%271%27=%271",
    },
    Attack {
        rule: 941_100,
        tag: "attack-xss",
        message: "XSS Attack Detected via libinjection",
        weight: 25,
        query: "/search?q=%3Cscript%3Ealert(1)%3C/script%3E",
    },
    Attack {
        rule: 932_160,
        tag: "attack-rce",
        message: "Remote Command Execution: Unix Shell Code Found",
        weight: 35,
        query: "/cgi?cmd=;/bin/cat%20/etc/passwd",
    },
    Attack { rule: 930_120, tag: "attack-lfi", message: "OS File Access Attempt", weight: 20, query: "/page?file=../../etc/passwd" },
    Attack {
        rule: 913_100,
        tag: "attack-reputation-scanner",
        message: "Found User-Agent associated with security scanner",
        weight: 0,
        query: "/nikto-test",
    },
    Attack { rule: 920_350, tag: "attack-protocol", message: "Host header is a numeric IP address", weight: 0, query: "/" },
];

/// What event `n` must come to, with the handler's defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub anomaly_score: u32,
    pub severity: u32,
    pub rule: u32,
}

/// Makes such events.
#[derive(Debug)]
pub struct Events {
    form: Form,
    clients: u64,
    ordinal: u64,
}

impl Events {
    /// A maker that begins at event 0.
    ///
    /// - `clients`: addresses that ask, one at least.
    pub fn new(form: Form, clients: u64) -> Self {
        Self { form, clients: clients.clamp(1, 1 << 17), ordinal: 0 }
    }

    /// Events made so far.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// What an event of that number comes to.
    pub fn expected(n: u64) -> Expected {
        let (attack, score) = (&ATTACKS[below(mix(n), ATTACKS.len() as u64) as usize], score(n));
        Expected { anomaly_score: score, severity: score + attack.weight, rule: attack.rule }
    }

    /// The address of an event's client: out of 198.18.0.0/15, which is nobody's.
    pub fn client(&self, n: u64) -> std::net::Ipv4Addr {
        std::net::Ipv4Addr::from_bits(0xc612_0000 + below(mix(n ^ 0x5eed), self.clients) as u32)
    }

    /// Appends the next event with its newline.
    ///
    /// - `time`: nanoseconds since 1970.
    pub fn event(&mut self, out: &mut Vec<u8>, time: Nanos) {
        let n = self.ordinal;
        self.ordinal += 1;
        let at = jiff::Timestamp::from_nanosecond(i128::from(time)).unwrap_or_default();
        // Writing into a vector cannot fail.
        let _ = match self.form {
            Form::Short => self.short(out, n, at),
            Form::ModSecurity => self.modsecurity(out, n, at),
        };
        out.push(b'\n');
    }

    fn short(&self, out: &mut Vec<u8>, n: u64, at: jiff::Timestamp) -> std::io::Result<()> {
        let (attack, client, Expected { anomaly_score, rule, .. }) = (attack(n), self.client(n), Self::expected(n));
        write!(
            out,
            "{{\"transaction\":{{\"id\":\"tx-{n:09}\",\"client_ip\":\"{client}\",\"anomaly_score\":{anomaly_score},\"time_stamp\":\"{at:.6}\",\
             \"request\":{{\"uri\":\"{}\",\"method\":\"GET\"}},\"response\":{{\"http_code\":403}},\
             \"messages\":[{{\"details\":{{\"ruleId\":\"{rule}\",\"msg\":\"{}\"}}}}]}},\
             \"classification\":{{\"track\":\"realtime\",\"rule_id\":\"{rule}\"}}}}",
            attack.query, attack.message,
        )
    }

    fn modsecurity(&self, out: &mut Vec<u8>, n: u64, at: jiff::Timestamp) -> std::io::Result<()> {
        let (attack, client, Expected { anomaly_score, rule, .. }) = (attack(n), self.client(n), Self::expected(n));
        let (second, port) = (at.as_second(), 32_768 + n % 28_000);
        let stamp = jiff::fmt::strtime::format("%a %b %e %H:%M:%S %Y", at).unwrap_or_default();
        write!(
            out,
            "{{\"transaction\":{{\"client_ip\":\"{client}\",\"time_stamp\":\"{stamp}\",\"server_id\":\"2ce124b0c5d02b433a9392782ff8b313286c1942\",\
             \"client_port\":{port},\"host_ip\":\"192.0.2.80\",\"host_port\":443,\"unique_id\":\"{second}{:02}.{:06}\",\
             \"request\":{{\"method\":\"GET\",\"http_version\":1.1,\"uri\":\"{}\",\"headers\":{{\"Host\":\"www.example.org\",\
             \"User-Agent\":\"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\",\"Accept\":\"text/html,application/xhtml+xml\",\
             \"Accept-Language\":\"de,en-US;q=0.7\",\"Cookie\":\"session=0123456789abcdef\"}}}},\
             \"response\":{{\"http_code\":403,\"headers\":{{\"Server\":\"nginx\",\"Content-Type\":\"text/html\",\"Connection\":\"keep-alive\"}}}},\
             \"producer\":{{\"modsecurity\":\"ModSecurity v3.0.14 (Linux)\",\"connector\":\"ModSecurity-nginx v1.0.3\",\"secrules_engine\":\"Enabled\",\
             \"components\":[\"OWASP_CRS/4.4.0\\\"\"]}},\"messages\":[",
            n % 100,
            n % 1_000_000,
            attack.query,
        )?;
        write!(
            out,
            "{{\"message\":\"{}\",\"details\":{{\"match\":\"Matched \\\"Operator `Rx' with parameter `(?i)[a-z]+' against variable `ARGS:q' \
             (Value: `1' OR '1'='1' )\",\"reference\":\"v10,12t:urlDecodeUni\",\"ruleId\":\"{rule}\",\
             \"file\":\"/usr/share/modsecurity-crs/rules/REQUEST-{}.conf\",\"lineNumber\":\"46\",\"data\":\"Matched Data: found within ARGS:q\",\
             \"severity\":\"2\",\"ver\":\"OWASP_CRS/4.4.0\",\"rev\":\"\",\"tags\":[\"application-multi\",\"language-multi\",\"platform-multi\",\"{}\",\
             \"paranoia-level/1\",\"OWASP_CRS\",\"capec/1000/152/248/66\",\"PCI/6.5.2\"],\"maturity\":\"0\",\"accuracy\":\"0\"}}}},",
            attack.message,
            rule / 1000,
            attack.tag,
        )?;
        write!(
            out,
            "{{\"message\":\"Inbound Anomaly Score Exceeded (Total Score: {anomaly_score})\",\"details\":{{\"match\":\"Matched \\\"Operator `Ge' with \
             parameter `5' against variable `TX:BLOCKING_INBOUND_ANOMALY_SCORE' (Value: `{anomaly_score}' )\",\"reference\":\"\",\"ruleId\":\"949110\",\
             \"file\":\"/usr/share/modsecurity-crs/rules/REQUEST-949-BLOCKING-EVALUATION.conf\",\"lineNumber\":\"222\",\"data\":\"\",\"severity\":\"0\",\
             \"ver\":\"OWASP_CRS/4.4.0\",\"rev\":\"\",\"tags\":[\"anomaly-evaluation\",\"OWASP_CRS\"],\"maturity\":\"0\",\"accuracy\":\"0\"}}}}]}}}}",
        )
    }
}

fn attack(n: u64) -> &'static Attack {
    &ATTACKS[below(mix(n), ATTACKS.len() as u64) as usize]
}

/// 5 to 60 in steps of 5.
fn score(n: u64) -> u32 {
    5 + 5 * below(mix(n ^ 0x5c0e), 12) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_json_of_about_the_lengths_that_are_said() {
        for (form, low, high) in [(Form::Short, 300, 420), (Form::ModSecurity, 1700, 2200)] {
            let mut events = Events::new(form, 100);
            for _ in 0..50 {
                let mut line = Vec::new();
                events.event(&mut line, 1_773_465_912_004_000_000);
                let value: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
                assert!(value["transaction"]["client_ip"].as_str().is_some_and(|ip| ip.starts_with("198.1")), "{value}");
                assert!((low..high).contains(&line.len()), "{form:?}: {} bytes", line.len());
            }
        }
    }
}
