//! A board that keeps its payments: what it took before a restart it refuses after it, and
//! what it cannot write down it does not forward.

use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::MILLISECOND;
use blvm_mesh_core::wire::route_error::Cause;
use blvm_mesh_embedded::{Board, BoardMemory, Happening, Port, Role, Sent, Storage, StoreError};
use blvm_mesh_tests::payments::invoice::Order;
use secp256k1::{Secp256k1, SecretKey};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

type Wire = Rc<RefCell<VecDeque<u8>>>;

#[derive(Clone, Default)]
struct Line {
    input: Wire,
    output: Wire,
}

impl Port for Line {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut input = self.input.borrow_mut();
        let n = buf.len().min(input.len());
        buf.iter_mut().zip(input.drain(..n)).for_each(|(to, from)| *to = from);
        n
    }
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.output.borrow_mut().extend(bytes);
        bytes.len()
    }
}

fn line() -> (Line, Line) {
    let one = Line::default();
    (one.clone(), Line { input: one.output, output: one.input })
}

/// A disk that outlives the board.
#[derive(Clone, Default)]
struct Disk {
    records: Rc<RefCell<Vec<Record>>>,
    broken: Rc<Cell<bool>>,
    unreadable: bool,
}

impl Storage for Disk {
    fn load(&mut self, each: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        self.records.borrow().iter().for_each(|record| each(*record));
        if self.unreadable { Err(StoreError::Corrupted) } else { Ok(()) }
    }
    fn write(&mut self, record: &Record) -> Result<(), StoreError> {
        if self.broken.get() {
            return Err(StoreError::Flash);
        }
        self.records.borrow_mut().push(*record);
        Ok(())
    }
}

const UNIX: u64 = 1_750_000_000;
const ISSUER: u8 = 9;

fn key(n: u8) -> SecretKey {
    SecretKey::from_byte_array([n; 32]).unwrap()
}

fn id(n: u8) -> NodeId {
    NodeId::from_public_key(&key(n).public_key(&Secp256k1::new()))
}

type TestBoard = Board<RustCrypto, Line, 2>;

fn memory() -> &'static mut BoardMemory<RustCrypto, 2, 1040, 2064, 320> {
    Box::leak(Box::new(BoardMemory::EMPTY))
}

#[derive(Debug, PartialEq)]
enum Seen {
    Delivered(usize),
    Failed(Cause),
    Receipt,
    StoreFailed,
    StoreRecovered,
}

/// Three boards in a line; the one in the middle keeps its payments.
struct World {
    boards: [TestBoard; 3],
    now: u64,
    seen: Vec<Seen>,
}

impl World {
    fn new(disk: &Disk, boot: u8) -> Self {
        Self::with_clocks(disk, boot, [true; 3], None)
    }

