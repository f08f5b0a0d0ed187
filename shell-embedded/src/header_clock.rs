//! The time from Bitcoin's block headers that pass, for a board without a clock.

use blvm_mesh_core::config::fixed::HEADERS;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::headers::{HEADER_LEN, HeaderError, HeaderStore};
use blvm_mesh_core::tables::Fixed;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::header::Header;

/// Follows the chain of headers on from a checkpoint, and takes the time from its tip.
///
/// A header counts if it follows the checkpoint over headers that came by, carries the
/// work that it claims, and claims at least a quarter of the checkpoint's: in one period
/// the difficulty falls by no more. So a false time costs as much as a false block. The
/// time is that of the newest block: it lags by minutes, sometimes by an hour, so that
/// [`future_skew`](blvm_mesh_core::config::PaymentRules::future_skew) should be two hours.
pub struct HeaderClock {
    store: HeaderStore<Fixed>,
    /// First bytes of the network's messages.
    magic: [u8; 4],
    /// The exponent and the mantissa of the easiest target that is taken.
    easiest: (u32, u32),
    /// The latest time that was given.
    latest: u32,
}

impl HeaderClock {
    /// A clock that knows nothing yet.
    pub const EMPTY: Self =
        Self { store: HeaderStore::EMPTY, magic: [0; 4], easiest: (0, 0), latest: 0 };

    /// Sets the block from which headers are followed. It should be recent: every header
    /// since then must come by, in order. Its own time is not taken, because it is past.
    /// `magic` begins the network's messages, as in
    /// [`Config::magic`](blvm_mesh_core::config::Config::magic).
    ///
    /// # Errors
    /// [`HeaderError`]: it is no header of the network.
    pub fn start(
        &mut self,
        network: Network,
        magic: [u8; 4],
        checkpoint: &[u8; HEADER_LEN],
    ) -> Result<(), HeaderError> {
        self.store.prepare(HEADERS, network);
        self.store.insert(checkpoint, None)?;
        let (exponent, mantissa) = size_of_target(checkpoint);
        self.magic = magic;
        self.easiest = (exponent + 2, mantissa);
        self.latest = 0;
        Ok(())
    }

    /// Looks at a packet that passes. Gives the time in seconds since 1970 if it brought
    /// a newer one.
    pub(crate) fn see_packet(&mut self, packet: &[u8]) -> Option<u64> {
        let (header, body) = Header::parse(packet).ok()?;
        let datagram = Datagram::parse(header, body).ok()?;
        let rest = datagram.payload.strip_prefix(&self.magic)?;
        let rest = rest.strip_prefix(b"headers\0\0\0\0\0")?;
        // Length and check, and the number of headers, which fits a byte here.
        let (_, headers) = rest.split_at_checked(4 + 4 + 1)?;
        let (headers, _) = headers.as_chunks::<{ HEADER_LEN + 1 }>();
        headers.iter().filter_map(|h| self.see(h.first_chunk()?)).last()
    }

    /// Takes one header.
    fn see(&mut self, header: &[u8; HEADER_LEN]) -> Option<u64> {
        if size_of_target(header) > self.easiest {
            return None;
        }
        self.store.insert(header, None).ok()?;
        let (tip, _) = self.store.tip()?;
        let time = self.store.get(&tip)?.time;
        (time > self.latest && self.store.len() > 1).then(|| {
            self.latest = time;
            u64::from(time)
        })
    }
}

