//! Commands of a writer: many in one pipeline, each with an answer of its own.
//!
//! Refuses to decide: what an error means, and what is sent again, is the caller's business.

use redis::{AsyncConnectionConfig, RedisError, RedisResult, Value, aio::MultiplexedConnection};

use super::{SAID_CHARS, Settings, client, find};

/// One command: its name and arguments, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command(pub Vec<Vec<u8>>);

impl Command {
    /// From words and bytes.
    pub fn of(words: &[&[u8]]) -> Self {
        Self(words.iter().map(|word| word.to_vec()).collect())
    }
}

/// What Redis says against a command: `WRONGTYPE`, and the rest of its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: String,
    pub text: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The connection cannot be made, was lost, or is silent for too long.
    Away(String),
    /// Redis itself refuses the connection.
    Refused(Refusal),
    /// A file that is needed cannot be read.
    Settings(String),
}

/// One connection, on which commands are pipelined.
pub struct Connection {
    inner: MultiplexedConnection,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl Connection {
    /// Connects and logs in. The CA and the password are read anew each time, and sentinels or nodes of a cluster are
    /// asked anew.
    ///
    /// # Errors
    /// Why it cannot.
    pub async fn open(settings: &Settings) -> Result<Self, NoAnswer> {
        match find::server(settings).await? {
            Some((connection, _)) => Ok(connection),
            None => Self::direct(settings).await,
        }
    }

    /// Connects to the server that the settings name.
    pub(super) async fn direct(settings: &Settings) -> Result<Self, NoAnswer> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.connect_timeout))
            .set_response_timeout(Some(settings.timeout));
        let client = client(settings).map_err(NoAnswer::Settings)?;
        let made = client.get_multiplexed_async_connection_with_config(&config).await;
        Ok(Self { inner: made.map_err(|error| no_answer(&error))? })
    }

    /// Sends commands in one pipeline; gives an answer to each, in their order.
    ///
    /// # Errors
    /// If the connection is lost or silent: some may have been done.
    pub async fn send(&mut self, commands: &[Command]) -> Result<Vec<Result<Answer, Refusal>>, NoAnswer> {
        let mut pipe = redis::pipe();
        for Command(words) in commands {
            let mut words = words.iter();
            let Some(name) = words.next() else { continue };
            let mut cmd = redis::Cmd::new();
            cmd.arg(name);
            words.for_each(|word| {
                cmd.arg(word);
            });
            pipe.add_command(cmd);
        }
        let answers = pipe.ignore_errors().query_async::<Vec<RedisResult<Value>>>(&mut self.inner).await.map_err(|e| no_answer(&e))?;
        if answers.len() != commands.len() {
            return Err(NoAnswer::Away(format!("{} answers to {} commands", answers.len(), commands.len())));
        }
        let mut told = Vec::with_capacity(answers.len());
        for answer in answers {
            told.push(match answer {
                Ok(Value::ServerError(error)) => Err(refusal(&error.into())),
                Ok(value) => Ok(Answer::of(&value)),
                Err(error) if super::is_an_answer(&error) => Err(refusal(&error)),
                Err(error) => return Err(no_answer(&error)),
            });
        }
        Ok(told)
    }
}

/// An answer, as far as anybody looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Number(i64),
    Text(String),
    List(Vec<Answer>),
    Nil,
    Other,
}

impl Answer {
    /// The text; `None` for anything else.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
    /// The parts of a list; none for anything else.
    pub fn parts(&self) -> &[Answer] {
        match self {
            Self::List(parts) => parts,
            _ => &[],
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Int(n) => Self::Number(*n),
            Value::SimpleString(text) => Self::Text(text.clone()),
            Value::BulkString(bytes) => Self::Text(String::from_utf8_lossy(bytes).into_owned()),
            Value::Okay => Self::Text("OK".into()),
            Value::Array(parts) => Self::List(parts.iter().map(Self::of).collect()),
            Value::Nil => Self::Nil,
            _ => Self::Other,
        }
    }
}

fn no_answer(error: &RedisError) -> NoAnswer {
    if super::is_an_answer(error) || error.kind() == redis::ErrorKind::AuthenticationFailed {
        return NoAnswer::Refused(refusal(error));
    }
    let what = if error.is_timeout() { "it does not answer in time".to_owned() } else { said(error) };
    NoAnswer::Away(what)
}

fn refusal(error: &RedisError) -> Refusal {
    // The client has words of its own for a login that is refused, and gives no code.
    let is_login = error.kind() == redis::ErrorKind::AuthenticationFailed;
    Refusal { code: error.code().unwrap_or(if is_login { "WRONGPASS" } else { "ERR" }).to_owned(), text: said(error) }
}

fn said(error: &RedisError) -> String {
    error.to_string().chars().take(SAID_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