    /// The boards whose clock is set, and whose hello the one in the middle believes.
    fn with_clocks(disk: &Disk, boot: u8, clocks: [bool; 3], believes: Option<u8>) -> Self {
        let ((a, b0), (b1, c)) = (line(), line());
        let secp = Secp256k1::new();
        let dial = |n| Role::Dial(key(n).public_key(&secp));
        let config = |mode| {
            let mut config = Config::board(Network::Regtest, 8192);
            config.mode = mode;
            config.payment.issuers.push(key(ISSUER).public_key(&secp)).unwrap();
            config.clock_source = believes.map(id).filter(|_| mode == MeshMode::PaymentGated);
            config
        };
        let new =
            |n, mode, ports| TestBoard::new(memory(), config(mode), key(n), [n ^ boot; 32], ports);
        let mut boards = [
            new(1, MeshMode::Open, [(a, dial(2)), (Line::default(), Role::Listen)]),
            TestBoard::with_storage(
                memory(),
                config(MeshMode::PaymentGated),
                key(2),
                [2 ^ boot; 32],
                [(b0, Role::Listen), (b1, dial(3))],
                Box::leak(Box::new(disk.clone())),
            ),
            new(3, MeshMode::Open, [(c, Role::Listen), (Line::default(), Role::Listen)]),
        ];
        for (board, is_set) in boards.iter_mut().zip(clocks) {
            if is_set {
                board.set_clock(0, UNIX, &mut |_| ());
            }
        }
        let mut world = Self { boards, now: 0, seen: Vec::new() };
        world.until("links", |w| {
            let boards = w.boards.iter();
            let mut up = boards.clone().flat_map(|b| b.mesh().table().neighbours.iter());
            let greeted = up.all(|n| !n.free_full);
            greeted && boards.map(|b| b.status().neighbours).sum::<usize>() == 4
        });
        world
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            self.now += MILLISECOND;
            let Self { boards, now, seen } = self;
            for board in boards {
                board.step(*now, &mut |what| match what {
                    Happening::Deliver { payload, .. } => seen.push(Seen::Delivered(payload.len())),
                    Happening::Event(Event::DeliveryFailed { cause, .. }) => {
                        seen.push(Seen::Failed(cause));
                    }
                    Happening::Event(Event::Delivered { .. }) => seen.push(Seen::Receipt),
                    Happening::StoreFailed(StoreError::Flash) => seen.push(Seen::StoreFailed),
                    Happening::StoreRecovered => seen.push(Seen::StoreRecovered),
                    _ => {}
                });
            }
        }
        panic!("not so: {what}; seen {:?}", self.seen);
    }

    fn send(&mut self, payload: &[u8], proof: &[u8]) {
        let [a, ..] = &mut self.boards;
        if let Sent::Searching(_) = a.send(self.now, id(3), payload, proof, &mut |_| ()) {
            self.until("a route", |w| {
                w.boards[0].mesh().table().find_route(&id(3), w.now).is_some()
            });
            let [a, ..] = &mut self.boards;
            let sent = a.send(self.now, id(3), payload, proof, &mut |_| ());
            assert!(matches!(sent, Sent::Queued(_)), "{sent:?}");
        }
    }

    /// Dated before the start, so that a board that keeps nothing would refuse it.
    fn order(&mut self, payload: &[u8]) -> Order {
        self.send(&[0; 9], &[]);
        let quote = self.boards[0].mesh().quote(&id(3), payload.len() as u64).unwrap();
        Order::new(key(ISSUER), quote.terms_hash, quote.amount_msat, UNIX - 60)
    }
}

#[test]
fn a_payment_is_taken_once_over_a_restart() {
    let disk = Disk::default();
    let mut w = World::new(&disk, 0);
    let proof = w.order(&[7; 200]).proof();
    w.send(&[7; 200], &proof);
    w.until("delivered", |w| w.seen.contains(&Seen::Delivered(200)));
    assert_eq!(disk.records.borrow().len(), 1);

    let mut w = World::new(&disk, 0x80);
    assert_eq!(w.boards[1].mesh().live_payments(), 1);
    w.send(&[7; 200], &proof);
    w.until("refused", |w| w.seen.contains(&Seen::Failed(Cause::Replay)));
    assert!(!w.seen.contains(&Seen::Delivered(200)));
}

#[test]
fn what_cannot_be_written_down_is_not_forwarded() {
    let disk = Disk::default();
    disk.broken.set(true);
    let mut w = World::new(&disk, 0);
    assert!(w.boards[1].status().takes_payments);
    let proof = w.order(&[7; 200]).proof();
    w.send(&[7; 200], &proof);
    w.until("the store failed", |w| w.seen.contains(&Seen::StoreFailed));
    assert!(!w.boards[1].status().takes_payments);
    // Free traffic goes on, and the next payment is refused.
    w.send(&[7; 200], &proof);
    w.until("refused", |w| w.seen.contains(&Seen::Failed(Cause::StoreFailed)));
    assert!(!w.seen.contains(&Seen::Delivered(200)));

    // Once the flash takes records again, what was accepted is written and payments pass.
    disk.broken.set(false);
    w.until("payments again", |w| w.seen.contains(&Seen::StoreRecovered));
    assert!(w.boards[1].status().takes_payments);
    assert_eq!(disk.records.borrow().len(), 1);
    let proof = w.order(&[8; 201]).proof();
    w.send(&[8; 201], &proof);
    w.until("delivered", |w| w.seen.contains(&Seen::Delivered(201)));
    assert_eq!(disk.records.borrow().len(), 2);
}

