//! Look-ups of blocks for the engine, which waits for none of them.
//!
//! ```text
//! engine -- ask --> a bounded queue --> a few look-ups at once (they block, off the executor)
//!        <-------- one answer per block, for all that wait for it --------
//! ```

use crate::chain::{ChainError, ChainSource};
use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use blvm_mesh_core::mesh::Ticket;
use blvm_mesh_core::payment::headers::KnownHeader;
use smol::{Executor, Task, Timer};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Look-ups at once.
const AT_ONCE: usize = 4;
/// Blocks that wait for their look-up. Full: a further one counts as not known.
const MOST_QUEUED: usize = 64;
/// Answers kept. Full: all go.
const MOST_KEPT: usize = 1024;
/// How long the answer about a block of the best chain is kept. Every confirmation that
/// is asked for is worth much more than what can change meanwhile.
const KEPT: Duration = Duration::from_secs(5);
/// How long it is kept that a block is not known, or not in the best chain.
const UNKNOWN_KEPT: Duration = Duration::from_secs(1);
/// Pause between looks whether the node is there and on our chain.
const CHECK_PAUSE: Duration = Duration::from_secs(60);

/// What is logged with a transaction that was not broadcast.
const BY_HAND: &str = "a covenant was accepted: broadcast its transaction to be paid";

/// Hash of a block, in internal byte order.
pub(crate) type BlockHash = [u8; 32];
/// What the node says of a block.
pub(crate) type Answer = Result<Option<KnownHeader>, ChainError>;

/// What comes of asking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// This is the answer.
    Answer(Option<KnownHeader>),
    /// [`Chain::answered`] will give the ticket back.
    Later,
}

/// Which tickets wait for which block. Without a source no block is known.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    source: Option<Source>,
    waiting: HashMap<BlockHash, Vec<Ticket>>,
    kept: HashMap<BlockHash, (Instant, Option<KnownHeader>)>,
}

#[derive(Debug)]
struct Source {
    node: Arc<ChainSource>,
    queue: smol::channel::Sender<Question>,
    /// Transactions to broadcast, in hex.
    settlements: smol::channel::Sender<String>,
}

#[derive(Debug)]
struct Question {
    hash: BlockHash,
    deadline: Instant,
}

impl Chain {
    /// Starts the tasks that ask `node` and tell each answer, as long as that is `true`.
    pub(crate) fn start<F: Future<Output = bool> + Send + 'static>(
        node: &Arc<ChainSource>,
        tell: impl Fn(BlockHash, Answer) -> F + Clone + Send + 'static,
        executor: &Executor<'static>,
    ) -> (Self, Vec<Task<()>>) {
        let (queue, questions) = smol::channel::bounded(MOST_QUEUED);
        let mut tasks = vec![executor.spawn(watch(node.clone()))];
        for _ in 0..AT_ONCE {
            let work = work(node.clone(), questions.clone(), tell.clone());
            tasks.push(executor.spawn(work));
        }
        let (settlements, to_send) = smol::channel::bounded(MOST_QUEUED);
        tasks.push(executor.spawn(settle(node.clone(), to_send)));
        let source = Some(Source { node: node.clone(), queue, settlements });
        (Self { source, ..Self::default() }, tasks)
    }

    /// The node that is asked, if there is one.
    pub(crate) fn node(&self) -> Option<&ChainSource> {
        self.source.as_ref().map(|source| &*source.node)
    }

    /// Asks for a block.
    pub(crate) fn ask(&mut self, ticket: Ticket, hash: BlockHash) -> Asked {
        let Some(Source { node, queue, .. }) = &self.source else { return Asked::Answer(None) };
        let now = Instant::now();
        if let Some((until, answer)) = self.kept.get(&hash)
            && *until > now
        {
            return Asked::Answer(*answer);
        }
        match self.waiting.entry(hash) {
            Entry::Occupied(mut others) => others.get_mut().push(ticket),
            Entry::Vacant(none) => {
                let question = Question { hash, deadline: now + node.timeout() };
                if queue.try_send(question).is_err() {
                    return Asked::Answer(None);
                }
                none.insert(vec![ticket]);
            }
        }
        Asked::Later
    }

    /// An answer has come. Returns the tickets that waited for it.
    pub(crate) fn answered(&mut self, hash: &BlockHash, answer: &Answer) -> Vec<Ticket> {
        if let Ok(answer) = answer {
            let now = Instant::now();
            if self.kept.len() >= MOST_KEPT {
                self.kept.clear();
            }
            let best = answer.is_some_and(|known| known.confirmations > 0);
            let kept = if best { KEPT } else { UNKNOWN_KEPT };
            self.kept.insert(*hash, (now + kept, *answer));
        }
        self.waiting.remove(hash).unwrap_or_default()
    }

    /// Has a transaction broadcast that pays this node: it was accepted as payment, and
    /// nobody else need do it. Where that is not possible the log keeps it.
    pub(crate) fn settle(&self, transaction: &Transaction) {
        let hex = serialize_hex(transaction);
        let left = match &self.source {
            None => hex,
            Some(source) => match source.settlements.try_send(hex) {
                Ok(()) => return,
                Err(e) => e.into_inner(),
            },
        };
        tracing::warn!(transaction = left, "{BY_HAND}");
    }

    /// Forgets answers that are too old.
    pub(crate) fn housekeeping(&mut self) {
        let now = Instant::now();
        self.kept.retain(|_, (until, _)| *until > now);
    }
}

