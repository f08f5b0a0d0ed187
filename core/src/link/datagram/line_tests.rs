//! Both ends over a simulated line that loses, repeats, reorders and damages, in
//! virtual time.

use super::{
    session_tests::{End, PACKET, TestKeys, limits, pair},
    *,
};
use crate::time::{MILLISECOND, SECOND};
use proptest::{collection::vec as any_vec, prelude::*};
use std::{collections::BTreeMap, vec, vec::Vec};

/// What a line does to frames, in percent.
#[derive(Debug, Clone, Copy)]
struct Line {
    loss: u64,
    twice: u64,
    damage: u64,
    /// Delay, and by how much it varies, which reorders.
    delay: Micros,
    jitter: Micros,
    /// Frames go as bytes of a serial line.
    serial: bool,
}

struct World {
    ends: [End; 2],
    line: Line,
    random: u64,
    now: Micros,
    /// Frames under way by arrival and number: for which end, and its bytes.
    air: BTreeMap<(Micros, u64), (usize, Vec<u8>)>,
    number: u64,
    deframers: [serial::Deframer<[u8; 300]>; 2],
    /// Frames put on the line.
    sent: u64,
}

impl World {
    fn new(ends: (End, End), line: Line, seed: u64) -> Self {
        Self {
            ends: [ends.0, ends.1],
            line,
            random: seed | 1,
            now: 0,
            air: BTreeMap::new(),
            number: 0,
            deframers: [[0; 300], [0; 300]].map(serial::Deframer::new),
            sent: 0,
        }
    }

    /// xorshift64*
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) % below
    }

    /// Everything that is to be sent now goes on the line.
    fn send(&mut self) {
        for from in 0..2 {
            while let Some(frame) = self.ends[from].frame(self.now) {
                self.sent += 1;
                let mut bytes = frame.clone();
                if self.line.serial {
                    bytes = vec![0; serial::encoded_len(frame.len())];
                    let len = serial::encode(&frame, &mut bytes).unwrap();
                    bytes.truncate(len);
                }
                let times = 1 + u64::from(self.random(100) < self.line.twice);
                for _ in 0..times {
                    if self.random(100) < self.line.loss {
                        continue;
                    }
                    let mut bytes = bytes.clone();
                    if self.random(100) < self.line.damage {
                        let at = self.random(bytes.len() as u64) as usize;
                        bytes[at] ^= 1 << self.random(8);
                    }
                    let arrival = self.now + self.line.delay + self.random(self.line.jitter + 1);
                    self.number += 1;
                    self.air.insert((arrival, self.number), (1 - from, bytes));
                }
            }
        }
    }

    /// Goes on to the next thing that happens.
    fn step(&mut self) {
        self.send();
        let timers = self.ends.iter().filter_map(|end| end.link.poll_timeout());
        let arrival = self.air.keys().next().map(|(at, _)| *at);
        let next = timers.chain(arrival).min().expect("something is under way");
        // A timer in the past would be one that nobody serves.
        assert!(next > self.now || arrival == Some(next), "stands still at {next}");
        self.now = next.max(self.now);
        while let Some(entry) = self.air.first_entry().filter(|e| e.key().0 <= self.now) {
            let (to, bytes) = entry.remove();
            let mut rest = &bytes[..];
            if self.line.serial {
                while let Some(frame) = self.deframers[to].next(&mut rest) {
                    let frame = frame.to_vec();
                    let _ = self.ends[to].take(self.now, &frame);
                }
            } else {
                let _ = self.ends[to].take(self.now, &bytes);
            }
        }
    }

    fn until(&mut self, limit: Micros, mut done: impl FnMut(&Self) -> bool) {
        while !done(self) {
            assert!(self.now < limit, "not done after {} s", self.now / SECOND);
            self.step();
        }
    }

    fn connect(&mut self) {
        self.until(60 * SECOND, |world| world.ends.iter().all(|end| !end.events.is_empty()));
    }
}

fn of_lane(packets: &[(Lane, Vec<u8>)], lane: Lane) -> Vec<Vec<u8>> {
    packets.iter().filter(|packet| packet.0 == lane).map(|packet| packet.1.clone()).collect()
}

