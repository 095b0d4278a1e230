//! What the host grants a process: user, cores, descriptors, the service manager, the clock.

use std::{fs, path::Path};

use rustix::process::{Resource, geteuid, getrlimit};

use super::Finding;
use crate::{clock::Nanos, io, topology::Globals};

/// Seconds since 1970: no host ran this build before 2026.
const BUILT_AFTER_S: u64 = 1_767_225_600;

pub(super) fn user() -> Finding {
    let uid = geteuid().as_raw();
    if uid == 0 {
        return Finding::good("user", "root, who may read everything; `sudo -u shipper shipper doctor` tells what the agent's user may");
    }
    Finding::good("user", format!("{} (uid {uid})", name_of("/etc/passwd", uid)))
}

/// The name of a user or group, or its number where it has none.
pub(super) fn name_of(file: &str, id: u32) -> String {
    let listed = fs::read_to_string(file).unwrap_or_default();
    let named = listed.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| id.to_string())
}

pub(super) fn all(globals: &Globals, now: Nanos) -> Vec<Finding> {
    let allowed = io::cores().map(|cores| cores.len());
    let mut findings = vec![match allowed {
        Ok(allowed) => cores(globals.cores, allowed, quota()),
        Err(e) => Finding::warn(
            "cores",
            format!("cannot ask which may be used: {e}"),
            "allow sched_getaffinity in the container's seccomp profile",
        ),
    }];
    findings.push(open_files(getrlimit(Resource::Nofile).current));
    let variable = |name| std::env::var(name).ok();
    findings.push(systemd(variable("NOTIFY_SOCKET").as_deref(), variable("WATCHDOG_USEC").as_deref()));
    findings.push(clock(now));
    findings.push(zone());
    findings
}

fn cores(asked: usize, allowed: usize, quota: Option<f64>) -> Finding {
    let quota_text = quota.map_or(String::new(), |quota| format!(", and a cgroup grants the time of {quota:.1}"));
    let what = format!("{asked} asked for, {allowed} may be used{quota_text}");
    if asked > allowed {
        return Finding::warn("cores", what, format!("set cores = {allowed}, or allow more by CPUAffinity= or the container's cpuset"));
    }
    if quota.is_some_and(|quota| quota < asked as f64) {
        return Finding::warn("cores", what, "raise CPUQuota= or the container's cpu limit, or set fewer cores");
    }
    Finding::good("cores", what)
}

/// Cores' worth of time that the tightest cgroup above us grants; `None` for no limit.
fn quota() -> Option<f64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    // Documentation/admin-guide/cgroup-v2.rst: the unified hierarchy is number 0.
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
    let root = Path::new("/sys/fs/cgroup");
    let mut tightest: Option<f64> = None;
    for dir in root.join(path).ancestors().take_while(|dir| dir.starts_with(root)) {
        let granted = fs::read_to_string(dir.join("cpu.max")).ok().and_then(|text| granted(&text));
        tightest = match (tightest, granted) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    tightest
}

/// `150000 100000` grants one core and a half; `max 100000` does not limit.
fn granted(cpu_max: &str) -> Option<f64> {
    let (time, period) = cpu_max.trim().split_once(' ')?;
    let (time, period): (f64, f64) = (time.parse().ok()?, period.parse().ok()?);
    (period > 0.0).then_some(time / period)
}

fn open_files(limit: Option<u64>) -> Finding {
    match limit {
        None => Finding::good("open files", "unlimited"),
        Some(n) if n >= 1024 => Finding::good("open files", format!("at most {n}")),
        Some(n) => Finding::warn("open files", format!("at most {n}"), "set LimitNOFILE=65536 in the unit, or raise ulimit -n"),
    }
}

