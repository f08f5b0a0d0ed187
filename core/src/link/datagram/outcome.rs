//! What a datagram link tells its caller.

use super::inbound::BadPacket;
use crate::link::{handshake::HandshakeError, packet_buffer::Full};
use secp256k1::PublicKey;

/// What happened to the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A session stands with the holder of this key, who has proven it.
    Up(PublicKey),
    /// The session is over. What was queued is lost.
    Down(Down),
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Down {
    /// Nothing that had to be acknowledged was.
    #[error("the neighbour no longer acknowledges anything")]
    Silent,
    /// The neighbour began anew.
    #[error("the neighbour opened the link again")]
    Replaced,
    /// The neighbour's packet cannot be taken.
    #[error("{0}")]
    Packet(BadPacket),
    /// No frame can be sealed any more.
    #[error("the counters of the session are used up")]
    Counters,
    /// The neighbour said that it has closed the link.
    #[error("the neighbour closed the link")]
    ByNeighbour,
    /// [`super::DatagramLink::close`] was called.
    #[error("this node closed the link")]
    Closed,
}

/// Why a frame that came in was ignored. Nothing has changed but an allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Ignored {
    /// It has no form that a frame can have.
    #[error("not a frame of a link")]
    NotAFrame,
    /// A handshake of another version.
    #[error("a handshake of version {0}, not 1")]
    Version(u8),
    /// A handshake with terms that nobody can hold to.
    #[error("a handshake with a frame size or session number out of range")]
    Terms,
    /// An act that this end of the line does not take.
    #[error("an act of a handshake that this end does not take part in")]
    NotForUs,
    /// No session or handshake has this number.
    #[error("a frame of a session that is not known here")]
    UnknownSession,
    /// An act is not what it should be.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// Strangers have used up what this node does for them at a time.
    #[error("too many handshakes at a time")]
    TooManyHandshakes,
    /// Another neighbour came while the session stands.
    #[error("another neighbour opened a link while this one stands")]
    OtherNeighbour,
    /// The frame came before, or is so old that nobody knows.
    #[error("a frame that came before, or too late")]
    Replayed,
    /// The frame is not authentic.
    #[error("a frame that is not authentic")]
    Forged,
    /// The neighbour's frame has no meaning.
    #[error("an authentic frame that cannot be read")]
    Malformed,
    /// The neighbour sent more than this node holds. It will send it again.
    #[error("a frame with more bytes than this node can hold")]
    NoRoom,
}

impl From<Full> for Ignored {
    fn from(Full: Full) -> Self {
        Self::NoRoom
    }
}

/// Why a packet was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum NotQueued {
    /// No session stands.
    #[error("the link is down")]
    Down,
    /// The packet is longer than the neighbour takes, or than the queue.
    #[error("the packet of {len} bytes is longer than the {max} that this link carries")]
    TooLong {
        /// Bytes of the packet.
        len: usize,
        /// Bytes that are carried at most.
        max: usize,
    },
    /// There is no room now.
    #[error("the queue of the link is full")]
    Full,
    /// There is nothing to send.
    #[error("the packet is empty")]
    Empty,
}
