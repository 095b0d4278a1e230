//! What becomes of one option of upstream's Kafka client: a setting of ours, an option of
//! librdkafka, or nothing, with the reason.

use serde_json::{Value, json};

use super::keys::{self, Renamed};
use crate::net::kafka::settings::check_option;

/// What becomes of an option.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// A setting of the sink.
    Setting(&'static str, Value),
    /// An option of librdkafka, by its own name.
    Option(String, Value),
    /// Left out, for this reason.
    Out(String),
}

/// Says what becomes of the option `name`; nothing is taken that our own reader would refuse.
pub fn taken(name: &str, value: &Value) -> Taken {
    let out = |why: &str| Taken::Out(why.to_owned());
    if ["password", "secret", "token"].iter().any(|word| name.contains(word)) {
        return out("it is a secret; put it into a file and name that (tls.key_password_file, sasl.password_file)");
    }
    let name = match keys::option(name) {
        None => return out("nobody knows it"),
        Some(Renamed::Out(why)) => return out(why),
        Some(Renamed::To(_)) if value.is_null() => return out("null means the default"),
        Some(Renamed::To("")) => name,
        Some(Renamed::To(ours)) => ours,
    };
    let value = whole(value);
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let setting = match name {
        "linger.ms" | "queue.buffering.max.ms" => span(&text).map(|span| ("linger", json!(span))),
        "batch.size" => number(&text, 1, i32::MAX.into()).map(|n| ("batch_bytes", json!(n))),
        "queue.buffering.max.kbytes" => number(&text, 1024, 1 << 30).map(|n| ("queue_bytes", json!(n * 1024))),
        "client.id" => Ok(("client_id", json!(text))),
        _ => {
            return match check_option(name, &text) {
                Ok(()) => Taken::Option(name.to_owned(), value),
                Err(why) => Taken::Out(why),
            };
        }
    };
    match setting {
        Ok((setting, value)) => Taken::Setting(setting, value),
        Err(why) => Taken::Out(why),
    }
}

/// A number without a fraction as a whole one: librdkafka does not read `50.0`.
fn whole(value: &Value) -> Value {
    match value.as_f64() {
        // Up to 2^53 a float is exact.
        Some(x) if value.is_f64() && x.fract() == 0.0 && x.abs() < 9e15 => json!(x as i64),
        _ => value.clone(),
    }
}

fn number(text: &str, min: i64, max: i64) -> Result<i64, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("{text:?} is no whole number from {min} to {max}; the default stands"))
}

/// Milliseconds, perhaps with a fraction, as a span of ours.
fn span(text: &str) -> Result<String, String> {
    let ms: f64 = text
        .trim()
        .parse()
        .ok()
        .filter(|ms| (0.0..=900_000.0).contains(ms))
        .ok_or_else(|| format!("{text:?} is no number of milliseconds from 0 to 900000; the default stands"))?;
    Ok(if ms.fract() == 0.0 { format!("{ms}ms") } else { format!("{}us", (ms * 1000.0).round()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_becomes_a_setting_an_option_or_a_reason() {
        let option = |name: &str, value: Value| Taken::Option(name.into(), value);
        for (name, value, want) in [
            ("linger_ms", json!(50), Taken::Setting("linger", json!("50ms"))),
            ("linger.ms", json!(0.5), Taken::Setting("linger", json!("500us"))),
            ("queue.buffering.max.ms", json!("7"), Taken::Setting("linger", json!("7ms"))),
            ("max_batch_size", json!(16384), Taken::Setting("batch_bytes", json!(16384))),
            ("queue.buffering.max.kbytes", json!(2048.0), Taken::Setting("queue_bytes", json!(2_097_152))),
            ("client_id", json!("soc"), Taken::Setting("client_id", json!("soc"))),
            ("max_request_size", json!(1_048_576), option("message.max.bytes", json!(1_048_576))),
            ("metadata_max_age_ms", json!(5000.0), option("metadata.max.age.ms", json!(5000))),
            ("socket.keepalive.enable", json!(true), option("socket.keepalive.enable", json!(true))),
        ] {
            assert_eq!(taken(name, &value), want, "{name}");
        }
        for (name, value, part) in [
            ("sasl.password", json!("hush"), "secret"),
            ("sasl.username", json!("me"), "sasl.username"),
            ("ssl.ca.location", json!("/ca.pem"), "tls.ca"),
            ("linger.ms", json!("soon"), "milliseconds"),
            ("batch.size", json!(0), "whole number"),
            ("max_in_flight_requests_per_connection", json!(50), "at most 5"),
            ("socket.timeout.ms", json!("never"), "socket.timeout.ms"),
            ("socket.timeout.mss", json!(1), "no property"),
            ("retry_backoff_ms", Value::Null, "null"),
            ("acks", json!(1), "acks=all"),
        ] {
            let got = taken(name, &value);
            assert!(matches!(&got, Taken::Out(why) if why.contains(part) && !why.contains("hush")), "{name}: {got:?}");
        }
    }
}
