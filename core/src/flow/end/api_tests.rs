//! What applications see, and what peers may not do.

use super::{
    frames::{Frame, Writer},
    packet::{NUMBER_LEN, OVERHEAD, Sealer},
    test_path::*,
    *,
};
use crate::{link::aead::RustCrypto, time::SECOND};
use proptest::{collection::vec as any_vec, prelude::*, sample::Index};
use std::{collections::BTreeMap, string::ToString, vec, vec::Vec};

fn path() -> TestPath {
    TestPath::new(Conditions::GOOD, EndConfig::default(), 1)
}

fn events(path: &mut TestPath, end: usize) -> Vec<Event> {
    std::iter::from_fn(|| path.ends[end].poll_event()).collect()
}

fn rest(path: &mut TestPath) {
    let start = path.now;
    while path.step() {
        assert!(path.now < start + 600 * SECOND);
    }
}

#[test]
fn a_request_and_its_answer() {
    let mut path = path();
    // Nobody has anything to say beyond the first grant of bytes.
    rest(&mut path);
    assert_eq!((path.sent(0), path.sent(1)), ((64, 1), (64, 1)));
    let id = path.ends[0].open_stream().unwrap();
    assert_eq!(id, 0);
    assert_eq!(path.ends[0].write(id, b"request"), Ok(7));
    path.ends[0].finish(id).unwrap();
    assert_eq!(path.ends[0].write(id, b"more"), Err(NotOpen));
    path.step();
    while !events(&mut path, 1).contains(&Event::Readable(id)) {
        assert!(path.step());
    }
    let mut out = [0; 10];
    assert_eq!(path.ends[1].read(id, &mut out[..3]), Ok(Read::Bytes(3)));
    assert_eq!(path.ends[1].peek(id), Ok(&b"uest"[..]));
    path.ends[1].consume(id, 4).unwrap();
    assert_eq!(path.ends[1].read(id, &mut out), Ok(Read::Finished));
    path.ends[1].write(id, b"answer").unwrap();
    path.ends[1].finish(id).unwrap();
    rest(&mut path);
    assert_eq!(events(&mut path, 0), [Event::Finished(id), Event::Readable(id)]);
    assert_eq!(path.ends[0].read(id, &mut out), Ok(Read::Bytes(6)));
    assert_eq!(path.ends[0].read(id, &mut out), Ok(Read::Finished));
    // Both have forgotten it, and the next stream has another number.
    assert_eq!(events(&mut path, 1), [Event::Finished(id)]);
    for end in &mut path.ends {
        assert_eq!(end.read(id, &mut out), Err(NotOpen));
        assert!(end.is_idle() && end.next_timeout().is_none());
    }
    assert_eq!(path.ends[0].open_stream(), Ok(2));
    assert_eq!(path.ends[1].open_stream(), Ok(1));
    rest(&mut path);
    assert_eq!(events(&mut path, 0), [Event::Opened(1)]);
}

#[test]
fn streams_that_are_given_up_or_not_wanted() {
    let mut path = path();
    let [a, b] = [0; 2].map(|_| path.ends[0].open_stream().unwrap());
    for id in [a, b] {
        path.ends[0].write(id, &[1; 100_000]).unwrap();
    }
    path.ends[0].reset(a, 7).unwrap();
    rest(&mut path);
    assert_eq!(path.ends[1].read(a, &mut [0; 9]), Ok(Read::Reset(7)));
    assert!(events(&mut path, 0).contains(&Event::Finished(a)));
    path.ends[1].stop(b, 8).unwrap();
    rest(&mut path);
    let told = events(&mut path, 0);
    assert!(told.contains(&Event::Stopped { id: b, code: 8 }), "{told:?}");
    assert_eq!(path.ends[0].write(b, b"more"), Err(NotOpen));
    // The other direction of both still stands.
    for id in [a, b] {
        path.ends[1].write(id, b"x").unwrap();
        path.ends[1].finish(id).unwrap();
    }
    rest(&mut path);
    let mut out = [0; 9];
    for id in [a, b] {
        assert_eq!(path.ends[0].read(id, &mut out), Ok(Read::Bytes(1)));
        assert_eq!(path.ends[0].read(id, &mut out), Ok(Read::Finished));
    }
    assert!(path.ends.iter().all(|end| end.streams.all.is_empty()));
    let pools = path.ends.each_ref().map(|end| (end.streams.send_pool, end.streams.receive_pool));
    assert_eq!(pools, [(16 << 20, 16 << 20); 2]);
}

