//! What a Kafka error means: for the message it hit, and for the operator. Pure tables.
//!
//! | fate | the sender |
//! |---|---|
//! | retry | sends it again, soon |
//! | hold | stops, tries again every half minute, says why; never the dead letter |
//! | refused | proves it alone, then hands it to the dead letter |
//! | renew | starts a new producer and sends again what is unanswered |
//! | abort | is wrong itself: the agent ends and resumes from the checkpoint |

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::metrics::State;

/// What becomes of a message that was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The other side is away or busy.
    Retry,
    /// Configuration or credential is refused.
    Hold,
    /// The record itself is wrong, or one that was sent together with it.
    Refused,
    /// The producer has lost its place; a new one must send again.
    Renew,
    /// We are wrong.
    Abort,
}

/// A fate and the reason in an operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub fate: Fate,
    /// What failed, and the remedy after `;`.
    pub text: String,
}

/// Every error that a delivery report or a send may bring, and what it means.
///
/// What is not listed is retried: losing time is better than losing a record, and the text shows it.
pub const FATES: &[(Code, Fate, &str)] = &[
    // Too large, or not a record that this topic takes.
    (Code::MessageSizeTooLarge, Fate::Refused, "larger than the topic takes; raise max.message.bytes of the topic"),
    (Code::MessageBatchTooLarge, Fate::Refused, "larger than the topic's segment takes; raise segment.bytes of the topic"),
    (Code::InvalidMessage, Fate::Refused, "the broker calls it corrupt or lacking a key; a compacted topic needs keys"),
    (Code::InvalidMessageSize, Fate::Refused, "the broker calls its size invalid; see the broker's log"),
    (Code::InvalidRecord, Fate::Refused, "the broker's validation refuses it; see the broker's log"),
    (Code::InvalidTimestamp, Fate::Refused, "its time is outside what the topic takes; see message.timestamp.before.max.ms of the topic"),
    (Code::PolicyViolation, Fate::Refused, "a policy of the broker refuses it; see the broker's log"),
    (Code::BadMessage, Fate::Refused, "the client cannot encode it"),
    // Only a person can mend these.
    (Code::TopicAuthorizationFailed, Fate::Hold, "not authorised to write; grant Write and Describe on the topic to this user"),
    (
        Code::ClusterAuthorizationFailed,
        Fate::Hold,
        "not authorised to use an idempotent producer; grant Write on the topic, or IdempotentWrite on the cluster for brokers before 2.8",
    ),
    (Code::TransactionalIdAuthorizationFailed, Fate::Hold, "not authorised to use the transactional id; grant Write on it to this user"),
    (Code::UnknownTopicOrPartition, Fate::Hold, "the topic does not exist, or this user may not see it; create it or correct its name"),
    (Code::UnknownTopic, Fate::Hold, "the topic does not exist, or this user may not see it; create it or correct its name"),
    (Code::UnknownTopicId, Fate::Hold, "the topic was deleted; create it again or correct its name"),
    (Code::UnknownPartition, Fate::Hold, "the topic has no such partition; see its number of partitions"),
    (Code::InvalidTopic, Fate::Hold, "the broker calls the topic's name invalid; correct it"),
    (Code::Authentication, Fate::Hold, "the broker refuses the credentials; see sasl.* and tls.*"),
    (Code::SaslAuthenticationFailed, Fate::Hold, "the broker refuses the credentials; see sasl.*"),
    (Code::UnsupportedSASLMechanism, Fate::Hold, "the broker does not know the mechanism; see sasl.mechanism"),
    (Code::SSL, Fate::Hold, "TLS failed; see tls.*"),
    (Code::InvalidRequiredAcks, Fate::Hold, "the broker refuses acks=all; see its configuration"),
    (Code::UnsupportedCompressionType, Fate::Hold, "the topic does not take this compression; see compression"),
    (Code::UnsupportedForMessageFormat, Fate::Hold, "the topic's message format is too old for headers; raise it on the broker"),
    (Code::UnsupportedVersion, Fate::Hold, "the broker is too old for an idempotent producer; it must be 0.11 or later"),
    (Code::UnsupportedFeature, Fate::Hold, "the broker is too old for an idempotent producer; it must be 0.11 or later"),
    (Code::SecurityDisabled, Fate::Hold, "security is switched off on the broker; see its configuration"),
    // The broker is away, busy or moving.
    (Code::BrokerTransportFailure, Fate::Retry, "the connection broke"),
    (Code::AllBrokersDown, Fate::Retry, "no broker answers"),
    (Code::Resolve, Fate::Retry, "the broker's name cannot be resolved"),
    (Code::MessageTimedOut, Fate::Retry, "no answer in time"),
    (Code::OperationTimedOut, Fate::Retry, "no answer in time"),
    (Code::TimedOutQueue, Fate::Retry, "no answer in time"),
    (Code::RequestTimedOut, Fate::Retry, "the broker did not answer in time"),
    (Code::ISRInsufficient, Fate::Retry, "too few replicas are in sync"),
    (Code::NotEnoughReplicas, Fate::Retry, "too few replicas are in sync"),
    (Code::NotEnoughReplicasAfterAppend, Fate::Retry, "too few replicas are in sync"),
    (Code::LeaderNotAvailable, Fate::Retry, "the partition has no leader"),
    (Code::NotLeaderForPartition, Fate::Retry, "the partition's leader moved"),
    (Code::BrokerNotAvailable, Fate::Retry, "the broker is not available"),
    (Code::ReplicaNotAvailable, Fate::Retry, "a replica is not available"),
    (Code::NetworkException, Fate::Retry, "the connection broke"),
    (Code::KafkaStorageError, Fate::Retry, "the broker's disk failed"),
    (Code::FencedLeaderEpoch, Fate::Retry, "the partition's leader moved"),
    (Code::UnknownLeaderEpoch, Fate::Retry, "the partition's leader moved"),
    (Code::ThrottlingQuotaExceeded, Fate::Retry, "the broker throttles this client"),
    (Code::CoordinatorNotAvailable, Fate::Retry, "the coordinator is not available"),
    (Code::CoordinatorLoadInProgress, Fate::Retry, "the coordinator is loading"),
    (Code::NotCoordinator, Fate::Retry, "the coordinator moved"),
    (Code::WaitCache, Fate::Retry, "metadata is being asked for"),
    (Code::Retry, Fate::Retry, "to be tried again"),
    (Code::QueueFull, Fate::Retry, "the client's queue is full"),
    (Code::BrokerDestroy, Fate::Retry, "the connection was closed"),
    (Code::DestroyBroker, Fate::Retry, "the connection was closed"),
    // The idempotent producer lost its place.
    (Code::Fatal, Fate::Renew, "the producer failed for good"),
    (Code::Fenced, Fate::Renew, "another producer took this one's place"),
    (Code::ProducerFenced, Fate::Renew, "another producer took this one's place"),
    (Code::OutOfOrderSequenceNumber, Fate::Renew, "the broker lost the order of this producer"),
    (Code::DuplicateSequenceNumber, Fate::Renew, "the broker lost the order of this producer"),
    (Code::InvalidProducerEpoch, Fate::Renew, "the broker no longer knows this producer"),
    (Code::InvalidProducerIdMapping, Fate::Renew, "the broker no longer knows this producer"),
    (Code::UnknownProducerId, Fate::Renew, "the broker no longer knows this producer"),
    (Code::GaplessGuarantee, Fate::Renew, "the order could not be kept"),
    (Code::Inconsistent, Fate::Renew, "the producer's state is inconsistent"),
    (Code::PurgeQueue, Fate::Renew, "given up by the client"),
    (Code::PurgeInflight, Fate::Renew, "given up by the client"),
    // We called it wrongly.
    (Code::InvalidArgument, Fate::Abort, "the client was called with a wrong argument"),
    (Code::State, Fate::Abort, "the client was called in a wrong state"),
    (Code::Conflict, Fate::Abort, "the client was called with a wrong argument"),
    (Code::NotImplemented, Fate::Abort, "the client was called for what it does not have"),
    (Code::InvalidType, Fate::Abort, "the client was called with a wrong argument"),
];

