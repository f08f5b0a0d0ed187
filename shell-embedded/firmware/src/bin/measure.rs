//! Plays a recording and says what it costs: a hash of all actions, and instructions.
//!
//! The debugger puts the recording ([`blvm_mesh_embedded::recording`]) with its length in
//! front, as 32 bits, to [`RECORDING`], and says on the command line which of both: `trace`
//! or `count`. With `sign` the image needs none and signs what published vectors sign. With QEMU's `-icount shift=0` one instruction takes
//! a nanosecond, so that the timer counts instructions, the same at every run.
#![no_std]
#![no_main]

use blvm_mesh_core::config::PaymentRules;
use blvm_mesh_core::flow::tickets::Tickets;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::datagram::serial::{self, Deframer};
use blvm_mesh_core::link::datagram::{
    DatagramLimits, DatagramLink, Keys, LinkMemory, MEMORY_OVERHEAD, Role,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::owned::Input;
use blvm_mesh_core::mesh::{Action, BoardMesh, Tables, ticket_key};
use blvm_mesh_core::payment::lightning::LightningLimits;
use blvm_mesh_core::payment::proof::PaymentProof;
use blvm_mesh_core::payment::replay::ReplayPrevention;
use blvm_mesh_core::payment::terms::Terms;
use blvm_mesh_core::tables::Fixed;
use blvm_mesh_core::wire::account::{Message, Pay};
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::header::Header;
use blvm_mesh_embedded::recording::{Recording, trace};
use blvm_mesh_firmware::mps2::{CLOCK_HZ, Clock};
use blvm_mesh_firmware::semihosting::{command_line, exit};
use blvm_mesh_firmware::{init_heap, log, paint_stack, stack_used};
use core::hint::black_box;
use cortex_m_rt::entry;
use secp256k1::{Keypair, Secp256k1, SecretKey, Verification};
use sha2::{Digest, Sha256};
use static_cell::ConstStaticCell;

/// Where the recording is: in memory that the image does not use.
const RECORDING: usize = 0x2010_0000;
/// Instructions per tick of the clock.
const PER_TICK: u64 = 1_000_000_000 / CLOCK_HZ as u64;
/// Largest packet and frame.
const PACKET: usize = 1280;
const FRAME: usize = 314;

static TABLES: ConstStaticCell<Tables<Fixed>> = ConstStaticCell::new(Tables::EMPTY);
static TICKETS: ConstStaticCell<Tickets<Fixed>> = ConstStaticCell::new(Tickets::EMPTY);
static REPLAY: ConstStaticCell<ReplayPrevention<Fixed>> =
    ConstStaticCell::new(ReplayPrevention::EMPTY);

/// Counts instructions, to within one tick.
struct Meter {
    clock: Clock,
    /// What reading the clock takes.
    nothing: u64,
}

impl Meter {
    fn new() -> Self {
        let mut meter = Self { clock: Clock::start(), nothing: 0 };
        meter.nothing = meter.of(|| ()).0;
        meter
    }

    fn of<T>(&mut self, work: impl FnOnce() -> T) -> (u64, T) {
        let before = self.clock.ticks();
        let done = work();
        let ticks = self.clock.ticks() - before;
        ((ticks * PER_TICK).saturating_sub(self.nothing), done)
    }
}

fn recording() -> &'static [u8] {
    let start = RECORDING as *const u32;
    // SAFETY: nothing else is in this memory; the machine has 4 MiB of it.
    unsafe {
        let len = start.read_volatile() as usize;
        core::slice::from_raw_parts(start.add(1).cast(), len)
    }
}

fn fail(what: &str) -> ! {
    log!("{what}");
    exit(false)
}

type Buffer = &'static mut heapless::VecView<u8>;
type DatagramEnd = DatagramLink<RustCrypto, Buffer>;

/// Memory of both ends' lanes.
static LANES: ConstStaticCell<[heapless::Vec<u8, { PACKET + MEMORY_OVERHEAD }>; 8]> =
    ConstStaticCell::new([const { heapless::Vec::new() }; 8]);

