//! The largest packets, from end to end.

use super::*;
use bitcoin::blockdata::{block, transaction};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness};

/// A `block` message of regtest of nearly four million bytes, most of them witness,
/// as in the largest blocks that consensus allows.
pub(super) fn largest_block() -> Vec<u8> {
    use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
    let transaction = |previous_output, script_sig, witness| bitcoin::Transaction {
        version: transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![TxIn { previous_output, script_sig, sequence: Sequence::MAX, witness }],
        output: vec![TxOut { value: Amount::from_sat(1), script_pubkey: ScriptBuf::new() }],
    };
    let mut witness = Witness::new();
    witness.push(vec![7; 3_998_000]);
    let spent = OutPoint { txid: bitcoin::Txid::from_byte_array([5; 32]), vout: 0 };
    // BIP 141, "Commitment structure".
    let reserved = [0; 32];
    let coinbase = transaction(
        OutPoint::null(),
        ScriptBuf::from_bytes(vec![1, 1]),
        Witness::from_slice(&[reserved]),
    );
    let mut block = Block {
        header: block::Header {
            version: block::Version::TWO,
            prev_blockhash: bitcoin::BlockHash::all_zeros(),
            merkle_root: bitcoin::TxMerkleNode::all_zeros(),
            time: 1_750_000_000,
            bits: bitcoin::CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata: vec![coinbase, transaction(spent, ScriptBuf::new(), witness)],
    };
    let root = block.witness_root().unwrap();
    let commitment = Block::compute_witness_commitment(&root, &reserved);
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &commitment.to_byte_array()].concat();
    block.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(script);
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    let message =
        RawNetworkMessage::new(bitcoin::p2p::Magic::REGTEST, NetworkMessage::Block(block));
    bitcoin::consensus::serialize(&message)
}

#[test]
fn the_largest_block_goes_through_a_relay() {
    Bed::run(async |bed| {
        let mode = MeshMode::PaymentGated;
        let b = bed.start(2, mode, &[]);
        let (a, c) = (bed.start(1, mode, &[&b]), bed.start(3, mode, &[&b]));
        linked(&a, &b).await;
        linked(&b, &c).await;
        // New neighbours may send 64 KiB at once; the rest comes at the rate.
        smol::Timer::after(Duration::from_secs(1)).await;
        let block = largest_block();
        assert!(block.len() > 3_998_000);
        let fate = send(&a, &c, &block, &[], false).await;
        assert!(matches!(fate.first, Progress::Sent { hops: 1, .. }), "{fate:?}");
        let got = delivery(&c).await;
        assert_eq!(got.protocol, DetectedProtocol::BitcoinP2P);
        assert!(got.payload == block, "{} bytes arrived changed", got.payload.len());
        // The packet that would be one byte too large is refused where it begins.
        let most = b.handle().settings().config.max_packet as usize;
        let fate = send(&a, &c, &vec![0; most], &[], true).await;
        let refused =
            |reason| matches!(reason, MeshError::RoutingError(_) | MeshError::NetworkError(_));
        assert!(matches!(fate.first, Progress::Refused(reason) if refused(reason)), "{fate:?}");
        assert_eq!(send(&a, &c, &ping(1), &[], false).await.stopped, None);
        assert_eq!(delivery(&c).await.payload, ping(1));
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}
