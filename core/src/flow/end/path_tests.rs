//! Transfers over simulated paths.

use super::{test_path::*, *};
use crate::time::SECOND;
use std::{println, vec::Vec};

fn config(max_packet: usize) -> EndConfig {
    EndConfig { max_packet, ..EndConfig::default() }
}

/// Goodput in percent of the line's rate, and bytes paid for in percent of those carried.
fn figures(name: &str, conditions: Conditions, max_packet: usize, size: u64) -> (u64, u64) {
    let mut path = TestPath::new(conditions, config(max_packet), 1);
    let time = carry(&mut path, 0, size, 10_000 * SECOND);
    let (sent, _) = path.sent(0);
    let (back, acks) = path.sent(1);
    let (rate, paid) = (size * 100 * SECOND / time / conditions.rate, (sent + back) * 100 / size);
    let stats = path.ends[0].stats();
    println!(
        "{name}, {max_packet} bytes: {rate} % of the rate, {paid} % paid, {} lost in the queue, \
         {acks} acks, {stats:?}",
        path.dropped(0),
    );
    (rate, paid)
}

/// The table in docs/ARCHITECTURE.md.
#[test]
fn goodput_and_what_is_paid() {
    let lossy = |lost, conditions| Conditions { lost, ..conditions };
    let slow = Conditions { rate: 1_250_000, queue: 50_000, ..Conditions::GOOD };
    for (name, conditions, max_packet, size, least, most) in [
        ("100 Mbit/s", Conditions::GOOD, 1_400, 20_000_000, 88, 112),
        ("100 Mbit/s", Conditions::GOOD, 240, 10_000_000, 65, 137),
        ("100 Mbit/s, 1 % lost", lossy(10, Conditions::GOOD), 1_400, 20_000_000, 80, 112),
        ("100 Mbit/s, 1 % lost", lossy(10, Conditions::GOOD), 240, 10_000_000, 40, 139),
        ("10 Mbit/s, 1 % lost", lossy(10, slow), 1_400, 5_000_000, 88, 112),
        ("radio", Conditions::RADIO, 240, 50_000, 75, 150),
        ("radio, 1 % lost", lossy(10, Conditions::RADIO), 240, 50_000, 72, 150),
        ("radio, 5 % lost", lossy(50, Conditions::RADIO), 240, 50_000, 65, 160),
    ] {
        let (rate, paid) = figures(name, conditions, max_packet, size);
        assert!(rate >= least && paid <= most, "{name}: {rate} % of the rate, {paid} % paid");
    }
}

#[test]
fn a_bad_path_delivers_both_ways_and_then_is_silent() {
    for seed in 0..4 {
        let mut path = TestPath::new(Conditions::BAD, config(300), seed);
        let mut writing: Vec<_> =
            (0..6).map(|n| Writing::new(&mut path, n % 2, 40_000 * (n as u64 + 1))).collect();
        let mut reading: Vec<_> =
            writing.iter().map(|w| Reading::new(1 - w.end, w.stream)).collect();
        while !reading.iter().all(|reading| reading.finished) {
            writing.iter_mut().for_each(|writing| writing.go_on(&mut path));
            assert!(path.step() && path.now < 600 * SECOND);
            reading.iter_mut().for_each(|reading| reading.go_on(&mut path, 5_000));
        }
        // Nothing is under way for long, no timer is left, and nothing costs anything any more.
        let start = path.now;
        while path.step() {
            assert!(path.now - start < 60 * SECOND);
        }
        let sums = path.ends.iter().map(|end| end.stats());
        assert!(sums.clone().all(|s| s.sent == s.acknowledged + s.lost + s.unasked));
        assert!(sums.zip([0, 1]).all(|(s, end)| s.in_flight == 0 && s.sent == path.sent(end).0));
    }
}

