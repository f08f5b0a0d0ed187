//! Where the chain of headers begins: a block that is believed.

use bitcoin::block::Header;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget};
use blvm_mesh_core::id::Network;

/// Blocks between two changes of the difficulty.
pub(crate) const PERIOD: u32 = 2016;

/// Mainnet's last block before a change of the difficulty, and the difficulty after it.
/// Source: Electrum, `chains/mainnet/checkpoints.json` of 2026-08-21, its last entry.
const MAINNET: (u32, &str, u32) =
    (953_567, "00000000000000000001b315e72169bef4867bf780527aa97c625ee9c001dc5d", 0x1702_40c3);

/// A block that is believed, and what must be known of it to check those that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Its height.
    pub height: u32,
    /// Its hash.
    pub hash: BlockHash,
    /// The difficulty of the block after it, where this one is the last of its period.
    pub(super) next_bits: Option<CompactTarget>,
    /// Its header, where that is known.
    pub(super) header: Option<Header>,
}

/// Why a checkpoint is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RootError {
    #[error(
        "\"{0}\" is not HEIGHT:HEADER, with the 80 bytes of the header in hex, as \
         `bitcoin-cli getblockheader HASH false` prints it"
    )]
    Form(String),
    #[error(
        "height {0} is not the first block of a difficulty period: give that of a block whose \
         height is a multiple of {PERIOD}"
    )]
    Height(u32),
    #[error("the header has not the work that it claims, or less than the network allows")]
    Work,
}

impl Root {
    /// The block that a network's chain is followed from where nothing else is configured: on mainnet
    /// a recent one, else the first.
    pub fn of(network: Network) -> Self {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::from(network)).header;
        let first =
            Self { height: 0, hash: genesis.block_hash(), next_bits: None, header: Some(genesis) };
        let (height, hash, bits) = MAINNET;
        match (network, hash.parse()) {
            (Network::Mainnet, Ok(hash)) => {
                let next_bits = Some(CompactTarget::from_consensus(bits));
                Self { height, hash, next_bits, header: None }
            }
            _ => first,
        }
    }

    /// Reads HEIGHT:HEADER.
    pub(crate) fn parse(text: &str, network: Network) -> Result<Self, RootError> {
        let form = || RootError::Form(text.chars().take(40).collect());
        let (height, header) = text.split_once(':').ok_or_else(form)?;
        let height: u32 = height.trim().parse().map_err(|_| form())?;
        let header = hex::decode(header.trim()).map_err(|_| form())?;
        let header: Header = deserialize(&header).map_err(|_| form())?;
        if !height.is_multiple_of(PERIOD) {
            return Err(RootError::Height(height));
        }
        let easiest = super::rules::params(network).max_attainable_target;
        let target = header.target();
        // A negative or oversized `nBits` becomes another number when it is written again.
        let is_canonical = target.to_compact_lossy() == header.bits;
        if !is_canonical || target > easiest || header.validate_pow(target).is_err() {
            return Err(RootError::Work);
        }
        let hash = header.block_hash();
        Ok(Self { height, hash, next_bits: None, header: Some(header) })
    }

    /// The first bytes of the chain's file: headers after another root are not to be taken for those
    /// after this one.
    pub(super) fn record(&self) -> [u8; 80] {
        let mut record = [0; 80];
        let parts = self.hash.to_byte_array().into_iter().chain(self.height.to_le_bytes());
        record.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::encode::serialize_hex;

    #[test]
    fn every_network_has_a_root() {
        for network in Network::ALL {
            let root = Root::of(network);
            assert_eq!(root.height == 0, network != Network::Mainnet, "{network}");
            assert_eq!(root.height == 0, root.header.is_some());
        }
        let root = Root::of(Network::Mainnet);
        assert_eq!((root.height + 1) % PERIOD, 0);
        // The hash meets even the target of the period after: no one makes that up.
        let target = bitcoin::Target::from_compact(root.next_bits.unwrap());
        let hash = bitcoin::Target::from_le_bytes(root.hash.to_byte_array());
        assert!(hash <= target.max_transition_threshold_unchecked());
    }

    #[test]
    fn a_checkpoint_is_the_first_header_of_a_period() {
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
        let hex = serialize_hex(&genesis);
        let parse = |text: &str, network| Root::parse(text, network);
        let root = parse(&format!("4032:{hex}"), Network::Regtest).unwrap();
        assert_eq!((root.height, root.hash), (4032, genesis.block_hash()));
        assert_eq!(parse(&format!("7:{hex}"), Network::Regtest), Err(RootError::Height(7)));
        assert_eq!(parse(&format!("0:{hex}"), Network::Mainnet), Err(RootError::Work));
        let mut idle = genesis;
        while idle.validate_pow(idle.target()).is_ok() {
            idle.nonce += 1;
        }
        let idle = format!("0:{}", serialize_hex(&idle));
        assert_eq!(parse(&idle, Network::Regtest), Err(RootError::Work));
        for text in ["", "1", &hex, "x:00", "0:00", &format!("0:{hex}00"), &format!("-1:{hex}")] {
            assert!(matches!(parse(text, Network::Regtest), Err(RootError::Form(_))), "{text}");
        }
    }
}
