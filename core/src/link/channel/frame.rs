//! Frames on a channel that many share.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | address of the receiver; 0: all who hear it |
//! | 2 | 2 | address of the sender |
//!
//! An address is the first two bytes of an identity, or 1 where these are 0. It finds the key that a
//! frame is checked with and proves nothing; two nodes may have the same one.
//!
//! To one node, what follows is a frame of its session ([`cipher`](crate::link::datagram::cipher)),
//! or an act of the handshake ([`terms`](crate::link::datagram::terms)) and a tag under the channel's
//! key. To all it is
//!
//! | size | field |
//! |---|---|
//! | 1 | what: 1 beacon, 2 announcement, 3 packet |
//! | 4 | counter of the sender, higher with each of its frames to all |
//! | 33 | of an announcement: the sender's public key |
//! | 2 | of a packet: address of a neighbour that has it already, 0: none |
//! | n | of a packet: the packet, as among the bytes of a lane |
//! | 8 | of an announcement: tag under the channel's key |
//! | 8 | tag under the sender's group key |
//!
//! Tags are the first 8 bytes of HMAC-SHA-256 (RFC 2104) over all that stands before them. The
//! channel's key says that a frame is of this mesh and keeps others from costing work; whoever holds it
//! is nobody for that. The group key is known to the sender's neighbours, who have it by their sessions.

use crate::id::NodeId;
use hkdf::hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a key that tags are made with.
pub const KEY_LEN: usize = 32;
/// Bytes of a tag.
pub const TAG_LEN: usize = 8;
/// Bytes before what a frame to one node carries.
pub const ADDRESSES_LEN: usize = 4;
/// Bytes of a frame to all before what is in it.
const HEAD_LEN: usize = ADDRESSES_LEN + 1 + 4;
const PUBLIC_KEY_LEN: usize = 33;
/// Bytes of a beacon.
pub const BEACON_LEN: usize = HEAD_LEN + TAG_LEN;
/// Bytes of an announcement.
pub const ANNOUNCEMENT_LEN: usize = HEAD_LEN + PUBLIC_KEY_LEN + 2 * TAG_LEN;
/// Bytes of a frame around a packet for all.
pub const PACKET_OVERHEAD: usize = HEAD_LEN + 2 + TAG_LEN;

const BEACON: u8 = 1;
const ANNOUNCEMENT: u8 = 2;
const PACKET: u8 = 3;

/// A node's address on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(pub u16);

impl Address {
    /// All who hear a frame.
    pub const ALL: Self = Self(0);

    /// Of a node.
    pub fn of(node: &NodeId) -> Self {
        let [a, b, ..] = node.0;
        Self(u16::from_be_bytes([a, b]).max(1))
    }

    fn bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

/// A key that tags are made with.
#[derive(Clone)]
pub struct TagKey([u8; KEY_LEN]);

impl TagKey {
    /// The key with these bytes.
    pub fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8; KEY_LEN] {
        &self.0
    }

    fn mac(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut block = [0; 64];
        if let Some(key) = block.first_chunk_mut() {
            *key = self.0;
        }
        // A key of one block is padded with zeros to it (RFC 2104, section 2).
        let mut mac = <Hmac<Sha256> as KeyInit>::new(&block.into());
        mac.update(bytes);
        mac
    }

    /// The tag of some bytes.
    pub fn tag(&self, bytes: &[u8]) -> [u8; TAG_LEN] {
        let whole: [u8; 32] = self.mac(bytes).finalize().into_bytes().into();
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(whole.first_chunk::<TAG_LEN>().unwrap_or(&[0; TAG_LEN]));
        tag
    }

    /// Whether this is their tag.
    pub fn is_tag(&self, bytes: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.mac(bytes).verify_truncated_left(tag).is_ok()
    }
}

impl core::fmt::Debug for TagKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TagKey")
    }
}

/// A frame, as far as it is read without a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'f> {
    /// To one node: its address, the sender's, and what it carries.
    ToOne {
        /// The receiver.
        to: Address,
        /// The sender, as it says.
        from: Address,
        /// A frame of a session, or an act and its tag.
        inner: &'f mut [u8],
    },
    /// To all.
    ToAll(ToAll<'f>),
}

/// A frame to all.
#[derive(Debug, PartialEq, Eq)]
pub struct ToAll<'f> {
    /// The sender, as it says.
    pub from: Address,
    /// Its counter.
    pub counter: u32,
    /// What is in it.
    pub content: Content<'f>,
    /// All that the group's tag is over.
    pub tagged: &'f [u8],
    /// The group's tag.
    pub tag: [u8; TAG_LEN],
}

