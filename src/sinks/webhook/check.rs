//! What `shipper check` tells of a webhook: URL, CA and secrets are looked at, and nothing is posted.

use super::{form::Form, session::Session, settings::Settings};
use crate::sinks::{Finding, Level};

pub(super) fn files(settings: &Settings) -> Vec<Finding> {
    let finding = |level, text: String| Finding { level, text };
    let base = match Session::open(settings) {
        Ok(session) => session.base,
        Err(why) => return vec![finding(Level::Bad, why)],
    };
    let mut found = vec![finding(
        Level::Good,
        format!("{base}: URL, certificates and secrets can be read; nothing is posted until there is a message"),
    )];
    let has_secrets = settings.routing_key.is_some() || !settings.secret_headers.is_empty();
    if !settings.verifies() {
        found.push(finding(
            Level::Warning,
            "tls.verify is false: messages and secrets go to whoever stands between; name the receiver's CA in tls.ca".into(),
        ));
    }
    if base.starts_with("http://") && !is_here(&base) {
        let what = if has_secrets { "messages and secrets go" } else { "messages go" };
        found.push(finding(Level::Warning, format!("{what} in plain text to {base}; use https://")));
    }
    if settings.form == Form::PagerDuty {
        found.push(finding(
            Level::Good,
            "an incident is one address, attack type, host and hour where records are full (alert_fields = \"full\" of handler waf); \
             of short ones it is one address, rule family and hour"
                .into(),
        ));
    }
    if settings.form == Form::Slack && settings.path_file.is_none() {
        found.push(finding(Level::Warning, "who knows a webhook of Slack can write there; move its path from url to path_file".into()));
    }
    found
}

fn is_here(base: &str) -> bool {
    ["http://127.", "http://localhost", "http://[::1]"].iter().any(|here| base.starts_with(here))
}
