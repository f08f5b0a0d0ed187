use super::*;
use crate::tables::Fixed;
use proptest::prelude::*;

const SALE: Sale = Sale { bytes: 65_536, amount_msat: 50_000, open_number: 3 };
const SOURCE: NodeId = NodeId([1; 32]);
const MINUTE: Micros = 60 * SECOND;

fn tickets() -> Tickets<Fixed> {
    let mut tickets = Tickets::EMPTY;
    tickets.prepare(8, [1; 16], [9; 32]);
    tickets.begin(5 * SECOND, 1);
    tickets
}

fn hash(preimage: u8) -> [u8; 32] {
    Sha256::digest([preimage; 32]).into()
}

fn hop(n: u8) -> HopId {
    HopId([n; 8])
}

fn issue(t: &mut Tickets<Fixed>, now: Micros, preimage: u8) -> Ticket {
    t.issue(now, hop(2), &SOURCE, hash(preimage), SALE).unwrap()
}

#[test]
fn a_ticket_is_taken_once_with_its_preimage_and_by_its_source() {
    let mut t = tickets();
    let ticket = issue(&mut t, MINUTE, 7);
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[8; 32]), Err(TicketError::Forged));
    assert_eq!(t.check(MINUTE, &NodeId([2; 32]), &ticket, &[7; 32]), Err(TicketError::Forged));
    let cheaper = [
        Ticket { bytes: 1 << 40, ..ticket },
        Ticket { amount_msat: 1, ..ticket },
        Ticket { open_number: 0, ..ticket },
        Ticket { issued: 54, ..ticket },
    ];
    for forged in cheaper {
        assert_eq!(t.check(MINUTE, &SOURCE, &forged, &[7; 32]), Err(TicketError::Forged));
    }
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[7; 32]), Ok(hash(7)));
    assert!(t.take(&SOURCE, hash(7), &ticket));
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[7; 32]), Err(TicketError::Used));
    assert_eq!(t.issue(MINUTE, hop(2), &SOURCE, hash(7), SALE), Err(TicketError::Used));
}

#[test]
fn it_expires_and_only_then_is_it_forgotten() {
    let mut t = tickets();
    let ticket = issue(&mut t, MINUTE, 7);
    let paid = issue(&mut t, MINUTE, 8);
    assert!(t.take(&SOURCE, hash(8), &paid));
    let end = MINUTE + u64::from(LIFETIME_S) * SECOND;
    assert_eq!(t.expire(end - 1), None);
    assert_eq!(t.check(end - 1, &SOURCE, &ticket, &[7; 32]), Ok(hash(7)));
    assert_eq!(t.check(end - 1, &SOURCE, &paid, &[8; 32]), Err(TicketError::Used));
    assert_eq!(t.len(), 2);
    let expired = core::iter::from_fn(|| t.expire(end)).collect::<std::vec::Vec<_>>();
    assert!(expired.len() == 2 && expired.contains(&Some(SOURCE)) && expired.contains(&None));
    assert!(t.is_empty());
    assert_eq!(t.check(end, &SOURCE, &ticket, &[7; 32]), Err(TicketError::Expired));
    assert_eq!(t.check(end, &SOURCE, &paid, &[8; 32]), Err(TicketError::Expired));
}

#[test]
fn the_next_run_takes_it_for_a_while_and_the_one_after_it_does_not() {
    let mut t = tickets();
    let unpaid = issue(&mut t, 20 * MINUTE, 7);
    let paid = issue(&mut t, 20 * MINUTE, 8);
    let old = issue(&mut t, MINUTE, 6);
    t.take(&SOURCE, hash(8), &paid);
    let mut next = Tickets::<Fixed>::EMPTY;
    next.prepare(8, [1; 16], [9; 32]);
    next.restore(hash(8), paid.run, paid.issued).unwrap();
    next.begin(0, 2);
    assert_eq!(next.check(SECOND, &SOURCE, &paid, &[8; 32]), Err(TicketError::Used));
    assert_eq!(next.check(SECOND, &SOURCE, &unpaid, &[7; 32]), Ok(hash(7)));
    assert_eq!(next.check(SECOND, &SOURCE, &old, &[6; 32]), Err(TicketError::Expired));
    let late = u64::from(LIFETIME_S) * SECOND;
    assert_eq!(next.check(late, &SOURCE, &unpaid, &[7; 32]), Err(TicketError::Expired));
    assert!(!next.take(&SOURCE, hash(7), &unpaid), "not one of this run");
    assert_eq!(next.check(SECOND, &SOURCE, &unpaid, &[7; 32]), Err(TicketError::Used));
    next.begin(0, 3);
    assert_eq!(next.check(SECOND, &SOURCE, &unpaid, &[7; 32]), Err(TicketError::Expired));
}

