//! Boards with an SX1262 on a channel with an RNode: the driver, a model of the chip, an emulated RNode and
//! the driver that a node has for it, in virtual time.

use blvm_mesh::radio::{self, Dialect as Language, Limits, Parameters};
use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::channel::lora::{HEADER, Modem as Lora};
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_embedded::radio::{Beside, MAX_BYTES, Modem, ModemError, Radio, Signal, Sx1262};
use blvm_mesh_embedded::{Board, BoardMemory, Happening, Port, Role, Sent, Storage, StoreError};
use blvm_mesh_tests::modems::sx1262::{self, Dio1, Part};
use blvm_mesh_tests::modems::{Dialect, Emulation, World};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Longest time from one look to the next.
const STEP: Micros = 5 * MILLISECOND;

/// What a node's driver sets an RNode to, in the usual channel of EU868.
const PARAMETERS: Parameters = Parameters {
    frequency_hz: 869_525_000,
    bandwidth_hz: 250_000,
    spreading: 7,
    coding: 5,
    power_dbm: 14,
};

/// The same for a board.
fn channel() -> RadioConfig {
    let preamble = Language::Rnode.preamble(&PARAMETERS);
    RadioConfig {
        key: [9; 32],
        is_public: false,
        frequency_hz: PARAMETERS.frequency_hz,
        power_dbm: 14,
        modem: PARAMETERS.modem(preamble, 100),
        pause_ms: 0,
        listen_dbm: None,
    }
}

/// A serial line in memory.
#[derive(Clone, Default)]
struct Line {
    input: Rc<RefCell<VecDeque<u8>>>,
    output: Rc<RefCell<VecDeque<u8>>>,
    cut: Rc<RefCell<bool>>,
}

impl Line {
    fn other_end(&self) -> Self {
        let (input, output) = (self.output.clone(), self.input.clone());
        Self { input, output, cut: self.cut.clone() }
    }
}

impl Port for Line {
    fn read(&mut self, buf: &mut [u8]) -> usize {
        let mut input = self.input.borrow_mut();
        let n = buf.len().min(input.len());
        buf.iter_mut().zip(input.drain(..n)).for_each(|(to, from)| *to = from);
        n
    }

    fn write(&mut self, bytes: &[u8]) -> usize {
        if !*self.cut.borrow() {
            self.output.borrow_mut().extend(bytes);
        }
        bytes.len()
    }
}

/// A place for records of which none comes back.
struct Disk;

impl Storage for Disk {
    fn load(&mut self, _: &mut dyn FnMut(Record)) -> Result<(), StoreError> {
        Ok(())
    }
    fn write(&mut self, _: &Record) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A node's driver of an RNode, and the RNode, as a chip that a board drives.
struct Rnode {
    driver: radio::Modem,
    air: Rc<RefCell<Emulation>>,
    number: usize,
    /// A frame that the modem cannot take yet.
    waits: Option<Vec<u8>>,
}

impl Rnode {
    fn new(air: &Rc<RefCell<Emulation>>, number: usize) -> Self {
        let limits = Limits { duty_permille: 100, listen_dbm: None };
        let driver = radio::Modem::new(Language::Rnode, PARAMETERS, limits, 0);
        Self { driver, air: air.clone(), number, waits: None }
    }
}

impl Modem for Rnode {
    fn start(&mut self, _: Micros) -> Result<(), ModemError> {
        Ok(())
    }

    fn poll(
        &mut self,
        now: Micros,
        received: &mut [u8; MAX_BYTES],
    ) -> Result<Option<Signal>, ModemError> {
        let mut air = self.air.borrow_mut();
        let out = std::mem::take(self.driver.output());
        if !out.is_empty() {
            air.feed(self.number, &out, now);
        }
        let said = air.take_output(self.number, usize::MAX, now);
        self.driver.receive(now, &said).expect("an RNode answers as its driver expects it");
        self.driver.handle_timeout(now).expect("and in time");
        if let Some(frame) = self.waits.take_if(|_| self.driver.may_send(now)) {
            self.driver.send(now, &frame);
        }
        Ok(self.driver.poll_event().and_then(|event| match event {
            radio::Event::Heard(heard) => {
                let len = 1 + heard.frame.len();
                received[0] = HEADER;
                received[1..len].copy_from_slice(&heard.frame);
                Some(Signal::Heard { len, snr: heard.snr })
            }
            radio::Event::Sent(done) => Some(Signal::Sent(done)),
            radio::Event::Carrier(busy) => Some(Signal::Carrier(busy)),
            _ => None,
        }))
    }

