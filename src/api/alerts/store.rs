//! Alerts in Redis, read by their indices. Nothing is written.

use std::{collections::HashSet, fmt};

use tokio::sync::Mutex;

use super::{Page, unknown_start};
use crate::{
    detect::kept::{Before, Brief, Keys, Query, Stats},
    limits,
    net::redis::{
        Settings,
        commands::{Answer, Command, Connection, NoAnswer},
    },
};

/// Alerts that are fetched at once.
const CHUNK: usize = 100;

/// The alerts of one sink.
pub(super) struct Store {
    server: Settings,
    keys: Keys,
    /// One at a time asks.
    connection: Mutex<Option<Connection>>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.server.place)
    }
}

/// Why there is no answer.
pub(super) enum Failed {
    /// What was asked for is not there.
    Unknown(String),
    Away(String),
}

impl Store {
    pub(super) fn new(server: Settings, keys: Keys) -> Self {
        Self { server, keys, connection: Mutex::new(None) }
    }

    /// Asks; over a new connection if the old one has gone meanwhile.
    async fn ask(&self, commands: &[Command]) -> Result<Vec<Answer>, Failed> {
        let away = |what: String| Failed::Away(format!("{}: {what}", self.server.place));
        let mut held = self.connection.lock().await;
        let mut is_new = false;
        loop {
            let mut connection = match held.take() {
                Some(connection) => connection,
                None => {
                    is_new = true;
                    Connection::open(&self.server).await.map_err(|why| away(said(why)))?
                }
            };
            match connection.send(commands).await {
                Ok(answers) => {
                    let moved = answers.iter().any(|answer| answer.as_ref().is_err_and(|refusal| refusal.code == "MOVED"));
                    if moved && !is_new {
                        continue;
                    }
                    *held = Some(connection);
                    return answers.into_iter().map(|answer| answer.map_err(|refusal| away(refusal.text))).collect();
                }
                Err(why) if is_new => return Err(away(said(why))),
                Err(_) => {}
            }
        }
    }

    /// One answer to one command.
    async fn one(&self, words: &[&[u8]]) -> Result<Answer, Failed> {
        Ok(self.ask(&[Command::of(words)]).await?.into_iter().next().unwrap_or(Answer::Other))
    }

    /// The alert of this id.
    pub(super) async fn get(&self, id: &str) -> Result<Option<String>, Failed> {
        let answer = self.one(&[b"GET", self.keys.alert(id).as_bytes()]).await?;
        Ok(answer.text().map(str::to_owned))
    }

    /// The alerts of a page, the newest first.
    pub(super) async fn page(&self, query: &Query) -> Result<Page, Failed> {
        let key = query.entity.as_ref().map_or_else(|| self.keys.by_time(), |entity| self.keys.by_entity(entity));
        let (newest, behind) = match &query.before {
            None => ("+inf".to_owned(), None),
            Some(Before::Time(time_ms)) => (format!("({time_ms}"), None),
            Some(Before::Alert(id)) => match self.one(&[b"ZSCORE", key.as_bytes(), id.as_bytes()]).await?.text() {
                Some(score) => (score.to_owned(), Some((score.to_owned(), id.as_str()))),
                None => return Err(Failed::Unknown(unknown_start(query))),
            },
        };
        let oldest = query.since_ms.to_string();
        let (mut page, mut bytes, mut seen) = (Page { alerts: Vec::new(), next: None }, 0, HashSet::new());
        loop {
            // What comes meanwhile shifts places, so that some are seen again.
            let (offset, count) = (seen.len().to_string(), CHUNK.to_string());
            let words: [&[u8]; 8] = [
                b"ZREVRANGEBYSCORE",
                key.as_bytes(),
                newest.as_bytes(),
                oldest.as_bytes(),
                b"WITHSCORES",
                b"LIMIT",
                offset.as_bytes(),
                count.as_bytes(),
            ];
            let answer = self.one(&words).await?;
            let found: Vec<(&str, &str)> =
                answer.parts().chunks_exact(2).filter_map(|pair| Some((pair.first()?.text()?, pair.last()?.text()?))).collect();
            let is_last = found.len() < CHUNK;
            let before = seen.len();
            let new = found.iter().filter(|(id, _)| seen.insert((*id).to_owned()));
            // Of one millisecond the greater ids come first.
            let is_behind = |(id, score): &&(&str, &str)| behind.as_ref().is_none_or(|(at, last)| score != at || id < last);
            let ids: Vec<&str> = new.filter(is_behind).map(|(id, _)| *id).collect();
            for (id, json) in ids.iter().zip(self.fetch(&ids).await?) {
                if page.alerts.len() == query.limit || bytes >= limits::ALERTS_PAGE_BYTES {
                    return Ok(page);
                }
                page.next = Some((*id).to_owned());
                // An alert ends with its key, its places at the next sweep.
                let Some(json) = json else { continue };
                let is_wanted = |brief: Brief| {
                    query.severity.is_none_or(|severity| severity == brief.severity)
                        && query.source.as_ref().is_none_or(|source| *source == brief.source)
                };
                if Brief::read(json.as_bytes()).is_ok_and(is_wanted) {
                    bytes += json.len();
                    page.alerts.push(json);
                }
            }
            if is_last || seen.len() == before {
                page.next = None;
                return Ok(page);
            }
            if seen.len() >= limits::ALERTS_LOOKED_AT {
                return Ok(page);
            }
        }
    }

    async fn fetch(&self, ids: &[&str]) -> Result<Vec<Option<String>>, Failed> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<String> = ids.iter().map(|id| self.keys.alert(id)).collect();
        let mut words: Vec<&[u8]> = vec![b"MGET"];
        words.extend(keys.iter().map(String::as_bytes));
        let answer = self.one(&words).await?;
        Ok(answer.parts().iter().map(|part| part.text().map(str::to_owned)).collect())
    }

    /// What all alerts come to.
    pub(super) async fn stats(&self) -> Result<Stats, Failed> {
        let (stats, entities, last) = (self.keys.stats(), self.keys.entities(), (limits::ALERTS_PAGE - 1).to_string());
        let commands = [
            Command::of(&[b"HGETALL", stats.as_bytes()]),
            Command::of(&[b"ZREVRANGE", entities.as_bytes(), b"0", last.as_bytes(), b"WITHSCORES"]),
        ];
        let answers = self.ask(&commands).await?;
        let mut stats = Stats::default();
        let pairs = |answer: &Answer| -> Vec<(String, u64)> {
            let pair = |pair: &[Answer]| Some((pair.first()?.text()?.to_owned(), pair.last()?.text()?.parse::<f64>().ok()? as u64));
            answer.parts().chunks_exact(2).filter_map(pair).collect()
        };
        for (field, count) in answers.first().map(pairs).unwrap_or_default() {
            stats.read(&field, count);
        }
        stats.entities = answers.get(1).map(pairs).unwrap_or_default().into_iter().collect();
        Ok(stats)
    }
}

fn said(why: NoAnswer) -> String {
    match why {
        NoAnswer::Away(text) | NoAnswer::Settings(text) => text,
        NoAnswer::Refused(refusal) => refusal.text,
    }
}
