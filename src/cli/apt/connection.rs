//! Where messages go: brokers and topic, or a Redis and the key of a stream, from an agent's config or from flags.
//!
//! What logs in is named in the config alone, so no password stands in a command line.

use std::path::{Path, PathBuf};

use crate::{
    net::kafka::settings::{self, Connection},
    net::redis::{Place as At, Settings as Redis},
    register::{Errors, Field, Node, Place, Section, Type, Value},
    topology::{ConfigError, config::Config},
};

/// Which server is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    Kafka,
    Redis,
}

/// What the command line says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked<'a> {
    pub config: Option<&'a Path>,
    /// `sources.NAME` or `sinks.NAME`.
    pub component: Option<&'a str>,
    /// Brokers, or the URL of a Redis; wins over the config.
    pub place: Option<&'a str>,
    /// Topic or key; wins over the config.
    pub target: Option<&'a str>,
}

/// What was found.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Kafka { connection: Connection, topic: String },
    Redis { server: Redis, key: String, field: String },
}

/// Where messages go unless anybody says otherwise.
const BROKERS: &str = "localhost:9092";
const TOPIC: &str = "apt_topic";
const URL: &str = "redis://localhost:6379";
/// The field that source `redis_stream` looks for first.
const FIELD: &str = "data";
const KEY: &str = "apt:events";

/// The settings of a connection that a source and a sink share.
static KAFKA: &[Field] = &[
    settings::BROKERS,
    settings::CLIENT_ID,
    settings::TLS_ENABLED,
    settings::TLS_CA,
    settings::TLS_CERT,
    settings::TLS_KEY,
    settings::TLS_KEY_PASSWORD_FILE,
    settings::SASL_MECHANISM,
    settings::SASL_USERNAME,
    settings::SASL_PASSWORD_FILE,
    settings::SASL_PASSWORD_ENV,
    settings::SASL_PASSWORD_CREDENTIAL,
    settings::OPTIONS,
];

static REDIS: &[Field] = &[
    Field::required("url", Type::Text, "redis://host:port, rediss://host:port or unix:/path."),
    Field::optional("tls.ca", Type::Path, "PEM file with the CA of a rediss:// server."),
    Field::optional("username", Type::Text, "ACL user."),
    Field::optional("password_file", Type::Path, "File whose first line is the password."),
    Field::new("db", Type::Int { min: 0, max: 65_535 }, "0", "Number of the database."),
    Field::new("timeout", Type::Span, "5s", "To connect, and for one answer."),
];

/// A component of a config that speaks to such a server.
struct Component<'t> {
    name: String,
    node: &'t Node,
    is_source: bool,
}

impl Component<'_> {
    /// Whether it speaks to it in a way that we can speak as well.
    fn is_of(&self, server: Server) -> bool {
        let kind = self.node.get("kind").and_then(|kind| kind.value.as_text());
        match (server, kind.as_deref()) {
            (Server::Kafka, Some("kafka")) => true,
            (Server::Redis, Some("redis_stream")) => self.is_source,
            (Server::Redis, Some("redis")) => self.node.get("stream").is_some(),
            _ => false,
        }
    }
}

/// Says where messages go.
///
/// The inner error is a wrong use: what is wrong, and the remedy.
///
/// # Errors
/// If the config cannot be read or is wrong where we look.
pub(super) fn find(asked: &Asked<'_>, server: Server) -> anyhow::Result<Result<Found, String>> {
    let tree = match asked.config {
        Some(path) => Config::tree(path)?,
        None if asked.component.is_some() => return Ok(Err("--component is one of a config; name that with --config".into())),
        None => Node::empty(),
    };
    let mut errors = Errors::default();
    let found = found(tree, asked, server, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigError::Invalid { path: asked.config.map(PathBuf::from), errors }.into());
    }
    Ok(found)
}

