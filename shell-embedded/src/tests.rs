//! Three boards in a line, wired by streams in memory.

use super::*;
use crate::header_clock::tests::{message, mined, raw};
use bitcoin::hashes::Hash;
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{NetworkReason, PaymentReason, Priority};
use blvm_mesh_core::payment::headers::HeaderError;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
use secp256k1::{Secp256k1, SecretKey};
use std::boxed::Box;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::vec::Vec;

type Wire = Rc<RefCell<VecDeque<u8>>>;

/// One end of a line; it takes and gives a few bytes at a time, as a UART does.
#[derive(Clone, Default)]
struct Uart {
    input: Wire,
    output: Wire,
}

/// Bytes that a UART holds.
const FIFO: usize = 16;
/// Time from one round of steps to the next.
const ROUND: Micros = MILLISECOND;

impl Port for Uart {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut input = self.input.borrow_mut();
        let n = buf.len().min(input.len()).min(FIFO);
        buf.iter_mut().zip(input.drain(..n)).for_each(|(to, from)| *to = from);
        n
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        let mut output = self.output.borrow_mut();
        let n = bytes.len().min(FIFO.saturating_sub(output.len()));
        output.extend(&bytes[..n]);
        n
    }
}

fn line() -> (Uart, Uart) {
    let one = Uart::default();
    let other = Uart { input: one.output.clone(), output: one.input.clone() };
    (one, other)
}

type TestBoard = Board<RustCrypto, Uart, 2>;

fn memory() -> &'static mut BoardMemory<RustCrypto, 2, 1040, 2064, 320> {
    Box::leak(Box::new(BoardMemory::EMPTY))
}

/// A place for records of which none comes back: there was no run before.
struct Disk;

impl Storage for Disk {
    fn load(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&mut self, _: &Record) -> Result<(), StoreError> {
        Ok(())
    }
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Delivered(NodeId, Vec<u8>),
    SendAgain(Ticket),
    NotSent(MeshError),
    Refused(usize, MeshError),
    Down(usize, Down),
    Up(NodeId),
    Gone(NodeId),
    Other(Event),
    StoreFailed(StoreError),
}

fn note(did: &mut Vec<(usize, Outcome)>, n: usize, what: Happening<'_>) {
    let what = match what {
        Happening::Deliver { source, payload, .. } => Outcome::Delivered(source, payload.to_vec()),
        Happening::SendAgain(ticket) => Outcome::SendAgain(ticket),
        Happening::NotSent(_, reason) => Outcome::NotSent(reason),
        Happening::Refused { port, reason } => Outcome::Refused(port, reason),
        Happening::LinkDown { port, reason } => Outcome::Down(port, reason),
        Happening::Event(Event::PeerConnected { peer, .. }) => Outcome::Up(peer),
        Happening::Event(Event::PeerDisconnected { peer }) => Outcome::Gone(peer),
        Happening::StoreFailed(error) => Outcome::StoreFailed(error),
        Happening::StoreRecovered
        | Happening::Paid { .. }
        | Happening::RadioStarted
        | Happening::RadioFailed(_) => return,
        Happening::Event(event) => Outcome::Other(event),
    };
    did.push((n, what));
}

struct World {
    boards: [TestBoard; 3],
    now: Micros,
    did: Vec<(usize, Outcome)>,
}

impl World {
    /// Board 0 dials board 1, which dials board 2. None keeps anything over a restart.
    fn new(mode: MeshMode) -> Self {
        Self::keeping(mode, false)
    }

