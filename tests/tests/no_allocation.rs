//! No heap allocation on the relay path (DESIGN section 10), counted: for what is
//! relayed and for what is refused. Only the first payment takes memory: that of its
//! whole table.

use blvm_mesh_core::mesh::{MeshError, PaymentReason, Priority};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_tests::payloads::ping;
use blvm_mesh_tests::relay::{Relay, Verdict};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

struct Counting;

// SAFETY: passes every call on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = COUNT.try_with(|c| c.set(c.get() + 1));
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
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
            blvm_mesh_tests::packet::refix(&mut forged);
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