#[test]
fn a_closed_flow_says_so_and_no_more() {
    let mut path = path();
    let id = path.ends[0].open_stream().unwrap();
    path.ends[0].write(id, b"x").unwrap();
    rest(&mut path);
    events(&mut path, 1);
    path.ends[0].close(5);
    path.cut = true;
    path.settle();
    // The farewell is lost: the other end hears it when it sends again.
    path.cut = false;
    path.ends[1].write(id, b"y").unwrap();
    rest(&mut path);
    assert_eq!(events(&mut path, 0), [Event::Ended(Ended::Here(5))]);
    assert_eq!(events(&mut path, 1), [Event::Ended(Ended::There(5))]);
    assert!(path.ends.iter().all(End::is_over));
    let sent = path.sent(0).1;
    path.ends[1].write(id, b"z").unwrap();
    rest(&mut path);
    assert_eq!((path.sent(0).1, path.ends[1].next_timeout()), (sent, None));
}

#[test]
fn as_many_streams_as_the_peer_allows() {
    let streams = StreamLimits { streams: 20, ..StreamLimits::default() };
    let mut path =
        TestPath::new(Conditions::GOOD, EndConfig { streams, ..EndConfig::default() }, 2);
    let ids: Vec<_> = std::iter::from_fn(|| path.ends[0].open_stream().ok()).collect();
    assert_eq!(ids, (0..16).map(|n| n * 2).collect::<Vec<_>>());
    assert_eq!(path.ends[0].open_stream(), Err(LimitedStreams));
    rest(&mut path);
    assert!(events(&mut path, 0).contains(&Event::StreamsAvailable));
    let more = std::iter::from_fn(|| path.ends[0].open_stream().ok()).count();
    assert_eq!(more, 4);
    // One that is done makes room for another, after a round trip.
    for end in [0, 1] {
        path.ends[end].finish(0).unwrap();
    }
    rest(&mut path);
    for end in [0, 1] {
        assert_eq!(path.ends[end].read(0, &mut [0; 9]), Ok(Read::Finished));
    }
    rest(&mut path);
    assert!(events(&mut path, 0).contains(&Event::StreamsAvailable));
    assert_eq!(path.ends[0].open_stream(), Ok(40));
}

/// What an authentic peer sends, byte by byte, and how it is answered.
#[test]
fn a_peer_that_breaks_the_protocol_ends_the_flow() {
    let stream = |id, offset, fin, data| Frame::Stream { id, offset, fin, data };
    let bytes = |frames: &[Frame<'_>]| {
        let mut out = [0; 300];
        let mut writer = Writer::new(&mut out);
        assert!(frames.iter().all(|frame| writer.put(frame)));
        let len = writer.len();
        out[..len].to_vec()
    };
    let cases = [
        (vec![], Violation::Empty),
        (vec![0], Violation::Frame),
        (vec![1, 100, 0, 0, 0], Violation::AckOfUnsent),
        (bytes(&[stream(33, 0, false, b"")]), Violation::StreamLimit),
        (bytes(&[Frame::StopSending { id: 33, code: 0 }]), Violation::StreamLimit),
        (bytes(&[stream(0, 0, false, b"")]), Violation::UnknownStream),
        (bytes(&[Frame::MaxStreamData { id: 4, limit: 9 }]), Violation::UnknownStream),
        (bytes(&[stream(1, 16_384, false, b"x")]), Violation::StreamCredit),
        (bytes(&[Frame::ResetStream { id: 1, code: 0, size: 1 << 60 }]), Violation::StreamCredit),
        (bytes(&[stream(1, 0, true, b"x"), stream(1, 1, false, b"y")]), Violation::FinalSize),
        (bytes(&[Frame::Credit(1 << 60)]), Violation::Credit),
    ];
    for (frames, violation) in cases {
        let [mut source, mut destination] = ends(EndConfig::default());
        source.set_allowance(0, 1 << 20);
        let mut sealer = Sealer::<RustCrypto>::new(&[2; 32], 7, Direction::FromDestination);
        let mut packet = vec![0; frames.len() + OVERHEAD];
        packet[NUMBER_LEN..][..frames.len()].copy_from_slice(&frames);
        sealer.seal(&mut packet).unwrap();
        assert_eq!(source.receive(0, &mut packet), Ok(()));
        let ended = std::iter::from_fn(|| source.poll_event()).last();
        assert_eq!(ended, Some(Event::Ended(Ended::Broken(violation))));
        assert_eq!(source.receive(0, &mut packet), Err(Ignored::Replayed));
        // The peer hears what it has done.
        let mut out = [0; 200];
        let len = source.poll_transmit(0, &mut out).unwrap();
        assert_eq!(destination.receive(0, &mut out[..len]), Ok(()));
        let reason = Ended::Accused(violation);
        assert_eq!(destination.poll_event(), Some(Event::Ended(reason)));
        assert!(reason.to_string().ends_with(&violation.to_string()));
    }
}

