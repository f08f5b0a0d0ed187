use super::*;
use crate::modems::topology::Topology;
use crate::rng::Rng;
use proptest::prelude::*;

const TUNING: Tuning = Tuning {
    frequency_hz: 869_525_000,
    bandwidth_hz: 250_000,
    spreading: 7,
    coding: 5,
    preamble: 18,
};

fn channel(topology: &str, modems: usize) -> Channel {
    let topology: Topology = topology.parse().expect("a topology");
    let paths = PathLoss::new(&topology, modems);
    let mut channel = Channel::new(modems, paths, 0, Rng::new(1));
    (0..modems).for_each(|modem| assert!(!channel.tune(modem, Some(TUNING))));
    channel
}

/// All that happens until the channel is silent, with the time of each.
fn all(channel: &mut Channel) -> Vec<(Micros, Event)> {
    let mut events = Vec::new();
    while let Some(now) = channel.due() {
        let happened = channel.poll(now);
        assert!(!happened.is_empty(), "due at {now}, and nothing happened");
        events.extend(happened.into_iter().map(|event| (now, event)));
    }
    events
}

/// Who received what, `None` for a wrong CRC.
fn heard(events: &[(Micros, Event)]) -> Vec<(usize, Option<&[u8]>)> {
    let heard = events.iter().filter_map(|(_, event)| match event {
        Event::Heard(to, heard) => Some((*to, heard.frame.as_deref())),
        _ => None,
    });
    heard.collect()
}

#[test]
fn a_frame_lasts_its_airtime_and_arrives_where_it_is_heard() {
    let mut channel = channel("line", 3);
    let airtime = channel.send(0, 17, vec![7; 20], 1000).expect("it is on");
    assert_eq!(airtime, TUNING.airtime(20));
    assert!(channel.is_sending(0) && channel.send(0, 17, vec![8], 1001).is_none());
    let events = all(&mut channel);
    assert_eq!(events[0], (1000 + TUNING.detection(), Event::Detected(0)));
    assert_eq!(events[1], (1000 + airtime, Event::Sent(0)));
    assert_eq!(heard(&events), [(1, Some(&[7; 20][..]))]);
    let Event::Heard(1, Heard { rssi_dbm, snr_db, .. }) = &events[2].1 else {
        panic!("{events:?}")
    };
    assert_eq!((*rssi_dbm, *snr_db), (-83.0, MOST_SNR_DB));
}

#[test]
fn who_sends_or_is_tuned_elsewhere_or_is_deaf_hears_nothing() {
    let mut channel = channel("all", 6);
    channel.tune(2, Some(Tuning { spreading: 8, ..TUNING }));
    channel.tune(3, None);
    channel.set_deaf(4, true);
    // 5 sends as well, so nobody gets either of the two, and 5 hears nothing.
    channel.send(0, 17, vec![0; 9], 0);
    channel.send(5, 17, vec![5; 9], 0);
    assert_eq!(heard(&all(&mut channel)), [(1, None)]);
    channel.send(0, 17, vec![1; 9], 1_000_000);
    assert_eq!(heard(&all(&mut channel)), [(1, Some(&[1; 9][..])), (5, Some(&[1; 9][..]))]);
    channel.set_mute(0, true);
    channel.send(0, 17, vec![1; 9], 2_000_000);
    assert_eq!(heard(&all(&mut channel)), []);
}

#[test]
fn the_stronger_by_6_db_is_captured() {
    for (loss, captured) in [("105.9", false), ("106.1", true)] {
        let mut channel = channel(&format!("0-2,1-2:{loss}"), 3);
        channel.send(0, 17, vec![0; 30], 0);
        channel.send(1, 17, vec![1; 30], 10);
        let events = all(&mut channel);
        assert_eq!(heard(&events), [(2, captured.then_some(&[0; 30][..]))], "{loss} dB");
    }
}

/// A receiver turns to a stronger frame while the preamble of the weaker one lasts, and not later.
#[test]
fn a_late_stronger_frame_spoils_and_is_not_received() {
    for (late, expected) in
        [(TUNING.preamble_time() - 1, Some(&[0; 30][..])), (TUNING.preamble_time(), None)]
    {
        let mut channel = channel("0-2,1-2:120", 3);
        channel.send(1, 17, vec![1; 30], 0);
        channel.send(0, 17, vec![0; 30], late);
        assert_eq!(heard(&all(&mut channel)), [(2, expected)], "late by {late}");
    }
}

