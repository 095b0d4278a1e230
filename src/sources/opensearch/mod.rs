//! `opensearch`: documents of OpenSearch and Elasticsearch, in the order of their times.
//!
//! Two halves. The one on the edge thread ([`edge`]) speaks HTTP and does what [`core`] says, which is pure: fix a point in
//! time, ask for page after page, rest. The one on the home shard hands batches in, says what is settled, and has the reader's
//! memory saved: which documents of the last minutes were settled ([`seen`]), since late ones are looked for again and again.
//!
//! What surprises: the row in the checkpoint is for people, and for a start without that memory; what was saved with the memory
//! counts, since both must be of one moment.

mod answer;
mod check;
mod core;
mod edge;
mod fates;
mod request;
mod seen;
mod session;
mod settings;
mod tally;

use std::{rc::Rc, sync::Arc};

use self::{core::Core, seen::Ms, settings::Settings};
use super::{Admit, Ending, Finding, Halves, Kind, Source, SourceError, Spec, StreamName, Way};
use crate::{
    io::{Io, LocalFuture},
    metrics::Standing,
    position::{Position, encode_name},
    register::{Field, Section},
};

/// The kind.
pub struct OpenSearch;

/// The one stream of a source: its indices are one order of times.
const STREAM: &str = "documents";

impl Kind for OpenSearch {
    fn name(&self) -> &'static str {
        "opensearch"
    }
    fn about(&self) -> &'static str {
        "documents of OpenSearch or Elasticsearch, by point in time"
    }
    fn fields(&self) -> &'static [Field] {
        settings::FIELDS
    }
    fn parse(&self, section: &mut Section<'_>) -> Box<dyn Spec> {
        Box::new(Settings::parse(section))
    }
    fn address(&self, stream: &StreamName<'_>, position: &Position) -> Option<String> {
        match position {
            Position::Cursor(cursor) => Some(format!("opensearch/{}/{cursor}", encode_name(stream.stream))),
            _ => None,
        }
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
        let settings = self.clone();
        Some(Halves {
            home: Box::new(move || Box::new(home)),
            edge: Box::new(move |on, standing| Box::pin(edge::run(settings, way, on, standing))),
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
    /// The reader as it was saved, else where the row says, else some time back from now.
    fn reader(&self, admit: &dyn Admit, now: Ms) -> Result<Core, SourceError> {
        let rules = self.settings.rules;
        if let Some(body) = admit.kept() {
            return Core::load(rules, &body).ok_or_else(|| SourceError::Resume {
                name: self.name.clone(),
                what: format!(
                    "what was saved of it, {:?} in the state folder's snapshots, is of another shipper; upgrade, or remove it: it then begins \
                     at its row in the checkpoint, and the last minutes come twice",
                    self.name
                ),
            });
        }
        let row = admit.resume(STREAM);
        let start = match row.as_ref().and_then(|row| row.lowest()) {
            Some(Position::Cursor(cursor)) if !cursor.is_empty() => {
                let at = request::cursor_ms(cursor).ok_or_else(|| SourceError::Resume {
                    name: self.name.clone(),
                    what: format!("its row in the checkpoint says {cursor:?}, which is no time; see `shipper state`"),
                })?;
                // What lies within the overlap is not known any more: it comes again rather than not at all.
                at.saturating_sub(rules.overlap)
            }
            _ => now.saturating_sub(self.settings.since),
        };
        Ok(Core::new(rules, start))
    }
}

impl Source for Home {
    fn run(self: Box<Self>, io: Rc<dyn Io>, admit: Rc<dyn Admit>, _standing: Standing) -> LocalFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let way = self.way.clone();
            let _ending = Ending(way.link.clone());
            let now = Ms::try_from(io.clock().now() / 1_000_000).unwrap_or(Ms::MAX);
            let core = self.reader(&*admit, now)?;
            admit.open(STREAM, Position::Cursor("".into()));
            way.begin(core);
            way.carry(&*admit, STREAM).await;
            Ok(())
        })
    }
}
