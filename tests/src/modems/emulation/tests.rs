use super::*;
use crate::modems::kiss::{self, Frames};
use blvm_mesh_core::time::SECOND;
use proptest::prelude::*;

/// 869.525 MHz, 125 kHz, 14 dBm, SF 8, 4/5, on.
const RNODE: &[u8] = &[
    0xc0, 1, 0x33, 0xd3, 0xe6, 0x08, 0xc0, 0xc0, 2, 0, 1, 0xe8, 0x48, 0xc0, 0xc0, 3, 14, 0xc0,
    0xc0, 4, 8, 0xc0, 0xc0, 5, 5, 0xc0, 0xc0, 6, 1, 0xc0,
];
/// The same for MeshCore, which also keys up at once and does not roll dice.
const MESHCORE: &[u8] = &[
    0xc0, 6, 9, 0x08, 0xe6, 0xd3, 0x33, 0x48, 0xe8, 1, 0, 8, 5, 0xc0, 0xc0, 1, 0, 0xc0, 0xc0, 2,
    255, 0xc0,
];

struct Hosts {
    emulation: Emulation,
    frames: Vec<Frames>,
    now: Micros,
}

impl Hosts {
    /// Modems whose hosts have set them, with nothing left to read.
    fn new(world: &World) -> Self {
        let frames = vec![Frames::new(600); world.modems.len()];
        let mut new = Self { emulation: Emulation::new(world), frames, now: 0 };
        for (modem, dialect) in world.modems.iter().enumerate() {
            new.set(modem, *dialect);
        }
        new
    }

    fn set(&mut self, modem: usize, dialect: Dialect) {
        let settings = if dialect == Dialect::Rnode { RNODE } else { MESHCORE };
        self.emulation.feed(modem, settings, self.now);
        assert!(!self.read(modem).is_empty());
    }

    fn read(&mut self, modem: usize) -> Vec<Vec<u8>> {
        let bytes = self.emulation.take_output(modem, usize::MAX, self.now);
        self.frames[modem].take_all(&bytes)
    }

    fn send(&mut self, modem: usize, data: &[u8]) {
        self.emulation.feed(modem, &kiss::frame(0, data), self.now);
    }

    fn wait(&mut self, time: Micros) {
        self.now += time;
        self.emulation.advance(self.now);
    }

    /// The packets that a modem gave to its host.
    fn packets(&mut self, modem: usize) -> Vec<Vec<u8>> {
        let frames = self.read(modem).into_iter().filter(|frame| frame[0] == 0);
        frames.map(|frame| frame[1..].to_vec()).collect()
    }
}

use Dialect::{Meshcore as M, Rnode as R};

#[test]
fn packets_pass_in_both_dialects() {
    for dialect in [R, M] {
        let mut hosts = Hosts::new(&World::of(&[dialect; 3]));
        hosts.send(1, b"hello \xc0\xdb");
        hosts.wait(2 * SECOND);
        for modem in [0, 2] {
            assert_eq!(hosts.packets(modem), [b"hello \xc0\xdb"], "{dialect:?}");
        }
        assert!(hosts.packets(1).is_empty());
        let counts = hosts.emulation.counts(1);
        assert_eq!((counts.sent, counts.received), (1, 0));
        assert_eq!(hosts.emulation.counts(2).received, 1);
        let happened = hosts.emulation.happened();
        assert_eq!(happened.len(), 3);
        assert!(matches!(happened[0], OnAir::Sends { modem: 1, .. }));
    }
}

/// What MeshCore sends an RNode takes for a packet with a header, and the other way round.
#[test]
fn the_dialects_share_the_air_but_not_the_header() {
    let mut hosts = Hosts::new(&World::of(&[R, M]));
    hosts.send(1, &[0x30, 1, 2]);
    hosts.wait(2 * SECOND);
    assert_eq!(hosts.packets(0), [[1, 2]]);
    hosts.send(0, &[5]);
    hosts.wait(2 * SECOND);
    let packets = hosts.packets(1);
    assert_eq!((packets.len(), packets[0].len(), packets[0][1]), (1, 2, 5));
}

#[test]
fn they_listen_before_they_send() {
    for dialects in [[R, R, R], [M, M, M]] {
        let mut hosts = Hosts::new(&World::of(&dialects));
        hosts.send(0, &[0; 200]);
        hosts.wait(if dialects[0] == R { 420_000 } else { 50_000 });
        hosts.send(1, &[1; 20]);
        hosts.wait(5 * SECOND);
        let packets = hosts.packets(2);
        assert_eq!(packets.iter().map(Vec::len).collect::<Vec<_>>(), [200, 20], "{dialects:?}");
    }
}

/// The ends of a line do not hear each other, and spoil what they send at the same time.
#[test]
fn hidden_ones_collide() {
    let world = World { topology: Topology::Line, ..World::of(&[M, M, M]) };
    let mut hosts = Hosts::new(&world);
    hosts.send(0, &[0; 100]);
    hosts.send(2, &[2; 100]);
    hosts.wait(2 * SECOND);
    assert!(hosts.packets(1).is_empty());
    assert_eq!(hosts.emulation.counts(1).corrupt, 1);
    hosts
        .emulation
        .order(&"path 0-1:90".parse().expect("an order"), hosts.now)
        .expect("it is known");
    hosts.send(0, &[0; 100]);
    hosts.send(2, &[2; 100]);
    hosts.wait(2 * SECOND);
    assert_eq!(hosts.packets(1), [[0; 100]], "stronger by 10 dB");
}

