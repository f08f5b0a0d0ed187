//! A node with which a session stands or is being begun.

use super::frame::{ADDRESSES_LEN, Address, KEY_LEN, TAG_LEN, TagKey, address};
use super::{ChannelLimits, PeerState};
use crate::id::{NodeId, Standing};
use crate::link::aead::Aead;
use crate::link::datagram::{DatagramLink, LinkMemory, Role, terms};
use crate::link::packet_buffer::PacketBuffer;
use crate::time::Micros;

/// Number of a neighbour of this channel; another one after each session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerNumber(pub u32);

/// First bits of what stands for an address prefix of a stranger on the air: no prefix of an IP address
/// has them.
const ON_THE_AIR: u64 = 1 << 49;

/// Who a neighbour on a channel is for the state machine. On one whose key everybody knows each is
/// somebody else.
pub fn standing_on_air(node: &NodeId, is_public: bool) -> Standing {
    let [a, b, c, d, ..] = node.0;
    match is_public {
        true => {
            Standing::Stranger { prefix: ON_THE_AIR | u64::from(u32::from_be_bytes([a, b, c, d])) }
        }
        false => Standing::Own,
    }
}

/// First byte of what the channel's two ends say to each other in their session: no packet of the mesh
/// begins so.
const GROUP_KEY: u8 = 1;
/// Bytes of a group key as a neighbour is given it: what it is, the key, and the next counter.
pub(super) const GROUP_KEY_LEN: usize = 1 + KEY_LEN + 4;

/// A group key as a neighbour is given it.
pub(super) fn group_key(key: &TagKey, counter: u32) -> [u8; GROUP_KEY_LEN] {
    let mut out = [0; GROUP_KEY_LEN];
    let parts = [&[GROUP_KEY][..], key.bytes(), &counter.to_le_bytes()];
    let bytes = parts.into_iter().flatten();
    out.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    out
}

/// The key that tags its frames to all, and the lowest counter that is new.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) key: TagKey,
    pub(super) next: u32,
}

/// A node with which a session stands or is being begun.
#[derive(Debug)]
pub(super) struct Peer<A, B> {
    pub(super) number: PeerNumber,
    pub(super) address: Address,
    /// Its public key, where that is known: it was dialed, or has proven it.
    pub(super) key: Option<[u8; 33]>,
    /// Whether this side dials.
    pub(super) dialed: bool,
    pub(super) link: DatagramLink<A, B>,
    /// The caller knows of it.
    pub(super) told: bool,
    /// It may have something to send.
    pub(super) ready: bool,
    /// It is to be given this node's group key.
    pub(super) owed_key: bool,
    /// It may have begun anew.
    pub(super) doubted: bool,
    pub(super) group: Option<Group>,
    pub(super) heard: Micros,
    snr: i8,
    since: Micros,
}

impl<A: Aead, B: PacketBuffer + Default> Peer<A, B> {
    pub(super) fn new(
        number: PeerNumber,
        address: Address,
        key: Option<[u8; 33]>,
        role: Role,
        limits: &ChannelLimits,
        now: Micros,
    ) -> Self {
        let memory = LinkMemory { inbound: Default::default(), outbound: Default::default() };
        Self {
            number,
            address,
            key,
            dialed: matches!(role, Role::Dial(_)),
            link: DatagramLink::new(limits.link, role, memory),
            told: false,
            ready: true,
            owed_key: false,
            doubted: false,
            group: None,
            heard: now,
            snr: 0,
            since: now,
        }
    }

    /// What is told of it, if a session stands.
    pub(super) fn state(&self) -> Option<PeerState> {
        Some(PeerState {
            peer: self.number,
            key: self.link.neighbour().filter(|_| self.told)?,
            heard: self.heard,
            snr: self.snr,
            round_trip: self.link.round_trip(),
            sent: self.link.sent(),
        })
    }

    /// Something authentic was heard of it: it has not begun anew.
    pub(super) fn note(&mut self, now: Micros, snr: i8) {
        (self.heard, self.snr, self.doubted) = (now, snr, false);
    }

    /// Whether this side dials, and was not answered yet.
    pub(super) fn is_calling(&self) -> bool {
        self.dialed && self.link.neighbour().is_none() && !self.link.is_answered()
    }

    /// Whether no handshake has come to an end in time, or a session is over.
    pub(super) fn has_failed(&self, now: Micros, timeout: Micros) -> bool {
        let over = now.saturating_sub(self.since) >= timeout;
        over && !self.told && self.link.neighbour().is_none() && !self.link.has_farewell()
    }

    /// Whether its last word is still to be sent.
    pub(super) fn owes_farewell(&self) -> bool {
        self.link.has_farewell()
    }

    pub(super) fn is_silent(&self, now: Micros, silence: Micros) -> bool {
        self.told && now.saturating_sub(self.heard) >= silence
    }

    pub(super) fn has_group_key(&self) -> bool {
        self.group.is_some()
    }

    /// Whether it has made this tag with its group key.
    pub(super) fn is_group_tag(&self, tagged: &[u8], tag: &[u8; TAG_LEN]) -> bool {
        self.group.as_ref().is_some_and(|group| group.key.is_tag(tagged, tag))
    }

    /// Takes the counter of a frame to all; false if it was there before.
    pub(super) fn take_counter(&mut self, counter: u32) -> bool {
        match &mut self.group {
            Some(group) if counter >= group.next => {
                group.next = counter.saturating_add(1);
                counter != u32::MAX
            }
            _ => false,
        }
    }

    /// Whether a packet for the caller has come in. What the two ends of the channel say to each other is
    /// taken here.
    pub(super) fn has_packet(&mut self) -> bool {
        while self.told {
            let Some(packet) = self.link.peek_packet() else { return false };
            let told: Result<&[u8; GROUP_KEY_LEN], _> = packet.try_into();
            let Ok([GROUP_KEY, rest @ ..]) = told else { return true };
            if let Some((key, next)) = rest.split_first_chunk::<KEY_LEN>()
                && let Ok(next) = next.try_into()
            {
                let next = u32::from_le_bytes(next);
                self.group = Some(Group { key: TagKey::new(*key), next });
            }
            let _ = self.link.next_packet();
        }
        false
    }

    /// When it has something to do, besides what it is `ready` for.
    pub(super) fn wakes_at(&self, silence: Micros, timeout: Micros) -> Option<Micros> {
        let silent = self.told.then(|| self.heard.saturating_add(silence));
        let failed = (!self.told).then(|| self.since.saturating_add(timeout));
        [self.link.poll_timeout(), silent, failed].into_iter().flatten().min()
    }

    /// Writes its next frame; an act with its tag.
    pub(super) fn transmit(
        &mut self,
        now: Micros,
        me: Address,
        channel: &TagKey,
        keys: &mut impl super::Keys,
        out: &mut [u8],
    ) -> Option<usize> {
        let room = out.get_mut(ADDRESSES_LEN..)?;
        let len = self.link.transmit(now, keys, room)?;
        let is_act = room.first().is_some_and(|first| *first > terms::SESSIONS);
        address(self.address, me, out)?;
        let end = ADDRESSES_LEN.checked_add(len)?;
        if !is_act {
            return Some(end);
        }
        let tag = channel.tag(out.get(..end)?);
        out.get_mut(end..)?.get_mut(..TAG_LEN)?.copy_from_slice(&tag);
        Some(end + TAG_LEN)
    }
}
