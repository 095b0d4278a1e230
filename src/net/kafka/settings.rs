//! One vocabulary of Kafka settings, for sinks and sources.
//!
//! Secrets come from files, environment or systemd credentials only, are read when a client is
//! built (so that new ones are taken without a restart), and are never shown.

#![allow(clippy::disallowed_methods, reason = "secrets are files of the operator, read once at start")]

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};

use crate::{
    net::{
        secret::Secret,
        tls::{self, Files, Pem},
    },
    register::{Field, Section, Type, section::nearest},
};

/// Addresses of the brokers.
pub const BROKERS: Field =
    Field::required("brokers", Type::Texts, "Addresses of one or more brokers, host:port; the others are found by asking these.");
/// Name of the client.
pub const CLIENT_ID: Field = Field::new("client_id", Type::Text, "shipper", "Name by which the brokers' logs and quotas know this client.");
/// TLS on or off.
pub const TLS_ENABLED: Field =
    Field::optional("tls.enabled", Type::Bool, "TLS; by default on where any other tls.* is set. Alone it trusts the system's CAs.");
/// The CA.
pub const TLS_CA: Field = Field::optional(
    "tls.ca",
    Type::Path,
    "PEM file with the CA, intermediates included, that vouches for the brokers and for our own certificate.",
);
/// The certificate.
pub const TLS_CERT: Field = Field::optional("tls.cert", Type::Path, "PEM file with our certificate, followed by intermediates if any.");
/// The key.
pub const TLS_KEY: Field = Field::optional("tls.key", Type::Path, "PEM file with the private key of tls.cert: RSA, EC or Ed25519.");
/// The key's password.
pub const TLS_KEY_PASSWORD_FILE: Field =
    Field::optional("tls.key_password_file", Type::Path, "File whose first line is the password of tls.key, where that is encrypted.");
/// The mechanism.
pub const SASL_MECHANISM: Field =
    Field::optional("sasl.mechanism", Type::Choice(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), "How we log in; unset: no SASL.");
/// The user.
pub const SASL_USERNAME: Field = Field::optional("sasl.username", Type::Text, "User name for SASL.");
/// The password's file.
pub const SASL_PASSWORD_FILE: Field = Field::optional(
    "sasl.password_file",
    Type::Path,
    "File whose first line is the password for SASL; read again when the client is built anew.",
);
/// The password's variable.
pub const SASL_PASSWORD_ENV: Field =
    Field::optional("sasl.password_env", Type::Text, "Environment variable that holds the password for SASL.");
/// The password's credential.
pub const SASL_PASSWORD_CREDENTIAL: Field = Field::optional(
    "sasl.password_credential",
    Type::Text,
    "Name of the systemd credential (LoadCredential=) that holds the password for SASL.",
);
/// Whatever librdkafka knows besides.
pub const OPTIONS: Field =
    Field::new("options", Type::Map, "{}", "Any librdkafka property by its own name; refused where it contradicts what delivery rests on.");

/// How to reach a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    pub brokers: Vec<String>,
    pub client_id: String,
    pub tls: Option<Tls>,
    pub sasl: Option<Sasl>,
    /// librdkafka's properties, checked.
    pub options: Vec<(String, String)>,
}

/// TLS files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// `None`: the system's CAs.
    pub ca: Option<PathBuf>,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub key_password_file: Option<PathBuf>,
}

/// A login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sasl {
    pub mechanism: &'static str,
    pub username: String,
    pub password: PasswordIn,
}

impl Tls {
    /// Reads its files, as they are now.
    pub fn read(&self) -> Files {
        let pem = |setting, path: &PathBuf| {
            let bytes = std::fs::read(path).map_err(|error| error.to_string());
            Pem { setting, path: path.clone(), bytes }
        };
        Files {
            ca: self.ca.as_ref().map(|path| pem("tls.ca", path)),
            own: self.cert.as_ref().zip(self.key.as_ref()).map(|(cert, key)| (pem("tls.cert", cert), pem("tls.key", key))),
            password: self.key_password_file.as_deref().map(Secret::from_file),
        }
    }
}

/// Where a password lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PasswordIn {
    File(PathBuf),
    Env(String),
    Credential(String),
}