/// What a stream has beyond its own part comes from the pools, and goes back.
#[test]
fn pools_are_shared_and_given_back() {
    let streams = StreamLimits { streams: 16, window: 1 << 20, pool: 60_000 };
    let mut path =
        TestPath::new(Conditions::GOOD, EndConfig { streams, ..EndConfig::default() }, 3);
    let ids: Vec<_> = (0..3).map(|_| path.ends[0].open_stream().unwrap()).collect();
    let taken = ids.iter().map(|id| path.ends[0].write(*id, &[1; 100_000]).unwrap());
    // All of the pool to the first, and to each its own.
    assert_eq!(taken.collect::<Vec<_>>(), [76_384, 16_384, 16_384]);
    let mut out = vec![0; 100_000];
    let mut read = 0;
    while path.step() {
        for id in &ids {
            if let Ok(Read::Bytes(n)) = path.ends[1].read(*id, &mut out) {
                read += n;
            }
        }
    }
    assert_eq!(read, 76_384 + 2 * 16_384);
    let pools = |path: &TestPath| path.ends.each_ref().map(|end| end.streams.receive_pool);
    assert!(pools(&path)[1] < 60_000 && path.ends[0].streams.send_pool == 60_000);
    for id in &ids {
        for end in [0, 1] {
            path.ends[end].finish(*id).unwrap();
        }
    }
    rest(&mut path);
    for id in &ids {
        for end in [0, 1] {
            assert_eq!(path.ends[end].read(*id, &mut out), Ok(Read::Finished));
        }
    }
    assert_eq!(pools(&path), [60_000; 2]);
}

/// A packet that is so late that its offset, modulo 2^24, could be taken for another.
#[test]
fn a_packet_from_long_ago_is_not_taken() {
    for (until, taken) in [(1_000_000, Ok(())), (5_000_000, Err(Ignored::Replayed))] {
        let config = EndConfig { max_packet: 8_192, ..EndConfig::default() };
        let [mut source, mut destination] = ends(config);
        source.set_allowance(0, 1 << 30);
        let id = source.open_stream().unwrap();
        let (mut now, mut read, mut packets, mut held) = (0, 0, 0, None);
        let (mut out, mut bytes) = (vec![0; 8_192], vec![0; 8_192]);
        while read < until {
            source.write(id, &[1; 8_192]).unwrap();
            while let Some(len) = source.poll_transmit(now, &mut out) {
                packets += 1;
                if packets == 10 {
                    held = Some(out[..len].to_vec());
                } else {
                    destination.receive(now, &mut out[..len]).unwrap();
                }
                while let Ok(Read::Bytes(n)) = destination.read(id, &mut bytes) {
                    read += n as u64;
                }
                while let Some(len) = destination.poll_transmit(now, &mut out) {
                    source.receive(now, &mut out[..len]).unwrap();
                }
            }
            now += MILLISECOND;
            source.handle_timeout(now);
        }
        assert!(packets < 2_000, "the window of numbers would still take it");
        assert_eq!(destination.receive(now, &mut held.unwrap()), taken);
    }
}