/// What `code` means for a message to `topic`.
pub fn of(code: Code, topic: &str) -> Failure {
    match FATES.iter().find(|row| row.0 == code) {
        Some((_, fate, text)) => Failure { fate: *fate, text: format!("topic \"{topic}\": {text} ({code:?})") },
        None => Failure { fate: Fate::Retry, text: format!("topic \"{topic}\": {code:?}") },
    }
}

/// What an error of the connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A broker is away; whether that matters is known when none answers.
    Away(String),
    /// Credentials, certificates or the listener are wrong.
    Wrong(String),
    /// The producer can go on no longer.
    Fatal(String),
}

impl Trouble {
    /// The standing that shows it.
    pub fn state(&self) -> State {
        match self {
            Trouble::Away(text) | Trouble::Fatal(text) => State::Retrying(text.clone()),
            Trouble::Wrong(text) => State::Holding(text.clone()),
        }
    }
}

/// Parts of librdkafka's texts that mean "a person must mend this", and what to do. First match wins.
const WRONG: &[(&str, &str, &str)] = &[
    (
        "certificate verify failed",
        "the broker's certificate is not signed by tls.ca, or names another host",
        "give the CA that signed it, and the name that is in it in brokers",
    ),
    ("hostname mismatch", "the broker's certificate names another host", "write the name that is in the certificate into brokers"),
    ("alert number 42", "the broker does not take our certificate", "see tls.cert: who signed it, and whether the broker trusts that CA"),
    ("bad certificate", "the broker does not take our certificate", "see tls.cert: who signed it, and whether the broker trusts that CA"),
    ("alert number 43", "the broker does not take this kind of certificate", "see the key usage of tls.cert"),
    ("alert number 44", "our certificate is revoked", "ask for a new one and write it to tls.cert"),
    ("alert number 45", "our certificate is expired", "ask for a new one and write it to tls.cert"),
    ("alert number 46", "the broker does not take our certificate", "see tls.cert: who signed it, and whether the broker trusts that CA"),
    (
        "alert number 48",
        "the broker does not know the CA of our certificate",
        "see tls.cert: who signed it, and whether the broker trusts that CA",
    ),
    ("alert number 49", "the broker denies our certificate access", "ask its operator"),
    ("alert number 116", "the broker wants a client certificate", "set tls.cert and tls.key"),
    ("alert certificate required", "the broker wants a client certificate", "set tls.cert and tls.key"),
    ("alert certificate expired", "our certificate is expired", "ask for a new one and write it to tls.cert"),
    (
        "alert unknown ca",
        "the broker does not know the CA of our certificate",
        "see tls.cert: who signed it, and whether the broker trusts that CA",
    ),
    (
        "PLAINTEXT broker listener",
        "we speak TLS, the broker's port does not",
        "remove tls.* or give the port of its TLS listener in brokers",
    ),
    (
        "SSL broker listener",
        "we speak plain text, the broker's port wants TLS",
        "set tls.ca, or give the port of its plain listener in brokers",
    ),
    ("wrong version number", "we speak TLS, the broker's port does not", "remove tls.* or give the port of its TLS listener in brokers"),
    ("invalid credentials", "the broker refuses user name or password", "see sasl.username and the file or variable of the password"),
    (
        "Invalid username or password",
        "the broker refuses user name or password",
        "see sasl.username and the file or variable of the password",
    ),
    ("Authentication failed", "the broker refuses user name or password", "see sasl.username and the file or variable of the password"),
    ("supported mechanisms", "the broker does not know the SASL mechanism", "see sasl.mechanism"),
    ("SASL authentication error", "the broker refuses the SASL login", "see sasl.*"),
    ("verify broker certificate", "the broker's certificate is not signed by tls.ca", "give the CA that signed it"),
];

