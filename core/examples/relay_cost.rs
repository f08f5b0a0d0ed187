//! What a relay pays per packet, in one run on one machine:
//! `cargo run --release -p blvm-mesh-core --features std --example relay_cost`.
//!
//! Budgets (DESIGN section 10): a free datagram of 235 bytes in at most 200 ns
//! without its payload's checksum; a replay check among one million live
//! payments in at most 150 ns.
#![allow(missing_docs)]

#[cfg(not(feature = "alloc"))]
fn main() {
    eprintln!("needs --features std");
}

#[cfg(feature = "alloc")]
fn main() {
    host::main();
}

#[cfg(feature = "alloc")]
mod host {
    use bitcoin::secp256k1::SecretKey;
    use blvm_mesh_core::config::Config;
    use blvm_mesh_core::id::{LinkId, Network, NodeId};
    use blvm_mesh_core::mesh::{Action, HostMesh, Input};
    use blvm_mesh_core::mode::MeshMode;
    use blvm_mesh_core::payment::replay::ReplayPrevention;
    use blvm_mesh_core::tables::Heap;
    use blvm_mesh_core::tariff::Tariff;
    use blvm_mesh_core::wire::datagram::Emit;
    use blvm_mesh_core::wire::hello::{self, Hello};
    use sha2::{Digest, Sha256};
    use std::hint::black_box;
    use std::time::{Duration, Instant};

    const PACKETS: u64 = 200_000;
    const PAYMENTS: u64 = 1_000_000;

    pub(super) fn main() {
        let relay = relay_cost();
        let bytes = [7u8; 235];
        let hash = per(PACKETS, || {
            for _ in 0..PACKETS {
                black_box(Sha256::digest(black_box(&bytes)));
            }
        });
        let ratio = relay.as_nanos() as f64 / hash.as_nanos() as f64;
        println!("free datagram of 235 bytes relayed (mode open): {relay:?}");
        println!("one SHA-256 over 235 bytes: {hash:?}, ratio {ratio:.2}");
        println!("replay check among {PAYMENTS} payments: {:?}", replay_cost());
    }

    fn per(count: u64, work: impl FnOnce()) -> Duration {
        let start = Instant::now();
        work();
        start.elapsed() / u32::try_from(count).unwrap()
    }

    fn drain(mesh: &mut HostMesh) -> usize {
        let mut forwarded = 0;
        loop {
            match mesh.poll() {
                Action::Wait { .. } => return forwarded,
                Action::Forward { packet, .. } => forwarded += usize::from(packet.head.is_empty()),
                _ => {}
            }
        }
    }

    fn relay_cost() -> Duration {
        let mut config = Config::host(Network::Regtest);
        config.mode = MeshMode::Open;
        config.free_rate = u64::MAX;
        config.free_burst = u64::MAX;
        let mut mesh = HostMesh::new(config, SecretKey::from_slice(&[1; 32]).unwrap(), [2; 32]);
        let ends = [NodeId([3; 32]), NodeId([4; 32])];
        let hello = Hello {
            network: Network::Regtest,
            mode: MeshMode::Open,
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
        let payload = [0x5a; 235 - 100];
        let packets: Vec<[u8; 235]> = (0..PACKETS)
            .map(|sequence| {
                let emit = Emit {
                    hop_limit: 1,
                    sequence,
                    source: ends[0],
                    destination: ends[1],
                    proof: None,
                };
                let mut packet = [0; 235];
                let n = emit.write(&hops, &payload, &mut packet, |_| [0; 64]).unwrap();
                packet[n..].copy_from_slice(&payload);
                packet
            })
            .collect();
        let mut packets = packets;
        let mut forwarded = 0;
        let cost = per(PACKETS, || {
            for (now, packet) in packets.iter_mut().enumerate() {
                let input = Input::MessageReceived { link: LinkId(1), packet };
                mesh.handle(now as u64, input).unwrap();
                forwarded += drain(&mut mesh);
            }
        });
        assert_eq!(forwarded as u64, PACKETS, "every packet was relayed");
        cost
    }

    fn replay_cost() -> Duration {
        let mut table = ReplayPrevention::<Heap>::EMPTY;
        table.prepare(PAYMENTS as usize, [9; 16]);
        let key = |n: u64| -> [u8; 32] { Sha256::digest(n.to_le_bytes()).into() };
        for n in 0..PAYMENTS {
            table.accept(key(n), 1000 + n % 604_800).unwrap();
        }
        let keys: Vec<[u8; 32]> = (0..PACKETS).map(|n| key(n * 7)).collect();
        let (source, mut used) = (NodeId([1; 32]), 0);
        let cost = per(PACKETS, || {
            for key in &keys {
                used += usize::from(table.check_replay(black_box(key), &source, 0).is_err());
            }
        });
        assert_eq!(used as u64, PAYMENTS.div_ceil(7).min(PACKETS));
        cost
    }
}
