//! The keys of a wazuh-dfn configuration, as data: type, default, bounds, variable, flag, and what becomes of each.
//!
//! Source: the configuration of wazuh-dfn 0.23.1. A row is all that a key needs; `dfn.rs` reads by it, `write.rs` writes by it.

/// One key of the foreign configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Section and name: `health.api.port`.
    pub name: &'static str,
    pub kind: Kind,
    /// The default, as JSON.
    pub default: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// Its flag.
    pub flag: &'static str,
    pub ours: Ours,
}

/// What a key may hold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Text,
    /// Text that must not be empty.
    Filled,
    /// Text, or null for unset.
    Maybe,
    Bool,
    /// A whole number, both ends included.
    Int(i64, i64),
    /// A number above zero.
    Above0,
    /// A path, or a pair of host and port.
    Socket,
    /// Addresses and networks, at least one.
    Allowed,
    /// A table of Kafka options.
    Options,
    /// One strict network, or null.
    Network,
    /// `host:port`, more of them between commas.
    Brokers,
    /// A Kafka topic, or null.
    Topic,
    /// A compression codec.
    Codec,
    /// One of upstream's words for a log level.
    Level,
}

/// What becomes of a key in our configuration.
#[derive(Clone, Copy, Debug)]
pub enum Ours {
    /// The table and the name in it; always written.
    Always(&'static str, &'static str, Shape),
    /// The table and the name in it; written where the key was given.
    Given(&'static str, &'static str, Shape),
    /// Part of something that is written as a whole.
    Part,
    /// Left out, for this reason.
    Out(&'static str),
}

/// How a value is written.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Same,
    /// Seconds as a span, `"60s"`; at most so many.
    Seconds(i64),
    /// Seconds as a number of milliseconds; at most so many seconds.
    Millis(i64),
    /// Brokers as a list, each with its port.
    Brokers,
    /// A size in bytes that a confirmation can have.
    Bytes,
    /// A text, left out where it is empty.
    Filled,
    /// A name of an integration, left out where it is none of ours.
    Name,
    /// A log level of ours.
    Level,
}

use Kind::{Above0, Allowed, Bool, Brokers, Codec, Filled, Int, Level, Maybe, Network, Options, Socket, Text, Topic};
use Ours::{Always, Given, Out, Part};
use Shape::{Bytes, Millis, Name, Same, Seconds};

/// The range of most whole numbers.
const COUNT: Kind = Int(1, i64::MAX);
const PORT: Kind = Int(1, 65_535);
const PERCENT: Kind = Int(1, 100);
/// Seconds. A longer span is a slip of the hand.
const YEAR: i64 = 31_536_000;

const fn key(name: &'static str, kind: Kind, default: &'static str, variable: &'static str, flag: &'static str, ours: Ours) -> Key {
    Key { name, kind, default, variable, flag, ours }
}

const PATIENT: Ours = Out("a confirmation is tried until it is out or too old; the sink has one task, which owns the socket");
const FOR_EVER: Ours = Out("a message is tried until the broker has it, with librdkafka's own back-off");
const HISTORY: Ours = Out("/metrics is for Prometheus, which keeps the history");
const ALERT_RULES: Ours = Out("/metrics has what an alert rule needs");

/// The sections, in upstream's order; `health.api` is a section inside `health`.
pub static SECTIONS: &[&str] = &["dfn", "wazuh", "kafka", "log", "health", "health.api", "misc"];

