//! What stands before the bytes of a service on a stream: which service is meant, and whether it
//! is there.
//!
//! | from | bytes |
//! |---|---|
//! | who opens the stream | length of the name (1), the name; length 0: see `inbox.rs` |
//! | the other end | 0: the bytes of the service follow; 1: there is no such service; 2: it does not answer |

use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fmt;
use std::io;
use std::str::FromStr;

use super::pipe::Stream;

/// Most characters of a service's name.
const MOST: usize = 64;

/// The name of a service: 1 to 64 of `a` to `z`, `0` to `9`, `.`, `_` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName(String);

/// The text is not the name of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not the name of a service: write 1 to {MOST} lower-case letters, digits, dots, \
     underscores and hyphens"
)]
pub struct NameError(String);

impl FromStr for ServiceName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        match (1..=MOST).contains(&text.len()) && text.bytes().all(fits) {
            true => Ok(Self(text.to_owned())),
            false => Err(NameError(text.chars().take(100).collect())),
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The other end's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Reply {
    Ready = 0,
    Unknown = 1,
    Down = 2,
}

/// Names the service that is meant, and waits for the answer.
pub(super) async fn ask(stream: &mut Stream, name: &ServiceName) -> io::Result<()> {
    let mut bytes = vec![name.0.len() as u8];
    bytes.extend(name.0.as_bytes());
    stream.write_all(&bytes).await?;
    let mut reply = [0];
    stream.read_exact(&mut reply).await?;
    match reply {
        [0] => Ok(()),
        [1] => {
            let text = format!("the node exposes no service \"{name}\"");
            Err(io::Error::new(io::ErrorKind::NotFound, text))
        }
        [2] => {
            let text = format!("the service \"{name}\" does not answer at its node");
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, text))
        }
        [n] => Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown answer {n}"))),
    }
}

/// The name of the service that is asked for; `None`: a datagram follows.
pub(super) async fn asked(stream: &mut Stream) -> io::Result<Option<ServiceName>> {
    let mut len = [0];
    stream.read_exact(&mut len).await?;
    let [len] = len;
    if len == 0 {
        return Ok(None);
    }
    let mut name = vec![0; usize::from(len)];
    stream.read_exact(&mut name).await?;
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, "not the name of a service");
    let name = String::from_utf8(name).map_err(|_| wrong())?;
    name.parse().map(Some).map_err(|_| wrong())
}

/// Answers it.
pub(super) async fn reply(stream: &mut Stream, reply: Reply) -> io::Result<()> {
    stream.write_all(&[reply as u8]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for right in ["ssh", "a", "electrum.main-1_x", &"x".repeat(64)] {
            assert_eq!(right.parse::<ServiceName>().unwrap().to_string(), right);
        }
        for wrong in ["", "SSH", "a b", "a:b", "é", &"x".repeat(65)] {
            assert!(wrong.parse::<ServiceName>().is_err(), "{wrong}");
        }
    }
}
