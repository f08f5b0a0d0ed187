//! No heap allocation on the relay path, counted: for what is relayed, for what is refused,
//! and on a datagram link in fixed memory. Only the first payment allocates: its whole table.

use blvm_mesh_core::config::{Allowance, Config};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::datagram::{
    DatagramLimits, DatagramLink, Event, Keys, LinkMemory, MEMORY_OVERHEAD, Role, serial,
};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{MeshError, PaymentReason, Priority};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_tests::packets::payloads::ping;
use blvm_mesh_tests::scenarios::relay::{Relay, Verdict};
use secp256k1::{Keypair, Secp256k1, SignOnly};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });
thread_local!(static BYTES: Cell<isize> = const { Cell::new(0) });

fn add(bytes: isize) {
    let _ = BYTES.try_with(|b| b.set(b.get() + bytes));
}

struct Counting;

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        add(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The verdict on a packet, and how often memory was asked for.
fn counted(relay: &mut Relay, mut packet: Vec<u8>) -> (Verdict, usize) {
    let before = COUNT.with(Cell::get);
    let verdict = relay.receive(&mut packet);
    (verdict, COUNT.with(Cell::get) - before)
}

fn refused(reason: PaymentReason) -> (Verdict, usize) {
    (Verdict::Refused(MeshError::from(reason)), 0)
}

/// What a flow that passes takes of the heap, and that its data take nothing more. `cargo bench
/// -p blvm-mesh-tests --bench budgets` times the same.
#[test]
fn ten_thousand_flows_through_one_relay() {
    const FLOWS: u64 = 10_000;
    let mut config = Config::host(Network::Regtest);
    // Each of the two neighbours may bring half of them.
    config.capacities.flows = 2 * FLOWS as usize;
    let any = Allowance { rate: u64::MAX, burst: u64::MAX };
    (config.control, config.control_of_all, config.bad_payments) = (any, any, any);
    let mut relay = Relay::with(MeshMode::Open, config);
    let before = BYTES.with(Cell::get);
    let random = |n: u64| (u128::from(n) + 1).to_le_bytes();
    for n in 0..FLOWS {
        let mut open = relay.open_with(random(n));
        relay.receive(&mut open);
    }
    assert_eq!(relay.mesh.resources().flows as u64, FLOWS);
    let each = (BYTES.with(Cell::get) - before) as u64 / FLOWS;
    println!("{each} bytes for each flow");
    assert!((100..=256).contains(&each), "{each} bytes for each flow");
    for n in 0..FLOWS {
        // In another order than they were opened in.
        let data = relay.data_of(random(n * 7_919 % FLOWS), 235);
        let relayed = (Verdict::Forwarded(Priority::Free, 235), 0);
        assert_eq!(counted(&mut relay, data), relayed);
    }
}

/// Neither a Bitcoin message nor anything else that goes free.
const OTHER: &[u8] = b"not Bitcoin";

#[test]
fn free_and_unpaid_datagrams() {
    let before = COUNT.with(Cell::get);
    let mut relay = Relay::new(MeshMode::PaymentGated);
    assert!(COUNT.with(Cell::get) > before, "the allocator counts");
    for sequence in 0..50 {
        let free = relay.packet(sequence, &ping(sequence), &[]);
        let relayed = (Verdict::Forwarded(Priority::Free, free.len()), 0);
        assert_eq!(counted(&mut relay, free), relayed);
        let unpaid = relay.packet(1000 + sequence, OTHER, &[]);
        assert_eq!(counted(&mut relay, unpaid), refused(PaymentReason::Required));
    }
}

fn first_payment(relay: &mut Relay) {
    let proof = relay.pay(OTHER);
    let paid = relay.packet(0, OTHER, &proof);
    let relayed = Verdict::Forwarded(Priority::Paid, paid.len());
    assert_eq!(counted(relay, paid).0, relayed);
}

#[test]
fn paid_datagrams_with_terms_as_hash_and_as_text() {
    let mut relay = Relay::new(MeshMode::PaymentGated);
    first_payment(&mut relay);
    for sequence in 1..40 {
        relay.bank.as_text = sequence % 2 == 1;
        let proof = relay.pay(OTHER);
        let paid = relay.packet(sequence, OTHER, &proof);
        let relayed = (Verdict::Forwarded(Priority::Paid, paid.len()), 0);
        assert_eq!(counted(&mut relay, paid), relayed);
        let again = relay.packet(1000 + sequence, OTHER, &proof);
        let (verdict, allocations) = counted(&mut relay, again);
        assert!(
            matches!(verdict, Verdict::Refused(MeshError::ReplayDetected(_))),
            "the payment was used: {verdict:?}"
        );
        assert_eq!(allocations, 0);
    }
}

#[test]
fn forged_proofs() {
    let mut relay = Relay::new(MeshMode::PaymentGated);
    first_payment(&mut relay);
    let mut verdicts = std::collections::BTreeSet::new();
    for (sequence, as_text) in [(1, false), (2, true)] {
        relay.bank.as_text = as_text;
        let proof = relay.pay(OTHER);
        let good = relay.packet(sequence, OTHER, &proof);
        // Each byte of the proof, and of the source's signature before it.
        for at in 0..64 + proof.len() {
            let mut forged = good.clone();
            forged[good.len() - OTHER.len() - proof.len() - 64 + at] ^= 1;
            blvm_mesh_tests::packets::edit::refix(&mut forged);
            let (verdict, allocations) = counted(&mut relay, forged);
            let Verdict::Refused(reason) = verdict else { panic!("byte {at}: {verdict:?}") };
            assert_eq!(allocations, 0, "byte {at}: {reason}");
            verdicts.insert(reason.to_string());
        }
        let relayed = (Verdict::Forwarded(Priority::Paid, good.len()), 0);
        assert_eq!(counted(&mut relay, good), relayed, "nothing was booked for a forgery");
    }
    assert!(verdicts.len() > 5, "forgeries fail at different checks: {verdicts:?}");
}

struct LinkKeys {
    secp: Secp256k1<SignOnly>,
    local: Keypair,
    next: u8,
}

impl LinkKeys {
    fn new(byte: u8) -> Self {
        let secp = Secp256k1::signing_only();
        let local = Keypair::from_seckey_byte_array(&secp, [byte; 32]).unwrap();
        Self { secp, local, next: byte }
    }
}

impl Keys for LinkKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }
    fn ephemeral(&mut self) -> Keypair {
        self.next += 1;
        Keypair::from_seckey_byte_array(&self.secp, [self.next; 32]).unwrap()
    }
}

