//! Ports that are held for nodes which do not listen yet.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of loopback on which nobody listens, and which nobody else is given as long as this lives.
///
/// The socket is bound with `SO_REUSEADDR` and does not listen, so that on Linux whoever knows the port and
/// sets that option, as the listeners of Rust and Go do, can listen on it meanwhile, again and again.
#[derive(Debug)]
pub struct HeldPort {
    number: u16,
    _socket: TcpSocket,
}

impl HeldPort {
    /// A port that was free.
    pub fn free() -> io::Result<Self> {
        Self::of(0)
    }

    /// A certain port. Fails if somebody listens on it.
    pub fn of(number: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, number)))?;
        Ok(Self {
            number: socket.local_addr()?.port(),
            _socket: socket,
        })
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_held_port_is_given_to_those_who_ask_for_it_alone() {
        let held = HeldPort::free().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, held.number()));
        for _ in 0..3 {
            let listener = TcpListener::bind(address).unwrap();
            assert_eq!(listener.local_addr().unwrap(), address);
            assert!(TcpListener::bind(address).is_err());
            assert!(HeldPort::of(held.number()).is_err());
        }
        let others: Vec<_> = (0..100).map(|_| HeldPort::free().unwrap()).collect();
        assert!(others.iter().all(|it| it.number() != held.number()));
    }
}
