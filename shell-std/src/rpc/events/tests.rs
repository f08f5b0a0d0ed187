//! The log alone: what is kept, what was missed, and who is woken.

use super::*;
use blvm_mesh_core::id::NodeId;
use proptest::prelude::*;
use smol::channel::bounded;

fn up(n: u8) -> Happened {
    Happened::PeerDown { node: NodeId([n; 32]) }
}

fn lost(n: u8) -> Happened {
    Happened::RouteNotFound { destination: NodeId([n; 32]) }
}

fn read(log: &Arc<EventLog>, topics: &[Topic], since: Option<&Cursor>) -> (Reader, Option<Missed>) {
    log.read(topics, since, bounded(1).0).unwrap()
}

fn all(reader: &mut Reader) -> Vec<Happened> {
    reader.take(usize::MAX).into_iter().map(|read| read.happened).collect()
}

#[test]
fn each_reader_is_told_its_topics_in_order_and_once() {
    let log = Arc::new(EventLog::new(10));
    log.tell(Topic::Peers, up(1));
    let (mut every, _) = read(&log, &[], None);
    let (mut routes, missed) = read(&log, &[Topic::Routes], None);
    assert_eq!(missed, None);
    log.tell(Topic::Routes, lost(2));
    log.tell(Topic::Peers, up(3));
    log.tell(Topic::Routes, lost(4));
    let first = every.take(2);
    assert_eq!(first.iter().map(|r| &r.happened).collect::<Vec<_>>(), [&lost(2), &up(3)]);
    assert_eq!(all(&mut every), [lost(4)]);
    assert_eq!(all(&mut every), []);
    assert_eq!(all(&mut routes), [lost(2), lost(4)]);
    // From each cursor on, again.
    let (mut again, missed) = read(&log, &[], Some(&first[0].cursor));
    assert_eq!((all(&mut again), missed), (vec![up(3), lost(4)], None));
    assert_eq!(again.cursor(), every.cursor());
    // Another topic, from where this one was left.
    let (mut peers, _) = read(&log, &[Topic::Peers], Some(&routes.cursor()));
    assert_eq!(all(&mut peers), [up(3)]);
}

#[test]
fn what_is_not_kept_is_counted_and_one_topic_does_not_push_another_out() {
    let log = Arc::new(EventLog::new(3));
    let (mut slow, _) = read(&log, &[], None);
    let before = slow.cursor();
    log.tell(Topic::Peers, up(1));
    (0..10).for_each(|n| log.tell(Topic::Routes, lost(n)));
    let expected = [Happened::Missed { events: 7 }, up(1), lost(7), lost(8), lost(9)];
    assert_eq!(all(&mut slow), expected);
    assert_eq!(all(&mut slow), []);
    let (mut late, missed) = read(&log, &[], Some(&before));
    let dropped = |events| Some(Missed { reason: MissedBecause::Dropped, events });
    assert_eq!((all(&mut late), missed), (expected[1..].to_vec(), dropped(7)));
    let (mut peers, missed) = read(&log, &[Topic::Peers], Some(&before));
    assert_eq!((all(&mut peers), missed), (vec![up(1)], None), "of it nothing was missed");
    // What is missed is told of the topic that it belongs to, and the cursor is behind it.
    let (mut slow, _) = read(&log, &[Topic::Routes], None);
    (0..4).for_each(|n| log.tell(Topic::Routes, lost(n)));
    let first = slow.take(1).remove(0);
    assert_eq!((first.topic, first.happened), (Topic::Routes, Happened::Missed { events: 1 }));
    let (mut again, missed) = read(&log, &[Topic::Routes], Some(&first.cursor));
    assert_eq!((all(&mut again), missed), (vec![lost(1), lost(2), lost(3)], None));
}

