//! What goes out on both lanes: packets become chunks, which are sent again until they
//! are acknowledged, given up or the session ends.

use super::{
    body::{ACK_LEN, Ack, BY_RANK, Body, Chunk, FIELD_LEN, FLAGS_LEN},
    packet::{MAX_PREFIX, Pieces},
    rto::Rto,
    stream::Stretch,
    window::expand,
};
use crate::link::{lane::Lane, packet_buffer::PacketBuffer};
use crate::time::Micros;

/// Most chunks that may be in flight.
pub const IN_FLIGHT: usize = 16;
/// Most packets that may be queued on a lane.
pub const QUEUED: usize = 16;

/// Frames that must be acknowledged behind a frame before it counts as lost (RFC 9002,
/// 6.1.1).
const REORDERING: u64 = 3;
/// Most bytes of a lane in flight: an offset is told by 16 bits.
const SPAN: u64 = 1 << 14;
/// A second lane's bytes share a frame only if as many fit, or all that there are.
const WORTH_IT: usize = 16;

/// What was sent, for a link's quality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Chunks sent for the first time.
    pub chunks: u64,
    /// Chunks sent again.
    pub again: u64,
    /// Packets given up because their time was over.
    pub given_up: u64,
}

/// Both lanes' sending side.
#[derive(Debug)]
pub(super) struct Outbound<B> {
    /// Indexed by [`Lane`].
    lanes: [Queue<B>; 2],
    flight: heapless::Vec<Flight, IN_FLIGHT>,
    window: usize,
    rto: Rto,
    fresh_rto: Rto,
    highest_acked: Option<u64>,
    /// Since when nothing was acknowledged that had to be.
    waiting_since: Option<Micros>,
    /// Bytes of a lane that the neighbour holds.
    neighbour_holds: u64,
    sent: Sent,
}

#[derive(Debug)]
struct Queue<B> {
    stream: Stretch<B>,
    /// Offset of the first byte never sent.
    next: u64,
    packets: heapless::Deque<Queued, QUEUED>,
    /// Where the neighbour's memory begins, as far as this side knows.
    floor: u64,
    skip: Option<Skip>,
}

/// A packet by the offset behind its last byte.
#[derive(Debug)]
struct Queued {
    end: u64,
    deadline: Micros,
}

/// The neighbour is to pass over what is before an offset.
#[derive(Debug)]
struct Skip {
    to: u64,
    /// Counter and time of the frame that said so.
    sent: Option<(u64, Micros)>,
}

#[derive(Debug)]
struct Flight {
    lane: Lane,
    offset: u64,
    len: usize,
    counter: u64,
    at: Micros,
    lost: bool,
}

impl<B: PacketBuffer> Outbound<B> {
    /// With memory for `queue` bytes on each lane, [`super::MEMORY_OVERHEAD`] more in
    /// all; with up to `window` chunks in flight.
    pub(super) fn new(memory: [B; 2], queue: usize, window: usize, rto: Rto) -> Self {
        let lanes = memory.map(|memory| Queue {
            stream: Stretch::new(memory, queue.saturating_add(MAX_PREFIX)),
            next: 0,
            packets: heapless::Deque::new(),
            floor: 0,
            skip: None,
        });
        Self {
            lanes,
            flight: heapless::Vec::new(),
            window: window.clamp(1, IN_FLIGHT),
            rto: rto.clone(),
            fresh_rto: rto,
            highest_acked: None,
            waiting_since: None,
            neighbour_holds: 0,
            sent: Sent::default(),
        }
    }

    /// Forgets everything; the neighbour of the next session takes packets of up to
    /// `max_packet` bytes.
    pub(super) fn reset(&mut self, max_packet: u32) {
        for lane in &mut self.lanes {
            lane.stream.reset();
            lane.packets.clear();
            (lane.next, lane.floor, lane.skip) = (0, 0, None);
        }
        self.flight.clear();
        self.rto = self.fresh_rto.clone();
        (self.highest_acked, self.waiting_since) = (None, None);
        self.neighbour_holds = u64::from(max_packet) + MAX_PREFIX as u64;
    }

