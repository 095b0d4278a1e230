//! Alerts that carry one indicator each, out of a numbered set.
//!
//! What intelligence costs depends on how many indicators are new and how many repeat, which the
//! mixes of [`Synth`](super::Synth) leave to chance. Here it is chosen: each indicator of the set
//! comes once before any comes again. The alerts are of three sorts: a login with an address, a DNS
//! query of Suricata (without `full_log`, as the manager writes it), a process start of Sysmon with
//! a SHA-256.

use super::{
    HOSTS, Host,
    kinds::FRAGMENTS,
    linux_hosts,
    stamp::Moment,
    template::{Cast, Template, below, mix},
    windows_hosts,
};
use crate::clock::Nanos;

/// A prime larger than any set: its multiples go through each set in mixed order, without a repeat.
const STRIDE: u64 = (1 << 31) - 1;

/// Members of an alert but for the braces, `{}` where its indicator stands.
const LINES: [&str; 3] = [
    r#""rule":{"level":5,"description":"sshd: Attempt to login using a non-existent user","id":"5710","firedtimes":<<fired>>,"mail":false,"groups":["syslog","sshd","authentication_failed","invalid_login"],<<+badlogin>>},"agent":{<<agent>>},"manager":{"name":"<<manager>>"},"id":"<<epoch>>.<<ordinal>>","full_log":"<<syslog>> <<host>> sshd[<<pid>>]: Failed password for invalid user admin from {} port <<port>> ssh2",<<+sshd>>,"data":{"srcip":"{}","srcport":"<<port>>","srcuser":"admin"},"location":"/var/log/auth.log""#,
    r#""rule":{"level":3,"description":"Suricata: Alert - DNS query for a name of doubtful repute","id":"86601","firedtimes":<<fired>>,"mail":false,"groups":["ids","suricata"]},"agent":{<<agent>>},"manager":{"name":"<<manager>>"},"id":"<<epoch>>.<<ordinal>>","decoder":{"name":"json"},"data":{"timestamp":"<<utc>>","flow_id":"<<big>>","in_iface":"eth0","event_type":"alert","src_ip":"<<lan>>","src_port":"<<port>>","dest_ip":"<<lan2>>","dest_port":"53","proto":"UDP","tx_id":"0","alert":{"action":"allowed","gid":"1","signature_id":"2027863","rev":"5","signature":"DNS query for a name of doubtful repute","category":"Potentially Bad Traffic","severity":"2"},"dns":{"query":[{"type":"query","id":"<<pid>>","rrname":"{}","rrtype":"A","tx_id":"0"}]},"app_proto":"dns","direction":"to_server"},"location":"/var/log/suricata/eve.json""#,
    r#""rule":{"level":0,"description":"Sysmon - Event 1: Process creation","id":"61603","firedtimes":<<fired>>,"mail":false,"groups":["windows","sysmon","sysmon_event1"]},"agent":{<<agent>>},"manager":{"name":"<<manager>>"},"id":"<<epoch>>.<<ordinal>>","decoder":{"name":"windows_eventchannel"},"data":{"win":{"system":{"providerName":"Microsoft-Windows-Sysmon","eventID":"1","level":"4","opcode":"0","systemTime":"<<utc>>","eventRecordID":"<<record>>","processID":"<<pid>>","threadID":"<<tid>>","channel":"Microsoft-Windows-Sysmon/Operational","computer":"<<host>>","severityValue":"INFORMATION"},"eventdata":{"processGuid":"<<guid>>","processId":"<<pid2>>","image":"C:\\\\Users\\\\Public\\\\setup.exe","commandLine":"setup /quiet","currentDirectory":"C:\\\\Users\\\\Public","logonId":"0x<<logon>>","terminalSessionId":"1","integrityLevel":"Medium","hashes":"SHA256={}","parentProcessId":"<<pid3>>","parentImage":"C:\\\\Windows\\\\explorer.exe"}}},"location":"EventChannel""#,
];

