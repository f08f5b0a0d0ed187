//! Both dialects against modems that are right, and wrong.

use super::fake::{FakeModem, Wrong};
use super::*;
use blvm_mesh_core::link::channel::lora::MAX_FRAME;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use proptest::collection::vec as any_vec;
use proptest::prelude::*;

const LIMITS: Limits = Limits { duty_permille: 100, listen_dbm: None };

fn parameters() -> Parameters {
    Region::Eu868.plan().usual
}

/// A modem, this side of its line, and the time.
struct Bed {
    modem: Modem,
    fake: FakeModem,
    now: Micros,
    events: Vec<Event>,
}

impl Bed {
    fn new(dialect: Dialect, wrong: Wrong) -> Self {
        Self::with(dialect, wrong, parameters(), LIMITS)
    }

    fn with(dialect: Dialect, wrong: Wrong, parameters: Parameters, limits: Limits) -> Self {
        let now = 7 * SECOND;
        let modem = Modem::new(dialect, parameters, limits, now);
        Self { modem, fake: FakeModem::new(dialect, wrong), now, events: Vec::new() }
    }

    /// Carries bytes to and fro until there are none.
    fn exchange(&mut self) -> Result<(), Fault> {
        loop {
            while let Some(event) = self.modem.poll_event() {
                self.events.push(event);
            }
            let said = std::mem::take(self.modem.output());
            self.fake.take(&said);
            let answer = std::mem::take(&mut self.fake.out);
            if answer.is_empty() {
                return Ok(());
            }
            self.modem.receive(self.now, &answer)?;
        }
    }

    /// Lets time pass.
    fn wait(&mut self, time: Micros) -> Result<(), Fault> {
        let end = self.now + time;
        loop {
            self.exchange()?;
            let at = self.modem.poll_timeout().max(self.now + MILLISECOND);
            if at > end {
                self.now = end;
                return Ok(());
            }
            self.now = at;
            self.modem.handle_timeout(self.now)?;
        }
    }

    fn ready(dialect: Dialect) -> Self {
        let mut bed = Self::new(dialect, Wrong::default());
        bed.exchange().unwrap();
        assert!(matches!(bed.events[..], [Event::Found(_), Event::Ready(_)]), "{:?}", bed.events);
        bed.events.clear();
        bed
    }

    /// Sends a frame as soon as it may.
    fn send(&mut self, frame: &[u8]) {
        while !self.modem.may_send(self.now) {
            self.wait(10 * MILLISECOND).unwrap();
        }
        self.modem.send(self.now, frame);
        self.exchange().unwrap();
    }
}

#[test]
fn a_modem_is_found_and_set_and_tells_what_it_took() {
    for (dialect, board, power_dbm) in
        [(Dialect::Rnode, "RAK4631", 17), (Dialect::Meshcore, "RAK 4631", 22)]
    {
        for noise in [false, true] {
            let wanted = Parameters { power_dbm: 22, ..parameters() };
            let wrong = Wrong { noise, ..Wrong::default() };
            let mut bed = Bed::with(dialect, wrong, wanted, LIMITS);
            bed.exchange().unwrap();
            let [Event::Found(identity), Event::Ready(got)] = &bed.events[..] else {
                panic!("{:?}", bed.events);
            };
            assert_eq!((identity.dialect, identity.board.as_deref()), (dialect, Some(board)));
            // A weaker chip takes less power.
            assert_eq!(*got, Parameters { power_dbm, ..wanted });
            let (frequency, bandwidth, _, spreading, coding, _) = bed.fake.set;
            assert_eq!((frequency, bandwidth), (wanted.frequency_hz, wanted.bandwidth_hz));
            assert_eq!((spreading, coding), (wanted.spreading, wanted.coding));
        }
    }
}

#[test]
fn nobody_there_is_told_after_some_tries() {
    for dialect in Dialect::ALL {
        let mut modem = Modem::new(dialect, parameters(), LIMITS, 0);
        let mut now = 0;
        let fault = loop {
            assert!(now < 20 * SECOND);
            now = modem.poll_timeout();
            if let Err(fault) = modem.handle_timeout(now) {
                break fault;
            }
            assert!(!modem.may_send(now));
        };
        assert_eq!(fault, Fault::NoAnswer(dialect));
        assert!(now > 5 * SECOND, "a board may take that long to start");
        assert!(fault.to_string().contains("blvm-mesh radio check"));
    }
}

