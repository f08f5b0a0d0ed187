//! The thread that books what the ledger gets.

use super::{Books, ExportError, ExportSettings, ExportStatus, Outbox, Stop};
use crate::issuer::unix_now;
use crate::jitter::jittered;
use blvm_mesh_core::id::{Network, NodeId};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Most lines in one transaction.
const BATCH: usize = 256;
/// How often is looked for new lines.
const LOOK: Duration = Duration::from_secs(1);
/// The first pause after a failure; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// Books the ledger of a node while it runs.
#[derive(Debug)]
pub struct Exporter {
    stop: Stop,
    /// Dropped, it wakes the thread.
    wake: Sender<()>,
    thread: JoinHandle<()>,
    status: Arc<ExportStatus>,
}

impl Exporter {
    /// Starts the thread. It connects at once, so that what is wrong is known, and then while there is
    /// something to book.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        settings: ExportSettings,
        node: (NodeId, Network),
        outbox: Arc<dyn Outbox>,
    ) -> io::Result<Self> {
        let status = Arc::new(ExportStatus::new(&settings.target));
        if settings.target.is_plain() {
            tracing::warn!(
                "the ledger goes to its database without TLS: others on the way can read who paid for \
                 what (sslmode=verify-full in ledger.export)"
            );
        }
        let stop = Stop::default();
        let (wake, woken) = channel();
        let clerk = Clerk {
            settings,
            node,
            outbox,
            status: status.clone(),
            stop: stop.clone(),
            books: None,
            used: Instant::now(),
            has_joined: false,
        };
        let thread = std::thread::Builder::new()
            .name("ledger-export".into())
            .spawn(move || clerk.run(&woken))?;
        Ok(Self { stop, wake, thread, status })
    }

    /// What becomes of it.
    pub fn status(&self) -> &Arc<ExportStatus> {
        &self.status
    }

    /// Ends the thread within a moment. What is not booked is booked at the next start. It blocks.
    pub fn stop(self) {
        self.stop.set();
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread that books the ledger panicked");
        }
    }
}

/// Books everything that waits now, and says how many lines were new. It blocks.
///
/// # Errors
/// [`ExportError`]: what was booked until then is.
pub fn book_all(
    settings: &ExportSettings,
    node: (NodeId, Network),
    outbox: &dyn Outbox,
) -> Result<u64, ExportError> {
    let mut books = Books::join(settings, node, outbox, &Stop::default())?;
    let mut new = 0;
    while let Some(booked) = book_next(&mut books, outbox)? {
        new += booked;
    }
    books.end();
    outbox.settle().map_err(ExportError::Store)?;
    Ok(new)
}

/// Books a batch, and says how many of its lines were new; `None`: there is nothing to book.
fn book_next(books: &mut Books, outbox: &dyn Outbox) -> Result<Option<u64>, ExportError> {
    let batch = outbox.next(BATCH).map_err(ExportError::Store)?;
    if batch.is_empty {
        return Ok(None);
    }
    let new = match batch.lines.is_empty() {
        true => 0,
        false => books.book(&batch)?,
    };
    outbox.booked(&batch.booked, books.batch()).map_err(ExportError::Store)?;
    Ok(Some(new))
}

/// What the thread has.
struct Clerk {
    settings: ExportSettings,
    node: (NodeId, Network),
    outbox: Arc<dyn Outbox>,
    status: Arc<ExportStatus>,
    stop: Stop,
    books: Option<Books>,
    /// When there was last something to book.
    used: Instant,
    has_joined: bool,
}

impl Clerk {
    fn run(mut self, woken: &Receiver<()>) {
        let mut pause = FIRST_PAUSE;
        let mut next = Instant::now();
        loop {
            self.count();
            if Instant::now() >= next {
                match self.book() {
                    Ok(()) => (pause, next) = (FIRST_PAUSE, Instant::now()),
                    Err(ExportError::Stopping) => return,
                    Err(error) => {
                        self.status.failed(&error, unix_now());
                        next = Instant::now() + jittered(pause);
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
                self.count();
            }
            if woken.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        if let Some(books) = self.books.take() {
            books.end();
            if let Err(error) = self.outbox.settle() {
                tracing::debug!("what was booked last is booked again at the next start: {error}");
            }
        }
    }

    fn count(&self) {
        // If it cannot be read, booking says why.
        if let Ok(pending) = self.outbox.pending() {
            self.status.waits(pending);
        }
    }

    /// Books all that waits.
    fn book(&mut self) -> Result<(), ExportError> {
        // One that has waited for something to do may have died meanwhile.
        let mut was_kept = self.books.is_some();
        loop {
            let Some(mut books) = self.connected()? else { return Ok(()) };
            match book_next(&mut books, &*self.outbox) {
                Ok(Some(new)) => {
                    was_kept = false;
                    self.used = Instant::now();
                    self.status.booked(new, unix_now());
                    self.books = Some(books);
                    self.count();
                }
                Ok(None) => {
                    match self.used.elapsed() < IDLE {
                        true => self.books = Some(books),
                        false => {
                            books.end();
                            self.outbox.settle().map_err(ExportError::Store)?;
                        }
                    }
                    return Ok(());
                }
                Err(error) if was_kept && error.is_cut() => was_kept = false,
                Err(error) => return Err(error),
            }
            if self.stop.is_set() {
                return Err(ExportError::Stopping);
            }
        }
    }

    /// The connection, if there is something to book by it.
    fn connected(&mut self) -> Result<Option<Books>, ExportError> {
        if let Some(books) = self.books.take() {
            return Ok(Some(books));
        }
        let waits = self.outbox.pending().map_err(ExportError::Store)? > 0;
        if self.has_joined && !waits {
            return Ok(None);
        }
        let books = Books::join(&self.settings, self.node, &*self.outbox, &self.stop)?;
        self.has_joined = true;
        self.status.joined(books.schema());
        Ok(Some(books))
    }
}
