//! A packet as it stands among the bytes of a lane.
//!
//! First comes a number in LEB128, at most 4 bytes: twice the number of bytes that
//! follow, plus 1 where the packet follows as it is. Otherwise it follows without what
//! the link already knows: magic, length and check. The receiver works them out.

use crate::wire::{HEADER_LEN, header};

/// Bytes that a packet of the mesh has less among the bytes of a lane.
pub const LEFT_OUT: usize = 12;
/// Most bytes of the number before a packet.
pub const MAX_PREFIX: usize = 4;
/// Largest packet, in bytes.
pub const MAX_PACKET: usize = (1 << 27) - 1;

/// The pieces in which a packet goes among the bytes of a lane: the number, then at most
/// three parts of it.
pub struct Pieces<'p> {
    prefix: [u8; MAX_PREFIX],
    prefix_len: usize,
    parts: [&'p [u8]; 3],
}

impl<'p> Pieces<'p> {
    /// Of a packet in two parts, which is not empty and not longer than [`MAX_PACKET`].
    pub fn new(head: &'p [u8], tail: &'p [u8]) -> Option<Self> {
        let (head, tail) = if head.is_empty() { (tail, head) } else { (head, tail) };
        let whole = head.len().checked_add(tail.len()).filter(|n| (1..=MAX_PACKET).contains(n))?;
        let parts = match head.split_first_chunk::<HEADER_LEN>() {
            Some((header, body)) if header::is_complete(header, body, tail) => {
                let [_, _, _, _, kept @ ..] = header;
                [kept.get(..HEADER_LEN - LEFT_OUT)?, body, tail]
            }
            _ => [head, tail, &[]],
        };
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut number = len << 1 | usize::from(len == whole);
        let (mut prefix, mut prefix_len) = ([0; MAX_PREFIX], 0);
        for byte in &mut prefix {
            prefix_len += 1;
            *byte = (number & 0x7f) as u8;
            number >>= 7;
            if number == 0 {
                break;
            }
            *byte |= 0x80;
        }
        Some(Self { prefix, prefix_len, parts })
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let prefix = self.prefix.get(..self.prefix_len).unwrap_or_default();
        core::iter::once(prefix).chain(self.parts.iter().copied())
    }

    /// Bytes in all.
    pub fn size(&self) -> usize {
        self.iter().map(<[u8]>::len).sum()
    }
}

/// What the number before a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Bytes of the number.
    pub len: usize,
    /// Bytes that follow.
    pub follows: usize,
    /// Whether fields were left out.
    pub short: bool,
}

impl Prefix {
    /// Reads the number at the front of the bytes that are there.
    ///
    /// # Errors
    /// [`BadPrefix`]: no packet begins so. `Ok(None)`: more bytes are needed.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, BadPrefix> {
        let mut number = 0usize;
        for (i, byte) in bytes.iter().take(MAX_PREFIX).enumerate() {
            number |= usize::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                let (follows, short) = (number >> 1, number & 1 == 0);
                // The shortest form only, and nothing empty.
                let whole = follows >= if short { HEADER_LEN - LEFT_OUT } else { 1 };
                let shortest = i == 0 || *byte != 0;
                let prefix = Self { len: i + 1, follows, short };
                return if whole && shortest { Ok(Some(prefix)) } else { Err(BadPrefix) };
            }
        }
        if bytes.len() >= MAX_PREFIX { Err(BadPrefix) } else { Ok(None) }
    }

    /// Bytes of the whole packet.
    pub fn packet_len(&self) -> usize {
        self.follows + if self.short { LEFT_OUT } else { 0 }
    }
}

/// No packet begins with these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadPrefix;