/// The keys of an end.
struct Hand<'a> {
    secp: &'a Secp256k1<secp256k1::All>,
    local: Keypair,
    next: [u8; 32],
}

impl Keys for Hand<'_> {
    fn local(&self) -> &Keypair {
        &self.local
    }

    fn ephemeral(&mut self) -> Keypair {
        self.next[0] ^= 1;
        // A number of this size is a key.
        Keypair::from_seckey_byte_array(self.secp, self.next).unwrap_or(self.local)
    }
}

/// The nodes at the ends of a line, with their keys.
struct Linked<'a> {
    listens: (DatagramEnd, Hand<'a>),
    dials: (DatagramEnd, Hand<'a>),
}

/// A link over a serial line, and what its handshake costs each end, frames included.
fn handshake<'a>(meter: &mut Meter, secp: &'a Secp256k1<secp256k1::All>) -> Option<Linked<'a>> {
    let hand = |n| {
        let local = Keypair::from_seckey_byte_array(secp, [n; 32]).ok()?;
        Some(Hand { secp, local, next: [n + 2; 32] })
    };
    let (mut ours, mut theirs) = (hand(1)?, hand(2)?);
    let [a, b, c, d, e, f, g, h] = LANES.take().each_mut().map(|lane| lane.as_mut_view());
    let limits = DatagramLimits::serial(FRAME as u16, PACKET as u32);
    let memory = LinkMemory { inbound: [a, b], outbound: [c, d] };
    let mut dials = DatagramEnd::new(limits, Role::Dial(theirs.local.public_key()), memory);
    let memory = LinkMemory { inbound: [e, f], outbound: [g, h] };
    let mut listens = DatagramEnd::new(limits, Role::Listen, memory);
    let mut frame = [0; FRAME];
    let (a, len) = meter.of(|| dials.transmit(0, &mut ours, &mut frame)).transpose()?;
    let (b, len) = meter
        .of(|| {
            listens.receive(1, frame.get_mut(..len)?, &mut theirs).ok()?;
            listens.transmit(1, &mut theirs, &mut frame)
        })
        .transpose()?;
    let (c, len) = meter
        .of(|| {
            dials.receive(2, frame.get_mut(..len)?, &mut ours).ok()?;
            dials.transmit(2, &mut ours, &mut frame)
        })
        .transpose()?;
    let (d, len) = meter
        .of(|| {
            listens.receive(3, frame.get_mut(..len)?, &mut theirs).ok()?;
            listens.transmit(3, &mut theirs, &mut frame)
        })
        .transpose()?;
    let (e, ()) =
        meter.of(|| dials.receive(4, frame.get_mut(..len)?, &mut ours).ok()).transpose()?;
    dials.neighbour().zip(listens.neighbour())?;
    log!("handshake, dialling: {} instructions", a + c + e);
    log!("handshake, listening: {} instructions", b + d);
    Some(Linked { listens: (listens, theirs), dials: (dials, ours) })
}

/// Swaps the parts of a measurement that may have failed.
trait Transpose<T> {
    fn transpose(self) -> Option<(u64, T)>;
}

impl<T> Transpose<T> for (u64, Option<T>) {
    fn transpose(self) -> Option<(u64, T)> {
        Some((self.0, self.1?))
    }
}

