//! Wires and radio do what they say, measured from outside of the nodes.

use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_tests::sim::radio::{Medium, Modem};
use blvm_mesh_tests::sim::{Input, Line, LinkCode, World};

/// A world of open nodes without keep-alive.
fn world(nodes: usize) -> World {
    let mut w = World::new(5);
    w.watch = 0;
    for _ in 0..nodes {
        let mut c = Config::host(Network::Regtest);
        c.mode = MeshMode::Open;
        c.timing.keepalive = 0;
        c.timing.hop_round_trip = 10 * SECOND;
        w.add_node(c, true);
    }
    w
}

/// Sends payloads of 100 bytes to a neighbour and gives the times at which they
/// arrive, counted from when they were sent.
fn arrivals(w: &mut World, from: usize, to: usize, count: usize) -> Vec<Micros> {
    let start = w.now;
    w.account.latencies.clear();
    for n in 0..count {
        let mut payload = vec![7; 100];
        payload[..8].copy_from_slice(&(n as u64).to_le_bytes());
        let id = w.id(from);
        w.account.launch(&id, to, &payload, start, true);
        w.send(from, to, &payload, &[]);
    }
    w.run_for(60 * SECOND);
    w.account.latencies.clone()
}

fn pair(line: Line) -> World {
    let mut w = world(2);
    w.wire_by(0, 1, line);
    w.run_for(SECOND);
    w
}

/// The size of such a datagram to a neighbour: 100 bytes and what is around them.
const PACKET: u64 = 192;

#[test]
fn latency_bandwidth_and_queue() {
    let latency = 5 * MILLISECOND;
    let mut w = pair(Line { latency, ..Line::default() });
    assert_eq!(arrivals(&mut w, 0, 1, 3), [latency; 3]);
    // 100,000 bytes per second: one after the other.
    let slow = Line { latency, bandwidth: 100_000, ..Line::default() };
    let times = arrivals(&mut pair(slow), 0, 1, 4);
    let each = times[1] - times[0];
    assert!(each.abs_diff(PACKET * 10) < 100, "{times:?}");
    assert!(times.windows(2).all(|t| t[1] - t[0] == each), "{times:?}");
    assert_eq!(times[0], latency + each);
    // Room for two and a half; whoever sends more is told that it is full.
    let full = Line { queue: each / 10 * 5 / 2, ..slow };
    let mut w = pair(full);
    assert_eq!(arrivals(&mut w, 0, 1, 20).len(), 2);
    assert_eq!(w.checks.counts.get("lost in a full queue"), Some(&18));
    let did = w.send(0, 1, &[9; 100], &[]);
    assert_eq!(did.len(), 2, "it takes more when it is empty again: {did:?}");
}

#[test]
fn loss_and_doubles_are_as_frequent_as_said() {
    let line = Line { loss_ppm: [250_000, 0], duplicate_ppm: 100_000, ..Line::default() };
    let mut w = pair(Line::default());
    w.change_lines(|l| *l = line);
    let arrived = arrivals(&mut w, 0, 1, 4000).len();
    let ends = w.wires()[0].ends;
    assert_eq!(ends, [0, 1]);
    assert!(arrived.abs_diff(3000) < 150, "{arrived} of 4000");
    let doubled = w.checks.counts["doubled on a wire"];
    assert!(doubled.abs_diff(300) < 80, "{doubled}");
    assert_eq!(arrivals(&mut w, 1, 0, 500).len(), 500, "nothing is lost on the way back");
}

/// Radios on a row, this far apart each, all that are in range connected.
fn radios(places: &[f64]) -> World {
    let mut w = world(places.len());
    let at = places.iter().map(|x| (*x, 0.0)).collect();
    w.radio = Some(Medium::new(Modem::SHORT, 1.0, at));
    for a in 0..places.len() {
        for b in w.radio.as_ref().unwrap().neighbours(a) {
            if b > a {
                w.wire_by(a, b, Line::default());
                // One greeting after the other.
                w.run_for(20 * SECOND);
            }
        }
    }
    w.run_for(60 * SECOND);
    w
}

