//! What `shipper check` tells of a `redis` sink: files; and, connected, login and what stands under its keys.

use super::{fates, settings::Settings};
use crate::{
    net::redis::{
        Place,
        commands::{Answer, Command, Connection},
    },
    net::secret::Secret,
    sinks::{Finding, Level},
};

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

/// Looks at the files that the settings name.
#[allow(clippy::disallowed_methods, reason = "a command of the operator looks at the real files")]
pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let mut found = Vec::new();
    let place = &settings.server.place;
    let of_sentinels = match place {
        Place::Sentinel { password_file, .. } => password_file.as_ref(),
        _ => None,
    };
    for path in settings.server.password_file.iter().chain(of_sentinels) {
        if let Err(why) = Secret::from_file(path) {
            found.push(finding(Level::Bad, why));
        }
    }
    if let Some(ca) = place.ca()
        && let Err(error) = std::fs::read(ca)
    {
        found.push(finding(Level::Bad, format!("tls.ca {}: {error}; give a PEM file with the CA of the server", ca.display())));
    }
    if found.is_empty() {
        found.push(finding(Level::Good, format!("{place}: address and files can be read")));
    }
    let is_here = |host: &&str| host.starts_with("127.") || *host == "localhost" || *host == "::1";
    if !place.plain_hosts().iter().all(is_here) {
        let what = if settings.server.password_file.is_some() { "messages and the password go" } else { "messages go" };
        found.push(finding(Level::Warning, format!("{what} in plain text to {place}; use rediss://")));
    }
    found
}

/// Connects, and looks what is under each key; nothing is written.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Level::Bad, format!("cannot open sockets: {error}"))],
    };
    let place = settings.server.place.to_string();
    let keys: Vec<(String, &str)> = settings.forms.iter().flat_map(|form| form.keys()).collect();
    let mut commands = vec![Command::of(&[b"PING"])];
    commands.extend(keys.iter().map(|(key, _)| Command::of(&[b"TYPE", key.as_bytes()])));
    let answers = runtime.block_on(async { Connection::open(&settings.server).await?.send(&commands).await });
    let answers = match answers {
        Ok(answers) => answers,
        Err(why) => return vec![finding(Level::Bad, fates::judge_no_answer(&why, &place).1)],
    };
    let mut answers = answers.into_iter();
    let mut found = vec![match answers.next() {
        Some(Err(refusal)) => finding(Level::Bad, fates::judge(&refusal, &place).1),
        _ => finding(Level::Good, format!("{place} answers and takes the login")),
    }];
    for ((key, kind), answer) in keys.iter().zip(answers) {
        match answer {
            Ok(Answer::Text(is)) if is != "none" && is != *kind => {
                let what = format!("{place}: key {key} holds a {is}, not a {kind}");
                found.push(finding(Level::Bad, format!("{what}; name another key, or remove that one")));
            }
            // Whoever may write a key need not be allowed to ask what it is.
            _ => {}
        }
    }
    found
}
