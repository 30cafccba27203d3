//! Where Switchback itself listens: an endpoint there would send requests in circles.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, RwLock},
};

use super::{
    command::Command,
    fixed,
    refusal::{AddressFault, Refusal, Unknown},
};
use crate::{config::Config, discovery::screen, model::endpoint_address::EndpointAddress};

/// The addresses that are bound, as soon as they are; until then those that the file declares. Every clone is the same
/// one.
#[derive(Debug, Clone, Default)]
pub struct OwnAddresses(Arc<RwLock<Option<Vec<SocketAddr>>>>);

impl OwnAddresses {
    /// Says which addresses are bound from now on.
    pub fn bound(&self, addresses: Vec<SocketAddr>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(addresses);
    }

    /// Refuses to add an endpoint that is one of them.
    pub fn check(&self, config: &Config, command: &Command) -> Result<(), Refusal> {
        let Command::PutEndpoint { of, .. } = command else { return Ok(()) };
        let Ok(address) = of.address.parse::<EndpointAddress>() else { return Ok(()) };
        if !leads_back(&address, &self.all(config)) {
            return Ok(());
        }
        let address = of.address.chars().take(Unknown::MAX_ECHO).collect();
        Err(Refusal::Address { address, fault: AddressFault::OurOwn })
    }

    /// All of them.
    pub fn all(&self, config: &Config) -> Vec<SocketAddr> {
        if let Some(bound) = &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            return bound.clone();
        }
        declared(config)
    }
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
