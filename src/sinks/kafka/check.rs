//! `shipper check` of a Kafka sink: what its files and the cluster tell, with remedies.

use std::time::Duration;

use super::Settings;
use crate::{
    clock::Nanos,
    net::{
        kafka::survey::{Survey, Topic, survey},
        tls,
    },
    sinks::{Finding, Level},
};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(8);

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// What needs no network: certificates, and whether the way is open to anybody.
pub(super) fn files(settings: &Settings, now: Nanos) -> Vec<Finding> {
    let connection = &settings.connection;
    let Some(files) = &connection.tls else {
        let far: Vec<&str> = connection.brokers.iter().map(String::as_str).filter(|address| !is_loopback(address)).collect();
        if far.is_empty() {
            return Vec::new();
        }
        let what = if connection.sasl.is_some() { "alerts and password go" } else { "alerts go" };
        return vec![finding(
            Level::Warning,
            format!("{what} in plain text to {}, for anybody on the way to read; set tls.ca, and the TLS port in brokers", far.join(", ")),
        )];
    };
    let report = tls::look(&files.read(), now);
    let mut found: Vec<Finding> = report
        .findings
        .into_iter()
        .map(|found| match found {
            tls::Finding::Good(text) => finding(Level::Good, text),
            tls::Finding::Warning(text) => finding(Level::Warning, text),
            tls::Finding::Refused(text) => finding(Level::Bad, text),
        })
        .collect();
    if let Some(name) = report.common_name.filter(|name| *name != settings.topic) {
        let topic = &settings.topic;
        found.push(finding(
            Level::Warning,
            format!("tls.cert: the certificate is for \"{name}\", the topic is \"{topic}\"; if both should be the customer's id, one is another's"),
        ));
    }
    found
}

/// What the cluster tells; blocks some seconds.
pub(super) fn cluster(settings: &Settings) -> Vec<Finding> {
    match survey(&settings.connection, &settings.properties(), &settings.topic, PATIENCE) {
        Ok(survey) => told(settings, &survey),
        Err(what) => vec![finding(Level::Bad, what)],
    }
}

fn told(settings: &Settings, survey: &Survey) -> Vec<Finding> {
    let connection = &settings.connection;
    let how = match (&connection.tls, &connection.sasl) {
        (None, None) => "in plain text, without a login".to_owned(),
        (None, Some(sasl)) => format!("in plain text, logged in as {} by {}", sasl.username, sasl.mechanism),
        (Some(tls), sasl) => {
            let by = if tls.ca.is_some() { "tls.ca" } else { "the system's CAs" };
            let as_whom = match (sasl, &tls.cert) {
                (Some(sasl), _) => format!("logged in as {} by {}", sasl.username, sasl.mechanism),
                (None, Some(_)) => "it takes our certificate".to_owned(),
                (None, None) => "without a login".to_owned(),
            };
            format!("its certificate is vouched for by {by} and has its name, {as_whom}")
        }
    };
    let mut found = vec![finding(Level::Good, format!("broker {} answers, {} in the cluster; {how}", survey.broker, survey.brokers))];
    found.extend(survey.refused.iter().map(|what| finding(Level::Bad, what.clone())));
    match &survey.topic {
        Some(topic) => found.extend(topic_told(settings, topic, survey.refused.is_some())),
        None => found.push(finding(
            Level::Bad,
            format!(
                "topic \"{}\" does not exist, or this user may not see it; create it, correct its name, or grant Write and Describe on it",
                settings.topic
            ),
        )),
    }
    found
}

