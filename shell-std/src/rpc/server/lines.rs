//! What comes in on a connection, in lines.

use super::{MAX_REQUEST, PATIENCE};
use smol::Async;
use smol::future::or;
use smol::io::AsyncReadExt;
use std::io;
use std::os::unix::net::UnixStream;
use std::time::Instant;

pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Cuts what comes in into lines of bounded length.
pub(super) struct Lines<'a> {
    stream: &'a Async<UnixStream>,
    buffer: Vec<u8>,
    /// Bytes of the buffer in which there is no end of line.
    searched: usize,
    /// When the request in it began to come.
    begun: Option<Instant>,
    ended: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn new(stream: &'a Async<UnixStream>) -> Self {
        Self { stream, buffer: Vec::new(), searched: 0, begun: None, ended: false }
    }

    /// The next line. Dropped before, it loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Line> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                (self.searched, self.begun) = (0, None);
                return Ok(Line::Whole(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_REQUEST {
                return Ok(Line::TooLong);
            }
            if self.ended {
                // The last line may lack its end.
                self.searched = 0;
                let line = std::mem::take(&mut self.buffer);
                let blank = line.iter().all(u8::is_ascii_whitespace);
                return Ok(if blank { Line::End } else { Line::Whole(line) });
            }
            // The first byte may be long in coming; the rest of a request may not.
            match self.buffer.is_empty() {
                true => self.fill().await?,
                false => {
                    let begun = *self.begun.get_or_insert_with(Instant::now);
                    let left = PATIENCE.saturating_sub(begun.elapsed());
                    let late = async {
                        smol::Timer::after(left).await;
                        Err(io::ErrorKind::TimedOut.into())
                    };
                    or(self.fill(), late).await?;
                }
            }
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8192];
        let n = self.stream.read(&mut chunk).await?;
        self.ended = n == 0;
        self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }

    /// Takes in what comes until the client has said all.
    pub(super) async fn until_ended(&mut self) -> io::Result<()> {
        while !self.ended {
            if self.buffer.len() > MAX_REQUEST {
                // Says more than can be kept; it is dealt with after the answer.
                return std::future::pending().await;
            }
            self.fill().await?;
        }
        Ok(())
    }
}