#[test]
fn a_board_whose_flash_was_erased_takes_no_payment_of_before() {
    let disk = Disk::default();
    let mut w = World::new(&disk, 0);
    let proof = w.order(&[7; 200]).proof();
    w.send(&[7; 200], &proof);
    w.until("delivered", |w| w.seen.contains(&Seen::Delivered(200)));
    *disk.records.borrow_mut() = vec![Record::StoreLost(None)];
    // Two starts: the second reads back when the first was.
    for boot in [0x80, 0x40] {
        let mut w = World::new(&disk, boot);
        assert!(matches!(disk.records.borrow()[1], Record::StoreLost(Some(at)) if at >= UNIX));
        w.send(&[7; 200], &proof);
        w.until("refused", |w| w.seen.iter().any(|s| matches!(s, Seen::Failed(_))));
        assert!(!w.seen.contains(&Seen::Delivered(200)), "{:?}", w.seen);
    }
}

#[test]
fn a_board_whose_store_cannot_be_read_refuses_payments_and_relays() {
    let disk = Disk { unreadable: true, ..Disk::default() };
    let mut w = World::new(&disk, 0);
    assert_eq!(w.boards[1].store_error(), Some(StoreError::Corrupted));
    let proof = w.order(&[7; 200]).proof();
    w.send(&[7; 200], &proof);
    w.until("refused", |w| w.seen.contains(&Seen::Failed(Cause::StoreFailed)));
    let ping = blvm_mesh_tests::packets::payloads::ping(1);
    w.send(&ping, &[]);
    w.until("delivered", |w| w.seen.contains(&Seen::Delivered(ping.len())));
}

#[test]
fn without_a_clock_payments_are_refused_for_that_and_a_hello_brings_the_time() {
    let clocks = [true, false, true];
    // The middle one believes nobody, or somebody who is not there.
    for believes in [None, Some(9)] {
        let mut w = World::with_clocks(&Disk::default(), 0, clocks, believes);
        let proof = w.order(&[7; 200]).proof();
        w.send(&[7; 200], &proof);
        w.until("refused", |w| w.seen.contains(&Seen::Failed(Cause::NoClock)));
        assert_eq!(w.boards[1].mesh().unix(), None);
    }
    let mut w = World::with_clocks(&Disk::default(), 0, clocks, Some(3));
    assert!(w.boards[1].status().takes_payments);
    let proof = w.order(&[7; 200]).proof();
    w.send(&[7; 200], &proof);
    w.until("delivered", |w| w.seen.contains(&Seen::Delivered(200)));
}

#[test]
fn an_application_sends_its_packet_again_and_learns_that_it_is_there() {
    let disk = Disk::default();
    disk.broken.set(true);
    let mut w = World::new(&disk, 0);
    let proof = w.order(&[7; 200]).proof();
    let mut packet = Vec::new();
    let [a, ..] = &mut w.boards;
    let sent = a.send(w.now, id(3), &[7; 200], &proof, &mut |what| {
        if let Happening::Paid { head, payload, .. } = what {
            packet = [head, payload].concat();
        }
    });
    // The board in the middle has booked it and could not write that down.
    w.until("the store failed", |w| w.seen.contains(&Seen::StoreFailed));
    disk.broken.set(false);
    w.until("payments again", |w| w.seen.contains(&Seen::StoreRecovered));
    assert!(!w.seen.contains(&Seen::Delivered(200)));
    let [a, ..] = &mut w.boards;
    let again = a.send_again(w.now, &packet, &mut |_| ());
    assert!(matches!(again, Sent::Queued(_)) && again == sent, "{again:?} {sent:?}");
    w.until("the receipt", |w| w.seen.contains(&Seen::Receipt));
    let delivered = w.seen.iter().filter(|s| **s == Seen::Delivered(200)).count();
    assert_eq!((delivered, disk.records.borrow().len()), (1, 1));
}
