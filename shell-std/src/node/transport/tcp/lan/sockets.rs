//! The sockets on an interface.

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use std::io;
use std::net::{SocketAddrV6, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET6, kind, flags, None)?;
    // Several nodes of one host hear the same beacons, and a node that is restarted has its port
    // again at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_ipv6_v6only(&socket, true)?;
    Ok(socket)
}

/// Receives what is sent to a multicast group on the interface that is its scope, and nothing else.
pub(super) fn listening(group: SocketAddrV6) -> io::Result<UdpSocket> {
    let socket = socket(SocketType::DGRAM)?;
    bind(&socket, &group)?;
    let socket = UdpSocket::from(socket);
    socket.join_multicast_v6(group.ip(), group.scope_id())?;
    Ok(socket)
}

/// Accepts connections at a link-local address.
pub(super) fn taking_links(at: SocketAddrV6) -> io::Result<TcpListener> {
    let socket = socket(SocketType::STREAM)?;
    bind(&socket, &at)?;
    listen(&socket, BACKLOG)?;
    Ok(TcpListener::from(socket))
}
