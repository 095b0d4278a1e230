//! Requests to one InfluxDB: its URL, its API, who we are. Read and asked when it is opened; secrets are never shown.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::{
    fates::{self, Cause, Fate, Outcome},
    settings::{Api, Login, Settings},
};
use crate::{
    clock::Nanos,
    net::{
        base64,
        http::{Call, Client, HttpError, Post, Reply},
        secret::Secret,
    },
};

/// An open way to a server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    client: Client,
    pub api: Api,
    /// What the server says of itself; empty where it was not asked or does not tell.
    pub version: String,
    /// Path and query of a write.
    path: Secret,
    login: Option<Secret>,
    gzip: bool,
    /// How the server and what is written there are called in texts.
    pub place: String,
}

/// The headers of a request, for the client that takes them as pairs.
fn headers(login: Option<&Secret>) -> Vec<(&str, &Secret)> {
    login.map(|login| ("Authorization", login)).into_iter().collect()
}

impl Session {
    /// Reads secrets and CA, and asks the server which API it has, where the settings leave that open.
    ///
    /// - `now`: wall time.
    ///
    /// # Errors
    /// What to do now ([`Fate::Retry`], [`Fate::Hold`] or [`Fate::Abort`]), and why.
    pub(super) async fn open(settings: &Settings, now: Nanos) -> Result<Self, Outcome> {
        let base = &settings.http.base;
        let held = |text: String| Outcome { fate: Fate::Hold, cause: Cause::Other, text, wait: None, code: "none" };
        let client = Client::new(&settings.http).map_err(|error| held(error.to_string()))?;
        let of = |api| -> Result<Self, Outcome> {
            Ok(Self {
                client: client.clone(),
                api,
                version: String::new(),
                path: Secret::new(path(settings, api)),
                login: login(&settings.login, api).map_err(held)?,
                gzip: settings.gzip,
                place: place(settings, api),
            })
        };
        let mut session = of(settings.api.unwrap_or(Api::V2))?;
        if settings.api.is_none() {
            let reply = session.ping().await;
            let version = match &reply {
                Ok(reply) => reply.header("x-influxdb-version").unwrap_or_default().to_owned(),
                Err(_) => return Err(fates::judge(&reply, base, now)),
            };
            let api = match api_of(&version) {
                Some(api) => api,
                // One built without its version: 1.6 has no such page, all others have.
                None => match session.write(Vec::new()).await {
                    Ok(reply) if reply.status == 404 && reply.body.starts_with(b"404 page not found") => Api::V1,
                    Ok(_) => Api::V2,
                    reply @ Err(_) => return Err(fates::judge(&reply, base, now)),
                },
            };
            session = Self { version, ..of(api)? };
        }
        if settings.create_database && session.api == Api::V1 {
            session.create_database(settings, now).await?;
        }
        Ok(session)
    }

    /// Whether anybody is there; any answer will do.
    ///
    /// # Errors
    /// Only where there is no answer.
    pub(super) async fn ping(&self) -> Result<Reply, HttpError> {
        self.client.call(Call { path: "/ping".to_owned(), json: None }, &headers(self.login.as_ref())).await
    }

    /// Writes lines; an empty body asks whether any would be taken, and writes nothing.
    ///
    /// # Errors
    /// Only where there is no answer.
    pub(super) async fn write(&self, body: Vec<u8>) -> Result<Reply, HttpError> {
        let mut headers: Vec<(String, Secret)> = Vec::new();
        let body = if self.gzip && !body.is_empty() {
            headers.push(("Content-Encoding".to_owned(), Secret::new("gzip".to_owned())));
            zipped(&body)?
        } else {
            body
        };
        self.send(&self.path, "text/plain; charset=utf-8", body, headers).await
    }

    /// Asks in InfluxQL; of 1.x.
    ///
    /// # Errors
    /// Only where there is no answer.
    pub(super) async fn query(&self, db: Option<&str>, q: &str) -> Result<Reply, HttpError> {
        let db = db.map(|db| format!("&db={}", escaped(db))).unwrap_or_default();
        let path = Secret::new("/query".to_owned());
        self.send(&path, "application/x-www-form-urlencoded", format!("q={}{db}", escaped(q)).into_bytes(), Vec::new()).await
    }

    async fn send(&self, path: &Secret, content_type: &str, body: Vec<u8>, mut headers: Vec<(String, Secret)>) -> Result<Reply, HttpError> {
        if let Some(login) = &self.login {
            headers.push(("Authorization".to_owned(), login.clone()));
        }
        self.client.post(Post { path, content_type, body, headers: &headers }).await
    }