fn found(mut tree: Node, asked: &Asked<'_>, server: Server, errors: &mut Errors) -> Result<Found, String> {
    tree.overlay_env(std::env::vars(), errors);
    let component = match asked.config {
        Some(_) => Some(chosen(&tree, asked.component, server)?),
        None => None,
    };
    let empty = Node::empty();
    let (name, node) = component.as_ref().map_or(("", &empty), |component| (component.name.as_str(), component.node));
    let is_source = component.as_ref().is_some_and(|component| component.is_source);
    match server {
        Server::Kafka => {
            // What a consumer may be told besides is not what a producer may.
            let mut node = only(
                node,
                if is_source { &["brokers", "client_id", "tls", "sasl"] } else { &["brokers", "client_id", "tls", "sasl", "options"] },
            );
            lay(&mut node, "brokers", asked.place, "--brokers", BROKERS, errors);
            let topic = match (asked.target, component.as_ref()) {
                (Some(topic), _) => topic.to_owned(),
                (None, Some(component)) => one_of(component, if is_source { "topics" } else { "topic" }, "--topic")?,
                (None, None) => TOPIC.to_owned(),
            };
            let connection = Connection::parse(&mut Section::open(name, &node, KAFKA, &[], errors));
            Ok(Found::Kafka { connection, topic })
        }
        Server::Redis => {
            let mut node = only(node, &["url", "tls", "username", "password_file", "db", "timeout"]);
            lay(&mut node, "url", asked.place, "--url", URL, errors);
            let key = match (asked.target, component.as_ref()) {
                (Some(key), _) => key.to_owned(),
                (None, Some(component)) => one_of(component, if is_source { "streams" } else { "stream" }, "--key")?,
                (None, None) => KEY.to_owned(),
            };
            let text = |name: &str| component.as_ref().and_then(|component| component.node.get(name)?.value.as_text());
            let field = text(if is_source { "field" } else { "stream_field" }).unwrap_or_else(|| FIELD.to_owned());
            let mut section = Section::open(name, &node, REDIS, &[], errors);
            let (url, ca, timeout) = (section.text("url"), section.opt_path("tls.ca"), section.span("timeout"));
            let place = At::parse(&url, ca).unwrap_or_else(|why| {
                section.wrong("url", why);
                At::Tcp { host: String::new(), port: 0 }
            });
            let db = u32::try_from(section.int("db")).unwrap_or(0);
            let (user, password_file) = (section.opt_text("username"), section.opt_path("password_file"));
            Ok(Found::Redis { server: Redis { place, user, password_file, db, connect_timeout: timeout, timeout }, key, field })
        }
    }
}

/// The component that is named, or the only one of its kind.
fn chosen<'t>(tree: &'t Node, named: Option<&str>, server: Server) -> Result<Component<'t>, String> {
    let mut all = Vec::new();
    for section in ["sources", "sinks"] {
        let entries = tree.get(section).map_or(&[][..], Node::entries);
        all.extend(entries.iter().map(|(key, node)| Component {
            name: format!("{section}.{}", key.name),
            node,
            is_source: section == "sources",
        }));
    }
    let what = match server {
        Server::Kafka => "kind kafka",
        Server::Redis => "kind redis_stream, or kind redis with a stream",
    };
    let mut fitting: Vec<_> = all.into_iter().filter(|component| component.is_of(server)).collect();
    let names: Vec<String> = fitting.iter().map(|component| component.name.clone()).collect();
    let names = names.join(", ");
    if let Some(named) = named {
        let known = if names.is_empty() { "it has none".to_owned() } else { format!("it has {names}") };
        return fitting
            .into_iter()
            .find(|component| component.name == named)
            .ok_or_else(|| format!("the config has no {named} of {what}; {known}"));
    }
    match fitting.len() {
        1 => Ok(fitting.remove(0)),
        0 => Err(format!("the config has no source or sink of {what}")),
        _ => Err(format!("the config has more than one of {what}; say which with --component: {names}")),
    }
}

/// The one target that a component has.
fn one_of(component: &Component<'_>, setting: &str, flag: &str) -> Result<String, String> {
    let targets: Vec<String> = match component.node.get(setting).map(|node| &node.value) {
        Some(Value::List(items)) => items.iter().filter_map(|item| item.value.as_text()).collect(),
        Some(value) => {
            value.as_text().into_iter().flat_map(|text| text.split(',').map(|one| one.trim().to_owned()).collect::<Vec<_>>()).collect()
        }
        None => Vec::new(),
    };
    match targets.as_slice() {
        [target] if !target.starts_with('^') => Ok(target.clone()),
        _ => Err(format!("{}.{setting} names not one but a choice; say which with {flag}", component.name)),
    }
}

/// A table with these of its keys.
fn only(node: &Node, keys: &[&str]) -> Node {
    let entries = node.entries().iter().filter(|(key, _)| keys.contains(&key.name.as_str())).cloned().collect();
    Node { value: Value::Table(entries), place: node.place.clone() }
}

