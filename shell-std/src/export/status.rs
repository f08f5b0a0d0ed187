//! What has become of the export, for `stats`, warnings and metrics.

use super::{ExportError, Target};
use crate::rpc::types::{ExportState, ExportStats};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long the same failure is not logged again.
const QUIET: Duration = Duration::from_secs(600);

/// The state of the export; shared between threads.
#[derive(Debug)]
pub struct ExportStatus {
    target: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    state: ExportState,
    booked: u64,
    pending: u64,
    failures: u64,
    error: Option<String>,
    error_at: Option<u64>,
    booked_at: Option<u64>,
    schema: Option<u64>,
    /// Since when something waits.
    behind: Option<Instant>,
    logged: Option<Instant>,
}

impl ExportStatus {
    pub(super) fn new(target: &Target) -> Self {
        Self { target: target.to_string(), inner: Mutex::default() }
    }

    /// What is told of it.
    pub fn stats(&self) -> ExportStats {
        let inner = self.lock();
        ExportStats {
            target: self.target.clone(),
            state: inner.state,
            booked: inner.booked,
            pending: inner.pending,
            behind_s: inner.behind.map_or(0, |since| since.elapsed().as_secs()),
            failures: inner.failures,
            error: inner.error.clone(),
            error_at: inner.error_at,
            booked_at: inner.booked_at,
            schema: inner.schema,
        }
    }

    pub(super) fn waits(&self, pending: u64) {
        let mut inner = self.lock();
        inner.pending = pending;
        match pending {
            0 => inner.behind = None,
            _ => _ = inner.behind.get_or_insert_with(Instant::now),
        }
    }

    pub(super) fn joined(&self, schema: i64) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.state, ExportState::Good);
        inner.schema = u64::try_from(schema).ok();
        (inner.error, inner.logged) = (None, None);
        if before != ExportState::Good {
            tracing::info!(database = self.target, "the ledger is booked there");
        }
    }

    pub(super) fn booked(&self, new: u64, unix: u64) {
        let mut inner = self.lock();
        inner.booked = inner.booked.saturating_add(new);
        inner.booked_at = Some(unix);
    }

    /// Notes why nothing is booked, and logs it: the first time, for another reason, and then every
    /// ten minutes.
    pub(super) fn failed(&self, error: &ExportError, unix: u64) {
        let mut inner = self.lock();
        let error = error.to_string();
        let is_known = inner.error.as_ref() == Some(&error)
            && inner.logged.is_some_and(|at| at.elapsed() < QUIET);
        inner.state = ExportState::Failed;
        inner.failures = inner.failures.saturating_add(1);
        inner.error_at = Some(unix);
        if !is_known {
            tracing::warn!(
                database = self.target,
                pending = inner.pending,
                "the ledger is not booked; it waits in the store: {error}"
            );
            inner.logged = Some(Instant::now());
        }
        inner.error = Some(error);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
