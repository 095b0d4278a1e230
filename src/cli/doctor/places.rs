//! Files and folders: the config, the state, what sources read, where the api listens.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use rustix::{
    fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, open, statfs, statvfs},
    process::geteuid,
};

use super::{Finding, host::name_of, size};
use crate::{
    api::{BindError, Bound, Listen},
    cli::state::Saved,
    clock::Nanos,
    dead_letter::segment_number,
    io::disk::RealDisk,
    sinks::Level,
    sources::Reads,
    topology::{ConfigError, Globals, Host, Plan},
};

/// Bytes below which the state cannot even be saved for long.
const FREE_BYTES_MIN: u64 = 64 << 20;

pub(super) fn config(path: &Path) -> Finding {
    let name = path.display();
    match Plan::load(Some(path), std::env::vars(), &[], &Host::this()) {
        Ok(plan) => {
            let mode = fs::metadata(path).map_or(0, |found| found.permissions().mode());
            if mode & 0o002 != 0 {
                return Finding::warn("config", format!("{name} is right, and anybody may write it"), format!("chmod o-w {name}"));
            }
            let ((sources, handlers), sinks) = (plan.written(), plan.sinks.len());
            let between = crate::cli::check::between(&plan);
            Finding::good("config", format!("{name} is right: {sources} sources, {handlers} handlers, {between}{sinks} sinks"))
        }
        Err(ConfigError::Read { source, .. }) => {
            let remedy = match source.kind() {
                io::ErrorKind::NotFound => "write one (`shipper list --example wazuh` is a start), or name another with --config",
                _ => "let the agent's user read it: chgrp shipper and chmod 0640",
            };
            Finding::bad("config", format!("cannot read {name}: {source}"), remedy)
        }
        Err(ConfigError::Invalid { errors, .. }) => {
            Finding::bad("config", format!("{name} has {} errors", errors.0.len()), "`shipper check` tells each with its remedy")
        }
    }
}

pub(super) fn state(globals: &Globals, now: Nanos) -> Vec<Finding> {
    let dir = &globals.state_dir;
    let name = dir.display();
    let found = match fs::metadata(dir) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return vec![absent(dir)],
        Err(e) => return vec![Finding::bad("state", format!("cannot look at {name}: {e}"), "ask as the agent's user, or as root")],
    };
    if !found.is_dir() {
        return vec![Finding::bad("state", format!("{name} is no folder"), "remove it, or name another folder in state.dir")];
    }
    let mut findings = vec![ours(dir, &found)];
    findings.push(free(dir, globals.dead_letter.max_bytes));
    findings.push(file_system(dir));
    findings.push(checkpoint(dir, now));
    findings.push(dead_letter(&globals.dead_letter.path, globals.dead_letter.max_bytes));
    findings
}

fn absent(dir: &Path) -> Finding {
    let above = dir.ancestors().skip(1).find(|above| above.is_dir()).unwrap_or(Path::new("/"));
    if may(above, Access::WRITE_OK | Access::EXEC_OK) {
        return Finding::good("state", format!("{} is not there yet; the first start makes it", dir.display()));
    }
    Finding::bad(
        "state",
        format!("{} is not there, and this user may not make it in {}", dir.display(), above.display()),
        format!("install -d -m 0700 -o shipper -g shipper {}", dir.display()),
    )
}

fn ours(dir: &Path, found: &fs::Metadata) -> Finding {
    let name = dir.display();
    let (owner, mode) = (found.uid(), found.permissions().mode() & 0o7777);
    let who = name_of("/etc/passwd", owner);
    let what = format!("{name} belongs to {who}, mode {mode:04o}");
    if !may(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return Finding::bad(
            "state",
            format!("{what}: this user may not write it"),
            format!("chown the folder to the agent's user, or ask as {who}"),
        );
    }
    if owner != geteuid().as_raw() && geteuid().as_raw() != 0 {
        return Finding::warn("state", format!("{what}, and not to this user"), "let one user own the folder and run the agent");
    }
    if mode & 0o077 != 0 {
        return Finding::warn("state", format!("{what}: others may look in, and refused records are in it"), format!("chmod 0700 {name}"));
    }
    Finding::good("state", what)
}

/// Whether this user may, by the rights of the moment (not those of who started it).
fn may(path: &Path, what: Access) -> bool {
    accessat(CWD, path, what, AtFlags::EACCESS).is_ok()
}

fn free(dir: &Path, dead_letter_bytes_max: u64) -> Finding {
    match statvfs(dir) {
        Ok(found) => room(
            found.f_bavail.saturating_mul(found.f_frsize),
            // btrfs and zfs make inodes as they need them, and say 0 of 0.
            found.f_files > 0 && found.f_favail == 0,
            dead_letter_bytes_max,
        ),
        Err(e) => Finding::warn("free space", format!("cannot be told: {e}"), "look with df"),
    }
}