/// Lays a flag over a setting, or a default under it.
fn lay(node: &mut Node, setting: &str, given: Option<&str>, flag: &str, default: &str, errors: &mut Errors) {
    match given {
        Some(text) => node.set(setting, Value::Text(text.to_owned()), Place::Flag(flag.to_owned()), errors),
        None if node.get(setting).is_none() => node.set(setting, Value::Text(default.to_owned()), Place::Default, errors),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"
[sources.events]
kind = "kafka"
brokers = ["a:9093", "b:9093"]
topics = ["apt_topic"]
group = "apt"
sasl = { mechanism = "PLAIN", username = "u", password_file = "/p" }
options = { "fetch.wait.max.ms" = 5 }
[sources.stream]
kind = "redis_stream"
url = "redis://r"
streams = ["s"]
password_file = "/r"
db = 3
[sinks.alerts]
kind = "redis"
url = "redis://r"
list = "alerts"
[sinks.copy]
kind = "kafka"
brokers = "c:9092"
topic = "copy"
"#;

    fn asked<'a>(component: Option<&'a str>, place: Option<&'a str>, target: Option<&'a str>) -> Asked<'a> {
        Asked { config: Some(Path::new("x.toml")), component, place, target }
    }

    #[track_caller]
    fn of(text: &str, asked: &Asked<'_>, server: Server) -> Result<Found, String> {
        let mut errors = Errors::default();
        let found = found(Node::parse_toml(text).unwrap(), asked, server, &mut errors);
        if errors.is_empty() { found } else { Err(errors.to_string()) }
    }

    #[test]
    fn a_connection_is_that_of_a_component_of_the_config() {
        let found = of(CONFIG, &asked(Some("sources.events"), None, None), Server::Kafka);
        let Ok(Found::Kafka { connection, topic }) = found else { panic!("{found:?}") };
        assert_eq!((connection.brokers, topic.as_str()), (vec!["a:9093".to_owned(), "b:9093".into()], "apt_topic"));
        assert!(connection.sasl.is_some_and(|sasl| sasl.username == "u") && connection.options.is_empty());
        let found = of(CONFIG, &asked(Some("sinks.copy"), Some("d:1,e:2"), Some("other")), Server::Kafka);
        let Ok(Found::Kafka { connection, topic }) = found else { panic!("{found:?}") };
        assert_eq!((connection.brokers, topic.as_str()), (vec!["d:1".to_owned(), "e:2".into()], "other"));
        let found = of(CONFIG, &asked(None, None, None), Server::Redis);
        let Ok(Found::Redis { server, key, field }) = found else { panic!("{found:?}") };
        assert_eq!((server.place.to_string().as_str(), server.db, key.as_str(), field.as_str()), ("redis://r:6379", 3, "s", "data"));
        assert_eq!(server.password_file, Some(PathBuf::from("/r")));
    }

    #[test]
    fn without_a_config_it_is_this_host() {
        let found = of("", &Asked::default(), Server::Kafka);
        let Ok(Found::Kafka { connection, topic }) = found else { panic!("{found:?}") };
        assert_eq!((connection.brokers, topic.as_str()), (vec!["localhost:9092".to_owned()], "apt_topic"));
        let found = of("", &Asked::default(), Server::Redis);
        assert!(matches!(&found, Ok(Found::Redis { key, .. }) if key == "apt:events"), "{found:?}");
    }

    #[test]
    fn what_cannot_be_told_is_asked_for() {
        let two = format!("{CONFIG}\n[sources.more]\nkind = \"kafka\"\nbrokers = \"a:1\"\ntopics = \"a, ^b.*\"\n");
        for (component, place, server, part) in [
            (None, None, Server::Kafka, "say which with --component: sources.events, sources.more, sinks.copy"),
            (Some("sinks.alerts"), None, Server::Kafka, "has no sinks.alerts of kind kafka; it has sources.events"),
            (Some("sources.more"), None, Server::Kafka, "sources.more.topics names not one but a choice; say which with --topic"),
            (Some("sinks.copy"), Some("nowhere"), Server::Kafka, "flag --brokers: sinks.copy.brokers: must name"),
            (None, Some("redis://u:hush@r"), Server::Redis, "use username and password_file"),
        ] {
            let answer = of(&two, &asked(component, place, None), server);
            let said = format!("{answer:?}");
            assert!(answer.is_err() && said.contains(part) && !said.contains("hush"), "{part}: {said}");
        }
    }
}
