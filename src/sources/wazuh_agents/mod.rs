//! `wazuh_agents`: the status of Wazuh's agents, by the API of the Wazuh server; one record for each change.
//!
//! ```json
//! {"timestamp":"2025-11-30T22:15:04.120Z","wazuh_agents":{"event":"status","change":1764540904,"source":"agents",
//!  "status":"disconnected","previous":"active","agent":{"id":"005","name":"web","ip":"10.0.0.5"},
//!  "last_keep_alive":"2025-11-30T22:05:01+00:00","version":"Wazuh v4.12.0","os":{"platform":"ubuntu","name":"Ubuntu",
//!  "version":"22.04.3 LTS"},"groups":["default"],"node":"node01"}}
//! ```
//!
//! `event` is `new` (not known before: at the first look all of them), `status` (another one than was last told) or `gone` (two
//! whole looks lacked it). What the server does not say is left out; one that is gone has `previous` and no `status`.
//!
//! It reads no alerts: the API has none. Two halves. The one on the edge thread ([`edge`]) speaks HTTP and does what [`core`] and
//! [`token`] say, which are pure. The one on the home shard hands batches in, says what is settled, and has saved which status of each
//! agent was: a start compares with that, so nothing is told twice and no change in between is missed, but those that undid each other.

mod answer;
mod check;
mod core;
mod edge;
mod fates;
mod record;
mod session;
mod settings;
mod token;

use std::{rc::Rc, sync::Arc};

use self::{core::Core, settings::Settings};
use super::{Admit, Ending, Finding, Halves, Kind, Source, SourceError, Spec, Way};
use crate::{
    clock::Nanos,
    io::{Io, LocalFuture},
    metrics::Standing,
    position::Position,
    register::{Field, Section},
};

/// The kind.
pub struct WazuhAgents;

/// The one stream of a source.
const STREAM: &str = "agents";

impl Kind for WazuhAgents {
    fn name(&self) -> &'static str {
        "wazuh_agents"
    }
    fn about(&self) -> &'static str {
        "changes in the status of Wazuh's agents, by the server's API"
    }
    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
}

impl Spec for Settings {
    fn build(&self, name: &str, _instance: &str) -> Box<dyn Source> {
        // Whole only where nobody made both halves: the home half of a way that nobody serves.
        Box::new(Home { name: name.to_owned(), settings: self.clone(), way: Way::new() })
    }
    fn halves(&self, name: &str, _instance: &str) -> Option<Halves> {
        let way = Way::new();
        let home = Home { name: name.to_owned(), settings: self.clone(), way: way.clone() };
        let (name, settings) = (name.to_owned(), self.clone());
        Some(Halves {
            home: Box::new(move || Box::new(home)),
            edge: Box::new(move |on, standing| Box::pin(edge::run(name, settings, way, on, standing))),
        })
    }
    fn check(&self, _name: &str) -> Vec<Finding> {
        check::asks(self)
    }
}

/// The half on the home shard.
struct Home {
    name: String,
    settings: Settings,
    way: Arc<Way<Core>>,
}

impl Home {
    /// The reader as it was saved, else one that knows nobody, which is saved before anything is handed in: the numbers of changes
    /// count on from the second of the first start, so those of a lost state folder do not come again.
    async fn reader(&self, admit: &dyn Admit, now: Nanos) -> Result<Core, SourceError> {
        let rules = self.settings.rules;
        if let Some(body) = admit.kept() {
            return Core::load(rules, &body).ok_or_else(|| SourceError::Resume {
                name: self.name.clone(),
                what: format!(
                    "what was saved of it, {:?} in the state folder's snapshots, is of another shipper; upgrade, or remove it: every agent is \
                     then told as new",
                    self.name
                ),
            });
        }
        let core = Core::new(rules, now / 1_000_000_000);
        admit.keep(core.save());
        admit.saved().await;
        Ok(core)
    }
}

impl Source for Home {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, _standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let way = self.way.clone();
            let _ending = Ending(way.link.clone());
            let core = self.reader(&*admit, io.clock().now()).await?;
            admit.open(STREAM, Position::Cursor("".into()));
            way.begin(core);
            way.carry(&*admit, STREAM).await;
            Ok(())
        })
    }
}
