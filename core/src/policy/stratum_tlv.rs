//! The private TLV that blvm-node sends where Stratum V2 would stand: length of
//! all that follows but itself (u32), tag (u16), length of the value (u32),
//! value, little-endian. Off unless configured: nothing in it can be checked.

use super::reader::Reader;

/// Longest value: as much as the longest field of fixed kind in Stratum V2.
const MAX_VALUE: u32 = 0xffff;

/// One or more whole records of known tags and nothing after them.
pub(super) fn is_private_tlv(bytes: &[u8]) -> bool {
    let mut reader = Reader::new(bytes, 0);
    while !reader.is_empty() {
        if record(&mut reader).is_none() {
            return false;
        }
    }
    !bytes.is_empty()
}

fn record(reader: &mut Reader<'_>) -> Option<()> {
    let total = reader.u32().ok()?;
    let tag = reader.u16().ok()?;
    let length = reader.u32().ok()?;
    let known = matches!(tag, 0x01..=0x03 | 0x10..=0x12 | 0x20..=0x21 | 0x30..=0x32);
    if !known || length > MAX_VALUE || total != length.checked_add(6)? {
        return None;
    }
    reader.take(length as usize).ok()?;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Network;
    use crate::policy::{DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicyEngine};
    use std::vec::Vec;

    fn record(tag: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (value.len() as u32 + 6).to_le_bytes().to_vec();
        bytes.extend(tag.to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
        bytes.extend(value);
        bytes
    }

    #[test]
    fn known_tags_whole_records_and_only_if_configured() {
        let mut config = PolicyConfig::new(MeshMode::PaymentGated, Network::Mainnet);
        let off = RoutingPolicyEngine::new(config);
        config.private_stratum_tlv = true;
        let on = RoutingPolicyEngine::new(config);
        let known = [1, 2, 3, 0x10, 0x11, 0x12, 0x20, 0x21, 0x30, 0x31, 0x32];
        for tag in 0..0x100 {
            let one = record(tag, b"value");
            let found = on.detect_protocol(&one) == DetectedProtocol::StratumV2;
            assert_eq!(found, known.contains(&tag), "{tag:#x}");
            assert_eq!(off.detect_protocol(&one), DetectedProtocol::Unknown);
        }
        let two = [record(1, b""), record(0x32, &[7; 300])].concat();
        assert!(is_private_tlv(&two));
        assert!(is_private_tlv(&record(1, &[0; 0xffff])));
        assert!(!is_private_tlv(&record(1, &[0; 0x1_0000])));
        assert!(!is_private_tlv(&[]));
        for cut in 1..two.len() {
            assert_eq!(is_private_tlv(&two[..cut]), cut == 10, "{cut}");
        }
        let mut wrong = record(1, b"value");
        wrong[0] += 1;
        assert!(!is_private_tlv(&wrong));
        assert!(!is_private_tlv(&[0xff; 20]));
    }
}
