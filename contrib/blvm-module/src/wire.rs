//! Frames of the node's module socket: a big-endian length of four bytes, then a
//! message ([`proto`](crate::proto)).

use crate::proto::{self, Incoming, NotAMessage};
use smol::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest frame that the node itself takes or sends, in bytes.
pub const MOST_FRAME: usize = 40 * 1024 * 1024;
/// Longest frame that is read into memory, in bytes: a datagram of 4 MiB as hex fits. A longer
/// one is passed over.
pub const MOST_READ: usize = 10 * 1024 * 1024;

/// Why the connection with the node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The node closed it, as it does after each request that it refuses.
    #[error("the node closed the connection")]
    Closed,
    /// The system's reason.
    #[error("the connection with the node broke: {0}")]
    Io(std::io::Error),
    /// No frame is as long.
    #[error("the node announced a frame of {0} bytes; {MOST_FRAME} is the most")]
    TooLong(usize),
    /// The frame holds something else.
    #[error(
        "the node sent a frame of {len} bytes that is no message of the module socket: {reason}"
    )]
    NotAMessage {
        /// Its length.
        len: usize,
        /// What is wrong with it.
        reason: NotAMessage,
    },
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Reads the next message. `None`: it was so long that it was passed over.
///
/// # Errors
/// [`WireError`].
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<Incoming>, WireError> {
    let mut len = [0; 4];
    stream.read_exact(&mut len).await?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MOST_FRAME {
        return Err(WireError::TooLong(len));
    }
    if len > MOST_READ {
        let passed = smol::io::copy(stream.take(len as u64), smol::io::sink()).await?;
        return if passed == len as u64 { Ok(None) } else { Err(WireError::Closed) };
    }
    // Grows with what arrives: an announced length alone takes no memory.
    let mut bytes = Vec::new();
    stream.take(len as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < len {
        return Err(WireError::Closed);
    }
    let message = proto::decode(&bytes);
    message.map(Some).map_err(|reason| WireError::NotAMessage { len, reason })
}

/// The frame of a message.
///
/// # Errors
/// Why there is none: the message is longer than [`MOST_FRAME`].
pub fn frame(message: &[u8]) -> Result<Vec<u8>, String> {
    let len = message.len();
    match u32::try_from(len) {
        Ok(short) if len <= MOST_FRAME => Ok([&short.to_be_bytes()[..], message].concat()),
        _ => Err(format!("a message of {len} bytes is too long for the node")),
    }
}

/// Writes a frame that [`frame`] made.
///
/// # Errors
/// [`WireError::Closed`], [`WireError::Io`].
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), frame: &[u8]) -> Result<(), WireError> {
    let written = stream.write_all(frame).await;
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::BrokenPipe | std::io::ErrorKind::ConnectionReset => WireError::Closed,
        _ => WireError::Io(e),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_frames_are_passed_over_and_impossible_ones_end_the_connection() {
        smol::block_on(async {
            let mut bytes = frame(&vec![7; MOST_READ + 1]).unwrap();
            bytes.extend(frame(&[2, 0, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0]).unwrap());
            let mut stream = &bytes[..];
            assert!(read(&mut stream).await.unwrap().is_none());
            assert_eq!(read(&mut stream).await.unwrap(), Some(Incoming::Other));
            assert!(matches!(read(&mut stream).await, Err(WireError::Closed)));
            let mut stream = &[0xff; 8][..];
            assert!(matches!(read(&mut stream).await, Err(WireError::TooLong(0xffff_ffff))));
            let mut stream = &[0, 0, 0, 4, 9, 9, 9, 9][..];
            let error = read(&mut stream).await.unwrap_err();
            assert!(matches!(error, WireError::NotAMessage { len: 4, .. }), "{error}");
        });
    }
}
