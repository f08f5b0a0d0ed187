use super::super::mine;
use super::*;
use bitcoin::hashes::Hash;
use std::fs;

const NOW: u64 = 2_000_000_000;

fn easy() -> CompactTarget {
    CompactTarget::from_consensus(0x207f_ffff)
}

/// So many headers on a block, all with this tag.
fn on(previous: BlockHash, time: u32, tag: u8, count: u32) -> Vec<Header> {
    let mut tip = previous;
    (1..=count)
        .map(|n| {
            let header = mine(tip, time + n, easy(), tag);
            tip = header.block_hash();
            header
        })
        .collect()
}

struct Made {
    dir: tempfile::TempDir,
    chain: Chain,
}

fn open(dir: &Path) -> Chain {
    Chain::open(&dir.join("headers"), Network::Regtest, Root::of(Network::Regtest)).unwrap()
}

fn made() -> Made {
    let dir = tempfile::tempdir().unwrap();
    let chain = open(dir.path());
    Made { dir, chain }
}

fn start(chain: &Chain) -> (BlockHash, u32) {
    (chain.root.hash, chain.root.header.unwrap().time)
}

#[test]
fn headers_are_followed_and_kept() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    let headers = on(root, time, 1, 30);
    assert_eq!(chain.accept(&headers[..10], NOW).unwrap(), Change::Longer { from: 1 });
    assert_eq!(chain.accept(&headers[5..], NOW).unwrap(), Change::Longer { from: 11 });
    assert_eq!(chain.accept(&headers[..20], NOW).unwrap(), Change::Nothing);
    assert_eq!(chain.accept(&[], NOW).unwrap(), Change::Nothing);
    assert_eq!((chain.height(), chain.tip()), (30, headers[29].block_hash()));
    assert_eq!((chain.header(30), chain.header(31)), (Some(headers[29]), None));
    assert_eq!(chain.find(&headers[11].block_hash()), Some(12));
    assert_eq!(chain.time(), Some(headers[29].time));
    let (tip, locator) = (chain.tip(), chain.locator());
    drop(chain);
    let chain = open(dir.path());
    assert_eq!((chain.height(), chain.tip(), chain.locator()), (30, tip, locator));
}

#[test]
fn what_does_not_follow_or_hold_is_refused_and_what_is_before_it_taken() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    let headers = on(root, time, 1, 12);
    assert!(matches!(chain.accept(&headers[1..], NOW), Err(Refused::Disconnected)));
    let mut gap = headers.clone();
    gap.remove(3);
    assert!(matches!(chain.accept(&gap, NOW), Err(Refused::Disconnected)));
    assert_eq!(chain.height(), 3);
    let mut bad = headers.clone();
    bad[7].nonce += 1;
    while bad[7].validate_pow(bad[7].target()).is_ok() {
        bad[7].nonce += 1;
    }
    let refused = chain.accept(&bad, NOW).unwrap_err();
    assert!(matches!(refused, Refused::Broken { height: 8, why: Broken::Work, .. }), "{refused}");
    assert_eq!((chain.height(), open(dir.path()).height()), (7, 7));
    let late = mine(chain.tip(), NOW as u32 + 7201, easy(), 1);
    assert!(matches!(chain.accept(&[late], NOW), Err(Refused::Broken { why: Broken::Late, .. })));
    // The clock is not asked about what was kept.
    chain.accept(&[late], NOW + 1).unwrap();
    assert_eq!(open(dir.path()).height(), 8);
}

#[test]
fn the_chain_with_most_work_is_followed() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    let ours = on(root, time, 1, 20);
    chain.accept(&ours, NOW).unwrap();
    // Six blocks are replaced, over several messages.
    let fork = ours[13].block_hash();
    let theirs = on(fork, ours[13].time, 2, 8);
    assert_eq!(chain.accept(&theirs[..3], NOW).unwrap(), Change::Branch);
    assert_eq!(chain.accept(&theirs[3..6], NOW).unwrap(), Change::Branch, "as much work only");
    assert_eq!(chain.tip(), ours[19].block_hash());
    assert_eq!(chain.accept(&theirs[6..], NOW).unwrap(), Change::Reorganised { from: 15 });
    assert_eq!((chain.height(), chain.tip()), (22, theirs[7].block_hash()));
    assert_eq!(chain.find(&ours[14].block_hash()), None);
    assert_eq!(chain.find(&theirs[0].block_hash()), Some(15));
    assert_eq!(chain.reorganisations(), 1);
    // And back again.
    let more = on(ours[19].block_hash(), ours[19].time, 1, 3);
    assert!(matches!(chain.accept(&more, NOW), Err(Refused::Disconnected)));
    let all: Vec<_> = ours[10..].iter().chain(&more).copied().collect();
    assert_eq!(chain.accept(&all, NOW).unwrap(), Change::Reorganised { from: 15 });
    assert_eq!((chain.height(), chain.tip()), (23, more[2].block_hash()));
    let again = open(dir.path());
    assert_eq!((again.height(), again.tip()), (23, more[2].block_hash()));
}