/// Indicator `n`: MISP's type of it, and the value as handler `ioc` gives it. Every number has its own.
///
/// - `n`: below 2^25.
pub fn indicator(n: u64) -> (&'static str, String) {
    match n % 3 {
        0 => {
            let [.., a, b, c] = (n / 3).to_be_bytes();
            ("ip-dst", format!("45.{a}.{b}.{c}"))
        }
        1 => ("domain", format!("host-{n}.top")),
        _ => {
            let words = [mix(n), mix(n + 1), mix(n + 2), n].map(|word| format!("{word:016x}"));
            ("sha256", words.concat())
        }
    }
}

/// Makes such alerts.
#[derive(Debug)]
pub struct Indicators {
    distinct: u64,
    first: u64,
    ordinal: u64,
    lines: Vec<Vec<Template>>,
    hosts: [Vec<Host>; 2],
    moment: Moment,
}

impl Indicators {
    /// A maker that begins at alert 0.
    ///
    /// - `distinct`: indicators in the set, at least one.
    /// - `first`: the number of the first of them.
    pub fn new(first: u64, distinct: u64) -> Self {
        let whole = |line: &&str| format!("{{\"timestamp\":\"<<ts>>\",{line}}}\n");
        let parts = |line: String| line.split("{}").map(|part| Template::parse(part, FRAGMENTS)).collect();
        Self {
            distinct: distinct.max(1),
            first,
            ordinal: 0,
            lines: LINES.iter().map(whole).map(parts).collect(),
            hosts: [linux_hosts(), windows_hosts()],
            moment: Moment::new(0, 0),
        }
    }

    /// The same maker, whose first alert has this number: beside another maker, whose ids must not be met.
    pub fn numbered_from(self, ordinal: u64) -> Self {
        Self { ordinal, ..self }
    }

    /// Appends one alert with its newline; gives the number of its indicator.
    ///
    /// - `now`: when the manager got it, nanoseconds since 1970.
    pub fn alert(&mut self, out: &mut Vec<u8>, now: Nanos) -> u64 {
        self.moment.set(now, 60);
        let n = self.first + self.ordinal % self.distinct * (STRIDE % self.distinct) % self.distinct;
        let sort = (n % 3) as usize;
        let seed = mix(self.ordinal);
        let hosts = &self.hosts[usize::from(sort == 2)];
        let host = &hosts[below(mix(seed), u64::from(HOSTS)) as usize];
        let cast = Cast {
            seed,
            moment: &self.moment,
            agent: &host.agent,
            host: &host.name,
            manager: b"siem-mgr-1",
            ordinal: self.ordinal,
            fired: self.ordinal + 1,
        };
        let (_, value) = indicator(n);
        for (part, template) in self.lines[sort].iter().enumerate() {
            if part > 0 {
                out.extend_from_slice(value.as_bytes());
            }
            template.fill(&cast, out);
        }
        self.ordinal += 1;
        n
    }

    /// Number of the next alert.
    pub fn ordinal(&self) -> u64 {
        self.ordinal
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_indicator_comes_once_before_any_comes_again() {
        for distinct in [1, 2, 999, 1000, 4096] {
            let mut made = Indicators::new(5000, distinct);
            for _ in 0..2 {
                let round: BTreeSet<u64> = (0..distinct).map(|_| made.alert(&mut Vec::new(), 0)).collect();
                assert!(round.iter().copied().eq(5000..5000 + distinct), "{distinct}");
            }
        }
    }

    #[test]
    fn every_number_is_another_indicator() {
        let all: BTreeSet<String> = (0..100_000).map(|n| indicator(n).1).collect();
        assert_eq!(all.len(), 100_000);
    }

    #[test]
    fn each_alert_is_a_line_of_json_with_its_indicator_and_its_number() {
        let mut made = Indicators::new(0, 1000);
        let mut text = Vec::new();
        for ordinal in 0..3000 {
            text.clear();
            let n = made.alert(&mut text, 1_773_465_912_004_000_000);
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(memchr::memchr(b'\n', &text), Some(text.len() - 1));
            assert_eq!(super::super::ordinal_of(&text), Some(ordinal), "{value}");
            assert!(value["data"].to_string().contains(&indicator(n).1), "{value}");
            assert!((700..1300).contains(&text.len()), "about as long as alerts are: {value}");
        }
    }
}
