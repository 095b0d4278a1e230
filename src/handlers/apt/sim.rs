//! Events of the simulator.

use std::borrow::Cow;

use super::{
    members::{Key, Members},
    record::{Said, plain, unit},
};
use crate::{
    alert::Node,
    detect::{Severity, attack::Evidence, event::ALL_PRESENT},
};

/// Ports that are worth a look: remote access, shares and databases.
const PORTS: [f64; 8] = [22.0, 3389.0, 445.0, 1433.0, 3306.0, 5432.0, 8080.0, 8443.0];
/// Programs that attackers use most, without case, path and `.exe`; Python in any version is one more.
const PROGRAMS: [&str; 6] = ["cmd", "powershell", "bash", "sh", "nc", "nmap"];
/// Words of a command line that are worth a look.
const WORDS: [&str; 6] = ["password", "secret", "admin", "sudo", "wget", "curl"];
/// Endings of files that can be run.
const EXTENSIONS: [&str; 6] = ["exe", "dll", "sh", "bat", "ps1", "py"];

/// What an event of the simulator says, however it was decoded; what is absent is empty.
#[derive(Default)]
pub(super) struct Told<'t> {
    /// Of itself.
    pub(super) severity: Option<Severity>,
    pub(super) event_type: &'t str,
    pub(super) action: &'t str,
    pub(super) destination_port: Option<f64>,
    pub(super) bytes_sent: Option<f64>,
    pub(super) connection_duration: Option<f64>,
    pub(super) process_name: Cow<'t, str>,
    pub(super) command_line: Cow<'t, str>,
    pub(super) file_extension: &'t str,
    pub(super) authentication_status: &'t str,
    pub(super) login_status: &'t str,
    pub(super) change_type: &'t str,
    pub(super) reason: &'t str,
}

/// Reads an event of the simulator.
///
/// - `severity`: what it says of itself.
pub(super) fn read<'t>(members: &Members<'t>, severity: Option<Severity>) -> Said<'t> {
    let text = |key| members.text(key).unwrap_or_default();
    let told = Told {
        severity,
        event_type: text(Key::EventType),
        action: text(Key::Action),
        destination_port: members.number(Key::DestinationPort),
        bytes_sent: members.number(Key::BytesSent),
        connection_duration: members.number(Key::ConnectionDuration),
        process_name: text(Key::ProcessName).into(),
        command_line: text(Key::CommandLine).into(),
        file_extension: text(Key::FileExtension),
        authentication_status: text(Key::AuthenticationStatus),
        login_status: text(Key::LoginStatus),
        change_type: text(Key::ChangeType),
        reason: text(Key::Reason),
    };
    let mut said = plain(members);
    told.tell(&mut said);
    let attack = members.get(Key::MitreAttack);
    let techniques = attack.and_then(|attack| attack.get("techniques")).or(attack);
    for technique in techniques.into_iter().flat_map(Node::elements) {
        said.techniques.take(technique.get("id").or(Some(technique)), Evidence::Event);
    }
    said
}

impl<'t> Told<'t> {
    /// Writes down what it says: features, type, action and note.
    pub(super) fn tell(self, said: &mut Said<'t>) {
        let base = match self.severity {
            Some(Severity::Critical) => 0.2,
            Some(Severity::High) => 0.16,
            Some(Severity::Medium) => 0.1,
            _ => 0.04,
        };
        said.features = [base; 10];
        said.present = ALL_PRESENT;
        let mut add = |number: usize, value: f64| {
            if let Some(feature) = said.features.get_mut(number - 1) {
                *feature = unit(base + value);
            }
        };
        let mut action = self.action;
        match self.event_type {
            "network_connection" => {
                let is_port = self.destination_port.is_some_and(|port| PORTS.contains(&port));
                let volume = self.bytes_sent.unwrap_or(0.0) / 10_000.0;
                add(1, if is_port { volume + 0.3 } else { volume });
                add(9, self.connection_duration.unwrap_or(0.0) / 300.0);
            }
            "traffic_spike" => add(1, self.bytes_sent.unwrap_or(0.0) / 10_000.0),
            "process" => {
                let program = if is_program(&self.process_name) { 0.3 } else { 0.0 };
                let words = if has_word(&self.command_line) { 0.2 } else { 0.0 };
                add(10, 0.5 + program + words);
            }
            "file" => {
                let changes = matches!(action, "created" | "modified" | "deleted");
                let runs = is_run(self.file_extension);
                add(4, 0.5 + if changes { 0.2 } else { 0.0 } + if runs { 0.3 } else { 0.0 });
            }
            "authentication" | "login" => {
                let status = if self.event_type == "login" { self.login_status } else { self.authentication_status };
                if !status.is_empty() {
                    if status.eq_ignore_ascii_case("success") {
                        add(2, 0.5)
                    } else {
                        add(3, 0.7)
                    }
                    action = status;
                }
            }
            _ => {}
        }
        said.event_type = Cow::Borrowed(self.event_type);
        said.action = Cow::Borrowed(if action.is_empty() { self.change_type } else { action });
        said.note = self.reason;
    }
}

/// The file's name alone, without what Windows does not tell apart.
fn is_program(path: &str) -> bool {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path).trim();
    let name = name
        .split_at_checked(name.len().wrapping_sub(4))
        .filter(|(_, end)| end.eq_ignore_ascii_case(".exe"))
        .map_or(name, |(name, _)| name);
    let is_python = || {
        let version = name.get(..6).filter(|start| start.eq_ignore_ascii_case("python")).and_then(|_| name.get(6..));
        version.is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
    };
    PROGRAMS.iter().any(|program| name.eq_ignore_ascii_case(program)) || is_python()
}

/// A word anywhere in the text, in any case.
fn has_word(text: &str) -> bool {
    let text = text.as_bytes();
    // Each of the words begins with another letter, but for two; most bytes of a text begin none.
    text.iter().enumerate().any(|(at, byte)| {
        matches!(byte.to_ascii_lowercase(), b'p' | b's' | b'a' | b'w' | b'c')
            && WORDS.iter().any(|word| text.get(at..at + word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes())))
    })
}

fn is_run(extension: &str) -> bool {
    let extension = extension.trim().trim_start_matches('.');
    EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_whole_name() {
        for path in
            ["cmd.exe", "C:\\Windows\\System32\\CMD.EXE", "/bin/sh", "python", "python3.11", "/usr/bin/python2", "Python.exe", "nc", "NMAP"]
        {
            assert!(is_program(path), "{path}");
        }
        for path in ["sshd", "rsync", "cmd.exe.txt", "pythonista", "notpython", "exe", ".exe", "", "cmd/", "pow\u{e9}rshell", "日本語"] {
            assert!(!is_program(path), "{path}");
        }
    }

    #[test]
    fn a_word_is_found_anywhere() {
        for text in ["cmd /c dir *Password*", "SUDO ls", "xwgetx", "curl", "my-secret", "Administrator"] {
            assert!(has_word(text), "{text}");
        }
        for text in ["", "c", "cur", "pass word", "notepad.exe a.txt", "Ｐassword"] {
            assert!(!has_word(text), "{text}");
        }
        for text in [".exe", "EXE", ".Ps1", "sh"] {
            assert!(is_run(text), "{text}");
        }
        assert!(!is_run(".pyc") && !is_run(""));
    }
}
