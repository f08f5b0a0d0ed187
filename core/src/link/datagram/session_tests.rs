//! Both ends of a link by hand, frame by frame.

use super::{
    cipher::OVERHEAD,
    terms::{ONE, ONE_LEN, THREE, THREE_LEN, TWO, TWO_LEN},
    *,
};
use crate::{
    link::aead::RustCrypto,
    time::{MILLISECOND, SECOND},
};
use proptest::{collection::vec as any_vec, prelude::*, sample::Index};
use secp256k1::Secp256k1;
use std::vec::Vec;

pub(super) struct TestKeys {
    local: Keypair,
    next: u64,
}

impl TestKeys {
    pub(super) fn new(byte: u8) -> Self {
        Self { local: key([byte; 32]), next: u64::from(byte) << 32 }
    }
}

impl Keys for TestKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }
    fn ephemeral(&mut self) -> Keypair {
        self.next += 1;
        let mut secret = [1; 32];
        secret[..8].copy_from_slice(&self.next.to_le_bytes());
        key(secret)
    }
}

fn key(secret: [u8; 32]) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), secret).unwrap()
}

pub(super) const PACKET: usize = 1000;
pub(super) type Memory = heapless::Vec<u8, { PACKET + MEMORY_OVERHEAD }>;

/// One end with its keys.
pub(super) struct End {
    pub(super) link: DatagramLink<RustCrypto, Memory>,
    pub(super) keys: TestKeys,
    pub(super) events: Vec<Event>,
    pub(super) packets: Vec<(Lane, Vec<u8>)>,
}

impl End {
    pub(super) fn new(limits: DatagramLimits, role: Role, byte: u8) -> Self {
        let memory = LinkMemory {
            inbound: [Memory::new(), Memory::new()],
            outbound: [Memory::new(), Memory::new()],
        };
        let (events, packets) = (Vec::new(), Vec::new());
        let link = DatagramLink::new(limits, role, memory);
        Self { link, keys: TestKeys::new(byte), events, packets }
    }

    pub(super) fn frame(&mut self, now: Micros) -> Option<Vec<u8>> {
        let mut out = [0; 1024];
        let len = self.link.transmit(now, &mut self.keys, &mut out);
        self.look();
        Some(out[..len?].to_vec())
    }

    pub(super) fn take(&mut self, now: Micros, frame: &[u8]) -> Result<(), Ignored> {
        let taken = self.link.receive(now, &mut frame.to_vec(), &mut self.keys);
        self.look();
        taken
    }

    fn look(&mut self) {
        for _ in 0..2 {
            while let Some(event) = self.link.poll_event() {
                self.events.push(event);
            }
            while let Some(packet) = self.link.next_packet() {
                self.packets.push((packet.lane, packet.bytes.to_vec()));
            }
        }
    }

    pub(super) fn queue(&mut self, now: Micros, lane: Lane, packet: &[u8]) {
        self.link.queue(now, lane, packet, &[]).unwrap();
    }
}

pub(super) fn limits() -> DatagramLimits {
    DatagramLimits::serial(255, PACKET as u32)
}

pub(super) fn pair() -> (End, End) {
    let far = End::new(limits(), Role::Listen, 2);
    let role = Role::Dial(far.keys.local.public_key());
    (End::new(limits(), role, 1), far)
}

/// Lets frames go back and forth without delay until nobody has any.
pub(super) fn talk(now: Micros, near: &mut End, far: &mut End) {
    for _ in 0..1000 {
        let (out, back) = (near.frame(now), far.frame(now));
        if out.is_none() && back.is_none() {
            return;
        }
        let _ = out.map(|frame| far.take(now, &frame));
        let _ = back.map(|frame| near.take(now, &frame));
    }
    panic!("there is no end to it");
}

/// A pair whose session stands and has nothing more to say.
pub(super) fn linked() -> (End, End) {
    let (mut near, mut far) = pair();
    talk(0, &mut near, &mut far);
    talk(SECOND, &mut near, &mut far);
    assert_eq!(near.events, [Event::Up(key([2; 32]).public_key())]);
    assert_eq!(far.events, [Event::Up(key([1; 32]).public_key())]);
    (near, far)
}