/// Two weak ones disturb together what each alone would not.
#[test]
fn what_disturbs_adds_up() {
    for (modems, expected) in [(3, Some(&[0; 30][..])), (4, None)] {
        let mut channel = channel("0-2,1-2:107,3-2:107", modems);
        channel.send(0, 17, vec![0; 30], 0);
        channel.send(1, 17, vec![1; 30], 10);
        if modems == 4 {
            channel.send(3, 17, vec![3; 30], 10);
        }
        assert_eq!(heard(&all(&mut channel)), [(2, expected)]);
    }
}

/// Other spreading factors disturb only if they are stronger by more than 16 dB.
#[test]
fn another_spreading_factor_disturbs_little() {
    for (loss, received) in [("116", true), ("116.1", false)] {
        let mut channel = channel(&format!("0-2:{loss},1-2:100"), 3);
        channel.tune(1, Some(Tuning { spreading: 9, ..TUNING }));
        channel.send(0, 17, vec![0; 30], 0);
        channel.send(1, 17, vec![1; 30], 10);
        assert_eq!(heard(&all(&mut channel)), [(2, received.then_some(&[0; 30][..]))]);
    }
}

#[test]
fn what_is_below_the_sensitivity_is_not_heard() {
    // Noise in 250 kHz is -114.0 dBm, and factor 7 takes 7.5 dB less.
    for (loss, expected) in [("138.4", 1), ("138.6", 0)] {
        let mut channel = channel(&format!("0-1:{loss}"), 2);
        channel.send(0, 17, vec![0; 30], 0);
        assert_eq!(heard(&all(&mut channel)).len(), expected, "{loss} dB");
    }
}

#[test]
fn a_frame_is_sensed_when_it_is_detected_and_its_power_at_once() {
    let mut channel = channel("all", 2);
    assert_eq!(channel.sense(1, 0).rssi_dbm, channel.sense(1, 0).floor_dbm);
    channel.send(0, 17, vec![0; 30], 0);
    let early = channel.sense(1, TUNING.detection() - 1);
    assert!(!early.carrier && (early.rssi_dbm + 83.0).abs() < 0.1, "{early:?}");
    assert!(channel.sense(1, TUNING.detection()).carrier);
    all(&mut channel);
    assert!(!channel.sense(1, 1_000_000).carrier);
}

#[test]
fn a_modem_that_is_turned_off_while_it_sends_is_not_received() {
    let mut channel = channel("all", 2);
    channel.send(0, 17, vec![0; 30], 0);
    assert!(channel.tune(0, None), "it was sending");
    assert_eq!(channel.due(), None);
    channel.tune(0, Some(TUNING));
    channel.send(0, 17, vec![1; 30], 10);
    assert_eq!(heard(&all(&mut channel)), [(1, Some(&[1; 30][..]))]);
}

#[test]
fn frames_are_lost_as_often_as_asked_for() {
    let mut channel = channel("all", 2);
    channel.loss_ppm = 250_000;
    let mut arrived = 0;
    for round in 0..1000 {
        channel.send(0, 17, vec![0; 30], round * 1_000_000);
        arrived += heard(&all(&mut channel)).len();
    }
    assert!((700..800).contains(&arrived), "{arrived} of 1000 arrived");
}

proptest! {
    /// Whatever is sent and tuned whenever, the channel gets silent, every frame that is not cut off
    /// ends once, and nobody receives more frames than others sent.
    #[test]
    fn every_frame_ends(
        steps in prop::collection::vec((0usize..4, 0u8..4, 1usize..255, 0u64..300_000), 1..40)
    ) {
        let mut channel = channel("0-1,1-2:110,2-3:120,0>3:130", 4);
        let (mut now, mut sent, mut ended, mut received) = (0, 0, 0, 0);
        for (modem, what, bytes, pause) in steps {
            match what {
                0 => ended += usize::from(channel.tune(modem, None)),
                1 => ended += usize::from(channel.tune(modem, Some(TUNING))),
                _ => sent += usize::from(channel.send(modem, 17, vec![1; bytes], now).is_some()),
            }
            now += pause;
            while channel.due().is_some_and(|due| due <= now) {
                for event in channel.poll(now) {
                    ended += usize::from(matches!(event, Event::Sent(_)));
                    received += usize::from(matches!(event, Event::Heard(..)));
                }
            }
        }
        let rest = all(&mut channel);
        ended += rest.iter().filter(|(_, event)| matches!(event, Event::Sent(_))).count();
        received += heard(&rest).len();
        prop_assert_eq!(sent, ended);
        prop_assert!(received <= 3 * sent);
    }
}
