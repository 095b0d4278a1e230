//! What slots are filled with: lists of names, paths and words, written by us.
//!
//! Entries are plain text; [`list`] escapes them for a JSON string.

/// The words of a list as JSON string content; `doubled` doubles backslashes first, as Windows
/// event data has them. `None` if there is no such list.
pub(super) fn list(name: &str, doubled: bool) -> Option<Vec<Vec<u8>>> {
    let (_, words) = LISTS.iter().find(|(known, _)| *known == name)?;
    Some(words.iter().map(|word| escape(&if doubled { word.replace('\\', r"\\") } else { (*word).to_owned() }).into_bytes()).collect())
}

/// Text as the inside of a JSON string, escaped as the manager does it: UTF-8 stays raw.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Words of running text, without anything that JSON would escape.
pub(super) const PROSE: &[&str] = &[
    "the",
    "a",
    "of",
    "remote",
    "attacker",
    "buffer",
    "parser",
    "reads",
    "beyond",
    "memory",
    "crafted",
    "file",
    "header",
    "length",
    "is",
    "not",
    "checked",
    "before",
    "use",
    "which",
    "allows",
    "denial",
    "service",
    "by",
    "sending",
    "request",
    "library",
    "when",
    "option",
    "enabled",
    "default",
    "value",
    "versions",
    "prior",
    "to",
    "update",
    "affected",
    "component",
    "handles",
    "symbolic",
    "links",
    "in",
    "temporary",
    "directory",
    "local",
    "user",
    "could",
    "gain",
    "rights",
    "through",
    "race",
    "between",
    "check",
    "and",
    "write",
    "certificate",
    "name",
    "comparison",
    "overflow",
    "integer",
    "free",
    "after",
    "pointer",
    "module",
    "configuration",
    "listen",
    "port",
    "allow",
    "deny",
    "timeout",
    "session",
    "cookie",
    "server",
    "client",
    "für",
    "Änderung",
    "Gerät",
    "geprüft",
    "Schlüssel",
];

