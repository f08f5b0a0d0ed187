//! A relay on a board: the state machine of `blvm-mesh-core` over byte streams
//! such as UARTs, in fixed memory, driven by one loop.
//!
//! ```text
//! static MEMORY: ConstStaticCell<BoardMemory<2, 1024, 512, 4096>> =
//!     ConstStaticCell::new(BoardMemory::EMPTY);
//! let mut board = Board::<RustCrypto, _, 2>::new(MEMORY.take(), config, key, seed, ports);
//! board.run(&mut platform)
//! ```
//!
//! [`Platform`] is what the loop needs of a board beside its ports: a clock, sleep, a
//! watchdog and a light. A program with a loop of its own calls [`Board::step`].
//!
//! Each port carries one link. It either dials, and knows whom to expect, or
//! listens. A link that fails in any way is dropped and made anew after a pause in
//! which the port sends nothing and discards what it hears: so both ends agree
//! again where the stream begins.
//!
//! With a [`Storage`], such as [`FlashStore`], accepted payments survive a restart. Without
//! one a board refuses payments dated before its start.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod board;
mod egress;
mod header_clock;
mod memory;
mod platform;
pub mod recording;
mod relay;
mod side;
mod store;
#[cfg(test)]
mod tests;

pub use board::Board;
pub use header_clock::HeaderClock;
pub use memory::BoardMemory;
pub use platform::{Platform, Status};
pub use store::{FlashStore, Storage, StoreError};

use bitcoin::secp256k1::PublicKey;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::link::LinkError;
use blvm_mesh_core::link::fragment::FragmentError;
use blvm_mesh_core::mesh::{Event, MeshError, Ticket};
use blvm_mesh_core::policy::detect::DetectedProtocol;
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};

/// How long a port that dials rests after its link failed.
pub const PAUSE: Micros = SECOND;
/// How long a line must be silent before a port that listens takes what follows
/// for the beginning of a handshake. Shorter than [`PAUSE`], so that the port is
/// ready when the other end dials again.
pub const QUIET: Micros = 500 * MILLISECOND;
/// How long a handshake may take from its first byte on.
pub const HANDSHAKE_TIMEOUT: Micros = 3 * SECOND;
/// How long a packet may take from its first fragment to its last.
pub const PACKET_TIMEOUT: Micros = 5 * SECOND;

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

/// What a port does to get a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opens it to the holder of this key. The other end must listen.
    Dial(PublicKey),
    /// Accepts it from whoever may come.
    Listen,
}

/// Why a link was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum Down {
    /// The handshake or a frame failed.
    #[error("{0}")]
    Link(LinkError),
    /// The records in a frame are not acceptable.
    #[error("{0}")]
    Fragment(FragmentError),
    /// The neighbour does not say how long it may be silent at most, so that nobody would
    /// notice the end of the line.
    #[error("the neighbour sends no keep-alive; set its keep-alive")]
    NoKeepalive,
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
    /// A route was found: give the datagram with this ticket to [`Board::send`] again.
    SendAgain(Ticket),
    /// The datagram with this ticket will not be sent.
    NotSent(Ticket, MeshError),
    /// What a neighbour sent on this port was refused.
    Refused {
        /// Place of the port among those given to [`Board::new`].
        port: usize,
        /// Why.
        reason: MeshError,
    },
    /// The link of a port was dropped, or never came up. It is tried anew.
    LinkDown {
        /// Place of the port among those given to [`Board::new`].
        port: usize,
        /// Why.
        reason: Down,
    },
    /// A payment could not be recorded, and what it paid for was not sent. No payment is
    /// accepted any more.
    StoreFailed(StoreError),
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