impl PasswordIn {
    /// Reads it.
    ///
    /// # Errors
    /// What is missing, and the remedy.
    pub fn read(&self) -> Result<Secret, String> {
        match self {
            PasswordIn::File(path) => Secret::from_file(path),
            PasswordIn::Env(name) => match std::env::var(name) {
                Ok(text) if !text.is_empty() => Ok(Secret::new(text)),
                _ => Err(format!(
                    "environment variable {name} holds no password; set it for the agent, for example by EnvironmentFile= of its unit"
                )),
            },
            PasswordIn::Credential(name) => {
                let dir = std::env::var_os("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("no systemd credentials here; add LoadCredential={name}:FILE to the unit, or use sasl.password_file")
                })?;
                Secret::from_file(&PathBuf::from(dir).join(name))
            }
        }
    }

    fn file(&self) -> Option<PathBuf> {
        match self {
            PasswordIn::File(path) => Some(path.clone()),
            PasswordIn::Env(_) => None,
            PasswordIn::Credential(name) => Some(PathBuf::from(std::env::var_os("CREDENTIALS_DIRECTORY")?).join(name)),
        }
    }
}

/// Mechanisms that librdkafka knows and this build has not, and why not.
const NOT_BUILT: [(&str, &str); 2] = [
    ("GSSAPI", "(Kerberos) is not in this build, since it would want the same Cyrus SASL library on every host"),
    ("OAUTHBEARER", "is not in this build, since nothing of ours would fetch and renew tokens"),
];

/// Properties that are ours, and what to do instead.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "use setting brokers"),
    ("metadata.broker.list", "use setting brokers"),
    ("client.id", "use setting client_id"),
    ("security.protocol", "it follows from tls.* and sasl.*"),
    ("sasl.mechanism", "use sasl.mechanism of this component"),
    ("sasl.mechanisms", "use sasl.mechanism of this component"),
    ("sasl.username", "use sasl.username of this component"),
    ("sasl.password", "a secret does not belong into the config; use sasl.password_file"),
    ("ssl.key.password", "a secret does not belong into the config; use tls.key_password_file"),
    ("ssl.keystore.password", "a secret does not belong into the config; use tls.key with tls.key_password_file"),
    ("ssl.key.pem", "a secret does not belong into the config; use tls.key"),
    ("ssl.key.location", "use tls.key"),
    ("ssl.certificate.location", "use tls.cert"),
    ("ssl.certificate.pem", "use tls.cert"),
    ("ssl.ca.location", "use tls.ca"),
    ("ssl.ca.pem", "use tls.ca"),
    (
        "sasl.oauthbearer.client.secret",
        "a secret does not belong into the config, and OAUTHBEARER is not supported; use SCRAM or certificates",
    ),
    ("enable.ssl.certificate.verification", "the broker's certificate is always verified; give the CA in tls.ca"),
    ("ssl.endpoint.identification.algorithm", "the broker's name is always verified; write the name in its certificate into brokers"),
    ("test.mock.num.brokers", "it replaces the brokers; remove it"),
    ("log.queue", "the agent reads librdkafka's log itself; remove it"),
    ("log_level", "use the agent's own log settings"),
    ("plugin.library.paths", "it loads foreign code into the agent; remove it"),
];

/// The same of a producer.
const OURS_OF_PRODUCERS: &[(&str, &str)] = &[
    ("acks", "deliveries rest on acks=all; remove it"),
    ("request.required.acks", "deliveries rest on acks=all; remove it"),
    ("enable.idempotence", "deliveries rest on an idempotent producer; remove it"),
    ("enable.gapless.guarantee", "the agent keeps the order itself; remove it"),
    ("message.timeout.ms", "nothing is given up by time; remove it"),
    ("delivery.timeout.ms", "nothing is given up by time; remove it"),
    ("message.send.max.retries", "nothing is given up by count; remove it"),
    ("retries", "nothing is given up by count; remove it"),
    ("transactional.id", "transactions are not an option of this component; remove it"),
    ("group.id", "a producer has no group; remove it"),
    ("compression.codec", "use setting compression"),
    ("compression.type", "use setting compression"),
    ("linger.ms", "use setting linger"),
    ("queue.buffering.max.ms", "use setting linger"),
    ("batch.size", "use setting batch_bytes"),
    ("queue.buffering.max.kbytes", "use setting queue_bytes"),
    ("topic.metadata.propagation.max.ms", "an unknown topic is told within seconds; remove it"),
];

