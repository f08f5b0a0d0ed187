//! The driver of the SX1262 against a model of the chip: what it sets, in which order, and what it does when
//! the chip does something else.

use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::link::channel::lora::{MAX_FRAME, Modem as Lora};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use blvm_mesh_embedded::radio::{MAX_BYTES, Modem, ModemError, Signal, Sx1262};
use blvm_mesh_tests::modems::sx1262::{self, Broken, Dio1, Part, irq};
use proptest::prelude::*;

type Driver = Sx1262<Part, Part, Dio1, Part, Part>;

const CHANNEL: RadioConfig = RadioConfig {
    key: [1; 32],
    is_public: true,
    frequency_hz: 869_525_000,
    power_dbm: 17,
    modem: Lora { spreading: 7, bandwidth: 250_000, coding: 1, preamble: 47, duty_permille: 100 },
    pause_ms: 0,
    listen_dbm: None,
};

/// A chip and its driver, which was not started.
fn new(config: &RadioConfig) -> (sx1262::Sx1262, Driver) {
    let chip = sx1262::Sx1262::new();
    let part = || chip.part();
    let driver = Sx1262::new(config, part(), part(), chip.dio1(), part(), part());
    (chip, driver)
}

fn started(config: &RadioConfig) -> (sx1262::Sx1262, Driver) {
    let (chip, mut driver) = new(config);
    assert_eq!(driver.start(0), Ok(()));
    (chip, driver)
}

fn poll(driver: &mut Driver, now: Micros) -> Result<Option<Signal>, ModemError> {
    driver.poll(now, &mut [0; MAX_BYTES])
}

/// Nothing was done that no chip takes.
fn is_clean(chip: &sx1262::Sx1262) {
    assert_eq!(chip.faults(), [""; 0]);
}

#[test]
fn it_is_set_as_an_rnode_sets_its_chip() {
    let (chip, _driver) = started(&CHANNEL);
    is_clean(&chip);
    assert!(chip.is_listening());
    let set = |code| chip.setting(code).unwrap();
    // 869.525 MHz * 2^25 / 32 MHz; SF7, 250 kHz, 4/5, no low data rate; 47 symbols, explicit header,
    // CRC, IQ as it is; 17 dBm; continuous reception.
    assert_eq!(set(0x86), (869_525_000u64 * (1 << 25) / 32_000_000).to_be_bytes()[4..]);
    assert_eq!(set(0x8b), [7, 5, 1, 0]);
    assert_eq!(set(0x8c)[..3], [0, 47, 0]);
    assert_eq!(set(0x8c)[4..], [1, 0]);
    assert_eq!((set(0x95), set(0x8e)[0]), (vec![4, 7, 0, 1], 17));
    assert_eq!((set(0x97)[0], set(0x9d), set(0x98)), (2, vec![1], vec![0xd7, 0xdb]));
    assert_eq!(set(0x82), [0xff; 3]);
    assert_eq!([0x0740, 0x0741, 0x08ac].map(|at| chip.register(at)), [0x14, 0x24, 0x96]);
    // 500 kHz has another workaround, and power may be negative.
    let modem = Lora { bandwidth: 500_000, spreading: 12, coding: 4, ..CHANNEL.modem };
    let (chip, _driver) = started(&RadioConfig { modem, power_dbm: -9, ..CHANNEL });
    is_clean(&chip);
    assert_eq!(chip.setting(0x8b).unwrap(), [12, 6, 4, 0]);
    assert_eq!((chip.setting(0x8e).unwrap()[0], chip.register(0x0889) & 4), (0xf7, 0));
}

#[test]
fn a_frame_goes_out_whole_and_it_listens_again() {
    let (chip, mut driver) = started(&CHANNEL);
    for len in [1, 100, MAX_BYTES] {
        let frame: Vec<u8> = (0..len).map(|n| n as u8).collect();
        driver.send(SECOND, &frame).unwrap();
        assert_eq!(chip.sent().last(), Some(&frame));
        assert!(!chip.is_listening());
        assert_eq!(poll(&mut driver, SECOND), Ok(None));
        // The chip itself gives up a second after it should be done, the driver another one later.
        let airtime = CHANNEL.modem.airtime(len);
        assert_eq!(driver.poll_timeout(), Some(3 * SECOND + airtime));
        let [_, a, b, c] = (((airtime + SECOND) * 64 / 1_000) as u32).to_be_bytes();
        assert_eq!(chip.setting(0x83).unwrap(), [a, b, c]);
        chip.end(true);
        assert_eq!(poll(&mut driver, SECOND), Ok(Some(Signal::Sent(true))));
        assert!(chip.is_listening());
    }
    is_clean(&chip);
}

