//! Reads the environment of one service out of a Docker Compose file, and what its paths are outside.
//!
//! Pure: files beside it and variables of outside are asked for by what is handed in. Knows of
//! Compose what an environment needs: `environment` as a map or a list, `env_file`, variables in
//! values, `volumes`, and the published ports of a service that is named as a host. Of what it does
//! not follow (`extends`, several files) it says that `docker compose config` writes out all.

#![deny(clippy::indexing_slicing, clippy::unwrap_used, clippy::expect_used)]

use super::super::{
    env_file::{self, Form, expand},
    errors::{ImportError, ImportErrors},
    given::Given,
};

/// A variable and where it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    pub value: String,
    /// `services.misp.environment`, `misp.env line 7`.
    pub place: String,
}

/// What a service sees under a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Inside.
    pub target: String,
    /// Outside: a path as written where it is one, else the name of one of Docker's volumes.
    pub source: String,
}

impl Mount {
    /// True for a folder or file of the host.
    pub fn is_path(&self) -> bool {
        self.source.starts_with(['/', '.', '~'])
    }
}

/// One service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    pub name: String,
    /// Of two with one name the later stands.
    pub variables: Vec<Variable>,
    pub mounts: Vec<Mount>,
    /// Every service of the file, with its published ports: (inside, address and port outside).
    pub services: Vec<(String, Vec<(u16, String)>)>,
    /// What could not be followed.
    pub notes: Vec<(String, String)>,
}

/// What is outside of the file.
pub struct Outside<'o> {
    /// The value of a variable: the shell's, or that of the file `.env` beside the Compose file.
    pub variable: &'o dyn Fn(&str) -> Option<String>,
    /// The text of a file that is named relative to the Compose file.
    pub file: &'o dyn Fn(&str) -> Result<String, String>,
}

const WRITTEN_OUT: &str = "`docker compose config > F` writes all out; import F";

/// Reads a file.
///
/// - `wanted`: the service; without it the one that has the variable `mark`.
///
/// # Errors
/// All that is wrong.
pub fn read(text: &str, wanted: Option<&str>, mark: &str, outside: &Outside<'_>) -> Result<Service, ImportErrors> {
    let wrong = |key: &str, what: String| Err(ImportErrors(vec![ImportError { key: key.to_owned(), what }]));
    let root = match Given::parse_words(text) {
        Ok(root) => root,
        Err(error) => return wrong("", format!("the file cannot be read: {error}; mend it, or say --format env")),
    };
    let Some(Given::Table(services)) = member(&root, "services") else {
        return wrong("services", "is no table; name a Docker Compose file, or say --format env".into());
    };
    let mut errors = Vec::new();
    let mut found = Vec::new();
    for (name, service) in services {
        if wanted.is_some_and(|wanted| wanted != name) {
            continue;
        }
        let mut reading = Reading { outside, place: format!("services.{name}"), errors: Vec::new(), out: Service::default() };
        reading.service(service);
        let Reading { errors: mut its, mut out, .. } = reading;
        name.clone_into(&mut out.name);
        if wanted.is_some() || out.variables.iter().any(|variable| variable.name == mark) {
            errors.append(&mut its);
            found.push(out);
        }
    }
    let known = || services.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    let mut service = match (found.pop(), found.first(), wanted) {
        (Some(service), None, _) => service,
        (Some(last), Some(first), _) => {
            let what = format!("{} and {} have {mark}; choose one with --service", first.name, last.name);
            return wrong("services", what);
        }
        (None, _, Some(wanted)) => return wrong("services", format!("no service {wanted:?}; known: {}", known())),
        (None, _, None) => {
            let what = format!("none of {} has {mark}; choose one with --service, or see that {WRITTEN_OUT}", known());
            return wrong("services", what);
        }
    };
    service.services = services.iter().map(|(name, of)| (name.clone(), ports(of, outside))).collect();
    if errors.is_empty() { Ok(service) } else { Err(ImportErrors(errors)) }
}

struct Reading<'o> {
    outside: &'o Outside<'o>,
    place: String,
    errors: Vec<ImportError>,
    out: Service,
}