/// The same of a consumer.
const OURS_OF_CONSUMERS: &[(&str, &str)] = &[
    ("group.id", "use setting group"),
    ("group.instance.id", "use setting group_instance_id"),
    ("group.protocol", "the group hands partitions over by the classic protocol; remove it"),
    ("enable.auto.commit", "only what is settled is committed; use setting commit_interval"),
    ("auto.commit.enable", "only what is settled is committed; use setting commit_interval"),
    ("auto.commit.interval.ms", "use setting commit_interval"),
    ("enable.auto.offset.store", "only what is settled is committed; remove it"),
    ("auto.offset.reset", "use setting start"),
    ("isolation.level", "use setting read_committed"),
    ("partition.assignment.strategy", "partitions are handed over one by one; remove it"),
    ("session.timeout.ms", "use setting session_timeout"),
    ("socket.timeout.ms", "use setting request_timeout"),
    ("max.poll.interval.ms", "the agent polls while it waits; remove it"),
    ("fetch.max.bytes", "use setting fetch_max_bytes"),
    ("max.partition.fetch.bytes", "use setting max_partition_fetch_bytes"),
    ("fetch.message.max.bytes", "use setting max_partition_fetch_bytes"),
    ("queued.max.messages.kbytes", "the agent bounds its memory itself; remove it"),
    ("enable.partition.eof", "the agent does not ask for it; remove it"),
    ("check.crcs", "records are always checked; remove it"),
];

/// Names that a slip of the hand may have meant.
const KNOWN: &[&str] = &[
    "message.max.bytes",
    "message.copy.max.bytes",
    "receive.message.max.bytes",
    "max.in.flight.requests.per.connection",
    "max.in.flight",
    "topic.metadata.refresh.interval.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.fast.interval.ms",
    "socket.timeout.ms",
    "socket.send.buffer.bytes",
    "socket.receive.buffer.bytes",
    "socket.keepalive.enable",
    "socket.nagle.disable",
    "socket.max.fails",
    "broker.address.ttl",
    "broker.address.family",
    "connections.max.idle.ms",
    "socket.connection.setup.timeout.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "statistics.interval.ms",
    "client.rack",
    "client.dns.lookup",
    "ssl.cipher.suites",
    "ssl.curves.list",
    "ssl.sigalgs.list",
    "ssl.crl.location",
    "ssl.providers",
    "queue.buffering.max.messages",
    "queue.buffering.backpressure.threshold",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "batch.num.messages",
    "sticky.partitioning.linger.ms",
    "request.timeout.ms",
    "partitioner",
    "compression.level",
    "debug",
    "api.version.request",
    "enable.random.seed",
    "metadata.recovery.strategy",
    "msg_order_cmp",
];

impl Connection {
    /// Reads the shared settings of a sink's section; what is wrong is noted there.
    pub fn parse(section: &mut Section<'_>) -> Self {
        Self::parse_as(section, check_option)
    }

    /// The same of a source's section.
    pub fn parse_consumer(section: &mut Section<'_>) -> Self {
        Self::parse_as(section, check_consumer_option)
    }

    fn parse_as(section: &mut Section<'_>, check: fn(&str, &str) -> Result<(), String>) -> Self {
        let brokers = section.texts("brokers");
        if section.is_set("brokers") && (brokers.is_empty() || brokers.iter().any(|b| !is_address(b))) {
            section.wrong("brokers", "must name at least one broker, each as host:port; for example [\"kafka.example:9093\"]");
        }
        let client_id = section.text("client_id");
        let tls = Self::parse_tls(section);
        let sasl = Self::parse_sasl(section);
        let options = section.map("options");
        for (name, value) in &options {
            if let Err(what) = check(name, value) {
                section.wrong("options", what);
            }
        }
        Self { brokers, client_id, tls, sasl, options }
    }

    fn parse_tls(section: &mut Section<'_>) -> Option<Tls> {
        let files = Tls {
            ca: section.opt_path("tls.ca"),
            cert: section.opt_path("tls.cert"),
            key: section.opt_path("tls.key"),
            key_password_file: section.opt_path("tls.key_password_file"),
        };
        let any = files != Tls::default();
        let on = if section.is_set("tls.enabled") { section.bool("tls.enabled") } else { any };
        if any && !on {
            section.wrong("tls.enabled", "contradicts the other tls.* settings; remove it or them");
        }
        if files.cert.is_some() != files.key.is_some() {
            section
                .wrong(if files.cert.is_some() { "tls.key" } else { "tls.cert" }, "must be set too: certificate and key belong together");
        }
        if files.cert.is_some() && files.ca.is_none() {
            section.wrong("tls.ca", "must be set where tls.cert is: without it nothing vouches for the brokers or the certificate");
        }
        if files.key_password_file.is_some() && files.key.is_none() {
            section.wrong("tls.key_password_file", "is of no use without tls.key");
        }
        on.then_some(files)
    }