#[test]
fn no_neighbour_takes_all_places() {
    let mut t = tickets();
    for n in 0..6 {
        assert_eq!(t.may_issue(hop(2), 6), Ok(()));
        issue(&mut t, MINUTE, n);
    }
    assert_eq!(t.may_issue(hop(2), 6), Err(TicketError::TooManyUnpaid));
    assert_eq!(t.may_issue(hop(3), 6), Ok(()));
    let ticket = t.issue(MINUTE, hop(3), &SOURCE, hash(6), SALE).unwrap();
    t.take(&SOURCE, hash(6), &ticket);
    t.issue(MINUTE, hop(3), &SOURCE, hash(7), SALE).unwrap();
    assert_eq!(t.may_issue(hop(4), 6), Err(TicketError::TooManyUnpaid), "full");
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[6; 32]), Err(TicketError::Used));
    let end = MINUTE + u64::from(LIFETIME_S) * SECOND;
    while t.expire(end).is_some() {}
    assert!(t.is_empty() && t.unpaid.is_empty());
    assert_eq!(t.may_issue(hop(2), 6), Ok(()));
}

#[test]
fn who_asks_for_the_same_again_gets_the_same_ticket_until_it_is_paid() {
    let mut t = tickets();
    let buys = (SALE.bytes, SALE.amount_msat);
    let ticket = t.issue(MINUTE, hop(2), &SOURCE, hash(1), SALE).unwrap();
    let given = t.unpaid(MINUTE + SECOND, &SOURCE, true, buys).unwrap();
    assert_eq!(given.payment_hash, hash(1));
    assert_eq!(t.issue_again(&SOURCE, given, SALE), Ok(ticket));
    assert_eq!((t.len(), t.may_issue(hop(2), 2)), (1, Ok(())), "one place is kept for it");
    // Others, for others, and for something else are not the same.
    assert_eq!(t.unpaid(MINUTE, &NodeId([9; 32]), true, buys), None);
    assert_eq!(t.unpaid(MINUTE, &SOURCE, false, buys), None);
    assert_eq!(t.unpaid(MINUTE, &SOURCE, true, (buys.0 + 1, buys.1)), None);
    assert_eq!(t.unpaid(MINUTE, &SOURCE, true, (buys.0, buys.1 + 1)), None);
    // Later it is another purchase, or a payer that does not know what it has paid.
    let late = MINUTE + u64::from(SAME_S) * SECOND;
    assert_eq!(t.unpaid(late - SECOND, &SOURCE, true, buys), Some(given));
    assert_eq!(t.unpaid(late, &SOURCE, true, buys), None);
    assert!(t.take(&SOURCE, hash(1), &ticket));
    assert_eq!(t.unpaid(MINUTE, &SOURCE, true, buys), None, "it is paid");
}

#[test]
fn a_full_table_takes_what_it_promised_and_nothing_else() {
    let mut before = tickets();
    let promised = issue(&mut before, MINUTE, 100);
    let mut t = tickets();
    t.begin(0, 2);
    let sources = (0..8).map(|n| NodeId([n; 32]));
    let issued: std::vec::Vec<_> = sources
        .map(|source| (source, t.issue(MINUTE, hop(2), &source, hash(source.0[0]), SALE).unwrap()))
        .collect();
    assert_eq!(t.check(MINUTE, &SOURCE, &promised, &[100; 32]), Err(TicketError::NoRoom));
    for (source, ticket) in issued {
        let preimage = [source.0[0]; 32];
        assert!(t.check(MINUTE, &source, &ticket, &preimage).is_ok());
        assert!(t.take(&source, hash(source.0[0]), &ticket));
    }
}

