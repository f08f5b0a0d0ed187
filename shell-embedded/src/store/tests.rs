use super::*;
use blvm_mesh_core::config::Config;
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::mesh::{Action, BoardMesh, Input, Tables};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{AccountState, Credit, Method, Payment, RECORD_LEN};
use blvm_mesh_core::payment::replay::PaidPacket;
use embedded_storage::nor_flash::{ErrorType, NorFlashErrorKind, ReadNorFlash};
use std::collections::{BTreeMap, BTreeSet};
use std::vec::Vec;

const PAGE: usize = 4096;
const PAGES: usize = 8;

/// A flash whose power is cut in front of a word, or with half of its bits written.
#[derive(Clone)]
struct Flash {
    bytes: Vec<u8>,
    /// Words and pages that are still written.
    left: u64,
}

impl Flash {
    fn erased() -> Self {
        Self { bytes: std::vec![0xff; PAGE * PAGES], left: u64::MAX }
    }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }
    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = PAGE;
    fn erase(&mut self, from: u32, to: u32) -> Result<(), Self::Error> {
        for page in self.bytes[from as usize..to as usize].chunks_mut(PAGE) {
            if self.left == 0 {
                // What a page holds whose erasure was cut short is anything.
                page[..PAGE / 2].fill(0xff);
                return Err(NorFlashErrorKind::Other);
            }
            self.left -= 1;
            page.fill(0xff);
        }
        Ok(())
    }
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Self::Error> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4));
        for (n, word) in bytes.chunks(4).enumerate() {
            let place = &mut self.bytes[offset as usize + 4 * n..][..4];
            if self.left == 0 {
                place.iter_mut().zip(word).for_each(|(to, from)| *to &= from | 0x55);
            }
            self.left = self.left.checked_sub(1).ok_or(NorFlashErrorKind::Other)?;
            // Bits only fall, as in flash.
            place.iter_mut().zip(word).for_each(|(to, from)| *to &= from);
        }
        Ok(())
    }
}

fn store(flash: &mut Flash) -> FlashStore<&mut Flash> {
    FlashStore::new(flash, 0..(PAGE * PAGES) as u32).expect("it is large enough")
}

fn payment(n: u64, expires_at: u64) -> Record {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_le_bytes());
    Record::Payment(Payment {
        key,
        method: Method::Lightning,
        role: Party::Intermediate(1),
        source: NodeId([1; 32]),
        destination: NodeId([2; 32]),
        amount_msat: 1000 + n,
        share_msat: 100,
        accepted_at: n,
        expires_at,
        packet: PaidPacket::NONE,
    })
}

fn account(source: u8, bought: u64, drawn: u64) -> AccountState {
    let account = Account::restored(bought, drawn, drawn, HopId([source; 8]), 0);
    AccountState { source: NodeId([source; 32]), account }
}

fn forgotten(source: u8) -> Record {
    Record::Account(AccountState { source: NodeId([source; 32]), account: Account::default() })
}

fn credit(n: u64, run: u32, issued: u32, AccountState { source, account }: AccountState) -> Record {
    let mut payment_hash = [0xff; 32];
    payment_hash[..8].copy_from_slice(&n.to_le_bytes());
    let (amount_msat, accepted_at) = (50_000, n);
    Record::Credit(Credit { payment_hash, run, issued, amount_msat, accepted_at, source, account })
}

/// Payments and flows that come and expire until every page was used more than once.
fn life() -> Vec<Record> {
    let mut records = std::vec![Record::StoreLost(Some(7)), Record::Run(1)];
    // One source pays at the start and never again.
    records.push(credit(1_000, 1, 5, account(99, 70_000, 0)));
    for n in 0..120u64 {
        // At most 100 are live; one of them stays throughout.
        records.push(payment(n, if n == 5 { 10_000 } else { n + 100 }));
        if n % 20 == 19 {
            records.push(Record::Floor(n));
        }
        // Six sources pay, their flows draw, and some are forgotten.
        let source = (n % 6) as u8;
        match n % 4 {
            0 => records.push(credit(n, 1, 70 * n as u32, account(source, 1_000 + n, n))),
            1 => records.push(Record::Account(account(source, 1_000 + n, n + 1))),
            _ if n % 20 == 10 => records.push(forgotten(source)),
            _ => {}
        }
    }
    records.push(Record::Run(2));
    // Flows alone: tickets are shown for longer than their accounts' newest records stay behind.
    for n in 120..260u64 {
        let source = (n % 5) as u8;
        records.push(match n % 12 {
            0 => credit(n, 2, 4 * (n - 120) as u32, account(source, 1_000 + n, n)),
            7 => forgotten(source),
            _ => Record::Account(account(source, 1_000 + n, n)),
        });
    }
    records
}

