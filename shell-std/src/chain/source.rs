//! A node whose chain was checked to be ours, and what became of the last question.

use super::{BitcoinRpc, ChainError, ChainSettings, Whereabouts, chain_name};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::headers::KnownHeader;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long it is taken for granted that the node follows the same chain. An error ends
/// it at once.
const TRUSTED_FOR: Duration = Duration::from_secs(60);

/// Answers what the best chain is, through a Bitcoin node; shared between threads.
#[derive(Debug)]
pub struct ChainSource {
    rpc: BitcoinRpc,
    network: Network,
    state: Mutex<SourceState>,
    asked: AtomicU64,
    unknown: AtomicU64,
    failed: AtomicU64,
}

/// What is known of the node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SourceState {
    /// It was not asked yet.
    #[default]
    Unchecked,
    /// It followed the right chain then.
    Good(Instant),
    /// The last question failed.
    Failed(ChainError),
}

impl ChainSource {
    /// A source that is not asked yet. The node must follow `network`.
    pub fn new(settings: ChainSettings, network: Network) -> Self {
        Self {
            rpc: BitcoinRpc::new(settings),
            network,
            state: Mutex::default(),
            asked: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// Where it asks; without credentials.
    pub fn url(&self) -> &str {
        self.rpc.url()
    }

    /// Longest time that a look-up may take.
    pub fn timeout(&self) -> Duration {
        self.rpc.timeout()
    }

    /// What is known of the node.
    pub fn state(&self) -> SourceState {
        self.lock().clone()
    }

    /// Look-ups so far: all, those of blocks that the node does not know, and those that
    /// failed.
    pub fn counts(&self) -> [u64; 3] {
        [&self.asked, &self.unknown, &self.failed].map(|n| n.load(Ordering::Relaxed))
    }

    /// Asks which chain the node follows. It blocks.
    ///
    /// # Errors
    /// Any; it is logged when it is another than before.
    pub fn check(&self, deadline: Instant) -> Result<(), ChainError> {
        let found = self.rpc.chain(deadline).map_err(|e| self.fails(e))?;
        if found != chain_name(self.network) {
            let found = found.chars().take(40).collect();
            return Err(self.fails(ChainError::WrongChain { found, network: self.network }));
        }
        let before = std::mem::replace(&mut *self.lock(), SourceState::Good(Instant::now()));
        if !matches!(before, SourceState::Good(_)) {
            tracing::info!(node = self.url(), chain = found, "blocks are looked up there");
        }
        Ok(())
    }

    /// What the best chain says of a block; `hash` in internal byte order. It blocks.
    ///
    /// # Errors
    /// Any; it is logged when it is another than before.
    pub fn look_up(
        &self,
        hash: &[u8; 32],
        deadline: Instant,
    ) -> Result<Option<KnownHeader>, ChainError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let known = self
            .trust(deadline)
            .and_then(|()| self.rpc.block_header(hash, deadline).map_err(|e| self.fails(e)));
        match &known {
            Ok(Some(_)) => {}
            Ok(None) => _ = self.unknown.fetch_add(1, Ordering::Relaxed),
            Err(_) => _ = self.failed.fetch_add(1, Ordering::Relaxed),
        }
        known
    }

    /// Has the node send a transaction, in hex, to the network. It blocks.
    ///
    /// # Errors
    /// Any.
    pub fn broadcast(&self, transaction: &str, deadline: Instant) -> Result<(), ChainError> {
        self.trust(deadline)?;
        self.rpc.broadcast(transaction, deadline)
    }

    /// Where a transaction is. It blocks.
    ///
    /// # Errors
    /// Any.
    pub fn look_up_transaction(
        &self,
        txid: &[u8; 32],
        deadline: Instant,
    ) -> Result<Whereabouts, ChainError> {
        self.trust(deadline)?;
        self.rpc.transaction(txid, deadline)
    }

    /// Makes sure that the node follows our chain.
    fn trust(&self, deadline: Instant) -> Result<(), ChainError> {
        let trusted = matches!(*self.lock(), SourceState::Good(at) if at.elapsed() < TRUSTED_FOR);
        if trusted { Ok(()) } else { self.check(deadline) }
    }

    fn fails(&self, error: ChainError) -> ChainError {
        let now = SourceState::Failed(error.clone());
        let before = std::mem::replace(&mut *self.lock(), now.clone());
        if before != now {
            tracing::warn!(
                node = self.url(),
                "no block can be looked up, so covenants are refused: {error}"
            );
        }
        error
    }

    fn lock(&self) -> MutexGuard<'_, SourceState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Auth;
    use super::super::fake::{Fake, Reply};
    use super::*;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    fn source(fake: &Fake, network: Network) -> ChainSource {
        let timeout = Duration::from_secs(20);
        ChainSource::new(ChainSettings { rpc_url: fake.url(), auth: Auth::None, timeout }, network)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_node_of_another_network_answers_nothing() {
        for network in Network::ALL {
            let names = ["main", "test", "testnet4", "signet", "regtest"];
            for (place, name) in names.into_iter().enumerate() {
                let fake = Fake::start(move |method, _| match method {
                    "getblockchaininfo" => Reply::result(json!({"chain": name, "blocks": 5})),
                    _ => Reply::error(-5, "Block not found"),
                });
                let source = source(&fake, network);
                let looked_up = source.look_up(&[1; 32], soon());
                if Network::ALL.get(place) == Some(&network) {
                    assert_eq!(looked_up, Ok(None));
                    assert_eq!(source.counts(), [1, 1, 0]);
                    continue;
                }
                let error = ChainError::WrongChain { found: name.into(), network };
                assert_eq!(looked_up, Err(error.clone()));
                assert_eq!(source.state(), SourceState::Failed(error));
                assert_eq!(source.counts(), [1, 0, 1]);
                assert_eq!(fake.methods(), ["getblockchaininfo"], "no block was asked for");
            }
        }
    }

    #[test]
    fn the_chain_is_asked_for_once_and_again_after_an_error() {
        let broken = Arc::new(AtomicUsize::new(0));
        let breaks = broken.clone();
        let fake = Fake::start(move |method, _| match (method, breaks.load(Ordering::SeqCst)) {
            ("getblockchaininfo", 0) => Reply::result(json!({"chain": "regtest"})),
            ("getblockchaininfo", _) => Reply::result(json!({"chain": "main"})),
            (_, 1) => Reply::error(-28, "Loading block index"),
            _ => Reply::error(-5, "Block not found"),
        });
        let source = source(&fake, Network::Regtest);
        assert_eq!(source.state(), SourceState::Unchecked);
        for _ in 0..3 {
            assert_eq!(source.look_up(&[1; 32], soon()), Ok(None));
        }
        let expected = ["getblockchaininfo", "getblockheader", "getblockheader", "getblockheader"];
        assert_eq!(fake.methods(), expected);
        assert!(matches!(source.state(), SourceState::Good(_)));
        // It was started anew behind our back, on another chain.
        broken.store(1, Ordering::SeqCst);
        assert!(matches!(source.look_up(&[1; 32], soon()), Err(ChainError::Rpc { .. })));
        let wrong = source.look_up(&[1; 32], soon());
        assert!(matches!(wrong, Err(ChainError::WrongChain { .. })), "{wrong:?}");
        broken.store(0, Ordering::SeqCst);
        assert_eq!(source.look_up(&[1; 32], soon()), Ok(None));
    }
}
