//! `wazuh`: alerts.json with its dated tree.
//!
//! The name is a hard link to `YYYY/Mon/ossec-alerts-DD[-NNN].json`, swapped at midnight and at
//! size rotations with a moment in which it is away. A record's address is (instance, channel,
//! day, part, offset): true before and after the swap.

use std::{
    io,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
};

use super::{
    Admit, Kind, Reads, Source, SourceError, Spec, StreamName,
    file::{Follow, START_AT, Siblings, StartAt, start_at},
};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    position::{Position, Segment, encode_name},
    register::{Field, Section, Type},
};

/// The kind.
pub struct Wazuh;

const FIELDS: &[Field] = &[
    Field::new("path", Type::Path, "\"/var/ossec/logs/alerts/alerts.json\"", "The channel's file. Its dated tree is beside it."),
    Field::new("start_at", Type::Choice(&["end", "beginning"]), "end", START_AT),
];

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

impl Kind for Wazuh {
    fn name(&self) -> &'static str {
        "wazuh"
    }
    fn about(&self) -> &'static str {
        "alerts.json of a Wazuh manager, with its dated tree"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.path("path"), start_at: start_at(section) })
    }
    fn address(&self, stream: &StreamName<'_>, position: &Position) -> Option<String> {
        let Position::File { segment, incarnation, offset } = position else { return None };
        Some(format!("{}/{offset}", part_origin(&channel_origin(stream.instance, stream.stream), *segment, *incarnation)))
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: PathBuf,
    start_at: StartAt,
}

impl Spec for Settings {
    fn build(&self, _name: &str, instance: &str) -> Box<dyn Source> {
        Box::new(Running { settings: self.clone(), instance: instance.to_owned() })
    }
    fn rests(&self) -> bool {
        true
    }
    fn reads(&self) -> Vec<Reads> {
        let folder = self.path.parent().map(|folder| Reads::Folder(folder.to_owned()));
        [Reads::File(self.path.clone())].into_iter().chain(folder).collect()
    }
}

struct Running {
    settings: Settings,
    instance: String,
}

impl Source for Running {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let Self { settings: Settings { path, start_at }, instance } = *self;
            let channel = path.file_stem().map_or_else(|| "alerts".into(), |stem| stem.to_string_lossy().into_owned());
            let tree = Tree {
                base: path.parent().unwrap_or(Path::new(".")).to_owned(),
                // The archive of all events lacks the plural in its dated names.
                prefix: if channel == "archives" { "ossec-archive-".into() } else { format!("ossec-{channel}-") },
                origin: channel_origin(&instance, &channel),
            };
            Follow::new(io, admit, standing, path, channel, Box::new(tree), start_at).run().await;
            Ok(())
        })
    }
}

/// The dated tree of one channel.
struct Tree {
    base: PathBuf,
    prefix: String,
    origin: String,
}

impl Siblings for Tree {
    fn files(&self, io: &dyn Io) -> io::Result<Vec<(u32, PathBuf)>> {
        // A folder that is not there or not ours to see has no files for us; any other error passes.
        let list = |dir: &Path| match io.list(dir) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory) => {
                Ok(Vec::new())
            }
            listed => listed,
        };
        let mut files = Vec::new();
        for year_dir in list(&self.base)? {
            let Some(year) = name(&year_dir).and_then(|n| (n.len() == 4).then(|| n.parse::<i16>().ok()).flatten()) else { continue };
            for (month, month_name) in (1i8..).zip(MONTHS) {
                for path in list(&year_dir.join(month_name))? {
                    if let Some((day, part)) = name(&path).and_then(|n| day_and_part(n, &self.prefix))
                        && let Some(segment) = segment(year, month, day, part)
                    {
                        files.push((segment.0, path));
                    }
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn unnamed(&self, io: &dyn Io) -> u32 {
        let now = jiff::Timestamp::from_nanosecond(i128::from(io.clock().now())).unwrap_or_default();
        let today = jiff::tz::TimeZone::system().to_datetime(now).date();
        segment(today.year(), today.month(), today.day(), 0).map_or(0, |segment| segment.0)
    }

    fn origin(&self, number: u32, incarnation: u16) -> Arc<str> {
        part_origin(&self.origin, number, incarnation).into()
    }
}

/// Text of an origin as far as the channel.
fn channel_origin(instance: &str, channel: &str) -> String {
    format!("{}/{}", encode_name(instance), encode_name(channel))
}

/// Text of an origin before the offset.
fn part_origin(channel: &str, number: u32, incarnation: u16) -> String {
    let segment = Segment(number);
    let date =
        jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(i64::from(segment.days()))).unwrap_or(jiff::civil::Date::MAX);
    let life = if incarnation == 0 { String::new() } else { format!("~{incarnation}") };
    format!("{channel}/{date}/{:03}{life}", segment.part())
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// `ossec-alerts-14-002.json` → (14, 2).
fn day_and_part(name: &str, prefix: &str) -> Option<(i8, u32)> {
    let rest = name.strip_prefix(prefix)?.strip_suffix(".json")?;
    let (day, part) = rest.split_once('-').map_or((rest, "0"), |(day, part)| (day, part));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    (day.len() == 2 && digits(day) && digits(part)).then(|| Some((day.parse().ok()?, part.parse().ok()?))).flatten()
}

fn segment(year: i16, month: i8, day: i8, part: u32) -> Option<Segment> {
    let date = jiff::civil::Date::new(year, month, day).ok()?;
    let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
    Segment::new(u32::try_from(days).ok()?, part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dated_names_are_read() {
        let read = |name| day_and_part(name, "ossec-alerts-");
        assert_eq!(read("ossec-alerts-14.json"), Some((14, 0)));
        assert_eq!(read("ossec-alerts-14-002.json"), Some((14, 2)));
        for wrong in [
            "ossec-alerts-14.json.gz",
            "ossec-alerts-14.json.sum",
            "ossec-alerts-1.json",
            "ossec-alerts-14-.x.json",
            "alerts.json",
            "ossec-alerts-+4.json",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_says_day_part_and_incarnation() {
        let tree = Tree { base: PathBuf::new(), prefix: String::new(), origin: "mgr-1/alerts".into() };
        let number = segment(2026, 3, 14, 2).unwrap().0;
        assert_eq!(&*tree.origin(number, 0), "mgr-1/alerts/2026-03-14/002");
        assert_eq!(&*tree.origin(number, 1), "mgr-1/alerts/2026-03-14/002~1");
    }
}