#[test]
fn a_handshake_survives_the_loss_of_each_frame() {
    for lost in 0..4 {
        let (mut near, mut far) = pair();
        let (mut now, mut sent) = (0, 0);
        while far.events.is_empty() || near.events.is_empty() {
            for _ in 0..2 {
                if let Some(frame) = near.frame(now) {
                    sent += 1;
                    let _ = (sent != 1 + lost).then(|| far.take(now, &frame));
                }
                if let Some(frame) = far.frame(now) {
                    sent += 1;
                    let _ = (sent != 1 + lost).then(|| near.take(now, &frame));
                }
            }
            now += 100 * MILLISECOND;
            assert!(now < 3 * SECOND, "frame {lost} lost");
        }
        assert_eq!((near.events.len(), far.events.len()), (1, 1));
    }
}

#[test]
fn sizes_of_the_frames_are_as_documented() {
    let (mut near, mut far) = pair();
    let one = near.frame(0).unwrap();
    far.take(0, &one).unwrap();
    let two = far.frame(0).unwrap();
    near.take(0, &two).unwrap();
    let three = near.frame(0).unwrap();
    far.take(0, &three).unwrap();
    assert_eq!([one.len(), two.len(), three.len()], [ONE_LEN, TWO_LEN, THREE_LEN]);
    assert_eq!([one[0], two[0], three[0]], [ONE, TWO, THREE]);
    let confirmation = far.frame(0).unwrap();
    assert_eq!(confirmation.len(), OVERHEAD + 1);
    near.take(0, &confirmation).unwrap();
    // One byte and its number: 22 bytes around, and 6 for an acknowledgement.
    far.queue(0, Lane::Free, b"x");
    let frame = far.frame(0).unwrap();
    assert_eq!(frame.len(), 22 + 2);
    near.take(0, &frame).unwrap();
    near.queue(0, Lane::Free, b"y");
    assert_eq!(near.frame(0).unwrap().len(), 28 + 2);
}

#[test]
fn each_side_keeps_to_what_the_other_holds() {
    let far_limits = DatagramLimits { frame: 100, max_packet: 300, ..limits() };
    let mut far = End::new(far_limits, Role::Listen, 2);
    let mut near = End::new(limits(), Role::Dial(far.keys.local.public_key()), 1);
    talk(0, &mut near, &mut far);
    assert_eq!(near.link.max_packet(), Some(300));
    let long = near.link.queue(0, Lane::Free, &[7; 301], &[]);
    assert_eq!(long, Err(NotQueued::TooLong { len: 301, max: 300 }));
    near.queue(0, Lane::Free, &[7; 300]);
    let mut sizes = Vec::new();
    while let Some(frame) = near.frame(0) {
        sizes.push(frame.len());
        far.take(0, &frame).unwrap();
    }
    assert_eq!((sizes[0], sizes.len(), &far.packets[0].1), (100, 4, &[7; 300].to_vec()));
}

#[test]
fn paid_goes_before_free_and_small_packets_share_a_frame() {
    let (mut near, mut far) = linked();
    let now = 2 * SECOND;
    near.queue(now, Lane::Free, &[1; 300]);
    near.queue(now, Lane::Paid, b"paid");
    near.queue(now, Lane::Paid, b"paid too");
    let frame = near.frame(now).unwrap();
    far.take(now, &frame).unwrap();
    let paid = [(Lane::Paid, b"paid".to_vec()), (Lane::Paid, b"paid too".to_vec())];
    assert_eq!((far.packets.as_slice(), frame.len()), (&paid[..], 255));
    let frame = near.frame(now).unwrap();
    far.take(now, &frame).unwrap();
    assert_eq!(far.packets[2..], [(Lane::Free, [1; 300].to_vec())]);
}