    /// Makes the database if there is none: whoever may only write is not asked for more than that.
    async fn create_database(&self, settings: &Settings, now: Nanos) -> Result<(), Outcome> {
        let reply = self.write(Vec::new()).await;
        if !matches!(&reply, Ok(reply) if reply.status == 404) {
            // Whatever else is wrong, the first write tells.
            return Ok(());
        }
        let (db, _) = settings.target.database();
        let reply = self.query(None, &format!("CREATE DATABASE {}", identifier(db))).await;
        let mut outcome = fates::judge(&reply, &self.place, now);
        if outcome.fate == Fate::Written {
            let said = reply.map(|reply| String::from_utf8_lossy(&reply.body).into_owned()).unwrap_or_default();
            if !said.contains("\"error\"") {
                tracing::info!(database = db, "the database was missing and is made");
                return Ok(());
            }
            outcome.text = format!("{} makes no database ({})", self.place, said.trim());
        }
        outcome.text += "; make it there, let the user be an administrator, or remove create_database";
        outcome.fate = if outcome.fate == Fate::Retry { Fate::Retry } else { Fate::Hold };
        Err(outcome)
    }
}

/// The API that a version has; `None` where that is no version.
fn api_of(version: &str) -> Option<Api> {
    let mut numbers = version.trim_start_matches('v').split(['.', '-', '~']).map(|part| part.parse::<u32>().ok());
    let (major, minor) = (numbers.next()??, numbers.next().flatten().unwrap_or(0));
    Some(if (major, minor) < (1, 8) { Api::V1 } else { Api::V2 })
}

fn path(settings: &Settings, api: Api) -> String {
    let target = &settings.target;
    match api {
        Api::V1 => {
            let (db, rp) = target.database();
            let rp = rp.map(|rp| format!("&rp={}", escaped(rp))).unwrap_or_default();
            format!("/write?db={}{rp}&precision=ns", escaped(db))
        }
        Api::V2 => {
            let org = target.org.as_deref().map(|org| format!("org={}&", escaped(org))).unwrap_or_default();
            format!("/api/v2/write?{org}bucket={}&precision=ns", escaped(&target.bucket()))
        }
    }
}

fn place(settings: &Settings, api: Api) -> String {
    let (base, target) = (&settings.http.base, &settings.target);
    match api {
        Api::V1 => format!("{base} database {}", target.bucket()),
        Api::V2 => format!("{base} bucket {}", target.bucket()),
    }
}

/// The header Authorization: 1.6 knows no tokens, 1.8 takes `user:password` as one.
fn login(login: &Login, api: Api) -> Result<Option<Secret>, String> {
    let whole = match login {
        Login::Nobody => return Ok(None),
        Login::Token(token) => token.read("token")?,
        Login::User(user, password) => Secret::new(format!("{user}:{}", password.read("password")?.reveal())),
    };
    Ok(Some(Secret::new(match api {
        Api::V2 => format!("Token {}", whole.reveal()),
        Api::V1 => format!("Basic {}", base64::encode(whole.reveal().as_bytes())),
    })))
}

fn zipped(body: &[u8]) -> Result<Vec<u8>, HttpError> {
    let mut into = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let ours = |error: std::io::Error| HttpError::Ours(format!("cannot compress a request: {error}"));
    into.write_all(body).map_err(ours)?;
    into.finish().map_err(ours)
}

/// A name as InfluxQL has it: in quotes.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// RFC 3986 §2.3: all but unreserved characters as `%HH`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_says_which_api_there_is() {
        let rows = [
            ("1.6.7", Some(Api::V1)),
            ("1.6.7~rc0", Some(Api::V1)),
            ("1.7.0-c1.7.0", Some(Api::V1)),
            ("0.13", Some(Api::V1)),
            ("1.8.10", Some(Api::V2)),
            ("v2.7.12", Some(Api::V2)),
            ("3.0.1", Some(Api::V2)),
            ("unknown", None),
            ("", None),
        ];
        for (version, api) in rows {
            assert_eq!(api_of(version), api, "{version}");
        }
    }

    #[test]
    fn words_are_escaped_as_their_documents_say() {
        assert_eq!(escaped("a b/c&d=é"), "a%20b%2Fc%26d%3D%C3%A9");
        assert_eq!(identifier(r#"a"b\c"#), r#""a\"b\\c""#);
    }
}
