//! Takes the records out of received frames and puts split packets together, with
//! bounded memory and a deadline. The format is in [`fragment`](super::fragment).

use super::{
    fragment::{FragmentError, Record},
    lane::Lane,
    packet_buffer::{Full, PacketBuffer},
};
#[cfg(feature = "alloc")]
use alloc::vec::Vec;
use core::mem;

/// Puts together what the neighbour split: one packet per lane at a time.
///
/// A packet that came in one record is lent from the frame and uses no memory here.
#[derive(Debug, Clone)]
pub struct Joiner<B> {
    free: Assembly<B>,
    paid: Assembly<B>,
    max_packet: usize,
    timeout: u64,
}

/// A packet, lent until the next one is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Packet<'p> {
    /// The queue that the neighbour sent it from.
    pub lane: Lane,
    /// The whole packet.
    pub bytes: &'p mut [u8],
}

#[derive(Debug, Clone)]
struct Assembly<B> {
    packet: B,
    /// Until when the last fragment must be here; `None` if no packet is unfinished.
    deadline: Option<u64>,
}

impl<B: PacketBuffer> Joiner<B> {
    /// Takes packets of at most `max_packet` bytes, each of which must be complete
    /// `timeout` microseconds after its first fragment. `free` and `paid` are the
    /// memory of the two lanes, empty.
    pub const fn new(max_packet: usize, timeout: u64, free: B, paid: B) -> Self {
        let free = Assembly { packet: free, deadline: None };
        let paid = Assembly { packet: paid, deadline: None };
        Self { free, paid, max_packet, timeout }
    }

    /// Takes packets of at most so many bytes from now on.
    pub const fn set_max_packet(&mut self, max_packet: usize) {
        self.max_packet = max_packet;
    }

    /// Forgets what is unfinished, for another link.
    pub fn clear(&mut self) {
        for lane in [&mut self.free, &mut self.paid] {
            lane.packet.clear();
            lane.deadline = None;
        }
    }

    /// Begins to take packets out of a decrypted body. `now` is in monotonic
    /// microseconds. All of them must be taken before the next body.
    ///
    /// # Errors
    /// [`FragmentError`]: close the link.
    pub fn records<'a>(
        &'a mut self,
        now: u64,
        body: &'a mut [u8],
    ) -> Result<Records<'a, B>, FragmentError> {
        self.handle_timeout(now)?;
        if body.is_empty() {
            return Err(FragmentError::EmptyFrame);
        }
        let deadline = now.saturating_add(self.timeout);
        Ok(Records { joiner: self, rest: body, deadline, lent: None })
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called at the latest,
    /// in monotonic microseconds; `None` if no packet is unfinished.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.free.deadline.into_iter().chain(self.paid.deadline).min()
    }

    /// Fails if an unfinished packet's time is over.
    ///
    /// # Errors
    /// [`FragmentError::Overdue`]: close the link, as what comes next on that lane
    /// would be the rest of that packet.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), FragmentError> {
        for lane in [Lane::Free, Lane::Paid] {
            if self.lane(lane).deadline.is_some_and(|deadline| now >= deadline) {
                return Err(FragmentError::Overdue(lane));
            }
        }
        Ok(())
    }

    fn lane(&mut self, lane: Lane) -> &mut Assembly<B> {
        match lane {
            Lane::Free => &mut self.free,
            Lane::Paid => &mut self.paid,
        }
    }
}

#[cfg(feature = "alloc")]
impl Joiner<super::packet_buffer::Growable> {
    /// Bytes of memory held now.
    pub fn memory(&self) -> usize {
        self.free.packet.memory().saturating_add(self.paid.packet.memory())
    }

    /// Lends memory for packets to come, such as [`Records::take`] gave away: to a lane that
    /// has none, if it may keep as much. It is dropped otherwise.
    pub fn lend(&mut self, memory: Vec<u8>) {
        let mut lanes = [&mut self.free, &mut self.paid].into_iter();
        if let Some(lane) = lanes.find(|lane| lane.packet.memory() == 0) {
            lane.packet.lend(memory);
        }
    }

    /// Gives back the memory that is kept for packets to come.
    pub fn trim(&mut self) {
        for lane in [&mut self.free, &mut self.paid] {
            if lane.deadline.is_none() {
                lane.packet.clear();
                lane.packet.trim();
            }
        }
    }
}

/// The packets that one frame's body completes, in order.
#[derive(Debug)]
pub struct Records<'a, B: PacketBuffer> {
    joiner: &'a mut Joiner<B>,
    rest: &'a mut [u8],
    /// Deadline of a packet that begins in this body.
    deadline: u64,
    /// The lane whose memory the last packet was lent from.
    lent: Option<Lane>,
}

