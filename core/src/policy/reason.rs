//! Why a payload is of no known protocol: one sentence for each reason.

use crate::id::Network;

/// Why a payload is `Unknown`, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("byte {at}: {reason}")]
pub struct Unrecognised {
    /// Offset in the payload, in bytes, of the field that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a payload. Variants of messages stand under the
/// protocol that fixes the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Reason {
    /// Nothing was sent.
    #[error("the payload is empty")]
    Empty,
    /// No protocol begins like this.
    #[error("no network magic, no mesh magic and no Stratum V2 extension type stands here")]
    NoKnownProtocol,

    /// Fewer bytes than a Bitcoin message header.
    #[error("a Bitcoin message header takes 24 bytes, fewer are left")]
    HeaderTruncated,
    /// The network's traffic is not free at this node.
    #[error("this is a message of {found}, and only {allowed} goes free here")]
    OtherNetwork {
        /// Network of the message.
        found: Network,
        /// The only network that goes free.
        allowed: Network,
    },
    /// Messages of two networks in one payload.
    #[error("this is a message of {found} after one of {first}")]
    MixedNetworks {
        /// Network of the first message.
        first: Network,
        /// Network of this message.
        found: Network,
    },
    /// Something other than a message follows a message.
    #[error("what follows the message is not another message")]
    NotAMessage,
    /// The command is not known.
    #[error("the command is not a known one")]
    UnknownCommand,
    /// The command's name is followed by something other than zeros.
    #[error("the command is not padded with zero bytes")]
    CommandPadding,
    /// A mesh packet inside a Bitcoin message is not Bitcoin traffic.
    #[error("the command `mesh` carries mesh packets, which do not go free as Bitcoin traffic")]
    MeshCommand,
    /// The length is outside of what the command can have.
    #[error("a payload of {length} bytes is outside of {least} to {most} for this command")]
    PayloadLength {
        /// Length that the header gives.
        length: u32,
        /// Least that the command allows.
        least: u32,
        /// Most that the command allows.
        most: u32,
    },
    /// The message ends before its payload does.
    #[error("the message is cut off inside its payload")]
    PayloadTruncated,
    /// The checksum is wrong.
    #[error("the checksum is not that of the payload")]
    Checksum,

    /// A field goes over the end of the message.
    #[error("the message ends inside this field")]
    FieldTruncated,
    /// Bytes are left after the last field.
    #[error("bytes are left over after the last field of the message")]
    TrailingBytes,
    /// A CompactSize is longer than it needs to be.
    #[error("the CompactSize is not in its shortest form")]
    NonCanonicalSize,
    /// A count is over its limit.
    #[error("a list of {count} entries is over the limit of {limit}")]
    TooMany {
        /// The count as sent.
        count: u64,
        /// The most that is allowed.
        limit: u32,
    },
    /// A byte string is over its limit.
    #[error("a length of {length} bytes is over the limit of {limit}")]
    TooLong {
        /// The length as sent, in bytes.
        length: u64,
        /// The most that is allowed, in bytes.
        limit: u32,
    },
    /// A field has a value that its protocol does not allow.
    #[error("the {0} has a value that the protocol does not allow")]
    Value(&'static str),

    /// BIP 144 knows flag 1 only.
    #[error("the segwit flag of the transaction is not 1")]
    SegwitFlag,
    /// Marked as segwit without any witness.
    #[error("the transaction is marked as segwit and has no witness")]
    WitnessMissing,
    /// A transaction spends nothing.
    #[error("the transaction has no inputs")]
    NoInputs,
    /// A transaction pays nothing.
    #[error("the transaction has no outputs")]
    NoOutputs,
    /// An amount, or their sum, is over 21 million bitcoin.
    #[error("the transaction's outputs are worth more than all bitcoin")]
    AmountRange,
    /// A null outpoint among the inputs of an ordinary transaction.
    #[error("an input of the transaction spends the null outpoint")]
    NullInput,
    /// The script of a coinbase is not of 2 to 100 bytes.
    #[error("the coinbase script is not of 2 to 100 bytes")]
    CoinbaseScript,
    /// A coinbase where none may be, or none where one must be.
    #[error("a coinbase transaction must stand first in a block, and only there")]
    CoinbasePlace,

    /// The header's difficulty bits make no target that the network allows.
    #[error("the header's target is not one that {0} allows")]
    Target(Network),
    /// The header's hash is over its own target.
    #[error("the header's hash does not meet its own target")]
    Work,
    /// A header does not follow the one before it.
    #[error("the header does not follow the one before it")]
    NotContinuous,
    /// A block or compact block without transactions.
    #[error("a block without transactions")]
    NoTransactions,
    /// Over the weight limit of BIP 141.
    #[error("the transactions are heavier than a block may be")]
    Weight,
    /// The transactions are not those that the header commits to.
    #[error("the transactions do not lead to the header's Merkle root")]
    MerkleRoot,
    /// Transactions repeated so that the Merkle root stays (CVE-2012-2459).
    #[error("two branches of the Merkle tree are equal")]
    MerkleDuplicate,
    /// Witnesses without a commitment that matches them (BIP 141).
    #[error("the block's witnesses are not those that its coinbase commits to")]
    WitnessCommitment,

    /// Fewer bytes than a Stratum V2 frame header.
    #[error("a Stratum V2 frame header takes 6 bytes, fewer are left")]
    FrameTruncated,
    /// Neither an own message type nor one of a known extension.
    #[error("message type {message:#04x} is not defined for extension {extension}")]
    UnknownMessage {
        /// Extension type without the channel bit.
        extension: u16,
        /// Message type.
        message: u8,
    },
    /// The channel bit is not as the message type demands.
    #[error("the channel bit is not as this message type demands")]
    ChannelBit,
    /// The frame's length goes over the end of the payload.
    #[error("the frame is cut off inside its payload")]
    FrameLength,
}

impl Reason {
    /// This reason at an offset of the payload.
    pub(super) const fn at(self, at: usize) -> Unrecognised {
        Unrecognised { at, reason: self }
    }
}
