//! Where the control plane is reached: the admin API's socket, and that of probes and scrapers.
//!
//! Invariant: a socket that was opened before is used as it is, if the file still names its address; it is not closed and
//! opened anew.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use anyhow::Context;

use super::succession::heritage::{ADMIN, Door, HEALTH, Heritage};
use crate::{
    admin::socket::{Bound, Giver, Socket},
    config::{AdminAddress, Config},
};

/// The sockets, listening, that nobody serves yet.
#[derive(Debug)]
pub(super) struct Doors {
    pub(super) admin: Option<Socket>,
    pub(super) probes: Option<TcpListener>,
}

/// The same sockets once more, for a successor. As long as they are held the kernel takes connections for them.
#[derive(Debug)]
pub(super) struct Held(Mutex<Vec<Door>>);

impl Doors {
    /// Listens at the addresses that the file names.
    pub(super) fn open(config: &Config, heritage: &mut Heritage) -> anyhow::Result<Self> {
        let admin = config.admin.as_ref().map(|address| admin(address, heritage)).transpose()?;
        let probes = config.health.map(|address| probes(address, heritage)).transpose()?;
        if let Some(path) = admin.as_ref().and_then(Socket::open_to_all)
            && config.tokens.is_none()
        {
            tracing::warn!(
                path = %path.display(),
                "every user of this machine may call the admin API by this socket, and run programs by it: give it the \
                 mode 0600 (SocketMode= of its unit), or name [admin] tokens"
            );
        }
        Ok(Self { admin, probes })
    }

    /// Where the admin API is reached, and where probes and scrapers are served.
    pub(super) fn bound(&self) -> io::Result<(Option<Bound>, Option<SocketAddr>)> {
        let admin = self.admin.as_ref().map(Socket::bound).transpose()?;
        Ok((admin, self.probes.as_ref().map(TcpListener::local_addr).transpose()?))
    }

    /// Holds them for a successor.
    pub(super) fn hold(&self, config: &Config) -> io::Result<Held> {
        let mut held = Vec::new();
        if let (Some(address), Some(socket)) = (&config.admin, &self.admin) {
            let giver = match socket.is_of_service_manager() {
                true => Giver::ServiceManager,
                false => Giver::Predecessor,
            };
            held.push(Door { role: ADMIN, declared: Some(declared(address)), giver, socket: socket.hold()? });
        }
        if let (Some(address), Some(socket)) = (&config.health, &self.probes) {
            let socket = socket.try_clone()?.into();
            let (declared, giver) = (Some(address.to_string()), Giver::Predecessor);
            held.push(Door { role: HEALTH, declared, giver, socket });
        }
        Ok(Held(Mutex::new(held)))
    }
}

impl Held {
    /// What a successor is given.
    pub(super) fn offer(&self) -> io::Result<Vec<Door>> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let offer = |door: &Door| {
            let Door { role, declared, giver, socket } = door;
            Ok(Door { role, declared: declared.clone(), giver: *giver, socket: socket.try_clone()? })
        };
        held.iter().map(offer).collect()
    }

    /// A successor has them.
    pub(super) fn let_go(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

fn admin(address: &AdminAddress, heritage: &mut Heritage) -> anyhow::Result<Socket> {
    if let Some(Door { socket, giver, .. }) = heritage.take_door(ADMIN, &declared(address)) {
        let path = match address {
            AdminAddress::Tcp(_) => None,
            AdminAddress::Unix(path) => Some(path.as_path()),
        };
        return Socket::inherited(socket, path, giver)
            .with_context(|| format!("the admin API's socket that was handed over ({})", declared(address)));
    }
    Ok(match address {
        AdminAddress::Tcp(address) => Socket::tcp(*address)?,
        AdminAddress::Unix(path) => Socket::unix(path)?,
    })
}

/// Listens for probes and scrapers.
fn probes(address: SocketAddr, heritage: &mut Heritage) -> anyhow::Result<TcpListener> {
    let inherited: Option<OwnedFd> = heritage.take_door(HEALTH, &address.to_string()).map(|door| door.socket);
    let listen = || {
        let listener = match inherited {
            Some(socket) => TcpListener::from(socket),
            None => TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    listen().with_context(|| format!("the address of [health] can't listen on {address}"))
}

/// The address of the admin API as the file has it.
fn declared(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}
