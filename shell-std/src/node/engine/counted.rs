//! What is counted of packets by what they are.

use blvm_mesh_core::mesh::Carried;
use blvm_mesh_core::wire::Kind;

/// Directions and classes, in the order in which they are counted.
pub(crate) const WAYS: [(&str, &str); 6] = [
    ("received", "control"),
    ("received", "datagram"),
    ("received", "flow"),
    ("sent", "control"),
    ("sent", "datagram"),
    ("sent", "flow"),
];

/// Where the kind stands in a packet's header.
const KIND: usize = 5;

/// Packets and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    pub(crate) fn add(&mut self, packets: u64, bytes: u64) {
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// What is told of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    /// By [`WAYS`].
    pub(crate) links: [Counts; WAYS.len()],
    /// By [`Class`](blvm_mesh_core::mesh::Class).
    pub(crate) relayed: [Carried; 6],
    /// Links that others have dialled.
    pub(crate) accepted: u64,
    /// Sales of bytes since the start, and what was paid for them.
    pub(crate) sales: u64,
    pub(crate) sold_msat: u64,
}

/// Packets on links, by [`WAYS`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ByClass(pub(crate) [Counts; WAYS.len()]);

impl ByClass {
    /// Counts a packet that has come, or is given to a link.
    pub(crate) fn note(&mut self, sent: bool, kind: Option<u8>, bytes: usize) {
        let class = match kind.and_then(Kind::from_u8) {
            Some(Kind::Datagram) => 1,
            Some(
                Kind::Open | Kind::Data | Kind::Ack | Kind::Close | Kind::Opened | Kind::FlowError,
            ) => 2,
            _ => 0,
        };
        if let Some(counts) = self.0.get_mut(class + if sent { 3 } else { 0 }) {
            counts.packets = counts.packets.wrapping_add(1);
            counts.bytes = counts.bytes.wrapping_add(bytes as u64);
        }
    }
}

/// The kind of a packet that is in one or two parts.
pub(crate) fn kind(head: &[u8], tail: &[u8]) -> Option<u8> {
    let whole = head.get(KIND).or_else(|| tail.get(KIND.checked_sub(head.len())?));
    whole.copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_counted_by_way_and_class() {
        let mut by_class = ByClass::default();
        by_class.note(false, Some(Kind::Datagram as u8), 100);
        by_class.note(true, Some(Kind::Data as u8), 10);
        by_class.note(true, Some(Kind::Hello as u8), 1);
        by_class.note(true, None, 1);
        let bytes = by_class.0.map(|counts| counts.bytes);
        assert_eq!(bytes, [0, 100, 0, 2, 0, 10]);
        assert_eq!(kind(&[0, 1, 2], &[3, 4, 5]), Some(5));
        assert_eq!(kind(&[0, 1, 2, 3, 4, 5], &[9]), Some(5));
        assert_eq!(kind(&[], &[0; 5]), None);
    }
}
