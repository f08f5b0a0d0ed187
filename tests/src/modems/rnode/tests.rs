use super::*;
use crate::modems::kiss::Frames;
use crate::rng::Rng;
use proptest::prelude::*;

const QUIET: Sense = Sense { carrier: false, rssi_dbm: -114.0, floor_dbm: -114.0 };
/// What Reticulum sends first: one delimiter between commands.
const DETECTION: &[u8] = &[0xc0, 8, 0x73, 0xc0, 0x50, 0, 0xc0, 0x48, 0, 0xc0, 0x49, 0, 0xc0];
/// 868 MHz (0x33bca100), 125 kHz (0x0001e848), 14 dBm, SF 8, 4/5, on.
const SETTINGS: &[u8] = &[
    0xc0, 1, 0x33, 0xbc, 0xa1, 0, 0xc0, 0xc0, 2, 0, 1, 0xe8, 0x48, 0xc0, 0xc0, 3, 14, 0xc0, 0xc0,
    4, 8, 0xc0, 0xc0, 5, 5, 0xc0, 0xc0, 6, 1, 0xc0,
];

fn rnode() -> Rnode {
    Rnode::new(Kind::default(), Rng::new(3))
}

fn told(rnode: &mut Rnode) -> Vec<Vec<u8>> {
    Frames::new(600).take_all(&rnode.take_output(usize::MAX))
}

fn ask(rnode: &mut Rnode, bytes: &[u8]) -> Vec<Vec<u8>> {
    rnode.feed(bytes, 0, &QUIET);
    told(rnode)
}

/// A modem that is on, with nothing left to say.
fn on(kind: Kind) -> Rnode {
    let mut rnode = Rnode::new(kind, Rng::new(3));
    ask(&mut rnode, SETTINGS);
    assert!(rnode.tuning().is_some());
    rnode
}

fn packet(rnode: &mut Rnode, data: &[u8], now: Micros) {
    let mut bytes = kiss::frame(DATA, data);
    // The type byte is not escaped by hosts either.
    bytes[1] = DATA;
    rnode.feed(&bytes, now, &QUIET);
}

/// All frames that it sends on a free channel, with the time of each.
fn all_sent(rnode: &mut Rnode, from: Micros, until: Micros) -> Vec<(Micros, Vec<u8>)> {
    let (mut now, mut frames) = (from, Vec::new());
    loop {
        while let Some(frame) = rnode.poll(now, &QUIET) {
            let airtime = rnode.tuning().expect("it is on").airtime(frame.len());
            frames.push((now, frame));
            now += airtime;
            rnode.sent(now);
        }
        let due = rnode.due().expect("it counts its load");
        assert!(due > now, "due at {due}, it is {now}");
        if due > until {
            return frames;
        }
        now = due;
    }
}

#[test]
fn detection_is_answered_as_reticulum_expects() {
    let answers = ask(&mut rnode(), DETECTION);
    assert_eq!(answers, [vec![8, 0x46], vec![0x50, 1, 86], vec![0x48, 0x80], vec![0x49, 0x81]]);
}

#[test]
fn settings_are_echoed_and_then_it_is_on() {
    let mut rnode = rnode();
    let answers = ask(&mut rnode, SETTINGS);
    let phy: &[u8] = &[0x26, 8, 0, 1, 0xe8, 0, 18, 0, 37, 0, 24, 0, 48];
    let expected: [&[u8]; 10] = [
        &[1, 0x33, 0xbc, 0xa1, 0],
        &[2, 0, 1, 0xe8, 0x48],
        &[3, 14],
        &[4, 8],
        &[5, 5],
        phy,
        phy,
        phy,
        &[6, 1],
        &[6, 1],
    ];
    assert_eq!(answers, expected);
    let tuning = rnode.tuning().expect("it is on");
    assert_eq!((tuning.frequency_hz, tuning.bandwidth_hz), (868_000_000, 125_000));
    assert_eq!((tuning.spreading, tuning.coding, tuning.preamble), (8, 5, 18));
    assert_eq!(rnode.power_dbm(), 14);
    assert_eq!(ask(&mut rnode, &[0xc0, 6, 0, 0xc0]), [[6, 0]]);
    assert!(rnode.tuning().is_none());
}

