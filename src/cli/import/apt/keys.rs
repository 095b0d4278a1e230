//! The keys of the APT detection system, as data: what each holds, and whether the program ever read it.

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text that is never shown.
    Secret,
    /// One text, or a list of them.
    Texts,
    Whole,
    Number,
    Switch,
    /// Anything: nobody looks at it.
    Any,
}

/// One key, its parents with dots.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// Whether it did anything in that program.
    pub did_something: bool,
}

/// A key that did something.
pub const fn did(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, did_something: true }
}

/// A key that nobody read.
pub const fn never(name: &'static str, kind: Kind) -> Key {
    Key { name, kind, did_something: false }
}

use Kind::{Any, Number, Secret, Switch, Text, Texts, Whole};

/// Every key that the program, its pages or its examples know. One that ends in a dot stands for all below it.
pub static KEYS: &[Key] = &[
    did("model_paths.base_dir", Text),
    did("model_paths.lightgbm", Text),
    did("model_paths.bilstm", Text),
    never("training_params.", Any),
    never("split_params.", Any),
    did("data_paths.", Any),
    did("data_sources.wazuh.enabled", Switch),
    did("data_sources.wazuh.api_url", Text),
    did("data_sources.wazuh.username", Text),
    did("data_sources.wazuh.password", Secret),
    did("data_sources.wazuh.verify_ssl", Switch),
    never("data_sources.wazuh.fetch_interval", Number),
    did("data_sources.elasticsearch.enabled", Switch),
    did("data_sources.elasticsearch.hosts", Texts),
    did("data_sources.elasticsearch.index_pattern", Texts),
    did("data_sources.elasticsearch.username", Text),
    did("data_sources.elasticsearch.password", Secret),
    did("data_sources.elasticsearch.api_key", Secret),
    did("data_sources.elasticsearch.cloud_id", Text),
    did("data_sources.elasticsearch.verify_certs", Switch),
    never("data_sources.elasticsearch.fetch_interval", Number),
    did("kafka.bootstrap_servers", Texts),
    did("kafka.topic", Text),
    never("kafka.topics", Texts),
    never("kafka.group_id", Text),
    never("kafka.auto_offset_reset", Text),
    never("kafka.enable_auto_commit", Switch),
    never("kafka.session_timeout_ms", Whole),
    never("kafka.request_timeout_ms", Whole),
    never("kafka.consumer_timeout_ms", Whole),
    never("kafka.security_protocol", Text),
    never("kafka.ssl_cafile", Text),
    never("kafka.ssl_certfile", Text),
    never("kafka.ssl_keyfile", Text),
    never("kafka.ssl_key_password", Secret),
    never("kafka.ssl_check_hostname", Switch),
    never("kafka.sasl_mechanism", Text),
    never("kafka.sasl_plain_username", Text),
    never("kafka.sasl_plain_password", Secret),
    never("kafka.fetch_max_bytes", Whole),
    never("kafka.max_partition_fetch_bytes", Whole),
    never("kafka.compression_type", Text),
    never("kafka.rdkafka.", Any),
    did("dashboard.host", Text),
    did("dashboard.port", Whole),
    did("dashboard.debug", Switch),
    never("settings.overwrite_models", Switch),
    never("settings.log_level", Text),
    did("settings.collection_interval_seconds", Number),
    did("settings.behavioral_analytics.baseline_period_days", Number),
    did("settings.behavioral_analytics.anomaly_threshold", Number),
    did("settings.behavioral_analytics.time_window_minutes", Number),
    never("settings.alerts.max_alerts", Whole),
    never("settings.alerts.retention_days", Number),
    did("simulation.enabled", Switch),
    never("simulation.realism_level", Text),
    did("simulation.output.type", Text),
    did("simulation.output.redis_key", Text),
    did("simulation.output.kafka_topic", Text),
    did("simulation.entities.hosts.count", Whole),
    did("simulation.entities.hosts.prefix", Text),
    did("simulation.entities.users.count", Whole),
    did("simulation.entities.users.prefix", Text),
    never("simulation.entities.networks.", Any),
    did("simulation.events.rate", Number),
    did("simulation.events.distribution.network", Number),
    did("simulation.events.distribution.endpoint", Number),
    did("simulation.events.distribution.user", Number),
    did("simulation.scenarios.enabled", Switch),
    did("simulation.scenarios.frequency", Text),
    did("simulation.scenarios.concurrent", Whole),
    never("simulation.time_patterns.enabled", Switch),
    never("simulation.time_patterns.business_hours.start", Whole),
    never("simulation.time_patterns.business_hours.end", Whole),
    never("simulation.time_patterns.business_hours.days", Any),
    never("simulation.adaptive_behavior.", Any),
];

/// The key of a name, or the one that stands for it and its neighbours.
pub fn named(name: &str) -> Option<&'static Key> {
    find(KEYS, name)
}

/// The same among any keys.
pub fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name || key.name.ends_with('.') && name.starts_with(key.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_name_or_by_what_stands_for_it() {
        assert_eq!(named("kafka.topic").map(|key| (key.kind, key.did_something)), Some((Text, true)));
        assert_eq!(named("training_params.bilstm.epochs").map(|key| key.name), Some("training_params."));
        assert!(named("kafka.topicz").is_none() && named("training_params").is_none());
        for (n, key) in KEYS.iter().enumerate() {
            assert!(KEYS.iter().skip(n + 1).all(|other| other.name != key.name), "{} is there twice", key.name);
        }
    }
}
