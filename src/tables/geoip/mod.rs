//! Where an address is, by databases in MaxMind's form (City, Country, ASN); the only module that names maxminddb.
//!
//! The words are those that dashboards know: `private` for an address of nobody's and for what is no address,
//! `unknown` where there is no database or it cannot be read there; else the country's ISO code and the city's English
//! name, each empty where the database has none.

#[cfg(test)]
pub(crate) mod writer;

use std::net::IpAddr;

use maxminddb::Reader;
use serde::Deserialize;

use super::networks::canonical;

/// What is told of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Place<'t> {
    /// ISO code, `unknown` or `private`; may be empty.
    pub country: &'t str,
    /// English name, `unknown` or `private`; may be empty.
    pub city: &'t str,
    /// Degrees; `None` where they are not known.
    pub latitude: Option<f64>,
    pub longitude: Option<f64>,
    /// Number of the autonomous system that announces it.
    pub asn: Option<u32>,
    /// Who runs that; may be empty.
    pub organization: &'t str,
}

impl Place<'static> {
    /// A place without any database.
    const UNKNOWN: Self = Self { country: UNKNOWN, city: UNKNOWN, latitude: None, longitude: None, asn: None, organization: "" };
    const PRIVATE: Self = Self { country: PRIVATE, city: PRIVATE, ..Self::UNKNOWN };
}

const UNKNOWN: &str = "unknown";
const PRIVATE: &str = "private";

/// A database cannot be used: why, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct GeoIpError(String);

/// Databases, held in memory whole.
#[derive(Debug, Default)]
pub struct GeoIp {
    places: Option<Reader<Vec<u8>>>,
    systems: Option<Reader<Vec<u8>>>,
}

/// What is read of a record of a City or Country database.
#[derive(Deserialize)]
struct Record<'r> {
    #[serde(borrow)]
    country: Option<Country<'r>>,
    #[serde(borrow)]
    city: Option<City<'r>>,
    location: Option<Location>,
}

#[derive(Deserialize)]
struct Country<'r> {
    iso_code: Option<&'r str>,
}

#[derive(Deserialize)]
struct City<'r> {
    #[serde(borrow)]
    names: Option<Names<'r>>,
}

#[derive(Deserialize)]
struct Names<'r> {
    en: Option<&'r str>,
}

#[derive(Deserialize)]
struct Location {
    latitude: Option<f64>,
    longitude: Option<f64>,
}

/// What is read of a record of an ASN database.
#[derive(Deserialize)]
struct System<'r> {
    autonomous_system_number: Option<u32>,
    autonomous_system_organization: Option<&'r str>,
}

impl GeoIp {
    /// Opens databases from the bytes of their files.
    ///
    /// - `places`: of type City, Country or Enterprise.
    /// - `systems`: of type ASN.
    ///
    /// # Errors
    /// What is no database, or one of another type.
    pub fn open(places: Option<Vec<u8>>, systems: Option<Vec<u8>>) -> Result<Self, GeoIpError> {
        let places = places.map(|bytes| open(bytes, &["City", "Country", "Enterprise"])).transpose()?;
        Ok(Self { places, systems: systems.map(|bytes| open(bytes, &["ASN"])).transpose()? })
    }

    /// These databases, and where there are none another's.
    pub fn with(self, other: Self) -> Self {
        Self { places: self.places.or(other.places), systems: self.systems.or(other.systems) }
    }

    /// What is known of an address.
    pub fn place(&self, address: IpAddr) -> Place<'_> {
        let address = canonical(address);
        if is_local(address) {
            return Place::PRIVATE;
        }
        let mut place = Place::UNKNOWN;
        if let Some(reader) = &self.places
            && let Ok(found) = reader.lookup(address)
            && let Ok(record) = found.decode::<Record<'_>>()
        {
            // A database that has nothing of an address answers with nothing, which is no error.
            let (country, city, location) = record.map_or((None, None, None), |record| (record.country, record.city, record.location));
            place.country = country.and_then(|country| country.iso_code).unwrap_or_default();
            place.city = city.and_then(|city| city.names).and_then(|names| names.en).unwrap_or_default();
            place.latitude = location.as_ref().and_then(|location| location.latitude);
            place.longitude = location.and_then(|location| location.longitude);
        }
        if let Some(reader) = &self.systems
            && let Ok(found) = reader.lookup(address)
            && let Ok(Some(system)) = found.decode::<System<'_>>()
        {
            place.asn = system.autonomous_system_number;
            place.organization = system.autonomous_system_organization.unwrap_or_default();
        }
        place
    }

    /// Each database with its type and the day it was built (seconds since 1970).
    pub fn databases(&self) -> impl Iterator<Item = (&str, u64)> {
        let all = [&self.places, &self.systems].into_iter().flatten();
        all.map(|reader| (reader.metadata().database_type.as_str(), reader.metadata().build_epoch))
    }
}