/// In the middle of a transfer the route changes: what is under way is lost, or comes later, twice.
#[test]
fn a_route_that_changes_loses_and_repeats_nothing() {
    for (lost, narrower) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut path = TestPath::new(Conditions::GOOD, config(1_400), 3);
        let mut writing = Writing::new(&mut path, 0, 3_000_000);
        let mut reading = Reading::new(1, writing.stream);
        let mut changes = 0;
        while !reading.finished {
            writing.go_on(&mut path);
            assert!(path.step());
            reading.go_on(&mut path, 1 << 20);
            if reading.read > (changes + 1) * 500_000 {
                changes += 1;
                if lost {
                    path.lose_all();
                } else {
                    path.delay_all(50 * MILLISECOND);
                }
                let now = path.now;
                for end in &mut path.ends {
                    end.route_changed(now);
                    let narrow = if changes % 2 == 1 { 240 } else { 1_400 };
                    end.set_max_packet(if narrower { narrow } else { 1_400 });
                }
            }
            assert!(path.now < 20 * SECOND);
        }
        assert_eq!((reading.read, changes), (3_000_000, 5));
        assert!(path.now < 3 * SECOND, "{lost} {narrower}: {} ms", path.now / 1_000);
    }
}

/// The line is dead for a minute: probes become rare, and it goes on soon after.
#[test]
fn a_path_that_was_cut_goes_on() {
    let mut path = TestPath::new(Conditions::GOOD, config(1_400), 4);
    let mut writing = Writing::new(&mut path, 0, 3_000_000);
    let mut reading = Reading::new(1, writing.stream);
    let mut cut = None;
    while !reading.finished {
        writing.go_on(&mut path);
        assert!(path.step());
        reading.go_on(&mut path, 1 << 20);
        if reading.read > 1_000_000 && cut.is_none() {
            cut = Some((path.now, path.sent(0).1));
            path.cut = true;
        }
        if path.cut && path.now > cut.unwrap().0 + 60 * SECOND {
            path.cut = false;
            // Doubling from some 100 ms up, two packets each.
            assert!(path.sent(0).1 - cut.unwrap().1 < 1_500, "{:?}", path.sent(0));
        }
    }
    assert!(path.now < 130 * SECOND, "{}", path.now);
}

#[test]
fn both_ends_keep_to_the_allowance_and_go_on_when_it_grows() {
    for from in [0, 1] {
        let mut path = TestPath::new(Conditions::GOOD, config(1_400), 5);
        path.ends = ends(config(1_400));
        let mut allowance = 64 * 1024;
        path.ends[0].set_allowance(0, allowance);
        let size = 1_000_000;
        let mut writing = Writing::new(&mut path, from, size);
        let mut reading = Reading::new(1 - from, writing.stream);
        let mut topped_up = 0;
        while !reading.finished {
            writing.go_on(&mut path);
            let goes_on = path.step();
            reading.go_on(&mut path, 1 << 20);
            assert!(path.sent(0).0 + path.sent(1).0 <= allowance);
            if !goes_on {
                // All that was sent is acknowledged or given up, so more is bought.
                let stats = path.ends[from].stats();
                assert_eq!((stats.in_flight, stats.lost), (0, 0), "{from} {topped_up}");
                assert!(stats.left < 5_000, "{stats:?}");
                let events = std::iter::from_fn(|| path.ends[from].poll_event());
                assert!(events.into_iter().any(|event| event == Event::OutOfAllowance));
                allowance += 100_000;
                topped_up += 1;
                let now = path.now;
                path.ends[0].set_allowance(now, allowance);
            }
        }
        assert!((9..=16).contains(&topped_up), "{topped_up}");
    }
}

/// No allowance is too small to be handled, and none is exceeded.
#[test]
fn tiny_allowances() {
    for allowance in (0..4_000).step_by(37) {
        let mut path = TestPath::new(Conditions::GOOD, config(1_400), 6);
        path.ends = ends(config(1_400));
        path.ends[0].set_allowance(0, allowance);
        let mut writing = Writing::new(&mut path, 0, 100_000);
        writing.go_on(&mut path);
        while path.step() {
            assert!(path.sent(0).0 + path.sent(1).0 <= allowance);
            assert!(path.now < 3_600 * SECOND, "it comes to rest");
        }
    }
}

