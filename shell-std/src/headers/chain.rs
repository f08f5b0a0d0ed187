//! The chain with most work.

use super::file::{HeaderFile, RECORD};
use super::root::{PERIOD, Root};
use super::rules::{Ancestors, Broken, Point, check, params};
use bitcoin::block::Header;
use bitcoin::consensus::{Params, deserialize, serialize};
use bitcoin::{BlockHash, CompactTarget, Target, Work};
use blvm_mesh_core::id::Network;
use std::collections::VecDeque;
use std::io;
use std::path::Path;

/// Headers of which hashes are at hand: two periods, four weeks.
const WINDOW: usize = 2 * PERIOD as usize;
/// Headers of another chain that has less work yet.
const MOST_BRANCH: usize = 50_000;
/// Headers read from the file at once.
const AT_ONCE: usize = 2016;
/// By how much a locator's steps grow. A locator goes over radio, too: it names few blocks, and after a
/// reorganisation a few headers come again.
const STEPS: u32 = 4;

/// What headers have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// All were known.
    Nothing,
    /// The chain is longer: this height and all after it are new.
    Longer { from: u32 },
    /// They make another chain, with less work so far.
    Branch,
    /// Another chain has more work: this height and all after it are new.
    Reorganised { from: u32 },
}

/// Why headers are not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// What they follow is not known: a locator asks for those between.
    #[error("they do not follow a block that is known")]
    Disconnected,
    /// One of them is wrong; those before it are taken.
    #[error("header {hash} at height {height}: {why}")]
    Broken { height: u32, hash: BlockHash, why: Broken },
    /// They are of another chain, which remains behind this one.
    #[error("they make a chain that has less work after {MOST_BRANCH} headers")]
    Behind,
    #[error("the headers cannot be kept: {0}")]
    Io(#[from] io::Error),
}

/// A block that the chain leads to.
#[derive(Debug, Clone, Copy)]
struct Block {
    hash: BlockHash,
    point: Point,
}

/// Another chain, from a block of ours on.
#[derive(Debug)]
struct Branch {
    /// Height of that block.
    fork: u32,
    headers: Vec<Header>,
    tip: BlockHash,
    work: Work,
}

/// The headers after the checkpoint.
#[derive(Debug)]
pub(crate) struct Chain {
    network: Network,
    params: Params,
    root: Root,
    file: HeaderFile,
    /// How many there are.
    count: u32,
    /// The newest of them, the tip last.
    window: VecDeque<Block>,
    branch: Option<Branch>,
    reorganisations: u64,
}

fn work(bits: CompactTarget) -> Work {
    Target::from_compact(bits).to_work()
}

fn no_work() -> Work {
    Work::from_be_bytes([0; 32])
}

fn raw(header: &Header) -> [u8; RECORD] {
    serialize(header).try_into().unwrap_or([0; RECORD])
}

/// A chain with a branch in place of what follows its fork.
struct Along<'a>(&'a Chain, Option<&'a Branch>);

impl Ancestors for Along<'_> {
    fn point(&self, height: u32) -> Option<Point> {
        let Self(chain, branch) = self;
        match branch {
            Some(branch) if height > branch.fork => {
                let at = usize::try_from(height - branch.fork - 1).ok()?;
                branch.headers.get(at).map(Point::from)
            }
            _ => chain.point(height),
        }
    }

    fn root(&self) -> (u32, Option<CompactTarget>) {
        (self.0.root.height, self.0.root.next_bits)
    }
}

