//! A radio, and why it is not in use.

use super::super::port::PortError;
use super::super::{Medium, Stopped, ToAll, Ways};
use super::status::RadioStatus;
use crate::address::LoraAddress;
use crate::radio::{ChannelKey, Fault};
use blvm_mesh_core::config::Config;
use smol::channel::Receiver;
use std::path::PathBuf;
use std::sync::Arc;

/// A radio and what its task needs of the node.
pub(super) struct Radio {
    pub(super) address: LoraAddress,
    pub(super) key: ChannelKey,
    /// Whether everybody knows the channel's key: then its neighbours are strangers.
    pub(super) is_public: bool,
    pub(super) config: Config,
    pub(super) queue_bytes: usize,
    pub(super) medium: Medium,
    pub(super) to_all: Receiver<ToAll>,
    pub(super) status: Arc<RadioStatus>,
    /// Where the air time of the last hour is kept.
    pub(super) data_dir: PathBuf,
    pub(super) ways: Ways,
}

/// Why a modem is not in use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Port(#[from] PortError),
    #[error(transparent)]
    Modem(#[from] Fault),
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Self::Port(stopped.into())
    }
}
