//! Covenant payments over real links, with a fake of a Bitcoin node that knows blocks mined
//! here.

use super::paid::service;
use super::*;
use crate::chain::fake::{Fake, Reply};
use crate::chain::{Auth, ChainSettings};
use crate::covenant::{Payout, Template, settlement};
use crate::regtest::{funding, mine};
use crate::rpc::target::Target;
use crate::rpc::types::{
    ChainState, CovenantProof, Proof, Quote, QuoteRoute, SendPacket, Sent, SubmitHeader,
    SubmittedHeaders,
};
use crate::rpc::{Handler, Reply as Answer, Request, RpcError};
use bitcoin::consensus::{encode::serialize_hex, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, MerkleBlock, ScriptBuf, WPubkeyHash};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::Method;
use serde_json::json;
use std::sync::atomic::AtomicI64;

/// What the fake says of every block that it knows.
#[derive(Clone, Default)]
struct Chain {
    blocks: Arc<Mutex<Vec<Block>>>,
    confirmations: Arc<AtomicI64>,
    silent: Arc<AtomicBool>,
    /// Transactions that were to be broadcast.
    sent: Arc<Mutex<Vec<String>>>,
}

impl Chain {
    fn start(&self) -> Fake {
        let chain = self.clone();
        Fake::start(move |method, params| match method {
            "getblockchaininfo" => Reply::result(json!({"chain": "regtest"})),
            "sendrawtransaction" => {
                chain.sent.lock().unwrap().push(params[0].as_str().unwrap().to_owned());
                Reply::result("00".into())
            }
            _ if chain.silent.load(Ordering::SeqCst) => Reply::Never,
            _ => chain.header(params[0].as_str().unwrap()),
        })
    }

    fn header(&self, hash: &str) -> Reply {
        let blocks = self.blocks.lock().unwrap();
        let Some(block) = blocks.iter().find(|block| block.block_hash().to_string() == hash) else {
            return Reply::error(-5, "Block not found");
        };
        Reply::result(json!({
            "hash": hash,
            "confirmations": self.confirmations.load(Ordering::SeqCst),
            "merkleroot": block.header.merkle_root.to_string(),
            "time": block.header.time,
        }))
    }
}

fn script(key: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([key; 20]))
}

/// A node that takes covenants, and asks `fake`.
fn start(bed: &Bed, key: u8, peers: &[&Node], disk: &Disk, fake: Option<&Fake>) -> Node {
    let timeout = Duration::from_millis(1_000);
    bed.start_with(key, MeshMode::PaymentGated, peers, disk.clone(), |s| {
        s.config.payment.covenants_active = true;
        s.config.payment.payout_script.extend_from_slice(script(key).as_bytes()).unwrap();
        let settings =
            |fake: &Fake| ChainSettings { rpc_url: fake.url(), auth: Auth::None, timeout };
        s.chain = fake.map(settings);
    })
}

/// A - B - C, linked.
async fn three(bed: &Bed, disks: &[Disk; 3], fake: Option<&Fake>) -> [Node; 3] {
    let b = start(bed, 2, &[], &disks[1], fake);
    let a = start(bed, 1, &[&b], &disks[0], fake);
    let c = start(bed, 3, &[&b], &disks[2], fake);
    linked(&a, &b).await;
    linked(&c, &b).await;
    [a, b, c]
}

async fn quote(a: &Node, c: &Node, bytes: u64) -> Quote {
    let destination = Target(c.handle().id());
    let request = Request::QuoteRoute(QuoteRoute { destination, bytes });
    match service(a).handle(request, &Default::default()).await {
        Ok(Answer::QuoteRoute(quote)) => quote,
        other => panic!("{other:?}"),
    }
}

/// Pays for so many bytes from A to C: the proof, and the block that it is in.
async fn pay([a, b, c]: [&Node; 3], bytes: u64) -> (Vec<u8>, Block) {
    let quote = quote(a, c, bytes).await;
    let payouts = [(a, 1), (b, 2), (c, 3)]
        .map(|(node, key)| Payout { node: node.handle().id().hop(), script: script(key) });
    let template = Template::new(&quote, &payouts, 1_000).unwrap();
    let sat = template.amount_sat() + template.fee_sat(1_000).unwrap();
    let mut tag = [0; 32];
    getrandom::fill(&mut tag).unwrap();
    let funding = funding(template.locking_scripts().1, sat, tag);
    let now = u32::try_from(Clock::unix().unwrap()).unwrap();
    let block = mine(BlockHash::all_zeros(), vec![funding.clone()], now);
    let txid = funding.compute_txid();
    let inclusion = MerkleBlock::from_block_with_predicate(&block, |id| *id == txid);
    let paid = template.paid(&quote, &payouts, &funding, &inclusion).unwrap();
    (paid.proof, block)
}