/// What is known of an address as it is written.
///
/// - `table`: `None` while there is no database.
pub fn place_of<'t>(table: Option<&'t GeoIp>, address: &str) -> Place<'t> {
    match (address.trim().parse::<IpAddr>(), table) {
        (Err(_), _) => Place::PRIVATE,
        (Ok(address), Some(table)) => table.place(address),
        (Ok(address), None) if is_local(canonical(address)) => Place::PRIVATE,
        (Ok(_), None) => Place::UNKNOWN,
    }
}

/// Private, loopback and link-local: what no database places.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

fn open(bytes: Vec<u8>, types: &[&str]) -> Result<Reader<Vec<u8>>, GeoIpError> {
    let reader = Reader::from_source(bytes).map_err(|error| GeoIpError(format!("is no MaxMind database: {error}; fetch it again")))?;
    let found = &reader.metadata().database_type;
    if !types.iter().any(|known| found.contains(known)) {
        return Err(GeoIpError(format!("is of type {found:?}, and one of type {} is wanted; name another file", types.join(" or "))));
    }
    Ok(reader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_those_of_dashboards() {
        let table = GeoIp::open(Some(writer::cities()), Some(writer::systems())).unwrap();
        let words = |address: &str| {
            let place = place_of(Some(&table), address);
            (place.country.to_owned(), place.city.to_owned())
        };
        let row = |country: &str, city: &str| (country.to_owned(), city.to_owned());
        for (address, expected) in [
            ("203.0.113.9", row("DE", "Trier")),
            ("::ffff:203.0.113.9", row("DE", "Trier")),
            (" 203.0.113.9 ", row("DE", "Trier")),
            ("198.51.100.1", row("NL", "")),
            ("2001:db8::1", row("FR", "")),
            ("192.0.2.1", row("", "")),
            ("8.8.8.8", row("", "")),
            ("10.1.2.3", row("private", "private")),
            ("127.0.0.1", row("private", "private")),
            ("169.254.1.1", row("private", "private")),
            ("::ffff:192.168.1.100", row("private", "private")),
            ("fe80::1", row("private", "private")),
            ("fd00::1", row("private", "private")),
            ("", row("private", "private")),
            ("-", row("private", "private")),
            ("203.0.113.9:443", row("private", "private")),
        ] {
            assert_eq!(words(address), expected, "{address}");
        }
        let place = table.place("203.0.113.9".parse().unwrap());
        assert_eq!((place.latitude, place.longitude), (Some(49.75), Some(6.64)));
        assert_eq!((place.asn, place.organization), (Some(680), "Verein zur Foerderung eines Deutschen Forschungsnetzes e.V."));
        assert_eq!(table.place("198.51.100.1".parse().unwrap()).latitude, None);
        assert_eq!(place_of(None, "203.0.113.9"), Place::UNKNOWN);
        assert_eq!(place_of(None, "10.0.0.1"), Place::PRIVATE);
        let systems_only = GeoIp::open(None, Some(writer::systems())).unwrap();
        let place = systems_only.place("203.0.113.9".parse().unwrap());
        assert_eq!((place.country, place.city, place.asn), ("unknown", "unknown", Some(680)));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_unknown_and_no_database_is_told() {
        let mut bytes = writer::cities();
        assert!(GeoIp::open(Some(bytes.clone()), None).is_ok());
        // The data section, metadata aside: every record begins with a control byte that means nothing now.
        let end = bytes.windows(14).rposition(|window| window == b"\xab\xcd\xefMaxMind.com").unwrap();
        let start = end - writer::DATA_BYTES_MIN;
        bytes[start..end].fill(0xff);
        let table = GeoIp::open(Some(bytes), None).unwrap();
        let all = ["203.0.113.9", "198.51.100.1", "2001:db8::1"].map(|text| table.place(text.parse().unwrap()).country.to_owned());
        assert!(all.contains(&"unknown".to_owned()), "{all:?}");
        for wrong in [&b""[..], b"x", &writer::systems()] {
            assert!(GeoIp::open(Some(wrong.to_vec()), None).is_err());
        }
        let error = GeoIp::open(None, Some(writer::cities())).unwrap_err().to_string();
        assert_eq!(error, "is of type \"GeoLite2-City\", and one of type ASN is wanted; name another file");
    }

    proptest::proptest! {
        #[test]
        fn damaged_databases_never_panic(at in 0..2000usize, byte: u8, address: u32) {
            let mut bytes = writer::cities();
            let at = at % bytes.len();
            bytes[at] = byte;
            if let Ok(table) = GeoIp::open(Some(bytes), None) {
                for address in [IpAddr::V4(address.into()), IpAddr::V4([203, 0, 113, 9].into())] {
                    table.place(address);
                }
            }
        }
    }
}
