//! QUIC of quinn-proto with CUBIC. Its datagrams have 1,200 bytes at least (RFC 9000, 14.1): smaller packets carry
//! them in parts of equal size, with two bytes in front of each, and a datagram is lost with any of them.

use crate::{Ends, check, piece};
use bytes::BytesMut;
use quinn_proto::congestion::CubicConfig;
use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn_proto::{
    ClientConfig, Connection, ConnectionHandle, DatagramEvent, Dir, Endpoint, EndpointConfig,
    Event, MtuDiscoveryConfig, ServerConfig, StreamId, TransportConfig, VarInt,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The smallest datagram of QUIC.
const SMALLEST: usize = 1_200;
/// Number of the datagram and of its part, and whether that is the last.
const PART_HEADER: usize = 2;

struct Side {
    endpoint: Endpoint,
    connection: Option<(ConnectionHandle, Connection)>,
    outgoing: VecDeque<Vec<u8>>,
    /// Number of the datagram that comes in, and its parts so far.
    joining: (u8, Vec<Option<Vec<u8>>>),
    number: u8,
    ready: bool,
    address: SocketAddr,
}

pub struct Quic {
    sides: [Side; 2],
    start: Instant,
    /// Bytes of a packet, and whether datagrams are cut.
    packet: usize,
    cut: bool,
    stream: Option<StreamId>,
    reads: Option<StreamId>,
}

fn transport(packet: usize) -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    let window = VarInt::from_u32(8 << 20);
    let mtu = packet.max(SMALLEST) as u16;
    transport.stream_receive_window(window).receive_window(window).send_window(8 << 20);
    transport.initial_mtu(mtu).min_mtu(mtu).mtu_discovery_config(None::<MtuDiscoveryConfig>);
    transport.max_idle_timeout(None).keep_alive_interval(None::<Duration>);
    transport.congestion_controller_factory(Arc::new(CubicConfig::default()));
    Arc::new(transport)
}

