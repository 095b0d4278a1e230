//! Warninglists: values that turn up everywhere and mean nothing, or only deserve a note.
//!
//! Lists come as MISP's own `list.json` files and from `built_in`. All lists of one type are one
//! structure, so a check costs the same for one list as for a hundred and fifty:
//!
//! | type | matches | by |
//! |---|---|---|
//! | `string` | the value itself | binary search |
//! | `hostname` | the host or a domain above it | the same, once for each label |
//! | `substring` | any part of the value | Aho-Corasick |
//! | `cidr` | an address in a network | see `networks` |
//! | `regex` | by search, in linear time | a set of regexes, then those that match |
//!
//! An entry that is no entry of its type is left out and handed out as [`Unusable`]; the list's
//! others count. A list says which types of MISP it is about; it is asked only for those.

mod built_in;
mod words;

pub use built_in::built_in;

use std::net::IpAddr;

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, MatchKind};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use self::words::{Words, WordsBuilder};
use super::{
    indicators::host,
    kinds::{Kind, parts},
    networks::{self, Networks},
};

/// Entries of all lists together: the public lists have a million and a half.
pub const ENTRIES_MAX: usize = 8_000_000;
/// Lists.
pub const LISTS_MAX: usize = 4096;
/// Bytes of memory that one regex may take; a list's author is not the operator.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What a match means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Category {
    /// The value is harmless: it is not looked up.
    FalsePositive,
    /// The value is known to be of some sort: it is looked up, and the list named beside it.
    Known,
}

/// One list, without its entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// As in the file: `List of known IPv4 public DNS resolvers`.
    pub name: String,
    pub version: u64,
    pub category: Category,
    /// Entries in use.
    pub entries: u64,
    /// Kinds that it is about, by their place in [`Kind::ALL`].
    kinds: u16,
}

/// An entry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    pub list: String,
    pub entry: String,
    pub why: &'static str,
}

/// Why a whole list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// Not the form of a list.
    #[error("warninglist {id} is not in MISP's form; take list.json as it is in MISP/misp-warninglists")]
    Form { id: String, source: serde_json::Error },
    /// A type that MISP does not have either.
    #[error("warninglist {id} has type {found:?}; known: cidr, hostname, string, substring, regex")]
    Type { id: String, found: String },
    /// More than fits.
    #[error("warninglist {id} does not fit beside the others; at most {LISTS_MAX} lists with {ENTRIES_MAX} entries")]
    TooMany { id: String },
    /// The substrings of all lists together make no automaton.
    #[error("the substrings of the warninglists cannot be searched together; leave the largest list of type substring out")]
    Substrings { source: aho_corasick::BuildError },
}

/// `list.json`, as far as it concerns us.
#[derive(Deserialize)]
struct File {
    name: String,
    #[serde(default)]
    version: u64,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    category: Option<String>,
    list: Vec<String>,
    #[serde(default)]
    matching_attributes: Vec<String>,
}

/// Lists that only deserve a note, where the file does not say: they name services that bad and
/// good use alike, or popularity.
const KNOWN: &[&str] = &[
    "sinkholes",
    "vpn-",
    "url-shortener",
    "dynamic-dns",
    "disposable-email",
    "-scanning",
    "tranco",
    "cloudflare-top",
    "majestic",
    "alexa",
    "cisco_top",
    "top10k",
    "umbrella",
    "tor",
    "censys",
    "shodan",
];

fn is_known_by_name(id: &str) -> bool {
    KNOWN.iter().any(|part| match (part.strip_suffix('-'), part.strip_prefix('-')) {
        (Some(_), _) => id.starts_with(part),
        (_, Some(_)) => id.ends_with(part),
        // Whole words: `tor` is in `tutorials`.
        _ => id.split(['-', '_', '.']).any(|word| word == *part) || (part.contains(['-', '_']) && id.contains(part)),
    })
}

/// Gathers lists.
#[derive(Debug, Default)]
pub struct Builder {
    lists: Vec<List>,
    strings: WordsBuilder,
    hosts: WordsBuilder,
    substrings: Vec<(String, u16)>,
    networks: Vec<(ipnet::IpNet, u32)>,
    regexes: Vec<(Regex, u16)>,
    entries: usize,
    unusable: Vec<Unusable>,
}

