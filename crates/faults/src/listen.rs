//! Listen addresses by Toxiproxy's rules, and sockets bound to them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, lookup_host};

/// Connections that the kernel may keep ready for us; it lowers this to its own limit.
const BACKLOG: i32 = 1024;

/// Resolves `host:port`. Nothing, or no host, means every interface; a name prefers IPv4.
pub(crate) async fn resolve(listen: &str) -> io::Result<SocketAddr> {
    if let Ok(literal) = listen.parse() {
        return Ok(literal);
    }
    if listen.is_empty() {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)));
    }
    let Some((host, port)) = listen.rsplit_once(':') else {
        return Err(invalid("missing port in address"));
    };
    let port = port.parse().map_err(|_| invalid("invalid port"))?;
    if host.is_empty() {
        return Ok(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)));
    }
    let mut found: Vec<SocketAddr> = lookup_host((host, port)).await?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
        .first()
        .copied()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))
}

/// Binds `address`. `[::]` takes IPv4 too, and is 0.0.0.0 on a machine without IPv6.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match bind_exactly(address) {
        Err(_) if address.ip() == Ipv6Addr::UNSPECIFIED && !has_ipv6() => {
            bind_exactly(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        bound => bound,
    }
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // On Windows this option would let two listeners share one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn has_ipv6() -> bool {
    Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_ok()
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
