//! What waits to be sent on one link: three queues with one bound in bytes.
//!
//! The engine puts packets in and never waits; the link's writer takes whole
//! frames out. Packets are copied in, so that a slow neighbour holds exactly the
//! bytes that wait for it and nothing else.

use super::fifo::Fifo;
use super::lanes::Lanes;
use blvm_mesh_core::link::fragment::{FrameBuilder, Lane, Put, Splitter};
use blvm_mesh_core::mesh::api::Priority;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bounds of a queue, in bytes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressLimits {
    /// From here on the link is full: the state machine sends nothing more on it.
    pub high: usize,
    /// At or below this it has room again.
    pub low: usize,
    /// What control packets may take beyond `high` and one largest packet.
    pub reserve: usize,
    /// Largest packet.
    pub max_packet: usize,
}

/// What [`Egress::push`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The packet waits.
    Queued,
    /// The packet waits, and now the link is full.
    Full,
    /// The packet was not taken: no room, or the link is closing.
    Refused,
}

/// Bytes and packets that a link has sent, and how much waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) waiting: usize,
}

/// The queues of one link, shared by the engine and the link's writer.
pub(crate) struct Egress {
    queues: Mutex<Queues>,
    limits: EgressLimits,
    wake: async_channel::Sender<()>,
    woken: async_channel::Receiver<()>,
}

struct Queues {
    control: Fifo,
    paid: Fifo,
    free: Fifo,
    lanes: Lanes,
    splitter: Splitter,
    /// A control packet is half written on this lane.
    control_on: Option<Lane>,
    full: bool,
    closing: bool,
    sent: Sent,
}

/// What [`Egress::fill`] wrote: the lengths of the frames, in order.
#[derive(Debug, Default)]
pub(crate) struct Filled {
    /// Length of each frame, overhead included.
    pub(crate) frames: heapless::Vec<usize, 4>,
    /// Whether the queue was full before and has room now.
    pub(crate) room_again: bool,
}

impl Egress {
    pub(crate) fn new(limits: EgressLimits) -> Self {
        let (wake, woken) = async_channel::bounded(1);
        let queues = Mutex::new(Queues {
            control: Fifo::default(),
            paid: Fifo::default(),
            free: Fifo::default(),
            lanes: Lanes::default(),
            splitter: Splitter::default(),
            control_on: None,
            full: false,
            closing: false,
            sent: Sent::default(),
        });
        Self { queues, limits, wake, woken }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packet, `head` and then `tail`, into its queue. Call
    /// [`wake`](Self::wake) once after a number of them.
    pub(crate) fn push(&self, priority: Priority, head: &[u8], tail: &[u8]) -> Pushed {
        let mut q = self.lock();
        let len = head.len().saturating_add(tail.len());
        let EgressLimits { high, reserve, max_packet, .. } = self.limits;
        let bound = match priority {
            Priority::Control => high.saturating_add(max_packet).saturating_add(reserve),
            Priority::Paid | Priority::Free => high.saturating_add(max_packet),
        };
        if q.closing || len == 0 || q.bytes().saturating_add(len) > bound {
            return Pushed::Refused;
        }
        match priority {
            Priority::Control => q.control.push(head, tail),
            Priority::Paid => q.paid.push(head, tail),
            Priority::Free => q.free.push(head, tail),
        }
        if !q.full && q.bytes() >= high {
            q.full = true;
            return Pushed::Full;
        }
        Pushed::Queued
    }

    /// Tells the writer that something waits.
    pub(crate) fn wake(&self) {
        // A full channel means that the writer is to wake up already.
        let _ = self.wake.try_send(());
    }

    /// Takes nothing more; the writer ends when everything is written.
    pub(crate) fn finish(&self) {
        self.lock().closing = true;
        self.wake();
    }

    /// Until there is something to send; `false` if there never will be.
    pub(crate) async fn ready(&self) -> bool {
        loop {
            {
                let q = self.lock();
                if q.bytes() > 0 {
                    return true;
                }
                if q.closing {
                    return false;
                }
            }
            if self.woken.recv().await.is_err() {
                return false;
            }
        }
    }

    /// Packs waiting packets into frames, one behind another in `out`, not yet
    /// sealed. `out` must have room for one frame of `max_body` at least.
    pub(crate) fn fill(&self, out: &mut [u8], max_body: u16) -> Filled {
        let mut filled = Filled::default();
        let mut q = self.lock();
        let mut rest = out;
        while q.bytes() > 0 && !filled.frames.is_full() {
            // A small rest of the buffer would only make a small frame.
            if !filled.frames.is_empty() && rest.len() < usize::from(max_body) {
                break;
            }
            let Some(mut frame) = FrameBuilder::new(rest, max_body) else { break };
            while q.put_one(&mut frame) {}
            if frame.is_empty() {
                break;
            }
            let len = frame.finish();
            let Some((_, after)) = std::mem::take(&mut rest).split_at_mut_checked(len) else {
                break;
            };
            rest = after;
            // There is room: the loop's condition says so.
            let _ = filled.frames.push(len);
        }
        if q.full && q.bytes() <= self.limits.low {
            q.full = false;
            filled.room_again = true;
        }
        filled
    }

    /// Counts so far.
    pub(crate) fn sent(&self) -> Sent {
        let q = self.lock();
        Sent { waiting: q.bytes(), ..q.sent }
    }
}

impl Queues {
    fn bytes(&self) -> usize {
        self.control.bytes() + self.paid.bytes() + self.free.bytes()
    }