#[test]
fn what_is_heard_is_read_with_its_strength() {
    let (chip, mut driver) = started(&CHANNEL);
    let mut received = [0; MAX_BYTES];
    // One after the other, until the buffer has begun anew.
    for n in 1..=9u8 {
        let frame: Vec<u8> = (0..n * 28).map(|byte| byte ^ n).collect();
        chip.hear(&frame, true);
        let heard = driver.poll(0, &mut received);
        assert_eq!(heard, Ok(Some(Signal::Heard { len: frame.len(), snr: 0 })));
        assert_eq!(received[..frame.len()], frame);
        assert_eq!(poll(&mut driver, 0), Ok(None));
    }
    chip.hear(b"damaged", false);
    assert_eq!(poll(&mut driver, 0), Ok(Some(Signal::Damaged)));
    chip.interrupt(irq::PREAMBLE | irq::HEADER_ERROR);
    assert_eq!(poll(&mut driver, 0), Ok(Some(Signal::Damaged)));
    // A header that was none before a frame that is one.
    chip.interrupt(irq::HEADER_ERROR);
    chip.hear(b"whole", true);
    assert_eq!(poll(&mut driver, 0), Ok(Some(Signal::Heard { len: 5, snr: 0 })));
    assert!(chip.is_listening());
    is_clean(&chip);
}

#[test]
fn the_channel_is_taken_from_the_preamble_until_a_frame_could_be_over() {
    let (chip, mut driver) = started(&CHANNEL);
    chip.interrupt(irq::PREAMBLE);
    assert_eq!(poll(&mut driver, 0), Ok(Some(Signal::Carrier(true))));
    let over = driver.poll_timeout().unwrap();
    assert!((30 * MILLISECOND..50 * MILLISECOND).contains(&over), "{over}");
    assert_eq!(poll(&mut driver, over - 1), Ok(None));
    chip.interrupt(irq::HEADER_VALID);
    assert_eq!(poll(&mut driver, over - 1), Ok(None), "it is taken already");
    let over = over - 1 + CHANNEL.modem.airtime_of_frame(MAX_FRAME);
    assert_eq!(poll(&mut driver, over - 1), Ok(None));
    assert_eq!(poll(&mut driver, over), Ok(Some(Signal::Carrier(false))));
    is_clean(&chip);
}

#[test]
fn a_chip_that_cannot_be_used_is_told_apart_and_comes_back() {
    for (broken, error) in [
        (Broken::Busy, ModemError::Busy),
        (Broken::Absent(0), ModemError::NoAnswer),
        (Broken::Absent(0xff), ModemError::NoAnswer),
        (Broken::Bus, ModemError::Bus),
        (Broken::Errors(1 << 6), ModemError::Device(1 << 6)),
    ] {
        let (chip, mut driver) = new(&CHANNEL);
        chip.set_broken(Some(broken));
        assert_eq!(driver.start(0), Err(error));
        assert_eq!((poll(&mut driver, 0), driver.poll_timeout()), (Ok(None), None));
        chip.set_broken(None);
        assert_eq!(driver.start(0), Ok(()));
        assert!(chip.is_listening());
        is_clean(&chip);
    }
}

#[test]
fn a_chip_that_fails_later_is_noticed() {
    // While it sends, and it says nothing.
    let (chip, mut driver) = started(&CHANNEL);
    chip.set_broken(Some(Broken::Silent));
    driver.send(0, b"frame").unwrap();
    chip.end(true);
    let until = driver.poll_timeout().unwrap();
    assert_eq!(poll(&mut driver, until - 1), Ok(None));
    assert_eq!(poll(&mut driver, until), Err(ModemError::Stuck));
    // Its own time is over: it is listened again.
    let (chip, mut driver) = started(&CHANNEL);
    driver.send(0, b"frame").unwrap();
    chip.end(false);
    assert_eq!(poll(&mut driver, 0), Ok(Some(Signal::Sent(false))));
    assert!(chip.is_listening());
    // It begins anew while it listens, which nothing tells.
    chip.lose_power();
    let look = driver.poll_timeout().unwrap();
    assert!(look <= 10 * SECOND);
    assert_eq!(poll(&mut driver, look - 1), Ok(None));
    assert_eq!(poll(&mut driver, look), Err(ModemError::Restarted));
    assert_eq!(driver.start(look), Ok(()));
    // The same before it would send, when it would do so anywhere, and while it sends.
    chip.lose_power();
    assert_eq!(driver.send(look, b"frame"), Err(ModemError::Restarted));
    assert_eq!(chip.sent().len(), 1, "the one before");
    assert_eq!(driver.start(look), Ok(()));
    driver.send(look, b"frame").unwrap();
    chip.lose_power();
    let until = driver.poll_timeout().unwrap();
    assert_eq!(poll(&mut driver, until), Err(ModemError::Stuck));
    assert_eq!(driver.start(until), Ok(()));
    is_clean(&chip);
    for broken in [Broken::Busy, Broken::Bus, Broken::Absent(0xff)] {
        let (chip, mut driver) = started(&CHANNEL);
        chip.set_broken(Some(broken));
        assert!(driver.send(0, b"frame").is_err(), "{broken:?}");
        assert_eq!(poll(&mut driver, 0), Ok(None), "nothing is done with it");
    }
}

