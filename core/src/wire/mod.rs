//! Packets: one file per kind, each a checked borrowed view and an emitter.
//! No state. All numbers are little-endian. `docs/PROTOCOL.md` shows the bytes.

pub mod accepted;
pub mod account;
pub mod checksum;
pub mod datagram;
pub mod flow;
pub mod header;
pub mod hello;
pub mod route_error;
pub mod route_reply;
pub mod route_request;

pub use header::{HEADER_LEN, Header, Kind};

use crate::config::MAX_HOPS;

/// Why bytes are not a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum WireError {
    /// Fewer bytes than the packet says or its kind needs.
    #[error("the packet ends after {have} bytes, where {need} are needed")]
    Truncated {
        /// Bytes there are.
        have: usize,
        /// Bytes needed at least.
        need: usize,
    },
    /// The first four bytes are not `MESH`.
    #[error("the packet does not begin with MESH")]
    Magic,
    /// A version other than 1.
    #[error("packet version {0} is not supported, only version 1 is")]
    Version(u8),
    /// An unknown kind of packet.
    #[error("packet kind {0} is not known")]
    Kind(u8),
    /// The kind is known but not the one that was to be read here.
    #[error("the packet is of another kind than the one to be read")]
    OtherKind,
    /// A flag that this kind does not have.
    #[error("packet flags {0:#04x} are not known for this kind")]
    Flags(u8),
    /// The length field does not match the bytes that follow.
    #[error("the length field says {says} bytes, {have} follow")]
    Length {
        /// What the header says.
        says: u32,
        /// What follows it.
        have: usize,
    },
    /// The checksum is wrong.
    #[error("the packet's checksum is wrong")]
    Checksum,
    /// More hops than a route may have.
    #[error("the packet lists more than {MAX_HOPS} hops")]
    TooManyHops,
    /// A field holds a value that is not allowed.
    #[error("field {0} holds a value that is not allowed")]
    Field(&'static str),
    /// Bytes after the last field.
    #[error("{0} bytes follow the last field of the packet")]
    Trailing(usize),
    /// The emitter was given too little room.
    #[error("{need} bytes are needed to write the packet")]
    NoRoom {
        /// Bytes needed.
        need: usize,
    },
}

/// Reads fields off the front of a packet's body.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    total: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, total: bytes.len() }
    }

    pub(crate) fn slice(&mut self, n: usize) -> Result<&'a [u8], WireError> {
        let used = self.total - self.rest.len();
        let (head, rest) = self.rest.split_at_checked(n).ok_or_else(|| WireError::Truncated {
            have: self.total + HEADER_LEN,
            need: used.saturating_add(n).saturating_add(HEADER_LEN),
        })?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], WireError> {
        let slice = self.slice(N)?;
        slice.first_chunk().ok_or(WireError::Truncated { have: slice.len(), need: N })
    }

    pub(crate) fn u8(&mut self) -> Result<u8, WireError> {
        let [b] = self.array::<1>()?;
        Ok(*b)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, WireError> {
        Ok(u16::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(*self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(*self.array()?))
    }

    /// A number as Bitcoin Core's VARINT (serialize.h), 1 to 5 bytes: seven bits each,
    /// the highest first, and one more is meant where another byte follows. Each number
    /// has one form.
    pub(crate) fn varint(&mut self) -> Result<u32, WireError> {
        let mut number = 0u32;
        loop {
            let byte = self.u8()?;
            let shifted = number.checked_mul(0x80).ok_or(WireError::Field("number"))?;
            number = shifted | u32::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
            number = number.checked_add(1).ok_or(WireError::Field("number"))?;
        }
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    /// Bytes that this version defines as zero.
    pub(crate) fn zeros(&mut self, n: usize) -> Result<(), WireError> {
        match self.slice(n)?.iter().all(|b| *b == 0) {
            true => Ok(()),
            false => Err(WireError::Field("reserved")),
        }
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn end(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            n => Err(WireError::Trailing(n)),
        }
    }
}

/// Writes fields into a caller's buffer, after room for the header.
pub(crate) struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
    overflow: bool,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: HEADER_LEN, overflow: false }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> &mut Self {
        let end = self.at.saturating_add(bytes.len());
        match self.out.get_mut(self.at..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => self.overflow = true,
        }
        self.at = end;
        self
    }

    /// Takes so many bytes as they stand in the buffer.
    pub(crate) fn skip(&mut self, bytes: usize) -> &mut Self {
        let end = self.at.saturating_add(bytes);
        self.overflow |= end > self.out.len();
        self.at = end;
        self
    }

    /// Writes a number as [`Reader::varint`] reads it.
    pub(crate) fn put_varint(&mut self, number: u32) -> &mut Self {
        let (mut bytes, mut left, mut last) = ([0; 5], number, 0);
        for byte in bytes.iter_mut().rev() {
            *byte = (left & 0x7f) as u8 | last;
            last = 0x80;
            let Some(rest) = (left >> 7).checked_sub(1) else { break };
            left = rest;
        }
        // A byte that another follows is never zero.
        let from = bytes.iter().position(|byte| *byte != 0).unwrap_or(4);
        self.put(bytes.get(from..).unwrap_or_default())
    }

    /// What was put so far.
    pub(crate) fn body(&self) -> Option<&[u8]> {
        self.out.get(HEADER_LEN..self.at)
    }

    /// Writes the header for the body written so far plus `tail`, which is sent
    /// behind it but not copied. Returns the bytes written.
    pub(crate) fn finish(self, header: Header, tail: &[&[u8]]) -> Result<usize, WireError> {
        if self.overflow {
            return Err(WireError::NoRoom { need: self.at });
        }
        let no_room = WireError::NoRoom { need: self.at };
        let written = self.out.get_mut(..self.at).ok_or(no_room)?;
        let tail_len = tail.iter().map(|t| t.len()).sum::<usize>();
        let length = u32::try_from(self.at.saturating_sub(HEADER_LEN).saturating_add(tail_len))
            .map_err(|_| WireError::Field("length"))?;
        let (head, body) = written.split_first_chunk_mut().ok_or(no_room)?;
        *head = header.bytes(length);
        let mut sum = checksum::Sum::default();
        sum.add(head);
        sum.add(body);
        tail.iter().for_each(|t| sum.add(t));
        Header::set_check(head, sum.check());
        Ok(self.at)
    }
}