fn topic_told(settings: &Settings, topic: &Topic, refused: bool) -> Vec<Finding> {
    let name = &settings.topic;
    let mut facts = format!("topic \"{name}\" is there: {} partitions, at least {} replicas", topic.partitions, topic.replicas);
    if let Some(min) = topic.in_sync_min {
        facts.push_str(&format!(", min.insync.replicas {min}"));
    }
    if let Some(bytes) = topic.message_bytes_max {
        facts.push_str(&format!(", max.message.bytes {bytes}"));
    }
    if !refused {
        facts.push_str("; whether this user may write it only the first message can tell");
    }
    let mut found = vec![finding(Level::Good, facts)];
    if topic.leaderless > 0 {
        found.push(finding(Level::Bad, format!("topic \"{name}\": {} partitions have no leader; see the brokers", topic.leaderless)));
    }
    if let Some(min) = topic.in_sync_min.filter(|min| topic.in_sync < *min) {
        found.push(finding(
            Level::Bad,
            format!("topic \"{name}\": only {} replicas are in sync, {min} must be; see the brokers", topic.in_sync),
        ));
    }
    let ours = settings.message_bytes_max();
    if let Some(bytes) = topic.message_bytes_max.filter(|bytes| *bytes < ours) {
        found.push(finding(
            Level::Warning,
            format!("topic \"{name}\": takes {bytes} bytes, we send up to {ours}: longer messages go to the dead letter; raise its max.message.bytes"),
        ));
    }
    found
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::kafka::{
        mock::Embedded,
        settings::{Connection, PasswordIn, Sasl, Tls},
    };

    fn settings(brokers: &[&str], topic: &str) -> Settings {
        let brokers = brokers.iter().map(|b| (*b).to_owned()).collect();
        Settings::new(Connection { brokers, client_id: "test".into(), ..Connection::default() }, topic)
    }

    #[test]
    fn plain_text_is_said_aloud_unless_it_stays_on_the_host() {
        for (brokers, far) in
            [(&["localhost:1", "127.0.0.9:1", "[::1]:1"][..], None), (&["127.0.0.1:1", "b.example:9092"], Some("b.example:9092"))]
        {
            let mut settings = settings(brokers, "t");
            let found = files(&settings, 0);
            assert_eq!(found.first().map(|f| f.text.contains(far.unwrap())), far.map(|_| true));
            assert!(found.iter().all(|f| f.level == Level::Warning && !f.text.contains("password")));
            settings.connection.sasl = Some(Sasl { mechanism: "PLAIN", username: "u".into(), password: PasswordIn::Env("P".into()) });
            assert!(files(&settings, 0).iter().all(|f| f.text.contains("password")));
        }
    }

    #[test]
    fn a_missing_file_is_bad_and_named() {
        let mut settings = settings(&["b:1"], "t");
        settings.connection.tls = Some(Tls { ca: Some("/nowhere/ca.pem".into()), ..Tls::default() });
        let found = files(&settings, 0);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].level == Level::Bad && found[0].text.contains("tls.ca /nowhere/ca.pem: cannot be read"), "{found:?}");
    }

    #[test]
    fn a_topic_is_found_with_its_partitions_and_an_unknown_one_is_not_made() {
        let broker = Embedded::start(1).unwrap();
        broker.create_topic("there", 3).unwrap();
        let brokers = broker.brokers();
        let brokers: Vec<&str> = brokers.iter().map(String::as_str).collect();
        let found = cluster(&settings(&brokers, "there"));
        assert!(found.iter().all(|f| f.level == Level::Good), "{found:?}");
        assert!(found.iter().any(|f| f.text.contains("\"there\" is there: 3 partitions")), "{found:?}");
        for _ in 0..2 {
            let found = cluster(&settings(&brokers, "not-there"));
            assert!(found.iter().any(|f| f.level == Level::Bad && f.text.contains("\"not-there\" does not exist")), "{found:?}");
        }
    }

    #[test]
    fn what_a_topic_lacks_is_told_with_the_remedy() {
        let settings = settings(&["b:1"], "t");
        let good =
            Topic { partitions: 2, replicas: 3, in_sync: 3, in_sync_min: Some(2), message_bytes_max: Some(1_048_588), leaderless: 0 };
        let told = |topic: Topic| topic_told(&settings, &topic, false).into_iter().map(|f| (f.level, f.text)).collect::<Vec<_>>();
        assert_eq!(told(good.clone()).len(), 1);
        let rows = [
            (Topic { leaderless: 1, ..good.clone() }, Level::Bad, "no leader"),
            (Topic { in_sync: 1, ..good.clone() }, Level::Bad, "only 1 replicas are in sync, 2 must be"),
            (Topic { message_bytes_max: Some(20_000), ..good }, Level::Warning, "takes 20000 bytes, we send up to 1000000"),
        ];
        for (topic, level, part) in rows {
            let told = told(topic);
            assert!(told.iter().any(|(l, text)| *l == level && text.contains(part)), "{part}: {told:?}");
        }
    }
}