#[test]
fn a_branch_ends_where_it_breaks_and_may_have_most_work_all_the_same() {
    let Made { mut chain, .. } = made();
    let (root, time) = start(&chain);
    let ours = on(root, time, 1, 5);
    chain.accept(&ours, NOW).unwrap();
    let mut theirs = on(ours[2].block_hash(), ours[2].time, 2, 5);
    theirs[3] = mine(theirs[2].block_hash(), 1, easy(), 2);
    let refused = chain.accept(&theirs, NOW).unwrap_err();
    assert!(matches!(refused, Refused::Broken { height: 7, why: Broken::Early, .. }), "{refused}");
    assert_eq!((chain.height(), chain.tip()), (6, theirs[2].block_hash()));
}

#[test]
fn old_blocks_are_found_by_the_locator_and_a_long_chain_is_replaced() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    let count = WINDOW as u32 + 300;
    let ours = on(root, time, 1, count);
    chain.accept(&ours, NOW).unwrap();
    assert_eq!(chain.window.len(), WINDOW);
    let locator = chain.locator();
    assert_eq!((locator[0], *locator.last().unwrap()), (chain.tip(), root));
    assert_eq!(locator.len(), 8);
    assert!(locator.iter().all(|hash| chain.find(hash).is_some()));
    assert_eq!(chain.find(&ours[100].block_hash()), None, "it is before the window");
    assert_eq!(chain.header(1), Some(ours[0]));
    // A chain from the root on that is longer by one.
    let theirs = on(root, time, 2, count + 1);
    let (last, most) = theirs.split_last().unwrap();
    for part in most.chunks(super::super::MOST_IN_MESSAGE) {
        assert_eq!(chain.accept(part, NOW).unwrap(), Change::Branch);
    }
    assert_eq!(chain.accept(&[*last], NOW).unwrap(), Change::Reorganised { from: 1 });
    assert_eq!((chain.height(), chain.window.len()), (count + 1, WINDOW));
    assert_eq!(open(dir.path()).tip(), chain.tip());
}

#[test]
fn a_file_that_was_damaged_is_cut_where_it_does_not_hold() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    let headers = on(root, time, 1, 30);
    chain.accept(&headers, NOW).unwrap();
    let path = dir.path().join("headers");
    let whole = fs::read(&path).unwrap();
    for (place, height) in [(80 * 13 + 5, 12), (80 * 30 + 73, 29)] {
        let mut bytes = whole.clone();
        bytes[place] ^= 0xff;
        fs::write(&path, bytes).unwrap();
        let mut chain = open(dir.path());
        assert_eq!(chain.height(), height);
        chain.accept(&headers, NOW).unwrap();
        assert_eq!(open(dir.path()).height(), 30);
    }
    // At each length that a crash can leave.
    for len in (0..whole.len()).step_by(7) {
        fs::write(&path, &whole[..len]).unwrap();
        let mut chain = open(dir.path());
        assert_eq!(chain.height() as usize, (len / 80).saturating_sub(1));
        chain.accept(&headers, NOW).unwrap();
        assert_eq!(chain.height(), 30);
    }
}

#[test]
fn another_checkpoint_is_another_chain() {
    let Made { dir, mut chain } = made();
    let (root, time) = start(&chain);
    chain.accept(&on(root, time, 1, 3), NOW).unwrap();
    let first = mine(BlockHash::all_zeros(), time, easy(), 9);
    let text = format!("4032:{}", hex::encode(serialize(&first)));
    let other = Root::parse(&text, Network::Regtest).unwrap();
    let mut chain = Chain::open(&dir.path().join("headers"), Network::Regtest, other).unwrap();
    assert_eq!((chain.height(), chain.root_height()), (4032, 4032));
    assert_eq!(chain.tip(), first.block_hash());
    chain.accept(&on(first.block_hash(), time, 1, 20), NOW).unwrap();
    assert_eq!((chain.height(), chain.locator().last()), (4052, Some(&first.block_hash())));
}