#[test]
fn it_stays_off_without_all_settings() {
    let mut rnode = rnode();
    assert_eq!(ask(&mut rnode, &[0xc0, 7, 0, 0xc0, 6, 1, 0xc0]), [[7, 1], [6, 0], [6, 0]]);
    assert!(rnode.tuning().is_none());
}

#[test]
fn values_are_bounded_by_the_transceiver() {
    let mut one = on(Kind { chip: Chip::Sx1276, ..Kind::default() });
    assert_eq!(ask(&mut one, &[0xc0, 3, 22, 0xc0]), [[3, 17]]);
    let frequency = 869_525_000u32.to_be_bytes();
    let asked = [&[0xc0, 1], &frequency[..], &[0xc0]].concat();
    let answer = ask(&mut one, &asked);
    let got = u32::from_be_bytes(answer[0][1..].try_into().expect("four bytes"));
    assert!(got != 869_525_000 && got.abs_diff(869_525_000) < 62, "{got}");
    let mut other = on(Kind::default());
    assert_eq!(ask(&mut other, &[0xc0, 3, 30, 0xc0, 4, 13, 0xc0])[0], [3, 22]);
    assert_eq!(ask(&mut other, &asked), [[&[1], &frequency[..]].concat()]);
    // 100 kHz become 125 kHz.
    assert_eq!(ask(&mut other, &[0xc0, 2, 0, 1, 0x86, 0xa0, 0xc0])[1], [2, 0, 1, 0xe8, 0x48]);
}

#[test]
fn what_is_refused_keeps_its_value() {
    let mut rnode = on(Kind::default());
    for parameter in [Parameter::Frequency, Parameter::Power] {
        rnode.refuse(parameter, true);
    }
    let answers = ask(&mut rnode, &[0xc0, 1, 1, 2, 3, 4, 0xc0, 3, 5, 0xc0]);
    assert_eq!(answers, [&[1, 0x33, 0xbc, 0xa1, 0][..], &[3, 14]]);
    rnode.refuse(Parameter::Power, false);
    assert_eq!(ask(&mut rnode, &[0xc0, 3, 5, 0xc0]), [[3, 5]]);
    ask(&mut rnode, &[0xc0, 6, 0, 0xc0]);
    rnode.refuse(Parameter::Radio, true);
    assert_eq!(ask(&mut rnode, &[0xc0, 6, 1, 0xc0]), [[ERROR, ERROR_INITRADIO], [6, 0]]);
}

#[test]
fn airtime_limits_are_echoed_and_kept() {
    let mut rnode = on(Kind::default());
    let answers = ask(&mut rnode, &[0xc0, 0x0b, 0, 100, 0xc0, 0x0c, 0x27, 0x10, 0xc0]);
    assert_eq!(answers, [[0x0b, 0, 100], [0x0c, 0, 0]], "1 %, and 100 % is no limit");
    // 150 ms of 15 s are 1 %: after the first packet of 200 bytes it waits until two bins are over.
    packet(&mut rnode, &[1; 200], 0);
    let first = all_sent(&mut rnode, 0, 10_000_000);
    packet(&mut rnode, &[2; 200], 10_000_000);
    let second = all_sent(&mut rnode, 10_000_000, 30_000_000);
    assert_eq!((first.len(), second.len()), (1, 1));
    assert!(second[0].0 >= 15_000_000, "sent at {}", second[0].0);
}

#[test]
fn a_packet_has_a_header_and_is_split_at_254_bytes() {
    for (bytes, expected) in
        [(1, vec![2]), (254, vec![255]), (255, vec![255, 2]), (507, vec![255, 254])]
    {
        let mut rnode = on(Kind::default());
        let data: Vec<u8> = (0..bytes).map(|n| n as u8).collect();
        packet(&mut rnode, &data, 0);
        let frames = all_sent(&mut rnode, 0, 5_000_000);
        let sizes: Vec<_> = frames.iter().map(|(_, frame)| frame.len()).collect();
        assert_eq!(sizes, expected);
        let split = u8::from(bytes > 254);
        assert!(
            frames.iter().all(|(_, frame)| frame[0] & 0x0f == split && frame[0] == frames[0].1[0])
        );
        let joined: Vec<u8> = frames.iter().flat_map(|(_, frame)| frame[1..].to_vec()).collect();
        assert_eq!(joined, data);
        // It waits 48 ms, then up to 14 slots of 24 ms; halves follow each other at once.
        assert!((48_000..=48_000 + 14 * 24_000).contains(&frames[0].0), "sent at {}", frames[0].0);
    }
}

