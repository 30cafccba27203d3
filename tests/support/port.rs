//! Ports that nobody else is given: of endpoints where nobody listens, and of processes whose successors take their
//! place.
//!
//! Invariant: from its making to its end no other socket on this machine is given the port by chance. A port that was
//! only looked up and let go again may be that of another test's upstream a moment later, and then counts requests
//! there that nobody there has sent.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use socket2::{Domain, Socket, Type};

/// A port that is held without listening: connections to it are refused, unless somebody listens there who was told.
pub struct Reserved {
    pub address: SocketAddr,
    _socket: Socket,
}

impl Reserved {
    /// Holds any free port.
    pub fn any() -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into()).expect("a free port")
    }

    /// Holds this port, or any if it is 0.
    ///
    /// With SO_REUSEADDR, which the listeners of the standard library have, too, a listener can share the port. The
    /// kernel gives a bound port neither to who asks for any nor to who connects.
    pub fn at(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        let address = socket.local_addr()?.as_socket().expect("an address of IP");
        Ok(Self { address, _socket: socket })
    }
}
