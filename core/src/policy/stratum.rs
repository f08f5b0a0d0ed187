//! Whole Stratum V2 frames and nothing after them (sv2-spec, section 3.2).

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::stratum_messages;

/// Bit of the extension type that marks a message of one channel (3.2.1).
const CHANNEL_BIT: u16 = 0x8000;

/// One or more frames, each with exactly the fields of its message type.
pub(super) fn check(bytes: &[u8]) -> Result<(), Unrecognised> {
    let mut reader = Reader::new(bytes, 0);
    if !matches!(bytes, [0 | 1, 0 | 0x80, ..]) {
        return reader.fail(Reason::NoKnownProtocol);
    }
    while !reader.is_empty() {
        frame(&mut reader)?;
    }
    Ok(())
}

fn frame(reader: &mut Reader<'_>) -> Result<(), Unrecognised> {
    let start = *reader;
    let truncated = |_| Reason::FrameTruncated.at(start.at());
    let extension = reader.u16().map_err(truncated)?;
    let message = reader.u8().map_err(truncated)?;
    let length = reader.u24().map_err(truncated)?;
    let known = stratum_messages::lookup(extension & !CHANNEL_BIT, message);
    let Some(layout) = known else {
        let extension = extension & !CHANNEL_BIT;
        return start.fail(Reason::UnknownMessage { extension, message });
    };
    if layout.channel != (extension & CHANNEL_BIT != 0) {
        return start.fail(Reason::ChannelBit);
    }
    let payload_at = reader.at();
    let payload = reader.take(length as usize).map_err(|_| Reason::FrameLength.at(payload_at))?;
    let mut fields = Reader::new(payload, payload_at);
    layout.check(&mut fields)?;
    fields.finish()
}
