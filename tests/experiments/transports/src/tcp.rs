//! TCP of smoltcp over IPv4, not encrypted, with CUBIC, and windows that fill the route without filling its queue.

use crate::{Ends, check, piece};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};
use std::collections::VecDeque;

const PORT: u16 = 7;

/// A device whose packets are fetched and given one by one.
struct Line {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Rx(Vec<u8>);
struct Tx<'l>(&'l mut VecDeque<Vec<u8>>);

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

impl Device for Line {
    type RxToken<'a> = Rx;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((Rx(packet), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

struct Host {
    line: Line,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

fn instant(now: u64) -> Instant {
    Instant::from_micros(now as i64)
}

impl Host {
    fn new(n: u8, mtu: usize, window: usize) -> Self {
        let mut line = Line { mtu, incoming: VecDeque::new(), outgoing: VecDeque::new() };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = u64::from(n);
        let mut interface = Interface::new(config, &mut line, instant(0));
        interface.update_ip_addrs(|all| {
            let _ = all.push(IpCidr::new(IpAddress::v4(10, 0, 0, n), 24));
        });
        let buffer = || SocketBuffer::new(vec![0; window]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_congestion_control(CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self { line, interface, sockets, socket }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    fn poll(&mut self, now: u64) {
        self.interface.poll(instant(now), &mut self.line, &mut self.sockets);
    }
}

pub struct Tcp([Host; 2]);

impl Tcp {
    /// Packets of at most `mtu` bytes, and buffers of `window`.
    pub fn new(mtu: usize, window: usize) -> Self {
        let mut hosts = [1, 2].map(|n| Host::new(n, mtu, window));
        hosts[1].socket().listen(PORT).expect("a new socket");
        let host = &mut hosts[0];
        let socket = host.sockets.get_mut::<Socket>(host.socket);
        let to = (IpAddress::v4(10, 0, 0, 2), PORT);
        socket.connect(host.interface.context(), to, 50_000).expect("a new socket");
        Self(hosts)
    }
}

impl Ends for Tcp {
    fn receive(&mut self, end: usize, now: u64, packet: Vec<u8>) {
        self.0[end].line.incoming.push_back(packet);
        self.0[end].poll(now);
    }

    fn transmit(&mut self, end: usize, now: u64) -> Option<Vec<u8>> {
        let host = &mut self.0[end];
        if host.line.outgoing.is_empty() {
            host.poll(now);
        }
        host.line.outgoing.pop_front()
    }

    fn next_timeout(&mut self, end: usize, now: u64) -> Option<u64> {
        let host = &mut self.0[end];
        let at = host.interface.poll_at(instant(now), &host.sockets)?;
        Some((at.total_micros() as u64).max(now + 1))
    }

    fn handle_timeout(&mut self, end: usize, now: u64) {
        self.0[end].poll(now);
    }

    fn is_ready(&self) -> bool {
        let up = |host: &Host| host.sockets.get::<Socket>(host.socket).may_send();
        self.0.iter().all(up)
    }

    fn write(&mut self, from: u64, most: usize) -> usize {
        self.0[0].socket().send_slice(&piece(from, most)).expect("open")
    }

    fn read(&mut self, from: u64) -> usize {
        let mut out = [0; 16_384];
        let socket = self.0[1].socket();
        if !socket.can_recv() {
            return 0;
        }
        let len = socket.recv_slice(&mut out).expect("open");
        check(from, &out[..len]);
        len
    }
}