/// The target of a header as a length in bits and its 32 leading bits: such pairs are in
/// the order of the targets.
fn size_of_target(header: &[u8; HEADER_LEN]) -> (u32, u32) {
    let [.., b0, b1, b2, exponent, _, _, _, _] = *header;
    let mantissa = u32::from_le_bytes([b0, b1, b2, 0]);
    let zeros = mantissa.leading_zeros();
    ((8 * u32::from(exponent) + 8).saturating_sub(zeros), mantissa.checked_shl(zeros).unwrap_or(0))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use bitcoin::block::Header as Block;
    use bitcoin::consensus::{deserialize, serialize};
    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, CompactTarget, Target, TxMerkleNode};
    use blvm_mesh_core::id::NodeId;
    use blvm_mesh_core::wire::datagram::{Emit, Form, head_len};
    use std::vec::Vec;

    pub(crate) fn mined(previous: BlockHash, time: u32, bits: u32) -> Block {
        let mut block = Block {
            version: Default::default(),
            prev_blockhash: previous,
            merkle_root: TxMerkleNode::all_zeros(),
            time,
            bits: CompactTarget::from_consensus(bits),
            nonce: 0,
        };
        while !block.target().is_met_by(block.block_hash()) {
            block.nonce += 1;
        }
        block
    }

    pub(crate) fn raw(block: &Block) -> [u8; HEADER_LEN] {
        serialize(block).try_into().unwrap()
    }

    /// A `headers` message.
    pub(crate) fn message(blocks: &[Block]) -> Vec<u8> {
        let mut body = std::vec![blocks.len() as u8];
        for block in blocks {
            body.extend(raw(block));
            body.push(0);
        }
        let mut payload = Network::Regtest.magic().to_vec();
        payload.extend(b"headers\0\0\0\0\0");
        payload.extend((body.len() as u32).to_le_bytes());
        payload.extend(&bitcoin::hashes::sha256d::Hash::hash(&body).to_byte_array()[..4]);
        payload.extend(body);
        payload
    }

    /// A datagram that carries it.
    fn packet(blocks: &[Block]) -> Vec<u8> {
        let payload = message(blocks);
        let (source, destination) = (NodeId([1; 32]), NodeId([2; 32]));
        let emit =
            Emit { hop_limit: 0, sequence: 1, source, destination, proof: None, form: Form::Plain };
        let mut out = std::vec![0; head_len(0, 0)];
        emit.write(&[], &payload, &mut out, |_| [0; 64]).unwrap();
        out.extend(payload);
        out
    }

    /// Sixteen times the least work of regtest.
    const BITS: u32 = 0x2007_ffff;
    const EASIEST: u32 = 0x201f_fffc;
    const TOO_EASY: u32 = 0x201f_ffff;

    fn clock() -> (HeaderClock, Block) {
        let checkpoint = mined(BlockHash::all_zeros(), 1_000, BITS);
        let mut clock = HeaderClock::EMPTY;
        clock.start(Network::Regtest, Network::Regtest.magic(), &raw(&checkpoint)).unwrap();
        (clock, checkpoint)
    }

    #[test]
    fn the_time_follows_the_chain() {
        let (mut clock, checkpoint) = clock();
        assert_eq!(clock.see_packet(&packet(&[checkpoint])), None);
        let one = mined(checkpoint.block_hash(), 2_000, BITS);
        let two = mined(one.block_hash(), 3_000, EASIEST);
        let three = mined(two.block_hash(), 2_500, BITS);
        // What does not follow waits for nobody.
        assert_eq!(clock.see_packet(&packet(&[two])), None);
        assert_eq!(clock.see_packet(&packet(&[one, two])), Some(3_000));
        assert_eq!(clock.see_packet(&packet(&[one, two])), None);
        // Blocks may be dated before the one that they follow; the time stays.
        assert_eq!(clock.see_packet(&packet(&[three])), None);
        let four = mined(three.block_hash(), 4_000, BITS);
        assert_eq!(clock.see_packet(&packet(&[four])), Some(4_000));
    }

    #[test]
    fn a_time_costs_work() {
        let (mut clock, checkpoint) = clock();
        let easy = mined(checkpoint.block_hash(), 9_000, TOO_EASY);
        assert_eq!(clock.see_packet(&packet(&[easy])), None);
        let mut idle = mined(checkpoint.block_hash(), 9_000, BITS);
        while idle.target().is_met_by(idle.block_hash()) {
            idle.nonce += 1;
        }
        assert_eq!(clock.see_packet(&packet(&[idle])), None);
        let right = mined(checkpoint.block_hash(), 9_000, EASIEST);
        let mut bytes = packet(&[right]);
        assert_eq!(clock.see_packet(&bytes[..bytes.len() - 1]), None);
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(clock.see_packet(&bytes), None);
        assert_eq!(clock.see_packet(&packet(&[right])), Some(9_000));
    }

    #[test]
    fn sizes_are_in_the_order_of_targets() {
        let all = [0x1d00_ffff, 0x1c7f_ffff, 0x1e03_77ae, 0x207f_ffff, 0x1705_3894, 0x1d01_0000];
        let of = |bits: u32| {
            let mut header = [0; HEADER_LEN];
            header[72..76].copy_from_slice(&bits.to_le_bytes());
            let block: Block = deserialize(&header).unwrap();
            (size_of_target(&header), Target::from_compact(block.bits))
        };
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (of(*a), of(*b)))) {
            assert_eq!(a.0.cmp(&b.0), a.1.cmp(&b.1));
        }
    }
}