#[test]
fn a_frame_takes_its_time_on_the_air_and_the_next_waits_for_the_duty_cycle() {
    let mut w = radios(&[0.0, 0.9]);
    let (modem, before) = (Modem::SHORT, w.radio.as_ref().unwrap().airtime);
    let times = arrivals(&mut w, 0, 1, 12);
    let each = modem.airtime(PACKET as usize + 22) + modem.airtime(8);
    assert_eq!(w.radio.as_ref().unwrap().airtime - before, 12 * each);
    assert!(times[0] >= each && times[0] <= 5 * each, "{times:?} {each}");
    // A hundredth of the time, although more waits: 0.6 s of a minute.
    w.radio.as_mut().unwrap().modem.duty_permille = 10;
    let before = w.radio.as_ref().unwrap().airtime;
    (0..40).for_each(|_| drop(arrivals(&mut w, 0, 1, 15)));
    let (on_air, time) = (w.radio.as_ref().unwrap().airtime - before, 40 * 60 * SECOND);
    assert!(on_air <= time / 100 + SECOND, "{on_air} us of {time}");
    assert!(on_air >= time / 120, "{on_air} us of {time}");
}

/// Both ends of a row send at once and cannot hear each other: a collision in the
/// middle, unless one is four times as strong there.
#[test]
fn hidden_nodes_collide_and_the_stronger_one_may_still_be_heard() {
    let lost = |places: &[f64]| {
        let mut w = radios(places);
        let medium = w.radio.as_mut().unwrap();
        (medium.received, medium.collided, medium.again) = (0, 0, 0);
        for round in 0..40u8 {
            for from in [0, 2] {
                let payload = [round; 200];
                let to = w.id(1);
                let proof = (&[][..]).into();
                let input = Input::Send {
                    destination: to,
                    payload: payload[..].into(),
                    proof,
                    unchecked: false,
                };
                w.input(from, input);
            }
            w.run_for(30 * SECOND);
        }
        w.radio.as_ref().unwrap().again
    };
    let even = lost(&[0.0, 0.9, 1.8]);
    assert!(even > 10, "{even}");
    // 0.9 and 0.5 away: the powers differ by a factor of 5.8.
    let uneven = lost(&[0.0, 0.9, 1.4]);
    assert!(uneven < even, "{uneven} {even}");
    // All hear each other: they take turns.
    let close = lost(&[0.0, 0.4, 0.8]);
    assert!(close * 4 < even, "{close} {even}");
}

/// Payloads of 100 bytes, each one frame, go to the node in the middle of a row: from
/// which end, and when. Says of each whether it arrived, without being sent again.
fn heard(places: [f64; 3], sent: &[(usize, Micros)]) -> Vec<bool> {
    let mut w = radios(&places);
    w.radio.as_mut().unwrap().tries = 0;
    let start = w.now;
    for (n, (from, at)) in sent.iter().enumerate() {
        let payload = vec![n as u8; 100];
        w.radio.as_mut().unwrap().pause = Some(0);
        w.run_for(start + at - w.now);
        w.send(*from, 1, &payload, &[]);
    }
    w.run_for(20 * SECOND);
    let arrived = |(n, (from, _)): (usize, &(usize, Micros))| w.arrived(*from, 1, &[n as u8; 100]);
    sent.iter().enumerate().map(arrived).collect()
}

#[test]
fn a_frame_is_lost_where_another_overlaps_it_that_is_a_quarter_as_strong() {
    let (ends, modem) = ([0, 2], Modem::SHORT);
    // Power falls with the third power of the distance; no end hears the other.
    let at = |other: f64| [0.0, 0.6, 0.6 + other];
    let both = |other, later| heard(at(other), &[(ends[0], 0), (ends[1], later)]);
    // 4^(1/3) = 1.587: 0.94 is 3.85 times as weak, 0.97 4.2 times.
    assert_eq!(both(0.94, 1000), [false, false]);
    assert_eq!(both(0.97, 1000), [true, false]);
    // It does not matter which one was first.
    let turned = heard(at(0.97), &[(2, 0), (0, 1000)]);
    assert_eq!(turned, [false, true]);
    // Of two that are equally strong neither is heard, if they touch at all.
    let airtime = modem.airtime(PACKET as usize + 22) + modem.airtime(8);
    assert_eq!(both(0.6, airtime - 1), [false, false]);
    assert_eq!(both(0.6, airtime), [true, true]);
}

