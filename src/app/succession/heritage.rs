//! What a process starts with that it has not made itself: sockets that are open already, and what a predecessor knew.
//!
//! Invariant: knowledge that can't be read is no reason to fail. It is found out anew, as it is by every other start.

use std::{io, os::fd::OwnedFd};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::past::Past;
use crate::{
    admin::socket::Giver,
    control::{pin_keys::PassingKey, taken::Passed},
    health,
    proxy::{Inherited, Offer},
    tls,
};

/// The role of the data plane's sockets.
const LISTENER: &str = "listener";
/// The role of the admin API's socket.
pub(in crate::app) const ADMIN: &str = "admin";
/// The role of the socket for probes and scrapers.
pub(in crate::app) const HEALTH: &str = "health";

/// A socket of the control plane.
#[derive(Debug)]
pub struct Door {
    /// What it is for.
    pub(in crate::app) role: &'static str,
    /// The address that the file of the other process had for it; `None` if that was no Switchback.
    pub(in crate::app) declared: Option<String>,
    /// Who has opened it first.
    pub(in crate::app) giver: Giver,
    /// The socket, listening.
    pub(in crate::app) socket: OwnedFd,
}

/// What a process starts with that it has not made itself.
#[derive(Debug, Default)]
pub struct Heritage {
    /// Sockets of the data plane.
    pub(in crate::app) listeners: Vec<Inherited>,
    /// Sockets of the control plane.
    pub(in crate::app) doors: Vec<Door>,
    /// What the predecessor knew.
    pub(in crate::app) memory: Memory,
    /// Whether there is a predecessor, which has given the store up for this process.
    pub(in crate::app) is_succession: bool,
}

/// What a predecessor knew.
#[derive(Debug, Default)]
pub struct Memory {
    /// What it knew of endpoints.
    pub(in crate::app) health: health::memory::Memory,
    /// The key of its pins, if no file names any.
    pub(in crate::app) pin_key: Option<PassingKey>,
    /// What it made the keys of session tickets from.
    pub(in crate::app) ticket_secret: Option<tls::Secret>,
    /// What the pools of its splits had taken.
    pub(in crate::app) taken: Passed,
    /// What its store held.
    pub(in crate::app) past: Past,
}

/// Sockets that are handed over together.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    role: String,
    #[serde(default)]
    name: String,
    /// The address that the file has for them.
    declared: String,
    /// How many there are.
    count: usize,
    /// Whether a service manager has opened them, and keeps them when no process serves.
    #[serde(default)]
    is_of_service_manager: bool,
}

impl Heritage {
    /// What the messages of a predecessor come to. Sockets of a role that this version does not know are closed.
    pub(super) fn read(entries: Vec<Entry>, sockets: Vec<OwnedFd>, memory: Value) -> io::Result<Self> {
        let mut heritage =
            Self { memory: Memory::from_value(memory), is_succession: true, ..Self::default() };
        let mut sockets = sockets.into_iter();
        for Entry { role, name, declared, count, is_of_service_manager } in entries {
            let own: Vec<OwnedFd> = sockets.by_ref().take(count).collect();
            if own.len() < count || own.is_empty() {
                return Err(io::Error::other("the predecessor gave fewer sockets than it said"));
            }
            match role.as_str() {
                LISTENER => heritage.listeners.push(Inherited {
                    name: Some(name),
                    declared: declared.parse().ok(),
                    sockets: own.into_iter().map(Into::into).collect(),
                }),
                ADMIN | HEALTH => {
                    let role = if role == ADMIN { ADMIN } else { HEALTH };
                    let giver = match is_of_service_manager {
                        true => Giver::ServiceManager,
                        false => Giver::Predecessor,
                    };
                    let door = |socket| Door { role, declared: Some(declared.clone()), giver, socket };
                    heritage.doors.extend(own.into_iter().map(door));
                }
                role => tracing::warn!(role, "sockets of an unknown role were handed over, and are closed"),
            }
        }
        Ok(heritage)
    }

