//! Packets that are changed on the way.

use blvm_mesh_core::wire::HEADER_LEN;
use blvm_mesh_core::wire::checksum::Sum;

/// Where the hop limit is in a packet.
pub const HOP_LIMIT: usize = 7;
/// Where the sequence number is in a packet.
pub const SEQUENCE: core::ops::Range<usize> = 8..16;

/// Writes length and check of a changed packet anew, so that it is read at all.
/// Nothing is done to what is shorter than a header.
pub fn refix(packet: &mut [u8]) {
    let Some(body) = packet.len().checked_sub(HEADER_LEN) else { return };
    packet[16..20].copy_from_slice(&(body as u32).to_le_bytes());
    packet[20..24].fill(0);
    let mut sum = Sum::default();
    sum.add(packet);
    packet[20..24].copy_from_slice(&sum.check().to_le_bytes());
}
