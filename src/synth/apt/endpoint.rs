//! Events of hosts: processes, files, the registry of Windows, logins, services.

use super::{
    draws::Draws,
    event::Event,
    site::{Host, Site, System, private},
};

pub(super) const KINDS: [fn(&Site, &mut Draws) -> Event; 5] = [process, file, registry, authentication, service];

/// Name, path, and whether it is one that an attacker likes.
type Program = (&'static str, &'static str, bool);

const WINDOWS: [Program; 10] = [
    ("explorer.exe", r"C:\Windows\explorer.exe", false),
    ("notepad.exe", r"C:\Windows\System32\notepad.exe", false),
    ("chrome.exe", r"C:\Program Files\Google\Chrome\Application\chrome.exe", false),
    ("outlook.exe", r"C:\Program Files\Microsoft Office\root\Office16\OUTLOOK.EXE", false),
    ("svchost.exe", r"C:\Windows\System32\svchost.exe", false),
    ("cmd.exe", r"C:\Windows\System32\cmd.exe", false),
    ("powershell.exe", r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe", false),
    ("rundll32.exe", r"C:\Windows\System32\rundll32.exe", true),
    ("mshta.exe", r"C:\Windows\System32\mshta.exe", true),
    ("regsvr32.exe", r"C:\Windows\System32\regsvr32.exe", true),
];
const UNIX: [Program; 10] = [
    ("bash", "/bin/bash", false),
    ("sh", "/bin/sh", false),
    ("python3", "/usr/bin/python3", false),
    ("ls", "/bin/ls", false),
    ("grep", "/bin/grep", false),
    ("ssh", "/usr/bin/ssh", false),
    ("systemd", "/usr/lib/systemd/systemd", false),
    ("curl", "/usr/bin/curl", true),
    ("nc", "/usr/bin/nc", true),
    ("nmap", "/usr/bin/nmap", true),
];

fn programs(host: &Host) -> &'static [Program; 10] {
    if host.system == System::Windows { &WINDOWS } else { &UNIX }
}

fn process_id(draws: &mut Draws) -> u64 {
    draws.from(1000, 65_535)
}

fn process(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let (name, path, is_liked) = *draws.one(programs(host));
    let (parent, parent_path, _) = *draws.one(programs(host));
    let user = site.user(draws);
    let event = |command: &str, draws: &mut Draws| {
        Event::of_host("process", host)
            .text("action", draws.one(&["created", "created", "created", "terminated"]))
            .text("process_name", name)
            .text("process_path", path)
            .bare("process_id", process_id(draws))
            .text("parent_process_name", parent)
            .text("parent_process_path", parent_path)
            .bare("parent_process_id", process_id(draws))
            .text("user", &user.name)
            .text("command_line", command)
    };
    if draws.percent(10) {
        let command = match host.system {
            System::Windows => format!("{path} -EncodedCommand UwB0AGEAcgB0AA=="),
            _ => format!("{path} -c 'cat /etc/shadow; id'"),
        };
        return event(&command, draws).suspicious(draws, "a command line that hides or steals something", &["T1059"]);
    }
    let suspicion: Option<(&str, &[&str])> = is_liked.then_some(("a program that attackers like", &["T1036"]));
    event(path, draws).judged(draws, suspicion)
}

fn file(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    // Folder, name without its ending, ending; whether it is one to watch.
    let (folder, stem, ending, is_watched) = match host.system {
        System::Windows => *draws.one(&[
            (r"C:\Users\Public\Documents", "report", ".docx", false),
            (r"C:\Users\Public\Downloads", "setup", ".exe", false),
            (r"C:\inetpub\logs", "u_ex", ".log", false),
            (r"C:\Program Files\Example", "settings", ".ini", false),
            (r"C:\Windows\System32\drivers\etc", "hosts", "", true),
            (r"C:\Windows\System32\config", "SAM", "", true),
        ]),
        _ => *draws.one(&[
            ("/srv/share", "report", ".pdf", false),
            ("/var/log", "auth", ".log", false),
            ("/opt/example", "deploy", ".sh", false),
            ("/opt/example", "job", ".py", false),
            ("/etc", "passwd", "", true),
            ("/etc", "shadow", "", true),
        ]),
    };
    let slash = if host.system == System::Windows { '\\' } else { '/' };
    let path = format!("{folder}{slash}{stem}{ending}");
    let action = *draws.one(&["created", "modified", "deleted", "accessed", "renamed", "permission_changed"]);
    let (program, ..) = *draws.one(programs(host));
    let mut event = Event::of_host("file", host)
        .text("action", action)
        .text("file_path", &path)
        .text("file_name", format!("{stem}{ending}"))
        .text("file_extension", ending)
        .text("user", &site.user(draws).name)
        .text("process_name", program)
        .bare("process_id", process_id(draws));
    if action == "renamed" {
        event = event.text("old_file_path", &path).text("new_file_path", format!("{folder}{slash}{stem}_old{ending}"));
    }
    if action == "permission_changed" {
        event = event.text("old_permissions", "0644").text("new_permissions", "0777");
    }
    let suspicion: Option<(&str, &[&str])> = match (is_watched, action) {
        (true, "permission_changed") => Some(("anybody may write a file of the system", &["T1222"])),
        (true, _) if draws.percent(50) => Some(("a file of the system was touched", &["T1005"])),
        _ => None,
    };
    event.judged(draws, suspicion)
}

