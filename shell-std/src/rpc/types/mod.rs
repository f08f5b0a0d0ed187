//! What is asked and answered over the socket: one type per method.
//!
//! On the wire identities, keys, hashes and data are hex, amounts are
//! millisatoshi, sizes bytes. Unknown parameters are refused by name.

mod bitcoin;
mod chain;
mod event;
mod export;
mod flow;
mod info;
mod ledger;
mod line;
mod measure;
mod operate;
mod overview;
mod packet;
mod page;
mod peer;
mod prepay;
mod probe;
mod quote;
mod radio;
mod route;
mod stats;
mod transaction;

pub use bitcoin::*;
pub use chain::*;
pub use event::*;
pub use export::*;
pub use flow::*;
pub use info::*;
pub use ledger::*;
pub use line::*;
pub use measure::*;
pub use operate::*;
pub use overview::*;
pub use packet::*;
pub use page::*;
pub use peer::*;
pub use prepay::*;
pub use probe::*;
pub use quote::*;
pub use radio::*;
pub use route::*;
pub use stats::*;
pub use transaction::*;

use blvm_mesh_core::payment::fee::Party;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Price in the terms of [`blvm_mesh_core::payment::fee::Tariff`].
pub type Tariff = blvm_mesh_core::payment::fee::Tariff;

/// Packets and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Count {
    /// How many.
    pub packets: u64,
    /// Their bytes, headers of the mesh included.
    pub bytes: u64,
}

/// What a node is on a route.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The sender, who also pays.
    Source,
    /// An intermediate node.
    Intermediate,
    /// The receiver.
    Destination,
}

impl Role {
    /// The name by which it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Intermediate => "intermediate",
            Self::Destination => "destination",
        }
    }
}

impl From<Party> for Role {
    fn from(party: Party) -> Self {
        match party {
            Party::Source => Self::Source,
            Party::Intermediate(_) => Self::Intermediate,
            Party::Destination => Self::Destination,
        }
    }
}
