//! Messages of Bitcoin's P2P protocol, transactions, headers and Merkle trees.

use super::Seed;
use crate::packets::payloads::{bitcoin_message, ping};
use bitcoin::bip152::{BlockTransactions, BlockTransactionsRequest};
use bitcoin::bip158::{FilterHash, FilterHeader};
use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::constants::genesis_block;
use bitcoin::hashes::Hash;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::{GetHeadersMessage, Inventory};
use bitcoin::p2p::message_bloom::{BloomFlags, FilterLoad};
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_filter::{CFHeaders, CFilter};
use bitcoin::p2p::message_network::VersionMessage;
use bitcoin::p2p::{Magic, ServiceFlags};
use bitcoin::{
    Amount, Block, MerkleBlock, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
};
use bitcoin::{absolute::LockTime, transaction::Version};
use blvm_mesh_core::id::Network;

fn message(payload: NetworkMessage) -> Vec<u8> {
    serialize(&RawNetworkMessage::new(Magic::REGTEST, payload))
}

/// A transaction with a witness.
fn segwit_transaction() -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint { txid: bitcoin::Txid::from_byte_array([7; 32]), vout: 1 },
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::from_slice(&[[9; 71].as_slice(), &[2; 33]]),
        }],
        output: vec![TxOut {
            value: Amount::from_sat(50_000),
            script_pubkey: ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([5; 20])),
        }],
    }
}

/// A block of regtest on the genesis block, of its coinbase without a witness.
fn block() -> Block {
    let mut block = genesis_block(bitcoin::Network::Regtest);
    block.header.prev_blockhash = block.block_hash();
    block.txdata[0].lock_time = LockTime::from_consensus(1);
    block.header.merkle_root = block.compute_merkle_root().expect("a coinbase");
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
    block
}

pub(super) fn seeds() -> Vec<Seed> {
    let genesis = genesis_block(bitcoin::Network::Regtest);
    let (block, tx) = (block(), segwit_transaction());
    let hash = block.block_hash();
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    let socket = "10.1.2.3:8333".parse().expect("an address");
    let address = || Address::new(&socket, services);
    let mut version =
        VersionMessage::new(services, 0, address(), address(), 5, "/seed:1/".into(), 1);
    version.relay = true;
    let addresses = [AddrV2::Ipv4([10, 1, 2, 3].into()), AddrV2::TorV3([8; 32])];
    let addresses = addresses.map(|addr| AddrV2Message { time: 1, services, addr, port: 8333 });
    let compact = bitcoin::bip152::HeaderAndShortIds::from_block(&block, 7, 2, &[]);
    let several = [
        message(NetworkMessage::Verack),
        ping(1),
        message(NetworkMessage::Inv(vec![Inventory::Block(hash)])),
    ];
    let mainnet = bitcoin_message(
        Network::Mainnet,
        "block",
        &serialize(&genesis_block(bitcoin::Network::Bitcoin)),
    );
    let headers = message(NetworkMessage::Headers(vec![genesis.header, block.header]));
    let asked = GetHeadersMessage::new(vec![hash], hash);
    let coinbase = serialize(&genesis.txdata[0]);
    let txid = block.txdata[0].compute_txid();
    let of_block = MerkleBlock::from_block_with_predicate(&block, |id| *id == txid);
    let transactions = BlockTransactions { block_hash: hash, transactions: vec![tx.clone()] };
    let request = BlockTransactionsRequest { block_hash: hash, indexes: vec![0, 2, 300] };
    let filter_hash = FilterHash::from_byte_array([9; 32]);
    let filter_headers = CFHeaders {
        filter_type: 0,
        stop_hash: hash,
        previous_filter_header: FilterHeader::from_byte_array([8; 32]),
        filter_hashes: vec![filter_hash; 2],
    };
    let bloom = FilterLoad {
        filter: vec![0x61, 0x4e, 0x9b],
        hash_funcs: 5,
        tweak: 0,
        flags: BloomFlags::All,
    };
    let wanted = vec![Inventory::WitnessTransaction(txid), Inventory::CompactBlock(hash)];
    // Two elements: 40 bits at least and 50 at most.
    let filter =
        CFilter { filter_type: 0, block_hash: hash, filter: vec![2, 0x12, 0x34, 0x56, 0x78, 0x9a] };
    let compact_rules = SendCmpct { send_compact: true, version: 2 };
    let small = [
        message(NetworkMessage::FeeFilter(1_000)),
        message(NetworkMessage::SendCmpct(compact_rules)),
        bitcoin_message(Network::Regtest, "sendtxrcncl", &[1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        message(NetworkMessage::Addr(vec![(1_700_000_000, address())])),
    ];
    vec![
        ("detect", "merkleblock", message(NetworkMessage::MerkleBlock(of_block))),
        ("detect", "blocktxn", message(NetworkMessage::BlockTxn(BlockTxn { transactions }))),
        (
            "detect",
            "getblocktxn",
            message(NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request: request })),
        ),
        ("detect", "cfheaders", message(NetworkMessage::CFHeaders(filter_headers))),
        ("detect", "cfilter", message(NetworkMessage::CFilter(filter))),
        ("detect", "filterload", message(NetworkMessage::FilterLoad(bloom))),
        ("detect", "getdata", message(NetworkMessage::GetData(wanted))),
        ("detect", "small", small.concat()),
        ("detect", "version", message(NetworkMessage::Version(version))),
        ("detect", "several", several.concat()),
        ("detect", "genesis-mainnet", mainnet),
        ("detect", "block", message(NetworkMessage::Block(block.clone()))),
        ("detect", "headers", headers),
        ("detect", "getheaders", message(NetworkMessage::GetHeaders(asked))),
        ("detect", "tx", message(NetworkMessage::Tx(tx.clone()))),
        ("detect", "addrv2", message(NetworkMessage::AddrV2(addresses.into()))),
        (
            "detect",
            "cmpctblock",
            message(NetworkMessage::CmpctBlock(CmpctBlock {
                compact_block: compact.expect("a block"),
            })),
        ),
        ("detect", "reject", bitcoin_message(Network::Signet, "reject", b"\x04ping\x10\x03why")),
        ("detect", "banlist", bitcoin_message(Network::Testnet4, "banlist", b"anything")),
        ("detect", "mesh", b"MESH".to_vec()),
        ("transaction", "coinbase", coinbase),
        ("transaction", "segwit", serialize(&tx)),
        ("headers", "chain", chain(&genesis.header)),
        ("merkle", "five", [&[5, 2][..], &(0..160).collect::<Vec<u8>>()].concat()),
    ]
}

/// Four headers that are put on one another and mined.
fn chain(genesis: &Header) -> Vec<u8> {
    let header = |how: u8, time: u32| {
        let mut header: Header = deserialize(&serialize(genesis)).expect("a header");
        header.time = time;
        [&[how][..], &serialize(&header)].concat()
    };
    // On the first of those kept, on the second, on the first again.
    [header(0, genesis.time), header(7, 1), header(0x17, 2), header(7, 3)].concat()
}