#[test]
fn a_radio_that_sends_hears_nothing() {
    let mut w = radios(&[0.0, 0.6, 1.2]);
    w.radio.as_mut().unwrap().tries = 0;
    w.radio.as_mut().unwrap().pause = Some(0);
    let to = |w: &mut World, from, to| drop(w.send(from, to, &[from as u8; 50], &[]));
    let place = |w: &mut World, x: f64| w.radio.as_mut().unwrap().place(2, (x, 0.0));
    // The right one comes into range while the middle one sends to the left, and
    // does not know that.
    place(&mut w, 9.0);
    to(&mut w, 1, 0);
    w.run_for(Modem::SHORT.airtime(100));
    place(&mut w, 1.2);
    to(&mut w, 2, 1);
    w.run_for(10 * SECOND);
    assert!(w.arrived(1, 0, &[1; 50]), "nobody else is heard on the left");
    assert!(!w.arrived(2, 1, &[2; 50]), "it sent itself meanwhile");
    to(&mut w, 2, 1);
    w.run_for(10 * SECOND);
    assert!(w.arrived(2, 1, &[2; 50]));
}

#[test]
fn jitter_and_overtaking_keep_to_their_bounds() {
    let latency = 20 * MILLISECOND;
    let line = Line { latency, jitter: 5 * MILLISECOND, ..Line::default() };
    let times = arrivals(&mut pair(line), 0, 1, 400);
    assert_eq!(times.len(), 400);
    assert!(times.iter().all(|t| (latency..=latency + line.jitter).contains(t)));
    assert!(times.windows(2).all(|t| t[0] <= t[1]), "none overtakes another");
    let mut w = pair(line);
    w.change_lines(|l| l.reorder_ppm = 500_000);
    let mut late = arrivals(&mut w, 0, 1, 400);
    assert_eq!(late.len(), 400, "what is overtaken is not lost");
    late.sort_unstable();
    assert!(late[0] >= latency && *late.last().unwrap() <= 5 * latency + line.jitter);
    let overtaken = late.iter().filter(|t| **t > latency + line.jitter).count();
    assert!(overtaken > 100, "{overtaken}");
}

#[test]
fn a_stream_that_is_tampered_with_is_closed_and_carries_nothing_false() {
    let mut w = pair(Line { latency: MILLISECOND, code: LinkCode::Stream, ..Line::default() });
    assert_eq!(w.checks.counts["handshakes"], 2);
    assert_eq!(arrivals(&mut w, 0, 1, 5).len(), 5);
    w.tamper_ppm = 1_000_000;
    w.send(0, 1, b"changed on the way", &[]);
    w.run_for(100 * MILLISECOND);
    assert!(!w.arrived(0, 1, b"changed on the way"));
    assert_eq!(w.checks.counts["links that failed"], 1);
    w.tamper_ppm = 0;
    w.run_for(20 * SECOND);
    assert_eq!(arrivals(&mut w, 0, 1, 6).len(), 6, "it was dialed again");
}

#[test]
fn a_crash_leaves_a_prefix_of_the_writes() {
    use blvm_mesh_tests::scenarios::{find, line, pay};
    let mut kept = [0; 4];
    for round in 0..8 {
        let mut w = line(2, |_, _| {});
        find(&mut w, 0, 1);
        w.nodes[1].disk_stalls = true;
        for payload in [b"one", b"two", b"thr"] {
            let proof = pay(&mut w, 0, 1, payload.len(), 60);
            w.send(0, 1, payload, &proof);
        }
        w.run_for(100 * MILLISECOND);
        assert!(w.nodes[1].disk.is_empty());
        w.crash(1, round % 4);
        kept[w.nodes[1].disk.len()] += 1;
    }
    assert_eq!(kept, [2; 4]);
}