impl Builder {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file of MISP's form.
    ///
    /// - `id`: name of its folder, such as `public-dns-v4`; it says what a match means where the
    ///   file does not.
    ///
    /// # Errors
    /// [`ListError`] if nothing of it can be used; the builder is as before.
    pub fn add(&mut self, id: &str, bytes: &[u8]) -> Result<(), ListError> {
        self.add_as(id, bytes, None)
    }

    /// As [`Builder::add`], where somebody else says what a match means.
    ///
    /// # Errors
    /// As [`Builder::add`].
    pub fn add_as(&mut self, id: &str, bytes: &[u8], category: Option<Category>) -> Result<(), ListError> {
        let file: File = serde_json::from_slice(bytes).map_err(|source| ListError::Form { id: id.to_owned(), source })?;
        let category = category.unwrap_or_else(|| match file.category.as_deref() {
            Some("known") => Category::Known,
            Some("false_positive") => Category::FalsePositive,
            _ if is_known_by_name(id) => Category::Known,
            _ => Category::FalsePositive,
        });
        let kinds = kinds_of(file.matching_attributes.iter().map(String::as_str));
        self.add_list(id, file.name, file.version, category, kinds, &file.kind, file.list.iter().map(String::as_str))
    }

    #[allow(clippy::too_many_arguments, reason = "the members of a list, once")]
    fn add_list<'e>(
        &mut self,
        id: &str,
        name: String,
        version: u64,
        category: Category,
        kinds: u16,
        list_type: &str,
        entries: impl ExactSizeIterator<Item = &'e str>,
    ) -> Result<(), ListError> {
        if self.lists.len() >= LISTS_MAX || self.entries + entries.len() > ENTRIES_MAX {
            return Err(ListError::TooMany { id: id.to_owned() });
        }
        if !["cidr", "hostname", "string", "substring", "regex"].contains(&list_type) {
            return Err(ListError::Type { id: id.to_owned(), found: list_type.to_owned() });
        }
        self.entries += entries.len();
        let number = self.lists.len() as u16;
        let mut used = 0;
        for entry in entries {
            match self.take(list_type, entry.trim(), number) {
                Ok(()) => used += 1,
                Err(why) => self.unusable.push(Unusable { list: name.clone(), entry: entry.chars().take(100).collect(), why }),
            }
        }
        self.lists.push(List { name, version, category, entries: used, kinds });
        Ok(())
    }

    fn take(&mut self, list_type: &str, entry: &str, number: u16) -> Result<(), &'static str> {
        if entry.is_empty() {
            return Err("it is empty");
        }
        match list_type {
            "cidr" => {
                let net = networks::parse(entry).ok_or("it is no network")?;
                self.networks.push((net, number.into()));
            }
            "hostname" => {
                let name = entry.trim_start_matches("*.").trim_matches('.').to_lowercase();
                self.hosts.push(if name.is_empty() { return Err("it is no name") } else { &name }, number);
            }
            // Our normal forms of hashes are in lower case; a list may have them in upper case.
            "string" if entry.len() >= 32 && entry.bytes().all(|b| b.is_ascii_hexdigit()) => {
                self.strings.push(&entry.to_ascii_lowercase(), number);
            }
            "string" => self.strings.push(entry, number),
            "substring" => self.substrings.push((entry.to_owned(), number)),
            _ => self.regexes.push((regex(entry)?, number)),
        }
        Ok(())
    }

    /// Entries that could not be used so far.
    pub fn unusable(&self) -> &[Unusable] {
        &self.unusable
    }

    /// Puts the lists together.
    ///
    /// # Errors
    /// [`ListError::Substrings`] if there are too many.
    pub fn build(self) -> Result<Warninglists, ListError> {
        let (patterns, owners): (Vec<String>, Vec<u16>) = self.substrings.into_iter().unzip();
        let substrings = match patterns.is_empty() {
            true => None,
            false => {
                let automaton = AhoCorasickBuilder::new().match_kind(MatchKind::Standard).build(&patterns);
                Some((automaton.map_err(|source| ListError::Substrings { source })?, owners))
            }
        };
        Ok(Warninglists {
            lists: self.lists,
            strings: self.strings.build(),
            hosts: self.hosts.build(),
            substrings,
            networks: Networks::build(self.networks),
            regexes: self.regexes,
        })
    }
}

