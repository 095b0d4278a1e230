//! What `shipper check` tells of a source `opensearch`.

use serde_json::Value;

use super::{
    fates::Trouble,
    request::{self, Flavour},
    session::Session,
    settings::{Login, Settings},
};
use crate::{
    clock::{Clock, SystemClock},
    sources::{Finding, Level},
};

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

fn told(trouble: Trouble, place: &str) -> Finding {
    match trouble {
        Trouble::Away(why, _) | Trouble::Partial(why) | Trouble::Wrong(why) => finding(Level::Bad, why),
        Trouble::Gone | Trouble::NoTie => finding(Level::Bad, format!("{place} lost what was asked for; ask again")),
        Trouble::TooLong => finding(Level::Bad, format!("{place} answers with more than can be read; see hosts")),
    }
}

/// Asks each node who it is, and the first that answers whether we may read. Changes nothing there but for a point in time that
/// is let go at once.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Level::Bad, format!("cannot open sockets: {error}; see the limits of the process"))],
    };
    let now = SystemClock::new().now();
    runtime.block_on(async {
        let mut found = way(settings);
        let mut usable = None;
        for host in &settings.hosts {
            let session = match Session::open(settings, host) {
                Ok(session) => session,
                Err(trouble) => {
                    found.push(told(trouble, host));
                    continue;
                }
            };
            match session.about(now).await {
                Ok(about) => {
                    let flavour = settings.flavour.unwrap_or(about.flavour);
                    let version = if about.version.is_empty() { String::new() } else { format!(" {}", about.version) };
                    let name = about.flavour.name();
                    found.push(match settings.flavour.filter(|set| *set != about.flavour) {
                        Some(set) => finding(Level::Bad, format!("{host} is {name}{version}, not {}; correct flavour", set.name())),
                        None => finding(Level::Good, format!("{host} is {name}{version} and lets us in")),
                    });
                    usable = usable.or(Some((session, flavour)));
                }
                Err(trouble) => found.push(told(trouble, host)),
            }
        }
        if let Some((session, flavour)) = usable {
            found.extend(reads(settings, &session, flavour, now).await);
        }
        found
    })
}

/// Whether the indices are there, can be read, and have the field.
async fn reads(settings: &Settings, session: &Session, flavour: Flavour, now: u64) -> Vec<Finding> {
    let wanted = &settings.wanted;
    let names = wanted.indices.join(", ");
    match session.open_pit(flavour, wanted, now).await {
        Ok(pit) => session.close_pit(flavour, &pit).await,
        Err(trouble) => return vec![told(trouble, &session.place)],
    }
    let mut found = vec![finding(Level::Good, format!("{names} can be read"))];
    match session.ask(&request::fields(wanted), "to what fields there are", now).await {
        Ok(answer) => found.push(field(&answer, &wanted.field, &names)),
        // Whoever may only search is not asked for more than that.
        Err(trouble) => found.push(Finding { level: Level::Warning, ..told(trouble, &session.place) }),
    }
    found
}

/// Whether the field is a date in every index that has it.
fn field(answer: &Value, field: &str, names: &str) -> Finding {
    let kinds: Vec<&str> = answer
        .get("fields")
        .and_then(|fields| fields.get(field))
        .and_then(Value::as_object)
        .map(|kinds| kinds.keys().map(String::as_str).filter(|kind| *kind != "unmapped").collect())
        .unwrap_or_default();
    match kinds.iter().find(|kind| !kind.starts_with("date")) {
        _ if kinds.is_empty() => finding(
            Level::Bad,
            format!("no index of {names} has a field {field:?}, so nothing would be read; correct timestamp_field, or indices"),
        ),
        Some(kind) => {
            finding(Level::Bad, format!("field {field:?} is of type {kind} in {names}, not date; correct timestamp_field, or indices"))
        }
        None => finding(Level::Good, format!("field {field:?} is a date")),
    }
}

/// Whether anybody on the way can read along.
fn way(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    for host in &settings.bare_hosts {
        found.push(finding(
            Level::Warning,
            format!("host {host:?} has no scheme and is asked by http; write https:// or http:// before it"),
        ));
    }
    if !settings.http.verify {
        let what = "tls.verify is false: secrets go to whoever stands between; name the servers' CA in tls.ca";
        found.push(finding(Level::Warning, what));
    }
    let is_here = |host: &String| ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| host.starts_with(here));
    for host in settings.hosts.iter().filter(|host| host.starts_with("http://") && !is_here(host)) {
        let what = if settings.login == Login::Nobody { "documents come" } else { "secrets go and documents come" };
        found.push(finding(Level::Warning, format!("{what} in plain text, by {host}; use https://")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_must_be_a_date_wherever_it_is() {
        let of = |kinds: Value| field(&serde_json::json!({"fields": {"t": kinds}}), "t", "a-*");
        let kind = |level: Level, kinds: &[&str]| {
            let kinds = kinds.iter().map(|kind| ((*kind).to_owned(), Value::Null)).collect::<serde_json::Map<_, _>>();
            let found = of(Value::Object(kinds));
            assert_eq!(found.level, level, "{}", found.text);
        };
        kind(Level::Good, &["date"]);
        kind(Level::Good, &["date", "date_nanos", "unmapped"]);
        kind(Level::Bad, &["date", "keyword"]);
        kind(Level::Bad, &["unmapped"]);
        kind(Level::Bad, &[]);
    }
}