/// Lists by name.
const LISTS: &[(&str, &[&str])] = &[
    (
        "user",
        &[
            "deploy",
            "backup",
            "mkoch",
            "a.schulz",
            "lena",
            "postgres",
            "gitlab-runner",
            "svc_monitor",
            "ansible",
            "tbrandt",
            "hofer",
            "nina.w",
        ],
    ),
    (
        "stranger",
        &[
            "admin",
            "test",
            "oracle",
            "ubuntu",
            "user1",
            "ftpuser",
            "guest",
            "pi",
            "minecraft",
            "hadoop",
            "jenkins",
            "nagios",
            "steam",
            "www",
        ],
    ),
    (
        "winuser",
        &[
            "m.koch",
            "a.schulz",
            "jürgen.groß",
            "l.weiß",
            "svc_sql",
            "svc_backup",
            "praktikant3",
            "t.brandt",
            "sysop",
            "k.jaeger",
            "empfang",
            "labor-02",
        ],
    ),
    ("newuser", &["m.neumann", "gast17", "svc_scan", "h.böhm", "projekt-x", "extern.lang", "azubi2026", "wartung"]),
    ("domain", &["VERWALTUNG", "CAMPUS", "KLINIK", "RZ", "LABOR"]),
    ("group", &["Domain Admins", "Remotedesktopbenutzer", "Sicherungs-Operatoren", "GG-Buchhaltung", "GG-Räume", "Server-Betreuer"]),
    ("jail", &["sshd", "sshd", "sshd", "nginx-http-auth", "postfix-sasl", "dovecot", "recidive", "apache-auth", "wordpress", "nextcloud"]),
    ("logontype", &["2", "3", "3", "3", "5", "7", "10"]),
    ("substatus", &["0xc000006a", "0xc0000064", "0xc0000072", "0xc0000234", "0xc0000193"]),
    ("reason", &["%%2313", "%%2304", "%%2310", "%%2307"]),
    (
        "exe",
        &[
            r"C:\Windows\System32\svchost.exe",
            r"C:\Windows\System32\lsass.exe",
            r"C:\Windows\System32\winlogon.exe",
            r"C:\Program Files\Buerosoftware\Abgleich\sync.exe",
            r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe",
            r"C:\Program Files (x86)\Inventar\Agent\invagent.exe",
            r"C:\Windows\System32\cmd.exe",
            r"C:\ProgramData\Hausnetz\Prüfdienst\pruefer.exe",
        ],
    ),
    (
        "command",
        &[
            r#""C:\Windows\System32\cmd.exe" /c net use Z: \\ablage\projekte"#,
            r"C:\Windows\System32\svchost.exe -k netsvcs -p -s Schedule",
            r#"powershell.exe -NoProfile -ExecutionPolicy Bypass -File "C:\Skripte\täglich.ps1" -Ziel Archiv"#,
            r#""C:\Program Files (x86)\Inventar\Agent\invagent.exe" --server inventar.example:8443 --once --quiet"#,
            r"C:\Windows\System32\taskhostw.exe Install $(Arg0)",
            r"conhost.exe 0xffffffff -ForceV1",
        ],
    ),
    (
        "service",
        &["InvAgentSvc", "DruckerWarteschlange2", "SqlSpiegel", "RZMonitor", "Prüfdienst", "BackupHelfer", "MsgRelay", "VirtTreiber"],
    ),
    (
        "task",
        &[r"\RZ\Tägliche Sicherung", r"\Inventar\Abgleich", r"\Updates\Neustart", r"\Hausnetz\Prüfung", r"\Microsoft\Windows\Wartung"],
    ),
    (
        "policy",
        &["{0cce9215-69ae-11d9-bed3-505054503030}", "{0cce922b-69ae-11d9-bed3-505054503030}", "{0cce9235-69ae-11d9-bed3-505054503030}"],
    ),
    ("privilege", &["SeSecurityPrivilege", "SeBackupPrivilege", "SeTakeOwnershipPrivilege", "SeDebugPrivilege", "SeLoadDriverPrivilege"]),
    ("starttype", &["Autostart", "Manuell", "Deaktiviert"]),
    ("process", &["NtLmSsp ", "Kerberos", "User32 ", "Advapi  ", "seclogo"]),
    ("package", &["NTLM", "Negotiate", "Kerberos"]),
    (
        "key",
        &[
            r"HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\RZMonitor",
            r"HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\SqlSpiegel\Parameters",
            r"HKEY_LOCAL_MACHINE\Software\Policies\Hausnetz\Richtlinien",
            r"HKEY_LOCAL_MACHINE\Security\SAM\Domains\Account\Users\000001F4",
            r"HKEY_LOCAL_MACHINE\Software\Microsoft\Windows\CurrentVersion\Run",
            r"HKEY_LOCAL_MACHINE\System\CurrentControlSet\Control\Session Manager\Environment",
            r"HKEY_LOCAL_MACHINE\System\CurrentControlSet\Services\bam\State\UserSettings",
            r"HKEY_LOCAL_MACHINE\Software\Classes\Installer\Products\4F1A22B0",
        ],
    ),
    ("valuename", &["ImagePath", "Start", "LastRun", "Version", "Counter", "PendingList", "DhcpLease", "", "Security", "C"]),
    ("valuetype", &["REG_BINARY", "REG_SZ", "REG_DWORD", "REG_EXPAND_SZ", "REG_MULTI_SZ"]),
    (
        "file",
        &[
            "/etc/hosts",
            "/etc/passwd",
            "/etc/ssh/sshd_config",
            "/etc/nginx/sites-enabled/intern.conf",
            "/etc/cron.d/abgleich",
            "/usr/bin/rsync",
            "/usr/sbin/nft",
            "/etc/resolv.conf",
            "/etc/systemd/system/agent.service",
        ],
    ),
    ("perm", &["rw-r--r--", "rwxr-xr-x", "rw-r-----", "rw-------"]),
    (
        "pkg",
        &[
            "openssl",
            "curl",
            "libxml2",
            "linux-image-6.12",
            "nginx",
            "python3.13",
            "sudo",
            "bash",
            "vim-common",
            "libc6",
            "systemd",
            "zlib1g",
        ],
    ),
    ("version", &["3.5.1-1", "8.14.1-2+b1", "2.9.14-1.3", "1.26.3-3", "6.12.38-1", "5.2.37-2", "2:9.1.1230-2", "257.7-1"]),
    ("arch", &["amd64", "arm64", "all"]),
    ("severity", &["Low", "Medium", "Medium", "High", "Critical"]),
    ("base", &["3.300000", "5.500000", "7.500000", "7.800000", "9.800000"]),
    ("sig", &["ssh2: RSA SHA256:", "ssh2: ED25519 SHA256:", "ssh2: ECDSA SHA256:"]),
    (
        "url",
        &[
            "/wp-login.php",
            "/.env",
            "/index.php?id=1%27%20OR%201=1",
            "/phpmyadmin/",
            "/api/v2/export?format=csv&limit=5000",
            "/.git/config",
            "/cgi-bin/status",
            "/bilder/übersicht.png",
        ],
    ),
    (
        "ua",
        &[
            "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
            "curl/8.14.1",
            "python-requests/2.32",
            "-",
        ],
    ),
    ("method", &["GET", "GET", "POST", "HEAD"]),
    ("webstatus", &["400", "401", "403", "404", "404", "404"]),
    (
        "sudo",
        &[
            "/usr/bin/apt update",
            "/usr/bin/systemctl restart nginx",
            "/bin/cat /var/log/auth.log",
            "/usr/bin/tee /etc/motd",
            "/usr/sbin/nft list ruleset",
        ],
    ),
    ("image", &["registry.example/web/portal:2026.3", "postgres:17", "redis:8", "registry.example/ops/collector:1.4.2", "nginx:1.28"]),
    ("container", &["portal-web-1", "portal-db-1", "cache", "collector", "proxy_edge_2"]),
    ("action", &["start", "stop", "die", "create", "destroy", "exec_start"]),
    ("trojan", &["/bin/ls", "/usr/bin/passwd", "/bin/ps", "/usr/sbin/ifconfig", "/usr/bin/diff"]),
    (
        "check",
        &[
            "Ensure the mount point for temporary files forbids programs",
            "Ensure root cannot log in over SSH with a password",
            "Ensure the audit service is enabled at boot",
            "Ensure inactive accounts are locked after thirty days",
            "Ensure the firewall drops by default",
        ],
    ),
    ("result", &["passed", "failed", "failed", "not applicable"]),
    ("mailuser", &["info", "sales", "rechnung", "office", "postmaster", "bewerbung"]),
    (
        "ids",
        &[
            "ET SCAN Suspicious inbound to database port",
            "Local rule: plain-text login",
            "TLS handshake with an expired certificate",
            "DNS answer with private address",
        ],
    ),
    ("proto", &["TCP", "UDP", "TCP"]),
    ("appname", &["VSS", "SqlSpiegel", "ESENT", "InvAgent", "Perflib", "MsgRelay"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_escaped_once_in_a_message_and_twice_in_event_data() {
        let paths = |doubled| String::from_utf8(list("exe", doubled).unwrap().remove(0)).unwrap();
        assert_eq!(paths(false), r"C:\\Windows\\System32\\svchost.exe");
        assert_eq!(paths(true), r"C:\\\\Windows\\\\System32\\\\svchost.exe");
        assert!(list("nonsense", false).is_none());
    }

    #[test]
    fn escaping_agrees_with_a_json_writer() {
        for text in ["", "a\"b\\c\r\n\td", "Änderung /"] {
            assert_eq!(format!("\"{}\"", escape(text)), serde_json::to_string(text).unwrap());
        }
    }

    #[test]
    fn prose_needs_no_escaping() {
        for word in PROSE {
            assert_eq!(escape(word), *word);
        }
    }
}
