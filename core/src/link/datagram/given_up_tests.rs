//! What is given up does no harm to what follows.

use super::{
    session_tests::{limits, linked, talk},
    *,
};
use crate::time::SECOND;

#[test]
fn an_overdue_packet_is_given_up_and_the_next_ones_arrive() {
    let (mut near, mut far) = linked();
    let mut now = 2 * SECOND;
    near.queue(now, Lane::Free, &[1; 600]);
    near.queue(now, Lane::Free, &[2; 100]);
    for _ in 0..2 {
        near.frame(now).unwrap();
    }
    now += limits().dead_after - 1;
    near.link.limits.dead_after = 100 * SECOND;
    near.queue(now, Lane::Free, &[3; 100]);
    now = 2 * SECOND + limits().packet_timeout;
    while near.link.sent().given_up < 2 {
        near.frame(now);
    }
    while !near.link.is_idle() {
        // The handshake that is tried meanwhile comes to nothing.
        talk(now, &mut near, &mut far);
        now += SECOND;
        assert!(now < 60 * SECOND);
    }
    assert_eq!(far.packets, [(Lane::Free, [3; 100].to_vec())]);
    assert_eq!(near.link.sent().given_up, 2);
}

#[test]
fn whatever_frame_is_lost_a_packet_given_up_half_way_is_not_mixed_with_the_next_one() {
    for lost in 0..4 {
        let (mut near, mut far) = linked();
        let patient = 100 * SECOND;
        (near.link.limits.dead_after, near.link.limits.probe_after) = (patient, patient);
        let begin = 2 * SECOND;
        near.queue(begin, Lane::Free, &[1; 500]);
        let first = near.frame(begin).unwrap();
        far.take(begin, &first).unwrap();
        near.queue(begin + 20 * SECOND, Lane::Free, &[2; 480]);
        let mut now = begin + limits().packet_timeout;
        for number in 0..4 {
            if let Some(frame) = near.frame(now)
                && number != lost
            {
                far.take(now, &frame).unwrap();
            }
        }
        while !near.link.is_idle() {
            talk(now, &mut near, &mut far);
            now += SECOND;
            assert!(now < 60 * SECOND);
        }
        assert_eq!(far.packets, [(Lane::Free, [2; 480].to_vec())], "frame {lost} lost");
        assert_eq!(near.link.sent().given_up, 1);
    }
}