impl Chain {
    /// The chain in a file, which is made where there is none. All of it is checked again; what does
    /// not hold is cut off. It may block, for a second and more where there are many headers.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub(crate) fn open(path: &Path, network: Network, root: Root) -> io::Result<Self> {
        let mut chain = Self {
            network,
            params: params(network),
            root,
            file: HeaderFile::open(path, &root)?,
            count: 0,
            window: VecDeque::new(),
            branch: None,
            reorganisations: 0,
        };
        let mut buffer = vec![[0; RECORD]; AT_ONCE];
        while chain.count < chain.file.len() {
            let count = AT_ONCE.min((chain.file.len() - chain.count) as usize);
            let part = buffer.get_mut(..count).unwrap_or_default();
            chain.file.read(chain.count, part)?;
            for record in part {
                let header: Header = deserialize(record).map_err(io::Error::other)?;
                if let Err(error) = chain.step(&header, None) {
                    tracing::warn!(
                        path = %path.display(),
                        "kept headers do not hold, and are asked for again: {error}"
                    );
                    chain.file.truncate(chain.count)?;
                    return Ok(chain);
                }
            }
        }
        Ok(chain)
    }

    /// Checks a header that is to follow the tip, and moves the tip to it.
    fn step(&mut self, header: &Header, now: Option<u64>) -> Result<(), Refused> {
        if header.prev_blockhash != self.tip() {
            return Err(Refused::Disconnected);
        }
        let height = self.height().saturating_add(1);
        let checked = check(self.network, &self.params, &Along(self, None), (height, header), now);
        let hash = checked.map_err(|why| broken(height, header, why))?;
        self.push(Block { hash, point: header.into() });
        Ok(())
    }

    fn push(&mut self, block: Block) {
        if self.window.len() >= WINDOW {
            self.window.pop_front();
        }
        self.window.push_back(block);
        self.count = self.count.saturating_add(1);
    }

    /// Forgets all headers above a height, but not in the file.
    fn back_to(&mut self, height: u32) {
        let count = height.saturating_sub(self.root.height);
        while self.count > count {
            self.window.pop_back();
            self.count -= 1;
        }
    }

    /// The height of the checkpoint.
    pub(crate) fn root_height(&self) -> u32 {
        self.root.height
    }

    /// The height of the newest block.
    pub(crate) fn height(&self) -> u32 {
        self.root.height.saturating_add(self.count)
    }

    /// The hash of the newest block.
    pub(crate) fn tip(&self) -> BlockHash {
        match self.window.back() {
            Some(block) => block.hash,
            None => self.hash_at(self.height()).unwrap_or(self.root.hash),
        }
    }

    /// The time in the newest header, in seconds since 1970, if it is known.
    pub(crate) fn time(&self) -> Option<u32> {
        self.point(self.height()).map(|point| point.time)
    }

    /// How often another chain had more work.
    pub(crate) fn reorganisations(&self) -> u64 {
        self.reorganisations
    }

    fn in_window(&self, height: u32) -> Option<&Block> {
        let from_tip = usize::try_from(self.height().checked_sub(height)?).ok()?;
        self.window.get(self.window.len().checked_sub(1 + from_tip)?)
    }

    /// The header at a height; `None`: it is not above the checkpoint, or cannot be read.
    pub(crate) fn header(&self, height: u32) -> Option<Header> {
        if height == self.root.height {
            return self.root.header;
        }
        let number = height.checked_sub(self.root.height)?.checked_sub(1)?;
        let mut record = [[0; RECORD]];
        let known = number < self.count && self.file.read(number, &mut record).is_ok();
        let [record] = record;
        deserialize(&record).ok().filter(|_| known)
    }

    fn point(&self, height: u32) -> Option<Point> {
        let near = self.in_window(height).map(|block| block.point);
        near.or_else(|| Some((&self.header(height)?).into()))
    }

    fn hash_at(&self, height: u32) -> Option<BlockHash> {
        if height == self.root.height {
            return Some(self.root.hash);
        }
        let near = self.in_window(height).map(|block| block.hash);
        near.or_else(|| Some(self.header(height)?.block_hash()))
    }

    /// The height of a block of the chain, as far as its hash is at hand: it is one of the newest, or
    /// named by the locator.
    pub(crate) fn find(&self, hash: &BlockHash) -> Option<u32> {
        let near = self.window.iter().rev().position(|block| block.hash == *hash);
        if let Some(from_tip) = near {
            return self.height().checked_sub(u32::try_from(from_tip).ok()?);
        }
        self.locator_heights().find(|height| self.hash_at(*height) == Some(*hash))
    }

    /// The newest blocks, then ever fewer, down to the checkpoint.
    fn locator_heights(&self) -> impl Iterator<Item = u32> + use<> {
        let (root, mut next, mut step) = (self.root.height, Some(self.height()), 1);
        std::iter::from_fn(move || {
            let height = next?;
            next = (height > root).then(|| height.saturating_sub(step).max(root));
            step = step.saturating_mul(STEPS);
            Some(height)
        })
    }

    /// What a `getheaders` message names, so that its answer follows a block that is known.
    pub(crate) fn locator(&self) -> Vec<BlockHash> {
        let branch = self.branch.iter().map(|branch| branch.tip);
        let ours = self.locator_heights().filter_map(|height| self.hash_at(height));
        branch.chain(ours).collect()
    }

    /// Takes headers, each of which follows the one before. `now` is in seconds since 1970. It may
    /// block.
    ///
    /// # Errors
    /// [`Refused`]: they, or the rest of them, are not taken.
    pub(crate) fn accept(&mut self, headers: &[Header], now: u64) -> Result<Change, Refused> {
        let Some(first) = headers.first() else { return Ok(Change::Nothing) };
        let before = first.prev_blockhash;
        if self.branch.as_ref().is_some_and(|branch| branch.tip == before)
            && let Some(branch) = self.branch.take()
        {
            return self.follow(branch, headers, now);
        }
        let mut fork = self.find(&before).ok_or(Refused::Disconnected)?;
        let mut rest = headers;
        while let Some((next, others)) = rest.split_first()
            && self.hash_at(fork.saturating_add(1)) == Some(next.block_hash())
        {
            (fork, rest) = (fork.saturating_add(1), others);
        }
        if rest.is_empty() {
            return Ok(Change::Nothing);
        }
        if fork == self.height() {
            return self.extend(rest, now);
        }
        let tip = self.hash_at(fork).ok_or(Refused::Disconnected)?;
        self.follow(Branch { fork, headers: Vec::new(), tip, work: no_work() }, rest, now)
    }

    /// Takes headers that follow the tip.
    fn extend(&mut self, headers: &[Header], now: u64) -> Result<Change, Refused> {
        let before = self.height();
        let result = headers.iter().try_for_each(|header| self.step(header, Some(now)));
        let good = (self.height() - before) as usize;
        let records: Vec<_> = headers.iter().take(good).map(raw).collect();
        if let Err(error) = self.file.append(&records) {
            self.back_to(before);
            return Err(error.into());
        }
        result.map(|()| Change::Longer { from: before.saturating_add(1) })
    }

    /// Takes headers that follow a branch, and the branch if it has most work then.
    fn follow(
        &mut self,
        mut branch: Branch,
        headers: &[Header],
        now: u64,
    ) -> Result<Change, Refused> {
        let mut result = Ok(());
        for header in headers {
            let added = u32::try_from(branch.headers.len()).unwrap_or(u32::MAX);
            let height = branch.fork.saturating_add(added).saturating_add(1);
            if header.prev_blockhash != branch.tip {
                result = Err(Refused::Disconnected);
                break;
            }
            let along = Along(self, Some(&branch));
            match check(self.network, &self.params, &along, (height, header), Some(now)) {
                Ok(hash) => {
                    branch.tip = hash;
                    branch.work = branch.work + work(header.bits);
                    branch.headers.push(*header);
                }
                Err(why) => {
                    result = Err(broken(height, header, why));
                    break;
                }
            }
        }
        if branch.work > self.work_after(branch.fork) {
            let from = branch.fork.saturating_add(1);
            self.switch(branch)?;
            return result.map(|()| Change::Reorganised { from });
        }
        if branch.headers.len() > MOST_BRANCH {
            return Err(Refused::Behind);
        }
        self.branch = Some(branch).filter(|branch| !branch.headers.is_empty());
        result.map(|()| Change::Branch)
    }

    /// The work after a block.
    fn work_after(&self, height: u32) -> Work {
        (height.saturating_add(1)..=self.height())
            .filter_map(|height| self.point(height))
            .fold(no_work(), |sum, point| sum + work(point.bits))
    }

    fn switch(&mut self, branch: Branch) -> Result<(), Refused> {
        // If the rest fails the chain ends at the fork, and the headers after it come again.
        self.back_to(branch.fork);
        self.file.truncate(self.count)?;
        let records: Vec<_> = branch.headers.iter().map(raw).collect();
        self.file.append(&records)?;
        for header in &branch.headers {
            self.push(Block { hash: header.block_hash(), point: header.into() });
        }
        self.reorganisations += 1;
        Ok(())
    }
}

fn broken(height: u32, header: &Header, why: Broken) -> Refused {
    Refused::Broken { height, hash: header.block_hash(), why }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
