//! Which addresses an answer may name.
//!
//! A zone is not always in the hands of who wrote the configuration. An answer must not send requests to where they
//! can't be meant to go: to every address, to a group of machines, or to the link's own addresses, among which clouds
//! keep the credentials of a machine (169.254.169.254). Loopback and private addresses are where applications are.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::model::endpoint_address::Nowhere;

/// The address in its plain form, if it can be an endpoint's: an IPv4 address in IPv6's clothes is the IPv4 address.
pub(super) fn screened(address: IpAddr) -> Result<IpAddr, Refused> {
    let plain = address.to_canonical();
    let refused = match Nowhere::of(plain) {
        Some(Nowhere::Unspecified | Nowhere::ThisNetwork) => Some("means no machine"),
        Some(Nowhere::Broadcast) => Some("means every machine"),
        Some(Nowhere::Multicast) => Some("is of a group"),
        None if is_link_local(plain) => Some("is a link's own"),
        None => None,
    };
    refused.map_or(Ok(plain), |why| Err(Refused { address, why }))
}

/// Whether an address belongs to one link alone.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Whether an address leads back to one that this process listens on. Requests would go round in a circle, or reach the
/// admin API from a place that it is not open to. What listens at every address is reached at each that this machine has.
pub fn is_own(address: SocketAddr, own: &[SocketAddr]) -> bool {
    let ip = address.ip().to_canonical();
    own.iter().any(|own| {
        own.port() == address.port()
            && (own.ip().to_canonical() == ip || own.ip().is_unspecified() && is_this_machine(ip))
    })
}

/// Whether an address is this machine's: only such a one can be bound.
fn is_this_machine(ip: IpAddr) -> bool {
    ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok()
}

/// An address that can't be an endpoint's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is left out: it {why}")]
pub(super) struct Refused {
    address: IpAddr,
    why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_back_is_known() {
        let own = ["127.0.0.1:9900", "0.0.0.0:8080"].map(|text| text.parse().unwrap());
        for (text, leads_back) in [
            ("127.0.0.1:9900", true),
            ("127.0.0.2:9900", false),
            ("127.0.0.1:9901", false),
            ("127.0.0.2:8080", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:9900", true),
            // A documentation address (RFC 5737) is nobody's.
            ("192.0.2.1:8080", false),
        ] {
            assert_eq!(is_own(text.parse().unwrap(), &own), leads_back, "{text}");
        }
        let every = ["[::]:8080".parse().unwrap()];
        assert!(is_own("127.0.0.1:8080".parse().unwrap(), &every));
    }

    #[test]
    fn an_address_of_this_machine_that_is_not_loopback_leads_back_too() {
        let own = ["0.0.0.0:8080".parse().unwrap()];
        // Where a packet to the documentation address would come from; none is sent. A machine may have no network.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        if socket.connect("192.0.2.1:9").is_ok() {
            let here = socket.local_addr().unwrap().ip();
            assert!(is_own(SocketAddr::new(here, 8080), &own), "{here}");
            assert!(!is_own(SocketAddr::new(here, 8081), &own), "{here}");
        }
    }

    #[test]
    fn what_no_endpoint_can_be_at_is_refused_in_either_form() {
        let bad = [
            "0.0.0.0",
            "0.1.2.3",
            "255.255.255.255",
            "224.0.0.1",
            "239.255.255.250",
            "169.254.169.254",
            "::",
            "ff02::1",
            "fe80::1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::ffff:224.0.0.1",
        ];
        for text in bad {
            assert!(screened(text.parse().unwrap()).is_err(), "{text}");
        }
        for (text, plain) in [
            ("127.0.0.1", "127.0.0.1"),
            ("10.0.0.1", "10.0.0.1"),
            ("203.0.113.9", "203.0.113.9"),
            ("::1", "::1"),
            ("fd00::1", "fd00::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(screened(text.parse().unwrap()), Ok(plain.parse().unwrap()));
        }
    }
}