/// What the links cost where a packet comes in on one and goes out on another: bytes of
/// the line become a frame and a packet, and that becomes a frame and bytes of the line.
fn crossing(meter: &mut Meter, linked: &mut Linked<'_>, packet: &[u8], now: u64) -> Option<u64> {
    let Linked { listens: (listens, theirs), dials: (dials, ours) } = linked;
    let mut frame = [0; FRAME];
    let mut line = [0; serial::encoded_len(FRAME)];
    let mut deframer = Deframer::new([0; FRAME + serial::CRC_LEN]);
    let mut cost = 0;
    dials.queue(now, Lane::Free, packet, &[]).ok()?;
    while let Some(len) = dials.transmit(now, ours, &mut frame) {
        let len = serial::encode(frame.get(..len)?, &mut line)?;
        let (a, ()) = meter
            .of(|| {
                let mut bytes = line.get(..len)?;
                let frame = deframer.next(&mut bytes)?;
                listens.receive(now, frame, theirs).ok()
            })
            .transpose()?;
        cost += a;
    }
    let mut copy = heapless::Vec::<u8, PACKET>::new();
    let (a, ()) = meter
        .of(|| {
            let packet = listens.next_packet()?;
            copy.extend_from_slice(packet.bytes).ok()?;
            listens.queue(now, Lane::Free, &[], &copy).ok()
        })
        .transpose()?;
    cost += a;
    loop {
        let (a, len) = meter.of(|| {
            let len = listens.transmit(now, theirs, &mut frame)?;
            serial::encode(frame.get(..len)?, &mut line)?;
            Some(len)
        });
        let Some(len) = len else { break };
        cost += a;
        // The other end acknowledges it, so that both are as they were before.
        dials.receive(now, frame.get_mut(..len)?, ours).ok()?;
    }
    while dials.next_packet().is_some() {}
    while let Some(len) = dials.transmit(now + 1_000_000, ours, &mut frame) {
        listens.receive(now, frame.get_mut(..len)?, theirs).ok()?;
    }
    (copy == packet).then_some(cost)
}

/// What the proof of a paid datagram costs, without its source's signature.
fn proof_alone<C: Verification>(
    meter: &mut Meter,
    secp: &Secp256k1<C>,
    network: Network,
    rules: &PaymentRules,
    unix: Option<u64>,
    packet: &[u8],
) -> Option<u64> {
    let (header, body) = Header::parse(packet).ok()?;
    let datagram = Datagram::parse(header, body).ok()?;
    let proof = datagram.signed.as_ref()?.proof;
    let limits =
        LightningLimits { max_lifetime_s: rules.max_lifetime, future_skew_s: rules.future_skew };
    let (cost, holds) = meter.of(|| {
        let PaymentProof::Lightning(proof) = PaymentProof::parse(proof).ok()? else { return None };
        let terms = Terms {
            network,
            source: datagram.source,
            destination: datagram.destination,
            hops: &datagram.route(),
            quota: datagram.payload.len() as u64,
        };
        let checked = proof.check(&terms.hash(), network, unix, &limits).ok()?;
        checked.verify_signature(secp, &rules.issuers).ok()
    });
    holds.map(|_| cost)
}

/// What the ticket and the preimage of a Pay cost, which the recording's node has issued at the
/// start of its run.
fn ticket_alone(
    meter: &mut Meter,
    tickets: &mut Tickets<Fixed>,
    key: &SecretKey,
    packet: &[u8],
) -> Option<u64> {
    let (header, body) = Header::parse(packet).ok()?;
    let datagram = Datagram::parse(header, body).ok()?;
    let Message::Pay(Pay { ticket, preimage }) = Message::parse(datagram.payload).ok()? else {
        return None;
    };
    tickets.prepare(1, [7; 16], ticket_key(key));
    tickets.begin(0, ticket.run);
    let (cost, checked) = meter.of(|| tickets.check(0, &datagram.source, &ticket, &preimage));
    checked.ok().map(|_| cost)
}

/// One look into a replay table that is full.
fn replay_check(meter: &mut Meter) {
    let table = REPLAY.take();
    table.prepare(usize::MAX, [7; 16]);
    let mut key = [0; 32];
    for n in 0..=u8::MAX {
        key = [n; 32];
        if table.accept(key, 1_000 + u64::from(n)).is_err() {
            break;
        }
    }
    key[0] ^= 1;
    let live = table.len();
    let (cost, new) = meter.of(|| black_box(&*table).check_replay(&key, &NodeId([0; 32]), 0));
    log!("replay check among {live}: {cost} instructions, new: {}", new.is_ok());
}