/// The kinds that MISP types stand for, as bits; all for `ALL` and for none named.
fn kinds_of<'t>(types: impl Iterator<Item = &'t str>) -> u16 {
    let bit = |kind: Kind| 1u16 << Kind::ALL.iter().position(|of| *of == kind).unwrap_or(0);
    let mut bits = None;
    for name in types {
        let of = match name {
            "ALL" => u16::MAX,
            _ => parts(name).map_or(0, |parts| [parts.first, parts.second].into_iter().flatten().map(bit).fold(0, |a, b| a | b)),
        };
        bits = Some(bits.unwrap_or(0) | of);
    }
    // A value of unknown kind may be of any.
    bits.map_or(u16::MAX, |bits| bits | if bits == 0 { 0 } else { bit(Kind::Unknown) })
}

/// A regex in PHP's form, `/…/flags`, or bare.
fn regex(entry: &str) -> Result<Regex, &'static str> {
    let (pattern, flags) = match entry.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) {
        Some((pattern, flags)) if flags.bytes().all(|b| b.is_ascii_lowercase()) => (pattern.replace("\\/", "/"), flags),
        _ => (entry.to_owned(), ""),
    };
    RegexBuilder::new(&pattern)
        .case_insensitive(flags.contains('i'))
        .size_limit(REGEX_BYTES_MAX)
        .dfa_size_limit(REGEX_BYTES_MAX)
        .unicode(flags.contains('u'))
        .build()
        .map_err(|_| "it is no regex that can be searched in linear time (look-around and back references cannot)")
}

/// All lists, ready to be asked.
#[derive(Debug, Default)]
pub struct Warninglists {
    lists: Vec<List>,
    strings: Words,
    hosts: Words,
    substrings: Option<(AhoCorasick, Vec<u16>)>,
    networks: Networks,
    regexes: Vec<(Regex, u16)>,
}

impl Warninglists {
    /// The lists.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The lists that hold a value in normal form, each once, in the order in which they were added.
    pub fn check(&self, kind: Kind, value: &str) -> Vec<&List> {
        let mut found: Vec<u16> = Vec::new();
        found.extend(self.strings.lists_of(value));
        let name = match kind {
            Kind::Url => host(value),
            Kind::Email => value.rsplit_once('@').map(|(_, domain)| domain),
            Kind::Domain | Kind::Unknown => Some(value),
            _ => None,
        };
        let mut above = name.map(|name| name.trim_end_matches('.'));
        while let Some(name) = above {
            found.extend(self.hosts.lists_of(name));
            above = name.split_once('.').map(|(_, above)| above);
        }
        if !self.networks.is_empty() && matches!(kind, Kind::Ip | Kind::Url | Kind::Unknown) {
            let address = if kind == Kind::Url { host(value) } else { Some(value) };
            if let Some(address) = address.and_then(|address| address.parse::<IpAddr>().ok()) {
                found.extend(self.networks.around(address).map(|(_, list)| list as u16));
            }
        }
        if let Some((automaton, owners)) = &self.substrings {
            found.extend(automaton.find_overlapping_iter(value).filter_map(|at| owners.get(at.pattern().as_usize())));
        }
        found.extend(self.regexes.iter().filter(|(regex, _)| regex.is_match(value)).map(|(_, list)| list));
        found.sort_unstable();
        found.dedup();
        let bit = 1u16 << Kind::ALL.iter().position(|of| *of == kind).unwrap_or(0);
        found.into_iter().filter_map(|list| self.lists.get(usize::from(list))).filter(|list| list.kinds & bit != 0).collect()
    }

    /// True if a list says that the value is harmless.
    pub fn is_harmless(&self, kind: Kind, value: &str) -> bool {
        self.check(kind, value).iter().any(|list| list.category == Category::FalsePositive)
    }
}

#[cfg(test)]
mod tests;