fn room(bytes: u64, lacks_inodes: bool, dead_letter_bytes_max: u64) -> Finding {
    let topic = "free space";
    let what = format!("{} for the state", size(bytes));
    if lacks_inodes {
        return Finding::bad(topic, format!("{what}, and no inodes"), "remove files, or name another file system in state.dir");
    }
    if bytes < FREE_BYTES_MIN {
        return Finding::bad(topic, what, "free some, or name another file system in state.dir; a full disk stops the acks");
    }
    if bytes < dead_letter_bytes_max {
        return Finding::warn(
            topic,
            format!("{what}, and the dead letter may take {}", size(dead_letter_bytes_max)),
            "free some, or lower dead_letter.max_bytes",
        );
    }
    Finding::good(topic, what)
}

fn file_system(dir: &Path) -> Finding {
    let topic = "file system";
    match statfs(dir) {
        Ok(found) => kept_on(u64::try_from(found.f_type).unwrap_or(0)),
        Err(e) => Finding::warn(topic, format!("cannot be told: {e}"), "look with findmnt"),
    }
}

/// Judges a file system by its magic number (statfs(2)).
fn kept_on(magic: u64) -> Finding {
    let topic = "file system";
    let volatile = |name: &str| {
        Finding::warn(topic, format!("{name}: the state is gone after a restart of the host"), "name a folder on a disk in state.dir")
    };
    let remote = |name: &str| {
        Finding::warn(topic, format!("{name}: locks and fsync are as good as its server"), "name a folder on a local disk in state.dir")
    };
    match magic {
        0xEF53 => Finding::good(topic, "ext4"),
        0x5846_5342 => Finding::good(topic, "xfs"),
        0x9123_683E => Finding::good(topic, "btrfs"),
        0x2FC1_2FC1 => Finding::good(topic, "zfs"),
        0xF2F5_2010 => Finding::good(topic, "f2fs"),
        0x0102_1994 => volatile("tmpfs"),
        0x8584_58F6 => volatile("ramfs"),
        0x794C_7630 => {
            Finding::warn(topic, "overlayfs, a container's own layer: the state goes with the container", "mount a volume at state.dir")
        }
        0x6969 => remote("nfs"),
        0xFF53_4D42 | 0xFE53_4D42 => remote("smb"),
        0x6573_5546 => remote("fuse"),
        other => Finding::good(topic, format!("of a kind that has no name here (magic {other:#x})")),
    }
}

fn checkpoint(dir: &Path, now: Nanos) -> Finding {
    let topic = "checkpoint";
    match Saved::read(&RealDisk::new(), dir).chosen {
        Ok(None) => Finding::good(topic, "none yet; the next start is a first one"),
        Ok(Some(chosen)) => {
            let saved_at = &chosen.checkpoint.saved_at;
            let at = saved_at.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_nanosecond()).ok());
            if at.is_some_and(|at| at > now.saturating_add(60_000_000_000)) {
                return Finding::warn(
                    topic,
                    format!("was saved at {saved_at}, which is to come: the clock was set back"),
                    "see who sets the clock",
                );
            }
            Finding::good(topic, format!("generation {}, saved {saved_at}", chosen.checkpoint.generation))
        }
        Err(what) => {
            let (what, remedy) = what.split_once("; ").unwrap_or((&what, "see `shipper state show`"));
            Finding::bad(topic, what, remedy)
        }
    }
}

fn dead_letter(dir: &Path, max: u64) -> Finding {
    let topic = "dead letter";
    let names = match fs::read_dir(dir) {
        Ok(names) => names,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Finding::good(topic, "none yet"),
        Err(e) => return Finding::warn(topic, format!("cannot be read: {e}"), "ask as the agent's user, or as root"),
    };
    let segments = names.flatten().filter(|entry| segment_number(&entry.path()).is_some());
    let bytes: u64 = segments.filter_map(|entry| entry.metadata().ok()).map(|found| found.len()).sum();
    let what = format!("{} of {}", size(bytes), size(max));
    if bytes > max / 10 * 8 {
        return Finding::warn(topic, what, "look at it with `shipper dead-letter list`; once full, dead_letter.on_full decides");
    }
    Finding::good(topic, what)
}