#[test]
fn a_lost_frame_alone_is_sent_again() {
    let (mut near, mut far) = linked();
    let now = 2 * SECOND;
    near.queue(now, Lane::Free, &[1; PACKET]);
    let frames: Vec<_> = core::iter::from_fn(|| near.frame(now)).collect();
    assert_eq!(frames.len(), 5);
    for frame in frames.iter().take(1).chain(&frames[2..]) {
        far.take(now, frame).unwrap();
    }
    let ack = far.frame(now).unwrap();
    near.take(now, &ack).unwrap();
    // Three later ones are acknowledged, so no timer is waited for.
    let again = near.frame(now).unwrap();
    assert_eq!((again.len(), near.frame(now)), (frames[1].len(), None));
    far.take(now, &again).unwrap();
    assert_eq!(far.packets, [(Lane::Free, [1; PACKET].to_vec())]);
    assert_eq!(near.link.sent(), Sent { chunks: 5, again: 1, given_up: 0 });
}

#[test]
fn a_neighbour_that_is_gone_is_noticed_and_one_that_began_anew_is_met_again() {
    let (mut near, mut far) = linked();
    let now = 2 * SECOND;
    near.queue(now, Lane::Free, b"lost");
    near.frame(now).unwrap();
    // Silent: a handshake is tried beside the session; then that is over.
    let after = |time| now + time - 1;
    assert!(near.link.poll_timeout().is_some_and(|at| at <= now + limits().initial_rto));
    while near.frame(after(limits().probe_after)).is_some() {}
    assert!(near.link.side.call_mut().is_none());
    while near.frame(after(limits().dead_after)).is_some() {}
    assert!(near.link.side.call_mut().is_some() && near.events.len() == 1);
    near.frame(now + limits().dead_after);
    assert_eq!(near.events[1..], [Event::Down(Down::Silent)]);
    // The far end has heard nothing; whoever dials replaces its session.
    let later = 60 * SECOND;
    talk(later, &mut near, &mut far);
    let remote = near.keys.local.public_key();
    assert_eq!(far.events[1..], [Event::Down(Down::Replaced), Event::Up(remote)]);
    assert!(matches!(near.events[2..], [Event::Up(_)]));
    near.queue(later, Lane::Free, b"arrives");
    talk(later, &mut near, &mut far);
    assert_eq!(far.packets, [(Lane::Free, b"arrives".to_vec())]);
    // The far end forgets everything: found out within `probe_after`.
    let mut far = End::new(limits(), Role::Listen, 2);
    near.queue(later, Lane::Free, b"never");
    let mut now = later;
    while near.events.len() == 3 {
        talk(now, &mut near, &mut far);
        now += 100 * MILLISECOND;
        assert!(now < later + limits().probe_after + SECOND);
    }
    assert!(matches!(near.events[3..], [Event::Down(Down::Replaced), Event::Up(_)]));
}

#[test]
fn floods_cost_bounded_work_and_memory_and_do_not_touch_the_session() {
    let (mut near, mut far) = linked();
    let start = 10 * SECOND;
    let mut stranger = TestKeys::new(9);
    let remote = far.keys.local.public_key();
    let made_before = far.keys.next;
    let mut errors = Vec::new();
    for i in 0..1000u64 {
        let now = start + i * 10 * MILLISECOND;
        let mut call = Call::<RustCrypto>::new(now, &limits(), remote, i as u8, &mut stranger);
        let mut out = [0; 100];
        let len = call.transmit(now, SECOND, &mut out).unwrap();
        errors.extend(far.take(now, &out[..len]).err());
        // Half-open: Act Two is sent, Act Three never comes.
        far.frame(now);
    }
    // Ten seconds: four at once and two a second; everything else is dropped unread.
    let worked = far.keys.next - made_before;
    assert_eq!((worked, errors.len() as u64), (4 + 19, 1000 - worked));
    assert!(errors.iter().all(|error| *error == Ignored::TooManyHandshakes));
    let now = start + 10 * SECOND;
    near.queue(now, Lane::Paid, b"still there");
    talk(now, &mut near, &mut far);
    assert_eq!(far.packets, [(Lane::Paid, b"still there".to_vec())]);
    assert_eq!((near.events.len(), far.events.len()), (1, 1));
    // Their own time is over: a new neighbour finds room once the allowance is back.
    let mut far = End::new(limits(), Role::Listen, 2);
    far.link.side = Side::Listen(half_open(&mut stranger, remote));
    let mut near = End::new(limits(), Role::Dial(remote), 1);
    talk(SECOND, &mut near, &mut far);
    assert_eq!(near.events.len(), 1);
}