    /// The socket of a role, if it is the one that the file names.
    pub(in crate::app) fn take_door(&mut self, role: &str, declared: &str) -> Option<Door> {
        let is_it = |door: &Door| {
            door.role == role && door.declared.as_deref().is_none_or(|address| address == declared)
        };
        let place = self.doors.iter().position(is_it)?;
        Some(self.doors.swap_remove(place))
    }
}

/// What is handed over: the entries, and the sockets of all of them in order.
pub(super) fn offered(listeners: Vec<Offer>, doors: Vec<Door>) -> (Vec<Entry>, Vec<OwnedFd>) {
    let mut sockets = Vec::new();
    let mut entries = Vec::new();
    for Offer { name, declared, sockets: own } in listeners {
        entries.push(Entry {
            role: LISTENER.to_owned(),
            name,
            declared: declared.to_string(),
            count: own.len(),
            is_of_service_manager: false,
        });
        sockets.extend(own);
    }
    for Door { role, declared, giver, socket } in doors {
        let is_of_service_manager = giver == Giver::ServiceManager;
        let (role, declared) = (role.to_owned(), declared.unwrap_or_default());
        entries.push(Entry { role, name: String::new(), declared, count: 1, is_of_service_manager });
        sockets.push(socket);
    }
    (entries, sockets)
}

impl Entry {
    pub(super) fn count(&self) -> usize {
        self.count
    }
}

impl Memory {
    pub(super) fn to_value(&self) -> Value {
        json!({
            "health": self.health,
            "pin_key": self.pin_key.as_ref().map(PassingKey::to_text),
            "ticket_secret": self.ticket_secret.as_ref().map(tls::Secret::to_text),
            "taken": self.taken,
            "past": self.past,
        })
    }

    fn from_value(mut value: Value) -> Self {
        fn part<T: DeserializeOwned + Default>(value: &mut Value, name: &str) -> T {
            let Some(part) = value.get_mut(name).map(Value::take).filter(|part| !part.is_null()) else {
                return T::default();
            };
            serde_json::from_value(part).unwrap_or_else(|error| {
                // The error may repeat what it has read.
                tracing::warn!(
                    part = name,
                    line = error.line(),
                    "a part of what the predecessor knew can't be read"
                );
                T::default()
            })
        }
        let pin_key = part::<String>(&mut value, "pin_key");
        let ticket_secret = part::<String>(&mut value, "ticket_secret");
        Self {
            health: part(&mut value, "health"),
            pin_key: PassingKey::from_text(&pin_key),
            ticket_secret: tls::Secret::from_text(&ticket_secret),
            taken: part(&mut value, "taken"),
            past: part(&mut value, "past"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_that_can_t_be_read_spoils_no_other() {
        let memory = Memory::from_value(json!({
            "health": { "blue": { "127.0.0.1:1": { "warming_for": { "secs": 3, "nanos": 0 }, "later": 1 } } },
            "pin_key": 7,
            "past": [["nonsense"]],
            "of a later version": {},
        }));
        assert_eq!(memory.health.len(), 1);
        assert!(memory.pin_key.is_none() && memory.past.revisions.is_empty());
        for nonsense in [json!(null), json!([1]), json!("x")] {
            assert!(Memory::from_value(nonsense).health.is_empty());
        }
    }

    #[test]
    fn sockets_that_are_missing_are_an_error_and_unknown_roles_are_not() {
        let socket = || OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap());
        let entry = |role: &str, count| Entry {
            role: role.into(),
            name: "web".into(),
            declared: "127.0.0.1:80".into(),
            count,
            is_of_service_manager: false,
        };
        let read = |entries, sockets| Heritage::read(entries, sockets, Value::Null);
        let mut heritage = read(
            vec![entry("later", 1), entry(LISTENER, 2), entry(ADMIN, 1)],
            (0..4).map(|_| socket()).collect(),
        )
        .unwrap();
        assert_eq!(heritage.listeners[0].sockets.len(), 2);
        assert!(
            heritage.take_door(ADMIN, "127.0.0.1:80").is_some()
                && heritage.take_door(ADMIN, "127.0.0.1:80").is_none()
        );
        assert!(read(vec![entry(LISTENER, 2)], vec![socket()]).is_err());
        assert!(read(vec![entry(LISTENER, 0)], vec![socket()]).is_err());
    }
}