/// As the firmware does: of 508 bytes a third frame with nothing but the header is sent.
#[test]
fn the_largest_packet_has_an_empty_frame_after_it() {
    let mut rnode = on(Kind::default());
    packet(&mut rnode, &[1; 508], 0);
    packet(&mut rnode, &[2; 509], 0);
    let frames = all_sent(&mut rnode, 0, 5_000_000);
    let sizes: Vec<_> = frames.iter().map(|(_, frame)| frame.len()).collect();
    assert_eq!(sizes, [255, 255, 1]);
}

#[test]
fn a_received_packet_comes_with_its_power() {
    let mut rnode = on(Kind::default());
    let heard = |frame: &[u8]| Heard {
        from: 1,
        frame: Some(frame.to_vec()),
        rssi_dbm: -83.0,
        snr_db: -2.5,
    };
    rnode.received(heard(&[0x30, 0xc0, 7]), 0);
    assert_eq!(told(&mut rnode), [&[0x23, 74][..], &[0x24, 0xf6], &[0, 0xc0, 7]]);
    // Halves of one sequence number are joined, another one begins anew.
    for frame in [&[0x51, 1][..], &[0x61, 2], &[0x61, 3]] {
        rnode.received(heard(frame), 0);
    }
    assert_eq!(told(&mut rnode)[2], [0, 2, 3]);
    for frame in [&[0x51, 1][..], &[0x60, 2]] {
        rnode.received(heard(frame), 0);
    }
    assert_eq!(told(&mut rnode)[2], [0, 2]);
    rnode.received(Heard { frame: None, ..heard(&[]) }, 0);
    assert!(told(&mut rnode).is_empty(), "a wrong CRC is not told");
}

#[test]
fn it_waits_for_a_free_channel_and_counts_only_free_time() {
    let mut rnode = on(Kind::default());
    packet(&mut rnode, &[1], 0);
    let busy = Sense { carrier: true, ..QUIET };
    assert_eq!(rnode.poll(0, &busy), None);
    assert_eq!(rnode.poll(900_000, &QUIET), None);
    let due = rnode.due().expect("it waits");
    assert!(due >= 948_000);
    assert_eq!(rnode.poll(due - 1, &busy), None);
    // 11 dB above noise are waited for too.
    let noisy = Sense { rssi_dbm: -102.0, ..QUIET };
    assert_eq!(rnode.poll(due, &noisy), None);
    assert_eq!(rnode.poll(980_000, &QUIET), None);
    let frames = all_sent(&mut rnode, 980_000, 2_000_000);
    assert_eq!(frames.len(), 1);
    assert!(frames[0].0 >= 980_000 + 48_000);
}

#[test]
fn ready_says_whether_there_is_room() {
    for reports_queue in [false, true] {
        let mut rnode = on(Kind { reports_queue, ..Kind::default() });
        assert_eq!(ask(&mut rnode, &[0xc0, 0x0f, 0, 0xc0]), [[0x0f, 1]]);
        (0..QUEUE_LENGTH).for_each(|_| packet(&mut rnode, &[1], 0));
        assert_eq!(ask(&mut rnode, &[0xc0, 0x0f, 0, 0xc0]), [[0x0f, 0]]);
        packet(&mut rnode, &[2], 0);
        let expected: &[[u8; 2]] = if reports_queue { &[[ERROR, ERROR_QUEUE_FULL]] } else { &[] };
        assert_eq!(told(&mut rnode), expected);
        let frames = all_sent(&mut rnode, 0, 30_000_000);
        assert_eq!(frames.len(), QUEUE_LENGTH);
        let ready = told(&mut rnode).iter().filter(|frame| frame[..] == [READY, 1]).count();
        assert_eq!(ready, if reports_queue { QUEUE_LENGTH } else { 0 });
        assert_eq!(ask(&mut rnode, &[0xc0, 0x0f, 0, 0xc0]), [[0x0f, 1]]);
    }
}

