//! What waits to be sent on one link, in fixed memory.

use crate::memory::{CONTROL_RESERVE, ENTRY_HEADER, Sent};
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::fragment::{FrameBuilder, Lane, Put, Splitter};
use blvm_mesh_core::link::transport::Sender;
use blvm_mesh_core::mesh::Priority;
use blvm_mesh_core::policy::quota::{self, LaneScheduler};
use heapless::VecView;

/// Thousandths of a busy link's bytes that free traffic gets for certain.
const FREE_SHARE: u16 = 250;

/// What an entry of the queue begins with. Packets of the mesh itself go on the paid
/// lane, before the data that waits there.
const FREE: u8 = Lane::Free as u8;
const PAID: u8 = Lane::Paid as u8;
const CONTROL: u8 = 2;

/// Packets of both lanes, and one frame on its way.
pub(crate) struct Egress {
    /// Entries in order of arrival: kind, length (little-endian), packet.
    queue: &'static mut VecView<u8>,
    splitter: Splitter,
    scheduler: LaneScheduler,
    /// Kind of the entry that the paid lane is at: what is begun is ended first.
    at_paid: u8,
    /// Its turn has come, but the last frame had no room for it.
    chosen: Option<Lane>,
    pub(crate) frame: &'static mut [u8],
    frame_len: usize,
    written: usize,
    full: bool,
}

impl Egress {
    pub(crate) fn new<const FRAME: usize, const QUEUE: usize>(
        memory: &'static mut Sent<FRAME, QUEUE>,
    ) -> Self {
        let Sent { queue, frame } = memory;
        Self {
            queue,
            splitter: Splitter::default(),
            scheduler: LaneScheduler::new(FREE_SHARE),
            at_paid: PAID,
            chosen: None,
            frame,
            frame_len: 0,
            written: 0,
            full: false,
        }
    }

    /// Forgets everything, for another link.
    pub(crate) fn clear(&mut self) {
        self.queue.clear();
        self.splitter = Splitter::default();
        self.chosen = None;
        (self.frame_len, self.written) = (0, 0);
        self.full = false;
    }

    /// Puts a packet, `head` and then `tail`, into the queue; `false` if there is no
    /// room for it.
    pub(crate) fn push(&mut self, priority: Priority, head: &[u8], tail: &[u8]) -> bool {
        let size = self.queue.capacity();
        let (kind, bound) = match priority {
            Priority::Control => (CONTROL, size),
            Priority::Paid => (PAID, size.saturating_sub(CONTROL_RESERVE)),
            Priority::Free => (FREE, size.saturating_sub(CONTROL_RESERVE)),
        };
        let len = head.len().saturating_add(tail.len());
        let Ok(short) = u16::try_from(len) else { return false };
        if short == 0 || self.queue.len().saturating_add(ENTRY_HEADER + len) > bound {
            return false;
        }
        let [low, high] = short.to_le_bytes();
        let parts = [&[kind, low, high][..], head, tail];
        parts.iter().all(|part| self.queue.extend_from_slice(part).is_ok())
    }

    /// Whether the link has just become full (`true`) or has room again.
    pub(crate) fn change(&mut self) -> Option<bool> {
        let full = match self.full {
            false => self.queue.len() >= self.queue.capacity() / 2,
            true => self.queue.len() > self.queue.capacity() / 4,
        };
        (full != self.full).then(|| {
            self.full = full;
            full
        })
    }

    /// An act of the handshake, to be sent as it is.
    pub(crate) fn put_act(&mut self, act: &[u8]) {
        if let Some(room) = self.frame.get_mut(..act.len()) {
            room.copy_from_slice(act);
            (self.frame_len, self.written) = (act.len(), 0);
        }
    }

    /// Writes as much as the port takes. Without a sender only what is begun.
    pub(crate) fn pump<A: Aead>(
        &mut self,
        mut sender: Option<&mut Sender<A>>,
        mut write: impl FnMut(&[u8]) -> usize,
    ) {
        loop {
            while let Some(left) = self.frame.get(self.written..self.frame_len) {
                if left.is_empty() {
                    break;
                }
                match write(left).min(left.len()) {
                    0 => return,
                    n => self.written += n,
                }
            }
            (self.frame_len, self.written) = (0, 0);
            let Some(sender) = sender.as_deref_mut() else { return };
            let len = self.build();
            let Some(frame) = self.frame.get_mut(..len).filter(|frame| !frame.is_empty()) else {
                return;
            };
            if sender.seal_frame(frame).is_err() {
                // Cannot be: the builder keeps to the limits of a frame.
                return;
            }
            self.frame_len = len;
        }
    }

    /// Fills the frame; returns its length, 0 if nothing waits.
    pub(crate) fn build(&mut self) -> usize {
        let Self { queue, splitter, scheduler, at_paid, chosen, frame, .. } = self;
        let Some(mut frame) = FrameBuilder::new(frame, u16::MAX) else { return 0 };
        loop {
            if splitter.begun(Lane::Paid) == 0 && chosen.is_none() {
                *at_paid = if first_of(queue, CONTROL).is_some() { CONTROL } else { PAID };
            }
            let (free, paid) = (first_of(queue, FREE), first_of(queue, *at_paid));
            let head = |entry: Option<(usize, usize)>, lane| {
                let left = entry?.1.saturating_sub(splitter.begun(lane));
                Some(left.min(frame.room()))
            };
            let lane = chosen.take().or_else(|| {
                if *at_paid == CONTROL && paid.is_some() {
                    return Some(Lane::Paid);
                }
                let turn = scheduler.next(head(paid, Lane::Paid), head(free, Lane::Free))?;
                Some(match turn {
                    quota::Lane::Paid => Lane::Paid,
                    quota::Lane::Free => Lane::Free,
                })
            });
            let entry = match lane {
                Some(Lane::Free) => free,
                Some(Lane::Paid) => paid,
                None => None,
            };
            let (Some(lane), Some((at, len))) = (lane, entry) else { break };
            let begun = splitter.begun(lane);
            let packet = queue.get(at + ENTRY_HEADER..at + ENTRY_HEADER + len).unwrap_or_default();
            match splitter.put(&mut frame, lane, packet) {
                Ok(Put::FrameFull) => {
                    *chosen = (splitter.begun(lane) == begun).then_some(lane);
                    break;
                }
                // An error cannot be: no packet is empty, and each is put until done.
                Ok(Put::Done) | Err(_) => remove(queue, at, ENTRY_HEADER + len),
            }
        }
        if frame.is_empty() { 0 } else { frame.finish() }
    }
}

/// Where the first entry of a kind begins, and the length of its packet.
fn first_of(queue: &[u8], kind: u8) -> Option<(usize, usize)> {
    let mut at = 0;
    loop {
        let (&[of, low, high], _) = queue.get(at..)?.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes([low, high]));
        if of == kind {
            return Some((at, len));
        }
        at += ENTRY_HEADER + len;
    }
}

fn remove(queue: &mut VecView<u8>, at: usize, len: usize) {
    let end = (at + len).min(queue.len());
    let left = queue.len() - (end - at);
    queue.copy_within(end.., at);
    queue.truncate(left);
}