    fn parse_sasl(section: &mut Section<'_>) -> Option<Sasl> {
        let all = ["sasl.username", "sasl.password_file", "sasl.password_env", "sasl.password_credential"];
        if !section.is_set("sasl.mechanism") {
            if let Some(name) = all.into_iter().find(|name| section.is_set(name)) {
                section.wrong(name, "is of no use without sasl.mechanism; set that to PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512");
            }
            return None;
        }
        let written = section.opt_text("sasl.mechanism").unwrap_or_default();
        if let Some((name, why)) = NOT_BUILT.iter().find(|(name, _)| name.eq_ignore_ascii_case(&written)) {
            let what = format!("{name} {why}; log in by SCRAM-SHA-512, or by a certificate of ours (tls.cert and tls.key)");
            section.wrong("sasl.mechanism", what);
            return None;
        }
        let mechanism = section.choice("sasl.mechanism");
        let username = section.text("sasl.username");
        if username.is_empty() {
            section.wrong("sasl.username", "must be set where sasl.mechanism is");
        }
        let given: Vec<PasswordIn> = [
            section.opt_path("sasl.password_file").map(PasswordIn::File),
            section.opt_text("sasl.password_env").map(PasswordIn::Env),
            section.opt_text("sasl.password_credential").map(PasswordIn::Credential),
        ]
        .into_iter()
        .flatten()
        .collect();
        let [password] = <[PasswordIn; 1]>::try_from(given)
            .map_err(|_| {
                section.wrong("sasl.mechanism", "wants exactly one of sasl.password_file, sasl.password_env, sasl.password_credential")
            })
            .ok()?;
        Some(Sasl { mechanism, username, password })
    }

    /// The client's properties, secrets read now. The operator's options come last but one: ours
    /// that delivery rests on are refused among them when the config is read.
    ///
    /// # Errors
    /// A secret that cannot be read, or a property that librdkafka refuses; with the remedy.
    pub fn client(&self, ours: &[(&str, String)]) -> Result<ClientConfig, String> {
        let mut config = ClientConfig::new();
        config.set_log_level(RDKafkaLogLevel::Info);
        config.set("bootstrap.servers", self.brokers.join(",")).set("client.id", &self.client_id);
        for (name, value) in ours {
            config.set(*name, value);
        }
        let protocol = match (&self.tls, &self.sasl) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        if let Some(tls) = &self.tls {
            config.set("ssl.endpoint.identification.algorithm", "https");
            // Where no CA is given: the usual places of the system's bundle.
            config.set("ssl.ca.location", tls.ca.as_ref().map_or("probe".into(), |p| p.to_string_lossy().into_owned()));
            if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
                // librdkafka shows intermediates of tls.cert only, and shows nothing if the broker
                // does not know the last one's issuer.
                match tls::chain_with_intermediates(&tls.read()) {
                    Some(pem) => config.set("ssl.certificate.pem", pem),
                    None => config.set("ssl.certificate.location", cert.to_string_lossy()),
                };
                config.set("ssl.key.location", key.to_string_lossy());
            }
            if let Some(path) = &tls.key_password_file {
                config.set("ssl.key.password", Secret::from_file(path)?.reveal());
            }
        }
        if let Some(sasl) = &self.sasl {
            config
                .set("sasl.mechanism", sasl.mechanism)
                .set("sasl.username", &sasl.username)
                .set("sasl.password", sasl.password.read()?.reveal());
        }
        for (name, value) in &self.options {
            config.set(name, value);
        }
        Ok(config)
    }

    /// A fingerprint of the files that [`client`](Self::client) and the TLS library read.
    pub fn files_stamp(&self) -> u64 {
        let tls = self.tls.iter().flat_map(|t| [&t.ca, &t.cert, &t.key, &t.key_password_file]).flatten().cloned();
        let password = self.sasl.iter().filter_map(|s| s.password.file());
        let mut hasher = DefaultHasher::new();
        for path in tls.chain(password) {
            std::fs::read(&path).ok().hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && !host.contains(['/', ',', ' ']) && port.parse::<u16>().is_ok_and(|p| p > 0))
}

/// Says whether the operator of a producer may set this property so.
///
/// # Errors
/// Why not, and what to do instead.
pub fn check_option(name: &str, value: &str) -> Result<(), String> {
    if matches!(name, "max.in.flight" | "max.in.flight.requests.per.connection")
        && value.parse::<u32>().is_ok_and(|n| n > crate::limits::KAFKA_IN_FLIGHT_MAX)
    {
        return Err(format!("\"{name}\" is at most {}: beyond it the order is lost", crate::limits::KAFKA_IN_FLIGHT_MAX));
    }
    check_by(name, value, OURS_OF_PRODUCERS)
}