impl Quic {
    pub fn new(packet: usize) -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // Of a size that is always the same.
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
        let params = rcgen::CertificateParams::new(vec!["end".into()]).expect("a name");
        let certificate = CertificateDer::from(params.self_signed(&key).expect("a certificate"));
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("its key");
        let versions = &[&rustls::version::TLS13];
        let server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .expect("TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a certificate with its key");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).expect("a certificate");
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server =
            ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server).expect("QUIC")));
        server.transport_config(transport(packet));
        let mut client =
            ClientConfig::new(Arc::new(QuicClientConfig::try_from(client).expect("QUIC")));
        client.transport_config(transport(packet));
        let side = |n: u8, server: Option<ServerConfig>| {
            let mut config = EndpointConfig::default();
            config.rng_seed(Some([n; 32]));
            config.max_udp_payload_size(packet.max(SMALLEST) as u16).expect("large enough");
            Side {
                endpoint: Endpoint::new(Arc::new(config), server.map(Arc::new), false, None),
                connection: None,
                outgoing: VecDeque::new(),
                joining: (0, Vec::new()),
                number: 0,
                ready: false,
                address: SocketAddr::from(([10, 0, 0, n], 7)),
            }
        };
        let mut sides = [side(1, None), side(2, Some(server))];
        let start = Instant::now();
        let to = sides[1].address;
        let connection = sides[0].endpoint.connect(start, client, to, "end").expect("a connection");
        sides[0].connection = Some(connection);
        Self { sides, start, packet, cut: packet < SMALLEST, stream: None, reads: None }
    }

    fn at(&self, now: u64) -> Instant {
        self.start + Duration::from_micros(now)
    }

    /// Events between the connection and its endpoint, and to the application.
    fn drive(&mut self, end: usize) {
        let side = &mut self.sides[end];
        let Some((handle, connection)) = &mut side.connection else { return };
        while let Some(event) = connection.poll_endpoint_events() {
            if let Some(event) = side.endpoint.handle_event(*handle, event) {
                connection.handle_event(event);
            }
        }
        while let Some(event) = connection.poll() {
            match event {
                Event::Connected => side.ready = true,
                Event::ConnectionLost { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        if end == 1 && self.reads.is_none() {
            self.reads = connection.streams().accept(Dir::Uni);
        }
    }

    /// The whole datagram, once its last part is there.
    fn join(side: &mut Side, part: &[u8]) -> Option<Vec<u8>> {
        let (header, body) = part.split_at_checked(PART_HEADER)?;
        let (number, at, last) = (header[0], usize::from(header[1] & 0x7f), header[1] >> 7 == 1);
        if side.joining.0 != number {
            side.joining = (number, Vec::new());
        }
        let parts = &mut side.joining.1;
        // They come in order here.
        if at != parts.len() {
            parts.clear();
            return None;
        }
        parts.push(Some(body.to_vec()));
        last.then(|| parts.drain(..).flatten().flatten().collect())
    }

    fn take(&mut self, end: usize, now: u64, datagram: &[u8]) {
        let at = self.at(now);
        let from = self.sides[1 - end].address;
        let side = &mut self.sides[end];
        let mut answer = Vec::new();
        let event =
            side.endpoint.handle(at, from, None, None, BytesMut::from(datagram), &mut answer);
        match event {
            Some(DatagramEvent::ConnectionEvent(_, event)) => {
                if let Some((_, connection)) = &mut side.connection {
                    connection.handle_event(event);
                }
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                let accepted = side.endpoint.accept(incoming, at, &mut answer, None);
                side.connection = Some(accepted.map_err(|e| e.cause).expect("a connection"));
            }
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.drive(end);
    }
}

impl Ends for Quic {
    fn receive(&mut self, end: usize, now: u64, packet: Vec<u8>) {
        match self.cut {
            false => self.take(end, now, &packet),
            true => {
                if let Some(datagram) = Self::join(&mut self.sides[end], &packet) {
                    self.take(end, now, &datagram);
                }
            }
        }
    }

    fn transmit(&mut self, end: usize, now: u64) -> Option<Vec<u8>> {
        let (at, cut, packet) = (self.at(now), self.cut, self.packet);
        let side = &mut self.sides[end];
        if side.outgoing.is_empty() {
            let (_, connection) = side.connection.as_mut()?;
            let mut datagram = Vec::new();
            let _ = connection.poll_transmit(at, 1, &mut datagram)?;
            if cut {
                side.number = side.number.wrapping_add(1);
                let parts = datagram.len().div_ceil(packet - PART_HEADER);
                let size = datagram.len().div_ceil(parts);
                for (n, body) in datagram.chunks(size).enumerate() {
                    let last = if n + 1 == parts { 0x80 } else { 0 };
                    let part = [&[side.number, n as u8 | last][..], body].concat();
                    side.outgoing.push_back(part);
                }
            } else {
                side.outgoing.push_back(datagram);
            }
            self.drive(end);
        }
        self.sides[end].outgoing.pop_front()
    }

    fn next_timeout(&mut self, end: usize, _: u64) -> Option<u64> {
        let start = self.start;
        let (_, connection) = self.sides[end].connection.as_mut()?;
        let at = connection.poll_timeout()?.saturating_duration_since(start);
        Some(u64::try_from(at.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX))
    }

    fn handle_timeout(&mut self, end: usize, now: u64) {
        let at = self.at(now);
        if let Some((_, connection)) = &mut self.sides[end].connection {
            connection.handle_timeout(at);
        }
        self.drive(end);
    }

    fn is_ready(&self) -> bool {
        self.sides.iter().all(|side| side.ready)
    }

    fn write(&mut self, from: u64, most: usize) -> usize {
        let Some((_, connection)) = &mut self.sides[0].connection else { return 0 };
        let stream = match self.stream {
            Some(stream) => stream,
            None => {
                let Some(stream) = connection.streams().open(Dir::Uni) else { return 0 };
                self.stream = Some(stream);
                stream
            }
        };
        connection.send_stream(stream).write(&piece(from, most)).unwrap_or(0)
    }

    fn read(&mut self, from: u64) -> usize {
        let Some(stream) = self.reads else { return 0 };
        let Some((_, connection)) = &mut self.sides[1].connection else { return 0 };
        let mut receive = connection.recv_stream(stream);
        let Ok(mut chunks) = receive.read(true) else { return 0 };
        let mut read = 0;
        while let Ok(Some(chunk)) = chunks.next(16_384) {
            check(from + read as u64, &chunk.bytes);
            read += chunk.bytes.len();
        }
        let _ = chunks.finalize();
        read
    }
}