impl Reading<'_> {
    fn wrong(&mut self, part: &str, what: impl Into<String>) {
        let key = if part.is_empty() { self.place.clone() } else { format!("{}.{part}", self.place) };
        self.errors.push(ImportError { key, what: what.into() });
    }

    fn service(&mut self, service: &Given) {
        let Given::Table(entries) = service else { return };
        if entries.iter().any(|(key, _)| key == "extends") {
            let key = format!("{}.extends", self.place);
            self.out.notes.push((key, format!("is not followed, so what stands there is missing here; {WRITTEN_OUT}")));
        }
        // What stands in the service itself wins over its files.
        for (key, value) in entries.iter().filter(|(key, _)| key == "env_file") {
            self.env_files(key, value);
        }
        for (key, value) in entries {
            match key.as_str() {
                "environment" => self.environment(value),
                "volumes" => self.volumes(value),
                _ => {}
            }
        }
    }

    /// The value with its variables written in; `None`, and an error, where that fails.
    fn expanded(&mut self, part: &str, text: &str) -> Option<String> {
        let mut missing = Vec::new();
        match expand(text, self.outside.variable, &mut missing) {
            Ok(text) => {
                for name in missing {
                    let key = format!("{}.{part}", self.place);
                    self.out.notes.push((key, format!("names the variable {name}, which is not set here: it counts as empty")));
                }
                Some(text)
            }
            Err(what) => {
                self.wrong(part, what);
                None
            }
        }
    }

    fn put(&mut self, name: &str, value: String, place: String) {
        self.out.variables.push(Variable { name: name.to_owned(), value, place });
    }

    fn environment(&mut self, value: &Given) {
        let place = format!("{}.environment", self.place);
        let pairs: Vec<(String, Option<String>)> = match value {
            Given::Table(entries) => entries.iter().map(|(name, value)| (name.clone(), text_of(value))).collect(),
            Given::List(items) => {
                let texts = items.iter().filter_map(text_of);
                let split = |text: String| match text.split_once('=') {
                    Some((name, value)) => (name.trim().to_owned(), Some(value.to_owned())),
                    None => (text.trim().to_owned(), None),
                };
                texts.map(split).collect()
            }
            Given::Null => return,
            other => return self.wrong("environment", format!("is {}; it must be a map or a list", other.shown())),
        };
        for (name, value) in pairs {
            // A name alone is handed through from outside.
            let value = match value {
                Some(value) => self.expanded(&format!("environment.{name}"), &value),
                None => (self.outside.variable)(&name),
            };
            if let Some(value) = value {
                self.put(&name, value, place.clone());
            }
        }
    }

    fn env_files(&mut self, part: &str, value: &Given) {
        let one = std::slice::from_ref(value);
        let items = if let Given::List(items) = value { items.as_slice() } else { one };
        for item in items {
            let path = text_of(item).or_else(|| member(item, "path").and_then(text_of));
            let Some(path) = path.and_then(|path| self.expanded(part, &path)) else {
                self.wrong(part, format!("is {}; it must name a file", item.shown()));
                continue;
            };
            let optional = member(item, "required").and_then(text_of).is_some_and(|word| word.eq_ignore_ascii_case("false"));
            let raw = member(item, "format").and_then(text_of).is_some_and(|word| word == "raw");
            match (self.outside.file)(&path) {
                Ok(text) => self.env_file(&path, &text, raw),
                Err(_) if optional => {}
                Err(what) => self.wrong(part, what),
            }
        }
    }

    /// - `raw`: values are what is written, quotes and all.
    fn env_file(&mut self, path: &str, text: &str, raw: bool) {
        let mut given: Vec<(String, String)> = Vec::new();
        for line in env_file::lines(text, if raw { Form::Unit } else { Form::Dotenv }) {
            let place = format!("{path} line {}", line.line);
            let value = match line.value {
                None => (self.outside.variable)(&line.name),
                Some(value) if raw || line.literal => Some(value),
                Some(value) => {
                    let of = |name: &str| {
                        let before = || given.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.clone());
                        (self.outside.variable)(name).or_else(before)
                    };
                    match expand(&value, &of, &mut Vec::new()) {
                        Ok(value) => Some(value),
                        Err(what) => {
                            self.errors.push(ImportError { key: line.name.clone(), what: format!("{what} (in {place})") });
                            None
                        }
                    }
                }
            };
            if let Some(value) = value {
                given.push((line.name.clone(), value.clone()));
                self.put(&line.name, value, place);
            }
        }
    }

    fn volumes(&mut self, value: &Given) {
        let Given::List(items) = value else { return };
        for item in items {
            let pair = match text_of(item) {
                Some(text) => self.expanded("volumes", &text).and_then(|text| {
                    let mut parts = text.splitn(3, ':');
                    Some((parts.next()?.to_owned(), parts.next()?.to_owned()))
                }),
                None => {
                    let part = |name: &str| member(item, name).and_then(text_of);
                    let pair = part("source").zip(part("target"));
                    pair.and_then(|(source, target)| Some((self.expanded("volumes", &source)?, self.expanded("volumes", &target)?)))
                }
            };
            if let Some((source, target)) = pair {
                let target = if target == "/" { target } else { target.trim_end_matches('/').to_owned() };
                self.out.mounts.push(Mount { target, source });
            }
        }
    }
}