    /// The same; board 1 may keep records.
    fn keeping(mode: MeshMode, keeps: bool) -> Self {
        let ((a, b0), (b1, c)) = (line(), line());
        let key = |n: u8| SecretKey::from_byte_array([n; 32]).unwrap();
        let dial = |n| Role::Dial(key(n).public_key(&Secp256k1::new()));
        let board = |n: u8, ports| {
            let mut config = Config::board(Network::Regtest, 8192);
            config.mode = mode;
            config.payment.volatile = false;
            config.payment.issuers.push(key(9).public_key(&Secp256k1::new())).unwrap();
            if keeps && n == 2 {
                let store = Box::leak(Box::new(Disk));
                return TestBoard::with_storage(memory(), config, key(n), [n; 32], ports, store);
            }
            TestBoard::new(memory(), config, key(n), [n; 32], ports)
        };
        let boards = [
            board(1, [(a, dial(2)), (Uart::default(), Role::Listen)]),
            board(2, [(b0, Role::Listen), (b1, dial(3))]),
            board(3, [(c, Role::Listen), (Uart::default(), Role::Listen)]),
        ];
        Self { boards, now: 0, did: Vec::new() }
    }

    fn linked(mode: MeshMode) -> Self {
        Self::new(mode).link()
    }

    fn link(self) -> Self {
        let mut w = self;
        w.run_until("all are linked", |w| w.ups() == 4);
        w.run_until("all have greeted", |w| {
            let mut neighbours = w.boards.iter().flat_map(|b| b.mesh().table().neighbours.iter());
            neighbours.all(|n| !n.free_full && !n.paid_full)
        });
        w.did.clear();
        w
    }

    fn id(&self, n: usize) -> NodeId {
        self.boards[n].mesh().id()
    }

    fn ups(&self) -> usize {
        self.did.iter().filter(|(_, did)| matches!(did, Outcome::Up(_))).count()
    }

    fn round(&mut self) {
        self.round_with(|_| {});
    }

    /// A round in which something happens to what board 0 has written for board 1.
    fn round_with(&mut self, happens: impl FnOnce(&mut VecDeque<u8>)) {
        self.now += ROUND;
        let mut happens = Some(happens);
        for n in 0..self.boards.len() {
            if n == 1
                && let Some(happens) = happens.take()
            {
                let wire = self.boards[1].port(0).unwrap().input.clone();
                happens(&mut wire.borrow_mut());
            }
            self.boards[n].step(self.now, &mut |what| note(&mut self.did, n, what));
        }
    }

    fn run_until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if done(self) {
                return;
            }
            self.round();
        }
        panic!("not so after 20 s: {what}: {:?}", self.did);
    }

    fn send(&mut self, to: NodeId, payload: &[u8], unchecked: bool) -> Sent {
        let Self { boards: [board, ..], now, did } = self;
        let on = &mut |what: Happening<'_>| note(did, 0, what);
        match unchecked {
            false => board.send(*now, to, payload, &[], on),
            true => board.send_unchecked(*now, to, payload, &[], on),
        }
    }

    /// Sends from board 0, once more when the route is there.
    fn send_with_search(&mut self, to: NodeId, payload: &[u8], unchecked: bool) -> Sent {
        let ticket = match self.send(to, payload, unchecked) {
            Sent::Searching(ticket) => ticket,
            other => return other,
        };
        let again = (0, Outcome::SendAgain(ticket));
        self.run_until("a route is found", |w| w.did.contains(&again));
        self.send(to, payload, unchecked)
    }

    fn carries(&mut self, payload: &[u8]) {
        let (a, c) = (self.id(0), self.id(2));
        let sent = self.send_with_search(c, payload, false);
        assert!(matches!(sent, Sent::Queued(_)), "{sent:?}");
        let delivered = (2, Outcome::Delivered(a, payload.to_vec()));
        self.run_until("delivered", |w| w.did.contains(&delivered));
    }
}

#[test]
fn a_datagram_is_relayed_in_fragments() {
    let mut w = World::linked(MeshMode::Open);
    assert!(w.boards.iter().all(|b| b.mesh().config().payment.volatile));
    // Larger than a frame, so that it is split and joined on both links.
    let payload: Vec<u8> = (0..800).map(|n| n as u8).collect();
    w.carries(&payload);
    assert_eq!(w.boards[1].mesh().stats().relayed_free, 1);
    assert_eq!(w.boards[2].mesh().stats().delivered, 1);
}

