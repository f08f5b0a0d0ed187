//! Makes a node send everything that it can send.

use bitcoin::bip152::{
    BlockTransactions, BlockTransactionsRequest, HeaderAndShortIds, PrefilledTransaction,
};
use bitcoin::hashes::Hash;
use bitcoin::p2p::ServiceFlags;
use bitcoin::p2p::address::{AddrV2, AddrV2Message};
use bitcoin::p2p::message::{CommandString, NetworkMessage};
use bitcoin::p2p::message_blockdata::{GetBlocksMessage, GetHeadersMessage, Inventory};
use bitcoin::p2p::message_bloom::{BloomFlags, FilterAdd, FilterLoad};
use bitcoin::p2p::message_compact_blocks::{BlockTxn, CmpctBlock, GetBlockTxn, SendCmpct};
use bitcoin::p2p::message_filter::{GetCFCheckpt, GetCFHeaders, GetCFilters};
use bitcoin::p2p::message_network::{Reject, RejectReason};
use bitcoin::{Amount, Block, BlockHash, ScriptBuf, Transaction, TxOut, Txid, WScriptHash, Wtxid};
use blvm_mesh_tests::bitcoind::coins::{self, Coin, FEE, Kind, Wallet};
use blvm_mesh_tests::bitcoind::peer::{Log, Manner, Message, Peer};
use blvm_mesh_tests::bitcoind::{Bitcoind, PATIENCE};
use serde_json::json;
use std::path::Path;
use std::time::Instant;

/// Everything that is off by default, and no waiting for transactions to be announced.
const OPTIONS: &[&str] = &[
    "-whitelist=noban,mempool,relay,download,addr@127.0.0.1",
    "-peerblockfilters=1",
    "-blockfilterindex=1",
    "-peerbloomfilters=1",
    "-txindex=1",
    "-txreconciliation=1",
    "-acceptnonstdtxn=1",
    "-cjdnsreachable=1",
    "-externalip=1.2.3.4",
];

/// More than the 2,000 that fit one `headers` message.
const BLOCKS: u64 = 2_010;

/// Coins of every kind, and as many again of one as need a long count.
const MANY: usize = 300;

/// What a coin is worth that is made to be spent, in satoshis.
const WORTH: u64 = 200_000;

/// The messages of all conversations, in both directions.
pub(super) fn all(program: &Path) -> Vec<Message> {
    let mut stage = Stage::new(program);
    stage.every_version();
    stage.ask_for_blocks();
    stage.ask_for_filters();
    stage.ask_with_bloom_filters();
    stage.transactions();
    stage.announcements();
    stage.bring_blocks();
    stage.addresses();
    stage.outgoing();
    stage.log.take()
}

struct Stage {
    node: Bitcoind,
    log: Log,
    wallet: Wallet,
    /// Coins of every kind, then [`MANY`] of one.
    coins: Vec<Coin>,
    /// A block of a coinbase, and one of many transactions.
    plain: BlockHash,
    full: Block,
    /// The node's clock, in Unix seconds.
    now: u64,
}

/// What today's nodes say between `version` and `verack`.
fn modern() -> Manner {
    let reconciliation = [&1u32.to_le_bytes()[..], &7u64.to_le_bytes()].concat();
    Manner {
        before_verack: vec![
            NetworkMessage::WtxidRelay,
            NetworkMessage::SendAddrV2,
            raw("sendtxrcncl", reconciliation),
        ],
        after_verack: vec![
            NetworkMessage::SendHeaders,
            NetworkMessage::SendCmpct(SendCmpct { send_compact: true, version: 2 }),
            NetworkMessage::FeeFilter(1_000),
        ],
        ..Manner::of_version(70_016)
    }
}

fn raw(command: &'static str, payload: Vec<u8>) -> NetworkMessage {
    let command = CommandString::try_from_static(command).expect("it is short");
    NetworkMessage::Unknown { command, payload }
}

/// An output of its own for every `n`, so that filters have much to tell.
fn somebody(n: usize, value: u64) -> TxOut {
    let hash = WScriptHash::hash(&n.to_le_bytes());
    TxOut { value: Amount::from_sat(value), script_pubkey: ScriptBuf::new_p2wsh(&hash) }
}

/// Filtered blocks are not among the types of the `bitcoin` crate (BIP 37).
fn filtered(hash: BlockHash) -> Inventory {
    Inventory::Unknown { inv_type: 3, hash: hash.to_byte_array() }
}

