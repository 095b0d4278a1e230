//! What an operator asks first when reading is slow or does not start.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::{fs, path::Path};

use rustix::{
    fs::{Mode, OFlags},
    process::{Resource, getrlimit},
};

use super::{Asked, Watcher, choose, host};

/// Names and values of what this host offers the engines, for `shipper doctor`; `dir` is a folder
/// that will be read, for which O_DIRECT is tried.
pub fn facts(dir: &Path) -> Vec<(String, String)> {
    let limit = |resource| {
        let number = |n: Option<u64>| n.map_or("unlimited".to_owned(), |n| n.to_string());
        let found = getrlimit(resource);
        format!("{} (at most {})", number(found.current), number(found.maximum))
    };
    let memlock = limit(Resource::Memlock);
    let inotify = match Watcher::new() {
        Ok(watcher) => watcher.trouble().unwrap_or_else(|| "works".into()),
        Err(e) => e.to_string(),
    };
    let system = rustix::system::uname();
    let mut facts = vec![
        (
            "kernel",
            format!("{} {} {}", system.sysname().to_string_lossy(), system.release().to_string_lossy(), system.machine().to_string_lossy()),
        ),
        ("engine", choose(Asked::Auto).map_or_else(|e| e, |(_, why)| why)),
        ("kernel.io_uring_disabled", setting("kernel/io_uring_disabled")),
        ("memlock bytes", memlock),
        ("open files", limit(Resource::Nofile)),
        ("O_DIRECT", format!("{} ({})", direct(dir), dir.display())),
        ("inotify", inotify),
    ];
    for name in ["max_user_instances", "max_user_watches", "max_queued_events"] {
        facts.push((name, setting(&format!("fs/inotify/{name}"))));
    }
    facts.push(("cores", super::cores().map_or_else(|e| e.to_string(), |cores| format!("{cores:?}"))));
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn setting(name: &str) -> String {
    fs::read_to_string(Path::new("/proc/sys").join(name)).map_or_else(|_| "not known to this kernel".into(), |text| text.trim().into())
}

/// Tried on a file that is there; in an empty folder on one without a name.
fn direct(dir: &Path) -> String {
    let names = match host::list(dir) {
        Ok(names) => names,
        Err(e) => return format!("cannot list: {e}"),
    };
    let file = names.iter().find(|path| host::stat(path).is_ok_and(|stat| stat.is_file));
    let tried = match file {
        Some(path) => host::open(path).and_then(host::reopen_direct),
        None => rustix::fs::open(dir, OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::DIRECT, Mode::RUSR).map_err(Into::into),
    };
    match (tried, file) {
        (Ok(_), _) => "works".into(),
        (Err(e), Some(path)) => format!("refused for {}: {e}", path.display()),
        (Err(e), None) => format!("unknown, the folder has no file to try: {e}"),
    }
}