#[test]
fn what_is_unpaid_is_refused() {
    let mut w = World::linked(MeshMode::PaymentGated);
    let c = w.id(2);
    let required = MeshError::from(PaymentReason::Required);
    assert_eq!(w.send_with_search(c, b"data", false), Sent::Refused(required));
    assert!(matches!(w.send(c, b"data", true), Sent::Queued(_)));
    w.run_until("refused", |w| w.did.contains(&(1, Outcome::Refused(0, required))));
    let stats = w.boards[1].mesh().stats();
    assert_eq!((stats.refused_payment, stats.relayed_free, stats.relayed_paid), (1, 0, 0));
    assert_eq!(w.boards[2].mesh().stats().delivered, 0);
}

#[test]
fn garbage_on_the_wire_changes_nothing() {
    for at in [0, 1] {
        let mut w = World::linked(MeshMode::Open);
        w.carries(b"before");
        w.did.clear();
        for noise in [[0xa5; 300], [0; 300]] {
            let wire = w.boards[at].port(0).unwrap().input.clone();
            wire.borrow_mut().extend(noise);
            w.carries(&noise[..20]);
        }
        assert!(!w.did.iter().any(|(_, did)| matches!(did, Outcome::Down(..) | Outcome::Gone(_))));
        assert!(w.boards[at].line(0).unwrap().damaged > 0);
    }
}

#[test]
fn a_port_whose_link_was_closed_is_silent_for_a_while() {
    let mut w = World::linked(MeshMode::Open);
    let reason = NetworkReason::Itself.into();
    w.boards[0].relay.lines[0].down = Some(reason);
    w.round();
    assert!(w.did.contains(&(0, Outcome::Down(0, Down::Mesh(reason)))));
    assert_eq!(w.boards[0].line(0).unwrap().neighbour, None);
    // A line that nobody reads shows what is sent.
    *w.boards[0].port(0).unwrap() = Uart::default();
    let (closed, out) = (w.now, w.boards[0].port(0).unwrap().output.clone());
    w.run_until("dials again", |_| !out.borrow().is_empty());
    assert!((PAUSE..PAUSE + 2 * ROUND).contains(&(w.now - closed)), "{}", w.now - closed);
}

#[test]
fn a_board_says_how_long_it_is_silent_at_most() {
    let key = SecretKey::from_byte_array([1; 32]).unwrap();
    let mut zero = Config::board(Network::Regtest, u32::MAX);
    zero.timing.keepalive = 0;
    let ports = [(Uart::default(), Role::Listen), (Uart::default(), Role::Listen)];
    let board = TestBoard::new(memory(), zero, key, [1; 32], ports);
    assert_eq!(board.mesh().config().timing.keepalive, KEEPALIVE);
    assert_eq!(board.mesh().config().max_packet, 1024);
}

#[test]
fn a_full_queue_takes_control_packets_still() {
    let w = World::linked(MeshMode::Open);
    let (now, line) = (w.now, &mut w.boards[0].relay.lines[0]);
    while line.push(now, Priority::Paid, &[1; 300], &[2; 100]) {}
    assert!(line.push(now, Priority::Control, &[4; 400], &[]));
    assert!(!line.push(now, Priority::Control, &[4; 700], &[]));
    // The other lane has its own room.
    assert!(line.push(now, Priority::Free, &[3; 700], &[]));
    assert_eq!((line.change(), line.change()), (Some((Lane::Paid, true)), None));
}

#[test]
fn a_line_that_loses_frames_has_a_worse_quality() {
    let mut w = World::linked(MeshMode::Open);
    let (b, at) = (w.id(1), |w: &World| {
        let neighbours = w.boards[1].mesh().table().neighbours.iter();
        neighbours.map(|n| n.quality).max()
    });
    assert_eq!(at(&w), Some(256));
    for n in 0..400u32 {
        w.send(b, &n.to_le_bytes(), false);
        let mut whole = n % 2 == 0;
        for _ in 0..40 {
            // A byte of a frame is damaged on its way.
            w.round_with(|wire| {
                if let Some(byte) = wire.get_mut(3).filter(|_| whole) {
                    *byte ^= 0x10;
                    whole = false;
                }
            });
        }
    }
    w.run_until("the neighbour is told", |w| at(w).is_some_and(|quality| quality > 260));
}

