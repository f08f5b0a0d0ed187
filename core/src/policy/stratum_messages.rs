//! Fields of every Stratum V2 message (sv2-spec sections 3.6, 5.3, 6.4 and 7,
//! message types of section 8, extensions 0x0001 and 0x0002).

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::transaction::{Transaction, walk_outputs};

type Result<T> = core::result::Result<T, Unrecognised>;

/// A data type of section 3.1, or one that a message's description narrows.
#[derive(Clone, Copy)]
enum Field {
    /// This many bytes of any value: U8, BOOL, U16, U32, F32, U64, U256.
    Fixed(usize),
    /// Sub-protocol of a connection: 0, 1 or 2.
    Protocol,
    /// Protocol version: 2, the only one there is.
    Version,
    /// STR0_255.
    Str,
    /// STR0_255 of an error or reason code: no control characters (3.5).
    Code,
    /// Byte array with an 8-bit length, at most this long (B0_32, B0_255).
    Bytes8(u8),
    /// B0_64K.
    Bytes16,
    /// OPTION\[U32\].
    OptionU32,
    /// SEQ0_255\[U256\].
    Hashes8,
    /// SEQ0_64K of elements of this many bytes.
    Seq16(usize),
    /// SEQ0_64K\[B0_16M\] of whole transactions.
    Transactions,
    /// B0_64K that holds one whole transaction.
    Coinbase,
    /// B0_64K that holds transaction outputs behind their CompactSize.
    Outputs,
    /// U32, and B0_64K that holds that many transaction outputs.
    CountedOutputs,
    /// Optional TLV 0x0002 0x01 of the worker hashrate extension.
    WorkerTlv,
}

/// A message's fields, and whether it goes to a channel.
pub(super) struct Layout {
    /// What the channel bit must be.
    pub(super) channel: bool,
    fields: &'static [Field],
}

impl Layout {
    /// Reads all fields of the message.
    pub(super) fn check(&self, reader: &mut Reader<'_>) -> Result<()> {
        self.fields.iter().try_for_each(|field| field.check(reader))
    }
}

const BOOL: Field = Field::Fixed(1);
const U16: Field = Field::Fixed(2);
const U32: Field = Field::Fixed(4);
const F32: Field = Field::Fixed(4);
const U64: Field = Field::Fixed(8);
const U256: Field = Field::Fixed(32);
const B0_32: Field = Field::Bytes8(32);
const B0_255: Field = Field::Bytes8(255);
/// "Up to 8 bytes (not including the length byte)".
const COINBASE_PREFIX: Field = Field::Bytes8(8);

/// The layout of a message of an extension (without the channel bit).
pub(super) fn lookup(extension: u16, message: u8) -> Option<&'static Layout> {
    macro_rules! layouts {
        ($($extension:literal $message:literal $channel:literal [$($field:expr),*];)*) => {
            match (extension, message) {
                $(($extension, $message) => {
                    const LAYOUT: Layout =
                        Layout { channel: $channel == 1, fields: &[$($field),*] };
                    Some(&LAYOUT)
                })*
                _ => None,
            }
        };
    }
    use Field::*;
    layouts! {
        // SetupConnection and its answers, ChannelEndpointChanged, Reconnect.
        0 0x00 0 [Protocol, Version, Version, U32, Str, U16, Str, Str, Str, Str];
        0 0x01 0 [Version, U32];
        0 0x02 0 [U32, Code];
        0 0x03 1 [U32];
        0 0x04 0 [Str, U16];

        // OpenStandardMiningChannel, .Success, OpenMiningChannel.Error.
        0 0x10 0 [U32, Str, F32, U256];
        0 0x11 0 [U32, U32, U256, B0_32, U32];
        0 0x12 0 [U32, Code];
        // OpenExtendedMiningChannel, .Success.
        0 0x13 0 [U32, Str, F32, U256, U16];
        0 0x14 0 [U32, U32, U256, U16, B0_32, U32];
        // NewMiningJob, UpdateChannel, UpdateChannel.Error, CloseChannel,
        // SetExtranoncePrefix.
        0 0x15 1 [U32, U32, OptionU32, U32, U256];
        0 0x16 1 [U32, F32, U256];
        0 0x17 1 [U32, Code];
        0 0x18 1 [U32, Code];
        0 0x19 1 [U32, B0_32];
        // SubmitSharesStandard, SubmitSharesExtended, .Success, .Error.
        0 0x1a 1 [U32, U32, U32, U32, U32, U32];
        0 0x1b 1 [U32, U32, U32, U32, U32, U32, B0_32, WorkerTlv];
        0 0x1c 1 [U32, U32, U32, U64];
        0 0x1d 1 [U32, U32, Code];
        // NewExtendedMiningJob, SetNewPrevHash, SetTarget.
        0 0x1f 1 [U32, U32, OptionU32, U32, BOOL, Hashes8, Bytes16, Bytes16];
        0 0x20 1 [U32, U32, U256, U32, U32];
        0 0x21 1 [U32, U256];
        // SetCustomMiningJob, .Success, .Error, SetGroupChannel.
        0 0x22 1 [U32, U32, B0_255, U32, U256, U32, U32, U32, COINBASE_PREFIX, U32, Outputs, U32,
            Hashes8];
        0 0x23 1 [U32, U32, U32];
        0 0x24 1 [U32, U32, Code];
        0 0x25 0 [U32, Seq16(4)];

        // AllocateMiningJobToken, .Success.
        0 0x50 0 [Str, U32];
        0 0x51 0 [U32, B0_255, Outputs];
        // ProvideMissingTransactions, .Success.
        0 0x55 0 [U32, Seq16(2)];
        0 0x56 0 [U32, Transactions];
        // DeclareMiningJob, .Success, .Error.
        0 0x57 0 [U32, B0_255, U32, Bytes16, Bytes16, Seq16(32), Bytes16];
        0 0x58 0 [U32, B0_255];
        0 0x59 0 [U32, Code, Bytes16];
        // PushSolution.
        0 0x60 0 [B0_32, U256, U32, U32, U32, U32];

        // CoinbaseOutputConstraints, NewTemplate, SetNewPrevHash.
        0 0x70 0 [U32, U16];
        0 0x71 0 [U64, BOOL, U32, U32, COINBASE_PREFIX, U32, U64, CountedOutputs, U32, Hashes8];
        0 0x72 0 [U64, U256, U32, U32, U256];
        // RequestTransactionData, .Success, .Error, SubmitSolution.
        0 0x73 0 [U64];
        0 0x74 0 [U64, Bytes16, Transactions];
        0 0x75 0 [U64, Code];
        0 0x76 0 [U64, U32, U32, U32, Coinbase];

        // Extension 0x0001: RequestExtensions, .Success, .Error.
        1 0x00 0 [U16, Seq16(2)];
        1 0x01 0 [U16, Seq16(2)];
        1 0x02 0 [U16, Seq16(2), Seq16(2)];
    }
}