async fn send_paid(
    a: &Node,
    c: &Node,
    data: &[u8],
    proof: &[u8],
    unchecked: bool,
) -> Result<Sent, RpcError> {
    let request = SendPacket {
        destination: Target(c.handle().id()),
        data: data.to_vec(),
        proof: Some(Proof::Covenant(CovenantProof { covenant: proof.to_vec() })),
        pay: false,
        max_msat: None,
        unchecked,
        wait_ms: if unchecked { 10_000 } else { 0 },
    };
    match service(a).handle(Request::SendPacket(request), &Default::default()).await? {
        Answer::SendPacket(sent) => Ok(sent),
        other => panic!("{other:?}"),
    }
}

/// Role, amount and share of the one payment on a disk.
fn booked(disk: &Disk) -> (Method, Party, u64, u64) {
    let records = disk.records.lock().unwrap();
    let payments: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            Record::Payment(p) => Some((p.method, p.role, p.amount_msat, p.share_msat)),
            _ => None,
        })
        .collect();
    assert_eq!(payments.len(), 1, "{payments:?}");
    payments[0]
}

fn all_booked(disks: &[Disk; 3]) {
    let amount = booked(&disks[0]).2;
    // 294 satoshi for the sender are the least that is relayed: 2,940 in all.
    assert_eq!(amount, 2_940_000);
    let expected = [(Party::Source, 1), (Party::Intermediate(0), 3), (Party::Destination, 6)];
    for (disk, (party, tenths)) in disks.iter().zip(expected) {
        assert_eq!(booked(disk), (Method::Covenant, party, amount, tenths * amount / 10));
    }
}

async fn stop(nodes: [Node; 3]) {
    for node in nodes {
        node.stop().await;
    }
}

