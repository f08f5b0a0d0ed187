//! Memory in which packets are put together, against a plain list.

use super::Choices;
use blvm_mesh_core::link::packet_buffer::{Full, Growable, PacketBuffer};

const ROOM: usize = 96;
const KEEP: usize = 64;

/// Bytes are added and forgotten; what does not fit changes nothing.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let (mut fixed, mut growing) = (heapless::Vec::<u8, ROOM>::new(), Growable::new(KEEP));
    let (mut in_fixed, mut in_growing) = (Vec::new(), Vec::new());
    let (mut highest, mut all_fit) = (0, true);
    while !choices.is_empty() {
        let len = choices.below(80);
        if len == 0 {
            PacketBuffer::clear(&mut fixed);
            growing.clear();
            in_fixed.clear();
            in_growing.clear();
            assert!(growing.memory() <= KEEP, "{} bytes are kept", growing.memory());
            continue;
        }
        let limit = usize::from(choices.byte());
        let bytes = choices.take(len);
        highest = highest.max(limit);
        let most = limit.min(ROOM);
        all_fit &= append(&mut fixed, &mut in_fixed, bytes, limit, most);
        let before = growing.memory();
        all_fit &= append(&mut growing, &mut in_growing, bytes, limit, limit);
        let memory = growing.memory();
        assert!(memory == before || memory <= limit, "{memory} bytes for at most {limit}");
        assert!(memory <= (2 * in_growing.len()).max(before), "twice what has arrived");
        assert!(memory <= highest);
    }
    all_fit
}

fn append(
    buffer: &mut impl PacketBuffer,
    model: &mut Vec<u8>,
    bytes: &[u8],
    limit: usize,
    most: usize,
) -> bool {
    let fits = model.len() + bytes.len() <= most;
    if fits {
        model.extend(bytes);
    }
    assert_eq!(buffer.append(bytes, limit), if fits { Ok(()) } else { Err(Full) });
    assert_eq!(buffer.bytes_mut(), model);
    fits
}