#[test]
fn a_slow_reader_holds_up_only_its_own_stream() {
    let config = EndConfig {
        streams: StreamLimits { streams: 1_000, window: 1 << 18, pool: 1 << 20 },
        ..config(1_400)
    };
    let mut path = TestPath::new(Conditions::GOOD, config, 7);
    let (mut writing, mut reading): (Vec<Writing>, Vec<Reading>) = Default::default();
    let stands = |stream: u32| stream.is_multiple_of(200);
    let mut finished = 0;
    let mut open = true;
    while finished < 990 {
        while open && writing.len() < 1_000 {
            let Ok(stream) = path.ends[0].open_stream() else {
                open = false;
                break;
            };
            // Ten are never read, and have more to send than any window.
            let size = if stands(stream) { 600_000 } else { 5_000 };
            let mut one = Writing { end: 0, stream, written: 0, size };
            one.go_on(&mut path);
            writing.push(one);
            reading.push(Reading::new(1, stream));
        }
        assert!(path.step() && path.now < 60 * SECOND, "{}", path.now);
        while let Some(event) = path.ends[0].poll_event() {
            match event {
                Event::Writable(id) => writing[id as usize / 2].go_on(&mut path),
                Event::StreamsAvailable => open = true,
                _ => {}
            }
        }
        while let Some(event) = path.ends[1].poll_event() {
            let Event::Readable(id) = event else { continue };
            if !stands(id) {
                reading[id as usize / 2].go_on(&mut path, 1 << 20);
                finished += usize::from(reading[id as usize / 2].finished);
            }
        }
    }
    // 5 MB at 12.5 MB/s, and those that stand.
    assert!(path.now < 2 * SECOND, "{} ms", path.now / 1_000);
    let kept: usize = path.ends[1].streams.all.values().map(|s| s.recv.peek().len()).sum();
    assert!(kept <= 10 * 16_384 + (1 << 20), "{kept}");
    // Those that stand are carried on as soon as they are read.
    while !reading.iter().all(|reading| reading.finished) {
        writing.iter_mut().filter(|w| w.written < w.size).for_each(|w| w.go_on(&mut path));
        reading.iter_mut().filter(|r| !r.finished).for_each(|r| r.go_on(&mut path, 1 << 20));
        path.step();
    }
}

#[test]
fn streams_share_the_path_alike() {
    let mut path = TestPath::new(Conditions::GOOD, config(1_400), 8);
    let mut writing: Vec<_> = (0..5).map(|_| Writing::new(&mut path, 0, 1 << 40)).collect();
    let mut reading: Vec<_> = writing.iter().map(|w| Reading::new(1, w.stream)).collect();
    while path.now < SECOND {
        writing.iter_mut().for_each(|writing| writing.go_on(&mut path));
        path.step();
        reading.iter_mut().for_each(|reading| reading.go_on(&mut path, 1 << 20));
    }
    let (least, most) = (
        reading.iter().map(|r| r.read).min().unwrap(),
        reading.iter().map(|r| r.read).max().unwrap(),
    );
    assert!(least > 1_000_000 && most - least < most / 5, "{least} {most}");
}

/// Somebody on the path repeats, alters and invents packets.
#[test]
fn strangers_change_nothing() {
    let mut path = TestPath::new(Conditions::GOOD, config(1_400), 9);
    path.keep = Some(Vec::new());
    carry(&mut path, 0, 100_000, SECOND);
    while path.step() {}
    let seen = path.keep.take().unwrap();
    let before = path.ends.each_ref().map(End::stats);
    for (n, (from, packet)) in seen.iter().enumerate() {
        let to = 1 - from;
        let now = path.now;
        assert_eq!(path.ends[to].receive(now, &mut packet.clone()), Err(Ignored::Replayed));
        // Its own packets do not come back to an end.
        let back = path.ends[*from].receive(now, &mut packet.clone());
        assert!(matches!(back, Err(Ignored::Replayed | Ignored::Forged)));
        let mut altered = packet.clone();
        altered[0] ^= 0x80;
        altered[4 + n % (packet.len() - 4)] ^= 1;
        assert!(path.ends[to].receive(now, &mut altered).is_err());
        assert!(
            path.ends[to].receive(now, &mut packet[..n % packet.len().min(30)].to_vec()).is_err()
        );
    }
    assert_eq!(path.ends.each_ref().map(End::stats), before);
}

#[test]
fn acknowledgements_are_few_on_a_slow_path_and_cost_little() {
    let mut path = TestPath::new(Conditions::RADIO, config(240), 10);
    carry(&mut path, 0, 50_000, 200 * SECOND);
    let ((_, there), (back, acks)) = (path.sent(0), path.sent(1));
    assert!(acks * 5 < there * 2, "{acks} for {there}");
    assert!(back < 7_000, "{back}");
}
