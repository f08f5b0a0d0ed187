use super::*;
use crate::rng::Rng;
use proptest::prelude::*;

const QUIET: Sense = Sense { carrier: false, rssi_dbm: -120.0, floor_dbm: -120.0 };
const BUSY: Sense = Sense { carrier: true, rssi_dbm: -83.0, floor_dbm: -120.0 };

fn modem() -> Meshcore {
    Meshcore::new(Version(1, 0), Rng::new(5))
}

fn told(modem: &mut Meshcore) -> Vec<Vec<u8>> {
    let mut frames = Frames::new(1000);
    let mut all = Vec::new();
    loop {
        let bytes = modem.take_output(7);
        if bytes.is_empty() {
            return all;
        }
        all.extend(frames.take_all(&bytes));
    }
}

fn ask(modem: &mut Meshcore, command: u8, data: &[u8]) -> Vec<Vec<u8>> {
    let frame = kiss::frame(SETHARDWARE, &[&[command], data].concat());
    modem.feed(&frame, 0, &QUIET);
    told(modem)
}

/// Waits for nothing before it sends.
fn impatient() -> Meshcore {
    let mut modem = modem();
    for setting in [&[TXDELAY, 0][..], &[PERSISTENCE, 255]] {
        modem.feed(&kiss::frame(setting[0], &setting[1..]), 0, &QUIET);
    }
    modem
}

#[test]
fn questions_are_answered_by_the_protocol() {
    let mut modem = modem();
    assert_eq!(ask(&mut modem, 0x17, &[]), [[6, 0x97]]);
    assert_eq!(ask(&mut modem, 0x11, &[]), [[6, 0x91, 1, 0]]);
    assert_eq!(ask(&mut modem, 0x0e, &[]), [[6, 0x8e, 0]]);
    assert_eq!(ask(&mut modem, 0x10, &[]), [[6, 0x90, 0x88, 0xff]], "-120 dBm");
    assert_eq!(ask(&mut modem, 0x0d, &[]), [[6, 0x8d, 0x88]]);
    assert_eq!(ask(&mut modem, 0x12, &[]), [[&[6, 0x92][..], &[0; 12]].concat()]);
    assert_eq!(ask(&mut modem, 0x19, &[0]), [[6, 0x9a, 0]]);
    assert_eq!(ask(&mut modem, 0x1a, &[]), [[6, 0x9a, 0]]);
    assert_eq!(ask(&mut modem, 0x02, &[64])[0].len(), 66);
    // FIPS 180-2, appendix B.1.
    assert_eq!(ask(&mut modem, 0x08, b"abc")[0][..6], [6, 0x88, 0xba, 0x78, 0x16, 0xbf]);
}

#[test]
fn errors_say_what_is_wrong() {
    let mut modem = modem();
    for (command, data, code) in [
        (0x02, &[][..], INVALID_LENGTH),
        (0x02, &[65], INVALID_PARAM),
        (0x09, &[0; 9], INVALID_LENGTH),
        (0x0a, &[], INVALID_LENGTH),
        (0x0f, &[], INVALID_LENGTH),
        (0x04, &[1], NO_CALLBACK),
        (0x00, &[], UNKNOWN_CMD),
        (0x1b, &[], UNKNOWN_CMD),
    ] {
        assert_eq!(ask(&mut modem, command, data), [[6, ERROR, code]], "{command:#x}");
    }
    // Other ports, and the end of KISS, are not for it.
    modem.feed(&[0xc0, 0x16, 0x17, 0xc0, 0xff, 0xc0], 0, &QUIET);
    assert!(told(&mut modem).is_empty());
}