    /// Largest packet that can be queued on a lane now, in bytes.
    pub(super) fn room(&self, lane: Lane) -> usize {
        let queue = &self.lanes[lane as usize];
        let full = queue.packets.is_full();
        if full { 0 } else { queue.stream.room().saturating_sub(MAX_PREFIX) }
    }

    /// Puts a packet at the end of a lane; false if there is no room.
    pub(super) fn queue(&mut self, lane: Lane, packet: &Pieces<'_>, deadline: Micros) -> bool {
        let queue = &mut self.lanes[lane as usize];
        if queue.packets.is_full() || packet.size() > queue.stream.room() {
            return false;
        }
        let start = queue.stream.end();
        for part in packet.iter() {
            if queue.stream.put(queue.stream.end(), part).is_err() {
                // Memory smaller than was said: what is not in `packets` is not sent.
                return self.cut(lane, start);
            }
        }
        queue.packets.push_back(Queued { end: queue.stream.end(), deadline }).is_ok()
    }

    /// Whether bytes are queued or wait for acknowledgement.
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.packets.is_empty() && lane.skip.is_none())
    }

    /// Whether a packet of a lane waits to be sent or acknowledged.
    pub(super) fn has_queued(&self, lane: Lane) -> bool {
        !self.lanes[lane as usize].packets.is_empty()
    }

    /// Since when the neighbour owes an acknowledgement without having sent any.
    pub(super) fn waiting_since(&self) -> Option<Micros> {
        self.waiting_since
    }

    /// The smoothed round trip, once measured.
    pub(super) fn round_trip(&self) -> Option<Micros> {
        self.rto.round_trip()
    }

    /// What was sent since the beginning.
    pub(super) fn sent(&self) -> Sent {
        self.sent
    }

    /// Takes an acknowledgement of frames whose counters are below `next_counter`.
    pub(super) fn acknowledge(&mut self, now: Micros, ack: Ack, next_counter: u64) {
        let last = next_counter.checked_sub(1);
        let Some(highest) = last.and_then(|last| expand(last, ack.highest)) else { return };
        if highest >= next_counter {
            return;
        }
        let is_acked = |counter: u64| match highest.checked_sub(counter) {
            Some(0) => true,
            Some(behind @ 1..=32) => ack.before >> (behind - 1) & 1 == 1,
            _ => false,
        };
        let (mut progress, rto) = (false, &mut self.rto);
        self.flight.retain(|chunk| {
            let acked = is_acked(chunk.counter);
            // An older one may have been acknowledged before, by a frame that was lost.
            let exact = chunk.counter == highest && !progress;
            if acked && (exact || rto.round_trip().is_none()) {
                rto.measure(now.saturating_sub(chunk.at));
            }
            progress |= acked;
            !acked
        });
        for lane in &mut self.lanes {
            if lane.skip.as_ref().is_some_and(|skip| skip.sent.is_some_and(|(c, _)| is_acked(c))) {
                lane.skip = None;
                progress = true;
            }
        }
        let highest = self.highest_acked.map_or(highest, |before| before.max(highest));
        self.highest_acked = Some(highest);
        let is_lost = |counter: u64| counter.saturating_add(REORDERING) <= highest;
        for chunk in &mut self.flight {
            chunk.lost |= is_lost(chunk.counter);
        }
        for skip in self.lanes.iter_mut().filter_map(|lane| lane.skip.as_mut()) {
            skip.sent = skip.sent.filter(|(counter, _)| !is_lost(*counter));
        }
        if progress {
            self.rto.progress();
            self.release();
            self.waiting_since = self.waits().then_some(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub(super) fn poll_timeout(&self) -> Option<Micros> {
        let chunks = self.flight.iter().filter(|chunk| !chunk.lost).map(|chunk| chunk.at);
        let skips = self.lanes.iter().filter_map(|lane| lane.skip.as_ref()?.sent);
        let sent = chunks.chain(skips.map(|(_, at)| at)).min();
        let lost = sent.map(|at| at.saturating_add(self.rto.timeout()));
        let fronts = self.lanes.iter().filter_map(|lane| lane.packets.front());
        lost.into_iter().chain(fronts.map(|packet| packet.deadline)).min()
    }

    /// Takes chunks for lost whose time is over, and gives up such packets.
    pub(super) fn handle_timeout(&mut self, now: Micros) {
        let timeout = self.rto.timeout();
        let over = |at: Micros| now >= at.saturating_add(timeout);
        let mut any = false;
        for chunk in self.flight.iter_mut().filter(|chunk| !chunk.lost && over(chunk.at)) {
            (chunk.lost, any) = (true, true);
        }
        for skip in self.lanes.iter_mut().filter_map(|lane| lane.skip.as_mut()) {
            if skip.sent.is_some_and(|(_, at)| over(at)) {
                (skip.sent, any) = (None, true);
            }
        }
        if any {
            self.rto.back_off();
        }
        for lane in BY_RANK {
            while self.front_is_overdue(lane, now) {
                self.give_up(lane);
            }
        }
    }

    /// Writes a body that goes into the frame with this counter: what was lost before
    /// what is new, paid before free, and the acknowledgement if it fits beside that; if
    /// it is `owed`, new bytes leave room for it. Returns the length and whether the
    /// acknowledgement is in it; `None` if there is nothing to send.
    pub(super) fn fill(
        &mut self,
        now: Micros,
        counter: u64,
        ack: Option<Ack>,
        owed: bool,
        out: &mut [u8],
    ) -> Option<(usize, bool)> {
        let mut room = out.len().checked_sub(FLAGS_LEN)?;
        let mut skip = [None; 2];
        for (lane, skip) in self.lanes.iter_mut().zip(&mut skip) {
            let pending = lane.skip.as_mut().filter(|skip| skip.sent.is_none());
            if let (Some(pending), Some(less)) = (pending, room.checked_sub(FIELD_LEN)) {
                (pending.sent, *skip, room) = (Some((counter, now)), Some(pending.to as u16), less);
            }
        }
        let mut picked = [None; 2];
        for lane in BY_RANK {
            let second = picked != [None; 2];
            // Bytes behind a packet that was given up would be taken for its end by a
            // neighbour that does not know: each frame with such bytes says it.
            let known = skip.get(lane as usize).is_some_and(Option::is_some);
            let again = self.lanes[lane as usize].skip.as_ref().filter(|_| !known);
            let again = again.map(|skip| skip.to as u16);
            let fields = 1 + usize::from(second) + usize::from(again.is_some());
            let Some(avail) = room.checked_sub(fields * FIELD_LEN) else { continue };
            if let Some((offset, len)) = self.pick(lane, (counter, now), avail, owed, second) {
                picked[lane as usize] = Some((offset, len));
                skip[lane as usize] = skip[lane as usize].or(again);
                room = avail - len;
            }
        }
        if skip == [None; 2] && picked == [None; 2] {
            return None;
        }
        self.waiting_since.get_or_insert(now);
        let ack = ack.filter(|_| room >= ACK_LEN);
        let [free, paid] = &mut self.lanes;
        let [picked_free, picked_paid] = picked;
        let body = Body {
            ack,
            skip,
            chunk: [
                picked_free
                    .map(|(at, len)| Chunk { offset: at as u16, bytes: free.stream.get(at, len) }),
                picked_paid
                    .map(|(at, len)| Chunk { offset: at as u16, bytes: paid.stream.get(at, len) }),
            ],
            close: false,
        };
        Some((body.write(out)?, ack.is_some()))
    }

    /// Chooses the bytes of a lane that go next, at most `room`, and notes them as sent.
    fn pick(
        &mut self,
        lane: Lane,
        (counter, now): (u64, Micros),
        room: usize,
        owed: bool,
        second: bool,
    ) -> Option<(u64, usize)> {
        let of_lane = |chunk: &&mut Flight| chunk.lost && chunk.lane == lane;
        let lost = self.flight.iter_mut().filter(of_lane).min_by_key(|chunk| chunk.offset);
        if let Some(chunk) = lost {
            // It was cut for a frame of its own, so it will fit into one.
            if chunk.len > room {
                return None;
            }
            (chunk.counter, chunk.at, chunk.lost) = (counter, now, false);
            self.sent.again = self.sent.again.saturating_add(1);
            return Some((chunk.offset, chunk.len));
        }
        let room = if owed { room.checked_sub(ACK_LEN)? } else { room };
        if self.flight.len() >= self.window {
            return None;
        }
        let oldest = self.flight.iter().filter(|chunk| chunk.lane == lane).map(|c| c.offset).min();
        let queue = &mut self.lanes[lane as usize];
        let span = oldest.unwrap_or(queue.next).saturating_add(SPAN);
        let limit = queue.floor.saturating_add(self.neighbour_holds).min(span);
        let there = queue.stream.end().min(limit).saturating_sub(queue.next);
        let there = usize::try_from(there).unwrap_or(usize::MAX);
        let len = there.min(room);
        if len == 0 || (second && len < there.min(WORTH_IT)) {
            return None;
        }
        let offset = queue.next;
        let chunk = Flight { lane, offset, len, counter, at: now, lost: false };
        self.flight.push(chunk).ok()?;
        queue.next += len as u64;
        self.sent.chunks = self.sent.chunks.saturating_add(1);
        Some((offset, len))
    }

    /// Lets go of the packets that arrived.
    fn release(&mut self) {
        for lane in BY_RANK {
            let chunks = self.flight.iter().filter(|chunk| chunk.lane == lane);
            let queue = &mut self.lanes[lane as usize];
            let arrived = chunks.map(|chunk| chunk.offset).min().unwrap_or(queue.next);
            while let Some(packet) = queue.packets.front().filter(|packet| packet.end <= arrived) {
                queue.stream.advance(packet.end);
                queue.packets.pop_front();
            }
            if queue.skip.is_none() {
                queue.floor = queue.stream.base();
            }
        }
    }

    fn front_is_overdue(&self, lane: Lane, now: Micros) -> bool {
        self.lanes[lane as usize].packets.front().is_some_and(|packet| now >= packet.deadline)
    }

    /// Gives up the first packet of a lane: what was not sent of it will not be, and the
    /// neighbour is told to pass over what was.
    fn give_up(&mut self, lane: Lane) {
        let queue = &mut self.lanes[lane as usize];
        let Some(Queued { end, .. }) = queue.packets.pop_front() else { return };
        self.sent.given_up = self.sent.given_up.saturating_add(1);
        let sent_to = queue.next.min(end);
        let begun = sent_to > queue.stream.base();
        queue.stream.advance(sent_to);
        let unsent = end - sent_to;
        queue.stream.take_out(usize::try_from(unsent).unwrap_or(usize::MAX));
        for packet in &mut queue.packets {
            packet.end -= unsent;
        }
        if !begun {
            return;
        }
        queue.skip = Some(Skip { to: sent_to, sent: None });
        self.flight.retain_mut(|chunk| {
            let over = sent_to.saturating_sub(chunk.offset);
            if chunk.lane != lane || over == 0 {
                return true;
            }
            // A chunk may also hold the beginning of the next packet.
            let over = usize::try_from(over).unwrap_or(usize::MAX);
            chunk.offset = sent_to;
            chunk.len = chunk.len.saturating_sub(over);
            chunk.len > 0
        });
    }

    /// Takes back what was queued from an offset on, which was never sent. Says false.
    fn cut(&mut self, lane: Lane, start: u64) -> bool {
        self.lanes[lane as usize].stream.truncate(start);
        false
    }

    /// Whether anything must still be acknowledged.
    fn waits(&self) -> bool {
        !self.flight.is_empty() || self.lanes.iter().any(|lane| lane.skip.is_some())
    }
}
