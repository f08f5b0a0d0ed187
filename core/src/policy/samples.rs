//! Messages to test with: real bytes, and one good message of every command
//! written by the `bitcoin` crate.

use super::command::Command;
use crate::id::Network;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::Magic;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message, Address};
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use bitcoin::p2p::message_bloom::{BloomFlags, FilterAdd, FilterLoad};
use bitcoin::p2p::message_compact_blocks::{GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_filter::{
    CFCheckpt, CFHeaders, CFilter, GetCFCheckpt, GetCFHeaders, GetCFilters,
};
use bitcoin::p2p::message_network::{Reject, RejectReason};
use bitcoin::{Block, Transaction};
use std::vec::Vec;

/// Genesis block of the main network.
pub(super) const GENESIS: &str = "\
    0100000000000000000000000000000000000000000000000000000000000000000000003ba3edfd7a7b12b2\
    7ac72c3e67768f617fc81bc3888a51323a9fb8aa4b1e5e4a29ab5f49ffff001d1dac2b7c0101000000010000\
    000000000000000000000000000000000000000000000000000000000000ffffffff4d04ffff001d01044554\
    68652054696d65732030332f4a616e2f32303039204368616e63656c6c6f72206f6e206272696e6b206f6620\
    7365636f6e64206261696c6f757420666f722062616e6b73ffffffff0100f2052a01000000434104678afdb0\
    fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6bc3f4cef38c4f35504e51ec112de\
    5c384df7ba0b8d578a4c702b6bf11d5fac00000000\
    ";

/// Whole `version` message of the protocol documentation (user agent 0.7.2).
pub(super) const VERSION_MESSAGE: &str = "\
    f9beb4d976657273696f6e0000000000640000003b648d5a62ea0000010000000000000011b2d05000000000\
    010000000000000000000000000000000000ffff000000000000010000000000000000000000000000000000\
    ffff0000000000003b2eb35d8ce617650f2f5361746f7368693a302e372e322fc03e0300\
    ";

/// Whole `tx` message of the protocol documentation.
pub(super) const TX_MESSAGE: &str = "\
    f9beb4d974780000000000000000000002010000e293cdbe01000000016dbddb085b1d8af75184f0bc01fad5\
    8d1266e9b63b50881990e4b40d6aee3629000000008b483045022100f3581e1972ae8ac7c7367a7a253bc113\
    5223adb9a468bb3a59233f45bc578380022059af01ca17d00e41837a1d58e97aa31bae584edec28d35bd9692\
    3690913bae9a0141049c02bfc97ef236ce6d8fe5d94013c721e915982acd2b12b65d9b7d59e20a842005f8fc\
    4e02532e873d37b96f09d6d4511ada8f14042f46614a4c70c0f14beff5ffffffff02404b4c00000000001976\
    a9141aa0cd1cbea6e7458a7abad512a9d9ea1afb225e88ac80fae9c7000000001976a9140eab5bea436a0484\
    cfab12485efda0b78b4ecc5288ac00000000\
    ";

/// A segwit transaction of the main network with three inputs, two of them with witnesses.
pub(super) const SEGWIT_TX: &str = "\
    020000000001031cfbc8f54fbfa4a33a30068841371f80dbfe166211242213188428f437445c91000000006a\
    47304402206fbcec8d2d2e740d824d3d36cc345b37d9f65d665a99f5bd5c9e8d42270a03a802201395963249\
    2332200c2908459547bf8dbf97c65ab1a28dec377d6f1d41d3d63e012103d7279dfb90ce17fe139ba60a7c41\
    ddf605b25e1c07a4ddcb9dfef4e7d6710f48feffffff476222484f5e35b3f0e43f65fc76e21d8be7818dd6a9\
    89c160b1e5039b7835fc00000000171600140914414d3c94af70ac7e25407b0689e0baa10c77feffffffa83d\
    954a62568bbc99cc644c62eb7383d7c2a2563041a0aeb891a6a4055895570000000017160014795d04cc2d4f\
    31480d9a3710993fbd80d04301dffeffffff06fef72f000000000017a91476fd7035cd26f1a32a5ab979e056\
    713aac25796887a5000f00000000001976a914b8332d502a529571c6af4be66399cd33379071c588ac3fda05\
    00000000001976a914fc1d692f8de10ae33295f090bea5fe49527d975c88ac522e1b00000000001976a91480\
    8406b54d1044c429ac54c0e189b0d8061667e088ac6eb68501000000001976a914dfab6085f3a8fb3e671020\
    6a5a959313c5618f4d88acbba20000000000001976a914eb3026552d7e3f3073457d0bee5d4757de48160d88\
    ac0002483045022100bee24b63212939d33d513e767bc79300051f7a0d433c3fcf1e0e3bf03b9eb1d7022058\
    8dc45a9ce3a939103b4459ce47500b64e23ab118dfc03c9caa7d6bfc32b9c601210354fd80328da0f9ae6eef\
    2b3a81f74f9a6f66761fadf96f1d1d22b1fd6845876402483045022100e29c7e3a5efc10da6269e5fc20b6a1\
    cb8beb92130cc52c67e46ef40aaa5cac5f0220644dd1b049727d991aece98a105563416e10a5ac4221abac7d\
    16931842d5c322012103960b87412d6e169f30e12106bdf70122aabb9eb61f455518322a18b920a4dfa887d3\
    0700\
    ";

/// Testnet3 block 1,263,442: two transactions, one with a witness (BIP 158, test vectors).
pub(super) const SEGWIT_BLOCK: &str = "\
    000000201c8d1a529c39a396db2db234d5ec152fa651a2872966daccbde028b400000000083f14492679151d\
    bfaa1a825ef4c18518e780c1f91044180280a7d33f4a98ff5f45765aaddc001d38333b9a0201000000000101\
    0000000000000000000000000000000000000000000000000000000000000000ffffffff230352471300fe5f\
    45765afe94690a000963676d696e6572343208000000000000000000ffffffff024423a804000000001976a9\
    14f2c25ac3d59f3d674b1d1d0a25c27339aaac0ba688ac0000000000000000266a24aa21a9edcb26cb305242\
    6b9ebb4d19c819ef87c19677bbf3a7c46ef0855bd1b2abe83491012000000000000000000000000000000000\
    000000000000000000000000000000000000000002000000000101d20978463906ba4ff5e7192494b88dd5eb\
    0de85d900ab253af909106faa22cc5010000000004000000014777ff000000000016001446c29eabe8208a33\
    aa1023c741fa79aa92e881ff0347304402207d7ca96134f2bcfdd6b536536fdd39ad17793632016936f777eb\
    b32c22943fda02206014d2fb8a6aa58279797f861042ba604ebd2f8f61e5bddbd9d3be5a245047b201004b63\
    2103eeaeba7ce5dc2470221e9517fb498e8d6bd4e73b85b8be655196972eb9ccd5566754b2752103a40b74d4\
    3df244799d041f32ce1ad515a6cd99501701540e38750d883ae21d3a68ac00000000\
    ";

/// Testnet3 block 180,480: five transactions (BIP 158, test vectors).
pub(super) const LEGACY_BLOCK: &str = "\
    020000006058aa080a655aa991a444bd7d1f2defd9a3bbe68aabb69030cf3b4e00000000d2e826bfd7ef0bea\
    a891a7eedbc92cd6a544a6cb61c7bdaa436762eb2123ef9790f5f552ffff001d0002c90f0501000000010000\
    000000000000000000000000000000000000000000000000000000000000ffffffff0e0300c102024608062f\
    503253482fffffffff01c0c6072a01000000232102e769e60137a4df6b0df8ebd387cca44c4c57ae74cc0114\
    a8e8317c8f3bfd85e9ac00000000010000000381a0802911a01ffb025c4dea0bc77963e8c1bb46313b71164c\
    53f72f37fe5248010000000151ffffffffc904b267833d215e2128bd9575242232ac2bc311550c7fc1f0ef6f\
    264b40d14c010000000151ffffffffdf0915666649dba81886519c531649b7b02180b4af67d6885e871299e9\
    d5f775000000000151ffffffff0180817dcb00000000232103bb52138972c48a132fc1f637858c5189607dd0\
    f7fe40c4f20f6ad65f2d389ba4ac0000000001000000018da38b434fba82d66052af74fc5e4e94301b114d9b\
    c03f819dc876398404c8b4010000006c493046022100fe738b7580dc5fb5168e51fc61b5aed211125eb71068\
    031009a22d9bbad752c5022100be5086baa384d40bcab0fa586e4f728397388d86e18b66cc417dc4f7fa4f98\
    78012103f233299455134caa2687bdf15cb0becdfb03bd0ff2ff38e65ec6b7834295c34fffffffff022ebc14\
    00000000001976a9147779b7fba1c1e06b717069b80ca170e8b04458a488ac9879c40f000000001976a9142a\
    0307cd925dbb66b534c4db33003dd18c57015788ac0000000001000000026139a62e3422a602de36c873a225\
    c1d3ca5aeee598539ceecb9f0dc8d1ad0f83010000006b483045022100ad9f32b4a0a2ddc19b5a74eba78123\
    e57616f1b3cfd72ce68c03ea35a3dda1f002200dbd22aa6da17213df5e70dfc3b2611d40f70c98ed9626aa5e\
    2cde9d97461f0a012103ddb295d2f1e8319187738fb4b230fdd9aa29d0e01647f69f6d770b9ab24eea90ffff\
    ffff983c82c87cf020040d671956525014d5c2b28c6d948c85e1a522362c0059eeae010000006b4830450221\
    009ca544274c786d30a5d5d25e17759201ea16d3aedddf0b9e9721246f7ef6b32e02202cfa5564b6e87dfd9f\
    d98957820e4d4e6238baeb0f65fe305d91506bb13f5f4f012103c99113deac0d5d044e3ac0346abc02501542\
    af8c8d3759f1382c72ff84e704f7ffffffff02c0c62d00000000001976a914ae19d27efe12f5a886dc79af37\
    ad6805db6f922d88ac70ce2000000000001976a9143b8d051d37a07ea1042067e93efe63dbf73920b988ac00\
    0000000100000002be566e8cd9933f0c75c4a82c027f7d0c544d5c101d0607ef6ae5d07b98e7f1dc00000000\
    6b483045022036a8cdfd5ea7ebc06c2bfb6e4f942bbf9a1caeded41680d11a3a9f5d8284abad022100cacb92\
    a5be3f39e8bc14db1710910ef7b395fa1e18f45d41c28d914fcdde33be012102bf59abf110b5131fae0a3ce1\
    ec379329b4c896a6ae5d443edb68529cc2bc7816ffffffff96cf67645b76ceb23fe922874847456a15feee16\
    55082ff32d25a6bf2c0dfc90000000006a47304402203471ca2001784a5ac0abab583581f2613523da47ec5f\
    53df833c117b5abd81500220618a2847723d57324f2984678db556dbca1a72230fc7e39df04c2239942ba942\
    012102925c9794fd7bb9f8b29e207d5fc491b1150135a21f505041858889fa4edf436fffffffff026c840f00\
    000000001976a914797fb8777d7991d8284d88bfd421ce520f0f843188ac00ca9a3b000000001976a9146d10\
    f3f592699265d10b106eda37c3ce793f7a8588ac00000000\
    ";

/// Basic filter of that block.
pub(super) const LEGACY_FILTER: &str = "\
    0db414c859a07e8205876354a210a75042d0463404913d61a8e068e58a3ae2aa080026\
    ";

/// The payload of Bitcoin Core's `alert`, recorded from version 28.
pub(super) const FINAL_ALERT: &str = "\
    60010000000000000000000000ffffff7f00000000ffffff7ffeffff7f01ffffff7f000000\
    00ffffff7f00ffffff7f002f555247454e543a20416c657274206b657920636f6d70726f6d\
    697365642c2075706772616465207265717569726564004630440220653febd6410f470f6b\
    ae11cad19c48413becb1ac2c17f908fd0fd53bdc3abd5202206d0e9c96fe88d4a0f01ed9de\
    dae2b6f9e00da94cad0fecaae66ecf689bf71b50";

/// Bytes of one of the texts above.
pub(super) fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// A message with a right header around any command and payload.
pub(super) fn frame(network: Network, command: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = network.magic().to_vec();
    message.extend(command);
    message.resize(16, 0);
    message.extend((payload.len() as u32).to_le_bytes());
    message.extend(&sha256d::Hash::hash(payload)[..4]);
    message.extend(payload);
    message
}

/// A message as the `bitcoin` crate writes it.
pub(super) fn written(network: Network, message: NetworkMessage) -> Vec<u8> {
    let magic = Magic::from_bytes(network.magic());
    assert_eq!(magic, Magic::from(bitcoin::Network::from(network)));
    serialize(&RawNetworkMessage::new(magic, message))
}

/// Sets the header's Merkle root and finds a nonce; for regtest.
pub(super) fn mine(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().unwrap();
    while block.header.validate_pow(block.header.target()).is_err() {
        block.header.nonce += 1;
    }
}

/// A regtest block of a coinbase with witness commitment, the segwit sample
/// and `more` small transactions.
pub(super) fn regtest_block(more: u32) -> Block {
    let mut block: Block = deserialize(&bytes(SEGWIT_BLOCK)).unwrap();
    block.header.bits = bitcoin::CompactTarget::from_consensus(0x207f_ffff);
    block.txdata.truncate(1);
    let sample: Transaction = deserialize(&bytes(SEGWIT_TX)).unwrap();
    for i in 0..more {
        let mut small = sample.clone();
        small.input.truncate(1);
        small.output.truncate(1);
        small.lock_time = bitcoin::absolute::LockTime::from_consensus(i);
        block.txdata.push(small);
    }
    block.txdata.push(sample);
    commit(&mut block);
    mine(&mut block);
    block
}

/// Writes the witness commitment into the coinbase.
pub(super) fn commit(block: &mut Block) {
    let root = block.witness_root().unwrap();
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let coinbase = &mut block.txdata[0];
    coinbase.input[0].witness = bitcoin::Witness::from_slice(&[[0; 32]]);
    let mut script = std::vec![0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
    script.extend(commitment.to_byte_array());
    coinbase.output.truncate(1);
    coinbase.output.push(bitcoin::TxOut {
        value: bitcoin::Amount::ZERO,
        script_pubkey: bitcoin::ScriptBuf::from_bytes(script),
    });
}

/// One good regtest message of every command.
pub(super) fn good_messages() -> Vec<(Command, Vec<u8>)> {
    let good: Vec<_> = Command::ALL.iter().map(|&c| (c, good_message(c))).collect();
    for (command, message) in &good {
        assert!(message[4..].starts_with(command.name()));
    }
    good
}

/// A good regtest message of a command.
pub(super) fn good_message(command: Command) -> Vec<u8> {
    use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock};
    let block = regtest_block(3);
    let hash = block.block_hash();
    let hashes = [1u8, 2, 3].map(|n| bitcoin::BlockHash::from_byte_array([n; 32])).to_vec();
    let txid = block.txdata[1].compute_txid();
    let filter_hash = bitcoin::bip158::FilterHash::from_byte_array([9; 32]);
    let filter_header = bitcoin::bip158::FilterHeader::from_byte_array([8; 32]);
    let inventory = [
        Inventory::Transaction(txid),
        Inventory::Block(hash),
        Inventory::WTx(block.txdata[1].compute_wtxid()),
    ];
    let socket = "10.1.2.3:8333".parse::<std::net::SocketAddr>().unwrap();
    let services = ServiceFlags::NETWORK | ServiceFlags::WITNESS;
    let raw = |payload: &[u8]| frame(Network::Regtest, command.name(), payload);
    let message = match command {
        Command::Addr => {
            NetworkMessage::Addr(std::vec![(1_700_000_000, Address::new(&socket, services)); 3])
        }
        Command::AddrV2 => NetworkMessage::AddrV2(
            [
                AddrV2::Ipv4([10, 1, 2, 3].into()),
                AddrV2::Ipv6("2001:db8::1".parse().unwrap()),
                AddrV2::TorV2([7; 10]),
                AddrV2::TorV3([8; 32]),
                AddrV2::I2p([9; 32]),
                AddrV2::Cjdns("fc00::2".parse().unwrap()),
            ]
            .map(|addr| AddrV2Message { time: 1_700_000_000, services, addr, port: 8333 })
            .to_vec(),
        ),
        Command::Block => NetworkMessage::Block(block),
        Command::BlockTxn => NetworkMessage::BlockTxn(BlockTxn {
            transactions: bitcoin::bip152::BlockTransactions {
                block_hash: hash,
                transactions: block.txdata[1..].to_vec(),
            },
        }),
        Command::CFCheckpt => NetworkMessage::CFCheckpt(CFCheckpt {
            filter_type: 0,
            stop_hash: hash,
            filter_headers: std::vec![filter_header; 2],
        }),
        Command::CFHeaders => NetworkMessage::CFHeaders(CFHeaders {
            filter_type: 0,
            stop_hash: hash,
            previous_filter_header: filter_header,
            filter_hashes: std::vec![filter_hash; 3],
        }),
        Command::CFilter => NetworkMessage::CFilter(CFilter {
            filter_type: 0,
            block_hash: hash,
            filter: bytes(LEGACY_FILTER),
        }),
        Command::CmpctBlock => NetworkMessage::CmpctBlock(CmpctBlock {
            compact_block: bitcoin::bip152::HeaderAndShortIds::from_block(&block, 7, 2, &[])
                .unwrap(),
        }),
        Command::FeeFilter => NetworkMessage::FeeFilter(1_000),
        Command::FilterAdd => NetworkMessage::FilterAdd(FilterAdd { data: std::vec![7; 32] }),
        Command::FilterClear => NetworkMessage::FilterClear,
        Command::FilterLoad => NetworkMessage::FilterLoad(FilterLoad {
            filter: bytes("03614e9b050000000000000001"),
            hash_funcs: 11,
            tweak: 5,
            flags: BloomFlags::All,
        }),
        Command::GetAddr => NetworkMessage::GetAddr,
        Command::GetBlocks => NetworkMessage::GetBlocks(GetBlocksMessage::new(hashes, hash)),
        Command::GetBlockTxn => NetworkMessage::GetBlockTxn(GetBlockTxn {
            txs_request: bitcoin::bip152::BlockTransactionsRequest {
                block_hash: hash,
                indexes: std::vec![0, 1, 2, 10, 3_002],
            },
        }),
        Command::GetCFCheckpt => {
            NetworkMessage::GetCFCheckpt(GetCFCheckpt { filter_type: 0, stop_hash: hash })
        }
        Command::GetCFHeaders => NetworkMessage::GetCFHeaders(GetCFHeaders {
            filter_type: 0,
            start_height: 5,
            stop_hash: hash,
        }),
        Command::GetCFilters => NetworkMessage::GetCFilters(GetCFilters {
            filter_type: 0,
            start_height: 5,
            stop_hash: hash,
        }),
        Command::GetData => NetworkMessage::GetData(std::vec![
            Inventory::WitnessTransaction(txid),
            Inventory::WitnessBlock(hash),
            Inventory::CompactBlock(hash),
        ]),
        Command::GetHeaders => NetworkMessage::GetHeaders(GetHeadersMessage::new(hashes, hash)),
        Command::Headers => {
            let mut next = regtest_block(0);
            next.header.prev_blockhash = hash;
            mine(&mut next);
            NetworkMessage::Headers(std::vec![block.header, next.header])
        }
        Command::Inv => NetworkMessage::Inv(inventory.to_vec()),
        Command::Mempool => NetworkMessage::MemPool,
        Command::MerkleBlock => NetworkMessage::MerkleBlock(
            bitcoin::MerkleBlock::from_block_with_predicate(&block, |id| *id == txid),
        ),
        Command::NotFound => NetworkMessage::NotFound(inventory.to_vec()),
        Command::Ping => NetworkMessage::Ping(15),
        Command::Pong => NetworkMessage::Pong(23),
        Command::Reject => NetworkMessage::Reject(Reject {
            message: "tx".into(),
            ccode: RejectReason::Duplicate,
            reason: "txn-already-known".into(),
            hash: txid.to_raw_hash(),
        }),
        Command::SendAddrV2 => NetworkMessage::SendAddrV2,
        Command::SendCmpct => {
            NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 })
        }
        Command::SendHeaders => NetworkMessage::SendHeaders,
        Command::Alert => return raw(&bytes(FINAL_ALERT)),
        Command::Feature => return raw(b"\x07feature\x03abc"),
        Command::SendTxRcncl => return raw(&[1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
        Command::Tx => NetworkMessage::Tx(block.txdata[1].clone()),
        Command::Verack => NetworkMessage::Verack,
        Command::Version => {
            // The documented one is older than the relay flag of BIP 37.
            let payload = [&bytes(VERSION_MESSAGE)[24..], &[1]].concat();
            NetworkMessage::Version(deserialize(&payload).unwrap())
        }
        Command::WtxidRelay => NetworkMessage::WtxidRelay,
        Command::GetBanList => return raw(&[1, 0, 0, 0, 0, 0, 0, 0, 0]),
        Command::BanList
        | Command::EconFork
        | Command::EconReg
        | Command::EconStatus
        | Command::EconVeto => return raw(b"content is not looked at"),
    };
    written(Network::Regtest, message)
}
