//! What waits to be sent on one link: three queues, each with its own bound in bytes.
//!
//! The engine puts packets in and never waits; the link's writer takes whole
//! frames out. Packets are copied in, so that a slow neighbour holds exactly the
//! bytes that wait for it and nothing else.

use super::fifo::Fifo;
use super::memory::{Counted, Share};
use blvm_mesh_core::link::fragment::{FrameBuilder, Put, Splitter};
use blvm_mesh_core::link::lane::{Lane, LaneScheduler};
use blvm_mesh_core::mesh::Priority;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Share of a busy link that free traffic is guaranteed, in thousandths of the bytes.
const FREE_SHARE: u16 = 250;
/// Bytes of control packets that may wait however little memory is left: a hello must go out.
const LEAST_CONTROL: usize = 2 * 1024;
/// Bytes that a link must have room for again before its lanes count as not full.
const WORTH_TELLING: usize = 32 * 1024;

/// Bounds of a queue, in bytes of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EgressLimits {
    /// High-water mark: from here on a lane is full, and the state machine sends nothing more on
    /// it.
    pub(crate) high: usize,
    /// Low-water mark: at or below this it has room again.
    pub(crate) low: usize,
    /// Room for control packets, beside the lanes.
    pub(crate) control: usize,
    /// Largest packet.
    pub(crate) max_packet: usize,
}

/// The result of [`Egress::push`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The packet waits.
    Queued,
    /// The packet waits, and now its lane is full.
    Full,
    /// The packet was not taken: there is no room, or the link is closing.
    Refused,
}

/// What became of a packet from [`Egress::hand_out`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Given {
    /// It is on its way.
    Taken,
    /// It was not sent and will not be.
    Dropped,
    /// It must wait.
    NoRoom,
}

/// Lanes that were full and have room again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RoomAgain {
    free: bool,
    paid: bool,
}

impl RoomAgain {
    pub(crate) fn lanes(self) -> impl Iterator<Item = Lane> {
        let free = self.free.then_some(Lane::Free);
        self.paid.then_some(Lane::Paid).into_iter().chain(free)
    }
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
    share: Arc<Share>,
    wake: smol::channel::Sender<()>,
    woken: smol::channel::Receiver<()>,
}

struct Queues {
    control: Fifo,
    paid: Fifo,
    free: Fifo,
    scheduler: LaneScheduler,
    /// Chosen, but the frame had no room for it.
    chosen: Option<Lane>,
    splitter: Splitter,
    /// A control packet is half written on this lane.
    control_on: Option<Lane>,
    /// Bytes of paid packets that wait for their records and have room reserved here.
    reserved: usize,
    free_full: bool,
    paid_full: bool,
    closing: bool,
    sent: Sent,
    memory: Counted,
}

impl Egress {
    pub(crate) fn new(limits: EgressLimits, share: Arc<Share>) -> Self {
        let (wake, woken) = smol::channel::bounded(1);
        let queues = Mutex::new(Queues {
            control: Fifo::default(),
            paid: Fifo::default(),
            free: Fifo::default(),
            scheduler: LaneScheduler::new(FREE_SHARE),
            chosen: None,
            splitter: Splitter::default(),
            control_on: None,
            reserved: 0,
            free_full: false,
            paid_full: false,
            closing: false,
            sent: Sent::default(),
            memory: Counted::nothing(share.clone()),
        });
        Self { queues, limits, share, wake, woken }
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a packet, `head` and then `tail`, into its queue. Call
    /// [`wake`](Self::wake) once after a number of them.
    pub(crate) fn push(&self, priority: Priority, head: &[u8], tail: &[u8]) -> Pushed {
        let mut q = self.lock();
        let len = head.len().saturating_add(tail.len());
        if !q.admits(&self.limits, &self.share, priority, len) {
            return q.note_full(&self.limits, &self.share, priority, Pushed::Refused);
        }
        q.queue_of(priority).push(head, tail);
        q.count();
        q.note_full(&self.limits, &self.share, priority, Pushed::Queued)
    }

    /// Reserves room for a paid packet that must wait for its record first.
    pub(crate) fn reserve(&self, len: usize) -> Pushed {
        let mut q = self.lock();
        if !q.admits(&self.limits, &self.share, Priority::Paid, len) {
            return q.note_full(&self.limits, &self.share, Priority::Paid, Pushed::Refused);
        }
        q.reserved = q.reserved.saturating_add(len);
        q.count();
        q.note_full(&self.limits, &self.share, Priority::Paid, Pushed::Queued)
    }

    /// Puts a paid packet into its queue for which room was reserved.
    pub(crate) fn push_reserved(&self, packet: &[u8]) -> Pushed {
        let mut q = self.lock();
        q.reserved = q.reserved.saturating_sub(packet.len());
        if q.closing {
            return Pushed::Refused;
        }
        q.paid.push(&[], packet);
        q.count();
        Pushed::Queued
    }

    /// Releases the room of a paid packet that will not come.
    pub(crate) fn give_back(&self, len: usize) -> RoomAgain {
        let mut q = self.lock();
        q.reserved = q.reserved.saturating_sub(len);
        q.count();
        q.room_again(self.limits.low, &self.share)
    }

    /// Lanes that have room because others released memory. Memory that was kept and not used for
    /// a while is released too.
    pub(crate) fn look(&self) -> RoomAgain {
        let mut q = self.lock();
        if q.bytes() == 0 {
            let Queues { control, paid, free, .. } = &mut *q;
            [control, paid, free].into_iter().for_each(Fifo::trim);
            q.count();
        }
        q.room_again(self.limits.low, &self.share)
    }

    /// Bytes that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().bytes()
    }

