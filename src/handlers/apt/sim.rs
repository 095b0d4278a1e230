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

/// Reads an event of the simulator.
///
/// - `severity`: what it says of itself.
pub(super) fn read<'t>(members: &Members<'t>, severity: Option<Severity>) -> Said<'t> {
    let mut said = plain(members);
    let base = match severity {
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
    match &*said.event_type {
        "network_connection" => {
            let is_port = members.number(Key::DestinationPort).is_some_and(|port| PORTS.contains(&port));
            let volume = members.number(Key::BytesSent).unwrap_or(0.0) / 10_000.0;
            add(1, if is_port { volume + 0.3 } else { volume });
            add(9, members.number(Key::ConnectionDuration).unwrap_or(0.0) / 300.0);
        }
        "traffic_spike" => add(1, members.number(Key::BytesSent).unwrap_or(0.0) / 10_000.0),
        "process" => {
            let program = if members.text(Key::ProcessName).is_some_and(is_program) { 0.3 } else { 0.0 };
            let words = if members.text(Key::CommandLine).is_some_and(has_word) { 0.2 } else { 0.0 };
            add(10, 0.5 + program + words);
        }
        "file" => {
            let action = matches!(&*said.action, "created" | "modified" | "deleted");
            let runs = members.text(Key::FileExtension).is_some_and(is_run);
            add(4, 0.5 + if action { 0.2 } else { 0.0 } + if runs { 0.3 } else { 0.0 });
        }
        "authentication" | "login" => {
            let key = if said.event_type == "login" { Key::LoginStatus } else { Key::AuthenticationStatus };
            if let Some(status) = members.text(key) {
                if status.eq_ignore_ascii_case("success") {
                    add(2, 0.5)
                } else {
                    add(3, 0.7)
                }
                said.action = Cow::Borrowed(status);
            }
        }
        _ => {}
    }
    if said.action.is_empty()
        && let Some(change) = members.text(Key::ChangeType)
    {
        said.action = Cow::Borrowed(change);
    }
    said.note = members.text(Key::Reason).unwrap_or("");
    let attack = members.get(Key::MitreAttack);
    let techniques = attack.and_then(|attack| attack.get("techniques")).or(attack);
    for technique in techniques.into_iter().flat_map(Node::elements) {
        said.techniques.take(technique.get("id").or(Some(technique)), Evidence::Event);
    }
    said
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