/// What is in a frame to all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'f> {
    /// Nothing: the sender is there.
    Beacon,
    /// The sender's public key, all before the channel's tag, and that tag.
    Announcement(&'f [u8; PUBLIC_KEY_LEN], &'f [u8], [u8; TAG_LEN]),
    /// A neighbour that has it already, and a packet as among the bytes of a lane.
    Packet(Address, &'f [u8]),
}

impl<'f> Frame<'f> {
    /// Reads a frame; `None`: it has no form that a frame can have.
    pub fn parse(frame: &'f mut [u8]) -> Option<Self> {
        let [a, b, c, d] = *frame.first_chunk::<ADDRESSES_LEN>()?;
        let [to, from] = [[a, b], [c, d]].map(|bytes| Address(u16::from_be_bytes(bytes)));
        if from == Address::ALL || frame.len() == ADDRESSES_LEN {
            return None;
        }
        if to != Address::ALL {
            let inner = frame.get_mut(ADDRESSES_LEN..)?;
            return Some(Self::ToOne { to, from, inner });
        }
        let (tagged, tag) = frame.split_last_chunk::<TAG_LEN>()?;
        let (head, rest) = tagged.split_first_chunk::<HEAD_LEN>()?;
        let [_, _, _, _, what, w, x, y, z] = *head;
        let content = match what {
            BEACON if rest.is_empty() => Content::Beacon,
            ANNOUNCEMENT => {
                let (key, channel) = rest.split_first_chunk::<PUBLIC_KEY_LEN>()?;
                let channel: &[u8; TAG_LEN] = channel.try_into().ok()?;
                let announced = tagged.split_last_chunk::<TAG_LEN>()?.0;
                Content::Announcement(key, announced, *channel)
            }
            PACKET => {
                let (has, packet) = rest.split_first_chunk::<2>()?;
                Content::Packet(Address(u16::from_be_bytes(*has)), packet)
            }
            _ => return None,
        };
        let counter = u32::from_le_bytes([w, x, y, z]);
        Some(Self::ToAll(ToAll { from, counter, content, tagged, tag: *tag }))
    }
}

/// Writes bytes one after the other.
struct Out<'o> {
    out: &'o mut [u8],
    len: usize,
}

impl Out<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.len.checked_add(bytes.len())?;
        self.out.get_mut(self.len..end)?.copy_from_slice(bytes);
        self.len = end;
        Some(())
    }

    fn tag(&mut self, key: &TagKey) -> Option<()> {
        let tag = key.tag(self.out.get(..self.len)?);
        self.put(&tag)
    }

    fn head(&mut self, from: Address, what: u8, counter: u32) -> Option<()> {
        self.put(&Address::ALL.bytes())?;
        self.put(&from.bytes())?;
        self.put(&[what])?;
        self.put(&counter.to_le_bytes())
    }
}

/// Writes a beacon; returns its length, `None` if there is no room.
pub fn write_beacon(from: Address, counter: u32, group: &TagKey, out: &mut [u8]) -> Option<usize> {
    let mut out = Out { out, len: 0 };
    out.head(from, BEACON, counter)?;
    out.tag(group)?;
    Some(out.len)
}

/// Writes an announcement; returns its length, `None` if there is no room.
pub fn write_announcement(
    from: Address,
    counter: u32,
    key: &[u8; PUBLIC_KEY_LEN],
    channel: &TagKey,
    group: &TagKey,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out { out, len: 0 };
    out.head(from, ANNOUNCEMENT, counter)?;
    out.put(key)?;
    out.tag(channel)?;
    out.tag(group)?;
    Some(out.len)
}

/// Writes a packet for all but one neighbour; returns its length, `None` if there is no room.
pub fn write_packet<'p>(
    from: Address,
    counter: u32,
    has: Address,
    packet: impl Iterator<Item = &'p [u8]>,
    group: &TagKey,
    out: &mut [u8],
) -> Option<usize> {
    let mut out = Out { out, len: 0 };
    out.head(from, PACKET, counter)?;
    out.put(&has.bytes())?;
    for part in packet {
        out.put(part)?;
    }
    out.tag(group)?;
    Some(out.len)
}

/// Puts the addresses before a frame to one node, which stands behind room for them; `None` if there
/// is none.
pub fn address(to: Address, from: Address, out: &mut [u8]) -> Option<()> {
    let mut out = Out { out, len: 0 };
    out.put(&to.bytes())?;
    out.put(&from.bytes())
}
