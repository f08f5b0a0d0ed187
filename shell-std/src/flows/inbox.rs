//! Datagrams that are sent over a flow, so that each node of the route is paid for itself and no
//! issuer is needed that all of them accept (`send --pay`).
//!
//! Each has a stream of its own:
//!
//! | from | bytes |
//! |---|---|
//! | who opens the stream | 0 (no service's name has that length), number (8), length (4), the payload |
//! | the other end | 0: it has it; 1: it takes none; 2: it has no room |

use super::copy;
use super::handle::Flow;
use super::pipe::Stream;
use super::preamble::{self, Reply};
use blvm_mesh_core::id::NodeId;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::time::Duration;

/// Most bytes of a datagram over a flow.
pub(crate) const MOST: usize = 1024 * 1024;
/// How long one may take, and so much longer for each of its bytes: 64 bytes in a second.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 64;

/// Takes datagrams that others send over flows.
pub trait Inbox: Send + Sync + 'static {
    /// Reserves room for one of this source; false if there is none.
    fn expect(&self, source: NodeId, len: usize) -> bool;

    /// It does not come.
    fn give_up(&self, source: NodeId, len: usize);

    /// It has come.
    fn take(&self, source: NodeId, sequence: u64, payload: Vec<u8>);
}

/// What became of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handed {
    /// The other end has it.
    Taken,
    /// It takes none.
    NotTaken,
    /// It has no room.
    NoRoom,
}

/// Hands a datagram to the other end of a flow, and waits for its answer.
pub(crate) async fn hand_over(flow: &Flow, sequence: u64, payload: &[u8]) -> io::Result<Handed> {
    let mut stream = flow.open_stream().await.map_err(io::Error::other)?;
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the datagram is too long");
    let len = u32::try_from(payload.len()).map_err(|_| too_long())?;
    let head = [&[0][..], &sequence.to_le_bytes(), &len.to_le_bytes()].concat();
    let send = async {
        stream.clone().write_all(&head).await?;
        stream.clone().write_all(payload).await?;
        stream.clone().close().await
    };
    let mut answers = stream.clone();
    let answer = async {
        let mut answer = [0];
        answers.read_exact(&mut answer).await?;
        Ok(answer)
    };
    // It is refused before all of it was sent, and then nobody reads the rest.
    let sent = async {
        match send.await {
            Ok(()) => std::future::pending().await,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Err(error),
            Err(_) => std::future::pending().await,
        }
    };
    let [answer] = smol::future::or(answer, sent).await?;
    let _ = stream.close().await;
    match answer {
        0 => Ok(Handed::Taken),
        1 => Ok(Handed::NotTaken),
        2 => Ok(Handed::NoRoom),
        n => Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown answer {n}"))),
    }
}

/// Room that was reserved, given back unless its datagram comes.
struct Expected<'a> {
    inbox: &'a dyn Inbox,
    source: NodeId,
    len: usize,
    came: bool,
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if !self.came {
            self.inbox.give_up(self.source, self.len);
        }
    }
}

/// Takes the datagram of a stream on which no service was named.
pub(super) async fn receive(
    stream: &mut Stream,
    inbox: Option<&dyn Inbox>,
    source: NodeId,
) -> io::Result<()> {
    let mut head = [0; 12];
    copy::within(PATIENCE, stream.read_exact(&mut head)).await?;
    let [sequence @ .., a, b, c, d] = head;
    let (sequence, len) = (u64::from_le_bytes(sequence), u32::from_le_bytes([a, b, c, d]));
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let Some(inbox) = inbox else { return refuse(stream, Reply::Unknown).await };
    if len > MOST || !inbox.expect(source, len) {
        return refuse(stream, Reply::Down).await;
    }
    let mut room = Expected { inbox, source, len, came: false };
    let mut payload = vec![0; len];
    let time = PATIENCE + Duration::from_secs(len as u64 / SLOWEST);
    copy::within(time, stream.read_exact(&mut payload)).await?;
    room.came = true;
    inbox.take(source, sequence, payload);
    preamble::reply(stream, Reply::Ready).await?;
    stream.close().await
}

async fn refuse(stream: &mut Stream, why: Reply) -> io::Result<()> {
    preamble::reply(stream, why).await?;
    stream.close().await
}
