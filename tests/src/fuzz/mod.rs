//! Fuzz bodies: what must hold of any bytes, one file per parser or machine.
//!
//! A body panics where it does not hold, and says whether the bytes were taken
//! for what they should be, so that a seed that no longer gets through is seen.
//! Ordinary tests run every body over the seeds and changes of them
//! ([`corpus`]); `tests/fuzz` runs them under libFuzzer. `docs/TESTING.md` says how.

pub mod board;
pub mod bolt11;
pub mod corpus;
pub mod covenant;
pub mod covenant_payment;
pub mod ctv;
pub mod datagram;
pub mod detect;
pub mod flow_end;
pub mod handshake;
pub mod headers;
pub mod invoice_text;
pub mod joiner;
pub mod ledger;
pub mod merkle;
pub mod mesh;
pub mod packed;
pub mod packet_buffer;
pub mod private_tlv;
pub mod proof;
pub mod seeds;
pub mod stratum;
pub mod stream;
pub mod transaction;
pub mod wire;

/// A fuzz body.
pub type Target = fn(&[u8]) -> bool;

/// Every body of this crate and the name of its target. Those of `shell-std` are
/// in its module `fuzz`.
pub const TARGETS: [(&str, Target); 20] = [
    ("board", board::target),
    ("bolt11", bolt11::target),
    ("covenant", covenant::target),
    ("datagram", datagram::target),
    ("detect", detect::target),
    ("flow_end", flow_end::target),
    ("handshake", handshake::target),
    ("headers", headers::target),
    ("joiner", joiner::target),
    ("ledger", ledger::target),
    ("merkle", merkle::target),
    ("mesh", mesh::target),
    ("packed", packed::target),
    ("packet_buffer", packet_buffer::target),
    ("private_tlv", private_tlv::target),
    ("proof", proof::target),
    ("stratum", stratum::target),
    ("stream", stream::target),
    ("transaction", transaction::target),
    ("wire", wire::target),
];

/// Decisions taken off the front of the bytes; zeros once they are used up.
#[derive(Debug, Clone, Copy)]
pub struct Choices<'a>(pub &'a [u8]);

impl<'a> Choices<'a> {
    /// Whether all bytes are used up.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Up to `n` bytes.
    pub fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// So many bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let taken = self.take(N);
        out[..taken.len()].copy_from_slice(taken);
        out
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    /// A number of two bytes.
    pub fn short(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// A number of eight bytes.
    pub fn long(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `n`, from one byte. `n` must not be 0.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }
}