/// Both variables are set for a unit of Type=notify with WatchdogSec=, and for nobody else.
fn systemd(notify: Option<&str>, watchdog_us: Option<&str>) -> Finding {
    let watchdog = watchdog_us.map(|text| text.parse::<u64>());
    match (notify, watchdog) {
        (None, None) => {
            Finding::good("systemd", "not started by it, as usual for a command; the unit's settings show in the agent's own start")
        }
        (Some(_), None) => Finding::good("systemd", "is told when the agent is ready; no watchdog"),
        (_, Some(Err(_))) => Finding::warn("systemd", "WATCHDOG_USEC is no number", "set WatchdogSec= in the unit, not the variable"),
        (None, Some(_)) => {
            Finding::warn("systemd", "a watchdog waits, but there is no NOTIFY_SOCKET to answer on", "set Type=notify in the unit")
        }
        (Some(_), Some(Ok(us))) if us < 5_000_000 => Finding::warn(
            "systemd",
            format!("a watchdog of {} ms: a busy host would restart a healthy agent", us / 1000),
            "set WatchdogSec=30s in the unit",
        ),
        (Some(_), Some(Ok(us))) => Finding::good("systemd", format!("is told when the agent is ready; watchdog of {} s", us / 1_000_000)),
    }
}

fn clock(now: Nanos) -> Finding {
    let seconds = now / 1_000_000_000;
    let time = crate::topology::rows::rfc3339(now);
    if seconds < BUILT_AFTER_S {
        return Finding::bad(
            "clock",
            format!("says {time}, which is before this build"),
            "set it, and keep it right: `timedatectl set-ntp true`",
        );
    }
    // systemd-timesyncd(8) makes this file once the clock was set; other keepers leave no mark.
    let kept = if Path::new("/run/systemd/timesync/synchronized").exists() { ", set by systemd-timesyncd" } else { "" };
    Finding::good("clock", format!("{time}{kept}"))
}

/// Wazuh dates its files by local time, and so do the days of stream addresses.
fn zone() -> Finding {
    let zone = jiff::tz::TimeZone::system();
    match zone.iana_name() {
        Some(name) => Finding::good("time zone", name),
        None if zone.is_unknown() => Finding::warn(
            "time zone",
            "unknown, UTC is taken: a file without a dated name gets the wrong day where Wazuh writes local time",
            "set /etc/localtime, or TZ in the unit, as for Wazuh",
        ),
        None => Finding::good("time zone", "local, without a name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::Level;

    #[test]
    fn fewer_cores_than_asked_for_are_told() {
        for (asked, allowed, quota, level) in
            [(1, 1, None, Level::Good), (4, 8, Some(4.0), Level::Good), (4, 2, None, Level::Warning), (4, 8, Some(1.5), Level::Warning)]
        {
            assert_eq!(cores(asked, allowed, quota).level, level, "{asked} {allowed} {quota:?}");
        }
        for (text, expected) in [("150000 100000\n", Some(1.5)), ("max 100000\n", None), ("", None), ("1 0", None)] {
            assert_eq!(granted(text), expected, "{text}");
        }
    }

    #[test]
    fn a_service_manager_is_judged_by_what_it_set() {
        for (notify, watchdog, level) in [
            (None, None, Level::Good),
            (Some("/run/systemd/notify"), None, Level::Good),
            (Some("/run/systemd/notify"), Some("30000000"), Level::Good),
            (Some("/run/systemd/notify"), Some("1000000"), Level::Warning),
            (Some("/run/systemd/notify"), Some("soon"), Level::Warning),
            (None, Some("30000000"), Level::Warning),
        ] {
            assert_eq!(systemd(notify, watchdog).level, level, "{notify:?} {watchdog:?}");
        }
    }

    #[test]
    fn a_clock_from_before_the_build_is_bad() {
        assert_eq!(clock(0).level, Level::Bad);
        assert_eq!(clock(1_800_000_000_000_000_000).level, Level::Good);
        assert_eq!(
            [open_files(Some(256)).level, open_files(Some(1024)).level, open_files(None).level],
            [Level::Warning, Level::Good, Level::Good]
        );
        assert_eq!(name_of("/etc/passwd", 0), "root");
        assert_eq!(name_of("/etc/passwd", 4_000_000_000), "4000000000");
    }
}