#[test]
fn garbage_before_the_handshake_is_recovered_from() {
    let mut w = World::new(MeshMode::Open);
    for board in &mut w.boards {
        let port = board.port(0).unwrap();
        port.input.borrow_mut().extend([0x5a; 77]);
    }
    w.run_until("all are linked", |w| w.ups() == 4);
    w.carries(b"data");
}

#[test]
fn a_cut_line_is_noticed_and_taken_up_again() {
    let mut w = World::linked(MeshMode::Open);
    let (a, b) = (w.id(0), w.id(1));
    // What was just heard stands for an answer.
    (0..3000).for_each(|_| w.round());
    let uart = core::mem::take(w.boards[0].port(0).unwrap());
    // Queued for this link: it must not go out on the next one.
    assert!(matches!(w.send(b, &[7; 700], false), Sent::Queued(_)));
    // Who sends nothing learns of it when the other comes again.
    w.run_until("the other is missed", |w| w.did.contains(&(0, Outcome::Gone(b))));
    assert!(!w.did.contains(&(1, Outcome::Gone(a))));
    *w.boards[0].port(0).unwrap() = uart;
    w.run_until("up again", |w| {
        [(0, Outcome::Up(b)), (1, Outcome::Gone(a)), (1, Outcome::Up(a))]
            .iter()
            .all(|d| w.did.contains(d))
    });
    w.carries(b"data");
    assert!(!w.did.contains(&(1, Outcome::Delivered(a, [7; 700].into()))));
    assert_eq!(w.boards[1].mesh().stats().delivered, 0);
}

#[test]
fn a_stopped_line_fills_the_queue_and_is_then_congested() {
    let mut w = World::linked(MeshMode::Open);
    let b = w.id(1);
    let mut queued = 0;
    let refusal = loop {
        // Without steps nothing leaves.
        match w.send(b, &[1; 700], false) {
            Sent::Queued(_) => queued += 1,
            other => break other,
        }
    };
    assert_eq!(refusal, Sent::Refused(NetworkReason::Congested.into()));
    // Half of the lane's 2048 bytes is reached by the second.
    assert_eq!(queued, 2);
    w.run_until("delivered", |w| w.boards[1].mesh().stats().delivered == queued);
    // And acknowledged, so that there is room again.
    (0..100).for_each(|_| w.round());
    assert!(matches!(w.send(b, &[1; 700], false), Sent::Queued(_)));
}

/// A datagram that nobody may send to a board whose neighbour asks for it.
fn strayed(n: u8) -> Vec<u8> {
    let id = |n: u8| NodeId([n; 32]);
    let emit = Emit {
        hop_limit: 1,
        sequence: n.into(),
        source: id(n),
        destination: id(9),
        proof: None,
        form: Form::Plain,
    };
    let mut packet = std::vec![0; head_len(1, 0)];
    emit.write(&[id(8).hop()], &[], &mut packet, |_| [0; 64]).unwrap();
    packet
}

#[test]
fn a_line_that_brings_too_much_to_be_penalised_is_dropped() {
    let mut w = World::linked(MeshMode::Open);
    let mut refused = 0;
    let dropped = |w: &World| w.did.iter().any(|(n, did)| (*n, did_down(did)) == (1, true));
    for n in 0..200 {
        let now = w.now;
        assert!(w.boards[0].relay.lines[0].push(now, Priority::Free, &strayed(n), &[]));
        w.run_until("refused", |w| {
            dropped(w)
                || w.did.iter().filter(|(_, did)| matches!(did, Outcome::Refused(0, _))).count()
                    > refused
        });
        if dropped(&w) {
            break;
        }
        refused += 1;
    }
    // A burst of 100, and a second or less in which they came, two being forgiven in each.
    assert!((99..103).contains(&refused), "{refused}");
}

fn did_down(did: &Outcome) -> bool {
    matches!(did, Outcome::Down(0, Down::Mesh(_)))
}