/// What must be known after these were written, as a set of encoded records.
fn live<'a>(written: impl Iterator<Item = &'a Record>) -> BTreeSet<[u8; RECORD_LEN]> {
    let (mut payments, mut floor, mut lost, mut run) = (Vec::new(), None, None, None);
    let (mut accounts, mut tickets) = (BTreeMap::new(), Vec::<Credit>::new());
    for record in written {
        match record {
            Record::Floor(unix) => floor = Some(*unix),
            Record::StoreLost(_) => lost = Some(*record),
            Record::Payment(p) => payments.push(*p),
            Record::Deposit(_) => unreachable!("boards take no proofs for accounts"),
            Record::Run(n) => run = Some(*record).filter(|_| *n > 0),
            Record::Account(state) => drop(accounts.insert(state.source.0, state.account)),
            Record::Credit(new) => {
                accounts.insert(new.source.0, new.account);
                tickets.retain(|old| match new.run - old.run {
                    0 => old.issued + LIFETIME_S > new.issued,
                    1 => new.issued < LIFETIME_S,
                    _ => false,
                });
                let oldest = tickets.iter().enumerate().min_by_key(|(_, t)| (t.run, t.issued));
                if let (true, Some((at, _))) = (tickets.len() == TICKETS, oldest) {
                    tickets.remove(at);
                }
                tickets.push(*new);
            }
        }
    }
    accounts.retain(|_, account| *account != Account::default());
    let flows = accounts.iter().map(|(source, account)| {
        Record::Account(AccountState { source: NodeId(*source), account: *account }).encode()
    });
    let tickets = tickets
        .iter()
        .map(|credit| Record::Credit(Credit { account: Account::default(), ..*credit }).encode());
    let run = run.map(|run: Record| run.encode());
    let payments_are_none = payments.is_empty() && floor.is_none() && run.is_none();
    let kept = payments.into_iter().filter(|p| p.expires_at > floor.unwrap_or(0));
    let floor = floor.map(|unix| Record::Floor(unix).encode());
    // What is empty may have been erased.
    let empty = payments_are_none.then_some(Record::StoreLost(None));
    let lost = lost.or(empty).map(|record| record.encode());
    let kept = kept.map(|p| Record::Payment(p).encode()).chain(floor).chain(lost).chain(run);
    kept.chain(flows).chain(tickets).collect()
}

fn loaded(flash: &mut Flash) -> BTreeSet<[u8; RECORD_LEN]> {
    let mut all = BTreeSet::new();
    let mut first = true;
    store(flash)
        .load(&mut |record| {
            assert!(first || !matches!(record, Record::Floor(_)), "the floor comes first");
            first = false;
            assert!(all.insert(record.encode()), "a record came twice");
        })
        .expect("it loads");
    all
}

/// Cuts the power at each word and each page that one record writes; how many there
/// are. `done` are the records before it, which are in the flash.
fn cut_everywhere(before: &Flash, done: &[Record], record: &Record, next: &Record) -> u64 {
    let (least, most) = (live(done.iter()), live(done.iter().chain([record])));
    let mut points = 0;
    loop {
        let mut flash = Flash { left: points, ..before.clone() };
        let mut s = store(&mut flash);
        if s.write(record).is_ok() {
            return points;
        }
        // A second cut, while the first is mended.
        flash.left = points % 2;
        let _ = store(&mut flash).load(&mut |_| ());
        flash.left = u64::MAX;
        let (mut s, mut after) = (store(&mut flash), BTreeSet::new());
        s.load(&mut |record| assert!(after.insert(record.encode()))).unwrap();
        assert!(after == least || after == most, "cut {points} of record {}", done.len());
        // And it goes on from there.
        if after == least {
            s.write(record).unwrap();
        }
        s.write(next).unwrap();
        if points % 8 == 0 {
            let all = live(done.iter().chain([record, next]));
            assert!(loaded(&mut flash) == all, "cut {points} of record {}", done.len());
        }
        points += 1;
    }
}

#[test]
fn records_come_back_after_a_cut_of_the_power_at_any_point() {
    let records = life();
    let mut flash = Flash::erased();
    let mut states = std::vec![flash.clone()];
    for record in &records {
        let mut s = store(&mut flash);
        s.load(&mut |_| ()).unwrap();
        s.write(record).unwrap();
        states.push(flash.clone());
    }
    assert!(loaded(&mut flash) == live(records.iter()), "without a cut");
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let points: u64 = std::thread::scope(|scope| {
        let some = |first: usize| {
            let of = (first..records.len() - 1).step_by(threads);
            of.map(|n| cut_everywhere(&states[n], &records[..n], &records[n], &records[n + 1]))
                .sum::<u64>()
        };
        let running: Vec<_> = (0..threads).map(|n| scope.spawn(move || some(n))).collect();
        running.into_iter().map(|thread| thread.join().expect("it holds")).sum()
    });
    // Every record has at least a header and its bytes.
    assert!(points > 20 * records.len() as u64, "{points}");
    std::println!("{points} points");
}