    /// Tells the writer that something waits.
    pub(crate) fn wake(&self) {
        // A full channel means that the writer is being woken already.
        let _ = self.wake.try_send(());
    }

    /// Accepts nothing more; the writer ends when everything is written.
    pub(crate) fn finish(&self) {
        self.lock().closing = true;
        self.wake();
    }

    /// Waits until there is something to send; `false` if there never will be.
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
    /// sealed, and notes their lengths. `out` must have room for one frame of
    /// `max_body` at least.
    pub(crate) fn fill(&self, out: &mut [u8], max_body: u16, frames: &mut Vec<usize>) -> RoomAgain {
        frames.clear();
        let mut q = self.lock();
        let mut rest = out;
        while q.bytes() > 0 {
            // A small rest of the buffer makes a small frame: only worth it where it
            // takes all that is left, which would else need a write of its own.
            let is_small = rest.len() < usize::from(max_body);
            if !frames.is_empty() && is_small && q.unwritten() > rest.len() / 2 {
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
            frames.push(len);
        }
        q.count();
        q.room_again(self.limits.low, &self.share)
    }

    /// Hands whole packets out, control before paid before free, for a link that has
    /// lanes of its own: each to `give`, which says what became of it. A queue whose first
    /// packet has no room is passed over.
    pub(crate) fn hand_out(&self, mut give: impl FnMut(Priority, &[u8]) -> Given) -> RoomAgain {
        let mut q = self.lock();
        let Queues { control, paid, free, sent, .. } = &mut *q;
        let queues = [(Priority::Control, control), (Priority::Paid, paid), (Priority::Free, free)];
        for (priority, fifo) in queues {
            while let Some(packet) = fifo.front() {
                match give(priority, packet) {
                    Given::Taken => {
                        sent.packets += 1;
                        sent.bytes += packet.len() as u64;
                    }
                    Given::Dropped => {}
                    Given::NoRoom => break,
                }
                fifo.pop();
            }
        }
        q.count();
        q.room_again(self.limits.low, &self.share)
    }

    /// Waits until packets were put in, or the link is to finish.
    pub(crate) async fn woken(&self) {
        // Both ends of the channel are in `self`.
        let _ = self.woken.recv().await;
    }

    /// Whether nothing waits and nothing will.
    pub(crate) fn is_finished(&self) -> bool {
        let q = self.lock();
        q.closing && q.bytes() == 0
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

    /// Bytes of paid packets that wait, and those that will.
    fn paid_taken(&self) -> usize {
        self.paid.bytes().saturating_add(self.reserved)
    }

    /// Whether there is room for a packet of this size: a lane may exceed its mark by one largest
    /// packet. Control packets share no lane's room. A paid packet that the state machine was
    /// allowed to book is taken even if memory has become scarce since.
    fn admits(&self, limits: &EgressLimits, share: &Share, priority: Priority, len: usize) -> bool {
        let EgressLimits { high, control, max_packet, .. } = *limits;
        let over = high.saturating_add(max_packet);
        let after = |taken: usize| taken.saturating_add(len);
        let fits = match priority {
            Priority::Control => {
                let after = after(self.control.bytes());
                after <= LEAST_CONTROL.min(control)
                    || (after <= control && share.may_take(self.control.cost(len)))
            }
            Priority::Paid => after(self.paid_taken()) <= over,
            Priority::Free => {
                after(self.free.bytes()) <= over && share.may_take(self.free.cost(len))
            }
        };
        fits && len > 0 && !self.closing
    }

    /// Notes whether a lane is full after a packet was taken or refused.
    fn note_full(
        &mut self,
        limits: &EgressLimits,
        share: &Share,
        priority: Priority,
        pushed: Pushed,
    ) -> Pushed {
        let (taken, full) = match priority {
            Priority::Control => return pushed,
            Priority::Paid => (self.paid_taken(), &mut self.paid_full),
            Priority::Free => (self.free.bytes(), &mut self.free_full),
        };
        let refused = pushed == Pushed::Refused;
        if !*full && (refused || taken >= limits.high || !share.is_within()) {
            *full = true;
            return if refused { pushed } else { Pushed::Full };
        }
        pushed
    }

    /// Counts the memory of the queues, and what will be put into them.
    fn count(&mut self) {
        let queues = self.control.memory() + self.paid.memory() + self.free.memory();
        self.memory.set(queues.saturating_add(self.reserved));
    }

    fn room_again(&mut self, low: usize, share: &Share) -> RoomAgain {
        if !(self.paid_full || self.free_full) || !share.may_take(WORTH_TELLING.min(low)) {
            return RoomAgain::default();
        }
        let paid = self.paid_full && self.paid_taken() <= low;
        let free = self.free_full && self.free.bytes() <= low;
        self.paid_full &= !paid;
        self.free_full &= !free;
        RoomAgain { free, paid }
    }

    fn queue_of(&mut self, priority: Priority) -> &mut Fifo {
        match priority {
            Priority::Control => &mut self.control,
            Priority::Paid => &mut self.paid,
            Priority::Free => &mut self.free,
        }
    }

    /// Bytes that wait, without those that are written already.
    fn unwritten(&self) -> usize {
        let begun = self.splitter.begun(Lane::Paid) + self.splitter.begun(Lane::Free);
        self.bytes().saturating_sub(begun)
    }

    /// Writes the next packet, or what fits of it; `false` if the frame is full or
    /// nothing waits.
    fn put_one(&mut self, frame: &mut FrameBuilder<'_>) -> bool {
        let Some((queue, lane)) = self.next(frame.room()) else { return false };
        let fifo = match queue {
            Priority::Control => &mut self.control,
            Priority::Paid => &mut self.paid,
            Priority::Free => &mut self.free,
        };
        let Some(packet) = fifo.front() else { return false };
        let len = packet.len();
        let begun = self.splitter.begun(lane);
        match self.splitter.put(frame, lane, packet) {
            Ok(Put::Done) => {
                fifo.pop();
                if queue == Priority::Control {
                    self.control_on = None;
                }
                self.sent.packets += 1;
                self.sent.bytes += len as u64;
                true
            }
            Ok(Put::FrameFull) => {
                let nothing_written = self.splitter.begun(lane) == begun;
                match queue {
                    Priority::Control if !nothing_written => self.control_on = Some(lane),
                    Priority::Control => {}
                    Priority::Paid | Priority::Free => {
                        self.chosen = nothing_written.then_some(lane);
                    }
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
    fn next(&mut self, room: usize) -> Option<(Priority, Lane)> {
        if !self.control.is_empty() {
            // Control packets go on a lane that has no packet half written.
            let unused = |lane: &Lane| self.splitter.begun(*lane) == 0;
            let lane = self.control_on.or([Lane::Paid, Lane::Free].into_iter().find(unused));
            if let Some(lane) = lane {
                return Some((Priority::Control, lane));
            }
        }
        if let Some(lane) = self.chosen.take() {
            return Some(Self::queue(lane));
        }
        // Lanes take turns by what goes into one frame, so that a large free
        // packet does not hold up paid ones.
        let head = |fifo: &Fifo, lane: Lane| {
            let left = fifo.front()?.len().saturating_sub(self.splitter.begun(lane));
            Some(left.min(room))
        };
        let (paid, free) = (head(&self.paid, Lane::Paid), head(&self.free, Lane::Free));
        self.scheduler.next(paid, free).map(Self::queue)
    }

    fn queue(lane: Lane) -> (Priority, Lane) {
        match lane {
            Lane::Paid => (Priority::Paid, lane),
            Lane::Free => (Priority::Free, lane),
        }
    }
}
