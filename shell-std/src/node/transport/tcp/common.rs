//! What the two tasks of a connection have in common.

use super::super::Stopped;
use blvm_mesh_core::link::transport::TransportError;
use std::io;
use std::time::Duration;

/// Bytes of a buffer that a link has in any case. Before its hello a neighbour sends no
/// longer frame: a hello is shorter.
pub(super) const SMALL: usize = 2 * 1024;
/// A larger buffer is given back when it was not needed for so long.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkEnd {
    #[error("the neighbour closed the connection")]
    Eof,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Transport(TransportError),
    #[error("it sent more than a hello before its hello was taken")]
    NoHello,
    #[error("everything was sent and the node is stopping")]
    Finished,
}

impl From<Stopped> for LinkEnd {
    fn from(_: Stopped) -> Self {
        Self::Finished
    }
}

/// What a future gives, unless it takes longer.
pub(super) async fn in_time<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(time).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late).await
}