/// What happens to a path, and what applications do at its ends.
#[derive(Debug, Clone)]
enum Op {
    Open { end: usize },
    Write { stream: Index, len: u64 },
    Read { stream: Index, len: usize },
    Finish { stream: Index },
    Reset { stream: Index },
    Stop { stream: Index },
    Steps(u8),
    Conditions { bad: bool, cut: bool },
    NewRoute { lost: bool, max_packet: usize },
    TopUp(u64),
}

fn any_op() -> impl Strategy<Value = Op> {
    let stream = any::<Index>;
    prop_oneof![
        2 => (0usize..2).prop_map(|end| Op::Open { end }),
        6 => (stream(), 0u64..40_000).prop_map(|(stream, len)| Op::Write { stream, len }),
        6 => (stream(), 1usize..30_000).prop_map(|(stream, len)| Op::Read { stream, len }),
        2 => stream().prop_map(|stream| Op::Finish { stream }),
        1 => stream().prop_map(|stream| Op::Reset { stream }),
        1 => stream().prop_map(|stream| Op::Stop { stream }),
        9 => any::<u8>().prop_map(Op::Steps),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(bad, cut)| Op::Conditions { bad, cut }),
        1 => (any::<bool>(), 50usize..3_000)
            .prop_map(|(lost, max_packet)| Op::NewRoute { lost, max_packet }),
        1 => (0u64..50_000).prop_map(Op::TopUp),
    ]
}

/// One direction of a stream as its applications know it.
#[derive(Debug, Default, Clone, Copy)]
struct Told {
    written: u64,
    finished: bool,
    read: u64,
    over: bool,
    /// Given up or not wanted: less may arrive.
    broken: bool,
}