/// The published ports of a service.
fn ports(service: &Given, outside: &Outside<'_>) -> Vec<(u16, String)> {
    let Some(Given::List(items)) = member(service, "ports") else { return Vec::new() };
    let plain = |text: String| expand(&text, outside.variable, &mut Vec::new()).unwrap_or_default();
    let part = |item: &Given, name: &str| member(item, name).and_then(text_of).map(plain);
    items
        .iter()
        .filter_map(|item| {
            let (inside, outer, address) = match text_of(item) {
                Some(text) => {
                    let text = plain(text);
                    let text = text.split('/').next().unwrap_or_default();
                    let (before, inside) = text.rsplit_once(':')?;
                    let (address, outer) = before.rsplit_once(':').unwrap_or(("", before));
                    (inside.to_owned(), outer.to_owned(), address.to_owned())
                }
                None => (part(item, "target")?, part(item, "published")?, part(item, "host_ip").unwrap_or_default()),
            };
            let address = match address.as_str() {
                "" | "0.0.0.0" | "[::]" | "::" => "127.0.0.1".to_owned(),
                address => address.to_owned(),
            };
            let outer: u16 = outer.parse().ok()?;
            Some((inside.parse().ok()?, format!("{address}:{outer}")))
        })
        .collect()
}

fn member<'g>(given: &'g Given, name: &str) -> Option<&'g Given> {
    let Given::Table(entries) = given else { return None };
    entries.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn text_of(given: &Given) -> Option<String> {
    match given {
        Given::Text(text) => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn service(text: &str, wanted: Option<&str>) -> Result<Service, Vec<String>> {
        let variable = |name: &str| match name {
            "HOST" => Some("misp.example".to_owned()),
            "PASSED" => Some("on".to_owned()),
            _ => None,
        };
        let file = |path: &str| match path {
            "misp.env" => {
                Ok("MISP_URL=https://${HOST}/x\nCACHE_TTL_HOURS=1\nTWICE=${CACHE_TTL_HOURS}${CACHE_TTL_HOURS} # two\n".to_owned())
            }
            "raw.env" => Ok("BURST_LIMIT=\"$5\"\n".to_owned()),
            path => Err(format!("cannot read {path}")),
        };
        let outside = Outside { variable: &variable, file: &file };
        read(text, wanted, "MISP_URL", &outside)
            .map_err(|errors| errors.0.into_iter().map(|error| format!("{}: {}", error.key, error.what)).collect())
    }

    fn value(service: &Service, name: &str) -> Option<(String, String)> {
        service.variables.iter().rev().find(|v| v.name == name).map(|v| (v.value.clone(), v.place.clone()))
    }

    #[test]
    fn a_map_a_list_and_files_are_read_and_the_service_itself_wins() {
        let map = "services:\n  redis: {image: redis}\n  misp:\n    env_file: misp.env\n    environment:\n      CACHE_TTL_HOURS: 5.0\n      PASSED:\n      MISP_API_KEY: \"${KEY:-k}\"\n";
        let list = "services:\n  redis: {image: redis}\n  misp:\n    env_file: [{path: misp.env}, {path: no.env, required: false}]\n    environment:\n      - CACHE_TTL_HOURS=5.0\n      - PASSED\n      - MISP_API_KEY=${KEY:-k}\n";
        for text in [map, list] {
            let got = service(text, None).unwrap();
            assert_eq!(got.name, "misp");
            let pair = |value: &str, place: &str| Some((value.to_owned(), place.to_owned()));
            assert_eq!(value(&got, "MISP_URL"), pair("https://misp.example/x", "misp.env line 1"));
            assert_eq!(value(&got, "CACHE_TTL_HOURS"), pair("5.0", "services.misp.environment"));
            assert_eq!(value(&got, "TWICE"), pair("11", "misp.env line 3"));
            assert_eq!(value(&got, "PASSED"), pair("on", "services.misp.environment"));
            assert_eq!(value(&got, "MISP_API_KEY"), pair("k", "services.misp.environment"));
        }
        let raw = service("services: {m: {environment: [MISP_URL=u], env_file: [{path: raw.env, format: raw}]}}", None).unwrap();
        assert_eq!(value(&raw, "BURST_LIMIT").unwrap().0, "$5");
    }

    #[test]
    fn the_service_is_chosen() {
        let two = "services: {a: {environment: [MISP_URL=1]}, b: {environment: [MISP_URL=2]}, c: {}}";
        assert!(service(two, None).unwrap_err()[0].contains("a and b have MISP_URL; choose one with --service"));
        assert_eq!(value(&service(two, Some("b")).unwrap(), "MISP_URL").unwrap().0, "2");
        assert!(service(two, Some("d")).unwrap_err()[0].contains("known: a, b, c"));
        assert!(service("services: {c: {}}", None).unwrap_err()[0].contains("none of c has MISP_URL"));
        for (text, part) in [("a: 1", "services: is no table"), ("[", "cannot be read"), ("", "services: is no table")] {
            let got = service(text, None).unwrap_err();
            assert!(got[0].contains(part), "{text}: {got:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let text = "services: {m: {environment: {MISP_URL: u, A: '${NO:?set NO}', B: '${NO}'}, env_file: [no.env, 5: 6], extends: x}}";
        let got = service(text, None).unwrap_err();
        assert!(got.iter().any(|e| e.starts_with("services.m.environment.A: ") && e.contains("set NO")), "{got:?}");
        assert!(got.iter().any(|e| e == "services.m.env_file: cannot read no.env"), "{got:?}");
        let told = service("services: {m: {environment: {MISP_URL: u, B: '${NO}'}, extends: x}}", None).unwrap().notes;
        assert_eq!(told.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["services.m.extends", "services.m.environment.B"]);
    }

    #[test]
    fn mounts_and_ports_are_read() {
        let text = "services:\n  m:\n    environment: [MISP_URL=u]\n    volumes:\n      - /var/ossec/logs:/logs/:ro\n      - ${NO:-./out}:/out\n      - named:/named\n      - {type: bind, source: /a, target: /b}\n      - /anonymous\n  redis:\n    ports: ['6379:6379', '127.0.0.1:1:2/tcp', 80, {target: 5, published: 6, host_ip: 0.0.0.0}]\n";
        let got = service(text, None).unwrap();
        let mounts: Vec<_> = got.mounts.iter().map(|m| (m.target.as_str(), m.source.as_str(), m.is_path())).collect();
        assert_eq!(mounts, [("/logs", "/var/ossec/logs", true), ("/out", "./out", true), ("/named", "named", false), ("/b", "/a", true)]);
        let (_, ports) = &got.services[1];
        assert_eq!(*ports, [(6379, "127.0.0.1:6379".to_owned()), (2, "127.0.0.1:1".into()), (5, "127.0.0.1:6".into())]);
    }
}
