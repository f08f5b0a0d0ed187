//! Stratum V2 frames.

use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicyEngine};

/// Bytes of a frame's header: extension type, message type, length.
const HEADER_LEN: usize = 6;

/// Frames as they are, and with a last length that goes to the end.
pub fn target(data: &[u8]) -> bool {
    let taken = frames(data);
    let mut fixed = data.to_vec();
    let last = *starts(&fixed).last().unwrap_or(&0);
    if let Some(rest) = (fixed.len() - last).checked_sub(HEADER_LEN) {
        fixed[last + 3..last + 6].copy_from_slice(&(rest as u32).to_le_bytes()[..3]);
    }
    frames(&fixed) | taken
}

/// Where frames begin, as far as their lengths lead.
fn starts(bytes: &[u8]) -> Vec<usize> {
    let (mut starts, mut at) = (Vec::new(), 0);
    while let Some([_, _, _, a, b, c]) = bytes.get(at..).and_then(|rest| rest.first_chunk()) {
        starts.push(at);
        at += HEADER_LEN + u32::from_le_bytes([*a, *b, *c, 0]) as usize;
    }
    starts
}

fn is_stratum(bytes: &[u8]) -> bool {
    let config = PolicyConfig::new(MeshMode::PaymentGated, Network::Mainnet);
    let answer = RoutingPolicyEngine::new(config).explain(bytes);
    if let Err(why) = &answer {
        assert!(why.at <= bytes.len() && !why.to_string().is_empty(), "{why}");
    }
    answer == Ok(DetectedProtocol::StratumV2)
}

fn frames(bytes: &[u8]) -> bool {
    if !is_stratum(bytes) {
        return false;
    }
    // What is accepted is whole frames, each of which would be accepted alone.
    let starts = starts(bytes);
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    for (start, end) in starts.iter().zip(ends) {
        let [.., a, b, c] = bytes[*start..][..HEADER_LEN] else { unreachable!("a header") };
        let len = u32::from_le_bytes([a, b, c, 0]) as usize;
        assert_eq!(start + HEADER_LEN + len, end, "frames follow each other");
        assert!(is_stratum(&bytes[*start..end]), "each alone");
        // A byte more, which the length counts, belongs to no field: at most it
        // could be the length of a last one that may be left out.
        let mut longer = [&bytes[*start..end], &[0xff]].concat();
        longer[3..6].copy_from_slice(&(len as u32 + 1).to_le_bytes()[..3]);
        assert!(!is_stratum(&longer), "a byte behind the last field");
    }
    assert!(is_stratum(&bytes.repeat(2)));
    for cut in 0..bytes.len().min(64) {
        let boundary = starts.contains(&cut);
        assert_eq!(is_stratum(&bytes[..cut]), boundary && cut > 0, "cut at {cut}");
    }
    assert!(!is_stratum(&[bytes, &[0]].concat()));
    true
}
