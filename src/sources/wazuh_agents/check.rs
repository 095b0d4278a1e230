//! What `shipper check` tells of a source `wazuh_agents`.

use super::{fates::Trouble, session::Session, settings::Settings};
use crate::{
    clock::{Clock, SystemClock},
    sources::{Finding, Level},
};

fn finding(level: Level, text: impl Into<String>) -> Finding {
    Finding { level, text: text.into() }
}

fn told(trouble: Trouble, place: &str) -> Finding {
    match trouble {
        Trouble::Away(why) | Trouble::Busy(why, _) | Trouble::Wrong(why) => finding(Level::Bad, why),
        Trouble::Refused(why) => {
            finding(Level::Bad, format!("{why}; the login was taken, so give this user a role with agent:read on agent:id:*"))
        }
        Trouble::TooLong => finding(Level::Bad, format!("{place} answers with more than can be read; see url")),
    }
}

/// Logs in and asks for one agent. Changes nothing there.
pub(super) fn asks(settings: &Settings) -> Vec<Finding> {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![finding(Level::Bad, format!("cannot open sockets: {error}; see the limits of the process"))],
    };
    let now = SystemClock::new().now();
    let mut found = Vec::new();
    if !settings.http.verify {
        let what = "tls.verify is false: the password goes to whoever stands between; name the server's CA in tls.ca";
        found.push(finding(Level::Warning, what));
    }
    found.push(runtime.block_on(async {
        let place = &settings.http.base;
        let asked = async {
            let session = Session::open(settings)?;
            let (token, _) = session.login(settings, now).await?;
            session.agents(&token, 0, 1, now).await
        };
        match asked.await {
            Ok(page) if page.total == 0 => finding(
                Level::Warning,
                format!("{place} lets us in and lists no agent; give this user a role with agent:read on agent:id:*, if there are some"),
            ),
            Ok(page) => finding(Level::Good, format!("{place} lets us in and lists {} agents", page.total)),
            Err(trouble) => told(trouble, place),
        }
    }));
    found
}
