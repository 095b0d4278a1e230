//! Calls to one MISP: its URL, its key, its certificate. Holds no state but the open client.

use std::{cell::RefCell, path::PathBuf};

use super::{
    answer::{self, Outcome},
    attribute::{self, Attribute},
    core::Ask,
    query::{Filters, Pass},
};
use crate::{
    limits,
    net::{
        http::{self, Call, Client, HttpError, Reply},
        secret::Secret,
    },
};

/// What a MISP says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub version: String,
    /// True if our key may add sightings.
    pub may_sight: bool,
}

/// The way to one MISP.
pub struct Session {
    http: http::Settings,
    key_file: PathBuf,
    filters: Filters,
    page_rows: u32,
    open: RefCell<Option<(Client, Secret)>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Session({})", self.http.base)
    }
}

impl Session {
    /// One that reads key and CA at its first call.
    pub fn new(http: http::Settings, key_file: PathBuf, filters: Filters, page_rows: u32) -> Self {
        Self { http, key_file, filters, page_rows, open: RefCell::new(None) }
    }

    /// Sends one page of a search.
    pub async fn search(&self, ask: &Ask, page: u32) -> Outcome {
        let json = self.filters.search(ask, page, self.page_rows);
        self.heed(answer::judge(self.call("/attributes/restSearch", Some(json)).await))
    }

    /// Asks who it is: shows URL, certificate and key to be right.
    ///
    /// # Errors
    /// What is wrong, and the remedy.
    pub async fn version(&self) -> Result<Version, String> {
        let reply = answer::check(self.call("/servers/getVersion", None).await).map_err(|outcome| match self.heed(outcome) {
            Outcome::Denied(why) | Outcome::Refused(why) | Outcome::Away(why) => why,
            Outcome::Limited(_) | Outcome::Rows { .. } => "its limit on calls is used up".into(),
        })?;
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let Some(version) = said.get("version").and_then(|v| v.as_str()) else {
            return Err(format!("{} answers, but not as MISP does; url must be its base", self.http.base));
        };
        let may_sight = said.get("perm_sighting").is_some_and(|may| may.as_bool().unwrap_or_else(|| may == 1 || may == "1"));
        Ok(Version { version: version.chars().take(40).filter(|c| !c.is_control()).collect(), may_sight })
    }

    /// Adds sightings. MISP answers 200 when it adds none, so the answer is looked into.
    ///
    /// # Errors
    /// What is wrong.
    pub async fn sight(&self, body: Vec<u8>) -> Result<(), Outcome> {
        let reply = answer::check(self.call("/sightings/add", Some(body)).await).map_err(|outcome| self.heed(outcome))?;
        let said: serde_json::Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        if said.get("Sighting").is_some() {
            return Ok(());
        }
        let why = said.get("message").and_then(|text| text.as_str()).unwrap_or("no reason").chars().take(200).collect::<String>();
        Err(Outcome::Refused(format!("MISP adds no sighting ({why}); its user needs perm_sighting")))
    }

    /// One page of a synchronisation.
    ///
    /// # Errors
    /// What came in its place; never [`Outcome::Rows`].
    pub async fn export(&self, pass: Pass, page: u32) -> Result<(Vec<Attribute>, u64), Outcome> {
        let json = self.filters.export(pass, page, self.page_rows);
        let reply = answer::check(self.call("/attributes/restSearch", Some(json)).await).map_err(|outcome| self.heed(outcome))?;
        let skipped = reply.header("x-skipped-elements-count").and_then(|n| n.trim().parse().ok()).unwrap_or(0);
        match attribute::parse(&reply.body) {
            Ok(rows) => Ok((rows, skipped)),
            Err(what) => Err(Outcome::Away(format!("MISP answers with {what}"))),
        }
    }

    /// Rows of one page.
    pub fn page_rows(&self) -> u32 {
        self.page_rows
    }

    async fn call(&self, path: &str, json: Option<Vec<u8>>) -> Result<Reply, HttpError> {
        let open = self.open.borrow().clone();
        let (client, key) = match open {
            Some(open) => open,
            None => {
                let key = Secret::named("key", &self.key_file).map_err(HttpError::Settings)?;
                let client = Client::new(&self.http)?;
                self.open.borrow_mut().insert((client, key)).clone()
            }
        };
        client.call(Call { path: path.to_owned(), json }, &[("Authorization", &key)]).await
    }

    /// After a denial key and CA are read anew, since that is what a person mends.
    fn heed(&self, outcome: Outcome) -> Outcome {
        if matches!(outcome, Outcome::Denied(_)) {
            self.open.borrow_mut().take();
        }
        outcome
    }
}

/// The rows of one pass of a synchronisation, page by page.
///
/// ```text
/// let mut sync = Sync::of(session, Pass::All);
/// while let Some(rows) = sync.next().await? { … }
/// ```
/// After an error `next` asks for the same page again.
#[derive(Debug)]
pub struct Sync {
    session: std::rc::Rc<Session>,
    pass: Pass,
    page: u32,
    is_done: bool,
    /// Name of the first row of the page before: some servers do not turn pages.
    before: Option<Box<str>>,
}

impl Sync {
    /// - `pass`: its time is to be chosen with some overlap.
    pub fn of(session: std::rc::Rc<Session>, pass: Pass) -> Self {
        Self { session, pass, page: 1, is_done: false, before: None }
    }

    /// The next page; `None` after the last.
    ///
    /// # Errors
    /// What came in its place; never [`Outcome::Rows`].
    pub async fn next(&mut self) -> Result<Option<Vec<Attribute>>, Outcome> {
        if self.is_done {
            return Ok(None);
        }
        let (rows, skipped) = self.session.export(self.pass, self.page).await?;
        let is_full = rows.len() as u64 + skipped >= u64::from(self.session.page_rows());
        let first = rows.first().map(|row| row.uuid.clone()).filter(|uuid| !uuid.is_empty());
        let is_repeated = first.is_some() && first == self.before;
        self.is_done = !is_full || is_repeated || self.page >= limits::MISP_PAGES_MAX;
        self.page += 1;
        self.before = first;
        Ok((!is_repeated).then_some(rows))
    }
}