#[test]
fn a_covenant_is_accepted_once_a_bitcoin_node_knows_its_block_and_only_once() {
    Bed::run(async |bed| {
        let (disks, chain) = (Default::default(), Chain::default());
        let fake = chain.start();
        let [a, b, c] = three(&bed, &disks, Some(&fake)).await;
        let data = vec![9; 4096];
        let (proof, block) = pay([&a, &b, &c], 4096).await;
        chain.blocks.lock().unwrap().push(block);
        chain.confirmations.store(1, Ordering::SeqCst);
        let sent = send_paid(&a, &c, &data, &proof, false).await.unwrap();
        assert_eq!((sent.hops, sent.paid), (1, true));
        let got = delivery(&c).await;
        assert_eq!((&got.payload, got.earned_msat), (&data, 1_764_000));
        all_booked(&disks);
        let lookups = fake.methods().into_iter().filter(|m| m == "getblockheader").count();
        assert_eq!(lookups, 3, "one by each node");

        // The relay and the receiver see to it that they are paid.
        let settlement =
            settlement(&blvm_mesh_core::payment::covenant::CovenantProof::parse(&proof).unwrap());
        let settlement = serialize_hex(&settlement.unwrap());
        let sent = || chain.sent.lock().unwrap().clone();
        until("both have broadcast it", async || sent().len() == 2).await;
        assert_eq!(sent(), [settlement.clone(), settlement]);

        let again = send_paid(&a, &c, &data, &proof, false).await.unwrap_err();
        assert!(again.message.contains("used before"), "{again}");
        let again = send_paid(&a, &c, &data, &proof, true).await.unwrap();
        let stopped = again.stopped.unwrap();
        assert_eq!((stopped.reporter, stopped.cause), (b.handle().id(), Cause::Replay.to_string()));
        let stats = match service(&b).handle(Request::GetStats, &Default::default()).await {
            Ok(Answer::GetStats(stats)) => stats.chain.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!((stats.state, stats.lookups, stats.failed), (ChainState::Good, 1, 0));
        stop([a, b, c]).await;
    });
}

#[test]
fn a_block_that_is_unknown_or_stale_is_refused_and_the_sender_learns_why() {
    Bed::run(async |bed| {
        let (disks, chain) = (Default::default(), Chain::default());
        let fake = chain.start();
        let [a, b, c] = three(&bed, &disks, Some(&fake)).await;
        let (proof, _) = pay([&a, &b, &c], 4).await;
        let error = send_paid(&a, &c, b"data", &proof, false).await.unwrap_err();
        assert!(error.message.contains("block of the funding transaction is not known"), "{error}");
        let stopped = send_paid(&a, &c, b"data", &proof, true).await.unwrap().stopped.unwrap();
        let unconfirmed = (b.handle().id(), Cause::Unconfirmed.to_string());
        assert_eq!((stopped.reporter, stopped.cause), unconfirmed);

        let (proof, block) = pay([&a, &b, &c], 4).await;
        chain.blocks.lock().unwrap().push(block);
        chain.confirmations.store(-1, Ordering::SeqCst);
        let stopped = send_paid(&a, &c, b"data", &proof, true).await.unwrap().stopped.unwrap();
        assert_eq!((stopped.reporter, stopped.cause), unconfirmed);
        assert!(c.handle().deliveries().take(9, 9).is_empty());
        assert!(disks.iter().all(|disk| disk.records.lock().unwrap().is_empty()));
        stop([a, b, c]).await;
    });
}

#[test]
fn while_a_bitcoin_node_is_silent_free_traffic_flows() {
    Bed::run(async |bed| {
        let (disks, chain) = (Default::default(), Chain::default());
        let fake = chain.start();
        let [a, b, c] = three(&bed, &disks, Some(&fake)).await;
        let (proof, _) = pay([&a, &b, &c], 4).await;
        chain.silent.store(true, Ordering::SeqCst);
        let parked = || async { b.handle().job(|engine| engine.mesh.parked()).await.unwrap() };
        let meanwhile = async {
            until("the packet waits at B", || async { parked().await == 1 }).await;
            for nonce in 0..20 {
                send(&a, &c, &ping(nonce), &[], false).await;
                assert_eq!(delivery(&c).await.payload, ping(nonce));
            }
            assert_eq!(parked().await, 1, "it did not wait all the while");
        };
        let sent = send_paid(&a, &c, b"data", &proof, true);
        let (sent, ()) = smol::future::zip(sent, meanwhile).await;
        // It is sent again, and the node asked again.
        let stopped = sent.unwrap().repeating.unwrap();
        let unconfirmed = (b.handle().id(), Cause::Unconfirmed.to_string());
        assert_eq!((stopped.reporter, stopped.cause), unconfirmed);
        until("nothing waits", || async { parked().await == 0 }).await;
        let stats = match service(&b).handle(Request::GetStats, &Default::default()).await {
            Ok(Answer::GetStats(stats)) => stats.chain.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(stats.state, ChainState::Failed);
        assert!((1..=4).contains(&stats.failed), "{}", stats.failed);
        assert!(stats.error.unwrap().contains("chain.timeout_ms"));
        stop([a, b, c]).await;
    });
}

#[test]
fn headers_take_the_place_of_a_bitcoin_node() {
    Bed::run(async |bed| {
        let disks = Default::default();
        let [a, b, c] = three(&bed, &disks, None).await;
        let (proof, block) = pay([&a, &b, &c], 4).await;
        let refused = send_paid(&a, &c, b"data", &proof, false).await.unwrap_err();
        assert!(refused.message.contains("is not known"), "{refused}");
        let next = mine(block.block_hash(), vec![], block.header.time);
        let mut forged = serialize(&next.header);
        while forged[76..] == serialize(&next.header)[76..] || works(&forged) {
            forged[76] = forged[76].wrapping_add(1);
        }
        let headers = [serialize(&block.header), serialize(&next.header), forged].concat();
        for node in [&a, &b, &c] {
            let request = SubmitHeader { headers: headers.clone(), height: 7 };
            let answer =
                service(node).handle(Request::SubmitHeader(request), &Default::default()).await;
            let Ok(Answer::SubmitHeader(SubmittedHeaders { accepted, refused })) = answer else {
                panic!("{answer:?}");
            };
            let refused = refused.unwrap();
            assert_eq!((accepted, refused.place, refused.height), (2, 2, 9));
            assert!(refused.reason.contains("work that it claims"), "{refused:?}");
        }
        send_paid(&a, &c, b"data", &proof, false).await.unwrap();
        assert_eq!(delivery(&c).await.payload, b"data");
        all_booked(&disks);
        for (headers, height) in [(vec![], 0), (vec![0; 81], 0), (vec![0; 80], u32::MAX)] {
            let request = Request::SubmitHeader(SubmitHeader { headers, height });
            let error = service(&a).handle(request, &Default::default()).await.unwrap_err();
            assert_eq!(error.code, RpcError::INVALID_PARAMS);
        }
        stop([a, b, c]).await;
    });
}

/// Whether a header carries the work of regtest.
fn works(header: &[u8]) -> bool {
    let header: bitcoin::block::Header = bitcoin::consensus::deserialize(header).unwrap();
    header.target().is_met_by(header.block_hash())
}