impl Stage {
    /// A node with a chain and a block that holds transactions of every kind.
    fn new(program: &Path) -> Self {
        let node = Bitcoind::start(program, OPTIONS);
        let (log, wallet) = (Log::default(), Wallet::new());
        // Before its first block a node says that it wants no transactions.
        let mut early = Peer::connect(&node, &log, &modern());
        early.hear("feefilter");
        for _ in 0..BLOCKS / 201 {
            node.call("generatetoaddress", json!([201, wallet.address()]));
        }
        assert_eq!(node.call("getblockcount", json!([])), BLOCKS);
        early.settle();
        drop(early);

        let reward = coins::block_at(&node, 1).txdata.remove(0);
        let kinds: Vec<Kind> = Kind::ALL.into_iter().cycle().take(8 * Kind::ALL.len()).collect();
        let kinds = [kinds, vec![Kind::SegwitV0; MANY]].concat();
        let reward = Wallet::coins(&reward, &[Kind::SegwitV0]);
        let outputs = kinds.iter().map(|kind| wallet.output(*kind, WORTH)).collect();
        let fan = wallet.spend(&reward, outputs);
        coins::submit(&node, &fan);
        node.call("generatetoaddress", json!([1, wallet.address()]));

        let mut coins = Wallet::coins(&fan, &kinds);
        let many: Vec<Coin> = coins.split_off(coins.len() - MANY);
        let full = coins
            .drain(..2 * Kind::ALL.len())
            .chain(many)
            .enumerate()
            .map(|(n, coin)| wallet.spend(&[coin], vec![somebody(n, WORTH - FEE)]));
        let full = coins::mine(&node, full.collect());
        let hex = bitcoin::consensus::encode::serialize_hex(&full);
        assert!(node.call("submitblock", json!([hex])).is_null());
        let now = node.call("getblockheader", json!([node.text("getbestblockhash", json!([]))]));
        let now = now["time"].as_u64().expect("a time");
        let plain = coins::block_at(&node, BLOCKS).block_hash();
        let mut stage = Self { node, log, wallet, coins, plain, full, now };
        stage.later(60);
        stage
    }

    fn connect(&self, manner: &Manner) -> Peer {
        Peer::connect(&self.node, &self.log, manner)
    }

    /// Moves the node's clock on.
    fn later(&mut self, seconds: u64) {
        self.now += seconds;
        self.node.call("setmocktime", json!([self.now]));
    }

    fn tip(&self) -> BlockHash {
        self.node.text("getbestblockhash", json!([])).parse().expect("a hash")
    }

    fn generate(&self) -> BlockHash {
        let made = self.node.call("generatetoaddress", json!([1, self.wallet.address()]));
        made[0].as_str().and_then(|hash| hash.parse().ok()).expect("a hash")
    }

    /// A transaction of one input of this kind; or of all kinds, which takes one coin of each.
    fn spend(&mut self, kinds: &[Kind]) -> Transaction {
        let mut take = |kind: &Kind| {
            let at = self.coins.iter().position(|coin| coin.kind == *kind).expect("enough coins");
            self.coins.remove(at)
        };
        let coins: Vec<Coin> = kinds.iter().map(&mut take).collect();
        let value = WORTH * coins.len() as u64 - FEE;
        let outputs = vec![
            self.wallet.output(Kind::TaprootKey, value / 2),
            self.wallet.output(Kind::Legacy, value / 2),
        ];
        self.wallet.spend(&coins, outputs)
    }

    /// Peers of every protocol version that a node treats in its own way.
    fn every_version(&mut self) {
        let versions = [31_800, 60_000, 60_001, 70_001, 70_012, 70_013, 70_014, 70_015, 70_016];
        for version in versions {
            let mut peer = self.connect(&Manner::of_version(version));
            self.node.call("ping", json!([]));
            peer.hear("ping");
            if version <= 70_012 {
                let alerts = |m: &Message| m.from_node && m.command() == "alert";
                assert!(self.log.borrow().iter().any(alerts));
            }
        }
        // BIP 434: what nobody knows is passed over.
        let feature = [&b"\x08BIP-9999"[..], &[3, 1, 2, 3]].concat();
        let before_verack = vec![raw("feature", feature)];
        self.connect(&Manner { before_verack, ..Manner::of_version(70_017) });
        self.connect(&Manner { relay: false, ..Manner::of_version(70_016) });
    }