/// Sees at the start, and then from time to time, whether the node is there and on our
/// chain; what it finds is logged and shown in `stats`.
async fn watch(node: Arc<ChainSource>) {
    loop {
        let asked = node.clone();
        // Its error was logged.
        let _ = smol::unblock(move || asked.check(Instant::now() + asked.timeout())).await;
        Timer::after(CHECK_PAUSE).await;
    }
}

/// Asks one question after the other.
async fn work<F: Future<Output = bool>>(
    node: Arc<ChainSource>,
    questions: smol::channel::Receiver<Question>,
    tell: impl Fn(BlockHash, Answer) -> F,
) {
    while let Ok(Question { hash, deadline }) = questions.recv().await {
        let asked = node.clone();
        let answer = smol::unblock(move || asked.look_up(&hash, deadline)).await;
        if !tell(hash, answer).await {
            return;
        }
    }
}

/// Broadcasts one transaction after the other.
async fn settle(node: Arc<ChainSource>, settlements: smol::channel::Receiver<String>) {
    while let Ok(hex) = settlements.recv().await {
        let (asked, sent) = (node.clone(), hex.clone());
        let broadcast = move || asked.broadcast(&sent, Instant::now() + asked.timeout());
        match smol::unblock(broadcast).await {
            Ok(()) => tracing::debug!(transaction = hex, "a covenant's settlement is broadcast"),
            Err(error) => tracing::warn!(transaction = hex, "{BY_HAND} (the node: {error})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::fake::{Fake, Reply};
    use crate::chain::{Auth, ChainSettings};
    use blvm_mesh_core::id::Network;

    fn chain() -> (Chain, smol::channel::Receiver<Question>) {
        let fake = Fake::start(|_, _| Reply::Never);
        let timeout = Duration::from_secs(5);
        let settings = ChainSettings { rpc_url: fake.url(), auth: Auth::None, timeout };
        let node = Arc::new(ChainSource::new(settings, Network::Regtest));
        let (queue, questions) = smol::channel::bounded(MOST_QUEUED);
        let (settlements, _) = smol::channel::bounded(1);
        let source = Some(Source { node, queue, settlements });
        (Chain { source, ..Chain::default() }, questions)
    }

    fn known(confirmations: u32) -> Option<KnownHeader> {
        Some(KnownHeader { merkle_root: [3; 32], time: 4, confirmations })
    }

    #[test]
    fn without_a_node_no_block_is_known() {
        assert_eq!(Chain::default().ask(Ticket(1), [1; 32]), Asked::Answer(None));
    }

    #[test]
    fn one_question_per_block_and_one_answer_for_all() {
        let (mut chain, questions) = chain();
        for ticket in 1..4 {
            assert_eq!(chain.ask(Ticket(ticket), [1; 32]), Asked::Later);
        }
        assert_eq!(chain.ask(Ticket(9), [2; 32]), Asked::Later);
        assert_eq!(questions.len(), 2);
        let told = chain.answered(&[1; 32], &Ok(known(6)));
        assert_eq!(told, [Ticket(1), Ticket(2), Ticket(3)]);
        // It is kept for a while, and only for this block.
        assert_eq!(chain.ask(Ticket(10), [1; 32]), Asked::Answer(known(6)));
        assert_eq!(chain.ask(Ticket(11), [2; 32]), Asked::Later);
        assert_eq!(questions.len(), 2);
        chain.kept.get_mut(&[1; 32]).unwrap().0 = Instant::now();
        chain.housekeeping();
        assert!(chain.kept.is_empty());
        assert_eq!(chain.ask(Ticket(12), [1; 32]), Asked::Later);
        assert_eq!(questions.len(), 3);
        // A failure is not kept: the next one asks again.
        assert_eq!(chain.answered(&[2; 32], &Err(ChainError::Timeout)).len(), 2);
        assert_eq!(chain.ask(Ticket(13), [2; 32]), Asked::Later);
    }

    #[test]
    fn what_may_change_soon_is_kept_for_less_long() {
        let (mut chain, _questions) = chain();
        let answers = [known(1), known(0), None];
        for (i, answer) in (0..).zip(answers) {
            chain.answered(&[i; 32], &Ok(answer));
        }
        let until = |i: u8| chain.kept[&[i; 32]].0;
        assert!(until(0) > until(1) && until(0) > until(2));
    }

    #[test]
    fn a_full_queue_knows_nothing_and_what_is_kept_has_a_bound() {
        let (mut chain, questions) = chain();
        let hash = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&n.to_le_bytes());
            hash
        };
        for n in 0..MOST_QUEUED {
            assert_eq!(chain.ask(Ticket(n as u64), hash(n)), Asked::Later);
        }
        assert_eq!(chain.ask(Ticket(99), hash(99)), Asked::Answer(None));
        assert_eq!((questions.len(), chain.waiting.len()), (MOST_QUEUED, MOST_QUEUED));
        for n in 0..3 * MOST_KEPT {
            chain.answered(&hash(n), &Ok(None));
            assert!(chain.kept.len() <= MOST_KEPT);
        }
        assert!(chain.waiting.is_empty());
    }
}
