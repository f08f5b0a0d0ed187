//! What is heard: frames of sessions, acts of handshakes, and frames to all.

use super::frame::{Address, Content, Frame, TAG_LEN, TagKey, ToAll};
use super::peer::Peer;
use super::{Channel, lora};
use crate::id::NodeId;
use crate::link::aead::Aead;
use crate::link::datagram::terms::{self, ActFrame};
use crate::link::datagram::{Ignored, Keys};
use crate::link::packet_buffer::PacketBuffer;
use crate::time::Micros;

impl<A: Aead, B: PacketBuffer + Default, const N: usize> Channel<A, B, N> {
    /// Takes a frame that was heard, and decrypts it in place. `snr`: signal to noise in quarters
    /// of a dB, 0 where that is not known.
    ///
    /// # Errors
    /// [`Ignored`]: it changed nothing but an allowance.
    pub fn receive(
        &mut self,
        now: Micros,
        frame: &mut [u8],
        snr: i8,
        keys: &mut impl Keys,
    ) -> Result<(), Ignored> {
        let is_act = matches!(frame, [a, b, _, _, what, ..] if (*a, *b) != (0, 0) && *what > terms::SESSIONS);
        if is_act {
            let len = frame.len().checked_sub(TAG_LEN).ok_or(Ignored::NotAFrame)?;
            let (acts, tag) = frame.split_at_mut(len);
            let tag = (&*tag).try_into().map_err(|_| Ignored::NotAFrame)?;
            if !self.key.is_tag(acts, tag) {
                return Err(Ignored::Forged);
            }
            return match Frame::parse(acts).ok_or(Ignored::NotAFrame)? {
                Frame::ToOne { to, from, inner } if to == self.me => {
                    self.take_act(now, from, inner, keys)
                }
                _ => Err(Ignored::NotForUs),
            };
        }
        match Frame::parse(frame).ok_or(Ignored::NotAFrame)? {
            Frame::ToOne { to, from, inner } if to == self.me => {
                self.take_frame(now, from, inner, snr, keys)
            }
            Frame::ToOne { .. } => Err(Ignored::NotForUs),
            Frame::ToAll(to_all) => self.take_to_all(now, &to_all, snr),
        }
    }

    /// A frame of a session, from whoever has this address.
    fn take_frame(
        &mut self,
        now: Micros,
        from: Address,
        inner: &mut [u8],
        snr: i8,
        keys: &mut impl Keys,
    ) -> Result<(), Ignored> {
        let mut result = Err(Ignored::UnknownSession);
        let same = self.peers.iter().filter(|peer| peer.address == from).count();
        // Of several with the same address one after the other is tried, each with the frame as
        // it came.
        let copy: heapless::Vec<u8, { lora::MAX_FRAME }> = match same {
            0 => return result,
            1 => heapless::Vec::new(),
            _ => heapless::Vec::from_slice(inner).map_err(|_| Ignored::NotAFrame)?,
        };
        for (place, peer) in self.peers.iter_mut().filter(|p| p.address == from).enumerate() {
            if place > 0 {
                inner.get_mut(..copy.len()).ok_or(Ignored::NotAFrame)?.copy_from_slice(&copy);
            }
            result = peer.link.receive(now, inner, keys);
            if result.is_ok() {
                peer.note(now, snr);
                peer.ready = true;
                if peer.link.is_urgent(now) {
                    self.answer = Some(peer.number);
                    self.access.heard_own(now);
                }
                break;
            }
        }
        result
    }

    /// An act of a handshake, whose tag was right.
    fn take_act(
        &mut self,
        now: Micros,
        from: Address,
        inner: &mut [u8],
        keys: &mut impl Keys,
    ) -> Result<(), Ignored> {
        let (is_one, to_listener) = match ActFrame::parse(inner)? {
            ActFrame::One(..) => (true, true),
            ActFrame::Two(..) => (false, false),
            ActFrame::Three(..) => (false, true),
        };
        // Of two that dial each other at once the one with the higher key takes the other's call for its own, unless
        // its own was answered. The other keeps its own and answers as well, in its turn: whichever call gets
        // through ends the other, and neither end waits for one that is lost.
        if is_one
            && let Some(at) = self.peers.iter().position(|peer| {
                peer.address == from && peer.is_calling() && peer.key < Some(self.public_key)
            })
        {
            self.peers.swap_remove(at);
        }
        let mut result = Err(Ignored::NotForUs);
        for peer in self.peers.iter_mut().filter(|peer| peer.address == from) {
            if peer.dialed == to_listener {
                continue;
            }
            result = peer.link.receive(now, inner, keys);
            if result.is_ok() {
                peer.ready = true;
                return result;
            }
        }
        let known = self.peers.iter().any(|peer| peer.address == from && !peer.dialed);
        if is_one && !known {
            return self.strangers.called(from, inner, &mut self.rng);
        }
        result
    }

    /// A frame to all.
    fn take_to_all(&mut self, now: Micros, frame: &ToAll<'_>, snr: i8) -> Result<(), Ignored> {
        if frame.from == self.me && self.group.is_tag(frame.tagged, &frame.tag) {
            // This node does not hear itself. A neighbour sends in its name, or somebody repeats what
            // it sent.
            if frame.counter >= self.counter {
                self.change_group_key(now);
            }
            return Err(Ignored::Replayed);
        }
        let by = |peer: &&mut Peer<A, B>| {
            peer.address == frame.from && peer.is_group_tag(frame.tagged, &frame.tag)
        };
        if let Some(peer) = self.peers.iter_mut().find(by) {
            if !peer.take_counter(frame.counter) {
                return Err(Ignored::Replayed);
            }
            peer.note(now, snr);
            let number = peer.number;
            return match frame.content {
                Content::Packet(has, packet) => {
                    self.to_all.heard(packet);
                    let wanted = has != self.me;
                    if wanted { self.to_all.take(number, packet) } else { Ok(()) }
                }
                Content::Beacon | Content::Announcement(..) => Ok(()),
            };
        }
        match frame.content {
            Content::Announcement(key, announced, tag) if self.key.is_tag(announced, &tag) => {
                if Address::of(&NodeId::from_compressed(key)) != frame.from {
                    return Err(Ignored::Malformed);
                }
                if let Some(peer) = self.peers.iter_mut().find(|peer| peer.key == Some(*key)) {
                    // It may have begun anew. Or it is somebody else: what it has stays.
                    peer.doubted |= peer.has_group_key();
                    return Ok(());
                }
                self.strangers.announced(*key, frame.from, &mut self.rng);
                Ok(())
            }
            Content::Announcement(..) => Err(Ignored::Forged),
            Content::Beacon | Content::Packet(..) => Err(Ignored::UnknownSession),
        }
    }

    /// Takes another group key and gives it to all neighbours; once in a while, so that nobody has
    /// this node do nothing else.
    fn change_group_key(&mut self, now: Micros) {
        if now < self.rekey_at {
            return;
        }
        self.rekey_at = now.saturating_add(self.limits.beacon_interval);
        (self.group, self.counter) = (TagKey::new(self.rng.bytes()), 0);
        for peer in &mut self.peers {
            peer.owed_key = peer.link.neighbour().is_some();
            peer.ready = true;
        }
    }
}
