//! What `shipper check` tells of a lookup `misp`.

use super::{
    super::{Finding, Level},
    answer::Outcome,
    core::Ask,
    session::Session,
    settings::Settings,
};
use crate::net::{http, secret::Secret};

/// Characters of a key of MISP; others are taken with a warning.
const KEY_CHARS: usize = 40;

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// Looks at the files that the settings name.
pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    if !settings.has_misp() {
        return vec![finding(Level::Good, "answers from its table; no MISP is set, so nothing is asked and nothing synchronised")];
    }
    let mut found = Vec::new();
    let path = settings.key_file.display();
    found.push(match Secret::named("key", &settings.key_file) {
        Ok(key) if key.reveal().len() == KEY_CHARS => finding(Level::Good, format!("key_file {path} holds a key")),
        Ok(_) => finding(Level::Warning, format!("key_file {path}: its first line has not the {KEY_CHARS} characters of a MISP key")),
        Err(why) => finding(Level::Bad, why),
    });
    if let Err(error) = http::Client::new(&settings.http) {
        found.push(finding(Level::Bad, error.to_string()));
    }
    if !settings.http.verify {
        found.push(finding(Level::Warning, "tls.verify is false: the key goes to whoever stands between; name MISP's CA in tls.ca"));
    }
    if settings.http.base.starts_with("http://") && !is_here(&settings.http.base) {
        found.push(finding(Level::Warning, format!("the key goes in plain text to {}; use https://", settings.http.base)));
    }
    let password = settings.redis.as_ref().and_then(|(redis, _)| redis.password_file.as_ref());
    if let Some(Err(why)) = password.map(|path| Secret::from_file(path)) {
        found.push(finding(Level::Warning, why));
    }
    found
}

fn is_here(base: &str) -> bool {
    ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| base.starts_with(here))
}

/// Asks MISP who it is, and one search for a name that nobody has.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    if !settings.has_misp() {
        return Vec::new();
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Level::Bad, format!("cannot open sockets: {error}"))],
    };
    let session = Session::new(settings.http.clone(), settings.key_file.clone(), settings.filters.clone(), settings.limits.page_rows);
    runtime.block_on(async {
        let base = &settings.http.base;
        let version = match session.version().await {
            Ok(version) => version,
            Err(why) => return vec![finding(Level::Bad, why)],
        };
        let mut found = vec![finding(Level::Good, format!("{base} is MISP {} and takes the key", version.version))];
        if settings.sightings.is_some() && !version.may_sight {
            found.push(finding(Level::Warning, "sightings are on, and the key's role has not perm_sighting"));
        }
        found.push(match session.search(&Ask::Canary, 1).await {
            Outcome::Rows { .. } => finding(Level::Good, "it answers searches"),
            Outcome::Limited(_) => finding(Level::Warning, "its limit on searches is used up; raise it for the key's role"),
            Outcome::Denied(why) | Outcome::Refused(why) | Outcome::Away(why) => finding(Level::Bad, why),
        });
        found
    })
}