#[test]
fn what_is_wrong_with_a_modem_is_named() {
    let fault = |dialect, wrong| Bed::new(dialect, wrong).wait(30 * SECOND).unwrap_err();
    let old = fault(Dialect::Rnode, Wrong { old: true, ..Wrong::default() }).to_string();
    assert!(old.contains("1.51") && old.contains("1.52") && old.contains("rnodeconf"), "{old}");
    for dialect in Dialect::ALL {
        let refused = fault(dialect, Wrong { one_bandwidth: true, ..Wrong::default() });
        assert!(matches!(&refused, Fault::Refused { what, .. } if what.contains("bandwidth")));
    }
    let off = fault(Dialect::Rnode, Wrong { no_radio: true, ..Wrong::default() });
    assert_eq!(off, Fault::NotStarted);
}

#[test]
fn frames_go_out_and_in_with_one_byte_before_them_on_the_air() {
    for dialect in Dialect::ALL {
        let mut bed = Bed::ready(dialect);
        let frame: Vec<u8> = (0..MAX_FRAME).map(|byte| byte as u8).collect();
        bed.send(&frame);
        let on_air = bed.fake.to_air.pop().unwrap();
        assert_eq!((on_air.len(), on_air[0] & 0x0f, &on_air[1..]), (255, 0, &frame[..]));
        assert!(!bed.modem.may_send(bed.now), "one at a time");
        bed.wait(250 * MILLISECOND).unwrap();
        assert!(!bed.events.iter().any(|event| matches!(event, Event::Sent(_))));
        bed.fake.sent();
        bed.exchange().unwrap();
        assert!(bed.events.contains(&Event::Sent(true)), "{dialect}: {:?}", bed.events);

        // What one modem sends is heard by the other kind.
        bed.events.clear();
        bed.fake.hear(&on_air);
        bed.exchange().unwrap();
        let rssi_dbm = Some(-80);
        let heard = Event::Heard(Heard { frame, rssi_dbm, snr: 20 });
        assert!(bed.events.contains(&heard), "{:?}", bed.events);
        bed.events.clear();
        // The first part of a frame in two parts, which nobody here sends.
        if dialect == Dialect::Meshcore {
            bed.fake.hear(&[0xa1, 1, 2, 3]);
            bed.exchange().unwrap();
            assert_eq!((bed.events.len(), bed.modem.damaged()), (0, 1));
        }
    }
}

#[test]
fn a_frame_of_which_nothing_is_said_counts_as_over_after_a_while() {
    for (dialect, done) in [(Dialect::Rnode, true), (Dialect::Meshcore, false)] {
        let mut bed = Bed::ready(dialect);
        bed.send(&[1; 100]);
        bed.wait(20 * SECOND).unwrap();
        // An old RNode says nothing at all.
        assert!(bed.events.contains(&Event::Sent(done)), "{:?}", bed.events);
        assert!(bed.modem.may_send(bed.now) || dialect == Dialect::Meshcore);
    }
}

#[test]
fn a_meshcore_modem_is_asked_whether_the_channel_is_free() {
    let mut bed = Bed::ready(Dialect::Meshcore);
    bed.fake.busy = true;
    assert!(!bed.modem.may_send(bed.now));
    bed.wait(100 * MILLISECOND).unwrap();
    assert_eq!(bed.events, [Event::Carrier(true)]);
    assert!(!bed.modem.may_send(bed.now));
    bed.fake.busy = false;
    bed.wait(100 * MILLISECOND).unwrap();
    assert_eq!(bed.events, [Event::Carrier(true), Event::Carrier(false)]);
    bed.send(&[1]);
    // Noise that never ends silences nobody for ever.
    bed.fake.sent();
    bed.fake.busy = true;
    bed.exchange().unwrap();
    bed.events.clear();
    bed.modem.may_send(bed.now);
    bed.wait(5 * SECOND).unwrap();
    assert!(bed.events.contains(&Event::Carrier(false)), "{:?}", bed.events);
}

