//! Requests to the server: who we are, and what it answers. The password is read for each login and never kept or shown.

use super::{
    answer::{self, Page},
    fates::{Asked, Trouble, judge},
    settings::Settings,
    token::life,
};
use crate::{
    clock::Nanos,
    net::{
        base64,
        http::{Call, Client},
        secret::Secret,
    },
};

/// What is asked of each agent: in all of 4.x, and in 5.0.
const SELECT: &str = "id,name,ip,status,lastKeepAlive,version,os.platform,os.name,os.version,group,node_name";

/// An open way to the server.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    /// How the server is called in texts.
    pub place: String,
}

impl Session {
    /// Reads the CA; connects to nobody yet.
    ///
    /// # Errors
    /// [`Trouble::Wrong`], with the remedy.
    pub(super) fn open(settings: &Settings) -> Result<Self, Trouble> {
        let client = Client::new(&settings.http).map_err(|error| Trouble::Wrong(error.to_string()))?;
        Ok(Self { client, place: settings.http.base.clone() })
    }

    /// Logs in: a token, and how long it lives.
    ///
    /// - `now`: wall time.
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn login(&self, settings: &Settings, now: Nanos) -> Result<(Secret, Nanos), Trouble> {
        let password = settings.password.read("password").map_err(Trouble::Wrong)?;
        let pair = format!("{}:{}", settings.username, password.reveal());
        let basic = Secret::new(format!("Basic {}", base64::encode(pair.as_bytes())));
        let call = Call { path: "/security/user/authenticate".to_owned(), json: Some(Vec::new()) };
        let reply = self.client.call(call, &[("Authorization", &basic)]).await;
        let reply = match judge(reply, &self.place, Asked::Login, now) {
            Err(Trouble::TooLong) => return Err(self.strange("more than any token has")),
            reply => reply?,
        };
        let token = answer::token(&reply.body).map_err(|what| self.strange(what))?;
        let life = life(token.reveal());
        Ok((token, life))
    }

    /// Asks for a page of agents.
    ///
    /// # Errors
    /// As [`judge`].
    pub(super) async fn agents(&self, token: &Secret, offset: u64, limit: u64, now: Nanos) -> Result<Page, Trouble> {
        let bearer = Secret::new(format!("Bearer {}", token.reveal()));
        let path = format!("/agents?limit={limit}&offset={offset}&sort=%2Bid&select={SELECT}");
        let reply = self.client.call(Call { path, json: None }, &[("Authorization", &bearer)]).await;
        let reply = judge(reply, &self.place, Asked::Agents, now)?;
        answer::page(&reply.body).map_err(|what| self.strange(&what))
    }

    fn strange(&self, what: &str) -> Trouble {
        Trouble::Away(format!("{} answers with {what}; see url, and any proxy on the way", self.place))
    }
}