#[test]
fn headers_are_kept_if_they_follow_each_other() {
    let mut w = World::new(MeshMode::Open);
    let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
    let header: [u8; 80] = bitcoin::consensus::serialize(&genesis).try_into().unwrap();
    let [board, ..] = &mut w.boards;
    assert_eq!(board.add_header(1, &header, 0, &mut |_| ()), Ok(()));
    let mut other = header;
    // The first nonce that makes it a block that does not follow.
    let refused = (0..=u8::MAX).map(|n| {
        (other[4], other[76]) = (1, n);
        board.add_header(1, &other, 1, &mut |_| ())
    });
    let disconnected = HeaderError::Disconnected;
    assert!(refused.into_iter().any(|r| r == Err(NetworkReason::Header(disconnected).into())));
}

#[test]
fn headers_that_pass_set_the_clock_of_a_board_that_keeps_its_payments() {
    let bits = 0x207f_ffff;
    let checkpoint = mined(bitcoin::BlockHash::all_zeros(), 1_750_000_000, bits);
    let next = mined(checkpoint.block_hash(), 1_750_000_600, bits);
    // One that keeps nothing would take payments of the run before, if it was shown headers
    // up to that time only.
    for keeps in [true, false] {
        let mut w = World::keeping(MeshMode::PaymentGated, keeps).link();
        let mut idle = raw(&checkpoint);
        idle[75] = 0x1d;
        assert!(!w.boards[1].follow_headers(&idle), "it has no work");
        assert!(w.boards[1].follow_headers(&raw(&checkpoint)));
        w.carries(&message(&[checkpoint]));
        assert!(!w.boards[1].status().takes_payments);
        w.carries(&message(&[next]));
        assert_eq!(w.boards[1].status().takes_payments, keeps);
        // Nobody told the others.
        assert!(!w.boards[2].status().takes_payments);
    }
}

/// What a board does beside its ports, written down.
#[derive(Default)]
struct Bench {
    now: Micros,
    alive: u32,
    shown: Vec<Status>,
    slept: Vec<Option<Micros>>,
}

impl Platform for Bench {
    fn now(&mut self) -> Micros {
        self.now
    }
    fn wall_clock(&mut self, now: Micros) -> Option<u64> {
        (now >= SECOND).then_some(1_750_000_000)
    }
    fn alive(&mut self) {
        self.alive += 1;
    }
    fn show(&mut self, status: Status) {
        self.shown.push(status);
    }
    fn happened(&mut self, _: Happening<'_>) {}
    fn sleep(&mut self, until: Option<Micros>) {
        self.slept.push(until);
        // Something else wakes it where it asks for nothing.
        self.now = until.unwrap_or(self.now + SECOND).min(self.now + SECOND);
    }
}

#[test]
fn the_loop_sleeps_until_the_next_deadline_and_shows_what_changed() {
    let mut config = Config::board(Network::Regtest, 1024);
    let issuer = SecretKey::from_byte_array([5; 32]).unwrap().public_key(&Secp256k1::new());
    config.payment.issuers.push(issuer).unwrap();
    let key = SecretKey::from_byte_array([1; 32]).unwrap();
    let ports = [(Uart::default(), Role::Dial(issuer)), (Uart::default(), Role::Listen)];
    let mut board = TestBoard::new(memory(), config, key, [1; 32], ports);
    let (mut bench, mut shown) = (Bench::default(), None);
    for _ in 0..20 {
        // The other end of the line takes what there is.
        board.port(0).unwrap().output.borrow_mut().clear();
        board.round(&mut bench, &mut shown);
    }
    assert_eq!(bench.alive, 20);
    // The act is sent again half a second after the first time, then later and later.
    assert!(bench.slept.contains(&Some(500 * MILLISECOND)), "{:?}", bench.slept);
    let takes: Vec<_> = bench.shown.iter().map(|s| (s.neighbours, s.takes_payments)).collect();
    assert_eq!(takes, [(0, false), (0, true)]);
}

#[test]
fn a_board_with_two_ports_fits() {
    let size = size_of::<TestBoard>();
    assert!(size < 48 * 1024, "{size}");
}
