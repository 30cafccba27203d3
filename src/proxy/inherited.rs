//! Listening sockets that come from another process, and go to one.
//!
//! Invariant: a socket that is handed on stays the very same, with the connections that the kernel holds for it. It is
//! never closed and opened anew, which would reset them.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use socket2::Socket;

use crate::{config::Listener, upstream::way::keep_alive};

/// The listening sockets of one listener, as another process has opened them.
#[derive(Debug)]
pub struct Inherited {
    /// The listener's name, as far as it was given one.
    pub name: Option<String>,
    /// The address that the file of the other process had for it; `None` if that was no Switchback.
    pub declared: Option<SocketAddr>,
    /// The sockets, one at least.
    pub sockets: Vec<TcpListener>,
}

impl Inherited {
    /// Whether they are a listener's. What another Switchback listened on is known by its address, so that one that moves
    /// to another address moves; what a service manager has opened, by the name that its unit gives it before all.
    pub fn is_for(&self, settings: &Listener) -> bool {
        let is_named = self.name.as_deref() == Some(settings.name.as_str());
        match self.declared {
            Some(declared) => declared == settings.address && (declared.port() != 0 || is_named),
            None => is_named || self.address().is_some_and(|address| address == settings.address),
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.sockets.first()?.local_addr().ok()
    }

    /// Takes a listener's sockets out of those that were inherited, ready to be accepted on.
    pub(super) fn take(all: &mut Vec<Self>, settings: &Listener) -> io::Result<Option<Vec<Socket>>> {
        let Some(at) = all.iter().position(|inherited| inherited.is_for(settings)) else { return Ok(None) };
        let sockets: Vec<Socket> = all.swap_remove(at).sockets.into_iter().map(Socket::from).collect();
        for socket in &sockets {
            socket.set_nonblocking(true)?;
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_keepalive(&keep_alive())?;
        }
        Ok(Some(sockets))
    }
}

/// A second hold on the sockets of a listener, for a successor. As long as one is there the kernel goes on to take
/// connections for it.
#[derive(Debug)]
pub(super) struct Hold {
    name: String,
    declared: SocketAddr,
    sockets: Vec<Socket>,
}

impl Hold {
    pub(super) fn on(settings: &Listener, sockets: &[Socket]) -> io::Result<Self> {
        let sockets = sockets.iter().map(Socket::try_clone).collect::<Result<_, _>>()?;
        Ok(Self { name: settings.name.to_string(), declared: settings.address, sockets })
    }

    /// What a successor is given.
    pub(super) fn offer(&self) -> io::Result<Offer> {
        let sockets = self.sockets.iter().map(|socket| Ok(socket.try_clone()?.into()));
        Ok(Offer {
            name: self.name.clone(),
            declared: self.declared,
            sockets: sockets.collect::<io::Result<_>>()?,
        })
    }
}

/// The sockets of a listener, to be given to a successor.
#[derive(Debug)]
pub struct Offer {
    /// The listener.
    pub name: String,
    /// The address that the file has for it.
    pub declared: SocketAddr,
    /// Its sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Shares sockets out to workers, whose number may be another one than when they were opened: each is accepted on, and
/// each worker has one.
pub(super) fn share_out(sockets: Vec<Socket>, workers: usize) -> io::Result<Vec<Vec<Socket>>> {
    let mut shares: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    for worker in sockets.len()..workers {
        shares[worker].push(sockets[worker % sockets.len()].try_clone()?);
    }
    for (number, socket) in sockets.into_iter().enumerate() {
        shares[number % workers].push(socket);
    }
    Ok(shares)
}

/// The address that the sockets of a listener are bound to.
pub(super) fn address(sockets: &[Socket]) -> io::Result<SocketAddr> {
    let first = sockets.first().ok_or(io::ErrorKind::NotFound)?;
    first.local_addr()?.as_socket().ok_or_else(|| io::Error::other("it is no TCP socket"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sockets(count: usize) -> Vec<TcpListener> {
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect()
    }

    fn ports(share: &[Socket]) -> Vec<u16> {
        share.iter().map(|socket| socket.local_addr().unwrap().as_socket().unwrap().port()).collect()
    }

    #[test]
    fn every_socket_is_accepted_on_and_every_worker_has_one() {
        for (count, workers) in [(1, 1), (1, 4), (2, 4), (3, 4), (4, 3), (5, 1), (4, 4)] {
            let sockets: Vec<Socket> = sockets(count).into_iter().map(Socket::from).collect();
            let mut all = ports(&sockets);
            let shares = share_out(sockets, workers).unwrap();
            assert_eq!(shares.len(), workers);
            assert!(shares.iter().all(|share| !share.is_empty()), "{count} for {workers}");
            let mut shared: Vec<_> = shares.iter().flat_map(|share| ports(share)).collect();
            shared.sort_unstable();
            shared.dedup();
            all.sort_unstable();
            assert_eq!(shared, all, "{count} for {workers}");
        }
    }

    #[test]
    fn sockets_are_known_by_their_address_and_those_of_a_service_manager_by_name() {
        let text = "[[listener]]\nname = \"web\"\nlisten = \"127.0.0.1:8080\"\n\
                    [[listener]]\nname = \"any\"\nlisten = \"127.0.0.1:0\"\n\
                    [pool.app]\nendpoints = []\n[[route]]\nname = \"all\"\npool = \"app\"\n";
        let config = crate::config::parse("test.toml", text).unwrap().0;
        let [web, any] = &config.listeners[..] else { unreachable!("two were declared") };
        let inherited = |name: Option<&str>, declared: Option<&str>| Inherited {
            name: name.map(str::to_owned),
            declared: declared.map(|address| address.parse().unwrap()),
            sockets: sockets(1),
        };
        for (name, declared, is_web, is_any) in [
            (Some("web"), Some("127.0.0.1:8080"), true, false),
            (Some("old name"), Some("127.0.0.1:8080"), true, false),
            (Some("web"), Some("127.0.0.1:8081"), false, false),
            (Some("any"), Some("127.0.0.1:0"), false, true),
            (Some("web"), Some("127.0.0.1:0"), false, false),
            (Some("web"), None, true, false),
            (Some("any"), None, false, true),
            (None, None, false, false),
        ] {
            let inherited = inherited(name, declared);
            assert_eq!(
                (inherited.is_for(web), inherited.is_for(any)),
                (is_web, is_any),
                "{name:?} {declared:?}"
            );
        }
        let mut all = vec![Inherited { name: None, declared: None, sockets: sockets(2) }];
        let address = all[0].address().unwrap();
        let moved = Listener { address, ..Listener::clone(web) };
        assert!(Inherited::take(&mut all, web).unwrap().is_none());
        assert_eq!(Inherited::take(&mut all, &moved).unwrap().map(|sockets| sockets.len()), Some(2));
        assert!(all.is_empty());
    }
}
