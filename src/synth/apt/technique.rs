//! The techniques of MITRE ATT&CK that simulated events name, and how they stand in an event.

use std::io::Write;

/// Id, name, and the last two digits of each tactic (`TA00..`); ATT&CK Enterprise 18. A sub-technique has
/// the name and the tactics of its parent.
const TECHNIQUES: &[(&str, &str, &[u8])] = &[
    ("T1005", "Data from Local System", &[9]),
    ("T1008", "Fallback Channels", &[11]),
    ("T1016", "System Network Configuration Discovery", &[7]),
    ("T1020", "Automated Exfiltration", &[10]),
    ("T1021", "Remote Services", &[8]),
    ("T1036", "Masquerading", &[5]),
    ("T1041", "Exfiltration Over C2 Channel", &[10]),
    ("T1046", "Network Service Discovery", &[7]),
    ("T1048", "Exfiltration Over Alternative Protocol", &[10]),
    ("T1053", "Scheduled Task/Job", &[2, 3, 4]),
    ("T1059", "Command and Scripting Interpreter", &[2]),
    ("T1071", "Application Layer Protocol", &[11]),
    ("T1078", "Valid Accounts", &[1, 3, 4, 5]),
    ("T1082", "System Information Discovery", &[7]),
    ("T1083", "File and Directory Discovery", &[7]),
    ("T1087", "Account Discovery", &[7]),
    ("T1095", "Non-Application Layer Protocol", &[11]),
    ("T1098", "Account Manipulation", &[3, 4]),
    ("T1105", "Ingress Tool Transfer", &[11]),
    ("T1110", "Brute Force", &[6]),
    ("T1136", "Create Account", &[3]),
    ("T1190", "Exploit Public-Facing Application", &[1]),
    ("T1204", "User Execution", &[2]),
    ("T1222", "File and Directory Permissions Modification", &[5]),
    ("T1489", "Service Stop", &[40]),
    ("T1543", "Create or Modify System Process", &[3, 4]),
    ("T1547", "Boot or Logon Autostart Execution", &[3, 4]),
    ("T1560", "Archive Collected Data", &[9]),
    ("T1562", "Impair Defenses", &[5]),
    ("T1566", "Phishing", &[1]),
    ("T1567", "Exfiltration Over Web Service", &[10]),
    ("T1568", "Dynamic Resolution", &[11]),
    ("T1571", "Non-Standard Port", &[11]),
    ("T1572", "Protocol Tunneling", &[11]),
];

const TACTICS: &[(u8, &str)] = &[
    (1, "Initial Access"),
    (2, "Execution"),
    (3, "Persistence"),
    (4, "Privilege Escalation"),
    (5, "Defense Evasion"),
    (6, "Credential Access"),
    (7, "Discovery"),
    (8, "Lateral Movement"),
    (9, "Collection"),
    (10, "Exfiltration"),
    (11, "Command and Control"),
    (40, "Impact"),
];

/// Name and tactics of a technique, or of the parent of a sub-technique.
fn named(id: &str) -> (&'static str, &'static [u8]) {
    let parent = id.split('.').next().unwrap_or(id);
    let found = TECHNIQUES.iter().find(|(known, ..)| *known == parent);
    debug_assert!(found.is_some(), "{id} is in the table");
    found.map_or(("", &[]), |(_, name, tactics)| (name, tactics))
}

fn tactic(n: u8) -> &'static str {
    TACTICS.iter().find(|(known, _)| *known == n).map_or("", |(_, name)| name)
}

/// Appends the member `mitre_attack`: techniques with their tactics, and tactics with their techniques.
pub(super) fn write(out: &mut Vec<u8>, ids: &[&str]) {
    let mut tactics: Vec<(u8, Vec<&str>)> = Vec::new();
    let _ = write!(out, ",\"mitre_attack\":{{\"techniques\":[");
    for (n, id) in ids.iter().enumerate() {
        let (name, of) = named(id);
        let _ = write!(out, "{}{{\"id\":\"{id}\",\"name\":\"{name}\",\"tactics\":[", comma(n));
        for (n, number) in of.iter().enumerate() {
            let _ = write!(out, "{}{{\"id\":\"TA{number:04}\",\"name\":\"{}\"}}", comma(n), tactic(*number));
            match tactics.iter_mut().find(|(known, _)| known == number) {
                Some((_, techniques)) => techniques.push(id),
                None => tactics.push((*number, vec![id])),
            }
        }
        let _ = write!(out, "]}}");
    }
    let _ = write!(out, "],\"tactics\":[");
    for (n, (number, techniques)) in tactics.iter().enumerate() {
        let _ = write!(out, "{}{{\"id\":\"TA{number:04}\",\"name\":\"{}\",\"techniques\":[", comma(n), tactic(*number));
        for (n, id) in techniques.iter().enumerate() {
            let _ = write!(out, "{}{{\"id\":\"{id}\",\"name\":\"{}\"}}", comma(n), named(id).0);
        }
        let _ = write!(out, "]}}");
    }
    let _ = write!(out, "]}}");
}

fn comma(n: usize) -> &'static str {
    if n == 0 { "" } else { "," }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tactic_has_a_name_and_the_table_is_in_order() {
        assert!(TECHNIQUES.is_sorted_by_key(|(id, ..)| *id));
        for (id, name, tactics) in TECHNIQUES {
            assert!(!name.is_empty() && tactics.iter().all(|n| !tactic(*n).is_empty()), "{id}");
        }
    }

    #[test]
    fn a_sub_technique_keeps_its_id_under_the_name_and_the_tactics_of_its_parent() {
        let mut out = b"{\"a\":1".to_vec();
        write(&mut out, &["T1566.001", "T1078"]);
        out.push(b'}');
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        let attack = &value["mitre_attack"];
        assert_eq!(attack["techniques"][0]["id"], "T1566.001");
        assert_eq!(
            (&attack["techniques"][0]["name"], attack["techniques"][1]["tactics"].as_array().map(Vec::len)),
            (&"Phishing".into(), Some(4))
        );
        let first = &attack["tactics"][0];
        assert_eq!(
            (&first["id"], &first["techniques"][0]["id"], &first["techniques"][1]["id"]),
            (&"TA0001".into(), &"T1566.001".into(), &"T1078".into())
        );
    }
}
