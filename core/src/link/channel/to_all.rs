//! Packets that all neighbours must hear, each sent once.
//!
//! A search that many pass on is passed on by a few: whoever hears it often enough from others while
//! its own turn has not come lets it be (counter-based scheme; Ni, Tseng, Chen and Sheu, "The Broadcast
//! Storm Problem in a Mobile Ad Hoc Network", 1999, section 3.2).

use super::PeerNumber;
use super::frame::{Address, PACKET_OVERHEAD, TagKey, write_packet};
use super::lora::MAX_FRAME;
use crate::link::datagram::packet::{LEFT_OUT, Pieces, Prefix, complete};
use crate::link::datagram::{Ignored, NotQueued};
use crate::time::Micros;
use crate::wire::Kind;

/// Packets that wait to be sent to all.
const QUEUE: usize = 8;
/// How often others pass a search on before this node does not.
const HEARD: u8 = 3;
/// Most bytes of a packet in such a frame, with its prefix.
const MAX: usize = MAX_FRAME - PACKET_OVERHEAD;
/// Bytes of the search's number and source among those of a lane: behind the prefix, version, kind,
/// flags and hop limit.
const NUMBER: core::ops::Range<usize> = 4..20;
/// Where its kind is among them.
const KIND: usize = 1;

/// A packet to be sent to all.
#[derive(Debug)]
struct Waiting {
    due: Micros,
    since: Micros,
    has: Address,
    heard: u8,
    bytes: heapless::Vec<u8, MAX>,
}

/// Packets for all, on their way out and in.
#[derive(Debug, Default)]
pub(super) struct ToSendAll {
    waiting: heapless::Vec<Waiting, QUEUE>,
    /// One that came in, whole, and who sent it.
    taken: Option<(PeerNumber, heapless::Vec<u8, { MAX + LEFT_OUT }>)>,
    lent: bool,
}

/// What tells one search from others, whoever passes it on; `None`: it is no search.
fn number(packet: &[u8]) -> Option<&[u8]> {
    let prefix = Prefix::parse(packet).ok()??;
    let packet = packet.get(prefix.len..).filter(|_| prefix.short)?;
    packet.get(NUMBER).filter(|_| packet.get(KIND) == Some(&(Kind::RouteRequest as u8)))
}

impl ToSendAll {
    /// Whether a packet goes into a frame.
    pub(super) fn fits(&self, packet: &[u8]) -> bool {
        Pieces::new(packet, &[]).is_some_and(|pieces| pieces.size() <= MAX)
    }

    /// Queues a packet that is due at a time.
    pub(super) fn queue(
        &mut self,
        due: Micros,
        has: Address,
        packet: &[u8],
    ) -> Result<(), NotQueued> {
        let pieces = Pieces::new(packet, &[]).ok_or(NotQueued::Empty)?;
        let mut bytes = heapless::Vec::new();
        for part in pieces.iter() {
            let too_long = NotQueued::TooLong { len: packet.len(), max: MAX };
            bytes.extend_from_slice(part).map_err(|_| too_long)?;
        }
        let new = Waiting { due, since: due, has, heard: 0, bytes };
        self.waiting.push(new).map_err(|_| NotQueued::Full)
    }

    /// Somebody has sent this packet to all.
    pub(super) fn heard(&mut self, packet: &[u8]) {
        let Some(number_heard) = number(packet) else { return };
        self.waiting.retain_mut(|waiting| {
            let same = waiting.has != Address::ALL && number(&waiting.bytes) == Some(number_heard);
            waiting.heard = waiting.heard.saturating_add(u8::from(same));
            waiting.heard < HEARD
        });
    }

    /// Drops what waits for too long.
    pub(super) fn expire(&mut self, now: Micros, long: Micros) {
        self.waiting.retain(|waiting| now.saturating_sub(waiting.since) < long);
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> Option<Micros> {
        self.waiting.iter().map(|waiting| waiting.due).min()
    }

    /// Writes the frame of a packet that is due, which is sent with it.
    pub(super) fn write(
        &mut self,
        now: Micros,
        me: Address,
        counter: u32,
        group: &TagKey,
        out: &mut [u8],
    ) -> Option<usize> {
        let at = self.waiting.iter().position(|waiting| waiting.due <= now)?;
        let Waiting { has, bytes, .. } = self.waiting.remove(at);
        write_packet(me, counter, has, core::iter::once(&*bytes), group, out)
    }

    /// Takes a packet that came in; the one before it has been asked for.
    pub(super) fn take(&mut self, from: PeerNumber, packet: &[u8]) -> Result<(), Ignored> {
        let prefix = Prefix::parse(packet).ok().flatten().ok_or(Ignored::Malformed)?;
        let body = packet.get(prefix.len..).filter(|body| body.len() == prefix.follows);
        let body = body.ok_or(Ignored::Malformed)?;
        let mut whole = heapless::Vec::new();
        let before = if prefix.short { LEFT_OUT } else { 0 };
        let filled = whole.resize(before, 0).is_ok() && whole.extend_from_slice(body).is_ok();
        if !filled {
            return Err(Ignored::NoRoom);
        }
        if prefix.short {
            complete(&mut whole);
        }
        (self.taken, self.lent) = (Some((from, whole)), false);
        Ok(())
    }

    /// Whether one came in that was not asked for yet.
    pub(super) fn has_taken(&self) -> bool {
        self.taken.is_some() && !self.lent
    }

    /// That packet, lent.
    pub(super) fn lend(&mut self) -> Option<(PeerNumber, &mut [u8])> {
        self.lent = true;
        self.taken.as_mut().map(|(from, bytes)| (*from, &mut bytes[..]))
    }
}