    fn poll_timeout(&self) -> Option<Micros> {
        Some(self.driver.poll_timeout())
    }

    fn is_free(&mut self) -> Result<bool, ModemError> {
        Ok(true)
    }

    fn send(&mut self, _: Micros, bytes: &[u8]) -> Result<(), ModemError> {
        self.waits = Some(bytes[1..].to_vec());
        Ok(())
    }
}

type Chip = Sx1262<Part, Part, Dio1, Part, Part>;
type OnAir<M> = Radio<RustCrypto, M, 8, 2064>;
type TestBoard<M> = Board<RustCrypto, Line, 1, OnAir<M>>;

fn key(n: u8) -> SecretKey {
    SecretKey::from_byte_array([n; 32]).unwrap()
}

fn board<M: Modem>(n: u8, line: Line, role: Role, modem: M) -> TestBoard<M> {
    let memory: &mut BoardMemory<RustCrypto, 1, 1040, 2064, 320> =
        Box::leak(Box::new(BoardMemory::EMPTY));
    let mut config = Config::board(Network::Regtest, 8192);
    config.mode = MeshMode::Open;
    let store = Box::leak(Box::new(Disk));
    let ports = [(line, role)];
    Board::with_radio(memory, config, key(n), [n; 32], ports, store, |public_key| {
        on_air(&channel(), modem, n + 100, public_key)
    })
}

fn on_air<M: Modem>(config: &RadioConfig, modem: M, seed: u8, key: &PublicKey) -> OnAir<M> {
    let channel = Box::leak(Box::new(OnAir::<M>::channel(config, [seed; 32], key)));
    Radio::new(config, modem, channel)
}

fn chip(config: &RadioConfig, chip: &sx1262::Sx1262) -> Chip {
    let part = || chip.part();
    Sx1262::new(config, part(), part(), chip.dio1(), part(), part())
}

/// What happened at a board.
#[derive(Default)]
struct Did {
    up: Vec<NodeId>,
    delivered: Vec<(NodeId, Vec<u8>)>,
    again: bool,
    failed: Vec<String>,
    down: Vec<usize>,
}

impl Did {
    fn note(&mut self, what: Happening<'_>) {
        match what {
            Happening::Event(Event::PeerConnected { peer, .. }) => self.up.push(peer),
            Happening::Deliver { source, payload, .. } => {
                self.delivered.push((source, payload.to_vec()));
            }
            Happening::SendAgain(_) => self.again = true,
            Happening::RadioFailed(why) => self.failed.push(why.to_string()),
            Happening::LinkDown { port, .. } => self.down.push(port),
            _ => {}
        }
    }
}

/// Two boards on one channel.
struct Two<M: Modem, N: Modem> {
    one: TestBoard<M>,
    other: TestBoard<N>,
    air: Rc<RefCell<Emulation>>,
    now: Micros,
    did: [Did; 2],
}

impl<M: Modem, N: Modem> Two<M, N> {
    fn until(&mut self, what: &str, longest: Micros, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = self.now + longest;
        while !holds(self) {
            assert!(self.now < end, "not in time: {what}");
            let Self { one, other, air, now, did } = self;
            let wakes = [
                one.step(*now, &mut |what| did[0].note(what)),
                other.step(*now, &mut |what| did[1].note(what)),
                air.borrow().due(),
            ];
            let wake = wakes.into_iter().flatten().min().unwrap_or(Micros::MAX);
            *now = wake.clamp(*now + MILLISECOND / 4, *now + STEP);
            air.borrow_mut().advance(*now);
        }
    }