/// Reads all that is there, up to so many bytes, and checks it.
fn read(path: &mut TestPath, end: usize, id: u32, told: &mut Told, most: usize) {
    let mut out = vec![0; most];
    match path.ends[end].read(id, &mut out) {
        Ok(Read::Bytes(n)) => {
            assert!(!told.over && out[..n] == piece(id, told.read, n)[..], "in order, once");
            told.read += n as u64;
            assert!(told.read <= told.written);
        }
        Ok(Read::Finished) => {
            assert!(told.finished && (told.read == told.written || told.broken));
            told.over = true;
        }
        Ok(Read::Reset(_)) => {
            assert!(told.broken);
            told.over = true;
        }
        Ok(Read::Blocked) | Err(NotOpen) => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_happens_the_bytes_arrive_once_and_in_order(
        seed: u64, ops in any_vec(any_op(), 1..120), pool in 0u64..100_000,
    ) {
        let streams = StreamLimits { streams: 20, window: 200_000, pool };
        let config = EndConfig { streams, max_packet: 500, ..EndConfig::default() };
        let mut path = TestPath::new(Conditions::BAD, config, seed);
        path.ends = ends(config);
        let (mut allowance, mut was_cut) = (20_000, false);
        path.ends[0].set_allowance(0, allowance);
        // By writer and stream.
        let mut all: BTreeMap<(usize, u32), Told> = BTreeMap::new();
        for op in ops {
            let choose = |index: Index| {
                let keys: Vec<_> = all.keys().copied().collect();
                (!keys.is_empty()).then(|| keys[index.index(keys.len())])
            };
            match op {
                Op::Open { end } => {
                    if let Ok(id) = path.ends[end].open_stream() {
                        all.insert((0, id), Told::default());
                        all.insert((1, id), Told::default());
                    }
                }
                Op::Write { stream, len } => {
                    let Some(key @ (end, id)) = choose(stream) else { continue };
                    let told = all.get_mut(&key).unwrap();
                    let bytes = piece(id, told.written, len as usize);
                    if let Ok(taken) = path.ends[end].write(id, &bytes) {
                        told.written += taken as u64;
                    }
                }
                Op::Read { stream, len } => {
                    let Some(key @ (end, id)) = choose(stream) else { continue };
                    read(&mut path, 1 - end, id, all.get_mut(&key).unwrap(), len);
                }
                Op::Finish { stream } => {
                    let Some(key @ (end, id)) = choose(stream) else { continue };
                    if path.ends[end].finish(id).is_ok() {
                        all.get_mut(&key).unwrap().finished = true;
                    }
                }
                Op::Reset { stream } => {
                    let Some(key @ (end, id)) = choose(stream) else { continue };
                    if path.ends[end].reset(id, 1).is_ok() {
                        all.get_mut(&key).unwrap().broken = true;
                    }
                }
                Op::Stop { stream } => {
                    let Some(key @ (end, id)) = choose(stream) else { continue };
                    if path.ends[1 - end].stop(id, 1).is_ok() {
                        all.get_mut(&key).unwrap().broken = true;
                    }
                }
                Op::Steps(n) => drop((0..n).take_while(|_| path.step()).count()),
                Op::Conditions { bad, cut } => {
                    path.conditions = if bad { Conditions::BAD } else { Conditions::GOOD };
                    path.cut = cut;
                    was_cut |= cut;
                }
                Op::NewRoute { lost, max_packet } => {
                    if lost { path.lose_all() } else { path.delay_all(30 * MILLISECOND) }
                    let now = path.now;
                    for end in &mut path.ends {
                        end.route_changed(now);
                        end.set_max_packet(max_packet);
                    }
                }
                Op::TopUp(bytes) => {
                    allowance += bytes;
                    let now = path.now;
                    path.ends[0].set_allowance(now, allowance);
                }
            }
            prop_assert!(path.sent(0).0 + path.sent(1).0 <= allowance);
        }
        // From here on nothing is lost: everything is read to its end, and then nothing is left to do.
        (path.cut, path.conditions) = (false, Conditions::GOOD);
        let now = path.now;
        path.ends[0].set_allowance(now, 1 << 40);
        if was_cut {
            // Probes may have used up what the destination was granted.
            path.ends[0].route_changed(now);
        }
        loop {
            let goes_on = path.step();
            for ((end, id), told) in &mut all {
                // The peer may not have heard of the stream before.
                told.finished |= path.ends[*end].finish(*id).is_ok();
                while !told.over {
                    let before = told.read;
                    read(&mut path, 1 - end, *id, told, 100_000);
                    if told.read == before { break }
                }
            }
            if !goes_on && !path.step() { break }
            prop_assert!(path.now < now + 3_600 * SECOND);
        }
        for ((end, id), told) in &all {
            prop_assert!(told.over || told.broken, "{} {} {:?}", end, id, told);
        }
        for end in &mut path.ends {
            prop_assert!(end.is_idle() && !end.is_over());
            prop_assert!(end.streams.all.is_empty(), "{:?}", end.streams.all);
            let stats = end.stats();
            prop_assert_eq!(stats.sent, stats.acknowledged + stats.lost + stats.unasked);
        }
    }

    /// Any frames of an authentic peer are taken or end the flow, and nothing grows beyond bounds.
    #[test]
    fn any_frames(packets in any_vec(any_vec(any::<u8>(), 0..60), 1..20), source: bool) {
        let [a, b] = ends(EndConfig::default());
        let mut end = if source { a } else { b };
        end.set_allowance(0, 1 << 20);
        let (key, direction) =
            if source { (2, Direction::FromDestination) } else { (1, Direction::FromSource) };
        let mut sealer = Sealer::<RustCrypto>::new(&[key; 32], 7, direction);
        let (mut now, mut out) = (0, vec![0; 2_000]);
        for frames in packets {
            // Mostly of kinds that there are.
            let mut frames = frames;
            if let Some(kind) = frames.first_mut().filter(|kind| **kind & 0x40 != 0) {
                *kind = (*kind % 10) | (*kind & 0x80);
            }
            let mut packet = vec![0; frames.len() + OVERHEAD];
            packet[NUMBER_LEN..][..frames.len()].copy_from_slice(&frames);
            sealer.seal(&mut packet).unwrap();
            let taken = end.receive(now, &mut packet);
            prop_assert!(taken.is_ok() || end.is_over());
            if let Ok(id) = end.open_stream() {
                let _ = end.write(id, b"something");
            }
            while end.poll_transmit(now, &mut out).is_some() {}
            now = end.next_timeout().unwrap_or(now + 1).max(now);
            end.handle_timeout(now);
            while end.poll_event().is_some() {}
        }
    }
}
