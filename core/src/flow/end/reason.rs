//! Why a packet is ignored, and why a flow ends.

/// Why a packet was not taken. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Ignored {
    /// Shorter than any packet.
    #[error("the packet is shorter than its number and tag")]
    TooShort,
    /// It came before, or is so old that nobody knows.
    #[error("the packet came before or is too old")]
    Replayed,
    /// The tag is wrong.
    #[error("the packet is not authentic")]
    Forged,
    /// The flow has ended.
    #[error("the flow has ended")]
    Ended,
}

/// How the peer, whose packets are authentic, broke the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[repr(u8)]
pub enum Violation {
    /// A frame of unknown kind or with fields that are not allowed.
    #[error("a packet holds a malformed frame")]
    Frame = 1,
    /// No frame at all.
    #[error("a packet holds no frames")]
    Empty = 2,
    /// More streams than the receiver allows.
    #[error("a frame is for a stream beyond the number of streams allowed")]
    StreamLimit = 3,
    /// More bytes than the receiver allows.
    #[error("a stream goes beyond the credit that it has")]
    StreamCredit = 4,
    /// The end of a stream moved.
    #[error("a stream has bytes behind its end, or two ends")]
    FinalSize = 5,
    /// A stream of the receiver's own that it has not opened.
    #[error("a frame is for a stream that was never opened")]
    UnknownStream = 6,
    /// A packet was acknowledged before it was sent.
    #[error("a packet is acknowledged that was never sent")]
    AckOfUnsent = 7,
    /// The destination says that it has sent more than it was granted.
    #[error("the destination says that it has sent more bytes than it was granted")]
    Credit = 8,
}

impl Violation {
    /// Every violation, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Frame,
        Self::Empty,
        Self::StreamLimit,
        Self::StreamCredit,
        Self::FinalSize,
        Self::UnknownStream,
        Self::AckOfUnsent,
        Self::Credit,
    ];

    /// The violation with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|violation| *violation as u32 == number)
    }
}

/// Why a flow has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Ended {
    /// This end's application closed it.
    #[error("closed by this end with code {0}")]
    Here(u32),
    /// The peer's application closed it.
    #[error("closed by the peer with code {0}")]
    There(u32),
    /// The peer broke the protocol.
    #[error("ended, because the peer broke the protocol: {0}")]
    Broken(Violation),
    /// The peer says that this end broke the protocol.
    #[error("ended by the peer, which saw the protocol broken: {0}")]
    Accused(Violation),
    /// The peer says so with a number that this version does not know.
    #[error("ended by the peer, which saw the protocol broken in a way with unknown number {0}")]
    AccusedOf(u32),
    /// All packet numbers are used up.
    #[error("ended, because the packet numbers are used up")]
    Exhausted,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn reasons_print_as_sentences_and_have_their_numbers() {
        let reason = Ended::Broken(Violation::FinalSize).to_string();
        let sentence = "a stream has bytes behind its end, or two ends";
        assert_eq!(reason, std::format!("ended, because the peer broke the protocol: {sentence}"));
        let numbers = (0..=300).filter_map(Violation::from_number);
        assert!(numbers.eq(Violation::ALL));
    }
}