#[test]
fn the_law_has_it_listen_before_a_frame() {
    let (chip, mut driver) = started(&RadioConfig { listen_dbm: Some(-80), ..CHANNEL });
    for (noise, free) in [(-120.0, true), (-80.5, true), (-79.5, false), (-20.0, false)] {
        chip.set_noise(noise);
        assert_eq!(driver.is_free(), Ok(free), "{noise}");
    }
    is_clean(&chip);
    let (chip, mut driver) = started(&CHANNEL);
    chip.set_noise(-20.0);
    assert_eq!(driver.is_free(), Ok(true));
}

/// What the tests above rely on: the model finds what is wrong.
#[test]
fn the_model_takes_no_wrong_order() {
    use embedded_hal::delay::DelayNs;
    use embedded_hal::spi::SpiDevice;
    let fault = |commands: &[&[u8]]| {
        let (chip, _driver) = started(&CHANNEL);
        let mut part = chip.part();
        for command in commands {
            part.delay_ms(20);
            part.write(command).unwrap();
        }
        chip.faults().join("; ")
    };
    assert_eq!(fault(&[&[0x80, 0], &[0x80, 1]]), "");
    assert!(fault(&[&[0x86, 0, 0, 0, 0]]).contains("a setting while receiving"));
    assert!(fault(&[&[0x0e, 0, 1]]).contains("WriteBuffer while"));
    assert!(fault(&[&[0x80, 1], &[0x89, 0x7f]]).contains("Calibrate outside of STDBY_RC"));
    assert!(fault(&[&[0x80, 1], &[0x8c, 0, 8, 0, 9, 1, 0], &[0x83, 0, 0, 0]]).contains("15.4"));
    assert!(fault(&[&[0x80, 1], &[0x0d, 0x08, 0x89, 0], &[0x82, 0, 0, 0]]).contains("15.1"));
    assert!(fault(&[&[0x80, 1], &[0x0d, 0x08, 0xd8, 0], &[0x83, 0, 0, 0]]).contains("15.2"));
    assert!(fault(&[&[0x80, 1], &[0x83, 0, 0, 0]]).contains("a frame of another length"));
    assert!(
        fault(&[&[0x80, 1], &[0x0d, 0x07, 0x40, 0x34, 0x44], &[0x82, 0, 0, 0]]).contains("sync")
    );
    assert!(fault(&[&[0x42]]).contains("no command"));
    assert!(fault(&[&[0x82, 0]]).contains("with 1 bytes"));
    let (chip, _driver) = started(&CHANNEL);
    let mut part = chip.part();
    part.delay_ms(20);
    part.write(&[0x80, 0]).unwrap();
    part.write(&[0x80, 0]).unwrap();
    assert_eq!(chip.faults(), ["a command while the chip is busy"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a chip says, nothing panics and no frame is longer than one can be.
    #[test]
    fn any_answers(len: u8, start: u8, flags: u16, frames in 1usize..40) {
        let (chip, mut driver) = started(&CHANNEL);
        chip.set_broken(Some(Broken::Length(len, start)));
        chip.interrupt(flags | irq::RX_DONE);
        if let Ok(Some(Signal::Heard { len: heard, .. })) = poll(&mut driver, 0) {
            prop_assert_eq!(heard, usize::from(len));
        }
        chip.set_broken(Some(Broken::Garbage));
        for now in 0..frames as u64 {
            match poll(&mut driver, now * SECOND) {
                Ok(Some(Signal::Heard { len, .. })) => prop_assert!(len <= MAX_BYTES),
                Ok(_) => _ = driver.send(now * SECOND, &[7; MAX_BYTES]),
                Err(_) => _ = driver.start(now * SECOND),
            }
        }
    }
}