/// Sends packets both ways; each must arrive once, in the order of its lane.
fn delivers(world: &mut World, packets: &[(Lane, Vec<u8>)]) {
    world.connect();
    // On a bad line a call may be made anew before the caller knows that it is up.
    let events = world.ends.each_ref().map(|end| end.events.len());
    let mut next = [0, 0];
    let limit = world.now + 3600 * SECOND;
    world.until(limit, |_| true);
    while next != [packets.len(); 2] || !world.ends.iter().all(|end| end.link.is_idle()) {
        for (end, next) in world.ends.iter_mut().zip(&mut next) {
            while let Some((lane, packet)) = packets.get(*next) {
                if end.link.room(*lane) < packet.len() {
                    break;
                }
                end.queue(world.now, *lane, packet);
                *next += 1;
            }
        }
        assert!(world.now < limit, "{next:?} of {} queued", packets.len());
        world.step();
    }
    for (end, events) in world.ends.iter().zip(events) {
        for lane in [Lane::Free, Lane::Paid] {
            assert!(of_lane(&end.packets, lane) == of_lane(packets, lane), "{lane:?}");
        }
        assert_eq!((end.events.len(), end.link.sent().given_up), (events, 0), "{:?}", end.events);
    }
}

/// A pair that does not lose patience on a very bad line.
fn patient(frame: u16) -> (End, End) {
    let limits = DatagramLimits {
        frame,
        packet_timeout: 1000 * SECOND,
        dead_after: 1000 * SECOND,
        probe_after: 1000 * SECOND,
        ..limits()
    };
    let far = End::new(limits, Role::Listen, 2);
    let remote = *TestKeys::new(2).local();
    (End::new(limits, Role::Dial(remote.public_key()), 1), far)
}

const BAD: Line = Line {
    loss: 20,
    twice: 10,
    damage: 5,
    delay: 5 * MILLISECOND,
    jitter: 20 * MILLISECOND,
    serial: false,
};

#[test]
fn many_packets_over_a_line_that_loses_a_fifth_of_the_frames() {
    let packets: Vec<_> = (0..1500u32)
        .map(|i| {
            let lane = if i % 3 == 0 { Lane::Paid } else { Lane::Free };
            (lane, i.to_le_bytes().repeat(1 + i as usize * 7 % 200))
        })
        .collect();
    let mut world = World::new(pair(), Line { jitter: 5 * MILLISECOND, ..BAD }, 7);
    delivers(&mut world, &packets);
    // Keys were changed on the way.
    assert!(world.sent > 2 * 2 * cipher::USES_OF_A_KEY);
    let bytes: usize = packets.iter().map(|packet| packet.1.len()).sum();
    let sent = world.ends[0].link.sent();
    // A quarter is sent again because it was lost or damaged, at most as much more
    // because it was late or its acknowledgement was lost.
    assert!(sent.again * 2 < sent.chunks * 3, "{sent:?}");
    assert!(sent.chunks < 2 * bytes as u64 / 200, "{sent:?}");
}

#[test]
fn a_clean_line_carries_nothing_twice() {
    let line = Line { loss: 0, twice: 0, damage: 0, delay: MILLISECOND, jitter: 0, serial: true };
    let packets: Vec<_> = (0..200).map(|i| (Lane::Free, vec![i as u8; PACKET])).collect();
    let mut world = World::new(pair(), line, 7);
    delivers(&mut world, &packets);
    for end in &world.ends {
        let sent = end.link.sent();
        assert_eq!(sent.again, 0);
        // 1002 bytes in pieces of at most 233: no more than one short frame each.
        assert!(sent.chunks <= 200 * 6, "{sent:?}");
    }
}