/// Makes a packet whole whose fields were left out, in place: `LEFT_OUT` bytes that may
/// be overwritten, then what followed the number.
pub fn complete(packet: &mut [u8]) {
    // Before: 12 bytes of anything, then bytes 4 to 15 of the header.
    if let Some(head) = packet.first_chunk_mut::<HEADER_LEN>() {
        head.copy_within(LEFT_OUT..HEADER_LEN, header::MAGIC.len());
    }
    header::complete(packet);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Header, Kind, hello};
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::vec::Vec;

    fn round_trip(packet: &[u8]) -> usize {
        let pieces = Pieces::new(packet, &[]).unwrap();
        let bytes: Vec<u8> = pieces.iter().flatten().copied().collect();
        for cut in [0, 24.min(packet.len()), packet.len()] {
            let pieces = Pieces::new(&packet[..cut], &packet[cut..]).unwrap();
            assert!(pieces.iter().flatten().eq(&bytes));
        }
        assert_eq!(bytes.len(), pieces.size());
        for cut in 0..bytes.len().min(MAX_PREFIX) {
            assert!(Prefix::parse(&bytes[..cut]).is_ok_and(|p| p.is_none_or(|p| p.len <= cut)));
        }
        let prefix = Prefix::parse(&bytes).unwrap().unwrap();
        assert_eq!(bytes.len(), prefix.len + prefix.follows);
        assert_eq!(prefix.packet_len(), packet.len());
        let mut back = if prefix.short { [0xee; LEFT_OUT].to_vec() } else { Vec::new() };
        back.extend(&bytes[prefix.len..]);
        if prefix.short {
            complete(&mut back);
        }
        assert_eq!(back, packet);
        bytes.len()
    }

    fn mesh_packet(kind: u8, flags: u8, hop_limit: u8, sequence: u64, body: &[u8]) -> Vec<u8> {
        let header = Header { kind: Kind::from_u8(kind).unwrap(), flags, hop_limit, sequence };
        let mut packet = header.bytes(body.len() as u32).to_vec();
        packet.extend(body);
        header::complete(&mut packet);
        Header::parse(&packet).unwrap();
        packet
    }

    #[test]
    fn a_packet_of_the_mesh_has_twelve_bytes_less() {
        let packet = mesh_packet(1, 0, 3, 9, &[7; 235]);
        assert_eq!(round_trip(&packet), packet.len() - LEFT_OUT + 2);
        let packet = mesh_packet(9, 0, 0, 0, &[0; hello::MAX_LEN - 24]);
        assert_eq!(round_trip(&packet), packet.len() - LEFT_OUT + 2);
        // A header alone is 12 bytes and one for their number.
        assert_eq!(round_trip(&mesh_packet(1, 0, 0, 0, &[])), 13);
    }

    #[test]
    fn bounds() {
        assert!(Pieces::new(&[], &[]).is_none());
        assert_eq!((round_trip(&[1]), round_trip(&[1; 63]), round_trip(&[1; 64])), (2, 64, 66));
        assert_eq!(Prefix::parse(&[0x80, 0x80, 0x80, 0x80, 1]), Err(BadPrefix));
        for bad in [[0], [1], [22]] {
            assert_eq!(Prefix::parse(&bad), Err(BadPrefix));
        }
        assert_eq!(Prefix::parse(&[0x83, 0]), Err(BadPrefix));
        assert_eq!(Prefix::parse(&[3]), Ok(Some(Prefix { len: 1, follows: 1, short: false })));
    }

    proptest! {
        #[test]
        fn mesh_packets(kind in 1u8..=9, flags: u8, hop_limit: u8, sequence: u64, body in any_vec(any::<u8>(), 0..300)) {
            round_trip(&mesh_packet(kind, flags, hop_limit, sequence, &body));
        }

        #[test]
        fn anything_else(
            bytes in any_vec(any::<u8>(), 1..300), flip in any::<prop::sample::Index>(), value in 1u8..,
        ) {
            round_trip(&bytes);
            let mut packet = mesh_packet(1, 0, 3, 9, &bytes);
            let at = flip.index(packet.len());
            packet[at] ^= value;
            prop_assert!(round_trip(&packet) > packet.len());
        }

        #[test]
        fn any_number(bytes in any_vec(any::<u8>(), 0..6)) {
            if let Ok(Some(prefix)) = Prefix::parse(&bytes) {
                prop_assert!(prefix.follows <= MAX_PACKET && prefix.len <= MAX_PREFIX);
            }
        }
    }
}