/// The same of a consumer.
///
/// # Errors
/// Why not, and what to do instead.
pub fn check_consumer_option(name: &str, value: &str) -> Result<(), String> {
    check_by(name, value, OURS_OF_CONSUMERS)
}

fn check_by(name: &str, value: &str, more: &[(&str, &str)]) -> Result<(), String> {
    if let Some((_, remedy)) = OURS.iter().chain(more).find(|(ours, _)| *ours == name) {
        return Err(format!("\"{name}\" cannot be set here; {remedy}"));
    }
    let mut config = ClientConfig::new();
    config.set(name, value);
    match config.create_native_config() {
        Ok(_) => Ok(()),
        Err(rdkafka::error::KafkaError::ClientConfig(_, what, _, _)) if what.starts_with("No such") => {
            Err(match nearest(name, KNOWN.iter().copied()) {
                Some(known) => format!("librdkafka has no property \"{name}\"; did you mean \"{known}\"?"),
                None => format!("librdkafka has no property \"{name}\"; see its CONFIGURATION.md for those of version 2.12"),
            })
        }
        Err(rdkafka::error::KafkaError::ClientConfig(_, what, _, _)) => Err(format!("\"{name}\": {what}; correct the value")),
        Err(other) => Err(format!("\"{name}\": {other}; correct the value")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_delivery_are_refused_with_a_remedy() {
        for (name, value, part) in [
            ("acks", "1", "acks=all"),
            ("enable.idempotence", "false", "idempotent"),
            ("message.timeout.ms", "1000", "nothing is given up"),
            ("sasl.password", "x", "password_file"),
            ("enable.ssl.certificate.verification", "false", "always verified"),
            ("max.in.flight", "6", "order"),
            ("socket.timeout.mss", "1", "did you mean \"socket.timeout.ms\""),
            ("no.such.thing.at.all", "1", "CONFIGURATION.md"),
            ("socket.timeout.ms", "soon", "socket.timeout.ms"),
        ] {
            let error = check_option(name, value).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
        assert_eq!(check_option("socket.timeout.ms", "5000"), Ok(()));
        for (name, value, part) in [
            ("group.id", "x", "setting group"),
            ("enable.auto.offset.store", "true", "settled"),
            ("auto.offset.reset", "latest", "setting start"),
            ("sasl.password", "x", "password_file"),
            ("fetch.wait.max.mss", "1", "librdkafka has no property"),
        ] {
            let error = check_consumer_option(name, value).unwrap_err();
            assert!(error.contains(part), "{name}: {error}");
        }
        assert_eq!(check_consumer_option("fetch.wait.max.ms", "50"), Ok(()));
        assert_eq!(check_option("message.max.bytes", "2000000"), Ok(()));
    }

    #[test]
    fn mechanisms_that_this_build_has_not_are_told_with_what_to_use() {
        const FIELDS: &[Field] =
            &[BROKERS, CLIENT_ID, TLS_ENABLED, TLS_CA, TLS_CERT, TLS_KEY, TLS_KEY_PASSWORD_FILE, SASL_MECHANISM, SASL_USERNAME, OPTIONS];
        let told = |mechanism: &str| {
            let text = format!("brokers = ['b:1']\nsasl.mechanism = '{mechanism}'\n");
            let (node, mut errors) = (crate::register::Node::parse_toml(&text).unwrap(), crate::register::Errors::default());
            let mut section = Section::open("sinks.k", &node, FIELDS, &[], &mut errors);
            Connection::parse_sasl(&mut section);
            errors.to_string()
        };
        for (mechanism, part) in [("GSSAPI", "GSSAPI (Kerberos) is not in this build"), ("oauthbearer", "OAUTHBEARER is not in this build")]
        {
            let told = told(mechanism);
            assert!(
                told.starts_with(&format!("line 2: sinks.k.sasl.mechanism: {part}")) && told.ends_with("(tls.cert and tls.key)"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_secret_is_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "open sesame\n").unwrap();
        let secret = PasswordIn::File(file.path().to_owned()).read().unwrap();
        assert_eq!(secret.reveal(), "open sesame");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        let connection = Connection {
            brokers: vec!["b:1".into()],
            sasl: Some(Sasl { mechanism: "PLAIN", username: "u".into(), password: PasswordIn::File(file.path().to_owned()) }),
            ..Connection::default()
        };
        assert!(!format!("{:?} {connection:?}", connection.client(&[]).unwrap()).contains("sesame"));
    }

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for (text, good) in
            [("a:1", true), ("[::1]:9092", true), ("a", false), (":1", false), ("a:0", false), ("a:b", false), ("http://a:1", false)]
        {
            assert_eq!(is_address(text), good, "{text}");
        }
    }
}