#[test]
fn a_line_that_comes_back_is_linked_again() {
    let mut world = World::new(pair(), Line { loss: 0, ..BAD }, 3);
    world.connect();
    world.line.loss = 100;
    world.ends[0].queue(world.now, Lane::Free, b"lost");
    let limit = world.now + 60 * SECOND;
    world.until(limit, |world| world.ends[0].events.len() == 2);
    assert_eq!(world.ends[0].events[1], Event::Down(Down::Silent));
    world.line.loss = 20;
    let limit = world.now + 60 * SECOND;
    world.until(limit, |world| world.ends[0].events.len() == 3 && world.ends[1].events.len() == 3);
    world.ends[0].queue(world.now, Lane::Free, b"found");
    let limit = world.now + 60 * SECOND;
    world.until(limit, |world| world.ends[0].link.is_idle());
    assert_eq!(world.ends[1].packets, [(Lane::Free, b"found".to_vec())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_packet_arrives_once_and_in_order(
        packets in any_vec((any::<bool>(), any_vec(any::<u8>(), 1..PACKET)), 1..40),
        loss in 0u64..30, twice in 0u64..30, damage in 0u64..20, serial: bool,
        delay in 0u64..200, jitter in 0u64..200, frame in 96u16..=255, seed: u64,
    ) {
        let line = Line {
            loss, twice, damage, serial,
            delay: delay * MILLISECOND,
            jitter: jitter * MILLISECOND,
        };
        let packets: Vec<_> = packets
            .into_iter()
            .map(|(paid, bytes)| (if paid { Lane::Paid } else { Lane::Free }, bytes))
            .collect();
        delivers(&mut World::new(patient(frame), line, seed), &packets);
    }

    #[test]
    fn a_session_that_ends_now_and_then_keeps_the_rules(
        loss in 40u64..65, seed: u64, twice in 0u64..50,
    ) {
        // So bad that packets are given up and sessions end: what arrives is whole and
        // in order, and nothing arrives twice.
        let hasty = DatagramLimits {
            packet_timeout: 2 * SECOND, probe_after: SECOND, dead_after: 3 * SECOND,
            ..limits()
        };
        let (mut near, mut far) = pair();
        near.link.limits = hasty;
        far.link.limits = hasty;
        let mut world = World::new((near, far), Line { loss, twice, ..BAD }, seed);
        let mut sent = 0u32;
        while world.now < 300 * SECOND {
            let end = &mut world.ends[0];
            let packet = sent.to_le_bytes().repeat(1 + sent as usize * 31 % 240);
            if end.link.queue(world.now, Lane::Free, &packet, &[]).is_ok() {
                sent += 1;
            }
            world.step();
        }
        let mut last = None;
        for (_, packet) in &world.ends[1].packets {
            let number = u32::from_le_bytes(*packet.first_chunk().unwrap());
            prop_assert_eq!(packet, &number.to_le_bytes().repeat(1 + number as usize * 31 % 240));
            prop_assert!(last < Some(number));
            last = Some(number);
        }
        prop_assert!(last.is_some());
    }
}

#[test]
fn an_end_that_closes_says_so_and_the_other_knows_at_once() {
    use super::session_tests::linked;
    // Who listens cannot dial: the other end is told, and dials.
    let (mut near, mut far) = linked();
    far.link.close();
    assert_eq!(far.link.poll_timeout(), Some(0));
    let frame = far.frame(0).unwrap();
    assert_eq!(far.frame(0), None, "once");
    let mut altered = frame.clone();
    altered[4] ^= 1;
    assert_eq!(near.take(0, &altered), Err(Ignored::Forged));
    assert!(near.link.neighbour().is_some());
    assert_eq!(near.take(0, &frame), Ok(()));
    assert_eq!(near.events.last(), Some(&Event::Down(Down::ByNeighbour)));
    assert_eq!(near.take(0, &frame), Err(Ignored::UnknownSession));
    // The same from who dials.
    let (mut near, mut far) = linked();
    near.link.close();
    assert_eq!(far.take(0, &near.frame(0).unwrap()), Ok(()));
    assert_eq!(far.events.last(), Some(&Event::Down(Down::ByNeighbour)));
    // One that was lost leaves all as it was.
    let (mut near, mut far) = linked();
    far.link.close();
    far.frame(0).unwrap();
    assert_eq!((near.frame(0), near.events.len()), (None, 1));
}