/// What librdkafka's error callback tells.
///
/// A peer that closes the connection without a word while TLS or SASL is being agreed on is told
/// apart by its text only; what matches nothing is taken as "away".
pub fn trouble(code: Code, reason: &str) -> Trouble {
    if code == Code::Fatal {
        return Trouble::Fatal(one_line(reason));
    }
    let broker = reason.split(": ").find(|part| part.contains("://")).or_else(|| reason.split(": ").next()).unwrap_or_default();
    let broker = broker.rsplit("://").next().unwrap_or(broker).split('/').next().unwrap_or_default();
    let broker = if broker.contains(':') { format!("broker {broker}: ") } else { String::new() };
    if let Some((_, what, remedy)) = WRONG.iter().find(|row| reason.contains(row.0)) {
        return Trouble::Wrong(format!("{broker}{what}; {remedy} ({})", one_line(reason)));
    }
    match code {
        Code::SSL => Trouble::Wrong(format!("{broker}TLS failed; see tls.* ({})", one_line(reason))),
        Code::Authentication => Trouble::Wrong(format!("{broker}the broker refuses the login; see sasl.* ({})", one_line(reason))),
        Code::Resolve => {
            Trouble::Away(format!("{broker}its name cannot be resolved; see brokers and the host's DNS ({})", one_line(reason)))
        }
        _ => Trouble::Away(format!("no broker answers; see brokers, the network and the brokers themselves ({})", one_line(reason))),
    }
}

