//! What `shipper check` tells of an `influx` sink: files and secrets; and, connected, whether a write would be taken.

use super::{
    fates,
    session::{Session, identifier},
    settings::{Api, Login, Settings},
};
use crate::{
    clock::{Clock, Nanos, SystemClock},
    net::http::Client,
    sinks::{Finding, Level},
};

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// Looks at the files that the settings name.
pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let base = &settings.http.base;
    let secret = match &settings.login {
        Login::Nobody => Ok(()),
        Login::Token(token) => token.read("token").map(drop),
        Login::User(_, password) => password.read("password").map(drop),
    };
    let client = Client::new(&settings.http).map_err(|error| error.to_string());
    for wrong in [secret.err(), client.err()].into_iter().flatten() {
        found.push(finding(Level::Bad, wrong));
    }
    if found.is_empty() {
        found.push(finding(Level::Good, format!("{base}: URL, certificates and secrets can be read")));
    }
    if !settings.http.verify {
        found.push(finding(
            Level::Warning,
            "tls.verify is false: lines and secrets go to whoever stands between; name the server's CA in tls.ca",
        ));
    }
    if base.starts_with("http://") && !is_here(base) {
        let what = if settings.login == Login::Nobody { "lines go" } else { "lines and secrets go" };
        found.push(finding(Level::Warning, format!("{what} in plain text to {base}; use https://")));
    }
    found
}

fn is_here(base: &str) -> bool {
    ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| base.starts_with(here))
}

/// Asks the server for its API, and writes nothing: login, bucket and the right to write are then known.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Level::Bad, format!("cannot open sockets: {error}"))],
    };
    let now = SystemClock::new().now();
    // A check makes nothing.
    let is_made = settings.create_database;
    let settings = Settings { create_database: false, ..settings.clone() };
    runtime.block_on(async {
        let session = match Session::open(&settings, now).await {
            Ok(session) => session,
            Err(outcome) => return vec![finding(Level::Bad, outcome.text)],
        };
        let api = match session.api {
            Api::V1 => "v1 (/write)",
            Api::V2 => "v2 (/api/v2/write)",
        };
        let version = if session.version.is_empty() { String::new() } else { format!(" {}", session.version) };
        match fates::judge_empty(&session.write(Vec::new()).await, &session.place, now) {
            None => {
                let mut found = vec![finding(Level::Good, format!("{}: InfluxDB{version} takes writes by API {api}", session.place))];
                found.extend(cardinality(&session, &settings, now).await);
                found
            }
            Some(outcome) if is_made && session.api == Api::V1 && outcome.code == "404" => {
                vec![finding(Level::Good, format!("{}: InfluxDB{version} has no such database; the agent makes it", session.place))]
            }
            Some(outcome) => vec![finding(Level::Bad, outcome.text)],
        }
    })
}

/// Values of one tag beyond which 1.x refuses points by default, and the share of it that is told.
const VALUES_MAX: u64 = 100_000;
const VALUES_WARN: u64 = 50_000;

/// Tags of a 1.x database with so many values that points will be refused. Whoever may only write learns nothing.
async fn cardinality(session: &Session, settings: &Settings, now: Nanos) -> Vec<Finding> {
    let (db, _) = settings.target.database();
    let ask = async |q: String| -> Option<Vec<Vec<String>>> {
        let reply = session.query(Some(db), &q).await;
        (fates::judge(&reply, &session.place, now).fate == fates::Fate::Written).then(|| first_column(&reply.ok()?.body))?
    };
    let Some(tags) = ask("SHOW TAG KEYS".to_owned()).await else { return Vec::new() };
    let mut tags: Vec<String> = tags.into_iter().flatten().collect();
    tags.sort();
    tags.dedup();
    let mut found = Vec::new();
    for tag in tags.iter().take(32) {
        let counts = ask(format!("SHOW TAG VALUES EXACT CARDINALITY WITH KEY = {}", identifier(tag))).await.unwrap_or_default();
        let most = counts.iter().flatten().filter_map(|count| count.parse::<u64>().ok()).max().unwrap_or(0);
        if most >= VALUES_WARN {
            let what = format!("tag {tag:?} has {most} values; at {VALUES_MAX} (max-values-per-tag) 1.x refuses points");
            found.push(finding(Level::Warning, format!("{what}; use a layout in which it is a field, or raise the limit")));
        }
    }
    found
}

/// The first column of each series of an InfluxQL answer.
fn first_column(body: &[u8]) -> Option<Vec<Vec<String>>> {
    let answer: serde_json::Value = serde_json::from_slice(body).ok()?;
    let result = answer.get("results")?.get(0)?;
    if result.get("error").is_some() {
        return None;
    }
    let series = result.get("series").and_then(|series| series.as_array()).cloned().unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let of = |series: &serde_json::Value| -> Vec<String> {
        let rows = series.get("values").and_then(|values| values.as_array()).cloned().unwrap_or_default();
        rows.iter().filter_map(|row| row.get(0).map(text)).collect()
    };
    Some(series.iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_influxql_is_read_by_its_first_column() {
        let column = |text: &str| first_column(text.as_bytes());
        let two = r#"{"results":[{"statement_id":0,"series":[{"name":"a","columns":["tagKey"],"values":[["host"],["ip"]]},{"name":"b","columns":["count"],"values":[[7]]}]}]}"#;
        assert_eq!(column(two), Some(vec![vec!["host".into(), "ip".into()], vec!["7".into()]]));
        assert_eq!(column(r#"{"results":[{"statement_id":0}]}"#), Some(Vec::new()));
        assert_eq!(column(r#"{"results":[{"error":"not authorized"}]}"#), None);
        assert_eq!(column("<html>"), None);
    }
}
