//! What glommio unwraps in /sys when it opens a direct file, looked at before it does.

#![allow(clippy::disallowed_methods, reason = "an engine is where the real machine is touched")]

use std::{fs, io, path::Path};

/// Numbers that are read from a device's `queue` folder.
const NUMBERS: &[&str] = &[
    "rotational",
    "minimum_io_size",
    "optimal_io_size",
    "logical_block_size",
    "physical_block_size",
    "max_sectors_kb",
    "max_segment_size",
];

/// Ok if glommio can describe the device that it will look for; it takes the first of the same
/// major number, which need not be the one that holds the file, nor a whole disk.
///
/// # Errors
/// What it would have panicked on.
pub(super) fn expected(device: u64) -> io::Result<()> {
    described(Path::new(&format!("/sys/dev/block/{}:0", rustix::fs::major(device))))
}

fn described(link: &Path) -> io::Result<()> {
    let folder = match fs::canonicalize(link) {
        Ok(folder) => folder,
        // Taken for a device in memory.
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let queue = folder.join("queue");
    let odd = |what: &str| io::Error::other(format!("{} is not as expected", queue.join(what).display()));
    for name in NUMBERS {
        fs::read_to_string(queue.join(name))?.trim_matches('\n').parse::<isize>().map_err(|_| odd(name))?;
    }
    if !matches!(fs::read_to_string(queue.join("write_cache"))?.trim_matches('\n'), "write back" | "write through") {
        return Err(odd("write_cache"));
    }
    fs::read_dir(folder.join("slaves"))?.try_for_each(|entry| entry.map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_described_only_when_every_file_reads_as_expected() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = folder.path().join("disk");
        assert!(described(&disk).is_ok(), "no device at all is one in memory");
        fs::create_dir_all(disk.join("queue")).expect("makes");
        let write = |name: &str, text: &str| fs::write(disk.join("queue").join(name), text).expect("writes");
        for name in NUMBERS {
            assert!(described(&disk).is_err(), "without {name}");
            write(name, "512\n");
        }
        write("write_cache", "write sideways\n");
        fs::create_dir(disk.join("slaves")).expect("makes");
        assert!(described(&disk).is_err());
        write("write_cache", "write back\n");
        described(&disk).expect("complete");
        fs::remove_dir(disk.join("slaves")).expect("removes");
        assert!(described(&disk).is_err(), "a partition has no slaves");
    }
}