    fn ask_for_blocks(&mut self) {
        let mut peer = self.connect(&Manner::of_version(70_015));
        let genesis = coins::block_at(&self.node, 0).block_hash();
        let tip = self.tip();
        let full = self.full.block_hash();
        for hash in [genesis, self.plain, full] {
            for wanted in [
                Inventory::Block(hash),
                Inventory::WitnessBlock(hash),
                // An old block comes whole.
                Inventory::CompactBlock(hash),
            ] {
                peer.say(NetworkMessage::GetData(vec![wanted]));
            }
            peer.settle();
        }
        for (from, to) in [(genesis, BlockHash::all_zeros()), (self.plain, tip), (tip, tip)] {
            peer.say(NetworkMessage::GetHeaders(GetHeadersMessage::new(vec![from], to)));
            peer.hear("headers");
        }
        peer.say(NetworkMessage::GetHeaders(GetHeadersMessage::new(vec![], self.plain)));
        peer.hear("headers");
        for (from, to) in [(genesis, BlockHash::all_zeros()), (self.plain, tip)] {
            peer.say(NetworkMessage::GetBlocks(GetBlocksMessage::new(vec![from], to)));
            peer.hear("inv");
        }
        let last = self.full.txdata.len() as u64 - 1;
        for (block_hash, indexes) in [(full, vec![0]), (full, vec![0, 1, 2, 15, last])] {
            let txs_request = BlockTransactionsRequest { block_hash, indexes };
            peer.say(NetworkMessage::GetBlockTxn(GetBlockTxn { txs_request }));
            let NetworkMessage::BlockTxn(got) = peer.hear("blocktxn").read() else { panic!() };
            assert_eq!(got.transactions.transactions[0], self.full.txdata[0]);
        }
        peer.settle();
    }