/// A socket of the kernel's is asked for and given back; a unix socket's place is only looked at.
pub(super) fn api(globals: &Globals) -> Option<Finding> {
    let topic = "api";
    Some(match globals.api.as_ref()? {
        listen @ Listen::Tcp(_) => match Bound::bind(listen) {
            Ok(_) => Finding::good(topic, format!("{listen} is free")),
            Err(BindError::Taken { address }) => Finding::warn(
                topic,
                format!("{address} is taken"),
                "fine if it is the running agent's; else name another address in api.listen",
            ),
            Err(e) => Finding::bad(topic, e.to_string(), "name an address of this host in api.listen"),
        },
        Listen::Unix(path) => {
            let folder = path.parent().unwrap_or(Path::new("/"));
            if may(folder, Access::WRITE_OK | Access::EXEC_OK) {
                Finding::good(topic, format!("{} may hold its socket", folder.display()))
            } else {
                let remedy = "set RuntimeDirectory=shipper in the unit, or make the folder for the agent's user";
                Finding::bad(topic, format!("{} is not there, or not ours to write", folder.display()), remedy)
            }
        }
    })
}

/// Whether this user may read what a source reads.
pub(super) fn source(name: &str, reads: &Reads) -> Finding {
    let topic = format!("sources.{name}");
    match reads {
        Reads::File(path) => readable(&topic, path),
        Reads::Folder(path) => listable(&topic, path),
    }
}

/// What whoever keeps a source's records is set up to do with them.
pub(super) fn kept_by(name: &str, found: crate::sources::Finding) -> Finding {
    let topic = format!("sources.{name}");
    let (what, remedy) = found.text.split_once("; ").unwrap_or((&found.text, ""));
    match found.level {
        Level::Good => Finding::good(topic, found.text),
        Level::Warning => Finding::warn(topic, what, remedy),
        Level::Bad => Finding::bad(topic, what, remedy),
    }
}

fn listable(topic: &str, folder: &Path) -> Finding {
    let name = folder.display();
    match fs::read_dir(folder) {
        Ok(names) => Finding::good(topic, format!("{name} can be listed, {} names", names.count())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Finding::warn(topic, format!("folder {name} is not there"), "see that its writer is installed, or name the right path")
        }
        Err(e) => Finding::bad(topic, format!("cannot list {name}: {e}"), let_in(folder)),
    }
}

fn readable(topic: &str, path: &Path) -> Finding {
    let name = path.display();
    // As the agent opens: a pipe under this name must not hold us up.
    let opened = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK, Mode::empty()).map_err(io::Error::from);
    match opened.and_then(|file| fs::File::from(file).metadata()) {
        Ok(found) if found.is_file() => Finding::good(topic, format!("{name} can be read, {}", size(found.len()))),
        Ok(_) => Finding::bad(topic, format!("{name} is no regular file"), "name the file itself"),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let remedy = if path.parent().is_some_and(Path::is_dir) {
                "the agent waits for it; see that its writer runs"
            } else {
                "its folder is not there either: see that its writer is installed, or name the right path"
            };
            Finding::warn(topic, format!("{name} is not there"), remedy)
        }
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Finding::bad(topic, format!("cannot read {name}: {e}"), let_in(path)),
        Err(e) => Finding::bad(topic, format!("cannot read {name}: {e}"), "see to its file system"),
    }
}

/// The group that could let this user in: of the nearest name that can be looked at.
fn let_in(path: &Path) -> String {
    let group = path.ancestors().find_map(|at| fs::metadata(at).ok()).map(|found| name_of("/etc/group", found.gid()));
    match group {
        Some(group) if group != "root" => {
            format!("add the agent's user to group {group}: usermod -aG {group} shipper, then restart the agent")
        }
        _ => "let a group of the agent's user read it: chgrp and chmod g+r, and g+x for its folders".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_judged_by_what_may_come() {
        for (bytes, lacks_inodes, level) in
            [(1 << 40, false, Level::Good), (1 << 29, false, Level::Warning), (1 << 20, false, Level::Bad), (1 << 40, true, Level::Bad)]
        {
            assert_eq!(room(bytes, lacks_inodes, 1 << 30).level, level, "{bytes} {lacks_inodes}");
        }
        let levels = [0xEF53, 0x0102_1994, 0x6969, 0x1234].map(|magic| kept_on(magic).level);
        assert_eq!(levels, [Level::Good, Level::Warning, Level::Warning, Level::Good]);
    }

    #[test]
    fn files_are_judged_as_the_agent_would_open_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alerts.json");
        assert_eq!(readable("s", &file).level, Level::Warning, "it is waited for");
        fs::write(&file, "{}\n").unwrap();
        assert_eq!(readable("s", &file).what, format!("{} can be read, 3 bytes", file.display()));
        assert_eq!(readable("s", dir.path()).level, Level::Bad, "a folder is no file");
        let pipe = dir.path().join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        assert_eq!(readable("s", &pipe).level, Level::Bad, "nor is a pipe, and nobody waits for its writer");
        let folder = |path: &Path| source("s", &Reads::Folder(path.to_owned())).level;
        assert_eq!(folder(dir.path()), Level::Good);
        assert_eq!([folder(&dir.path().join("no")), folder(&file)], [Level::Warning, Level::Bad]);
    }
}
