//! A relay on a board: the state machine of `blvm-mesh-core` over byte streams
//! such as UARTs, in fixed memory, driven by one loop.
//!
//! ```text
//! static MEMORY: ConstStaticCell<BoardMemory<RustCrypto, 2, 1040, 2064, 320>> =
//!     ConstStaticCell::new(BoardMemory::EMPTY);
//! let mut board = Board::<RustCrypto, _, 2>::new(MEMORY.take(), config, key, seed, ports);
//! board.run(&mut platform)
//! ```
//!
//! [`Platform`] is what the loop needs of a board beside its ports: a clock, sleep, a
//! watchdog and a light. A program with a loop of its own calls [`Board::step`].
//!
//! Each port carries one link over frames that may be lost, repeated or damaged
//! ([`blvm_mesh_core::link::datagram`]). It either dials, and knows whom to expect, or
//! listens. Noise on a line changes nothing; an end that began anew is taken up again.
//!
//! A board may have a radio beside its lines ([`radio`]): a channel on which it finds neighbours.
//!
//! With a [`Storage`], such as [`FlashStore`], accepted payments and the accounts of sources
//! survive a restart. Without one a board refuses payments dated before its start.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod board;
mod gate;
mod header_clock;
mod kept;
mod line;
mod memory;
mod platform;
pub mod radio;
#[cfg(feature = "recording")]
pub mod recording;
mod relay;
mod report;
mod serial;
mod store;
#[cfg(test)]
mod tests;
mod wire;

pub use board::Board;
pub use memory::BoardMemory;
pub use platform::{LineStatus, Platform, Status};
pub use report::Report;
pub use serial::Serial;
pub use store::{FlashStore, Storage, StoreError};

pub use blvm_mesh_core::link::datagram::Role;

use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::datagram;
use blvm_mesh_core::mesh::{Event, MeshError, Ticket};
use blvm_mesh_core::policy::DetectedProtocol;
use blvm_mesh_core::time::{Micros, SECOND};
use sha2::{Digest, Sha256};

/// How long a port is silent after the state machine has ended its link.
pub const PAUSE: Micros = SECOND;

/// Longest silence on a line where the configuration names none. Without it the end of
/// a line would never be noticed.
pub const KEEPALIVE: Micros = 5 * SECOND;

/// A stream of bytes in both directions, such as a UART. Neither call waits.
pub trait Port {
    /// Fills the beginning of `buf` with bytes that have come in; returns how many,
    /// 0 if there are none.
    fn read(&mut self, buf: &mut [u8]) -> usize;

    /// Takes bytes from the beginning of `bytes`; returns how many, 0 if there is
    /// no room.
    fn write(&mut self, bytes: &[u8]) -> usize;
}

/// Why a link is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Down {
    /// The link itself ended.
    #[error("{0}")]
    Link(datagram::Down),
    /// The state machine closed it.
    #[error("{0}")]
    Mesh(MeshError),
}

/// What [`Board::step`] and [`Board::send`] tell their caller.
#[derive(Debug)]
pub enum Happening<'a> {
    /// A datagram for this node came in.
    Deliver {
        /// Who sent it. Proven only where it was paid for.
        source: NodeId,
        /// Its number.
        sequence: u64,
        /// What it carries.
        payload: &'a [u8],
        /// What the payload is.
        protocol: DetectedProtocol,
        /// What this node earned with it, in millisatoshi.
        earned_msat: u64,
    },
    /// An own paid datagram leaves, these bytes one after the other. Who keeps them can have
    /// it [sent again](Board::send_again) without another payment; the board keeps no copy.
    Paid {
        /// Its number.
        sequence: u64,
        /// What stands before the payload.
        head: &'a [u8],
        /// The payload that it was given.
        payload: &'a [u8],
    },
    /// A route was found: give the datagram with this ticket to [`Board::send`] again.
    SendAgain(Ticket),
    /// The datagram with this ticket will not be sent.
    NotSent(Ticket, MeshError),
    /// What a neighbour sent on this port was refused.
    Refused {
        /// Place of the port among those given to [`Board::new`]; their number: the radio.
        port: usize,
        /// Why.
        reason: MeshError,
    },
    /// The link of a port is down. It is tried anew.
    LinkDown {
        /// Place of the port among those given to [`Board::new`]; their number: the radio.
        port: usize,
        /// Why.
        reason: Down,
    },
    /// A payment could not be recorded, and what it paid for was not sent. No payment is
    /// accepted until [`Happening::StoreRecovered`].
    StoreFailed(StoreError),
    /// What could not be recorded is recorded now; payments are accepted again.
    StoreRecovered,
    /// The radio's chip is set up and listens.
    RadioStarted,
    /// It cannot be used, for this reason; it is tried again.
    RadioFailed(core::fmt::Arguments<'a>),
    /// Something happened in the mesh.
    Event(Event),
}

/// What became of an own datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// It waits in the queue of its link, under this number.
    Queued(u64),
    /// A route is being searched. The board does not keep the datagram: send it
    /// again at [`Happening::SendAgain`] with this ticket.
    Searching(Ticket),
    /// It was refused.
    Refused(MeshError),
}

/// The seed of a start, from a configuration's secret, the number of the start and what a
/// hardware generator gives. Of the number and the generator one must be new each time.
pub fn run_seed(secret: &[u8; 32], start: u32, entropy: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"blvm-mesh start");
    hash.update(secret);
    hash.update(start.to_le_bytes());
    hash.update(entropy);
    hash.finalize().into()
}
