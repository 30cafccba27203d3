//! Which endpoints no call may bring: where Switchback itself listens, since requests would go in circles or reach the admin
//! API from a place that it is not open to, and a link's own services. What the file on this machine declares is its
//! author's business.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    command::Command,
    declaration::Source,
    fixed,
    refusal::{AddressFault, FileFault, Refusal, Unknown},
};
use crate::{
    config::Config,
    discovery::screen,
    model::{endpoint_address::EndpointAddress, live_state::LiveState},
};

/// The addresses that are bound, as soon as they are; until then those that the file declares. Every clone is the same
/// one.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<RwLock<Option<Vec<SocketAddr>>>>);

impl OwnAddresses {
    /// Says which addresses are bound from now on.
    pub fn bound(&self, addresses: Vec<SocketAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
    }

    /// Refuses a command that would bring an endpoint which no call may bring, to what is in force now.
    pub fn check(&self, config: &Config, live: &LiveState, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::PutEndpoint { of, .. } => match of.address.parse::<EndpointAddress>() {
                // Whether a link's own address is declared, and what is no address at all, is seen to with the pool.
                Ok(address) if leads_back(&address, &self.all(config)) => Err(Refusal::Address {
                    address: of.address.chars().take(Unknown::MAX_ECHO).collect(),
                    fault: AddressFault::OurOwn,
                }),
                _ => Ok(()),
            },
            Command::Restore { live: then, .. } => self.check_restored(config, live, then),
            Command::Load { config: next, source: Source::Applied } => {
                let strange = self.faults(config, next);
                if strange.is_empty() {
                    return Ok(());
                }
                Err(Refusal::File(
                    fixed::faults(config, next, Source::Applied).into_iter().chain(strange).collect(),
                ))
            }
            _ => Ok(()),
        }
    }

    /// The endpoints that a file from outside of this machine may not bring in place of what is in force.
    pub fn faults(&self, now: &Config, next: &Config) -> Vec<FileFault> {
        let own = self.all(now);
        let brought = next.pools.iter().flat_map(|pool| {
            let endpoints = pool.endpoints.iter().enumerate();
            endpoints.map(move |(index, endpoint)| (&pool.name, index, &endpoint.address))
        });
        let strange = brought.filter(|(_, _, address)| !is_declared(now, address));
        let faults = strange.filter_map(|(pool, index, address)| {
            let fault = fault(address, &own)?;
            Some(FileFault {
                pointer: format!("/pool/{pool}/endpoints/{index}"),
                message: format!("{address}: {fault}"),
                help: "declare it in the file on the machine itself, if it is meant".into(),
            })
        });
        faults.collect()
    }

    /// What was taken once may lead back by now, or have been declared by a file that is not in force any more.
    fn check_restored(&self, config: &Config, live: &LiveState, then: &LiveState) -> Result<(), Refusal> {
        let own = self.all(config);
        let is_there = |address: &EndpointAddress| {
            let mut endpoints = live.pools.values().flat_map(|pool| &pool.endpoints);
            endpoints.any(|endpoint| endpoint.address == *address) || is_declared(config, address)
        };
        let brought = then.pools.values().flat_map(|pool| &pool.endpoints).map(|endpoint| &endpoint.address);
        let mut faults = brought.filter_map(|address| Some((address, fault(address, &own)?)));
        match faults.find(|(address, _)| !is_there(address)) {
            Some((address, fault)) => Err(Refusal::Address { address: address.to_string(), fault }),
            None => Ok(()),
        }
    }

    /// All of them.
    pub fn all(&self, config: &Config) -> Vec<SocketAddr> {
        if let Some(bound) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            return bound.clone();
        }
        declared(config)
    }
}

fn is_declared(config: &Config, address: &EndpointAddress) -> bool {
    config.pools.iter().flat_map(|pool| &pool.endpoints).any(|endpoint| endpoint.address == *address)
}

/// Why no call may bring an endpoint, if none may.
fn fault(address: &EndpointAddress, own: &[SocketAddr]) -> Option<AddressFault> {
    if leads_back(address, own) {
        return Some(AddressFault::OurOwn);
    }
    is_link_local(address).then_some(AddressFault::LinkLocal)
}

/// Whether an address belongs to one link alone: what is there is the machine's own services (a cloud's metadata, say), not
/// an application.
pub(super) fn is_link_local(address: &EndpointAddress) -> bool {
    address.socket().is_some_and(|address| screen::is_link_local(address.ip()))
}

/// Those that a file declares.
pub fn declared(config: &Config) -> Vec<SocketAddr> {
    let listeners = config.listeners.iter().map(|listener| listener.address);
    listeners.chain(fixed::admin_address(config)).chain(config.health).collect()
}

/// Whether a connection to an endpoint would come to one of our sockets. Of names only `localhost` is known to be this
/// machine; what the others stand for is looked at when they are resolved.
pub fn leads_back(endpoint: &EndpointAddress, own: &[SocketAddr]) -> bool {
    let address = match endpoint {
        EndpointAddress::Socket(address) => *address,
        EndpointAddress::Host { name, port } if matches!(&**name, "localhost" | "localhost.") => {
            (Ipv4Addr::LOCALHOST, *port).into()
        }
        EndpointAddress::Host { .. } | EndpointAddress::Service { .. } => return false,
    };
    screen::is_own(address, own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_ours_by_whichever_address_it_is_reached() {
        let own = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (bound, endpoint, same) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("127.0.0.1:80", "localhost:80", true),
            ("127.0.0.1:80", "localhost.:80", true),
            ("0.0.0.0:80", "127.0.0.9:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            // A documentation address (RFC 5737) is nobody's.
            ("0.0.0.0:80", "192.0.2.1:80", false),
            ("0.0.0.0:80", "app.internal:80", false),
        ] {
            let endpoint = endpoint.parse().unwrap();
            assert_eq!(leads_back(&endpoint, &[own(bound)]), same, "{bound} and {endpoint}");
        }
    }
}