/// Answers with all places taken by handshakes that will not go on.
fn half_open(stranger: &mut TestKeys, remote: PublicKey) -> Answers {
    let mut far = End::new(limits(), Role::Listen, 2);
    for i in 0..HALF_OPEN {
        let mut call = Call::<RustCrypto>::new(0, &limits(), remote, i as u8, stranger);
        let mut out = [0; 100];
        let len = call.transmit(0, SECOND, &mut out).unwrap();
        far.take(0, &out[..len]).unwrap();
        far.frame(0).unwrap();
    }
    match far.link.side {
        Side::Listen(answers) => answers,
        Side::Dial { .. } => panic!(),
    }
}

#[test]
fn a_stranger_does_not_take_over_a_link() {
    let (mut near, mut far) = linked();
    let mut stranger = End::new(limits(), Role::Dial(far.keys.local.public_key()), 9);
    for _ in 0..5 {
        let frame = stranger.frame(2 * SECOND);
        let taken = frame.map(|frame| far.take(2 * SECOND, &frame));
        if let Some(Err(error)) = taken {
            assert_eq!(error, Ignored::OtherNeighbour);
        }
        let _ = far.frame(2 * SECOND).map(|frame| stranger.take(2 * SECOND, &frame));
    }
    assert!(stranger.events.is_empty() && far.events.len() == 1);
    near.queue(2 * SECOND, Lane::Free, b"hello");
    talk(2 * SECOND, &mut near, &mut far);
    assert_eq!(far.packets.len(), 1);
    // Once the session is over the place is free.
    far.link.close();
    for now in 3..20 {
        talk(now * SECOND, &mut stranger, &mut far);
    }
    assert!(matches!(far.events[1..], [Event::Down(Down::Closed), Event::Up(_)]));
}

#[test]
fn everything_that_was_on_the_line_may_come_again() {
    let (mut near, mut far) = pair();
    let mut line = Vec::new();
    for round in 0..200 {
        let now = round * 50 * MILLISECOND;
        if round % 10 == 5 {
            near.queue(now, Lane::Free, &[round as u8; 400]);
        }
        for _ in 0..4 {
            if let Some(frame) = near.frame(now) {
                let _ = far.take(now, &frame);
                line.push((true, frame));
            }
            if let Some(frame) = far.frame(now) {
                let _ = near.take(now, &frame);
                line.push((false, frame));
            }
        }
    }
    let (events, packets) = ((near.events.clone(), far.events.clone()), far.packets.clone());
    assert_eq!(packets.len(), 20);
    let counters = (near.link.sent(), far.link.sent());
    for (from_near, frame) in &line {
        for end in [&mut near, &mut far] {
            let _ = end.take(10 * SECOND, frame);
            // A replayed Act One is answered, within the allowance, and no more.
            while end.frame(10 * SECOND).is_some() {}
        }
        let _ = from_near;
    }
    assert_eq!((near.events.clone(), far.events.clone()), events);
    assert_eq!(far.packets, packets);
    assert_eq!((near.link.sent(), far.link.sent()), counters);
    near.queue(11 * SECOND, Lane::Free, b"still there");
    talk(11 * SECOND, &mut near, &mut far);
    assert_eq!(far.packets.len(), 21);
}

