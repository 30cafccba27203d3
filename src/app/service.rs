//! What a service manager is told (sd_notify(3)) and what sockets it gives (sd_listen_fds(3)). Without one, nothing.

use std::{
    env, io,
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr as UnixAddress, UnixDatagram},
        },
    },
};

use listenfd::ListenFd;
use rustix::time::{ClockId, clock_gettime};

use super::succession::heritage::{ADMIN, Door, HEALTH, Heritage};
use crate::{admin::socket::Giver, config::Config, proxy::Inherited};

/// It serves.
pub(super) fn ready() {
    tell("READY=1");
}

/// It is about to be replaced.
pub(super) fn reloading() {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
    tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
}

/// Another process serves in its place.
pub(super) fn replaced_by(pid: u32) {
    tell(&format!("MAINPID={pid}\nREADY=1"));
}

/// It is about to end.
pub(super) fn stopping() {
    tell("STOPPING=1");
}

fn tell(state: &str) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes().split_first() {
        Some((b'@', name)) => UnixAddress::from_abstract_name(name),
        _ => UnixAddress::from_pathname(&path),
    };
    let send = |address| {
        let socket = UnixDatagram::unbound()?;
        // A service manager that does not read must not hold anything up.
        socket.set_nonblocking(true)?;
        socket.send_to_addr(state.as_bytes(), &address).map(drop)
    };
    if let Err(error) = address.and_then(send) {
        tracing::warn!(%error, "the service manager could not be told {state:?}");
    }
}

/// The sockets that a service manager has opened, as it names them. To be called once, before there are other threads.
pub(super) fn sockets() -> io::Result<Heritage> {
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut given = ListenFd::from_env();
    let mut heritage = Heritage::default();
    let mut names = names.split(':').map(str::to_owned);
    for number in 0..given.len() {
        let name = names.next().filter(|name| !name.is_empty() && name != "unknown");
        let role = [ADMIN, HEALTH].into_iter().find(|role| name.as_deref() == Some(role));
        if let Some(role) = role {
            let tcp = given.take_tcp_listener(number).map(|socket| socket.map(OwnedFd::from));
            let socket = match tcp {
                Ok(socket) => socket,
                Err(_) => given.take_unix_listener(number)?.map(OwnedFd::from),
            };
            let giver = Giver::ServiceManager;
            heritage.doors.extend(socket.map(|socket| Door { role, declared: None, giver, socket }));
        } else if let Some(socket) = given.take_tcp_listener(number)? {
            add(&mut heritage.listeners, name, socket);
        }
    }
    Ok(heritage)
}

/// Several sockets of one name and address are one listener's.
fn add(all: &mut Vec<Inherited>, name: Option<String>, socket: std::net::TcpListener) {
    let address = socket.local_addr().ok();
    let is_alike = |of: &&mut Inherited| of.name == name && of.sockets[0].local_addr().ok() == address;
    match all.iter_mut().find(is_alike) {
        Some(inherited) => inherited.sockets.push(socket),
        None => all.push(Inherited { name, declared: None, sockets: vec![socket] }),
    }
}

/// Says it where a socket was given that nothing in the file asks for: its connections would wait for nobody.
pub(super) fn warn_of_unused(heritage: &Heritage, config: &Config) {
    for inherited in &heritage.listeners {
        let addresses: Vec<SocketAddr> =
            inherited.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
        if !config.listeners.iter().any(|listener| inherited.is_for(listener)) {
            tracing::warn!(
                name = inherited.name.as_deref().unwrap_or_default(),
                ?addresses,
                "the service manager gave a socket that is no listener's, by its name or address; it is closed"
            );
        }
    }
}
