//! Bytes between a stream of a flow and a TCP connection.

use super::pipe::Stream;
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use smol::net::TcpStream;
use std::io;
use std::time::Duration;

/// Bytes that are moved at a time.
const PART: usize = 64 * 1024;

/// Joins both until either side is over in both directions, or broken.
pub(super) async fn join(stream: Stream, tcp: TcpStream) -> io::Result<()> {
    let there = one_way(stream.clone(), tcp.clone());
    let back = one_way(tcp, stream);
    smol::future::try_zip(there, back).await.map(|_| ())
}

/// Waits for something, at most so long; then the error is [`TimedOut`](io::ErrorKind).
pub(super) async fn within<T>(
    time: Duration,
    what: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let late = async {
        smol::Timer::after(time).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    smol::future::or(what, late).await
}

/// Moves bytes until there are no more, and says so.
async fn one_way(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut buffer = vec![0; PART];
    loop {
        match from.read(&mut buffer).await? {
            0 => return to.close().await,
            len => to.write_all(buffer.get(..len).unwrap_or_default()).await?,
        }
    }
}