fn count(mesh: &mut BoardMesh, mut recording: Recording<'_>, room: &mut [u8]) -> Option<()> {
    let meter = &mut Meter::new();
    replay_check(meter);
    let secp = mesh.secp().clone();
    let mut linked = handshake(meter, &secp)?;
    let (network, key, tickets) = (recording.config.network, recording.key, TICKETS.take());
    let (mut number, mut unix) = (0u64, None);
    while !recording.is_done() {
        let moment = recording.next_moment()?;
        if let Input::WallClock { unix: seconds } = moment.input {
            unix = Some(seconds);
        }
        let packet = moment.copy_packet(room)?;
        if moment.marked {
            paint_stack();
        }
        let (cost, ()) = meter.of(|| {
            let taken = mesh.handle(moment.now, moment.input.input(packet)).is_ok();
            while taken && !matches!(black_box(mesh.poll()), Action::Wait { .. }) {}
        });
        if moment.marked {
            let stack = stack_used();
            log!("input {number}: {cost} instructions");
            log!("stack of {number}: {stack} bytes");
        }
        let packet = moment.input.packet();
        if moment.marked && !packet.is_empty() {
            let cost = crossing(meter, &mut linked, packet, 1_000_000 * (10 + number))?;
            log!("links of {number}: {cost} instructions");
            let rules = &recording.config.payment;
            let proof = proof_alone(meter, mesh.secp(), network, rules, unix, packet);
            if let Some(cost) = proof {
                log!("proof of {number}: {cost} instructions");
            }
            if let Some(cost) = ticket_alone(meter, tickets, &key, packet) {
                log!("ticket of {number}: {cost} instructions");
            }
        }
        number += 1;
    }
    Some(())
}

/// The first test vector of BIP 340 and a well-known one of RFC 6979, both of whose nonces
/// come from SHA-256.
fn sign() -> Option<()> {
    let secp = Secp256k1::new();
    let keypair = |n| {
        let mut key = [0; 32];
        key[31] = n;
        Keypair::from_seckey_byte_array(&secp, key).ok()
    };
    let signature = secp.sign_schnorr_with_aux_rand(&[0; 32], &keypair(3)?, &[0; 32]);
    log_hex("BIP 340:", &signature.to_byte_array());
    let message = secp256k1::Message::from_digest(Sha256::digest("Satoshi Nakamoto").into());
    let signature = secp.sign_ecdsa(message, &keypair(1)?.secret_key());
    log_hex("RFC 6979:", &signature.serialize_compact());
    Some(())
}

fn log_hex(name: &str, bytes: &[u8; 64]) {
    let (words, _) = bytes.as_chunks();
    let [a, b, c, d, e, f, g, h] =
        core::array::from_fn(|at| words.get(at).map_or(0, |word| u64::from_be_bytes(*word)));
    log!("{name} {a:016x}{b:016x}{c:016x}{d:016x}{e:016x}{f:016x}{g:016x}{h:016x}");
}

#[entry]
fn main() -> ! {
    init_heap();
    let mut line = [0; 64];
    let command = command_line(&mut line);
    if command.contains("sign") {
        exit(sign().is_some());
    }
    let Some(recording) = Recording::read(recording()) else { fail("there is no recording") };
    let mut room = [0; 4096];
    let Recording { config, key, seed, .. } = recording.clone();
    let mut mesh = BoardMesh::with_tables(TABLES.take(), config, key, seed);
    if command.contains("count") {
        match count(&mut mesh, recording, &mut room) {
            Some(()) => exit(true),
            None => fail("a measurement failed"),
        }
    }
    let Some((hash, inputs)) = trace(&mut mesh, recording, &mut room) else {
        fail("the recording cannot be read")
    };
    let (words, _) = hash.as_chunks();
    let [a, b, c, d] = [0, 1, 2, 3].map(|at| words.get(at).map_or(0, |w| u64::from_be_bytes(*w)));
    log!("trace {a:016x}{b:016x}{c:016x}{d:016x} of {inputs} inputs");
    exit(true)
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if let Some(place) = info.location() {
        log!("panicked at {}:{}", place.file(), place.line());
    }
    exit(false)
}