/// Records come back into a state machine's tables: every account, and no more tickets than it
/// has room for.
#[test]
fn a_state_machine_takes_back_what_was_kept() {
    let mut flash = Flash::erased();
    let records = life();
    for record in &records {
        let mut s = store(&mut flash);
        s.load(&mut |_| ()).unwrap();
        s.write(record).unwrap();
    }
    let secp = secp256k1::Secp256k1::new();
    let key = secp256k1::SecretKey::from_byte_array([1; 32]).unwrap();
    let mut config = Config::board(Network::Regtest, 1024);
    config.payment.volatile = false;
    config.payment.issuers.push(key.public_key(&secp)).unwrap();
    let tables = std::boxed::Box::leak(std::boxed::Box::new(Tables::EMPTY));
    let mut mesh = BoardMesh::with_tables(tables, config, key, [2; 32]);
    let mut give = |input: Input<'_>| {
        mesh.handle(0, input).unwrap();
        while !matches!(mesh.poll(), Action::Wait { .. }) {}
    };
    store(&mut flash).load(&mut |record| give(Input::Persisted { record })).unwrap();
    give(Input::WallClock { unix: 1_000 });
    assert!(mesh.accepts_payments(), "everything had room");
    let accounts = mesh.accounts().map(|(source, account)| {
        Record::Account(AccountState { source, account: *account }).encode()
    });
    let of = |bytes: &[u8; RECORD_LEN]| matches!(Record::decode(bytes), Some(Record::Account(_)));
    let kept: BTreeSet<_> = live(records.iter()).into_iter().filter(of).collect();
    assert!(accounts.collect::<BTreeSet<_>>() == kept && kept.len() == 6);
}

#[test]
fn an_erased_flash_says_that_it_was_lost_until_the_time_is_written() {
    let mut flash = Flash::erased();
    let lost = |before| [Record::StoreLost(before).encode()].into();
    assert_eq!(loaded(&mut flash), lost(None));
    assert_eq!(loaded(&mut flash), lost(None));
    store(&mut flash).write(&Record::StoreLost(Some(9))).unwrap();
    assert_eq!(loaded(&mut flash), lost(Some(9)));
}

#[test]
fn a_full_store_takes_no_payment_until_a_floor() {
    let mut flash = Flash::erased();
    let mut s = store(&mut flash);
    s.load(&mut |_| ()).unwrap();
    for n in 0..PAYMENTS as u64 {
        s.write(&payment(n, n + 10)).unwrap();
    }
    assert_eq!(s.write(&payment(999, 999)), Err(StoreError::Full));
    s.write(&Record::Floor(10)).unwrap();
    s.write(&payment(999, 999)).unwrap();
    assert_eq!(s.write(&payment(1000, 999)), Err(StoreError::Full));
}

#[test]
fn of_more_tickets_than_are_valid_the_newest_are_kept() {
    let mut flash = Flash::erased();
    let mut s = store(&mut flash);
    s.load(&mut |_| ()).unwrap();
    // The last was issued before some of the others and paid after all of them.
    let issued = (0..TICKETS as u32 + 4).chain([10]);
    for (n, issued) in issued.enumerate() {
        s.write(&credit(n as u64, 1, issued, account(1, 9, 0))).unwrap();
    }
    let mut kept = Vec::new();
    store(&mut flash)
        .load(&mut |record| {
            if let Record::Credit(credit) = record {
                kept.push(credit.issued);
            }
        })
        .unwrap();
    kept.sort_unstable();
    let newest = (5..TICKETS as u32 + 4).chain([10]);
    let mut newest: Vec<_> = newest.collect();
    newest.sort_unstable();
    assert_eq!(kept, newest);
}

#[test]
fn a_full_store_takes_no_account_until_one_is_forgotten() {
    let mut flash = Flash::erased();
    let mut s = store(&mut flash);
    s.load(&mut |_| ()).unwrap();
    // Each is written often enough to fill every page.
    for n in 0..20 * ACCOUNTS as u64 {
        s.write(&Record::Account(account((n % ACCOUNTS as u64) as u8, n + 1, n))).unwrap();
    }
    let new = credit(1, 1, 1, account(200, 5, 0));
    assert_eq!(s.write(&new), Err(StoreError::Full));
    s.write(&forgotten(3)).unwrap();
    s.write(&new).unwrap();
    let sources = loaded(&mut flash);
    assert_eq!(sources.len(), ACCOUNTS + 1, "accounts, and one ticket");
    assert!(sources.contains(&Record::Account(account(200, 5, 0)).encode()));
}

#[test]
fn what_cannot_hold_a_store_is_refused() {
    let mut flash = Flash::erased();
    for end in [0, 4096, 7 * 4096, 8 * 4096 - 4] {
        assert_eq!(FlashStore::new(&mut flash, 0..end).err(), Some(StoreError::TooSmall));
    }
    flash.bytes.fill(0);
    assert_eq!(store(&mut flash).load(&mut |_| ()), Err(StoreError::Corrupted));
}
