//! What goes out on a connection: answers, and events between them.

use super::PATIENCE;
use crate::rpc::Connection;
use smol::Async;
use smol::future::or;
use smol::io::AsyncWriteExt;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// Pause between two looks whether somebody still reads.
const LOOK: Duration = Duration::from_millis(500);

/// Writes whole lines, also where it was interrupted within one.
pub(super) struct Out<'a> {
    stream: &'a Async<UnixStream>,
    /// Events that were begun to be written.
    events: Vec<u8>,
    written: usize,
}

impl<'a> Out<'a> {
    pub(super) fn new(stream: &'a Async<UnixStream>) -> Self {
        Self { stream, events: Vec::new(), written: 0 }
    }

    /// Writes the events of a connection as they come, for as long as it takes their reader; returns
    /// with an error only. Dropped before, it loses none.
    pub(super) async fn tell<T>(&mut self, connection: &Connection) -> io::Result<T> {
        loop {
            let mut stream = self.stream;
            while let Some(rest) = self.events.get(self.written..).filter(|rest| !rest.is_empty()) {
                match stream.write(rest).await? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => self.written = self.written.saturating_add(n),
                }
            }
            (self.events, self.written) = (Vec::new(), 0);
            self.events = connection.events().await;
        }
    }

    /// Writes an answer, behind the events that were begun; each part of it must be taken in time.
    pub(super) async fn write(&mut self, answer: &[u8]) -> io::Result<()> {
        self.finish().await?;
        write(self.stream, answer).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        let events = std::mem::take(&mut self.events);
        let written = std::mem::take(&mut self.written);
        write(self.stream, events.get(written..).unwrap_or_default()).await
    }

    /// Returns once nobody can read the answer any more. Someone who has merely
    /// said all that he has to say still can: a space before the answer, which
    /// JSON allows, finds out.
    pub(super) async fn until_gone(&mut self) {
        // Never within a line.
        let mut stream = self.stream;
        if self.finish().await.is_err() {
            return;
        }
        while stream.write_all(b" ").await.is_ok() {
            smol::Timer::after(LOOK).await;
        }
    }
}

/// What must not take longer than [`PATIENCE`].
pub(super) async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    or(work, late).await
}

async fn write(mut stream: &Async<UnixStream>, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(64 * 1024) {
        in_time(stream.write_all(part)).await?;
    }
    Ok(())
}