#[test]
fn where_the_law_wants_it_strength_counts_as_well() {
    let limits = Limits { listen_dbm: Some(-65), ..LIMITS };
    let usual = Region::Kr920.plan().usual;
    let mut bed = Bed::with(Dialect::Meshcore, Wrong::default(), usual, limits);
    bed.exchange().unwrap();
    bed.events.clear();
    bed.send(&[1]);
    bed.fake.sent();
    // -60 dBm, and never less.
    bed.fake.busy = true;
    bed.exchange().unwrap();
    bed.modem.may_send(bed.now);
    bed.wait(60 * SECOND).unwrap();
    assert!(!bed.events.contains(&Event::Carrier(false)), "{:?}", bed.events);
}

#[test]
fn a_modem_that_restarts_or_falls_silent_is_noticed() {
    for dialect in Dialect::ALL {
        let mut bed = Bed::ready(dialect);
        bed.wait(60 * SECOND).unwrap();
        bed.fake.restart();
        assert_eq!(bed.wait(60 * SECOND), Err(Fault::Restarted), "{dialect}");

        let mut bed = Bed::ready(dialect);
        let mut now = bed.now;
        let fault = loop {
            assert!(now < bed.now + 60 * SECOND);
            now = bed.modem.poll_timeout().max(now + 1);
            if let Err(fault) = bed.modem.handle_timeout(now) {
                break fault;
            }
        };
        assert_eq!(fault, Fault::Silent);
    }
}

#[test]
fn errors_of_an_rnode_end_it_or_are_told() {
    let mut bed = Bed::ready(Dialect::Rnode);
    bed.send(&[1; 10]);
    bed.modem.receive(bed.now, b"\xc0\x90\x04\xc0").unwrap();
    bed.exchange().unwrap();
    assert!(matches!(bed.events[..], [Event::Warning(_), Event::Sent(false)]), "{:?}", bed.events);
    let fault = bed.modem.receive(bed.now, b"\xc0\x90\x02\xc0").unwrap_err();
    assert!(matches!(fault, Fault::Chip(_)), "{fault}");
}

#[test]
fn a_meshcore_modem_that_is_too_busy_is_asked_again() {
    let mut modem = Modem::new(Dialect::Meshcore, parameters(), LIMITS, 0);
    modem.output().clear();
    for now in (0..10).map(|n| n * 50 * MILLISECOND) {
        modem.receive(now, b"\xc0\x06\xf1\x07\xc0").unwrap();
        assert!(modem.output().is_empty());
        modem.handle_timeout(now + 50 * MILLISECOND).unwrap();
        assert_eq!(std::mem::take(modem.output()), [0xc0, 6, 0x17, 0xc0]);
    }
    modem.receive(SECOND, b"\xc0\x06\x97\xc0").unwrap();
    modem.receive(SECOND, b"\xc0\x06\xf1\x02\xc0").unwrap_err();
}

proptest! {
    #[test]
    fn any_bytes(
        rnode: bool,
        online: bool,
        bytes in any_vec(prop_oneof![Just(0xc0), 0u8..16, any::<u8>()], 0..500),
        steps in any_vec(0u64..3 * SECOND, 0..20),
    ) {
        let dialect = if rnode { Dialect::Rnode } else { Dialect::Meshcore };
        let mut bed = match online {
            true => Bed::ready(dialect),
            false => Bed::new(dialect, Wrong::default()),
        };
        let mut rest = &bytes[..];
        for step in steps {
            bed.now += step;
            let len = rest.len().min(40);
            let (some, after) = rest.split_at(len);
            rest = after;
            if bed.modem.receive(bed.now, some).is_err() || bed.modem.handle_timeout(bed.now).is_err() {
                break;
            }
            prop_assert!(bed.modem.poll_timeout() > bed.now || bed.modem.handle_timeout(bed.now).is_err()
                || bed.modem.poll_timeout() > bed.now);
            if bed.modem.may_send(bed.now) {
                bed.modem.send(bed.now, &[1]);
            }
            while let Some(event) = bed.modem.poll_event() {
                if let Event::Heard(heard) = event {
                    prop_assert!(!heard.frame.is_empty() && heard.frame.len() <= MAX_FRAME);
                }
            }
            prop_assert!(bed.modem.output().len() < 10_000);
        }
    }
}