fn registry(site: &Site, draws: &mut Draws) -> Event {
    let host = site.windows(draws);
    let suspicious: [(&str, &str, &str, &str, &str); 3] = [
        (
            r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Run",
            "Updater",
            r"C:\Users\Public\updater.exe",
            "a program that starts with the system",
            "T1547.001",
        ),
        (
            r"HKEY_LOCAL_MACHINE\SYSTEM\CurrentControlSet\Services\Spooler",
            "ImagePath",
            r"C:\Users\Public\spool.exe",
            "another program in a service's place",
            "T1543.003",
        ),
        (
            r"HKEY_LOCAL_MACHINE\SOFTWARE\Policies\Microsoft\Windows Defender",
            "DisableAntiSpyware",
            "1",
            "a protection was switched off",
            "T1562.001",
        ),
    ];
    let usual: [(&str, &str, &str); 3] = [
        (r"HKEY_CURRENT_USER\Software\Microsoft\Windows\CurrentVersion\Internet Settings", "ProxyEnable", "0"),
        (r"HKEY_LOCAL_MACHINE\SOFTWARE\Microsoft\Windows\CurrentVersion\Uninstall", "DisplayVersion", "7.2.1"),
        (r"HKEY_CURRENT_USER\Control Panel\Desktop", "WallpaperStyle", "10"),
    ];
    let event = |key: &str, name: &str, data: &str, draws: &mut Draws| {
        let (program, ..) = *draws.one(&WINDOWS);
        Event::of_host("registry", host)
            .text("action", draws.one(&["created", "modified", "deleted"]))
            .text("registry_key", key)
            .text("registry_value_name", name)
            .text("registry_value_data", data)
            .text("registry_value_type", if data.bytes().all(|b| b.is_ascii_digit()) { "REG_DWORD" } else { "REG_SZ" })
            .text("user", &site.user(draws).name)
            .text("process_name", program)
            .bare("process_id", process_id(draws))
    };
    if draws.percent(40) {
        let (key, name, data, reason, technique) = *draws.one(&suspicious);
        return event(key, name, data, draws).suspicious(draws, reason, &[technique]);
    }
    let (key, name, data) = *draws.one(&usual);
    event(key, name, data, draws).usual(draws)
}

/// Why a login fails, and what that may be.
pub(super) const FAILURES: [(&str, &[&str]); 5] = [
    ("invalid_credentials", &["T1110"]),
    ("account_locked", &["T1110"]),
    ("account_expired", &["T1078"]),
    ("time_restriction", &["T1078"]),
    ("workstation_restriction", &["T1078"]),
];

/// One of five fails.
fn authentication(site: &Site, draws: &mut Draws) -> Event {
    let (host, user) = (site.host(draws), site.user(draws));
    let fails = draws.percent(20);
    let types: &[&str] = match host.system {
        System::Windows => &["NTLM", "Kerberos", "Network", "Local"],
        _ => &["SSH Key", "Password", "PAM", "sudo", "su"],
    };
    let event = Event::of_host("authentication", host)
        .text("user", &user.name)
        .text("user_name", &user.name)
        .text("authentication_type", draws.one(types))
        .text("authentication_status", if fails { "failure" } else { "success" })
        .text("source_ip", private(draws))
        .text("source_hostname", format!("{}-{}", draws.one(&["workstation", "laptop"]), draws.from(1, 20)));
    if !fails {
        return event.usual(draws);
    }
    let (why, techniques) = *draws.one(&FAILURES);
    event.text("failure_reason", why).suspicious(draws, &format!("a login failed: {why}"), techniques)
}

fn service(site: &Site, draws: &mut Draws) -> Event {
    let host = site.host(draws);
    let service = *draws.one(&host.services);
    let [name, shown, program] = service.on(host.system);
    let action = *draws.one(&["started", "stopped", "modified", "installed", "deleted"]);
    let by: &[&str] =
        if host.system == System::Windows { &["services.exe", "sc.exe", "powershell.exe"] } else { &["systemd", "systemctl"] };
    let mut event = Event::of_host("service", host)
        .text("action", action)
        .text("service_name", name)
        .text("service_display_name", shown)
        .text("service_type", draws.one(&["own_process", "share_process", "kernel", "file_system"]))
        .text("service_start_type", draws.one(&["auto", "demand", "boot", "system", "disabled"]))
        .text("user", &site.user(draws).name)
        .text("process_name", draws.one(by))
        .bare("process_id", process_id(draws));
    if matches!(action, "modified" | "installed") {
        event = event.text("binary_path", program);
    }
    let suspicion: Option<(&str, &[&str])> = match action {
        "stopped" | "deleted" if service.is_critical => Some(("a service that must run was ended", &["T1489"])),
        "installed" if draws.percent(50) => Some(("a service was installed", &["T1543"])),
        _ => None,
    };
    event.judged(draws, suspicion)
}