#[test]
fn settings_are_little_endian_and_kept() {
    let mut modem = modem();
    assert_eq!(ask(&mut modem, 0x0b, &[]), [[&[6, 0x8b][..], &[0; 10]].concat()]);
    // 869.525 MHz, 250 kHz, SF 9, 4/6.
    let settings = [0x08, 0xe6, 0xd3, 0x33, 0x90, 0xd0, 0x03, 0, 9, 6];
    assert_eq!(ask(&mut modem, 0x09, &settings), [[6, OK]]);
    assert_eq!(ask(&mut modem, 0x0b, &[]), [[&[6, 0x8b][..], &settings].concat()]);
    let tuning = modem.tuning().expect("it is always on");
    assert_eq!((tuning.frequency_hz, tuning.bandwidth_hz), (869_525_000, 250_000));
    assert_eq!((tuning.spreading, tuning.coding, tuning.preamble), (9, 6, 16));
    let airtime_ms = u32::try_from(tuning.airtime(100) / 1000).expect("less than a minute");
    let expected = [&[6, 0x8f][..], &airtime_ms.to_le_bytes()].concat();
    assert_eq!(ask(&mut modem, 0x0f, &[100]), [expected]);
    assert_eq!(ask(&mut modem, 0x0a, &[14]), [[6, OK]]);
    assert_eq!((modem.power_dbm(), ask(&mut modem, 0x0c, &[])), (14, vec![vec![6, 0x8c, 14]]));
    // It says OK to what its transceiver cannot do, and does not do it.
    assert_eq!(ask(&mut modem, 0x09, &[0; 10]), [[6, OK]]);
    assert_eq!(modem.tuning(), Some(tuning));
}

#[test]
fn what_is_refused_is_an_error() {
    let mut modem = modem();
    modem.refuse(Parameter::Bandwidth, true);
    modem.refuse(Parameter::Power, true);
    assert_eq!(ask(&mut modem, 0x09, &[0; 10]), [[6, ERROR, INVALID_PARAM]]);
    assert_eq!(ask(&mut modem, 0x0a, &[14]), [[6, ERROR, INVALID_PARAM]]);
    modem.refuse(Parameter::Bandwidth, false);
    assert_eq!(ask(&mut modem, 0x09, &[0; 10]), [[6, OK]]);
    modem.refuse(Parameter::Radio, true);
    assert_eq!(ask(&mut modem, 0x09, &[0; 10]), [[6, ERROR, NO_CALLBACK]]);
}

#[test]
fn one_packet_at_a_time() {
    let mut modem = impatient();
    modem.feed(&kiss::frame(DATA, &[0xc0; 255]), 0, &QUIET);
    modem.feed(&kiss::frame(DATA, &[2]), 0, &QUIET);
    assert_eq!(told(&mut modem), [[6, ERROR, TX_BUSY]]);
    assert_eq!(modem.poll(0, &QUIET), Some(vec![0xc0; 255]));
    assert_eq!(modem.poll(10, &QUIET), None);
    modem.sent(20);
    assert_eq!(modem.poll(20, &QUIET), None);
    assert_eq!(told(&mut modem), [[6, TX_DONE, 1]]);
    assert_eq!(modem.sent, 1);
    // Too long, and empty, are dropped without a word.
    modem.feed(&kiss::frame(DATA, &[1; 256]), 30, &QUIET);
    modem.feed(&kiss::frame(DATA, &[]), 30, &QUIET);
    assert_eq!(modem.poll(30, &QUIET), None);
    assert!(told(&mut modem).is_empty());
    modem.feed(&kiss::frame(DATA, &[3]), 40, &QUIET);
    assert_eq!(modem.poll(40, &QUIET), Some(vec![3]));
}

/// By default it keys up for half a second after a draw that succeeds once in four times.
#[test]
fn it_waits_slots_and_keys_up() {
    let mut modem = modem();
    modem.feed(&kiss::frame(DATA, &[1]), 0, &QUIET);
    let (mut now, mut slots) = (0, 0);
    loop {
        if let Some(frame) = modem.poll(now, &QUIET) {
            assert_eq!(frame, [1]);
            break;
        }
        let due = modem.due().expect("it waits");
        slots += u64::from(due - now == 100_000);
        now = due;
    }
    assert_eq!(now, slots * 100_000 + 500_000);
}

/// While somebody is heard it waits, for one and a half times the longest frame at most.
#[test]
fn a_busy_channel_is_waited_for() {
    let mut modem = impatient();
    modem.feed(&kiss::frame(DATA, &[1]), 0, &QUIET);
    let longest = modem.tuning.airtime(255) * 3 / 2;
    assert_eq!(modem.poll(0, &BUSY), None);
    assert_eq!(modem.due(), Some(longest));
    assert_eq!(modem.poll(longest - 1, &BUSY), None);
    assert_eq!(modem.poll(longest, &BUSY), Some(vec![1]));
    let mut other = impatient();
    other.feed(&kiss::frame(FULLDUPLEX, &[1]), 0, &QUIET);
    other.feed(&kiss::frame(DATA, &[1]), 0, &QUIET);
    assert_eq!(other.poll(0, &BUSY), Some(vec![1]), "full duplex does not listen");
}