/// Handshake, packets both ways, loss, garbage and a handshake anew, over a serial line.
#[test]
fn a_datagram_link() {
    const PACKET: usize = 1000;
    type Memory = heapless::Vec<u8, { PACKET + MEMORY_OVERHEAD }>;
    let end = |role, byte| {
        let memory = || [Memory::new(), Memory::new()];
        let memory = LinkMemory { inbound: memory(), outbound: memory() };
        let limits = DatagramLimits::serial(255, PACKET as u32);
        let link = DatagramLink::<RustCrypto, Memory>::new(limits, role, memory);
        (link, LinkKeys::new(byte), serial::Deframer::new([0; 257]))
    };
    let remote = LinkKeys::new(80).local.public_key();
    let mut ends = [end(Role::Dial(remote), 40), end(Role::Listen, 80)];
    let (mut out, mut line) = ([0; 255], [0; serial::encoded_len(255)]);
    let (mut ups, mut packets, mut sent) = (0, 0, 0u32);
    let before = COUNT.with(Cell::get);
    for step in 0..4_000u64 {
        let now = step * 10_000;
        // For a while nothing arrives, so that sessions end and are made anew.
        let cut = (1_000..3_400).contains(&step);
        for from in 0..2 {
            let [near, far] = &mut ends;
            let (near, far) = if from == 0 { (near, far) } else { (far, near) };
            if step % 20 == 0 {
                let lane = if step % 40 == 0 { Lane::Free } else { Lane::Paid };
                let _ = near.0.queue(now, lane, &[step as u8; PACKET], &[]);
            }
            while let Some(len) = near.0.transmit(now, &mut near.1, &mut out) {
                sent += 1;
                let len = serial::encode(&out[..len], &mut line).unwrap();
                if cut || sent % 5 == 0 {
                    continue;
                }
                line[len / 2] ^= u8::from(sent % 7 == 0);
                let mut bytes = &line[..len];
                while let Some(frame) = far.2.next(&mut bytes) {
                    let _ = far.0.receive(now, frame, &mut far.1);
                }
            }
            while let Some(event) = far.0.poll_event() {
                ups += u32::from(matches!(event, Event::Up(_)));
            }
            while let Some(packet) = far.0.next_packet() {
                assert_eq!(packet.bytes.len(), PACKET);
                packets += 1;
            }
        }
    }
    assert_eq!(COUNT.with(Cell::get) - before, 0);
    assert!(ups >= 4 && packets > 80, "{ups} sessions, {packets} packets");
}
