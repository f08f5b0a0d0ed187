//! Frames' bodies with records, against a plain reading of their format.

use super::Choices;
use blvm_mesh_core::link::joiner::{Joiner, Packet};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::link::packet_buffer::{Full, Growable, PacketBuffer};

const MAX_PACKET: usize = 300;
const ROOM: usize = 128;
const TIMEOUT: u64 = 100;

/// Bodies one after the other, as bytes or put together from records.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let lane = || Watched(Growable::new(0));
    let mut host = Joiner::new(MAX_PACKET, TIMEOUT, lane(), lane());
    let room = heapless::Vec::<u8, ROOM>::new;
    let mut board = Joiner::new(MAX_PACKET, TIMEOUT, room(), room());
    let (mut host_model, mut board_model) = (Model::new(MAX_PACKET), Model::new(ROOM));
    let (mut now, mut taken) = (0, false);
    let (mut host_fails, mut board_fails) = (false, false);
    while !choices.is_empty() {
        if host_fails && board_fails {
            break;
        }
        now += u64::from(choices.byte() & 0x1f);
        let body = body(&mut choices);
        // After an error the link is closed.
        if !host_fails {
            host_fails = !compare(&mut host, &mut host_model, now, &body, &mut taken);
        }
        if !board_fails {
            board_fails = !compare(&mut board, &mut board_model, now, &body, &mut taken);
        }
    }
    taken
}

/// A body: odd, so many bytes as they are; even, so many records.
fn body(choices: &mut Choices<'_>) -> Vec<u8> {
    let how = choices.byte();
    if how & 1 == 1 {
        return choices.take(usize::from(how)).to_vec();
    }
    let mut body = Vec::new();
    for _ in 0..how >> 1 & 7 {
        let (flags, bytes) = (choices.byte() & 3, usize::from(choices.byte()));
        body.extend([flags, 0, bytes as u8, 0]);
        body.resize(body.len() + bytes, flags);
    }
    body
}

/// Takes a body; false if it is refused. Packets and refusal are as expected.
fn compare<B: PacketBuffer>(
    joiner: &mut Joiner<B>,
    model: &mut Model,
    now: u64,
    body: &[u8],
    taken: &mut bool,
) -> bool {
    let mut bytes = body.to_vec();
    let mut packets = Vec::new();
    let result = joiner.records(now, &mut bytes).and_then(|mut records| {
        while let Some(Packet { lane, bytes }) = records.next()? {
            packets.push((lane, bytes.to_vec()));
        }
        Ok(())
    });
    let mut expected = Vec::new();
    let fine = model.take(now, body, &mut expected).is_some();
    assert_eq!((result.is_ok(), &packets), (fine, &expected), "{result:?}");
    *taken |= !packets.is_empty();
    if fine {
        let deadline = model.lanes.iter().flatten().map(|(_, deadline)| *deadline).min();
        assert_eq!(joiner.poll_timeout(), deadline);
    }
    fine
}

/// The packets in assembly, free and paid, and until when they must be complete.
struct Model {
    lanes: [Option<(Vec<u8>, u64)>; 2],
    room: usize,
}

impl Model {
    fn new(room: usize) -> Self {
        Self { lanes: [None, None], room }
    }

    fn take(&mut self, now: u64, body: &[u8], out: &mut Vec<(Lane, Vec<u8>)>) -> Option<()> {
        let overdue = self.lanes.iter().flatten().any(|(_, deadline)| now >= *deadline);
        if overdue || body.is_empty() {
            return None;
        }
        let mut rest = body;
        while !rest.is_empty() {
            let [flags @ 0..=3, 0, low, high] = *rest.first_chunk::<4>()? else { return None };
            let len = usize::from(u16::from_le_bytes([low, high]));
            let bytes = rest.get(4..4 + len).filter(|bytes| !bytes.is_empty())?;
            rest = &rest[4 + len..];
            let lane = usize::from(flags >> 1);
            let (more, begun) = (flags & 1 == 1, self.lanes[lane].is_some());
            let (mut packet, deadline) =
                self.lanes[lane].take().unwrap_or((Vec::new(), now + TIMEOUT));
            packet.extend(bytes);
            // One that came in one record uses no memory.
            let most = if more || begun { self.room } else { MAX_PACKET };
            if packet.len() > most {
                return None;
            }
            match more {
                true => self.lanes[lane] = Some((packet, deadline)),
                false => out.push(([Lane::Free, Lane::Paid][lane], packet)),
            }
        }
        Some(())
    }
}

/// Memory that is looked at with every use.
struct Watched(Growable);

impl PacketBuffer for Watched {
    fn append(&mut self, bytes: &[u8], limit: usize) -> Result<(), Full> {
        let result = self.0.append(bytes, limit);
        assert!(self.0.memory() <= MAX_PACKET.min(limit));
        result
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    fn clear(&mut self) {
        self.0.clear();
        assert_eq!(self.0.memory(), 0, "nothing is kept");
    }
}