#[test]
fn orders_are_carried_out() {
    let mut hosts = Hosts::new(&World::of(&[R, R]));
    let order = |hosts: &mut Hosts, line: &str| {
        let order: Order = line.parse().expect("an order");
        hosts.emulation.order(&order, hosts.now)
    };
    let arrives = |hosts: &mut Hosts| {
        hosts.send(0, &[7]);
        hosts.wait(2 * SECOND);
        !hosts.packets(1).is_empty()
    };
    assert!(arrives(&mut hosts));
    for (fault, end) in [
        ("deaf 1", "hear 1"),
        ("mute 0", "unmute 0"),
        ("lose 100", "lose 0"),
        ("cut 1 0", "path 0-1"),
    ] {
        order(&mut hosts, fault).expect("it is known");
        assert!(!arrives(&mut hosts), "{fault}");
        order(&mut hosts, end).expect("it is known");
        assert!(arrives(&mut hosts), "{end}");
    }
    assert_eq!(order(&mut hosts, "garbage 1 9").expect("it is known").len(), 9);
    order(&mut hosts, "firmware 0 1.51").expect("it is known");
    hosts.emulation.feed(0, &[0xc0, 0x50, 0, 0xc0], hosts.now);
    assert!(hosts.read(0).contains(&vec![0x50, 1, 51]));
    order(&mut hosts, "pull 1").expect("it is known");
    assert!(!arrives(&mut hosts));
    hosts.emulation.feed(1, &[0xc0, 8, 0x73, 0xc0], hosts.now);
    assert!(hosts.read(1).is_empty(), "it has no power");
    order(&mut hosts, "plug 1").expect("it is known");
    hosts.wait(2 * SECOND);
    assert!(hosts.read(1).contains(&vec![0x55, 0xf8]));
    hosts.set(1, R);
    assert!(arrives(&mut hosts));
    assert!(matches!(order(&mut hosts, "reset 2"), Err(OrderError::NoModem(2))));
}

/// A modem that is reset while it sends is not heard, and sends again later.
#[test]
fn a_reset_cuts_off_what_is_sent() {
    let mut hosts = Hosts::new(&World::of(&[M, M]));
    hosts.send(0, &[0; 255]);
    hosts.wait(100_000);
    hosts.emulation.order(&Order::Reset(0), hosts.now).expect("it is known");
    hosts.wait(2 * SECOND);
    assert!(hosts.packets(1).is_empty());
    hosts.set(0, M);
    hosts.send(0, &[3]);
    hosts.wait(2 * SECOND);
    assert_eq!(hosts.packets(1), [[3]]);
}

#[test]
fn the_same_seed_gives_the_same() {
    let run = |seed| {
        let world = World { seed, loss_ppm: 300_000, ..World::of(&[R, M, R, M]) };
        let mut hosts = Hosts::new(&world);
        for round in 0..40 {
            hosts.send(round % 4, &[round as u8; 50]);
            hosts.wait(200_000);
        }
        hosts.emulation.happened()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever hosts send and whatever is ordered, time passes, and in the end both answer.
    #[test]
    fn garbage_never_stops_it(
        steps in prop::collection::vec(
            (
                0usize..4,
                prop::collection::vec(prop_oneof![Just(0xc0u8), 0u8..0x10, any::<u8>()], 0..60),
                0u64..500_000,
                prop::option::of(prop::sample::select(vec![
                    "reset 0", "reset 1", "pull 2", "plug 2", "deaf 1", "hear 1", "mute 0", "unmute 0",
                    "refuse 0 radio", "accept 0 radio", "lose 30", "path 0-1:120", "cut 0 3",
                ])),
            ),
            0..60,
        ),
    ) {
        let mut hosts = Hosts::new(&World::of(&[R, M, R, M]));
        for (modem, bytes, pause, order) in steps {
            hosts.emulation.feed(modem, &bytes, hosts.now);
            if let Some(order) = order {
                let order: Order = order.parse().expect("an order");
                prop_assert!(hosts.emulation.order(&order, hosts.now).is_ok());
            }
            hosts.wait(pause);
        }
        // What was begun ends here: it may be an order to begin anew.
        (0..4).for_each(|modem| hosts.emulation.feed(modem, &[0xc0], hosts.now));
        hosts.wait(60 * SECOND);
        for (modem, question, answer) in [(0, [8, 0x73], vec![8, 0x46]), (1, [6, 0x17], vec![6, 0x97])] {
            hosts.read(modem);
            hosts.read(modem);
            // One delimiter more, which ends what is open.
            hosts.emulation.feed(modem, &[0xc0], hosts.now);
            hosts.emulation.feed(modem, &kiss::frame(question[0], &question[1..]), hosts.now);
            prop_assert!(hosts.read(modem).contains(&answer));
        }
    }
}
