//! Bitcoin's block headers that pass, for a board that has no other way to know the chain, or the time.

use blvm_mesh_core::payment::headers::HEADER_LEN;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::header::Header;

/// Chooses the headers that count, on from a checkpoint, and takes the time from the newest.
///
/// A header counts if it follows the checkpoint over headers that came by, carries the
/// work that it claims (both are the state machine's to check), and claims at least a quarter of
/// the checkpoint's: in one period the difficulty falls by no more. So a false time costs as much as
/// a false block. The time is that of the newest block: it lags by minutes, sometimes by an hour,
/// so that [`future_skew`](blvm_mesh_core::config::PaymentRules::future_skew) should be two hours.
#[derive(Debug)]
pub(crate) struct HeaderClock {
    /// First bytes of the network's messages.
    magic: [u8; 4],
    /// The exponent and the mantissa of the easiest target that is taken.
    easiest: (u32, u32),
    /// The latest time that was given; all ones: none is.
    latest: u32,
}

impl HeaderClock {
    /// On from a block. It should be recent: every header since then must come by, in order. Its own
    /// time is not taken, because it is past. `magic` begins the network's messages.
    pub(crate) fn new(magic: [u8; 4], checkpoint: &[u8; HEADER_LEN], tells_time: bool) -> Self {
        let (exponent, mantissa) = size_of_target(checkpoint);
        let latest = if tells_time { time_of(checkpoint) } else { u32::MAX };
        Self { magic, easiest: (exponent + 2, mantissa), latest }
    }

    /// Gives no time any more.
    pub(crate) fn stop(&mut self) {
        self.latest = u32::MAX;
    }

    /// The headers in a packet that passes which may count.
    pub(crate) fn headers<'p>(
        &self,
        packet: &'p [u8],
    ) -> impl Iterator<Item = &'p [u8; HEADER_LEN]> + use<'p> {
        let (magic, easiest) = (self.magic, self.easiest);
        let headers = move || {
            let (header, body) = Header::parse(packet).ok()?;
            let datagram = Datagram::parse(header, body).ok()?;
            let rest = datagram.payload.strip_prefix(&magic)?;
            let rest = rest.strip_prefix(b"headers\0\0\0\0\0")?;
            // Length and check, and the number of headers, which fits a byte here.
            let (_, headers) = rest.split_at_checked(4 + 4 + 1)?;
            Some(headers.as_chunks::<{ HEADER_LEN + 1 }>().0)
        };
        let entries = headers().unwrap_or_default().iter();
        let whole = entries.filter_map(|entry| entry.first_chunk());
        whole.filter(move |header| size_of_target(header) <= easiest)
    }

    /// The time in a header that is in the chain, in seconds since 1970, if it is newer.
    pub(crate) fn see(&mut self, header: &[u8; HEADER_LEN]) -> Option<u64> {
        let time = time_of(header);
        (time > self.latest).then(|| {
            self.latest = time;
            u64::from(time)
        })
    }
}

fn time_of(header: &[u8; HEADER_LEN]) -> u32 {
    let [.., b0, b1, b2, b3, _, _, _, _, _, _, _, _] = *header;
    u32::from_le_bytes([b0, b1, b2, b3])
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
    use blvm_mesh_core::id::{Network, NodeId};
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

    const BITS: u32 = 0x2007_ffff;

    #[test]
    fn what_is_too_easy_does_not_count() {
        const EASIEST: u32 = 0x201f_fffc;
        const TOO_EASY: u32 = 0x201f_ffff;
        let checkpoint = mined(BlockHash::all_zeros(), 1_000, BITS);
        let clock = HeaderClock::new(Network::Regtest.magic(), &raw(&checkpoint), true);
        let easy = mined(checkpoint.block_hash(), 9_000, TOO_EASY);
        let right = mined(checkpoint.block_hash(), 9_000, EASIEST);
        let harder = mined(checkpoint.block_hash(), 9_000, 0x2003_ffff);
        let bytes = packet(&[right, easy, harder]);
        let counted: Vec<_> = clock.headers(&bytes).copied().collect();
        assert_eq!(counted, [raw(&right), raw(&harder)]);
        assert_eq!(clock.headers(&bytes[..bytes.len() - 1]).count(), 0);
        let other = HeaderClock::new(Network::Mainnet.magic(), &raw(&checkpoint), true);
        assert_eq!(other.headers(&bytes).count(), 0);
    }

    #[test]
    fn the_time_goes_forward_from_the_checkpoint() {
        let at = |time| raw(&mined(BlockHash::all_zeros(), time, BITS));
        let mut clock = HeaderClock::new([0; 4], &at(1_000), true);
        let times = [1_000, 2_000, 1_500, 2_000, 2_001].map(|time| clock.see(&at(time)));
        assert_eq!(times, [None, Some(2_000), None, None, Some(2_001)]);
        let mut silent = HeaderClock::new([0; 4], &at(1_000), false);
        assert_eq!(silent.see(&at(u32::MAX)), None);
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