/// At higher rates each packet waits for the channel by itself.
#[test]
fn fast_settings_send_one_packet_at_a_time() {
    let mut rnode = on(Kind::default());
    // 250 kHz and SF 7: 10.9 kbit/s at 4/5 is slow; 500 kHz is 21.9 kbit/s.
    ask(&mut rnode, &[0xc0, 2, 0, 7, 0xa1, 0x20, 0xc0, 4, 7, 0xc0]);
    (0..3).for_each(|_| packet(&mut rnode, &[1], 0));
    let frames = all_sent(&mut rnode, 0, 5_000_000);
    assert_eq!(frames.len(), 3);
    assert!(frames.windows(2).all(|two| two[1].0 - two[0].0 > 48_000), "{frames:?}");
    assert!(ask(&mut rnode, &[0xc0, 0x0f, 0, 0xc0]).ends_with(&[vec![0x0f, 1]]));
}

#[test]
fn load_is_told_every_second() {
    let mut rnode = on(Kind::default());
    all_sent(&mut rnode, 0, 3_500_000);
    let told = told(&mut rnode);
    let quiet: &[u8] = &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 43, 43, 0xff];
    assert_eq!(told, [quiet; 3]);
}

#[test]
fn a_reset_forgets_all_and_is_told_when_it_is_over() {
    let mut rnode = on(Kind::default());
    packet(&mut rnode, &[1], 0);
    rnode.feed(&[0xc0, 0x55, 0xf8, 0xc0, 8, 0x73, 0xc0], 5, &QUIET);
    assert!(rnode.tuning().is_none());
    assert_eq!(rnode.due(), Some(5 + BOOT));
    assert!(told(&mut rnode).is_empty(), "only text");
    assert_eq!(rnode.poll(5 + BOOT, &QUIET), None);
    assert_eq!(told(&mut rnode), [[0x55, 0xf8]]);
    assert_eq!(ask(&mut rnode, &[0xc0, 6, 1, 0xc0]), [[6, 0], [6, 0]]);
}

/// After a packet's last delimiter the next frame needs a first one of its own.
#[test]
fn a_shared_delimiter_after_a_packet_loses_the_next_frame() {
    let mut rnode = on(Kind::default());
    assert_eq!(ask(&mut rnode, &[0xc0, 0, 7, 0xc0, 8, 0x73, 0xc0]).len(), 0);
    assert_eq!(ask(&mut rnode, &[0xc0, 0, 7, 0xc0, 0xc0, 8, 0x73, 0xc0]).len(), 1);
}

proptest! {
    /// Whatever a host sends and others put on the air, it goes on answering, and keeps within its
    /// memory.
    #[test]
    fn garbage_never_panics(
        parts in prop::collection::vec(
            (prop::collection::vec(prop_oneof![Just(0xc0u8), 0u8..0x10, any::<u8>()], 0..80), 0u64..2_000_000),
            0..40,
        ),
        online in any::<bool>(),
    ) {
        let mut rnode = if online { on(Kind::default()) } else { rnode() };
        let mut now = 0;
        for (bytes, pause) in parts {
            rnode.feed(&bytes, now, &QUIET);
            rnode.received(Heard { from: 1, frame: Some(bytes), rssi_dbm: -120.0, snr_db: -7.0 }, now);
            now += pause;
            if let Some(frame) = rnode.poll(now, &QUIET) {
                prop_assert!((1..=255).contains(&frame.len()));
                now += 1000;
                rnode.sent(now);
            }
            prop_assert!(rnode.output.len() <= OUTPUT_BYTES && rnode.queue.len() <= QUEUE_LENGTH);
        }
        // What was begun ends here: it may be an order to begin anew.
        rnode.feed(&[0xc0], now, &QUIET);
        now += 10_000_000;
        rnode.poll(now, &QUIET);
        rnode.take_output(usize::MAX);
        rnode.feed(&[0xc0, 0xc0, 8, 0x73, 0xc0], now, &QUIET);
        prop_assert!(told(&mut rnode).contains(&vec![8, 0x46]));
    }

    /// What one sends another gets, whatever is in it.
    #[test]
    fn packets_arrive_as_they_were(data in prop::collection::vec(any::<u8>(), 1..=508)) {
        let (mut one, mut other) = (on(Kind::default()), on(Kind::default()));
        packet(&mut one, &data, 0);
        for (now, frame) in all_sent(&mut one, 0, 10_000_000) {
            other.received(Heard { from: 0, frame: Some(frame), rssi_dbm: -83.0, snr_db: 12.0 }, now);
        }
        let told = told(&mut other);
        let packets: Vec<_> = told.iter().filter(|frame| frame[0] == DATA).collect();
        prop_assert_eq!(packets, [&[&[DATA][..], &data].concat()]);
    }
}
