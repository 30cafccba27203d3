//! The client of the admin API: which instance is called, with which token, and the calls themselves.

mod address;
mod exchange;
mod file;
mod guarded;
mod secure;
mod source;
mod stream;

use std::{path::PathBuf, time::Duration};

use address::Address;
pub use exchange::{ANSWER_WITHIN, Answer, Call, runtime};
use file::{ClientFileError, Place};
pub use guarded::Change;
use serde_json::Value;
use source::{Filed, Said, TlsFiles, Token};
pub use stream::{Follower, StreamEvent};

use super::{Failure, arguments::connection::Connection, output};

/// How long something may take that is only looked at in passing: the answer to the call itself must not wait for it.
const GLANCE_WITHIN: Duration = Duration::from_secs(2);

/// An instance that is called, and how its answers are shown.
#[derive(Clone)]
pub struct Client {
    address: Address,
    token: Option<String>,
    withheld: Option<&'static str>,
    tls: TlsFiles,
    /// Whether answers are shown as JSON.
    pub json: bool,
}

impl Client {
    /// Finds out who is called.
    pub fn of(connection: &Connection) -> Result<Self, Failure> {
        let Connection { admin, instance, token, tls, form } = connection;
        let files = TlsFiles { ca: tls.ca.clone(), own: tls.cert.clone().zip(tls.key.clone()) };
        let flags = Said { admin: admin.clone(), token: Token::of(token.clone()), tls: files };
        let token = Token::of(variable("SWITCHBACK_TOKEN")?);
        let environment = Said { admin: variable("SWITCHBACK_ADMIN")?, token, ..Said::default() };
        // Who says everything needs no file, and is not stopped by a wrong one.
        let file = if flags.admin.is_some() && flags.token.is_some() {
            Filed::default()
        } else {
            let path = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
            match (Place::find(path), instance) {
                (Some(place), instance) => place.read(instance.as_deref())?,
                (None, None) => Filed::default(),
                (None, Some(_)) => return Err(ClientFileError::Missing.into()),
            }
        };
        let target = source::decide(flags, environment, file).map_err(Failure::Usage)?;
        let token = match target.token {
            None => None,
            Some(Token::Text(token)) => Some(token),
            Some(Token::File(path)) => Some(file::token(&path)?),
        };
        let source::Target { address, withheld, tls, .. } = target;
        Ok(Self { address, token, withheld, tls, json: form.json })
    }

    /// Reads something.
    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send(Call::get(path))
    }

    /// Reads something, and refuses whatever is no success.
    pub fn read(&self, path: &str) -> Result<Value, Failure> {
        self.success(self.get(path)?)
    }

    /// Reads something beside a call that is under way. What can't be had soon is not had.
    pub fn glance(&self, path: &str) -> Option<Value> {
        let answer = self.send(Call { within: GLANCE_WITHIN, ..Call::get(path) });
        answer.ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
    }

    /// The body of a success; a refusal becomes a failure that says all of it.
    pub fn success(&self, answer: Answer) -> Result<Value, Failure> {
        if (200..300).contains(&answer.status) {
            return Ok(answer.body);
        }
        let mut words = output::problem(answer.status, &answer.body);
        if answer.status == 401
            && let Some(place) = self.withheld
        {
            words.push_str(&format!(
                "\n(the token of {place} is for another instance, so it was not shown to {})",
                self.address
            ));
        }
        Err(Failure::Refused { words, problem: answer.body })
    }

    /// Refuses the answer of something else that speaks JSON at this address.
    pub fn expect(&self, is_ours: bool) -> Result<(), Failure> {
        if is_ours {
            return Ok(());
        }
        Err(Failure::Failed(format!(
            "what answers at {} is not the admin API of a Switchback of this version\n\
             (--admin or SWITCHBACK_ADMIN says where its admin API is)",
            self.address
        )))
    }

    /// Nobody answers.
    fn unreachable(&self, why: &str) -> Failure {
        Failure::NotReachable(format!(
            "no Switchback answers at {}: {why}\n(--admin or SWITCHBACK_ADMIN says where its admin API is)",
            self.address
        ))
    }
}

impl From<ClientFileError> for Failure {
    fn from(error: ClientFileError) -> Self {
        match error {
            ClientFileError::NoInstance { .. } | ClientFileError::Missing => Self::Usage(error.to_string()),
            ClientFileError::Io { .. } | ClientFileError::Wrong { .. } => Self::Failed(error.to_string()),
        }
    }
}

/// A variable of the environment; an empty one is none.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var_os(name).filter(|value| !value.is_empty()) {
        None => Ok(None),
        Some(value) => {
            let value = value.into_string().map(Some);
            value.map_err(|_| Failure::Usage(format!("{name} is not valid UTF-8")))
        }
    }
}

/// How long a wait may take in all: the wait itself and its answer.
pub fn within(wait: Option<Duration>) -> Duration {
    ANSWER_WITHIN + wait.unwrap_or_default()
}
