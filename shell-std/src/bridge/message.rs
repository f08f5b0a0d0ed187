//! Bitcoin's messages in a stream of bytes (version 1 of the P2P protocol), and their names.

use bitcoin::hashes::{Hash, sha256d};
use smol::io::{AsyncRead, AsyncReadExt};
use std::io;

/// Bytes of a message's header: magic, command, length, checksum.
pub(crate) const HEADER_LEN: usize = 24;
/// Longest payload (Bitcoin Core, MAX_PROTOCOL_MESSAGE_LENGTH).
pub(crate) const MAX_PAYLOAD: usize = 4_000_000;

/// First bytes of each message of a network.
pub(crate) type Magic = [u8; 4];

/// Why no message was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The other side has closed, between two messages.
    #[error("it was closed")]
    Closed,
    /// The first bytes are not those of a message: a greeting of version 2 (BIP 324), which its
    /// sender follows by one of version 1, or another network's.
    #[error(
        "it does not begin as a message of this network: encrypted (BIP 324) or another network"
    )]
    Greeting,
    /// Further bytes are not those of a message.
    #[error("what follows a message is not another one")]
    Magic,
    /// A message is too long.
    #[error("a message of {0} bytes is longer than any")]
    TooLong(u32),
    /// It is broken.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads one message, header included; `first`: none was read before.
pub(crate) async fn read(
    from: &mut (impl AsyncRead + Unpin),
    magic: Magic,
    first: bool,
) -> Result<Vec<u8>, ReadError> {
    let mut message = vec![0; HEADER_LEN];
    let mut have = 0;
    while have < HEADER_LEN {
        let more = from.read(message.get_mut(have..).unwrap_or_default()).await?;
        if more == 0 {
            return Err(match have {
                0 => ReadError::Closed,
                _ => ReadError::Io(io::ErrorKind::UnexpectedEof.into()),
            });
        }
        have += more;
        // Who greets in another way is told so by the end of the connection, at once.
        let begin = message.get(..have.min(4)).unwrap_or_default();
        if !magic.starts_with(begin) {
            return Err(if first { ReadError::Greeting } else { ReadError::Magic });
        }
    }
    let len = length(&message);
    if len as usize > MAX_PAYLOAD {
        return Err(ReadError::TooLong(len));
    }
    // What was not sent takes no memory: a length alone reserves nothing.
    let rest = from.take(u64::from(len)).read_to_end(&mut message).await?;
    match rest == len as usize {
        true => Ok(message),
        false => Err(ReadError::Io(io::ErrorKind::UnexpectedEof.into())),
    }
}

fn length(header: &[u8]) -> u32 {
    let field = header.get(16..20).and_then(|field| field.try_into().ok());
    field.map_or(u32::MAX, u32::from_le_bytes)
}

/// The command of a whole message; empty for what has none.
pub(crate) fn command(message: &[u8]) -> &str {
    let field = message.get(4..16).unwrap_or_default();
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    std::str::from_utf8(field.get(..end).unwrap_or_default()).unwrap_or_default()
}

/// The payload of a whole message.
pub(crate) fn payload(message: &[u8]) -> &[u8] {
    message.get(HEADER_LEN..).unwrap_or_default()
}

/// The first message of some, and the others.
pub(crate) fn split(messages: &[u8]) -> Option<(&[u8], &[u8])> {
    let len = length(messages.get(..HEADER_LEN)?) as usize;
    messages.split_at_checked(HEADER_LEN.checked_add(len)?)
}

/// Each of several messages.
pub(crate) fn each(mut messages: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (first, rest) = split(messages)?;
        messages = rest;
        Some(first)
    })
}

/// Appends a message. A command of more than 12 bytes is cut; there is none.
pub(crate) fn write(magic: Magic, command: &str, payload: &[u8], out: &mut Vec<u8>) {
    let mut field = [0; 12];
    field.iter_mut().zip(command.bytes()).for_each(|(to, from)| *to = from);
    let hash = sha256d::Hash::hash(payload).to_byte_array();
    out.extend_from_slice(&magic);
    out.extend_from_slice(&field);
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(hash.first_chunk::<4>().unwrap_or(&[0; 4]));
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use smol::io::Cursor;

    const MAGIC: Magic = [0xfa, 0xbf, 0xb5, 0xda];

    fn read_all(bytes: &[u8]) -> (Vec<String>, ReadError) {
        smol::block_on(async {
            let (mut from, mut commands) = (Cursor::new(bytes), Vec::new());
            loop {
                match read(&mut from, MAGIC, commands.is_empty()).await {
                    Ok(message) => commands.push(command(&message).to_owned()),
                    Err(error) => return (commands, error),
                }
            }
        })
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let mut stream = Vec::new();
        write(MAGIC, "verack", &[], &mut stream);
        write(MAGIC, "ping", &[7; 8], &mut stream);
        let (commands, end) = read_all(&stream);
        assert_eq!(commands, ["verack", "ping"]);
        assert!(matches!(end, ReadError::Closed), "{end}");
        let messages: Vec<_> = each(&stream).map(command).collect();
        assert_eq!(messages, ["verack", "ping"]);
        let (_, end) = read_all(&stream[..stream.len() - 1]);
        assert!(matches!(end, ReadError::Io(_)), "{end}");
        stream.extend_from_slice(b"\xfa\xbfxx");
        assert!(matches!(read_all(&stream).1, ReadError::Magic));
        let mut long = Vec::new();
        write(MAGIC, "block", &[], &mut long);
        long[16..20].copy_from_slice(&(MAX_PAYLOAD as u32 + 1).to_le_bytes());
        assert!(matches!(read_all(&long).1, ReadError::TooLong(_)));
    }

    #[test]
    fn a_greeting_of_version_2_is_known_by_its_first_byte() {
        // BIP 324: 64 bytes that look random, of which no more need come.
        for greeting in [&[1][..], &[0xfa, 0xbf, 0xb5, 0xdb], b"\xf9"] {
            assert!(matches!(read_all(greeting).1, ReadError::Greeting));
        }
    }
}
