//! What the two tasks of a connection share.

use super::super::{NotTaken, Stopped};
use blvm_mesh_core::link::fragment::FragmentError;
use blvm_mesh_core::link::transport::TransportError;
use std::io;
use std::time::Duration;

/// A larger buffer is released when it was not needed for so long.
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
    #[error("{0}")]
    Packet(FragmentError),
    #[error("it sent more than a hello before its hello was taken")]
    NoHello,
    #[error("everything was sent and the node is stopping")]
    Finished,
}

impl From<TransportError> for LinkEnd {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<FragmentError> for LinkEnd {
    fn from(error: FragmentError) -> Self {
        Self::Packet(error)
    }
}

impl From<NotTaken> for LinkEnd {
    fn from(why: NotTaken) -> Self {
        match why {
            NotTaken::Closed => Self::Finished,
            NotTaken::TooLong(error) => error.into(),
        }
    }
}

impl From<Stopped> for LinkEnd {
    fn from(_: Stopped) -> Self {
        Self::Finished
    }
}

/// The result of a future, unless it takes longer.
pub(super) async fn in_time<T>(time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let late = async {
        smol::Timer::after(time).await;
        None
    };
    smol::future::or(async { Some(work.await) }, late).await
}
