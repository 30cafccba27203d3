//! Where an endpoint is, as it is declared.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

/// Where an endpoint is: an address, or a name that is resolved again and again. Its text is its identity in the file
/// and in the admin API: `127.0.0.1:9001`, `app.internal:8080`, `srv:_http._tcp.app.internal`.
///
/// A last dot belongs to a name: `app.internal.` is asked for as it is, `app.internal` perhaps within the domains of the
/// search list first. The two may stand for different addresses, so they are two names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// One socket address; an IPv4 address in IPv6's clothes is the IPv4 address.
    Socket(SocketAddr),
    /// All A and AAAA records of a host name, with this port.
    Host {
        /// The name, in lower case; with a last dot if it is absolute.
        name: Box<str>,
        /// The port.
        port: u16,
    },
    /// The targets of an SRV record (RFC 2782): their ports, and their weights within the lowest priority.
    Service {
        /// The name, in lower case; with a last dot if it is absolute.
        name: Box<str>,
    },
}

/// What marks the name of an SRV record.
const SERVICE: &str = "srv:";

/// Why a text is no address of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpointAddress {
    /// There is no port, or no port from 1 to 65535.
    #[error("an endpoint needs a port from 1 to 65535")]
    Port,
    /// The host is neither an IP address nor a host name (RFC 1123 2.1).
    #[error("this is neither an IP address nor a host name")]
    Host,
    /// No machine can be at the address.
    #[error("{0}")]
    Nowhere(Nowhere),
}

/// Why no machine can be at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Nowhere {
    /// It means every address of this machine.
    #[error("this address means every address of this machine; an endpoint needs one")]
    Unspecified,
    /// It is one of 0.0.0.0/8 (RFC 1122 3.2.1.3).
    #[error("an address of 0.0.0.0/8 means no machine")]
    ThisNetwork,
    /// It means every machine.
    #[error("the broadcast address takes no connections")]
    Broadcast,
    /// It is one of a group.
    #[error("a multicast address takes no connections")]
    Multicast,
}

impl Nowhere {
    /// Why no machine can be at an address, which is in its plain form ([`IpAddr::to_canonical`]).
    pub fn of(plain: IpAddr) -> Option<Self> {
        match plain {
            ip if ip.is_unspecified() => Some(Self::Unspecified),
            IpAddr::V4(ip) if ip.octets()[0] == 0 => Some(Self::ThisNetwork),
            IpAddr::V4(Ipv4Addr::BROADCAST) => Some(Self::Broadcast),
            ip if ip.is_multicast() => Some(Self::Multicast),
            _ => None,
        }
    }
}

impl EndpointAddress {
    /// The one socket address that it is, if it needs no resolving.
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Host { .. } | Self::Service { .. } => None,
        }
    }
}

impl FromStr for EndpointAddress {
    type Err = InvalidEndpointAddress;

    fn from_str(text: &str) -> Result<Self, InvalidEndpointAddress> {
        if let Some(name) = text.strip_prefix(SERVICE) {
            let name = host_name(name, true).ok_or(InvalidEndpointAddress::Host)?;
            return Ok(Self::Service { name });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            let address = plain(address);
            return match Nowhere::of(address.ip()) {
                _ if address.port() == 0 => Err(InvalidEndpointAddress::Port),
                Some(why) => Err(InvalidEndpointAddress::Nowhere(why)),
                None => Ok(Self::Socket(address)),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(InvalidEndpointAddress::Port)?;
        let all_digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| *port > 0 && all_digits);
        let port = port.ok_or(InvalidEndpointAddress::Port)?;
        let name = host_name(host, false).ok_or(InvalidEndpointAddress::Host)?;
        Ok(Self::Host { name, port })
    }
}

/// An address in its one form. A scope of IPv6 stays.
fn plain(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        IpAddr::V6(_) => address,
    }
}

/// A host name in lower case, perhaps with a last dot. Its labels are of letters, digits and inner hyphens; those of a
/// service may begin with an underscore. A last label of digits alone would be a malformed IPv4 address.
fn host_name(text: &str, may_underscore: bool) -> Option<Box<str>> {
    let full = text.to_ascii_lowercase();
    let name = full.strip_suffix('.').unwrap_or(&full);
    let is_label = |label: &str| {
        let bare = if may_underscore { label.strip_prefix('_').unwrap_or(label) } else { label };
        (1..=63).contains(&label.len())
            && !bare.is_empty()
            && bare.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !bare.starts_with('-')
            && !bare.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next()?.bytes().all(|byte| byte.is_ascii_digit());
    (name.len() <= 253 && name.split('.').all(is_label) && !last_is_number).then(|| full.as_str().into())
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Service { name } => write!(f, "{SERVICE}{name}"),
        }
    }
}

impl serde::Serialize for EndpointAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for EndpointAddress {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(plain(address))
    }
}

impl schemars::JsonSchema for EndpointAddress {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EndpointAddress".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "examples": ["127.0.0.1:9001", "app.internal:8080"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_reads_back_in_its_one_form() {
        for (text, form) in [
            ("127.0.0.1:9001", "127.0.0.1:9001"),
            ("[::1]:80", "[::1]:80"),
            ("[::ffff:127.0.0.1]:80", "127.0.0.1:80"),
            ("[::FFFF:7f00:1]:80", "127.0.0.1:80"),
            ("[0:0::1]:080", "[::1]:80"),
            ("App.Internal:8080", "app.internal:8080"),
            ("App.Internal.:8080", "app.internal.:8080"),
            ("localhost:1", "localhost:1"),
            ("srv:_http._tcp.App", "srv:_http._tcp.app"),
            ("srv:_http._tcp.App.", "srv:_http._tcp.app."),
        ] {
            let address: EndpointAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), form);
            assert_eq!(form.parse(), Ok(address));
        }
    }

    #[test]
    fn what_nothing_can_be_reached_at_is_refused() {
        use InvalidEndpointAddress::{Host, Port};
        let [unspecified, this_network, broadcast, multicast] =
            [Nowhere::Unspecified, Nowhere::ThisNetwork, Nowhere::Broadcast, Nowhere::Multicast]
                .map(InvalidEndpointAddress::Nowhere);
        for (text, error) in [
            ("127.0.0.1", Port),
            ("127.0.0.1:0", Port),
            ("app:", Port),
            ("app:+1", Port),
            ("app:65536", Port),
            ("0.0.0.0:80", unspecified),
            ("[::]:80", unspecified),
            ("[::ffff:0.0.0.0]:80", unspecified),
            ("0.0.0.1:80", this_network),
            ("[::ffff:0.1.2.3]:80", this_network),
            ("255.255.255.255:80", broadcast),
            ("[::ffff:255.255.255.255]:80", broadcast),
            ("224.0.0.1:80", multicast),
            ("[ff02::1]:80", multicast),
            ("[::ffff:224.0.0.1]:80", multicast),
            ("[::ffff:127.0.0.1]:0", Port),
            ("256.0.0.1:80", Host),
            ("1.2.3:80", Host),
            (":80", Host),
            ("a_b:80", Host),
            ("-a:80", Host),
            ("a..b:80", Host),
            ("a..:80", Host),
            (".:80", Host),
            ("1.2.3.4.:80", Host),
            ("srv:.", Host),
            ("http://a:80", Host),
            ("srv:", Host),
        ] {
            assert_eq!(text.parse::<EndpointAddress>(), Err(error), "{text}");
        }
        assert_eq!(format!("{}:80", "a".repeat(64)).parse::<EndpointAddress>(), Err(Host));
    }
}
