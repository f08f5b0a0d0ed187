//! A LoRa radio of a board: a driver for its chip, and the channel that many share on it.
//!
//! ```text
//! state machine -- packets, packets for all --> Radio (links) --> Channel -- frames --> Modem
//!       ^                                          |  ^             |  ^                 |
//!       +------------ packets, neighbours ---------+  +-- events ---+  +--- frames ------+
//! ```
//!
//! On the air is what modems with RNode firmware put there, so that a board and a node with such a
//! modem hear each other.

mod beside;
mod link;
mod on_air;
mod sx1262;

pub use beside::{Beside, NoRadio, Opened, RadioEvent, Sender};
pub use on_air::{Radio, RadioChannel, RadioCounts};
pub use sx1262::Sx1262;

use blvm_mesh_core::time::Micros;

/// Most bytes that a LoRa chip sends and receives at once.
pub const MAX_BYTES: usize = 255;

/// A LoRa chip that has its settings. No call waits longer than some milliseconds.
///
/// After an error nothing but [`start`](Self::start) is called.
pub trait Modem {
    /// Sets the chip up from nothing and listens.
    ///
    /// # Errors
    /// [`ModemError`]: it cannot be used now.
    fn start(&mut self, now: Micros) -> Result<(), ModemError>;

    /// What happened since it was last asked, one thing at a time; a frame is put at the front of
    /// `received`.
    ///
    /// # Errors
    /// [`ModemError`]: the chip must be started anew.
    fn poll(
        &mut self,
        now: Micros,
        received: &mut [u8; MAX_BYTES],
    ) -> Result<Option<Signal>, ModemError>;

    /// When [`poll`](Self::poll) must be called, even if the chip tells nothing.
    fn poll_timeout(&self) -> Option<Micros>;

    /// Whether nobody is heard sending now, where the law wants that to be measured before each
    /// frame.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    fn is_free(&mut self) -> Result<bool, ModemError>;

    /// Sends bytes, at most [`MAX_BYTES`]; [`Signal::Sent`] follows. One frame at a time.
    ///
    /// # Errors
    /// As for [`poll`](Self::poll).
    fn send(&mut self, now: Micros, bytes: &[u8]) -> Result<(), ModemError>;
}

/// What a chip tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Somebody is heard sending, or was not after all. What is heard to its end tells by that.
    Carrier(bool),
    /// So many bytes were received.
    Heard {
        /// How many.
        len: usize,
        /// Signal to noise in quarters of a dB.
        snr: i8,
    },
    /// Something was received whose check is wrong.
    Damaged,
    /// What was sent is on the air no more; false: it was not sent to its end.
    Sent(bool),
}

/// Why a chip must be started anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum ModemError {
    /// It does not get ready.
    #[error("the radio chip stays busy: has it power, and are its pins right?")]
    Busy,
    /// The bus or a pin cannot be used.
    #[error("the radio chip's bus cannot be used")]
    Bus,
    /// What was written to it does not come back.
    #[error("the radio chip does not answer: are its pins right?")]
    NoAnswer,
    /// It tells of errors of its clocks or of its amplifier.
    #[error("the radio chip tells of errors {0:#06x} (GetDeviceErrors)")]
    Device(u16),
    /// It does something else than it was told to.
    #[error("the radio chip has restarted")]
    Restarted,
    /// It does not tell that a frame was sent.
    #[error("the radio chip does not finish sending")]
    Stuck,
}
