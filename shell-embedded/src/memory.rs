//! The memory of a board: everything large, so that none of it is ever on the stack.

use blvm_mesh_core::link::transport::FRAME_OVERHEAD;
use blvm_mesh_core::mesh::Tables;
use blvm_mesh_core::tables::Fixed;

/// Bytes of a queue that only packets of the mesh itself may take.
pub(crate) const CONTROL_RESERVE: usize = 512;
/// Bytes in front of each packet in a queue: its lane and its length.
pub(crate) const ENTRY_HEADER: usize = 3;

/// What a [`Board`](crate::Board) works in: a static value, all zeros at the start.
///
/// ```text
/// static MEMORY: ConstStaticCell<BoardMemory<2, 1024, 512, 4096>> =
///     ConstStaticCell::new(BoardMemory::EMPTY);
/// ```
///
/// - `PORTS`: number of ports.
/// - `PACKET`: largest packet in bytes; two are kept per port while they come in
///   in pieces.
/// - `FRAME`: largest frame in bytes, sent and accepted, 34 of them overhead; two
///   are kept per port. No neighbour may send larger ones.
/// - `QUEUE`: bytes per port for packets that wait to be sent. It must have room
///   for two largest packets and 1030 bytes more.
pub struct BoardMemory<
    const PORTS: usize,
    const PACKET: usize,
    const FRAME: usize,
    const QUEUE: usize,
> {
    pub(crate) tables: Tables<Fixed>,
    pub(crate) received: [Received<PACKET, FRAME>; PORTS],
    pub(crate) sent: [Sent<FRAME, QUEUE>; PORTS],
}

/// What comes in on a port.
pub(crate) struct Received<const PACKET: usize, const FRAME: usize> {
    pub(crate) free: heapless::Vec<u8, PACKET>,
    pub(crate) paid: heapless::Vec<u8, PACKET>,
    pub(crate) frame: [u8; FRAME],
}

impl<const PACKET: usize, const FRAME: usize> Received<PACKET, FRAME> {
    const EMPTY: Self =
        Self { free: heapless::Vec::new(), paid: heapless::Vec::new(), frame: [0; FRAME] };
}

/// What goes out on a port.
pub(crate) struct Sent<const FRAME: usize, const QUEUE: usize> {
    pub(crate) queue: heapless::Vec<u8, QUEUE>,
    pub(crate) frame: [u8; FRAME],
}

impl<const FRAME: usize, const QUEUE: usize> Sent<FRAME, QUEUE> {
    const EMPTY: Self = Self { queue: heapless::Vec::new(), frame: [0; FRAME] };
}

impl<const PORTS: usize, const PACKET: usize, const FRAME: usize, const QUEUE: usize>
    BoardMemory<PORTS, PACKET, FRAME, QUEUE>
{
    const SIZES_FIT: () = {
        assert!(FRAME > 66 + FRAME_OVERHEAD, "a frame must hold an act of the handshake");
        assert!(PACKET <= u16::MAX as usize, "a packet has at most 65535 bytes");
        assert!(QUEUE / 2 >= PACKET + ENTRY_HEADER + CONTROL_RESERVE, "the queue is too short");
    };

    /// Memory that holds nothing yet.
    pub const EMPTY: Self = {
        let () = Self::SIZES_FIT;
        Self {
            tables: Tables::EMPTY,
            received: [const { Received::EMPTY }; PORTS],
            sent: [const { Sent::EMPTY }; PORTS],
        }
    };
}