    fn link(&mut self) {
        self.until("both have greeted", 120 * SECOND, |two| {
            let greeted = |neighbours| neighbours == 1;
            greeted(two.one.status().neighbours) && greeted(two.other.status().neighbours)
        });
    }

    /// Sends from the first to the second.
    fn carries(&mut self, payload: &[u8]) {
        let (from, to) = (self.one.mesh().id(), self.other.mesh().id());
        self.until("it is sent", 120 * SECOND, |two| {
            let now = two.now;
            let did = &mut two.did[0];
            let sent = two.one.send(now, to, payload, &[], &mut |what| did.note(what));
            matches!(sent, Sent::Queued(_))
        });
        self.until("it is delivered", 120 * SECOND, |two| {
            two.did[1].delivered.contains(&(from, payload.to_vec()))
        });
    }
}

#[test]
fn a_board_and_a_node_with_an_rnode_hear_each_other() {
    let model = sx1262::Sx1262::new();
    let emulation = Emulation::with(&World::of(&[Dialect::Rnode]), vec![Box::new(model.clone())]);
    let air = Rc::new(RefCell::new(emulation));
    let mut two = Two {
        one: board(1, Line::default(), Role::Listen, chip(&channel(), &model)),
        other: board(2, Line::default(), Role::Listen, Rnode::new(&air, 0)),
        air,
        now: 0,
        did: Default::default(),
    };
    two.link();
    // More than a frame, in both directions.
    let payload: Vec<u8> = (0..800).map(|n| n as u8).collect();
    two.carries(&payload);
    let Two { one, other, air, now, did: [a, b] } = two;
    let mut two = Two { one: other, other: one, air, now, did: [b, a] };
    two.carries(&payload);
    assert_eq!(model.faults(), [""; 0]);
    // What an RNode takes for a whole frame, and none that is longer than it takes.
    let sent = model.sent();
    assert!(sent.len() > 8 && sent.iter().all(|frame| frame[0] == 0 && frame.len() <= MAX_BYTES));
    assert_eq!(two.other.radio().counts().sent as usize, sent.len());
    // A handshake that was repeated while its answer was on the way may have made the first session anew.
    let one_neighbour = |up: &[NodeId]| !up.is_empty() && up.iter().all(|peer| *peer == up[0]);
    assert!(two.did.iter().all(|did| did.failed.is_empty() && one_neighbour(&did.up)));
}

#[test]
fn a_session_on_the_air_is_spare_while_a_line_stands_and_takes_over() {
    let models = [sx1262::Sx1262::new(), sx1262::Sx1262::new()];
    let others = models.iter().map(|model| Box::new(model.clone()) as _).collect();
    let air = Rc::new(RefCell::new(Emulation::with(&World::of(&[]), others)));
    let (line, dials) = (Line::default(), Role::Dial(key(2).public_key(&Secp256k1::new())));
    let mut two = Two {
        one: board(1, line.clone(), dials, chip(&channel(), &models[0])),
        other: board(2, line.other_end(), Role::Listen, chip(&channel(), &models[1])),
        air,
        now: 0,
        did: Default::default(),
    };
    two.link();
    assert!(two.now < SECOND, "by the line");
    two.until("a session stands on the air", 120 * SECOND, |two| {
        two.one.radio().peers().count() == 1 && two.other.radio().peers().count() == 1
    });
    let sent = two.one.line(0).unwrap().sent.chunks;
    two.carries(b"by the line");
    assert!(two.one.line(0).unwrap().sent.chunks > sent);
    assert_eq!(two.did[0].up.len(), 1);
    *line.cut.borrow_mut() = true;
    two.until("the line is given up", 120 * SECOND, |two| {
        let now = two.now;
        let to = two.other.mesh().id();
        let _ = two.one.send(now, to, b"lost", &[], &mut |_| ());
        two.did.iter().all(|did| did.down.contains(&0))
    });
    two.link();
    two.carries(b"on the air");
    assert!(two.did.iter().all(|did| did.up.len() == 2));
    // A chip that begins anew is set up again, and the session stands.
    models[0].lose_power();
    two.until("it is noticed", 30 * SECOND, |two| !two.did[0].failed.is_empty());
    two.carries(b"after that");
    assert!(two.did.iter().all(|did| did.up.len() == 2));
    assert!(models.iter().all(|model| model.faults().is_empty()), "{:?}", models[0].faults());
}

/// The air time of a region's law holds over any hour, whatever there is to send.
#[test]
fn a_low_limit_on_air_time_is_kept() {
    let model = sx1262::Sx1262::new();
    let emulation = Emulation::with(&World::of(&[]), vec![Box::new(model.clone())]);
    let air = Rc::new(RefCell::new(emulation));
    let modem = Lora { spreading: 9, bandwidth: 125_000, duty_permille: 1, ..channel().modem };
    let config = RadioConfig { modem, ..channel() };
    let public_key = key(1).public_key(&Secp256k1::new());
    let mut radio = on_air(&config, chip(&config, &model), 1, &public_key);
    let mut keys = Ephemeral(secp256k1::Keypair::from_secret_key(&Secp256k1::new(), &key(1)));
    let (mut now, mut sent) = (0, Vec::new());
    while now < 3 * 3_600 * SECOND {
        radio.receive(now, &mut keys, &mut |_| ());
        let wake = radio.transmit(now, &mut keys, &mut |_| ());
        let due = air.borrow().due();
        now = [wake, due].into_iter().flatten().min().unwrap().max(now + MILLISECOND);
        air.borrow_mut().advance(now);
        sent.resize(model.sent().len(), now);
    }
    let airtimes: Vec<(Micros, Micros)> = sent
        .iter()
        .zip(model.sent())
        .map(|(at, frame)| (*at, modem.airtime(frame.len())))
        .collect();
    for (from, _) in &airtimes {
        let hour = airtimes.iter().filter(|(at, _)| (*from..from + 3_540 * SECOND).contains(at));
        let used: Micros = hour.map(|(_, airtime)| airtime).sum();
        assert!(used <= 3_600 * MILLISECOND, "{used} us from {from} on");
    }
    assert!(airtimes.len() > 10, "it announces itself all the same");
    assert_eq!(model.faults(), [""; 0]);
}

#[test]
fn where_the_law_wants_it_a_taken_channel_is_measured_until_it_is_free() {
    let model = sx1262::Sx1262::new();
    let config = RadioConfig { listen_dbm: Some(-80), ..channel() };
    let public_key = key(1).public_key(&Secp256k1::new());
    let mut radio = on_air(&config, chip(&config, &model), 1, &public_key);
    let mut keys = Ephemeral(secp256k1::Keypair::from_secret_key(&Secp256k1::new(), &key(1)));
    let (mut now, mut looks) = (0, 0);
    model.set_noise(-50.0);
    while model.sent().is_empty() {
        if now > 30 * SECOND {
            model.set_noise(-110.0);
        }
        assert!(now < 31 * SECOND, "it is free");
        radio.receive(now, &mut keys, &mut |_| ());
        let wake = radio.transmit(now, &mut keys, &mut |_| ()).unwrap();
        now = wake.max(now + MILLISECOND);
        looks += 1;
    }
    assert!(now > 30 * SECOND, "{now}");
    // About each 40 ms from the first beacon on, which is due after 4 s at the latest.
    assert!((26 * 25..31 * 25).contains(&looks), "{looks}");
    assert_eq!(model.faults(), [""; 0]);
}

struct Ephemeral(secp256k1::Keypair);

impl blvm_mesh_core::link::datagram::Keys for Ephemeral {
    fn local(&self) -> &secp256k1::Keypair {
        &self.0
    }
    fn ephemeral(&mut self) -> secp256k1::Keypair {
        self.0
    }
}
