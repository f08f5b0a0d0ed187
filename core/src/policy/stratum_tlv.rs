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
