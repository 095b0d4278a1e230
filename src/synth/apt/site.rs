//! The imagined site: its hosts and its users.

use super::draws::Draws;

/// What a host runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    Windows,
    Linux,
    MacOs,
}

/// A service as two families of systems call it: its name, what it is called on screen, its program.
#[derive(Debug)]
pub(super) struct Service {
    windows: [&'static str; 3],
    unix: [&'static str; 3],
    /// Whether its end is an alarm.
    pub is_critical: bool,
}

const fn service(windows: [&'static str; 3], unix: [&'static str; 3], is_critical: bool) -> Service {
    Service { windows, unix, is_critical }
}

/// Of these a host has three to six.
static SERVICES: [Service; 10] = [
    service(["sshd", "OpenSSH SSH Server", r"C:\Windows\System32\OpenSSH\sshd.exe"], ["sshd", "OpenSSH server", "/usr/sbin/sshd"], true),
    service(
        ["W3SVC", "World Wide Web Publishing Service", r"C:\Windows\System32\svchost.exe"],
        ["nginx", "nginx web server", "/usr/sbin/nginx"],
        false,
    ),
    service(
        ["MSSQLSERVER", "SQL Server", r"C:\Program Files\Microsoft SQL Server\sqlservr.exe"],
        ["postgresql", "PostgreSQL database", "/usr/bin/postgres"],
        true,
    ),
    service(["LanmanServer", "Server", r"C:\Windows\System32\svchost.exe"], ["smbd", "Samba file server", "/usr/sbin/smbd"], false),
    service(
        ["Schedule", "Task Scheduler", r"C:\Windows\System32\svchost.exe"],
        ["cron", "Regular background jobs", "/usr/sbin/cron"],
        false,
    ),
    service(
        ["EventLog", "Windows Event Log", r"C:\Windows\System32\svchost.exe"],
        ["rsyslog", "System logging", "/usr/sbin/rsyslogd"],
        true,
    ),
    service(["Dnscache", "DNS Client", r"C:\Windows\System32\svchost.exe"], ["named", "DNS server", "/usr/sbin/named"], false),
    service(["Spooler", "Print Spooler", r"C:\Windows\System32\spoolsv.exe"], ["cups", "Printing", "/usr/sbin/cupsd"], false),
    service(
        ["W32Time", "Windows Time", r"C:\Windows\System32\svchost.exe"],
        ["chronyd", "Time synchronisation", "/usr/sbin/chronyd"],
        false,
    ),
    service(
        ["WinDefend", "Microsoft Defender Antivirus", r"C:\Program Files\Windows Defender\MsMpEng.exe"],
        ["auditd", "Security auditing", "/usr/sbin/auditd"],
        true,
    ),
];

impl Service {
    /// Its name, what it is called on screen, its program.
    pub(super) fn on(&self, system: System) -> [&'static str; 3] {
        if system == System::Windows { self.windows } else { self.unix }
    }
}

/// A host.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub name: Box<str>,
    /// Private.
    pub address: String,
    pub system: System,
    /// Of [`SERVICES`].
    pub services: Vec<&'static Service>,
}

/// A user.
#[derive(Clone, Debug)]
pub(super) struct User {
    pub name: Box<str>,
    pub department: &'static str,
    /// May administer hosts.
    pub is_privileged: bool,
}

const DEPARTMENTS: [(&str, &[&str]); 5] = [
    ("it", &["administrator", "operator", "developer"]),
    ("finance", &["accountant", "controller"]),
    ("sales", &["agent", "manager"]),
    ("staff", &["recruiter", "manager"]),
    ("research", &["scientist", "student"]),
];

/// Hosts and users.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub hosts: Vec<Host>,
    pub users: Vec<User>,
}

impl Site {
    /// - `hosts`, `users`: one of each at least.
    pub(super) fn new(draws: &mut Draws, hosts: u32, users: u32) -> Self {
        let host = |n: u32, draws: &mut Draws| {
            // The first runs Windows, so that there is one that has a registry.
            let system = if n == 1 { System::Windows } else { *draws.one(&[System::Windows, System::Linux, System::Linux, System::MacOs]) };
            let count = draws.from(3, 6) as usize;
            Host { name: format!("host{n}").into(), address: private(draws), system, services: draws.some(&SERVICES, count) }
        };
        let user = |n: u32, draws: &mut Draws| {
            let (department, roles) = *draws.one(&DEPARTMENTS);
            let role = *draws.one(roles);
            User { name: format!("user{n}").into(), department, is_privileged: role == "administrator" || role == "operator" }
        };
        let hosts = (1..=hosts.max(1)).map(|n| host(n, draws)).collect();
        let users = (1..=users.max(1)).map(|n| user(n, draws)).collect();
        Self { hosts, users }
    }

    pub(super) fn host(&self, draws: &mut Draws) -> &Host {
        draws.one(&self.hosts)
    }

    /// One that runs Windows.
    pub(super) fn windows(&self, draws: &mut Draws) -> &Host {
        let all = || self.hosts.iter().filter(|host| host.system == System::Windows);
        let n = draws.below(all().count() as u64) as usize;
        all().nth(n).unwrap_or(&self.hosts[0])
    }

    pub(super) fn user(&self, draws: &mut Draws) -> &User {
        draws.one(&self.users)
    }
}

/// An address of a private network.
pub(super) fn private(draws: &mut Draws) -> String {
    let last = |draws: &mut Draws| format!("{}.{}", draws.from(0, 255), draws.from(1, 254));
    match draws.below(3) {
        0 => format!("10.{}.{}", draws.from(0, 255), last(draws)),
        1 => format!("172.{}.{}", draws.from(16, 31), last(draws)),
        _ => format!("192.168.{}", last(draws)),
    }
}

/// An address outside: of a network for documentation, which is nobody's.
pub(super) fn foreign(draws: &mut Draws) -> String {
    format!("{}.{}", draws.one(&["192.0.2", "198.51.100", "203.0.113"]), draws.from(1, 254))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_what_its_size_says_and_a_host_with_windows_always() {
        for seed in 0..20 {
            let site = Site::new(&mut Draws::new(seed), 10, 20);
            assert_eq!((site.hosts.len(), site.users.len()), (10, 20));
            assert!(site.hosts.iter().all(|host| (3..=6).contains(&host.services.len())), "{site:?}");
            let address = |host: &Host| host.address.parse::<std::net::Ipv4Addr>().expect("an address");
            assert!(site.hosts.iter().all(|host| address(host).is_private()), "{site:?}");
            assert!(site.users.iter().all(|user| !user.department.is_empty()));
        }
        assert_eq!(&*Site::new(&mut Draws::new(1), 0, 0).windows(&mut Draws::new(1)).name, "host1");
    }
}
