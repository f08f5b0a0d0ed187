//! The memory of a board: everything large, so that none of it is ever on the stack.

use crate::line::Line;
use blvm_mesh_core::link::datagram::serial::encoded_len;
use blvm_mesh_core::link::datagram::terms::MIN_FRAME;
use blvm_mesh_core::link::datagram::{LinkMemory, MEMORY_OVERHEAD};
use blvm_mesh_core::mesh::Tables;
use blvm_mesh_core::tables::Fixed;
use heapless::{Vec, VecView};

/// Bytes of a queue that only packets of the mesh itself may take.
pub(crate) const CONTROL_RESERVE: usize = 512;

/// Memory of a lane, lent.
pub(crate) type Lent = &'static mut VecView<u8>;

/// What a [`Board`](crate::Board) works in: a static value, all zeros at the start.
///
/// ```text
/// static MEMORY: ConstStaticCell<BoardMemory<RustCrypto, 2, 1040, 2064, 320>> =
///     ConstStaticCell::new(BoardMemory::EMPTY);
/// ```
///
/// - `A`: the ciphers.
/// - `PORTS`: number of ports.
/// - `LANE`: bytes per port and lane for what comes in; the largest packet has 16 bytes
///   less ([`MEMORY_OVERHEAD`]).
/// - `QUEUE`: bytes per port and lane for what waits to be sent or acknowledged; at
///   least `LANE` and 512 bytes more.
/// - `LINE`: bytes of the largest frame as it is on a line; the frame itself is a
///   few bytes shorter.
pub struct BoardMemory<
    A,
    const PORTS: usize,
    const LANE: usize,
    const QUEUE: usize,
    const LINE: usize,
> {
    pub(crate) tables: Tables<Fixed>,
    /// Filled once, where they stand.
    pub(crate) links: Vec<Line<A>, PORTS>,
    pub(crate) lanes: [Lanes<LANE, QUEUE>; PORTS],
    pub(crate) frames: [Frames<LINE>; PORTS],
    /// A packet while the state machine has it.
    pub(crate) packet: Vec<u8, LANE>,
    /// A frame before it is made fit for the line.
    pub(crate) frame: [u8; LINE],
}

/// What a link keeps of both lanes.
pub(crate) struct Lanes<const LANE: usize, const QUEUE: usize> {
    inbound: [Vec<u8, LANE>; 2],
    outbound: [Vec<u8, QUEUE>; 2],
}

impl<const LANE: usize, const QUEUE: usize> Lanes<LANE, QUEUE> {
    const EMPTY: Self =
        Self { inbound: [const { Vec::new() }; 2], outbound: [const { Vec::new() }; 2] };

    pub(crate) fn lend(&'static mut self) -> LinkMemory<Lent> {
        LinkMemory {
            inbound: self.inbound.each_mut().map(|lane| lane.as_mut_view()),
            outbound: self.outbound.each_mut().map(|lane| lane.as_mut_view()),
        }
    }
}

/// A frame that comes in, and one that goes out.
pub(crate) struct Frames<const LINE: usize> {
    pub(crate) received: [u8; LINE],
    pub(crate) sent: [u8; LINE],
}

impl<A, const PORTS: usize, const LANE: usize, const QUEUE: usize, const LINE: usize>
    BoardMemory<A, PORTS, LANE, QUEUE, LINE>
{
    /// Bytes of the largest packet that such a board takes.
    pub const MAX_PACKET: usize = LANE.saturating_sub(MEMORY_OVERHEAD);
    /// Bytes of the largest frame.
    pub const FRAME: u16 = {
        let mut frame = LINE;
        while frame > 0 && encoded_len(frame) > LINE {
            frame -= 1;
        }
        frame as u16
    };
    /// Bytes that wait on a lane at most.
    pub(crate) const QUEUED: usize = QUEUE.saturating_sub(MEMORY_OVERHEAD);

    const SIZES_FIT: () = {
        assert!(LINE <= u16::MAX as usize, "a frame has at most 65535 bytes");
        assert!(Self::FRAME >= MIN_FRAME, "a frame must hold an act of the handshake");
        assert!(LANE > MEMORY_OVERHEAD, "a lane must hold a packet");
        assert!(QUEUE >= LANE + CONTROL_RESERVE, "the queue is too short");
    };

    /// Memory that holds nothing yet.
    pub const EMPTY: Self = {
        let () = Self::SIZES_FIT;
        Self {
            tables: Tables::EMPTY,
            links: Vec::new(),
            lanes: [const { Lanes::EMPTY }; PORTS],
            frames: [const { Frames { received: [0; LINE], sent: [0; LINE] } }; PORTS],
            packet: Vec::new(),
            frame: [0; LINE],
        }
    };
}
