//! What `shipper check` and `shipper doctor` tell of a source `redis_stream`.

use std::time::Duration;

use super::Settings;
use crate::{
    net::redis::{
        Place,
        stream::{Connection, Trouble},
    },
    sources::{Finding, Level},
};

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// Runs a future that needs sockets, on this thread.
fn wait<T>(ask: impl Future<Output = T>) -> Result<T, Finding> {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => Ok(runtime.block_on(ask)),
        Err(error) => Err(finding(Level::Bad, format!("cannot open sockets: {error}; see the limits of the process"))),
    }
}

fn told(trouble: Trouble) -> Finding {
    match trouble {
        Trouble::Away(why) | Trouble::Wrong(why) | Trouble::Unable(why) => finding(Level::Bad, why),
        Trouble::NoGroup => finding(Level::Good, "the group is not there yet; the agent makes it at its start"),
    }
}

/// Asks Redis whether it lets us in and what it says of each group. Changes nothing there.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let asked = wait(async {
        let connection = match Connection::open(&settings.redis, Duration::ZERO).await {
            Ok(connection) => connection,
            Err(trouble) => return vec![told(trouble)],
        };
        let mut found = way(settings);
        let (version, policy) = connection.facts().await;
        let version = version.map(|version| format!("Redis {version}")).unwrap_or_else(|| "Redis".into());
        found.push(finding(Level::Good, format!("{} is {version} and lets us in", settings.redis.place)));
        for key in &settings.streams {
            found.push(match connection.pending_count(key, &settings.group).await {
                Ok((pending, _)) => {
                    finding(Level::Good, format!("stream {key:?}: group {:?} is there, {pending} entries are not acked", settings.group))
                }
                Err(Trouble::NoGroup) => finding(
                    Level::Good,
                    format!("stream {key:?}: group {:?} is not there yet; the agent makes it at its start", settings.group),
                ),
                Err(other) => told(other),
            });
        }
        found.extend(evicts(policy));
        found
    });
    asked.unwrap_or_else(|finding| vec![finding])
}

/// Whether anybody on the way can read along.
fn way(settings: &Settings) -> Vec<Finding> {
    let is_here = |host: &str| host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match &settings.redis.place {
        Place::Tcp { host, .. } if !is_here(host) => {
            let what = format!("events and password come and go in plain text to {host}, for anybody on the way to read; use rediss://");
            vec![finding(Level::Warning, what)]
        }
        _ => Vec::new(),
    }
}

/// How Redis makes room when its memory is full.
pub(super) fn survey(settings: &Settings) -> Vec<Finding> {
    let asked = wait(async {
        match Connection::open(&settings.redis, Duration::ZERO).await {
            Ok(connection) => Ok(connection.facts().await.1),
            Err(trouble) => Err(told(trouble)),
        }
    });
    match asked.and_then(|answer| answer) {
        Ok(policy) => evicts(policy),
        Err(Finding { text, .. }) => vec![finding(Level::Warning, text)],
    }
}

fn evicts(policy: Option<String>) -> Vec<Finding> {
    vec![match policy {
        Some(policy) if policy.starts_with("allkeys-") => finding(
            Level::Warning,
            format!(
                "maxmemory-policy is {policy}: with its memory full, Redis throws whole streams away, read or not; set noeviction or volatile-lru"
            ),
        ),
        Some(policy) => finding(Level::Good, format!("maxmemory-policy is {policy}: no stream is evicted")),
        None => finding(Level::Good, "maxmemory-policy is not for this user to see; make sure that it is not one of allkeys-*"),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redis_that_may_throw_streams_away_is_told() {
        let level = |policy: &str| evicts(Some(policy.into())).remove(0).level;
        assert_eq!(["noeviction", "volatile-lru", "allkeys-lru", "allkeys-random"].map(level), {
            use Level::{Good, Warning};
            [Good, Good, Warning, Warning]
        });
        assert_eq!(evicts(None).remove(0).level, Level::Good);
    }
}
