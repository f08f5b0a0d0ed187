//! Channels over a link that loses, doubles and overtakes.

use super::*;
use crate::bridge::message::HEADER_LEN;
use proptest::prelude::*;
use std::collections::VecDeque;

const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];
const MILLI: Micros = 1000;

fn message(number: u32, len: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.resize(len.max(4), 0);
    let mut out = Vec::new();
    message::write(MAGIC, "tx", &payload, &mut out);
    out
}

/// What a link does to datagrams.
#[derive(Debug, Clone)]
struct Air {
    /// Of 256 datagrams, those lost, doubled, and delayed by up to `jitter`.
    lost: u8,
    doubled: u8,
    delay: Micros,
    jitter: Micros,
    seed: u64,
    /// Bytes per second; 0: any number.
    rate: u64,
}

impl Air {
    fn draw(&mut self) -> u64 {
        // SplitMix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

struct End {
    channel: Channel,
    give: VecDeque<Vec<u8>>,
    got: Vec<Vec<u8>>,
    /// Messages that this end's user takes in a millisecond; 0: all.
    pace: usize,
    /// When its user begins to take any.
    reads_from: Micros,
    most: usize,
    sent: usize,
}

impl End {
    fn new(opens: bool, give: Vec<Vec<u8>>, most: usize, pace: usize) -> Self {
        let channel = Channel::new(MAGIC, 7, opens, 0);
        let (got, reads_from, sent) = (Vec::new(), 0, 0);
        Self { channel, give: give.into(), got, pace, reads_from, most, sent }
    }

    fn work(&mut self, now: Micros) -> Vec<Vec<u8>> {
        while self.channel.has_room() {
            let Some(next) = self.give.pop_front() else {
                self.channel.finish();
                break;
            };
            let parts = crate::bridge::lists::cut(MAGIC, next, self.most).expect("small enough");
            self.channel.push(parts);
        }
        let most = match self.pace {
            _ if now < self.reads_from => 0,
            0 => usize::MAX,
            pace => pace,
        };
        for _ in 0..most {
            let Some(message) = self.channel.pop() else { break };
            self.got.push(message);
        }
        self.channel.consumed(now);
        if self.channel.timer() <= now {
            self.channel.timeout(now);
        }
        let mut out = Vec::new();
        while let Some(datagram) = self.channel.next_datagram(now, self.most).expect("it fits") {
            self.sent += 1;
            out.push(datagram.payload);
        }
        out
    }
}

/// Runs until both are through; the time it took.
fn run(ends: &mut [End; 2], air: &mut Air, limit: Micros) -> Option<Micros> {
    let mut flying: Vec<(Micros, usize, Vec<u8>)> = Vec::new();
    let mut free_at = [0; 2];
    for now in (0..limit).step_by(MILLI as usize) {
        flying.sort_by_key(|(at, ..)| *at);
        let arrived = flying.partition_point(|(at, ..)| *at <= now);
        for (_, to, payload) in flying.drain(..arrived) {
            let (control, messages) = Control::read(MAGIC, &payload).expect("a control message");
            ends[to].channel.receive(now, &control, messages);
        }
        for (from, end) in ends.iter_mut().enumerate() {
            for payload in end.work(now) {
                assert!(payload.len() <= end.most + crate::bridge::control::MAX_LEN);
                let copies = if air.draw() as u8 >= 255 - air.doubled { 2 } else { 1 };
                for _ in 0..copies {
                    if (air.draw() as u8) < air.lost {
                        continue;
                    }
                    let jitter = if air.jitter == 0 { 0 } else { air.draw() % air.jitter };
                    let span = (payload.len() as u64 * SECOND).checked_div(air.rate).unwrap_or(0);
                    free_at[from] = free_at[from].max(now) + span;
                    let at = free_at[from] + air.delay + jitter;
                    flying.push((at, 1 - from, payload.clone()));
                }
            }
        }
        let held = ends.iter().map(|end| end.channel.outgoing_held() + end.channel.incoming_held());
        assert!(held.max() <= Some(16 * 1024 * 1024));
        if ends.iter().all(|end| end.channel.has_ended() && end.channel.is_delivered()) {
            return Some(now);
        }
        assert_eq!(ends.each_ref().map(|end| end.channel.failure()), [None; 2], "at {now}");
    }
    None
}

impl Channel {
    fn outgoing_held(&self) -> usize {
        self.outgoing.held()
    }

    fn incoming_held(&self) -> usize {
        self.incoming.held()
    }
}

fn messages(lens: &[usize]) -> Vec<Vec<u8>> {
    lens.iter().zip(0..).map(|(len, number)| message(number, *len)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn messages_arrive_whole_in_order_and_once(
        there in prop::collection::vec(0..3000usize, 0..120),
        back in prop::collection::vec(0..3000usize, 0..120),
        lost in 0..80u8, doubled in 0..40u8, delay in 0..60u64, jitter in 0..80u64, seed: u64,
        most in 3100..9000usize, pace in 0..3usize,
    ) {
        let given = [messages(&there), messages(&back)];
        let mut ends = [
            End::new(true, given[0].clone(), most, 0),
            End::new(false, given[1].clone(), most, pace),
        ];
        let mut air =
            Air { lost, doubled, delay: delay * MILLI, jitter: jitter * MILLI, seed, rate: 0 };
        let took = run(&mut ends, &mut air, 1200 * SECOND);
        prop_assert!(took.is_some(), "not through");
        let [a, b] = ends;
        prop_assert_eq!(&b.got, &given[0]);
        prop_assert_eq!(&a.got, &given[1]);
    }
}

#[test]
fn a_clean_link_is_used_well_and_nothing_is_sent_twice() {
    let given: Vec<_> = (0..400).map(|n| message(n, 60_000)).collect();
    let bytes: usize = given.iter().map(Vec::len).sum();
    let mut ends =
        [End::new(true, given.clone(), 4_000_000, 0), End::new(false, Vec::new(), 4_000_000, 0)];
    let mut air = Air { lost: 0, doubled: 0, delay: 20 * MILLI, jitter: 0, seed: 1, rate: 0 };
    let took = run(&mut ends, &mut air, 60 * SECOND).expect("through");
    let [a, b] = ends;
    assert_eq!(b.got, given);
    assert_eq!(a.channel.repeated(), 0);
    // 24 MB with at most 4 MB in flight and 40 ms there and back: 0.24 s at the least.
    assert!(took < 800 * MILLI, "{took} us");
    assert!(b.sent * 2 <= a.sent + 20, "{} acknowledgements of {} datagrams", b.sent, a.sent);
    assert!(bytes > 24_000_000);
}

#[test]
fn blocks_of_four_megabytes_pass_with_a_slow_reader_and_bounded_memory() {
    let given: Vec<_> = (0..20).map(|n| message(n, 4_000_000)).collect();
    let mut ends = [
        End::new(true, given.clone(), 4_100_000, 0),
        End::new(false, messages(&[80; 50]), 4_100_000, 1),
    ];
    let mut air =
        Air { lost: 10, doubled: 3, delay: 5 * MILLI, jitter: 3 * MILLI, seed: 3, rate: 0 };
    run(&mut ends, &mut air, 600 * SECOND).expect("through");
    assert!(ends[1].got == given);
    assert_eq!(ends[0].got.len(), 50);
}

#[test]
fn a_list_larger_than_the_route_arrives_as_one() {
    let mut payload = vec![0xfd, 0xd0, 0x07];
    payload.extend((0..2000 * 81).map(|n: u32| n as u8));
    let mut headers = Vec::new();
    message::write(MAGIC, "headers", &payload, &mut headers);
    let given = vec![message(0, 30), headers, message(1, 30)];
    let mut ends = [End::new(true, given.clone(), 500, 0), End::new(false, Vec::new(), 500, 0)];
    let mut air =
        Air { lost: 20, doubled: 5, delay: 50 * MILLI, jitter: 20 * MILLI, seed: 9, rate: 0 };
    run(&mut ends, &mut air, 900 * SECOND).expect("through");
    assert!(ends[1].got == given);
}

#[test]
fn an_end_that_hears_nothing_gives_up_and_one_that_is_slow_does_not() {
    let mut end = End::new(true, messages(&[10]), 1000, 0);
    let mut now = 0;
    let mut sent = 0;
    while end.channel.failure().is_none() {
        sent += end.work(now).len();
        now = end.channel.timer().max(now + MILLI);
    }
    assert_eq!(end.channel.failure(), Some(Failure::Unanswered));
    assert!((PATIENCE..PATIENCE + SECOND).contains(&now), "{now}");
    assert!((8..=24).contains(&sent), "{sent} datagrams");

    // The user of the other end takes nothing for four minutes, and then goes on.
    let given: Vec<_> = (0..30).map(|n| message(n, 1_000_000)).collect();
    let mut ends = [End::new(true, given.clone(), 4_000_000, 0), End::new(false, vec![], 4_000, 1)];
    ends[1].reads_from = 240 * SECOND;
    let mut air = Air { lost: 10, doubled: 0, delay: MILLI, jitter: 0, seed: 2, rate: 0 };
    let took = run(&mut ends, &mut air, 300 * SECOND).expect("through");
    assert!(took < 242 * SECOND && ends[1].got == given, "{took}");
}

#[test]
fn who_sends_beyond_the_room_or_claims_what_was_not_sent_gains_nothing() {
    let mut channel = Channel::new(MAGIC, 7, false, 0);
    let mut control = Control::of(Kind::Connection, 7, Flags::default());
    // A hundred megabytes that nobody takes out.
    let block = message(0, 1_000_000);
    for number in 0..100 {
        control.number = number;
        channel.receive(0, &control, &block);
        assert!(channel.incoming_held() <= BUFFER);
    }
    // Far ahead, one each.
    let mut channel = Channel::new(MAGIC, 7, false, 0);
    for number in 0..200_000u32 {
        control.number = number * 2 + 1;
        channel.receive(0, &control, &message(0, 4));
        assert!(channel.incoming_held() <= BUFFER);
    }
    assert!(channel.pop().is_none());
    // Acknowledgements of messages that were never sent.
    let mut channel = Channel::new(MAGIC, 7, true, 0);
    channel.push([Message::Whole(message(1, 100))]);
    control.number = 0;
    control.ack = 5;
    channel.receive(0, &control, &[]);
    assert!(channel.next_datagram(0, 1000).unwrap().unwrap().payload.len() > HEADER_LEN + 100);
    control.ranges = vec![(7, u32::MAX)];
    channel.receive(0, &control, &[]);
    control.ack = 0;
    control.ranges = vec![(1, u32::MAX)];
    channel.receive(0, &control, &[]);
    assert!(!channel.is_delivered() && channel.failure().is_none());
    // Parts that never end.
    let mut channel = Channel::new(MAGIC, 7, false, 0);
    control.flags.part = true;
    control.ranges = Vec::new();
    for number in 0..20_000 {
        control.number = number;
        channel.receive(0, &control, &message(0, 1000));
        assert!(channel.incoming_held() <= BUFFER);
        assert!(channel.pop().is_none());
        channel.consumed(0);
    }
}

#[test]
fn a_narrow_route_is_known_by_what_comes_through_it() {
    for (rate, narrow) in [(10_000, true), (20_000, true), (60_000, false), (0, false)] {
        let given: Vec<_> = (0..60).map(|n| message(n, 3_000)).collect();
        let most = 64 * 1024;
        let mut ends =
            [End::new(true, given.clone(), most, 0), End::new(false, Vec::new(), most, 0)];
        let mut air = Air { lost: 0, doubled: 0, delay: 30 * MILLI, jitter: 0, seed: 5, rate };
        run(&mut ends, &mut air, 100 * SECOND).expect("through");
        assert!(ends[1].got == given);
        assert_eq!(ends[0].channel.is_narrow(32 * 1024), narrow, "{rate}");
    }
    // Whoever has sent little is not known to be narrow.
    let mut ends =
        [End::new(true, messages(&[80]), 64 * 1024, 0), End::new(false, vec![], 64 * 1024, 0)];
    let mut air = Air { lost: 0, doubled: 0, delay: 500 * MILLI, jitter: 0, seed: 5, rate: 0 };
    run(&mut ends, &mut air, 100 * SECOND).expect("through");
    assert!(!ends[0].channel.is_narrow(32 * 1024));
}

#[test]
fn all_room_comes_back_when_many_small_messages_were_handed_over() {
    let mut channel = Channel::new(MAGIC, 7, false, 0);
    let mut control = Control::of(Kind::Connection, 7, Flags::default());
    let mut small = Vec::new();
    message::write(MAGIC, "verack", &[], &mut small);
    let many = small.repeat(1000);
    for _ in 0..80 {
        channel.receive(0, &control, &many);
        control.number += 1000;
    }
    let mut handed_over = 0;
    while channel.pop().is_some() {
        channel.consumed(0);
        handed_over += 1;
    }
    assert_eq!((handed_over, channel.incoming_held()), (80_000, 0));
}

#[test]
fn what_comes_early_is_bounded_in_number_and_what_is_next_always_finds_room() {
    let mut channel = Channel::new(MAGIC, 7, false, 0);
    let mut control = Control::of(Kind::Connection, 7, Flags::default());
    let mut small = Vec::new();
    message::write(MAGIC, "verack", &[], &mut small);
    for number in 1..40_000 {
        control.number = number;
        channel.receive(0, &control, &small);
    }
    let held = channel.incoming_held() / (small.len() + PLACE);
    assert!(held <= 16 * 1024, "{held} messages for which an acknowledgement looks");
    control.number = 0;
    channel.receive(0, &control, &small);
    assert_eq!(std::iter::from_fn(|| channel.pop()).count(), held + 1);
}

#[test]
fn an_acknowledgement_that_says_nothing_new_costs_no_look_at_all_messages() {
    let mut channel = Channel::new(MAGIC, 7, true, 0);
    let mut small = Vec::new();
    message::write(MAGIC, "verack", &[], &mut small);
    channel.push((0..16_000).map(|_| Message::Whole(small.clone())));
    while channel.next_datagram(0, 4_000_000).unwrap().is_some() {}
    let mut control = Control::of(Kind::Connection, 7, Flags::default());
    control.window = BUFFER as u32;
    let start = std::time::Instant::now();
    (0..20_000).for_each(|_| channel.receive(0, &control, &[]));
    assert!(start.elapsed().as_secs() < 1, "{:?}", start.elapsed());
}