impl<B: PacketBuffer> Records<'_, B> {
    /// The next whole packet; `None` at the end of the body.
    ///
    /// # Errors
    /// [`FragmentError`]: close the link.
    #[expect(clippy::should_implement_trait, reason = "lends, which Iterator cannot")]
    pub fn next(&mut self) -> Result<Option<Packet<'_>>, FragmentError> {
        self.take_back();
        while !self.rest.is_empty() {
            let Record { lane, more, bytes, rest } = Record::parse(mem::take(&mut self.rest))?;
            self.rest = rest;
            let max = self.joiner.max_packet;
            let assembly = self.joiner.lane(lane);
            if assembly.deadline.is_none() {
                if !more {
                    return match bytes.len() > max {
                        true => Err(FragmentError::PacketTooLong { max }),
                        false => Ok(Some(Packet { lane, bytes })),
                    };
                }
                assembly.packet.clear();
                assembly.deadline = Some(self.deadline);
            }
            let added = assembly.packet.append(bytes, max);
            added.map_err(|Full| FragmentError::PacketTooLong { max })?;
            if !more {
                assembly.deadline = None;
                self.lent = Some(lane);
                let bytes = self.joiner.lane(lane).packet.bytes_mut();
                return Ok(Some(Packet { lane, bytes }));
            }
        }
        Ok(None)
    }

    /// Takes packets of at most so many bytes from the next one on.
    pub fn set_max_packet(&mut self, max_packet: usize) {
        self.joiner.set_max_packet(max_packet);
    }

    /// Bytes of the body that are left. A packet that came in one record ended there.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    fn take_back(&mut self) {
        if let Some(lane) = self.lent.take() {
            self.joiner.lane(lane).packet.clear();
        }
    }
}

#[cfg(feature = "alloc")]
impl Records<'_, super::packet_buffer::Growable> {
    /// Takes the packet just given together with its memory, so that it need not be copied;
    /// `None` if it came in one record, and lies in the body.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let lane = self.lent.take()?;
        Some(self.joiner.lane(lane).packet.take())
    }
}

