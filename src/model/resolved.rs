//! What the names of endpoints stand for at the moment.

use std::{collections::BTreeMap, net::SocketAddr};

use super::endpoint_address::EndpointAddress;

/// The addresses behind each name that has been resolved. An address that is no name stands for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved(BTreeMap<EndpointAddress, Vec<Target>>);

/// One address behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// The address.
    pub address: SocketAddr,
    /// Its share among the addresses of the name; 1 but for SRV records.
    pub weight: u32,
}

impl Resolved {
    /// Says what a name stands for from now on.
    pub fn set(&mut self, name: EndpointAddress, targets: Vec<Target>) {
        self.0.insert(name, targets);
    }

    /// Forgets the names that are not wanted any more.
    pub fn retain(&mut self, wanted: impl Fn(&EndpointAddress) -> bool) {
        self.0.retain(|name, _| wanted(name));
    }

    /// What an address stands for; nothing for a name that has never been resolved.
    pub fn targets(&self, address: &EndpointAddress) -> Vec<Target> {
        match address.socket() {
            Some(address) => vec![Target { address, weight: 1 }],
            None => self.0.get(address).cloned().unwrap_or_default(),
        }
    }
}
