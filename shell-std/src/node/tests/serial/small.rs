//! A neighbour with small frames and packets, made by hand of core's datagram link.

use super::super::*;
use crate::aead::Ring;
use blvm_mesh_core::id::{LinkId, Standing};
use blvm_mesh_core::link::datagram::serial::{self, Deframer};
use blvm_mesh_core::link::datagram::{DatagramLimits, DatagramLink, Keys, LinkMemory, Role};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::Growable;
use blvm_mesh_core::wire::{Header, Kind};
use secp256k1::{Keypair, PublicKey};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// A small neighbour made by hand, such as a board is one.
struct Board {
    link: DatagramLink<Ring, Growable>,
    key: BoardKey,
    deframer: Deframer<Vec<u8>>,
    stream: TcpStream,
    /// Lengths of the frames that came in.
    frames: Vec<usize>,
    packets: Vec<(Kind, Vec<u8>)>,
}

struct BoardKey(Keypair, u8);

impl Keys for BoardKey {
    fn local(&self) -> &Keypair {
        &self.0
    }

    fn ephemeral(&mut self) -> Keypair {
        self.1 += 1;
        secret(self.1).keypair(&Default::default())
    }
}

const FRAME: u16 = 255;
const PACKET: u32 = 700;

impl Board {
    fn id(&self) -> NodeId {
        NodeId::from_public_key(&self.key.0.public_key())
    }

    fn new(stream: TcpStream, remote: PublicKey) -> Self {
        let memory = || [Growable::new(0), Growable::new(0)];
        let memory = LinkMemory { inbound: memory(), outbound: memory() };
        let limits = DatagramLimits::serial(FRAME, PACKET);
        Self {
            link: DatagramLink::new(limits, Role::Dial(remote), memory),
            key: BoardKey(secret(9).keypair(&Default::default()), 100),
            deframer: Deframer::new(vec![0; 1100]),
            stream,
            frames: Vec::new(),
            packets: Vec::new(),
        }
    }

    fn hello() -> Vec<u8> {
        let mut config = Config::board(Network::Regtest, PACKET);
        config.mode = MeshMode::Open;
        // Never given up, however long the test takes.
        config.timing.keepalive = 0;
        let mut mesh = HostMesh::new(config, secret(9), [0; 32]);
        let (link, peer, standing) = (LinkId(1), NodeId([1; 32]), Standing::Own);
        let connected =
            Input::PeerConnected { link, peer, dialed: true, standing, capabilities: None };
        mesh.handle(0, connected).unwrap();
        loop {
            if let blvm_mesh_core::mesh::Action::Send { packet, .. } = mesh.poll() {
                return packet.to_vec();
            }
        }
    }

    /// Sends what there is to send, and takes what comes within a moment, but for frames
    /// of the session that are lost.
    async fn turn(&mut self, now: Micros, lose: impl Fn(usize) -> bool) {
        let mut frame = [0; FRAME as usize];
        while let Some(len) = self.link.transmit(now, &mut self.key, &mut frame) {
            let mut line = vec![0; serial::encoded_len(len)];
            let len = serial::encode(&frame[..len], &mut line).unwrap();
            self.stream.write_all(&line[..len]).await.unwrap();
        }
        let mut bytes = [0; 2000];
        let read = async { self.stream.read(&mut bytes).await.unwrap() };
        let moment = async {
            smol::Timer::after(Duration::from_millis(5)).await;
            0
        };
        let len = smol::future::or(read, moment).await;
        let mut rest = &bytes[..len];
        while let Some(frame) = self.deframer.next(&mut rest) {
            self.frames.push(frame.len());
            if frame[0] < 0x80 && lose(frame.len()) {
                continue;
            }
            let _ = self.link.receive(now, frame, &mut self.key);
            while self.link.poll_event().is_some() {}
            while let Some(packet) = self.link.next_packet() {
                let (header, _) = Header::parse(packet.bytes).unwrap();
                self.packets.push((header.kind, packet.bytes.to_vec()));
            }
        }
    }
}

#[test]
fn a_small_neighbour_gets_the_hello_first_and_nothing_that_it_does_not_take() {
    Bed::run(async |bed| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let line = format!("serial+tcp://{}", listener.local_addr().unwrap());
        let a = bed.start_with(1, MeshMode::Open, &[], Disk::default(), |s| {
            (s.listen_addr, s.listen_lines) = (None, vec![line.parse().unwrap()]);
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut board = Board::new(stream, a.handle().public_key());
        let (start, id) = (Instant::now(), board.id());
        let now = || start.elapsed().as_micros() as Micros;
        let up = async || a.handle().neighbours().await.unwrap().contains(&id);
        // The node's hello, in a frame shorter than the ping, is lost until the node takes the
        // neighbour for up and has sent him something more.
        let (mut said, mut sent) = (false, None);
        let datagrams = |board: &Board| {
            board.packets.iter().filter(|(kind, _)| *kind == Kind::Datagram).count()
        };
        while datagrams(&board) < 1 {
            assert!(start.elapsed() < PATIENCE, "{:?}", board.packets);
            let late = sent.is_some_and(|at: Instant| at.elapsed() > Duration::from_millis(300));
            board.turn(now(), |len| !late && (27..100).contains(&len)).await;
            if board.link.neighbour().is_some() && !said {
                board.link.queue(now(), Lane::Paid, &Board::hello(), &[]).unwrap();
                said = true;
            }
            if sent.is_none() && up().await {
                let ping = a.handle().send(id, ping(5), vec![], false, Duration::ZERO).await;
                assert!(matches!(ping.unwrap().first, Progress::Sent { .. }));
                sent = Some(Instant::now());
            }
        }
        // A hello that was late is said again. On a busy machine the node may have searched for the
        // neighbour meanwhile.
        let (last, before) = board.packets.split_last().unwrap();
        let kinds: Vec<_> = before.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.first(), Some(&Kind::Hello));
        assert!(
            kinds.iter().all(|kind| [Kind::Hello, Kind::RouteRequest].contains(kind)),
            "{kinds:?}"
        );
        assert!(last.1.ends_with(&ping(5)));

        let large = a.handle().send(id, vec![1; 701], vec![], false, Duration::ZERO).await;
        assert!(matches!(large.unwrap().first, Progress::Refused(MeshError::RoutingError(_))));
        let fits = a.handle().send(id, vec![1; 500], vec![], false, Duration::ZERO).await;
        assert!(matches!(fits.unwrap().first, Progress::Sent { .. }));
        while datagrams(&board) < 2 {
            assert!(start.elapsed() < PATIENCE);
            board.turn(now(), |_| false).await;
        }
        assert!(board.packets.iter().any(|(_, packet)| packet.ends_with(&[1; 500])));
        assert!(board.frames.iter().all(|len| *len <= usize::from(FRAME)), "{:?}", board.frames);
        assert!(board.frames.contains(&usize::from(FRAME)), "full frames are used");
        a.stop().await;
    });
}