#[test]
fn the_cashier_makes_tickets_of_blank_ones_and_a_place_is_kept_for_them() {
    let mut t = tickets();
    let blank = t.refer(MINUTE, (hop(2), 4), &SOURCE, SALE).unwrap();
    assert_eq!((blank.run, blank.issued), (1, 55));
    assert!(is_blank(&[9; 32], &SOURCE, &blank));
    for (key, source, blank) in [
        ([8; 32], SOURCE, blank),
        ([9; 32], NodeId([2; 32]), blank),
        ([9; 32], SOURCE, Ticket { amount_msat: 1_000, ..blank }),
    ] {
        assert!(!is_blank(&key, &source, &blank));
    }
    // It is no ticket for anything.
    assert_eq!(t.check(MINUTE, &SOURCE, &blank, &[0; 32]), Err(TicketError::Forged));
    let ticket = of_blank(&[9; 32], &SOURCE, &blank, &hash(7)).unwrap();
    assert!(ticket.is_like(&blank) && !is_blank(&[9; 32], &SOURCE, &ticket));
    // Others fill what is left.
    for n in 0..7 {
        issue(&mut t, MINUTE, 20 + n);
    }
    assert_eq!(t.may_issue(hop(3), 8), Err(TicketError::TooManyUnpaid));
    let another = t.refer(MINUTE, (hop(3), 4), &NodeId([2; 32]), SALE);
    assert_eq!(another, Err(TicketError::TooManyUnpaid));
    assert!(t.refer(2 * MINUTE, (hop(2), 4), &SOURCE, SALE).is_ok(), "it has a place");
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[7; 32]), Ok(hash(7)));
    assert!(t.take(&SOURCE, hash(7), &ticket) && !t.has_place(&SOURCE));
    assert_eq!(t.check(MINUTE, &SOURCE, &ticket, &[7; 32]), Err(TicketError::Used));
    // One that nobody pays is given up when its latest ticket has expired.
    let mut t = tickets();
    t.refer(5 * SECOND, (hop(2), 4), &SOURCE, SALE).unwrap();
    t.refer(MINUTE, (hop(2), 4), &SOURCE, SALE).unwrap();
    let end = MINUTE + u64::from(LIFETIME_S) * SECOND;
    assert_eq!((t.expire(end - SECOND), t.expire(end)), (None, Some(Some(SOURCE))));
    assert_eq!(t.expire(end), None);
}

proptest! {
    /// Over restarts at any moments, and whatever of the old is dropped from the store, no
    /// ticket is taken twice.
    #[test]
    fn no_ticket_is_taken_twice(steps in prop::collection::vec((0u8..10, 0u64..400), 1..60)) {
        let mut t = tickets();
        let (mut now, mut run) = (5 * SECOND, 1u32);
        let mut all: std::vec::Vec<(u8, Ticket, bool)> = std::vec::Vec::new();
        let mut store: std::vec::Vec<([u8; 32], u32, u32)> = std::vec::Vec::new();
        for (what, seconds) in steps {
            now += seconds * SECOND;
            while t.expire(now).is_some() {}
            match what {
                0..4 => {
                    let preimage = all.len() as u8;
                    if t.may_issue(hop(2), 8).is_ok() {
                        all.push((preimage, issue(&mut t, now, preimage), false));
                    }
                }
                4..9 => {
                    for (preimage, ticket, taken) in &mut all {
                        if let Ok(hash) = t.check(now, &SOURCE, ticket, &[*preimage; 32]) {
                            prop_assert!(!*taken);
                            t.take(&SOURCE, hash, ticket);
                            store.push((hash, ticket.run, ticket.issued));
                            *taken = true;
                            break;
                        }
                    }
                }
                _ => {
                    run += 1;
                    now = seconds * SECOND;
                    t = Tickets::EMPTY;
                    t.prepare(8, [1; 16], [9; 32]);
                    for (hash, run, issued) in &store {
                        prop_assert_eq!(t.restore(*hash, *run, *issued), Ok(()));
                    }
                    t.begin(now, run);
                }
            }
        }
    }
}
