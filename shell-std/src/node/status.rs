//! The latest results of the dialers, for status reports.

use blvm_mesh_core::id::NodeId;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long the same failure of the same neighbour is not logged again.
const QUIET: Duration = Duration::from_secs(600);
/// How long another failure is not.
const OTHER: Duration = Duration::from_secs(10);

/// The last failure of each configured neighbour that is not connected.
#[derive(Debug, Default)]
pub(crate) struct DialStatus {
    failures: Mutex<HashMap<NodeId, Failure>>,
    /// How many there were.
    count: AtomicU64,
}

#[derive(Debug, Clone)]
struct Failure {
    at: Instant,
    error: String,
    /// When one was last logged, and how many there were since.
    logged: Option<Instant>,
    silent: u64,
    /// Whether there was a link at any time.
    was_linked: bool,
}

impl Failure {
    fn none(at: Instant) -> Self {
        Self { at, error: String::new(), logged: None, silent: 0, was_linked: false }
    }
}

impl DialStatus {
    /// What the dialers and the engine report about these neighbours, and no others.
    pub(crate) fn new(configured: impl Iterator<Item = NodeId>) -> Self {
        let now = Instant::now();
        let none = |peer| (peer, Failure::none(now));
        Self { failures: Mutex::new(configured.map(none).collect()), count: AtomicU64::new(0) }
    }

    /// Takes reports about these neighbours from now on, and no others.
    pub(crate) fn set(&self, configured: impl Iterator<Item = NodeId>) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut *failures);
        let now = Instant::now();
        let mut known = |peer| before.remove(&peer).unwrap_or_else(|| Failure::none(now));
        let all: HashMap<_, _> = configured.map(|peer| (peer, known(peer))).collect();
        *failures = all;
    }

    /// Notes why there is no link with a configured neighbour, and logs it: the first time, for a
    /// new reason, and then every ten minutes.
    pub(crate) fn failed(&self, peer: NodeId, address: &str, error: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failure) = failures.get_mut(&peer) else { return };
        self.count.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        failure.at = now;
        let pause = if failure.error == error { QUIET } else { OTHER };
        failure.error = error;
        if failure.logged.is_some_and(|at| at + pause > now) {
            failure.silent += 1;
            return;
        }
        let (more, error) = (std::mem::take(&mut failure.silent), &failure.error);
        tracing::warn!(%peer, address, failures_not_logged = more, "cannot connect: {error}");
        failure.logged = Some(now);
    }

    /// Notes why there is no link, where somebody else logs it.
    pub(crate) fn note(&self, peer: NodeId, error: String) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failures.get_mut(&peer) {
            (failure.at, failure.error) = (Instant::now(), error);
        }
    }

    /// There is a link, and its neighbour has said hello.
    pub(crate) fn linked(&self, peer: &NodeId) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = failures.get_mut(peer) {
            failure.error.clear();
            failure.logged = None;
            failure.was_linked = true;
        }
    }

    /// How many failures of configured neighbours there were.
    pub(crate) fn failures(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// When the last attempt failed, and why.
    pub(crate) fn last(&self, peer: &NodeId) -> Option<(Instant, String)> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.get(peer).filter(|failure| !failure.error.is_empty())?;
        Some((failure.at, failure.error.clone()))
    }

    /// Why there was never a link with a configured neighbour, where that is so.
    pub(crate) fn never_linked(&self, peer: &NodeId) -> Option<String> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = failures.get(peer).filter(|failure| !failure.was_linked)?;
        Some(match failure.error.is_empty() {
            true => "it gives no answer".to_owned(),
            false => failure.error.clone(),
        })
    }
}