    fn ask_for_filters(&mut self) {
        let end = Instant::now() + PATIENCE;
        while self.node.call("getindexinfo", json!([]))["basic block filter index"]["synced"]
            != true
        {
            assert!(Instant::now() < end, "the filters are not made");
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        let mut peer = self.connect(&Manner::of_version(70_016));
        let (stop_hash, filter_type) = (self.full.block_hash(), 0);
        let start_height = BLOCKS as u32 - 2;
        peer.say(NetworkMessage::GetCFilters(GetCFilters { filter_type, start_height, stop_hash }));
        for _ in start_height..=BLOCKS as u32 + 2 {
            peer.hear("cfilter");
        }
        for start_height in [start_height, start_height - 1_990] {
            let ask = GetCFHeaders { filter_type, start_height, stop_hash };
            peer.say(NetworkMessage::GetCFHeaders(ask));
            peer.hear("cfheaders");
        }
        peer.say(NetworkMessage::GetCFCheckpt(GetCFCheckpt { filter_type, stop_hash }));
        peer.hear("cfcheckpt");
    }

    /// BIP 37: filters that everything, some things and nothing passes.
    fn ask_with_bloom_filters(&mut self) {
        let mut peer = self.connect(&Manner { relay: false, ..Manner::of_version(70_016) });
        let (plain, full) = (self.plain, self.full.block_hash());
        for (filter, flags) in [
            (vec![0xff; 3], BloomFlags::None),
            (vec![0x6d; 64], BloomFlags::All),
            (vec![0x11; 8], BloomFlags::PubkeyOnly),
            (vec![0; 36_000], BloomFlags::None),
        ] {
            let everything = filter[0] == 0xff;
            let load = FilterLoad { filter, hash_funcs: 3, tweak: 5, flags };
            peer.say(NetworkMessage::FilterLoad(load));
            peer.say(NetworkMessage::GetData(vec![filtered(plain)]));
            peer.hear("merkleblock");
            if everything {
                // A coinbase of its own, which no node takes as one.
                let NetworkMessage::Tx(tx) = peer.hear("tx").read() else { panic!() };
                assert!(tx.is_coinbase());
            }
            peer.say(NetworkMessage::GetData(vec![filtered(full)]));
            peer.hear("merkleblock");
            peer.settle();
        }
        let data = self.full.txdata[1].compute_txid().to_byte_array().to_vec();
        peer.say(NetworkMessage::FilterAdd(FilterAdd { data }));
        peer.say(NetworkMessage::GetData(vec![filtered(full)]));
        peer.hear("merkleblock");
        peer.say(NetworkMessage::FilterClear);
        peer.settle();
    }

    /// Transactions that the node announces, gives, is asked for in vain, and fetches.
    fn transactions(&mut self) {
        let mut new = self.connect(&modern());
        let mut old = self.connect(&Manner::of_version(70_015));
        let mut sent: Vec<Transaction> = Vec::new();
        for kind in Kind::ALL {
            sent.push(self.spend(&[kind]));
        }
        sent.push(self.spend(&Kind::ALL));
        for tx in &sent {
            coins::submit(&self.node, tx);
            self.later(10);
            new.hear("inv");
            old.hear("inv");
            new.say(NetworkMessage::GetData(vec![Inventory::WTx(tx.compute_wtxid())]));
            for wanted in [
                Inventory::Transaction(tx.compute_txid()),
                Inventory::WitnessTransaction(tx.compute_txid()),
            ] {
                old.say(NetworkMessage::GetData(vec![wanted]));
                old.hear("tx");
            }
            let NetworkMessage::Tx(got) = new.hear("tx").read() else { panic!() };
            assert_eq!(&got, tx);
        }
        for peer in [&mut new, &mut old] {
            peer.say(NetworkMessage::MemPool);
            peer.hear("inv");
            let (txid, wtxid) = (Txid::from_byte_array([7; 32]), Wtxid::from_byte_array([7; 32]));
            for unknown in [
                Inventory::Transaction(txid),
                Inventory::WitnessTransaction(txid),
                Inventory::WTx(wtxid),
            ] {
                peer.say(NetworkMessage::GetData(vec![unknown]));
                peer.hear("notfound");
            }
        }

        // One that the node fetches; and one whose parent it lacks.
        let tx = self.spend(&[Kind::SegwitV0]);
        old.say(NetworkMessage::Inv(vec![Inventory::Transaction(tx.compute_txid())]));
        old.settle();
        self.later(10);
        old.hear("getdata");
        old.say(NetworkMessage::Tx(tx));
        let parent = self.spend(&[Kind::TaprootKey]);
        let coin = Wallet::coins(&parent, &[Kind::TaprootKey]);
        let value = coin[0].value - FEE;
        let child = self.wallet.spend(&coin, vec![self.wallet.output(Kind::Nested, value)]);
        new.say(NetworkMessage::Inv(vec![Inventory::WTx(child.compute_wtxid())]));
        new.settle();
        self.later(10);
        new.hear("getdata");
        new.say(NetworkMessage::Tx(child));
        new.settle();
        self.later(10);
        let wanted = new.hear("getdata");
        let NetworkMessage::GetData(wanted) = wanted.read() else { panic!() };
        new.say(NetworkMessage::NotFound(wanted));
        new.settle();
        // Bitcoin Core passes it over since version 0.20; others still send it.
        let ccode = RejectReason::NonStandard;
        let (hash, reason) = (parent.compute_txid().to_raw_hash(), "dust".into());
        old.say(NetworkMessage::Reject(Reject { message: "tx".into(), ccode, reason, hash }));
        old.settle();
    }

    /// A new block is told in three ways.
    fn announcements(&mut self) {
        let mut compact = self.connect(&modern());
        let mut headers = self.connect(&Manner {
            after_verack: vec![NetworkMessage::SendHeaders],
            ..Manner::of_version(70_016)
        });
        let mut inv = self.connect(&Manner::of_version(70_012));
        let tip = self.tip();
        for peer in [&mut compact, &mut headers, &mut inv] {
            // It must be known that the peer has the block before.
            let ask = GetHeadersMessage::new(vec![self.plain], BlockHash::all_zeros());
            peer.say(NetworkMessage::GetHeaders(ask));
            peer.hear("headers");
            let last = self.header(tip);
            peer.say(NetworkMessage::Headers(vec![last]));
            peer.settle();
        }
        let made = self.generate();
        let NetworkMessage::CmpctBlock(told) = compact.hear("cmpctblock").read() else { panic!() };
        assert_eq!(told.compact_block.header.block_hash(), made);
        headers.hear("headers");
        inv.hear("inv");
        for wanted in
            [Inventory::CompactBlock(made), Inventory::WitnessBlock(made), Inventory::Block(made)]
        {
            let command = match wanted {
                Inventory::CompactBlock(_) => "cmpctblock",
                _ => "block",
            };
            compact.say(NetworkMessage::GetData(vec![wanted]));
            compact.hear(command);
        }
    }

    fn header(&self, hash: BlockHash) -> bitcoin::block::Header {
        let hex = self.node.text("getblockheader", json!([hash.to_string(), false]));
        bitcoin::consensus::encode::deserialize_hex(&hex).expect("a header")
    }

    /// Blocks that the node fetches, and lacks transactions of.
    fn bring_blocks(&mut self) {
        let mut new = self.connect(&modern());
        let mut old = self.connect(&Manner::of_version(70_012));

        // A header first.
        let block = coins::mine(&self.node, vec![]);
        new.say(NetworkMessage::Headers(vec![block.header]));
        new.hear("getdata");
        new.say(NetworkMessage::CmpctBlock(compact(&block)));
        self.wait_for(&block);
        new.hear("sendheaders");

        // By its hash only, as before BIP 130.
        let unseen = vec![self.spend(&[Kind::Legacy])];
        let block = coins::mine(&self.node, unseen);
        old.say(NetworkMessage::Inv(vec![Inventory::Block(block.block_hash())]));
        old.hear("getheaders");
        old.say(NetworkMessage::Headers(vec![block.header]));
        old.hear("getdata");
        old.say(NetworkMessage::Block(block.clone()));
        self.wait_for(&block);

        // Unasked, with transactions that nobody has seen.
        let unseen = vec![self.spend(&[Kind::TaprootKey]), self.spend(&[Kind::SegwitV0])];
        let block = coins::mine(&self.node, unseen);
        new.say(NetworkMessage::CmpctBlock(compact(&block)));
        let NetworkMessage::GetBlockTxn(lacking) = new.hear("getblocktxn").read() else { panic!() };
        let transactions = BlockTransactions::from_request(&lacking.txs_request, &block);
        let transactions = transactions.expect("they are in it");
        new.say(NetworkMessage::BlockTxn(BlockTxn { transactions }));
        self.wait_for(&block);
        new.settle();
        old.settle();
    }

    fn wait_for(&self, block: &Block) {
        let end = Instant::now() + PATIENCE;
        while self.tip() != block.block_hash() {
            assert!(Instant::now() < end, "the node does not take the block");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// Addresses of every network.
    fn addresses(&mut self) {
        let some = (1..=60).map(|n| format!("8.{n}.3.4"));
        let more = (1..=60).map(|n| format!("2a{n:02x}:4f8::{n}"));
        let rare = [
            "pg6mmjiyjmcrsslvykfwnntlaru7p5svn6y2ymmju6nubxndf4pscryd.onion",
            "c4gfnttsuwqomiygupdqqqyy5y5emnk5c73hrfvatri67prd7vyq.b32.i2p",
            "fc32:17ea:e415:c3bf:9808:149d:b5a2:c9aa",
        ];
        for address in some.chain(more).chain(rare.map(String::from)) {
            let port = if address.ends_with("i2p") { 0 } else { 8333 };
            self.node.call("addpeeraddress", json!([address, port]));
        }
        let mut new = self.connect(&modern());
        let mut old = self.connect(&Manner::of_version(70_015));
        for (peer, command) in [(&mut new, "addrv2"), (&mut old, "addr")] {
            peer.say(NetworkMessage::GetAddr);
            // The node's own address first, then others.
            peer.hear(command);
            self.later(600);
            peer.hear(command);
        }
        // What peers tell is passed on to some.
        let entry = |addr| AddrV2Message {
            time: u32::try_from(self.now).expect("before 2106"),
            services: ServiceFlags::NETWORK | ServiceFlags::WITNESS,
            addr,
            port: 8333,
        };
        let own: Vec<AddrV2Message> = vec![
            entry(AddrV2::Ipv4([9, 8, 7, 6].into())),
            entry(AddrV2::TorV3([0x11; 32])),
            entry(AddrV2::I2p([0x22; 32])),
        ];
        new.say(NetworkMessage::AddrV2(own));
        new.settle();
        self.later(600);
        new.settle();
        old.settle();
    }

    /// Connections that the node opens.
    fn outgoing(&mut self) {
        // Nothing is to be reconciled where no transactions are relayed.
        let other = Manner::of_version(70_016);
        for (kind, manner) in [
            ("manual", &modern()),
            ("outbound-full-relay", &modern()),
            ("block-relay-only", &other),
            ("addr-fetch", &other),
        ] {
            let mut peer = Peer::be_connected(&self.node, &self.log, manner, kind);
            self.later(10);
            peer.settle();
        }
        let told = |command: &str| {
            let log = self.log.borrow();
            log.iter().any(|m| m.from_node && m.command() == command)
        };
        assert!(told("getaddr") && told("getheaders"));
    }
}

/// A block's coinbase, and short ids of the others (BIP 152).
fn compact(block: &Block) -> CmpctBlock {
    let compact_block = HeaderAndShortIds::from_block(block, 9, 2, &[]).expect("version 2");
    let first = compact_block.prefilled_txs.first();
    assert!(matches!(first, Some(PrefilledTransaction { idx: 0, .. })));
    CmpctBlock { compact_block }
}
