//! Archives of one file: what they are called, which there are, and which are to go.
//!
//! | name | is |
//! |---|---|
//! | `out.json` | the file that is written |
//! | `out.json.20261130T034708.123Z` | an archive: everything up to that moment (UTC) |
//! | `out.json.20261130T034708.123Z.gz` | the same, compressed; always whole under this name |
//! | `out.json.20261130T034708.123Z.gz.part` | compression at work, or what a crash left of it |
//!
//! Names sort as the times do. A stamp is later than every one before it, whatever the clock says,
//! so that no archive ever takes another's name. Whatever is not called exactly so is none of ours.

use std::{
    ffi::OsString,
    fmt, fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

use crate::clock::{Nanos, nanos};

const MILLI: Nanos = 1_000_000;
/// Milliseconds since 1970 of the last moment with a year of four digits.
const LAST: u64 = 253_402_300_799_999;

/// When an archive was closed: milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

impl Stamp {
    /// The moment `now` (wall time), or the next one after `last`.
    pub(super) fn after(last: Option<Self>, now: Nanos) -> Self {
        Self((now / MILLI).max(last.map_or(0, |last| last.0 + 1)).min(LAST))
    }

    /// Reads exactly what [`Display`](fmt::Display) writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (civil, millis) = text.strip_suffix('Z')?.split_once('.')?;
        let at = DateTime::strptime("%Y%m%dT%H%M%S", civil).ok()?.to_zoned_datetime(TimeZone::UTC).ok()?;
        let millis: u64 = millis.parse().ok()?;
        let stamp = Self(u64::try_from(at.timestamp().as_second()).ok()? * 1000 + millis);
        (stamp.to_string() == text).then_some(stamp)
    }

    /// Wall time.
    pub(super) fn at(self) -> Nanos {
        self.0 * MILLI
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = i64::try_from(self.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or(Timestamp::MAX);
        write!(f, "{}.{:03}Z", at.strftime("%Y%m%dT%H%M%S"), self.0 % 1000)
    }
}

/// What a name of ours stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    Plain,
    Gzip,
    /// Compression at work, or what a crash left of it.
    Part,
}

impl Form {
    const ALL: [Self; 3] = [Self::Plain, Self::Gzip, Self::Part];

    fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gzip => ".gz",
            Self::Part => ".gz.part",
        }
    }
}

/// The name of an archive of `path`.
pub(super) fn name(path: &Path, stamp: Stamp, form: Form) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(format!(".{stamp}{}", form.suffix()));
    name.into()
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Every archive of `path`, the oldest first. Only plain files count.
///
/// # Errors
/// As opendir(3).
#[allow(clippy::disallowed_methods, reason = "a sink on a thread of its own, where it may block")]
pub(super) fn list(path: &Path) -> io::Result<Vec<(Stamp, Form)>> {
    let Some(own) = path.file_name() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(path))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.as_bytes().strip_prefix(own.as_bytes()).and_then(|rest| rest.strip_prefix(b".")) else { continue };
        let Ok(rest) = std::str::from_utf8(rest) else { continue };
        let of = Form::ALL.into_iter().find_map(|form| Some((Stamp::parse(rest.strip_suffix(form.suffix())?)?, form)));
        let is_file = || entry.file_type().is_ok_and(|kind| kind.is_file());
        found.extend(of.filter(|_| is_file()));
    }
    found.sort_unstable();
    Ok(found)
}

/// How many archives stay, and how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Limits {
    pub keep: Option<usize>,
    pub keep_for: Option<Duration>,
}

