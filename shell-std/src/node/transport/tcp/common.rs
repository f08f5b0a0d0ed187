//! What the two tasks of a connection share.

use super::super::{NotTaken, Stopped};
use blvm_mesh_core::link::fragment::FragmentError;
use blvm_mesh_core::link::transport::TransportError;
use smol::Timer;
use std::io;
use std::pin::pin;
use std::time::Duration;

/// A larger buffer is released when it was not needed for so long, or up to twice as long.
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

/// Notices that nothing was to be done for a while. One timer runs on through all waits: to set
/// one for each of them costs a busy link as much as reading does.
pub(super) struct Idle {
    after: Duration,
    timer: Option<Timer>,
    /// A wait has ended since the timer last fired.
    is_used: bool,
}

impl Idle {
    pub(super) fn new(after: Duration) -> Self {
        Self { after, timer: None, is_used: false }
    }

    /// The result of a future; `None` if it takes too long, and up to twice as long after others.
    pub(super) async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let timer = self.timer.get_or_insert_with(|| Timer::after(self.after));
            let tick = async {
                (&mut *timer).await;
                None
            };
            match smol::future::or(async { Some(work.as_mut().await) }, tick).await {
                Some(result) => {
                    self.is_used = true;
                    return Some(result);
                }
                None if std::mem::take(&mut self.is_used) => timer.set_after(self.after),
                None => {
                    self.timer = None;
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn only_a_wait_in_vain_is_idle() {
        const AFTER: Duration = Duration::from_millis(30);
        smol::block_on(async {
            let (mut idle, start) = (Idle::new(AFTER), Instant::now());
            // However long they last together.
            while start.elapsed() < 4 * AFTER {
                assert_eq!(idle.wait(smol::future::yield_now()).await, Some(()));
            }
            for _ in 0..2 {
                let start = Instant::now();
                assert_eq!(idle.wait(std::future::pending::<()>()).await, None);
                assert!(start.elapsed() >= AFTER);
            }
        });
    }
}