    /// Writes the next packet, or what fits of it; `false` if the frame is full or
    /// nothing waits.
    fn put_one(&mut self, frame: &mut FrameBuilder<'_>) -> bool {
        let Some((queue, lane)) = self.next() else { return false };
        let contended = !self.paid.is_empty() && !self.free.is_empty();
        let fifo = match queue {
            Priority::Control => &mut self.control,
            Priority::Paid => &mut self.paid,
            Priority::Free => &mut self.free,
        };
        let Some(packet) = fifo.front() else { return false };
        let len = packet.len();
        match self.splitter.put(frame, lane, packet) {
            Ok(Put::Done) => {
                fifo.pop();
                if queue == Priority::Control {
                    self.control_on = None;
                } else {
                    self.lanes.sent(lane, len, contended);
                }
                self.sent.packets += 1;
                self.sent.bytes += len as u64;
                true
            }
            Ok(Put::FrameFull) => {
                if queue == Priority::Control && self.splitter.begun(lane) > 0 {
                    self.control_on = Some(lane);
                }
                false
            }
            // Cannot be: no packet is empty, and only the front is ever put.
            Err(_) => {
                fifo.pop();
                true
            }
        }
    }

    /// Which queue is served next, and on which lane of the link.
    fn next(&self) -> Option<(Priority, Lane)> {
        if !self.control.is_empty() {
            // Control packets go on a lane that has no packet half written.
            let free_lane = [Lane::Paid, Lane::Free];
            let lane = self
                .control_on
                .or_else(|| free_lane.into_iter().find(|lane| self.splitter.begun(*lane) == 0));
            if let Some(lane) = lane {
                return Some((Priority::Control, lane));
            }
        }
        // Nothing may go between the halves of a control packet on its lane.
        let paid = !self.paid.is_empty() && self.control_on != Some(Lane::Paid);
        let free = !self.free.is_empty() && self.control_on != Some(Lane::Free);
        match self.lanes.choose(paid, free)? {
            Lane::Paid => Some((Priority::Paid, Lane::Paid)),
            Lane::Free => Some((Priority::Free, Lane::Free)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::link::joiner::{Joiner, Packet};
    use blvm_mesh_core::link::packet_buffer::Growable;
    use blvm_mesh_core::link::transport::{FRAME_OVERHEAD, HEADER_LEN};

    const LIMITS: EgressLimits =
        EgressLimits { high: 1000, low: 200, reserve: 100, max_packet: 500 };

    fn drain(egress: &Egress, max_body: u16) -> (Vec<Vec<u8>>, bool) {
        let mut joiner = Joiner::new(100_000, 1_000, Growable::new(0), Growable::new(0));
        let (mut out, mut got, mut room) = (vec![0; 200_000], Vec::new(), false);
        loop {
            let filled = egress.fill(&mut out, max_body);
            room |= filled.room_again;
            if filled.frames.is_empty() {
                return (got, room);
            }
            let mut at = 0;
            for len in &filled.frames {
                let body = at + HEADER_LEN..at + len - FRAME_OVERHEAD + HEADER_LEN;
                let mut records = joiner.records(0, &mut out[body]).unwrap();
                while let Some(Packet { bytes, .. }) = records.next().unwrap() {
                    got.push(bytes.to_vec());
                }
                at += len;
            }
        }
    }

    #[test]
    fn bounds_are_held_and_room_is_told_once() {
        let egress = Egress::new(LIMITS);
        assert_eq!(egress.push(Priority::Free, &[1; 499], &[1]), Pushed::Queued);
        assert_eq!(egress.push(Priority::Free, &[2; 499], &[]), Pushed::Queued);
        assert_eq!(egress.push(Priority::Paid, &[3; 500], &[]), Pushed::Full);
        // One largest packet over the mark is the most; control has a reserve.
        assert_eq!(egress.push(Priority::Free, &[4; 2], &[]), Pushed::Refused);
        assert_eq!(egress.push(Priority::Control, &[5; 100], &[]), Pushed::Queued);
        assert_eq!(egress.push(Priority::Control, &[6; 2], &[]), Pushed::Refused);
        let (got, room) = drain(&egress, u16::MAX);
        assert!(room);
        let first: Vec<u8> = got.iter().map(|p| p[0]).collect();
        assert_eq!(first, [5, 3, 1, 2]);
        assert_eq!(egress.sent(), Sent { packets: 4, bytes: 1599, waiting: 0 });
        assert!(!drain(&egress, u16::MAX).1);
    }

    #[test]
    fn control_passes_between_the_parts_of_a_large_packet() {
        let limits = EgressLimits { high: 100_000, max_packet: 50_000, ..LIMITS };
        let egress = Egress::new(limits);
        egress.push(Priority::Paid, &[1; 5000], &[]);
        egress.push(Priority::Free, &[2; 5000], &[]);
        let mut out = vec![0; 1100];
        assert_eq!(egress.fill(&mut out, 1000).frames.len(), 1);
        egress.push(Priority::Control, &[3; 10], &[]);
        let (mut order, mut joiner) =
            (Vec::new(), Joiner::new(9000, 1, Growable::new(0), Growable::new(0)));
        let mut frame = |out: &mut [u8], len: usize| {
            let mut records =
                joiner.records(0, &mut out[HEADER_LEN..len - FRAME_OVERHEAD + HEADER_LEN]).unwrap();
            while let Some(p) = records.next().unwrap() {
                order.push((p.bytes[0], p.bytes.len()));
            }
        };
        frame(&mut out, 1000 + FRAME_OVERHEAD);
        loop {
            let filled = egress.fill(&mut out, 1000);
            let Some(len) = filled.frames.first() else { break };
            frame(&mut out, *len);
        }
        assert_eq!(order, [(3, 10), (1, 5000), (2, 5000)]);
    }

    #[test]
    fn closing_lets_the_writer_finish() {
        smol::block_on(async {
            let egress = Egress::new(LIMITS);
            egress.push(Priority::Free, b"x", b"y");
            egress.finish();
            assert_eq!(egress.push(Priority::Free, b"z", b""), Pushed::Refused);
            assert!(egress.ready().await);
            assert_eq!(drain(&egress, 100).0, [b"xy"]);
            assert!(!egress.ready().await);
        });
    }
}
