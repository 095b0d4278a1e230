//! Requests to one node: its URL, who we are, and what it answers. Secrets are read when it is opened, and never shown.

use serde_json::Value;

use super::{
    answer::{self, Page},
    core::{Search, Single},
    fates::{Trouble, flawed, judge},
    request::{self, Flavour, Tie, Wanted},
    seen::Ms,
    settings::{Login, Settings},
    tally::Span,
};
use crate::{
    clock::Nanos,
    net::{
        base64,
        http::{self, Call, Client, Reply},
        secret::Secret,
    },
};

/// An open way to a node.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    login: Option<Secret>,
    /// How the node is called in texts.
    pub place: String,
}

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct About {
    pub flavour: Flavour,
    /// Empty where it does not tell.
    pub version: String,
}

impl Session {
    /// Reads secrets and CA; connects to nobody yet.
    ///
    /// # Errors
    /// [`Trouble::Wrong`], with the remedy.
    pub(super) fn open(settings: &Settings, host: &str) -> Result<Self, Trouble> {
        let http = http::Settings { base: host.to_owned(), ..settings.http.clone() };
        let client = Client::new(&http).map_err(|error| Trouble::Wrong(error.to_string()))?;
        let login = login(&settings.login).map_err(Trouble::Wrong)?;
        Ok(Self { client, login, place: host.to_owned() })
    }

    fn headers(&self) -> Vec<(&str, &Secret)> {
        self.login.iter().map(|login| ("Authorization", login)).collect()
    }

    async fn post(&self, path: &str, json: String, doing: &str, now: Nanos) -> Result<Reply, Trouble> {
        let call = Call { path: path.to_owned(), json: Some(json.into_bytes()) };
        judge(self.client.call(call, &self.headers()).await, &self.place, doing, now)
    }

    /// Asks who it is. One that does not let us ask is known by a header that Elasticsearch sends with every answer.
    ///
    /// # Errors
    /// What is wrong with the way there, or with our login.
    pub(super) async fn about(&self, now: Nanos) -> Result<About, Trouble> {
        let reply = self.client.call(Call { path: "/".to_owned(), json: None }, &self.headers()).await;
        let by_header = |reply: &Reply| match reply.header("x-elastic-product") {
            Some(_) => Flavour::Elasticsearch,
            None => Flavour::OpenSearch,
        };
        if let Ok(reply) = &reply
            && reply.status == 403
        {
            return Ok(About { flavour: by_header(reply), version: String::new() });
        }
        let reply = judge(reply, &self.place, "to say what it is", now)?;
        let told: Option<Value> = serde_json::from_slice(&reply.body).ok();
        let member = |name: &str| told.as_ref()?.get("version")?.get(name)?.as_str();
        let (distribution, number) = (member("distribution"), member("number"));
        if number.is_none() && reply.header("x-elastic-product").is_none() {
            let what = "answers with something else than OpenSearch or Elasticsearch would";
            return Err(Trouble::Wrong(format!("{} {what}; see hosts", self.place)));
        }
        let flavour = match distribution {
            Some("opensearch") => Flavour::OpenSearch,
            // OpenSearch can be told to give itself out as an old Elasticsearch, but not to leave this out.
            _ => Flavour::Elasticsearch,
        };
        Ok(About { flavour, version: number.unwrap_or_default().to_owned() })
    }

    /// Fixes a point in time.
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn open_pit(&self, flavour: Flavour, wanted: &Wanted, now: Nanos) -> Result<String, Trouble> {
        let doing = format!("to a point in time of {}", wanted.indices.join(", "));
        let reply = self.post(&request::open(flavour, wanted), String::new(), &doing, now).await?;
        answer::pit(&reply.body).map_err(|flaw| flawed(flaw, &self.place))
    }

    /// Lets a point in time go. It ends by itself soon, so nobody is told where that fails.
    pub(super) async fn close_pit(&self, flavour: Flavour, pit: &str) {
        let (path, body) = request::close(flavour, pit);
        let _ = self.client.delete(path, body.into_bytes(), &self.headers()).await;
    }