fn heard(frame: &[u8]) -> Heard {
    Heard { from: 0, frame: Some(frame.to_vec()), rssi_dbm: -83.0, snr_db: -2.5 }
}

#[test]
fn received_frames_come_with_their_power_after_them() {
    let mut modem = modem();
    modem.received(heard(&[9, 0xdb]), 0);
    modem.poll(0, &QUIET);
    assert_eq!(told(&mut modem), [&[0, 9, 0xdb][..], &[6, RX_META, 0xf6, 0xad]]);
    ask(&mut modem, 0x19, &[0]);
    modem.received(heard(&[8]), 0);
    modem.poll(0, &QUIET);
    assert_eq!(told(&mut modem), [[0, 8]]);
    modem.received(Heard { frame: None, ..heard(&[]) }, 0);
    modem.poll(0, &QUIET);
    assert!(told(&mut modem).is_empty());
    let counted = [&[6, 0x92, 2, 0, 0, 0][..], &[0; 4], &[1, 0, 0, 0]].concat();
    assert_eq!(ask(&mut modem, 0x12, &[]), [counted]);
}

/// A host that does not read loses answers, and is told so; the end of sending is never lost.
#[test]
fn a_host_that_does_not_read_is_told_later() {
    let mut modem = impatient();
    for _ in 0..40 {
        modem.feed(&kiss::frame(SETHARDWARE, &[0x02, 64]), 0, &QUIET);
    }
    modem.feed(&kiss::frame(DATA, &[1]), 0, &QUIET);
    assert!(modem.poll(0, &QUIET).is_some());
    modem.sent(10);
    modem.received(heard(&[7]), 10);
    modem.poll(10, &QUIET);
    assert!(modem.port.len() <= PORT_BYTES && modem.queue.len() <= QUEUE);
    let before = told(&mut modem);
    assert!(before.iter().all(|frame| frame[1] == 0x82) && before.len() < 20, "{}", before.len());
    modem.poll(20, &QUIET);
    modem.poll(30, &QUIET);
    let after = told(&mut modem);
    let expected: [&[u8]; 4] =
        [&[6, TX_DONE, 1], &[6, ERROR, TX_BUSY], &[0, 7], &[6, RX_META, 0xf6, 0xad]];
    assert_eq!(after, expected);
}

#[test]
fn a_reboot_says_ok_and_forgets_its_settings() {
    let mut modem = impatient();
    let identity = ask(&mut modem, 0x01, &[]);
    assert_eq!(ask(&mut modem, 0x18, &[]), [[6, OK]]);
    assert!(modem.tuning().is_none() && ask(&mut modem, 0x17, &[]).is_empty());
    modem.poll(BOOT, &QUIET);
    assert_eq!(ask(&mut modem, 0x17, &[]), [[6, 0x97]]);
    assert_eq!(ask(&mut modem, 0x01, &[]), identity);
    assert_eq!(modem.tx_delay, 50);
}

proptest! {
    #[test]
    fn garbage_never_panics(
        parts in prop::collection::vec(
            (prop::collection::vec(prop_oneof![Just(0xc0u8), 0u8..0x20, any::<u8>()], 0..80), 0u64..2_000_000),
            0..40,
        ),
    ) {
        let (mut modem, mut now) = (modem(), 0);
        for (bytes, pause) in parts {
            modem.feed(&bytes, now, &QUIET);
            modem.received(heard(&bytes), now);
            now += pause;
            if let Some(frame) = modem.poll(now, &QUIET) {
                prop_assert!((1..=255).contains(&frame.len()));
                modem.sent(now);
            }
            prop_assert!(modem.port.len() <= PORT_BYTES && modem.queue.len() <= QUEUE);
        }
        // What was begun ends here: it may be an order to begin anew.
        modem.feed(&[0xc0], now, &QUIET);
        now += 10_000_000;
        modem.poll(now, &QUIET);
        told(&mut modem);
        modem.poll(now, &QUIET);
        told(&mut modem);
        modem.feed(&[0xc0, 0xc0, 6, 0x17, 0xc0], now, &QUIET);
        prop_assert!(told(&mut modem).contains(&vec![6, 0x97]));
    }
}
