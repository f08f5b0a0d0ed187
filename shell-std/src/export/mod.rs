//! The ledger of several nodes in one PostgreSQL database.
//!
//! Each node keeps its own store. What is in its ledger is booked in the database besides: each line
//! once, whatever ends in the middle. The node marks what is not booked in the transaction that
//! writes it ([`Outbox`]); lines go in batches, each a transaction, under keys that a line has only once; and
//! marks are taken away after the database has confirmed the transaction. What was cut before
//! that is sent again, and changes nothing if it is there.
//!
//! ```text
//! store: ledger + marks  -->  exporter (a thread)  -->  books: one transaction a batch  -->  session: messages  -->  socket, TLS
//! ```
//!
//! The thread blocks, with a time limit on each step. No task of the node waits for it, and the node goes
//! on without the database.

mod books;
mod error;
mod exporter;
mod login;
mod schema;
mod session;
mod socket;
mod status;
mod target;

pub use books::{Books, Inspection};
pub use error::ExportError;
pub use exporter::{Exporter, book_all};
pub use schema::MIGRATIONS;
pub use socket::Stop;
pub use status::ExportStatus;
pub use target::{Place, Target};

use crate::rpc::types::{LedgerEntry, Purchase, Sale};
use std::path::PathBuf;
use std::time::Duration;

/// Where the ledger is booked, and how this node is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// The database.
    pub target: Target,
    /// File with the password, if the server wants one.
    pub password: Option<PathBuf>,
    /// File with the certificate that it must show, or its issuer's; none: one that the system
    /// trusts.
    pub certificate: Option<PathBuf>,
    /// Longest that connecting, logging in or one exchange may take.
    pub step: Duration,
}

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A payment that came with a datagram, or went with one.
    Payment(LedgerEntry),
    /// Bytes of flows that others bought here.
    Sale(Sale),
    /// Bytes of flows that this node bought, once it is known that they were paid.
    Purchase(Purchase),
}

/// Lines to book in one transaction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The lines.
    pub lines: Vec<Line>,
    /// What is to be told to the outbox once they are booked.
    pub booked: Booked,
    /// Whether there is nothing to do at all.
    pub is_empty: bool,
}

/// Where a line is kept: table, time and payment.
pub type LineKey = (u8, u64, [u8; 32]);

/// What of an outbox a batch is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Booked {
    /// Number of the walk over the ledger.
    pub walk: u64,
    /// Where that goes on: table, time and payment.
    pub walked_to: LineKey,
    /// How many lines of the batch are its.
    pub passed: u64,
    /// Marks, and how often each line had changed by then.
    pub marks: Vec<(LineKey, u64)>,
}

/// What is not booked yet. Its functions may block.
pub trait Outbox: Send + Sync + 'static {
    /// The next lines, at most so many. The same come again until they are [booked](Self::booked).
    ///
    /// # Errors
    /// Why the store cannot be read.
    fn next(&self, most: usize) -> Result<Batch, String>;

    /// These are booked, by the database's transaction of this number. A line that has changed
    /// meanwhile comes again. After a crash the same may come again too.
    ///
    /// # Errors
    /// Why the store cannot be written: then the same come again.
    fn booked(&self, booked: &Booked, batch: u64) -> Result<(), String>;

    /// What was booked so far is on the disk when this returns: a crash brings none of it again.
    ///
    /// # Errors
    /// Why the store cannot be written.
    fn settle(&self) -> Result<(), String>;

    /// This is the database, and so many transactions of this node it has. If it is another
    /// than before, or has fewer, as one restored from a backup has, all lines come again; then this says
    /// true.
    ///
    /// # Errors
    /// Why the store cannot be written.
    fn joined(&self, database: [u8; 16], batch: u64) -> Result<bool, String>;

    /// How many lines wait. While the ledger is walked over, some that are booked already or cannot be
    /// yet may count too.
    ///
    /// # Errors
    /// Why the store cannot be read.
    fn pending(&self) -> Result<u64, String>;
}