    /// Asks for a page; its bytes, for [`read`](Self::read).
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn page(&self, wanted: &Wanted, tie: Tie, search: &Search, now: Nanos) -> Result<Reply, Trouble> {
        self.post(request::SEARCH, request::page(wanted, tie, search), &searching(wanted), now).await
    }

    /// Asks for documents of a point in time by their names; as [`page`](Self::page).
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn fetch(&self, wanted: &Wanted, tie: Tie, pit: &str, singles: &[Single], now: Nanos) -> Result<Reply, Trouble> {
        self.post(request::SEARCH, request::fetch(wanted, tie, pit, singles), &searching(wanted), now).await
    }

    /// The documents of such an answer.
    ///
    /// # Errors
    /// As [`flawed`].
    pub(super) fn read<'a>(&self, reply: &'a Reply) -> Result<Page<'a>, Trouble> {
        answer::page(&reply.body).map_err(|flaw| flawed(flaw, &self.place))
    }

    /// Counts documents by minutes.
    ///
    /// # Errors
    /// As [`judge`] and [`flawed`].
    pub(super) async fn count(&self, wanted: &Wanted, pit: &str, span: Span, now: Nanos) -> Result<Vec<(Ms, u64)>, Trouble> {
        let reply = self.post(request::SEARCH, request::count(wanted, pit, span), &searching(wanted), now).await?;
        answer::counts(&reply.body).map_err(|flaw| flawed(flaw, &self.place))
    }

    /// Any other question, as JSON; for `shipper check`.
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn ask(&self, path: &str, doing: &str, now: Nanos) -> Result<Value, Trouble> {
        let reply = self.client.call(Call { path: path.to_owned(), json: None }, &self.headers()).await;
        let reply = judge(reply, &self.place, doing, now)?;
        serde_json::from_slice(&reply.body).map_err(|_| Trouble::Away(format!("{} answers with what is no JSON", self.place), None))
    }
}

fn searching(wanted: &Wanted) -> String {
    format!("to a search in {}", wanted.indices.join(", "))
}

/// The header Authorization.
fn login(login: &Login) -> Result<Option<Secret>, String> {
    let basic = |text: &str| base64::encode(text.as_bytes());
    Ok(Some(Secret::new(match login {
        Login::Nobody => return Ok(None),
        Login::User(user, file) => format!("Basic {}", basic(&format!("{user}:{}", Secret::from_file(file)?.reveal()))),
        Login::ApiKey(file) => {
            let key = Secret::named("API key", file)?;
            // `id:key` as the server first told it; a colon is in no Base64.
            let key = if key.reveal().contains(':') { basic(key.reveal()) } else { key.reveal().to_owned() };
            format!("ApiKey {key}")
        }
        Login::Bearer(file) => format!("Bearer {}", Secret::named("token", file)?.reveal()),
    })))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn each_login_has_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let header = |of: Login| login(&of).unwrap().map(|secret| secret.reveal().to_owned());
        assert_eq!(header(Login::Nobody), None);
        assert_eq!(header(Login::User("foo".into(), file("p", "bar\n"))).as_deref(), Some("Basic Zm9vOmJhcg=="));
        assert_eq!(header(Login::ApiKey(file("k", "foo:bar\n"))).as_deref(), Some("ApiKey Zm9vOmJhcg=="));
        assert_eq!(header(Login::ApiKey(file("c", "Zm9vOmJhcg==\n"))).as_deref(), Some("ApiKey Zm9vOmJhcg=="));
        assert_eq!(header(Login::Bearer(file("b", "t.o.k\n"))).as_deref(), Some("Bearer t.o.k"));
        assert!(login(&Login::Bearer("/nowhere/b".into())).unwrap_err().starts_with("cannot read the token in /nowhere/b"));
    }
}