impl<B: PacketBuffer> Drop for Records<'_, B> {
    fn drop(&mut self) {
        self.take_back();
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fragment::{FrameBuilder, Put, Splitter},
            transport::{FRAME_OVERHEAD, HEADER_LEN},
        },
        *,
    };
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::{vec, vec::Vec};

    type Owned = (Lane, Vec<u8>);

    fn joiner(max_packet: usize) -> Joiner<heapless::Vec<u8, 4096>> {
        Joiner::new(max_packet, 100, heapless::Vec::new(), heapless::Vec::new())
    }

    fn take<B: PacketBuffer>(
        joiner: &mut Joiner<B>,
        now: u64,
        body: &[u8],
    ) -> Result<Vec<Owned>, FragmentError> {
        let (mut body, mut got) = (body.to_vec(), Vec::new());
        let mut records = joiner.records(now, &mut body)?;
        while let Some(Packet { lane, bytes }) = records.next()? {
            got.push((lane, bytes.to_vec()));
        }
        Ok(got)
    }

    #[test]
    fn lanes_interleave() {
        let mut joiner = joiner(99);
        let got = take(&mut joiner, 0, b"\x01\0\x02\0ab\x02\0\x01\0P\x03\0\x01\0x\x01\0\x01\0c");
        assert_eq!(got, Ok(vec![(Lane::Paid, b"P".to_vec())]));
        let got = take(&mut joiner, 1, b"\x02\0\x01\0y\x00\0\x01\0d\x00\0\x01\0e");
        let expected = [(Lane::Paid, &b"xy"[..]), (Lane::Free, b"abcd"), (Lane::Free, b"e")];
        assert_eq!(got, Ok(expected.map(|(lane, bytes)| (lane, bytes.to_vec())).into()));
        assert_eq!(joiner.poll_timeout(), None);
    }

    #[test]
    fn a_packet_in_one_record_is_lent_from_the_frame() {
        let (mut joiner, mut body) = (joiner(99), *b"\0\0\x03\0abc");
        let range = body.as_ptr_range();
        let mut records = joiner.records(0, &mut body).unwrap();
        let packet = records.next().unwrap().unwrap();
        assert_eq!(packet.bytes, b"abc");
        assert!(range.contains(&packet.bytes.as_ptr()));
    }

    #[test]
    fn the_cap_holds_for_whole_and_for_split_packets() {
        let long = Err(FragmentError::PacketTooLong { max: 3 });
        assert_eq!(take(&mut joiner(3), 0, b"\0\0\x03\0abc").unwrap().len(), 1);
        assert_eq!(take(&mut joiner(3), 0, b"\0\0\x04\0abcd"), long);
        assert_eq!(take(&mut joiner(3), 0, b"\x01\0\x02\0ab\0\0\x01\0c").unwrap().len(), 1);
        assert_eq!(take(&mut joiner(3), 0, b"\x01\0\x02\0ab\0\0\x02\0cd"), long);
        assert_eq!(take(&mut joiner(3), 0, b""), Err(FragmentError::EmptyFrame));
    }

    #[test]
    fn the_cap_rises_between_two_packets_of_a_frame() {
        let (mut joiner, mut body) = (joiner(3), *b"\0\0\x03\0abc\0\0\x04\0defg");
        let mut records = joiner.records(0, &mut body).unwrap();
        assert_eq!(records.next().unwrap().unwrap().bytes, b"abc");
        records.set_max_packet(4);
        assert_eq!(records.next().unwrap().unwrap().bytes, b"defg");
    }

    #[test]
    fn an_unfinished_packet_has_a_deadline() {
        let mut joiner = joiner(99);
        take(&mut joiner, 5, b"\x01\0\x01\0a").unwrap();
        take(&mut joiner, 50, b"\x03\0\x01\0A").unwrap();
        // More fragments do not move it.
        take(&mut joiner, 104, b"\x01\0\x01\0b").unwrap();
        assert_eq!(joiner.poll_timeout(), Some(105));
        assert_eq!(joiner.handle_timeout(104), Ok(()));
        let mut other = joiner.clone();
        assert_eq!(other.handle_timeout(105), Err(FragmentError::Overdue(Lane::Free)));
        let late = take(&mut other, 105, b"\0\0\x01\0c");
        assert_eq!(late, Err(FragmentError::Overdue(Lane::Free)));
        take(&mut joiner, 104, b"\0\0\x01\0c").unwrap();
        assert_eq!(joiner.poll_timeout(), Some(150));
        assert_eq!(joiner.handle_timeout(150), Err(FragmentError::Overdue(Lane::Paid)));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn endless_fragments_take_bounded_memory() {
        use super::super::packet_buffer::Growable;
        let max = 100_000;
        let mut joiner = Joiner::new(max, 100, Growable::new(10), Growable::new(10));
        let mut body = vec![7; 60];
        let mut arrived = 0;
        loop {
            for flags in [1, 3] {
                body[..4].copy_from_slice(&[flags, 0, 56, 0]);
                let taken = take(&mut joiner, 0, &body);
                let memory = joiner.free.packet.memory() + joiner.paid.packet.memory();
                assert!(memory <= 2 * max);
                if let Err(error) = taken {
                    assert_eq!(error, FragmentError::PacketTooLong { max });
                    assert!(arrived + 56 > max);
                    return;
                }
                assert!(memory <= 4 * (arrived + 56));
            }
            arrived += 56;
        }
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn a_packet_is_taken_with_its_memory_which_is_lent_for_the_next() {
        use super::super::packet_buffer::Growable;
        let mut joiner = Joiner::new(9999, 100, Growable::new(10), Growable::new(10));
        let mut body = *b"\x01\0\x02\0ab\0\0\x01\0c\0\0\x01\0d";
        let mut records = joiner.records(0, &mut body).unwrap();
        let place = records.next().unwrap().unwrap().bytes.as_ptr();
        let taken = records.take().unwrap();
        assert_eq!((taken.as_ptr(), &taken[..], records.left()), (place, &b"abc"[..], 5));
        assert_eq!(records.next().unwrap().unwrap().bytes, b"d");
        assert_eq!((records.take(), records.left()), (None, 0));
        drop(records);
        assert_eq!(joiner.memory(), 0);
        joiner.lend(taken);
        let lent = joiner.memory();
        assert!((3..=10).contains(&lent));
        // More than a lane keeps.
        joiner.lend(Vec::with_capacity(11));
        assert_eq!(joiner.memory(), lent);
        let mut body = *b"\x01\0\x02\0xy\0\0\x01\0z";
        let mut records = joiner.records(0, &mut body).unwrap();
        let packet = records.next().unwrap().unwrap();
        assert_eq!((&packet.bytes[..], packet.bytes.as_ptr()), (&b"xyz"[..], place));
    }

    #[cfg(feature = "alloc")]
    #[test]
    fn memory_is_given_back_once_the_packet_was_taken() {
        use super::super::packet_buffer::Growable;
        let mut joiner = Joiner::new(9999, 100, Growable::new(10), Growable::new(10));
        let mut first = vec![7; 1004];
        first[..4].copy_from_slice(&[1, 0, 0xe8, 3]);
        take(&mut joiner, 0, &first).unwrap();
        assert!(joiner.free.packet.memory() >= 1000);
        assert_eq!(take(&mut joiner, 0, b"\0\0\x01\0c").unwrap()[0].1.len(), 1001);
        assert_eq!(joiner.free.packet.memory(), 0);
        let mut joiner = Joiner::new(9999, 100, Growable::new(2000), Growable::new(10));
        take(&mut joiner, 0, &first).unwrap();
        joiner.trim();
        assert!(joiner.memory() >= 1000, "it is not complete");
        take(&mut joiner, 0, b"\0\0\x01\0c").unwrap();
        assert!(joiner.memory() >= 1000, "kept for the next one");
        joiner.trim();
        assert_eq!(joiner.memory(), 0);
    }

    fn any_lane() -> impl Strategy<Value = Lane> {
        prop_oneof![Just(Lane::Free), Just(Lane::Paid)]
    }

    /// Splits packets, taking the lanes in the order of `choices`, over frames of
    /// the sizes in `sizes`; gives the bodies.
    fn split(packets: &[Owned], choices: &[Lane], sizes: &[usize]) -> Vec<Vec<u8>> {
        let mut queues = [Lane::Free, Lane::Paid]
            .map(|lane| packets.iter().filter(move |p| p.0 == lane).peekable());
        let (mut choices, mut sizes) = (choices.iter().cycle(), sizes.iter().cycle());
        let (mut splitter, mut bodies) = (Splitter::default(), Vec::new());
        while queues.iter_mut().any(|queue| queue.peek().is_some()) {
            let mut buf = vec![0; FRAME_OVERHEAD + sizes.next().unwrap()];
            let mut frame = FrameBuilder::new(&mut buf, u16::MAX).unwrap();
            while queues.iter_mut().any(|queue| queue.peek().is_some()) {
                let mut lane = *choices.next().unwrap();
                if queues[lane as usize].peek().is_none() {
                    lane = if lane == Lane::Free { Lane::Paid } else { Lane::Free };
                }
                let packet = &queues[lane as usize].peek().unwrap().1;
                match splitter.put(&mut frame, lane, packet).unwrap() {
                    Put::Done => drop(queues[lane as usize].next()),
                    Put::FrameFull => break,
                }
            }
            let end = frame.finish() - FRAME_OVERHEAD + HEADER_LEN;
            bodies.push(buf[HEADER_LEN..end].to_vec());
        }
        bodies
    }

    proptest! {
        #[test]
        fn packets_of_both_lanes_round_trip(
            packets in any_vec((any_lane(), any_vec(any::<u8>(), 1..600)), 0..30),
            choices in any_vec(any_lane(), 1..20),
            sizes in any_vec(5usize..300, 1..20),
        ) {
            let mut joiner = joiner(600);
            let mut got = Vec::new();
            for body in split(&packets, &choices, &sizes) {
                got.extend(take(&mut joiner, 0, &body).unwrap());
            }
            for lane in [Lane::Free, Lane::Paid] {
                let of = |all: &[Owned]| -> Vec<Owned> {
                    all.iter().filter(|p| p.0 == lane).cloned().collect()
                };
                prop_assert_eq!(of(&got), of(&packets));
            }
            prop_assert_eq!(joiner.poll_timeout(), None);
        }

        #[test]
        fn arbitrary_bodies_do_not_panic(
            bodies in any_vec(any_vec(any::<u8>(), 0..100), 0..10),
        ) {
            let mut joiner = joiner(150);
            for body in bodies {
                for (_, bytes) in take(&mut joiner, 0, &body).unwrap_or_default() {
                    prop_assert!(!bytes.is_empty() && bytes.len() <= 150);
                }
            }
        }

        #[test]
        fn mutated_bodies_do_not_panic(
            packets in any_vec((any_lane(), any_vec(any::<u8>(), 1..200)), 1..10),
            choices in any_vec(any_lane(), 1..9),
            sizes in any_vec(5usize..300, 1..9),
            mutations in any_vec((any::<prop::sample::Index>(), 0usize..4, any::<u8>()), 1..4),
        ) {
            let mut bodies = split(&packets, &choices, &sizes);
            for (which, at, value) in mutations {
                let index = which.index(bodies.len());
                bodies[index][at] = value;
            }
            let mut joiner = joiner(200);
            for body in bodies {
                for (_, bytes) in take(&mut joiner, 0, &body).unwrap_or_default() {
                    prop_assert!(!bytes.is_empty() && bytes.len() <= 200);
                }
            }
        }
    }
}