/// What a log line of librdkafka tells that no error does: a broker that closes the connection at the
/// very first question is restarting, or waits for TLS; a certificate that is not even shown.
pub fn trouble_in_log(facility: &str, line: &str) -> Option<Trouble> {
    let broker = line.split("]: ").nth(1)?.split('/').next()?;
    if facility == "SSL" && line.contains("not sending any client certificates") {
        return Some(Trouble::Wrong(
            "the broker trusts no CA in the chain of our certificate, so the certificate is not sent; see tls.cert: who signed it, and whether the broker trusts that CA".into(),
        ));
    }
    let closed = facility == "FAIL" && line.contains("Disconnected") && line.contains("in state APIVERSION_QUERY");
    closed.then(|| {
        Trouble::Away(format!(
            "broker {broker} closes the connection at once; where its port wants TLS, set tls.ca or give the port of its plain listener in brokers"
        ))
    })
}

/// The reason on one line of bounded length, without librdkafka's durations, which would make
/// every repetition look new.
fn one_line(reason: &str) -> String {
    // It stands at the end: "(after 0ms in state CONNECT, 1 identical error(s) suppressed)".
    let told = reason.rfind(" (after ").and_then(|at| reason.get(..at)).unwrap_or(reason);
    told.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_stands_in_the_table_once() {
        for (n, (code, ..)) in FATES.iter().enumerate() {
            assert!(!FATES[..n].iter().any(|row| row.0 == *code), "{code:?} stands twice");
        }
    }

    /// One row for each answer that a broker was seen to give, and for each kind of failure that
    /// must not end in the dead letter.
    #[test]
    fn every_fate_is_what_a_broker_meant() {
        const ROWS: &[(Code, Fate, &str)] = &[
            (Code::MessageSizeTooLarge, Fate::Refused, "max.message.bytes"),
            (Code::InvalidRecord, Fate::Refused, "topic \"t\""),
            (Code::TopicAuthorizationFailed, Fate::Hold, "Write"),
            (Code::ClusterAuthorizationFailed, Fate::Hold, "topic \"t\""),
            (Code::UnknownTopicOrPartition, Fate::Hold, "create"),
            (Code::UnknownTopic, Fate::Hold, "create"),
            (Code::BrokerTransportFailure, Fate::Retry, "connection"),
            (Code::MessageTimedOut, Fate::Retry, "time"),
            (Code::NotEnoughReplicas, Fate::Retry, "replicas"),
            (Code::NotLeaderForPartition, Fate::Retry, "leader"),
            (Code::KafkaStorageError, Fate::Retry, "disk"),
            (Code::ThrottlingQuotaExceeded, Fate::Retry, "throttles"),
            (Code::Fatal, Fate::Renew, "producer"),
            (Code::OutOfOrderSequenceNumber, Fate::Renew, "order"),
            (Code::UnknownProducerId, Fate::Renew, "producer"),
            (Code::InvalidArgument, Fate::Abort, "argument"),
            (Code::State, Fate::Abort, "state"),
            // Listed nowhere: losing time is better than losing a record.
            (Code::Unknown, Fate::Retry, "Unknown"),
            (Code::GroupIdNotFound, Fate::Retry, "GroupIdNotFound"),
        ];
        for (code, fate, part) in ROWS {
            let failure = of(*code, "t");
            assert_eq!(failure.fate, *fate, "{code:?}");
            assert!(failure.text.contains(part), "{code:?}: {}", failure.text);
        }
    }

    #[test]
    fn what_a_person_must_mend_is_told_apart_from_what_passes() {
        const ROWS: &[(Code, &str, &str, bool)] = &[
            (
                Code::SSL,
                "ssl://kafka.example:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified (after 12ms in state SSL_HANDSHAKE)",
                "broker kafka.example:9093: the broker's certificate is not signed by tls.ca",
                true,
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://b:1/1: Receive failed: error:0A000412:SSL routines::sslv3 alert bad certificate: SSL alert number 42 (after 3ms in state APIVERSION_QUERY)",
                "see tls.cert",
                true,
            ),
            (
                Code::BrokerTransportFailure,
                "ssl://b:1/bootstrap: SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener? (after 1ms in state SSL_HANDSHAKE)",
                "remove tls.*",
                true,
            ),
            (
                Code::Authentication,
                "sasl_ssl://b:1/bootstrap: SASL authentication error: Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512 (after 309ms in state AUTH_REQ)",
                "sasl.username",
                true,
            ),
            (
                Code::Authentication,
                "sasl_ssl://b:1/bootstrap: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN (after 2ms in state AUTH_HANDSHAKE)",
                "see sasl.mechanism",
                true,
            ),
            (
                Code::BrokerTransportFailure,
                "127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused (after 0ms in state CONNECT, 1 identical error(s) suppressed)",
                "(127.0.0.1:9/bootstrap: Connect to ipv4#127.0.0.1:9 failed: Connection refused)",
                false,
            ),
            (Code::AllBrokersDown, "1/1 brokers are down", "no broker answers", false),
            (Code::Resolve, "b.example:1/bootstrap: Failed to resolve 'b.example:1': Name or service not known", "DNS", false),
        ];
        for (code, reason, part, wrong) in ROWS {
            let trouble = trouble(*code, reason);
            let (Trouble::Away(text) | Trouble::Wrong(text) | Trouble::Fatal(text)) = &trouble;
            assert_eq!(matches!(trouble, Trouble::Wrong(_)), *wrong, "{text}");
            assert!(text.contains(part), "{text}");
            assert!(!text.contains("ms in state"), "a time makes every repetition look new: {text}");
        }
    }

    #[test]
    fn a_port_that_closes_at_once_is_told_with_its_address() {
        let line = "[thrd:127.0.0.1:29676/bootstrap]: 127.0.0.1:29676/bootstrap: Disconnected: connection closed by peer: receive 0 after POLLIN (after 1ms in state APIVERSION_QUERY)";
        let told = trouble_in_log("FAIL", line).map(|t| t.state().to_string()).unwrap();
        assert!(told.contains("127.0.0.1:29676") && told.contains("tls.ca"), "{told}");
        let line = "[thrd:ssl://b:1/bootstrap]: No matching issuer found in server trusted certificate authorities, not sending any client certificates";
        assert!(matches!(trouble_in_log("SSL", line), Some(Trouble::Wrong(text)) if text.contains("tls.cert")));
        for (facility, line) in [("FAIL", ""), ("FAIL", "x"), ("CONNECT", line)] {
            assert_eq!(trouble_in_log(facility, line), None);
        }
    }
}