impl Limits {
    /// Which archives are to go, and the setting that says so.
    ///
    /// - `stamps`: of all archives, each once, the oldest first.
    /// - `now`: wall time.
    pub(super) fn exceeded(&self, stamps: &[Stamp], now: Nanos) -> Vec<(Stamp, &'static str)> {
        let too_many = self.keep.map_or(0, |keep| stamps.len().saturating_sub(keep));
        let old = |stamp: &Stamp| self.keep_for.is_some_and(|span| now.saturating_sub(stamp.at()) > nanos(span));
        let judged = stamps.iter().enumerate().map(|(n, stamp)| {
            let why = if n < too_many { Some("keep") } else { old(stamp).then_some("keep_for") };
            (*stamp, why)
        });
        judged.filter_map(|(stamp, why)| Some((stamp, why?))).collect()
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_stamp_says_when_in_utc() {
        let stamp = Stamp(1_796_010_428_123);
        assert_eq!(stamp.to_string(), "20261130T034708.123Z");
        assert_eq!(Stamp::parse("20261130T034708.123Z"), Some(stamp));
        assert_eq!(name(Path::new("/x/out.json"), stamp, Form::Part), Path::new("/x/out.json.20261130T034708.123Z.gz.part"));
    }

    #[test]
    fn what_is_not_exactly_a_stamp_is_none() {
        let wrong = [
            "",
            "1",
            "20261130",
            "20261130T034708Z",
            "20261130T034708.123",
            "20261130T034708.1Z",
            "20261130T034708.+12Z",
            "20261330T034708.123Z",
            "20261130T034708.123Z.gz",
            " 20261130T034708.123Z",
            "20261130T034760.123Z",
            "20261130 034708.123Z",
        ];
        for text in wrong {
            assert_eq!(Stamp::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_clock_that_goes_back_takes_no_name_twice() {
        let first = Stamp::after(None, 5_000 * MILLI);
        let second = Stamp::after(Some(first), 1_000 * MILLI);
        assert!(second > first && second == Stamp(5_001));
        assert_eq!(Stamp::after(Some(second), 9_000 * MILLI), Stamp(9_000));
    }

    #[test]
    fn only_plain_files_with_our_names_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.json");
        let ours = ["out.json.20261130T034708.123Z.gz", "out.json.20261129T000000.000Z", "out.json.20261130T034708.123Z.gz.part"];
        let others = [
            "out.json",
            "out.json.1",
            "out.json.1.gz",
            "out.json-20261130",
            "out.json.bak",
            "out.json.20261130T034708.123Z.bz2",
            "other.json.20261130T034708.123Z",
            "out.json.20261130T034708.123Z.gz.gz",
            "20261130T034708.123Z",
        ];
        for name in ours.iter().chain(&others) {
            fs::write(dir.path().join(name), "").unwrap();
        }
        fs::create_dir(dir.path().join("out.json.20261101T000000.000Z")).unwrap();
        std::os::unix::fs::symlink("out.json", dir.path().join("out.json.20261102T000000.000Z")).unwrap();
        let found: Vec<_> = list(&path).unwrap().into_iter().map(|(stamp, form)| format!("{stamp} {form:?}")).collect();
        assert_eq!(found, ["20261129T000000.000Z Plain", "20261130T034708.123Z Gzip", "20261130T034708.123Z Part"]);
    }

    #[test]
    fn limits_name_the_oldest() {
        let stamps = [Stamp(1_000), Stamp(2_000), Stamp(3_000)];
        let gone = |keep, keep_for: Option<u64>, now: u64| {
            let limits = Limits { keep, keep_for: keep_for.map(Duration::from_secs) };
            limits.exceeded(&stamps, now * 1_000 * MILLI).into_iter().map(|(stamp, why)| (stamp.0, why)).collect::<Vec<_>>()
        };
        assert_eq!(gone(None, None, 1 << 30), []);
        assert_eq!(gone(Some(2), None, 3), [(1_000, "keep")]);
        assert_eq!(gone(Some(0), None, 3).len(), 3);
        assert_eq!(gone(None, Some(10), 12), [(1_000, "keep_for")], "one exactly as old stays");
        assert_eq!(gone(Some(2), Some(10), 13), [(1_000, "keep"), (2_000, "keep_for")]);
        assert_eq!(gone(None, Some(10), 0), [], "a clock before them all");
    }

    proptest! {
        #[test]
        fn a_stamp_is_read_as_it_is_written_and_sorts_as_text(a in 0..=LAST, b in 0..=LAST) {
            let (a, b) = (Stamp(a), Stamp(b));
            prop_assert_eq!(Stamp::parse(&a.to_string()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.to_string().cmp(&b.to_string()));
        }

        #[test]
        fn any_other_text_is_refused_or_written_back(text in "[0-9TZ.+ -]{0,24}") {
            if let Some(stamp) = Stamp::parse(&text) {
                prop_assert_eq!(stamp.to_string(), text);
            }
        }
    }
}