/// Every key.
#[rustfmt::skip]
pub static KEYS: &[Key] = &[
    key("dfn.dfn_broker", Brokers, r#""kafka.example.org:443""#, "DFN_BROKER_ADDRESS", "--dfn-broker-address", Always("sinks.dfn_cert", "brokers", Shape::Brokers)),
    key("dfn.dfn_cert", Text, r#""/opt/wazuh-dfn/certs/dfn-cert.pem""#, "DFN_CERT_PATH", "--dfn-cert-path", Part),
    key("dfn.dfn_key", Text, r#""/opt/wazuh-dfn/certs/dfn-key.pem""#, "DFN_KEY_PATH", "--dfn-key-path", Part),
    key("dfn.dfn_ca", Maybe, "null", "DFN_CA_PATH", "--dfn-ca-path", Part),
    key("dfn.dfn_id", Topic, "null", "DFN_CUSTOMER_ID", "--dfn-customer-id", Always("sinks.dfn_cert", "topic", Same)),

    key("wazuh.unix_socket_path", Socket, r#""/var/ossec/queue/sockets/queue""#, "WAZUH_UNIX_SOCKET_PATH", "--wazuh-unix-socket-path", Part),
    key("wazuh.max_event_size", COUNT, "65535", "WAZUH_MAX_EVENT_SIZE", "--wazuh-max-event-size", Given("handlers.dfn", "confirm.max_bytes", Bytes)),
    key("wazuh.json_alert_file", Filled, r#""/var/ossec/logs/alerts/alerts.json""#, "WAZUH_JSON_ALERT_FILE", "--wazuh-json-alert-file", Always("sources.alerts", "path", Same)),
    key("wazuh.json_alert_prefix", Text, r#""{\"timestamp\"""#, "WAZUH_JSON_ALERT_PREFIX", "--wazuh-json-prefix", Out("a line is a record, whatever it begins with: lines that wazuh-dfn passed over are read now")),
    key("wazuh.json_alert_suffix", Text, r#""}""#, "WAZUH_JSON_ALERT_SUFFIX", "--wazuh-json-suffix", Out("a line is a record; wazuh-dfn never used this key")),
    key("wazuh.max_retries", COUNT, "42", "WAZUH_MAX_RETRIES", "--wazuh-max-retries", PATIENT),
    key("wazuh.retry_interval", COUNT, "5", "WAZUH_RETRY_INTERVAL", "--wazuh-retry-interval", Given("sinks.manager", "backoff", Seconds(YEAR))),
    key("wazuh.max_connection_failures_per_event", COUNT, "10", "WAZUH_MAX_CONNECTION_FAILURES_PER_EVENT", "--wazuh-max-connection-failures-per-event", PATIENT),
    key("wazuh.connection_failure_backoff_base", Above0, "0.1", "WAZUH_CONNECTION_FAILURE_BACKOFF_BASE", "--wazuh-connection-failure-backoff-base", PATIENT),
    key("wazuh.max_retry_wait_time", COUNT, "30", "WAZUH_MAX_RETRY_WAIT_TIME", "--wazuh-max-retry-wait-time", Out("the back-off of the manager's queue doubles up to 30 s")),
    key("wazuh.max_connection_wait_attempts", COUNT, "50", "WAZUH_MAX_CONNECTION_WAIT_ATTEMPTS", "--wazuh-max-connection-wait-attempts", PATIENT),
    key("wazuh.connection_wait_sleep_interval", Above0, "0.1", "WAZUH_CONNECTION_WAIT_SLEEP_INTERVAL", "--wazuh-connection-wait-sleep-interval", PATIENT),
    key("wazuh.connection_timeout", Above0, "30.0", "WAZUH_CONNECTION_TIMEOUT", "--wazuh-connection-timeout", Out("connecting a datagram socket does not wait")),
    key("wazuh.read_timeout", Above0, "10.0", "WAZUH_READ_TIMEOUT", "--wazuh-read-timeout", Out("nothing is read from the manager's queue; wazuh-dfn never used this key")),
    key("wazuh.write_timeout", Above0, "10.0", "WAZUH_WRITE_TIMEOUT", "--wazuh-write-timeout", Out("a full queue makes the sink wait, never fail, and nobody waits for the sink")),
    key("wazuh.json_alert_file_poll_interval", Above0, "1.0", "WAZUH_JSON_ALERT_FILE_POLL_INTERVAL", "--wazuh-json-alert-file-poll-interval", Out("the kernel tells when the file grows; a look each second is only the safety net")),
    key("wazuh.store_failed_alerts", Bool, "false", "WAZUH_STORE_FAILED_ALERTS", "--wazuh-store-failed-alerts", Out("the dead letter is always on")),
    key("wazuh.failed_alerts_path", Text, r#""/opt/wazuh-dfn/failed-alerts""#, "WAZUH_FAILED_ALERTS_PATH", "--wazuh-failed-alerts-path", Given("dead_letter", "path", Shape::Filled)),
    key("wazuh.max_failed_files", COUNT, "100", "WAZUH_MAX_FAILED_FILES", "--wazuh-max-failed-files", Out("the dead letter is limited by size (dead_letter.max_bytes), not by a number of files")),
    key("wazuh.json_alert_queue_size", COUNT, "100000", "WAZUH_JSON_ALERT_QUEUE_SIZE", "--wazuh-json-alert-queue-size", Out("alerts that cannot go out yet stay in the file, where they are safe")),
    key("wazuh.integration_name", Text, r#""dfn""#, "WAZUH_INTEGRATION_NAME", "--wazuh-integration-name", Given("handlers.dfn", "confirm.integration", Name)),

    key("kafka.timeout", COUNT, "60", "KAFKA_TIMEOUT", "--kafka-timeout", Given("sinks.dfn_cert", "request_timeout", Seconds(300))),
    key("kafka.retry_interval", COUNT, "5", "KAFKA_RETRY_INTERVAL", "--kafka-retry-interval", FOR_EVER),
    key("kafka.connection_max_retries", COUNT, "5", "KAFKA_CONNECTION_MAX_RETRIES", "--kafka-connection-max-retries", FOR_EVER),
    key("kafka.send_max_retries", COUNT, "5", "KAFKA_SEND_MAX_RETRIES", "--kafka-send-max-retries", FOR_EVER),
    key("kafka.max_wait_time", COUNT, "60", "KAFKA_MAX_WAIT_TIME", "--kafka-max-wait-time", Given("sinks.dfn_cert", r#"options."reconnect.backoff.max.ms""#, Millis(3600))),
    key("kafka.admin_timeout", COUNT, "10", "KAFKA_ADMIN_TIMEOUT", "--kafka-admin-timeout", Out("no admin client is made; `shipper check` looks at the broker")),
    key("kafka.service_retry_interval", COUNT, "5", "KAFKA_SERVICE_RETRY_INTERVAL", "--kafka-service-retry-interval", FOR_EVER),
    key("kafka.compression_type", Codec, r#""gzip""#, "KAFKA_COMPRESSION_TYPE", "--kafka-compression-type", Part),
    key("kafka.producer_config", Options, r#"{"linger_ms":5,"max_batch_size":16384,"acks":1,"max_request_size":1048576}"#, "KAFKA_PRODUCER_CONFIG", "--kafka-producer-config", Part),

    key("log.console", Bool, "true", "LOG_CONSOLE_ENABLED", "--log-console-enabled", Out("without log.path the log goes to standard error, which journald keeps; with it, only there")),
    key("log.keep_files", COUNT, "5", "LOG_KEEP_FILES", "--log-keep-files", Out("journald or logrotate keeps the files; SIGHUP opens the log again")),
    key("log.interval", COUNT, "600", "LOG_INTERVAL", "--log-interval", Out("wazuh-dfn never used this key; health.stats_interval is the one that counts")),
    key("log.level", Level, r#""INFO""#, "LOG_LEVEL", "--log-level", Given("log", "level", Shape::Level)),
    key("log.file_path", Maybe, "null", "LOG_FILE_PATH", "--log-file-path", Given("log", "path", Shape::Filled)),

    key("health.stats_interval", COUNT, "600", "HEALTH_STATS_INTERVAL", "--health-stats-interval", Given("log", "stats_every", Seconds(YEAR))),
    key("health.history_retention", COUNT, "3600", "HEALTH_HISTORY_RETENTION", "--health-history-retention", HISTORY),
    key("health.max_history_entries", COUNT, "1000", "HEALTH_MAX_HISTORY_ENTRIES", "--health-max-history-entries", HISTORY),
    key("health.cache_ttl", Int(-1, i64::MAX), "5", "HEALTH_CACHE_TTL", "--health-cache-ttl", Out("/health is answered from counters; there is nothing to cache")),
    key("health.event_queue_size", COUNT, "100000", "HEALTH_EVENT_QUEUE_SIZE", "--health-event-queue-size", Out("health is read from counters, not from a queue of events")),
    key("health.queue_warning_threshold", PERCENT, "70", "HEALTH_QUEUE_WARNING_THRESHOLD", "--health-queue-warning-threshold", ALERT_RULES),
    key("health.queue_critical_threshold", PERCENT, "90", "HEALTH_QUEUE_CRITICAL_THRESHOLD", "--health-queue-critical-threshold", ALERT_RULES),
    key("health.worker_stall_threshold", COUNT, "60", "HEALTH_WORKER_STALL_THRESHOLD", "--health-worker-stall-threshold", Given("health", "stall_after", Seconds(YEAR))),
    key("health.kafka_slow_threshold", Above0, "1.0", "HEALTH_KAFKA_SLOW_THRESHOLD", "--health-kafka-slow-threshold", ALERT_RULES),
    key("health.kafka_extremely_slow_threshold", Above0, "5.0", "HEALTH_KAFKA_EXTREMELY_SLOW_THRESHOLD", "--health-kafka-extremely-slow-threshold", ALERT_RULES),

    key("health.api.enabled", Bool, "false", "HEALTH_HTTP_SERVER_ENABLED", "--health-api-enabled", Part),
    key("health.api.host", Text, r#""127.0.0.1""#, "HEALTH_API_HOST", "--health-api-host", Part),
    key("health.api.port", PORT, "8080", "HEALTH_API_PORT", "--health-api-port", Part),
    key("health.api.auth_token", Maybe, "null", "HEALTH_API_AUTH_TOKEN", "--health-api-auth-token", Part),
    key("health.api.allowed_ips", Allowed, r#"["127.0.0.1","::1"]"#, "HEALTH_API_ALLOWED_IPS", "--health-api-allowed-ips", Out("the API listens on loopback, or elsewhere with TLS and api.keys_file; addresses are the firewall's business")),
    key("health.api.rate_limit", Int(0, i64::MAX), "100", "HEALTH_API_RATE_LIMIT", "--health-api-rate-limit", Out("an answer costs less than counting who asked")),
    key("health.api.rate_limit_window", COUNT, "60", "HEALTH_API_RATE_LIMIT_WINDOW", "--health-api-rate-limit-window", Out("as health.api.rate_limit")),
    key("health.api.https_enabled", Bool, "false", "HEALTH_API_HTTPS_ENABLED", "--health-api-https-enabled", Part),
    key("health.api.cert_file", Maybe, "null", "HEALTH_API_CERT_FILE", "--health-api-cert-file", Part),
    key("health.api.key_file", Maybe, "null", "HEALTH_API_KEY_FILE", "--health-api-key-file", Part),

    key("misc.num_workers", COUNT, "10", "MISC_NUM_WORKERS", "--misc-num-workers", Out("`--cores` says how many cores the agent uses; one is enough for what ten workers did")),
    key("misc.own_network", Network, "null", "MISC_OWN_NETWORK", "--misc-own-network", Part),
];

/// What an option of upstream's Kafka client is called by ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renamed {
    /// The librdkafka option.
    To(&'static str),
    /// Known, but not taken over, for this reason.
    Out(&'static str),
}

const OWN: Renamed = Renamed::Out("the agent sets it itself");

/// Upstream's names of Kafka options; dotted names are librdkafka's already.
pub static OPTIONS: &[(&str, Renamed)] = &[
    ("linger_ms", Renamed::To("linger.ms")),
    ("max_batch_size", Renamed::To("batch.size")),
    ("max_request_size", Renamed::To("message.max.bytes")),
    ("metadata_max_age_ms", Renamed::To("metadata.max.age.ms")),
    ("retry_backoff_ms", Renamed::To("retry.backoff.ms")),
    ("connections_max_idle_ms", Renamed::To("connections.max.idle.ms")),
    ("client_id", Renamed::To("client.id")),
    ("max_in_flight_requests_per_connection", Renamed::To("max.in.flight.requests.per.connection")),
    ("acks", Renamed::Out("ours is always acks=all: a leader change must not lose what was acknowledged")),
    ("enable_idempotence", Renamed::Out("ours is always idempotent")),
    ("request_timeout_ms", Renamed::Out("kafka.timeout is sinks.dfn_cert.request_timeout")),
    ("compression_type", Renamed::Out("it is sinks.dfn_cert.compression")),
    ("bootstrap_servers", Renamed::Out("dfn.dfn_broker is sinks.dfn_cert.brokers")),
    ("security_protocol", Renamed::Out("TLS is on where sinks.dfn_cert.tls is set")),
    ("ssl_context", OWN),
    ("api_version", OWN),
    ("key_serializer", OWN),
    ("value_serializer", OWN),
    ("partitioner", Renamed::Out("messages have no key and go to a partition at random, as before")),
];

/// Options in librdkafka's names that an upstream configuration may hold.
pub static DOTTED: &[(&str, Renamed)] = &[
    ("acks", Renamed::Out("ours is always acks=all")),
    ("request.required.acks", Renamed::Out("ours is always acks=all")),
    ("enable.idempotence", Renamed::Out("ours is always idempotent")),
    ("bootstrap.servers", Renamed::Out("dfn.dfn_broker is sinks.dfn_cert.brokers")),
    ("metadata.broker.list", Renamed::Out("dfn.dfn_broker is sinks.dfn_cert.brokers")),
    ("security.protocol", Renamed::Out("TLS is on where sinks.dfn_cert.tls is set")),
    ("compression.type", Renamed::Out("it is sinks.dfn_cert.compression")),
    ("compression.codec", Renamed::Out("it is sinks.dfn_cert.compression")),
    ("request.timeout.ms", Renamed::Out("kafka.timeout is sinks.dfn_cert.request_timeout")),
    ("delivery.timeout.ms", Renamed::Out("a message is never given up")),
    ("message.timeout.ms", Renamed::Out("a message is never given up")),
    ("retries", Renamed::Out("a message is never given up")),
    ("message.send.max.retries", Renamed::Out("a message is never given up")),
    ("buffer.memory", Renamed::Out("what cannot go out yet stays in the file")),
];

/// Beginnings of librdkafka's option names; what begins so is passed on as it is.
pub static PASSED: &[&str] = &[
    "batch.",
    "broker.",
    "client.",
    "compression.",
    "connections.",
    "linger.",
    "max.",
    "message.",
    "metadata.",
    "queue.buffering.",
    "receive.",
    "reconnect.",
    "retry.",
    "sasl.",
    "socket.",
    "sticky.",
    "topic.metadata.",
    "transaction.",
];

/// What becomes of a Kafka option; `None` if nobody knows it.
pub fn option(name: &str) -> Option<Renamed> {
    let known = OPTIONS.iter().chain(DOTTED).find(|(known, _)| *known == name).map(|(_, renamed)| *renamed);
    known.or_else(|| {
        let begins = PASSED.iter().any(|p| name.starts_with(p)) || name.starts_with("ssl.");
        (name.contains('.') && begins).then_some(Renamed::To(""))
    })
}
