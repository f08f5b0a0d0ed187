//! No heap allocation on the relay path (DESIGN section 10), counted.
#![cfg(feature = "alloc")]

use bitcoin::secp256k1::SecretKey;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::id::{LinkId, Network, NodeId};
use blvm_mesh_core::mesh::{Action, HostMesh, Input, Priority};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::wire::datagram::Emit;
use blvm_mesh_core::wire::hello::{self, Hello};
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

fn drain(mesh: &mut HostMesh) -> usize {
    let mut relayed = 0;
    loop {
        match mesh.poll() {
            Action::Wait { .. } => return relayed,
            Action::Forward { priority: Priority::Free, .. } => relayed += 1,
            _ => {}
        }
    }
}

/// Mainnet `ping`, framed as in the Bitcoin protocol documentation.
fn ping() -> Vec<u8> {
    use bitcoin::hashes::{Hash, sha256d};
    let nonce = [1, 2, 3, 4, 5, 6, 7, 8];
    let check = sha256d::Hash::hash(&nonce).to_byte_array();
    [&[0xf9, 0xbe, 0xb4, 0xd9], &b"ping\0\0\0\0\0\0\0\0"[..], &[8, 0, 0, 0], &check[..4], &nonce]
        .concat()
}

#[test]
fn a_free_datagram_is_relayed_or_refused_without_allocating() {
    let mut config = Config::host(Network::Regtest);
    config.mode = MeshMode::PaymentGated;
    let mut mesh = HostMesh::new(config, SecretKey::from_slice(&[1; 32]).unwrap(), [2; 32]);
    let ends = [NodeId([3; 32]), NodeId([4; 32])];
    let hello = Hello {
        network: Network::Regtest,
        mode: MeshMode::PaymentGated,
        quality: 256,
        max_packet: 1 << 20,
        tariff: Tariff::default(),
        keepalive_ms: 0,
        issuers: heapless::Vec::new(),
    };
    for (link, peer) in [LinkId(1), LinkId(2)].into_iter().zip(ends) {
        mesh.handle(0, Input::PeerConnected { link, peer, dialed: true }).unwrap();
        drain(&mut mesh);
        let mut packet = [0; hello::MAX_LEN];
        let n = hello.write(&mut packet).unwrap();
        mesh.handle(0, Input::MessageReceived { link, packet: &mut packet[..n] }).unwrap();
        drain(&mut mesh);
    }
    let hops = [mesh.id().hop()];
    let mut relay = |sequence: u64, payload: &[u8]| {
        let emit =
            Emit { hop_limit: 1, sequence, source: ends[0], destination: ends[1], proof: None };
        let mut packet = vec![0; 200];
        let n = emit.write(&hops, payload, &mut packet, |_| [0; 64]).unwrap();
        packet.truncate(n);
        packet.extend_from_slice(payload);
        let before = COUNT.with(Cell::get);
        let input = Input::MessageReceived { link: LinkId(1), packet: &mut packet };
        mesh.handle(1, input).unwrap();
        let relayed = drain(&mut mesh);
        (relayed, COUNT.with(Cell::get) - before)
    };
    let (free, paying) = (ping(), b"not Bitcoin".to_vec());
    // The first refusal makes room for the report to the source.
    assert_eq!(relay(1, &paying).0, 0);
    for sequence in 2..50 {
        assert_eq!(relay(sequence, &free), (1, 0));
        assert_eq!(relay(1000 + sequence, &paying), (0, 0));
    }
    assert!(COUNT.with(Cell::get) > 0, "the allocator counts");
}
