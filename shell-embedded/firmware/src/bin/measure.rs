//! Plays a recording and says what it costs: a hash of all actions, and instructions.
//!
//! The debugger puts the recording ([`blvm_mesh_embedded::recording`]) with its length in
//! front, as 32 bits, to [`RECORDING`], and says on the command line which of both: `trace`
//! or `count`. With QEMU's `-icount shift=0` one instruction takes
//! a nanosecond, so that the timer counts instructions, the same at every run.
#![no_std]
#![no_main]

use bitcoin::secp256k1::{Keypair, Secp256k1, Verification};
use blvm_mesh_core::config::PaymentRules;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::fragment::{FrameBuilder, Lane, Splitter};
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::{Link, LinkLimits, Step};
use blvm_mesh_core::mesh::{Action, BoardMesh, Input, Tables};
use blvm_mesh_core::payment::lightning::LightningLimits;
use blvm_mesh_core::payment::proof::PaymentProof;
use blvm_mesh_core::payment::replay::ReplayPrevention;
use blvm_mesh_core::payment::terms::Terms;
use blvm_mesh_core::tables::Fixed;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::header::Header;
use blvm_mesh_embedded::recording::{Moment, Recording, trace};
use blvm_mesh_firmware::mps2::{CLOCK_HZ, Clock};
use blvm_mesh_firmware::semihosting::{command_line, exit};
use blvm_mesh_firmware::{init_heap, log};
use core::hint::black_box;
use cortex_m_rt::entry;
use static_cell::ConstStaticCell;

/// Where the recording is: in memory that the image does not use.
const RECORDING: usize = 0x2010_0000;
/// Instructions per tick of the clock.
const PER_TICK: u64 = 1_000_000_000 / CLOCK_HZ as u64;
/// Largest packet and frame.
const PACKET: usize = 1280;

static TABLES: ConstStaticCell<Tables<Fixed>> = ConstStaticCell::new(Tables::EMPTY);
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

/// The nodes at the ends of a link, and the bytes of the handshake between them.
struct Linked {
    listens: Link<RustCrypto>,
    dials: Link<RustCrypto>,
}

/// Two handshakes' halves, and the link that comes of them.
fn handshake(meter: &mut Meter) -> Option<Linked> {
    let secp = Secp256k1::signing_only();
    let key = |n| Keypair::from_seckey_slice(&secp, &[n; 32]).ok();
    let (ours, theirs, limits) = (key(1)?, key(2)?, LinkLimits::default());
    // An end draws its ephemeral key as a part of its handshake.
    let (a, (mut dials, act)) = meter
        .of(|| {
            Some(Link::<RustCrypto>::initiator(0, limits, &ours, &key(3)?, &theirs.public_key()))
        })
        .transpose()?;
    let mut one = act;
    let (b, (mut listens, step)) = meter
        .of(|| {
            let mut link = Link::<RustCrypto>::responder(0, limits, &theirs, &key(4)?);
            let step = link.receive(1, &mut one).ok()?;
            Some((link, step))
        })
        .transpose()?;
    let Step::Reply { act: mut two, .. } = step else { return None };
    let (c, step) = meter.of(|| dials.receive(2, &mut two));
    let Ok(Step::Established { reply: Some(mut three), .. }) = step else { return None };
    let (d, step) = meter.of(|| listens.receive(3, &mut three));
    let Ok(Step::Established { .. }) = step else { return None };
    log!("handshake, dialling: {} instructions", a + c);
    log!("handshake, listening: {} instructions", b + d);
    Some(Linked { listens, dials })
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

/// What a link costs where a packet comes in on one and goes out on another.
fn crossing(meter: &mut Meter, linked: &mut Linked, packet: &[u8]) -> Option<u64> {
    type Assembly = heapless::Vec<u8, PACKET>;
    let mut joiner = Joiner::new(PACKET, 1_000_000, Assembly::new(), Assembly::new());
    let mut frame = [0; PACKET + 64];
    let send = |link: &mut Link<RustCrypto>, frame: &mut [u8], packet: &[u8]| {
        let mut builder = FrameBuilder::new(&mut *frame, u16::MAX)?;
        Splitter::default().put(&mut builder, Lane::Free, packet).ok()?;
        let len = builder.finish();
        link.sender()?.seal_frame(frame.get_mut(..len)?).ok()?;
        Some(len)
    };
    let len = send(&mut linked.dials, &mut frame, packet)?;
    let (cost, sent) = meter
        .of(|| {
            let Step::Frame(came) = linked.listens.receive(9, frame.get_mut(..len)?).ok()? else {
                return None;
            };
            let mut out = [0; PACKET + 64];
            let body = frame.get_mut(came.body)?;
            let mut records = joiner.records(9, body).ok()?;
            let packet = records.next().ok()??;
            send(&mut linked.listens, &mut out, packet.bytes)
        })
        .transpose()?;
    black_box(sent);
    Some(cost)
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
    let mut linked = handshake(meter)?;
    let network = recording.config.network;
    let (mut number, mut unix, mut copy) = (0, None, heapless::Vec::<u8, PACKET>::new());
    while !recording.is_done() {
        let Moment { marked, now, input, .. } = recording.next(room)?;
        copy.clear();
        match &input {
            Input::MessageReceived { packet, .. } if marked => {
                copy.extend_from_slice(packet).ok()?;
            }
            Input::WallClock { unix: seconds } => unix = Some(*seconds),
            _ => {}
        }
        let (cost, ()) = meter.of(|| {
            let taken = mesh.handle(now, input).is_ok();
            while taken && !matches!(black_box(mesh.poll()), Action::Wait { .. }) {}
        });
        if marked {
            log!("input {number}: {cost} instructions");
        }
        if !copy.is_empty() {
            let cost = crossing(meter, &mut linked, &copy)?;
            log!("links of {number}: {cost} instructions");
            let rules = &recording.config.payment;
            let proof = proof_alone(meter, mesh.secp(), network, rules, unix, &copy);
            if let Some(cost) = proof {
                log!("proof of {number}: {cost} instructions");
            }
        }
        number += 1;
    }
    Some(())
}

#[entry]
fn main() -> ! {
    init_heap();
    let Some(recording) = Recording::read(recording()) else { fail("there is no recording") };
    let mut room = [0; 4096];
    let Recording { config, key, seed, .. } = recording.clone();
    let mut mesh = BoardMesh::with_tables(TABLES.take(), config, key, seed);
    let mut line = [0; 64];
    if command_line(&mut line).contains("count") {
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
