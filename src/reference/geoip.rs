//! `geoip`: where addresses are, from databases in MaxMind's form.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{Finding, Kind, Level, Spec, Trouble, finding, read};
use crate::{
    io::Disk,
    limits::GEOIP_FILE_BYTES,
    register::{Field, Section, Type},
    tables::{GeoIp, Shelf},
};

/// The kind.
pub struct GeoIpTables;

static FIELDS: &[Field] = &[
    Field::required(
        "path",
        Type::Path,
        "Database of cities or countries (`GeoLite2-City.mmdb`, `GeoLite2-Country.mmdb` and what has their form). It is held in memory, and read again when it changes: replace it by a rename, as geoipupdate does.",
    ),
    Field::optional("asn_path", Type::Path, "Database of autonomous systems (`GeoLite2-ASN.mmdb`), beside it."),
];

impl Kind for GeoIpTables {
    fn name(&self) -> &'static str {
        "geoip"
    }
    fn about(&self) -> &'static str {
        "country, city and network of addresses, from MaxMind's databases"
    }
    fn fields(&self) -> &'static [Field] {
        FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings { path: section.opt_path("path"), asn_path: section.opt_path("asn_path") })
    }
}

#[derive(Clone, Debug)]
struct Settings {
    path: Option<PathBuf>,
    asn_path: Option<PathBuf>,
}

impl Settings {
    fn read(&self, disk: &dyn Disk) -> Result<GeoIp, Trouble> {
        let bytes = |path: &Option<PathBuf>| match path {
            Some(path) => read(disk, path, "GeoIP database", GEOIP_FILE_BYTES).map(Some),
            None => Ok(None),
        };
        // Each by itself, so that an error names its file.
        let open = |path: &Option<PathBuf>, places: Option<Vec<u8>>, systems: Option<Vec<u8>>| {
            let named = path.as_deref().unwrap_or(Path::new("")).display();
            GeoIp::open(places, systems).map_err(|error| Trouble::Broken(format!("the GeoIP database {named} {error}")))
        };
        let places = open(&self.path, bytes(&self.path)?, None)?;
        Ok(places.with(open(&self.asn_path, None, bytes(&self.asn_path)?)?))
    }
}

fn told(table: &GeoIp) -> String {
    let day = |seconds: u64| i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()).unwrap_or_default();
    let all: Vec<String> = table.databases().map(|(kind, built)| format!("{kind} of {:.10}", day(built).to_string())).collect();
    format!("GeoIP: {}", all.join(", "))
}

impl Spec for Settings {
    fn place(&self, name: &str, shelf: &mut Shelf) {
        shelf.place::<GeoIp>(name);
    }

    fn load(&self, name: &str, shelf: &Shelf, disk: &dyn Disk, _state_dir: &Path) -> Result<String, Trouble> {
        let table = self.read(disk)?;
        let what = told(&table);
        if let Some(held) = shelf.of::<GeoIp>(name) {
            held.put(Arc::new(table));
        }
        Ok(what)
    }

    fn files(&self, _disk: &dyn Disk, _state_dir: &Path) -> Vec<PathBuf> {
        [&self.path, &self.asn_path].into_iter().flatten().cloned().collect()
    }

    fn look_every(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn check(&self, disk: &dyn Disk, _state_dir: &Path) -> Vec<Finding> {
        match self.read(disk) {
            Ok(table) => vec![finding(Ok(told(&table)))],
            // A database that was named on purpose and is not there is a mistake.
            Err(trouble) => vec![Finding { level: Level::Bad, text: trouble.to_string() }],
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests stand outside the simulated machine")]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        io::disk::RealDisk,
        register::{Errors, Node},
        tables::geoip::{place_of, writer},
    };

    fn parse(text: &str) -> (Box<dyn Spec>, String) {
        let (node, mut errors) = (Node::parse_toml(text).unwrap(), Errors::default());
        let spec = GeoIpTables.parse(&mut Section::open("tables.geo", &node, FIELDS, &[], &mut errors));
        (spec, errors.to_string())
    }

    #[test]
    fn databases_are_loaded_and_what_is_none_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("city.mmdb"), writer::cities()).unwrap();
        fs::write(path("asn.mmdb"), writer::systems()).unwrap();
        let both = format!("path = {:?}\nasn_path = {:?}\n", path("city.mmdb"), path("asn.mmdb"));
        let (spec, errors) = parse(&both);
        assert_eq!(errors, "");
        let mut shelf = Shelf::default();
        spec.place("geo", &mut shelf);
        let load = || spec.load("geo", &shelf, &RealDisk::new(), Path::new("/"));
        assert_eq!(load(), Ok("GeoIP: GeoLite2-City of 2026-11-24, GeoLite2-ASN of 2026-11-24".into()));
        let held = shelf.of::<GeoIp>("geo").unwrap();
        let table = held.get().unwrap();
        let place = place_of(Some(&*table), "203.0.113.9");
        assert_eq!((place.country, place.city, place.asn), ("DE", "Trier", Some(680)));
        // A damaged one changes nothing.
        fs::write(path("city.mmdb"), "no database").unwrap();
        let Err(Trouble::Broken(why)) = load() else { panic!("it is told") };
        assert!(why.contains("city.mmdb is no MaxMind database"), "{why}");
        assert!(Arc::ptr_eq(&table, &held.get().unwrap()));
        fs::remove_file(path("city.mmdb")).unwrap();
        assert!(matches!(load(), Err(Trouble::Missing(_))));
        let swapped = format!("path = {:?}\n", path("asn.mmdb"));
        let check = parse(&swapped).0.check(&RealDisk::new(), Path::new("/"));
        assert!(check[0].level == Level::Bad && check[0].text.contains("is of type \"GeoLite2-ASN\""), "{check:?}");
        assert!(parse("").1.contains("path: must be set"));
    }
}