#[test]
fn a_cursor_of_another_run_is_told_all_that_there_is_and_that_it_missed_something() {
    let (old, new) = (Arc::new(EventLog::new(2)), Arc::new(EventLog::new(2)));
    let (mut reader, _) = read(&old, &[], None);
    old.tell(Topic::Peers, up(1));
    all(&mut reader);
    (0..3).for_each(|n| new.tell(Topic::Peers, up(n)));
    let (mut reader, missed) = read(&new, &[], Some(&reader.cursor()));
    assert_eq!(missed, Some(Missed { reason: MissedBecause::Restarted, events: 1 }));
    assert_eq!(all(&mut reader), [up(1), up(2)]);
    let ahead = Cursor { seen: [0, 4, 0, 0, 0], ..reader.cursor() };
    let error = new.read(&[], Some(&ahead), bounded(1).0).unwrap_err();
    assert!(error.contains("ahead"), "{error}");
}

#[test]
fn who_reads_a_topic_is_woken_and_a_reader_that_is_gone_is_forgotten() {
    let log = Arc::new(EventLog::new(2));
    let (news, heard) = bounded(1);
    let (reader, _) = log.read(&[Topic::Routes], None, news).unwrap();
    log.tell(Topic::Peers, up(1));
    assert!(heard.try_recv().is_err());
    log.tell(Topic::Routes, lost(1));
    log.tell(Topic::Routes, lost(2));
    assert!(heard.try_recv().is_ok() && heard.try_recv().is_err());
    assert_eq!(log.lock().readers.len(), 1);
    drop(reader);
    assert!(log.lock().readers.is_empty() && heard.is_closed());
}

#[test]
fn what_is_no_cursor_is_refused() {
    let cursor = Cursor { run: 0xab, seen: [1, 0, 3, 4, u64::MAX] };
    assert_eq!(cursor.to_string(), "00000000000000ab-1.0.3.4.18446744073709551615");
    for text in [
        "",
        "5",
        "00000000000000ab",
        "00000000000000ab-1.0.3.4",
        "00000000000000ab-1.0.3.4.5.6",
        "00000000000000ab-1.0.3.4.18446744073709551616",
        "00000000000000ab-1.0.3.4.-1",
        "00000000000000ab-1.0.3.4.+1",
        "00000000000000ab-1..3.4.1",
        "+0000000000000ab-1.0.3.4.5",
        "ab-1.0.3.4.5",
    ] {
        let error = text.parse::<Cursor>().unwrap_err();
        assert!(error.contains(&format!("\"{text}\" is no cursor")), "{error}");
    }
}

proptest! {
    #[test]
    fn a_cursor_is_read_as_it_is_written(run: u64, seen: [u64; TOPICS]) {
        let cursor = Cursor { run, seen };
        prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
    }

    #[test]
    fn any_text_is_a_cursor_or_none(text: String) {
        if let Ok(cursor) = text.parse::<Cursor>() {
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    /// Whatever is told and read in turn: what a reader is told and what it is told to have missed is
    /// all that there was, in order.
    #[test]
    fn nothing_is_lost_without_a_word(
        most in 1usize..5,
        steps in prop::collection::vec((0usize..TOPICS, 0usize..4, any::<bool>()), 0..60),
    ) {
        let log = Arc::new(EventLog::new(most));
        let (mut reader, _) = read(&log, &[], None);
        let (mut told, mut heard) = ([0u64; TOPICS], [0u64; TOPICS]);
        let hear = |reads: Vec<Read>, heard: &mut [u64; TOPICS]| {
            for read in reads {
                let of = &mut heard[read.topic as usize];
                match read.happened {
                    Happened::Missed { events } => *of += events,
                    Happened::RouteFound { hops, .. } => {
                        assert_eq!(u64::from(hops), *of);
                        *of += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        };
        for (topic, take, reconnect) in steps {
            let (destination, hops) = (NodeId([0; 32]), told[topic].try_into().unwrap());
            log.tell(Topic::ALL[topic], Happened::RouteFound { destination, hops });
            told[topic] += 1;
            hear(reader.take(take), &mut heard);
            if reconnect {
                let (next, missed) = read(&log, &[], Some(&reader.cursor()));
                let before: u64 = reader.cursor().seen.iter().sum();
                let after: u64 = next.cursor().seen.iter().sum();
                assert_eq!(after - before, missed.map_or(0, |missed| missed.events));
                heard = next.cursor().seen;
                reader = next;
            }
        }
        hear(reader.take(usize::MAX), &mut heard);
        prop_assert_eq!(heard, told);
    }
}
