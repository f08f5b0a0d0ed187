//! What is told of the database into which the ledger is booked.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In the answer of `getstats`: the ledger in a database of several nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ExportStats {
    /// Which database, without a password.
    pub target: String,
    /// Whether the ledger is booked there.
    pub state: ExportState,
    /// Lines that were new there, since the start.
    pub booked: u64,
    /// Lines of the ledger that wait. While the whole is booked for the first time, purchases whose outcome
    /// is not known may count too.
    pub pending: u64,
    /// For how many seconds some have waited all the time; 0: none waits.
    pub behind_s: u64,
    /// Attempts that failed, since the start.
    pub failures: u64,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
    /// When one failed last, in seconds since 1970.
    pub error_at: Option<u64>,
    /// When lines were booked last, in seconds since 1970.
    pub booked_at: Option<u64>,
    /// Version of the tables there, once it is known.
    pub schema: Option<u64>,
}

/// Whether the ledger is booked in the database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExportState {
    /// It was not tried yet.
    #[default]
    Unchecked,
    /// It is.
    Good,
    /// The last attempt failed.
    Failed,
}