impl Field {
    fn check(self, reader: &mut Reader<'_>) -> Result<()> {
        let start = *reader;
        let value = |good, name| if good { Ok(()) } else { start.fail(Reason::Value(name)) };
        match self {
            Self::Fixed(n) => reader.take(n).map(|_| ()),
            Self::Protocol => value(reader.u8()? <= 2, "sub-protocol"),
            Self::Version => value(reader.u16()? == 2, "protocol version"),
            Self::Str => bytes8(reader, 255).map(|_| ()),
            Self::Code => {
                let control = |byte: &u8| byte.is_ascii_control();
                value(!bytes8(reader, 255)?.iter().any(control), "error or reason code")
            }
            Self::Bytes8(limit) => bytes8(reader, limit).map(|_| ()),
            Self::Bytes16 => bytes16(reader).map(|_| ()),
            Self::OptionU32 => match reader.u8()? {
                0 => Ok(()),
                1 => reader.take(4).map(|_| ()),
                _ => value(false, "length of an option"),
            },
            Self::Hashes8 => {
                let count = usize::from(reader.u8()?);
                reader.take(count.saturating_mul(32)).map(|_| ())
            }
            Self::Seq16(size) => {
                let count = usize::from(reader.u16()?);
                reader.take(count.saturating_mul(size)).map(|_| ())
            }
            Self::Transactions => {
                for _ in 0..reader.u16()? {
                    let length = reader.u24()? as usize;
                    let at = reader.at();
                    transaction(Reader::new(reader.take(length)?, at))?;
                }
                Ok(())
            }
            Self::Coinbase => transaction(bytes16(reader)?),
            Self::Outputs => {
                let mut outputs = bytes16(reader)?;
                let count = outputs.compact_size()?;
                walk_outputs(&mut outputs, count)?;
                outputs.finish()
            }
            Self::CountedOutputs => {
                let count = reader.u32()?;
                let mut outputs = bytes16(reader)?;
                walk_outputs(&mut outputs, count.into())?;
                outputs.finish()
            }
            Self::WorkerTlv => worker_tlv(reader),
        }
    }
}

/// One whole transaction and nothing after it.
fn transaction(mut reader: Reader<'_>) -> Result<()> {
    Transaction::decode(&mut reader)?.check()?;
    reader.finish()
}

fn bytes8<'a>(reader: &mut Reader<'a>, limit: u8) -> Result<&'a [u8]> {
    let start = *reader;
    let length = reader.u8()?;
    if length > limit {
        return start.fail(Reason::TooLong { length: length.into(), limit: limit.into() });
    }
    reader.take(length.into())
}

fn bytes16<'a>(reader: &mut Reader<'a>) -> Result<Reader<'a>> {
    let length = reader.u16()?;
    let at = reader.at();
    Ok(Reader::new(reader.take(length.into())?, at))
}

/// Nothing, or extension type 2, field type 1, length at most 32 and the worker's name.
/// Numbers are little-endian (section 3.1), and so the public crates write them; the
/// extension's own examples have the high byte first. Both are taken, and which is meant
/// is plain: neither number needs more than one byte.
fn worker_tlv(reader: &mut Reader<'_>) -> Result<()> {
    if reader.is_empty() {
        return Ok(());
    }
    let start = *reader;
    match reader.array::<5>()? {
        [0, 2, 1, 0, length @ ..=32] | [2, 0, 1, length @ ..=32, 0] => {
            reader.take(usize::from(*length)).map(|_| ())
        }
        _ => start.fail(Reason::Value("TLV after the last field")),
    }
}
