//! The private TLV of blvm-node, against a reader written apart from it.

use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicyEngine};

const TAGS: [u16; 11] = [0x01, 0x02, 0x03, 0x10, 0x11, 0x12, 0x20, 0x21, 0x30, 0x31, 0x32];

/// Only where it is configured, and only whole records of known tags.
pub fn target(data: &[u8]) -> bool {
    let plain = PolicyConfig::new(MeshMode::PaymentGated, Network::Regtest);
    let with = PolicyConfig { private_stratum_tlv: true, ..plain };
    let plain = RoutingPolicyEngine::new(plain).detect_protocol(data);
    let with = RoutingPolicyEngine::new(with).detect_protocol(data);
    let magic = data.first_chunk().is_some_and(|m| {
        *m == *b"MESH" || Network::ALL.iter().any(|network| network.magic() == *m)
    });
    if plain == DetectedProtocol::Unknown && !magic && records(data) {
        assert_eq!(with, DetectedProtocol::StratumV2);
        return true;
    }
    assert_eq!(with, plain);
    false
}

fn records(mut data: &[u8]) -> bool {
    if data.is_empty() {
        return false;
    }
    while let Some((head, rest)) = data.split_first_chunk::<10>() {
        let [t0, t1, t2, t3, k0, k1, l0, l1, l2, l3] = *head;
        let (total, len) = (u32::from_le_bytes([t0, t1, t2, t3]), [l0, l1, l2, l3]);
        let len = u64::from(u32::from_le_bytes(len));
        let known = TAGS.contains(&u16::from_le_bytes([k0, k1]));
        if !known || len > 0xffff || u64::from(total) != len + 6 || len > rest.len() as u64 {
            return false;
        }
        data = &rest[len as usize..];
    }
    data.is_empty()
}