#[test]
fn a_neighbour_that_breaks_the_rules_loses_its_session_only() {
    let (mut near, mut far) = linked();
    near.link.session.as_mut().unwrap().max_packet = 1 << 20;
    near.link.limits.queue = 1 << 20;
    near.link.outbound = Outbound::new(
        [Memory::new(), Memory::new()],
        PACKET + 2,
        8,
        Rto::new(SECOND, SECOND, SECOND),
    );
    near.link.outbound.reset(1 << 20);
    near.queue(SECOND, Lane::Free, &[5; PACKET - 2]);
    talk(SECOND, &mut near, &mut far);
    assert_eq!(far.packets.len(), 1);
    far.link.inbound[0] = Inbound::new(Memory::new(), 500);
    near.link.outbound.reset(1 << 20);
    near.queue(SECOND, Lane::Free, &[5; 501]);
    let frame = near.frame(SECOND).unwrap();
    far.take(SECOND, &frame).unwrap();
    let down = Down::Packet(BadPacket::TooLong { len: 501, max: 500 });
    assert_eq!(far.events[1..], [Event::Down(down)]);
    // It may come again.
    talk(SECOND + limits().probe_after, &mut near, &mut far);
    assert!(matches!(far.events[2..], [Event::Up(_)]));
}

#[test]
fn the_memory_of_a_link_is_what_it_is() {
    let bytes = size_of::<DatagramLink<RustCrypto, &mut Memory>>();
    assert!(bytes <= 3584, "{bytes}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_altered_byte_of_a_handshake_makes_a_session(
        which in 0usize..3, at: Index, bit in 0u8..8,
    ) {
        let (mut near, mut far) = pair();
        let alter = |frame: Option<Vec<u8>>, here: bool| {
            let mut frame = frame?;
            if here {
                let at = at.index(frame.len());
                frame[at] ^= 1 << bit;
            }
            Some(frame)
        };
        let one = alter(near.frame(0), which == 0).unwrap();
        let _ = far.take(0, &one);
        if let Some(two) = alter(far.frame(0), which == 1) {
            let _ = near.take(0, &two);
        }
        if let Some(three) = alter(near.frame(0), which == 2) {
            let _ = far.take(0, &three);
        }
        prop_assert!(far.events.is_empty() && near.events.is_empty());
        // And the next attempt or repetition does.
        for now in 1..40 {
            talk(now * SECOND, &mut near, &mut far);
        }
        prop_assert!(far.events.len() == 1 && near.events.len() == 1);
    }

    #[test]
    fn no_altered_frame_changes_anything(
        packet in any_vec(any::<u8>(), 1..600), at: Index, bit in 0u8..8, before in 0usize..3,
    ) {
        let (mut near, mut far) = linked();
        near.queue(SECOND, Lane::Paid, &packet);
        let frames: Vec<_> = core::iter::from_fn(|| near.frame(SECOND)).collect();
        for (i, frame) in frames.iter().enumerate() {
            if i == before.min(frames.len() - 1) {
                let mut bad = frame.clone();
                bad[at.index(frame.len())] ^= 1 << bit;
                prop_assert!(far.take(SECOND, &bad).is_err());
            }
            far.take(SECOND, frame).unwrap();
        }
        prop_assert_eq!(&far.packets, &[(Lane::Paid, packet)]);
        prop_assert_eq!(far.events.len(), 1);
    }

    #[test]
    fn garbage_changes_nothing(frames in any_vec(any_vec(any::<u8>(), 0..256), 0..40)) {
        let (mut near, mut far) = linked();
        for (i, frame) in frames.iter().enumerate() {
            let now = 2 * SECOND + i as u64 * MILLISECOND;
            prop_assert!(near.take(now, frame).is_err() && far.take(now, frame).is_err());
            prop_assert!(near.frame(now).is_none() && far.frame(now).is_none());
        }
        near.queue(3 * SECOND, Lane::Free, b"still there");
        talk(3 * SECOND, &mut near, &mut far);
        prop_assert_eq!(far.packets.len(), 1);
    }
}
