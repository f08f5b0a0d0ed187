//! A free datagram through the state machine, and the replay table.

use crate::measure::{Effort, Job, job, limit, line, nanoseconds};
use blvm_mesh_core::config::{Allowance, Config};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::payment::replay::ReplayPrevention;
use blvm_mesh_core::tables::Heap;
use blvm_mesh_tests::packets::payloads::version_message;
use blvm_mesh_tests::scenarios::relay::{Relay, Verdict};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of the datagram.
const SIZE: usize = 235;
/// Packets made at once: few enough to lie in a near cache, as after decryption.
const BATCH: u32 = 256;

pub(crate) fn measure(effort: Effort) {
    let payload = version_message(SIZE - 100);
    let open = relay(MeshMode::Open, &payload);
    let gated = relay(MeshMode::PaymentGated, &payload);
    let hash = job(|| _ = black_box(Sha256::digest(black_box(&payload))));
    let [open, gated, hash, data] = nanoseconds(effort, [open, gated, hash, flow()]);
    limit("free datagram of 235 bytes relayed, mode open", open, 90.0);
    let with = "the same, payment_gated: detection with its checksum";
    line(with, gated, "mode open and SHA-256 of the payload", open + hash, None);
    limit("data of 235 bytes on a paid flow relayed", data, 120.0);
    let [many] = nanoseconds(effort, [many_flows(effort.flows)]);
    println!(
        "| of {} flows in turn {:.1} million packets a second | | | | | | |",
        effort.flows,
        1e3 / many
    );
    line(
        &format!("the same, of {} free flows in turn", effort.flows),
        many,
        "one paid flow",
        data,
        None,
    );
}

/// Bytes of memory that the process holds, where the system tells.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

/// Data on each of many flows in turn.
fn many_flows(count: u64) -> Job<'static> {
    let mut config = Config::host(Network::Regtest);
    config.capacities.flows = 32_767;
    let any = Allowance { rate: u64::MAX, burst: u64::MAX };
    (config.control, config.control_of_all, config.bad_payments) = (any, any, any);
    let mut relay = Relay::with(MeshMode::Open, config);
    let before = resident();
    let random = |n: u64| (u128::from(n) + 1).to_le_bytes();
    for n in 0..count {
        let mut open = relay.open_with(random(n));
        relay.receive(&mut open);
    }
    assert_eq!(relay.mesh.resources().flows as u64, count);
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before) / count;
        println!(
            "| {count} flows through one relay take {each} bytes of memory each | | | | | | |"
        );
    }
    // In another order than they were opened in.
    let packets: Vec<_> =
        (0..count).map(|n| relay.data_of(random(n * 7_919 % count), SIZE)).collect();
    let mut at = 0;
    Box::new(move |runs| {
        let (mut time, mut left) = (Duration::ZERO, runs);
        while left > 0 {
            let next = packets.iter().cycle().skip(at).take(left.min(BATCH) as usize);
            let mut batch: Vec<_> = next.cloned().collect();
            at = (at + batch.len()) % packets.len();
            left -= batch.len() as u32;
            let start = Instant::now();
            for packet in &mut batch {
                assert_eq!(relay.receive(packet), Verdict::Forwarded(Priority::Free, SIZE));
            }
            time += start.elapsed();
        }
        time
    })
}

/// Data on a flow whose bytes were bought.
fn flow() -> Job<'static> {
    let mut relay = Relay::new(MeshMode::PaymentGated);
    // The relay has begun the run in which its cashier has issued the ticket.
    let mut paid = relay.pay_for(1, u64::MAX / 4);
    relay.receive(&mut paid);
    let mut open = relay.open();
    assert_eq!(relay.receive(&mut open), Verdict::Forwarded(Priority::Paid, open.len()));
    let packet = relay.data(SIZE);
    Box::new(move |runs| {
        let (mut time, mut left) = (Duration::ZERO, runs);
        while left > 0 {
            let mut packets = vec![packet.clone(); left.min(BATCH) as usize];
            left -= packets.len() as u32;
            let start = Instant::now();
            for packet in &mut packets {
                let verdict = relay.receive(packet);
                assert_eq!(verdict, Verdict::Forwarded(Priority::Paid, SIZE));
            }
            time += start.elapsed();
        }
        time
    })
}

fn relay(mode: MeshMode, payload: &[u8]) -> Job<'_> {
    let mut relay = Relay::new(mode);
    let mut sequence = 0;
    Box::new(move |runs| {
        let (mut time, mut left) = (Duration::ZERO, runs);
        while left > 0 {
            let mut packets: Vec<_> = (0..left.min(BATCH))
                .map(|n| relay.packet(sequence + u64::from(n), payload, &[]))
                .collect();
            left -= packets.len() as u32;
            sequence += packets.len() as u64;
            let start = Instant::now();
            for packet in &mut packets {
                let verdict = relay.receive(packet);
                assert_eq!(verdict, Verdict::Forwarded(Priority::Free, SIZE));
            }
            time += start.elapsed();
        }
        time
    })
}

pub(crate) fn measure_replay(effort: Effort) {
    let count = effort.payments;
    let key = |n: u64| -> [u8; 32] { Sha256::digest(n.to_le_bytes()).into() };
    let mut table = ReplayPrevention::<Heap>::EMPTY;
    table.prepare(count as usize, [9; 16]);
    let mut map = HashMap::new();
    for n in 0..count {
        let expires_at = 1000 + n % 604_800;
        table.accept(key(n), expires_at).expect("there is room");
        map.insert(key(n), expires_at);
    }
    // In another order than they came in, so that each look-up goes to memory.
    let used: Vec<_> = (0..count).map(|n| key(n * 7_919 % count)).collect();
    let new: Vec<_> = (count..2 * count).map(key).collect();
    let (table, map) = (&table, &map);
    let ours = |keys| each(keys, |key| table.check_replay(key, &NodeId([1; 32]), 0).is_err());
    let plain = |keys| each(keys, |key| map.contains_key(key));
    let jobs = [ours(&new), plain(&new), ours(&used), plain(&used)];
    let [new, plain_new, used, plain_used] = nanoseconds(effort, jobs);
    for (what, ns, plain) in [("new", new, plain_new), ("used", used, plain_used)] {
        let name = format!("replay check of a {what} payment among {count}");
        limit(&name, ns, 120.0);
        line(&name, ns, "`std` hash map", plain, None);
    }
}

fn each<'a>(keys: &'a [[u8; 32]], look_up: impl Fn(&[u8; 32]) -> bool + 'a) -> Job<'a> {
    let mut keys = keys.iter().cycle();
    job(move || _ = black_box(keys.next().map(&look_up)))
}
