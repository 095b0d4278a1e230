//! Requests to one receiver: its URL, its secrets, its certificate. Read when it is opened, and
//! never shown.

use super::{
    form::{self, Alert, Form},
    settings::Settings,
    signature::signature,
    waiting::Item,
};
use crate::{
    batch::ORIGIN_HEADER,
    net::{
        http::{Client, HttpError, Post, Reply},
        secret::{Secret, SecretIn},
    },
};

/// An open way to a receiver. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    client: Client,
    /// Path and query.
    path: Secret,
    headers: Vec<(String, Secret)>,
    /// Name of the header, and key.
    signature: Option<(String, Secret)>,
    routing_key: Option<Secret>,
    content_type: String,
    form: Form,
    source: String,
    /// How the receiver is called in texts: without path, which may be a secret.
    pub base: String,
}

impl Session {
    /// Reads URL, secrets and CA; connects to nobody yet.
    ///
    /// # Errors
    /// What is missing or wrong, and the remedy.
    pub(super) fn open(settings: &Settings) -> Result<Self, String> {
        let target = settings.target()?;
        let read = |secret: &SecretIn, what: &str| secret.read(what);
        let mut headers = settings.headers.clone();
        for (name, secret) in &settings.secret_headers {
            headers.push((name.clone(), read(secret, &format!("value for header {name}"))?));
        }
        let signature = match &settings.signature {
            Some((header, key)) => Some((header.clone(), read(key, "signature key")?)),
            None => None,
        };
        let routing_key = settings.routing_key.as_ref().map(|key| read(key, "routing key")).transpose()?;
        let http = settings.http(target.base.clone());
        let client = Client::new(&http).map_err(|error| error.to_string())?;
        Ok(Self {
            client,
            path: target.path,
            headers,
            signature,
            routing_key,
            content_type: settings.content_type.clone(),
            form: settings.form,
            source: settings.source.clone(),
            base: target.base,
        })
    }

    /// The body of a request with these messages, each of which can be sent.
    pub(super) fn body(&self, items: &[Item]) -> Vec<u8> {
        let payloads = || items.iter().map(Item::payload);
        let alert = || payloads().next().and_then(|payload| Alert::parse(payload).ok());
        let first = || payloads().next().unwrap_or_default().to_vec();
        match self.form {
            Form::Json => first(),
            Form::Array => form::array(payloads()),
            Form::Ndjson => form::lines(payloads()),
            Form::PagerDuty => {
                let key = self.routing_key.as_ref().map_or("", Secret::reveal);
                alert().map_or_else(first, |alert| alert.to_pagerduty(key, &self.source))
            }
            Form::Slack => alert().map_or_else(first, |alert| alert.to_slack()),
        }
    }

    /// Headers of a request with this body. A message alone says where its record lies, so that a
    /// receiver can tell that it comes once more.
    pub(super) fn headers(&self, items: &[Item], body: &[u8]) -> Vec<(String, Secret)> {
        let mut headers = self.headers.clone();
        if let ([item], false) = (items, self.form.is_batch())
            && let Ok(origin) = std::str::from_utf8(item.origin())
            && !origin.is_empty()
        {
            headers.push((ORIGIN_HEADER.to_owned(), Secret::new(origin.to_owned())));
        }
        if let Some((name, key)) = &self.signature {
            headers.push((name.clone(), Secret::new(signature(key.reveal().as_bytes(), body))));
        }
        headers
    }

    /// Posts.
    ///
    /// # Errors
    /// Only where there is no answer.
    pub(super) async fn post(self, body: Vec<u8>, headers: Vec<(String, Secret)>) -> Result<Reply, HttpError> {
        self.client.post(Post { path: &self.path, content_type: &self.content_type, body, headers: &headers }).await
    }
}
