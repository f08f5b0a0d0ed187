//! Managers that hand packets to one another; more is shown by
//! `examples/embed.rs`.

use super::*;
use crate::covenant::{Payout, Template};
use crate::regtest;
use crate::rpc::types::{self, Role, Share};
use crate::store::STORE_FILE;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, MerkleBlock, ScriptBuf};
use blvm_mesh_core::id::{HopId, Network, Standing};
use blvm_mesh_core::link::lane::Lane;
use blvm_mesh_core::mesh::{Event, NetworkReason, Priority};
use blvm_mesh_core::payment::covenant::CovenantError;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::lightning::LightningProof;
use blvm_mesh_core::payment::proof::{INSTANT_SETTLEMENT, PaymentProof};
use blvm_mesh_core::payment::reason::{PaymentReason, Refused};
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use blvm_mesh_core::payment::verify::Claim;
use blvm_mesh_core::wire::Kind;
use blvm_mesh_core::wire::route_error::Cause;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Weak;
use std::sync::atomic::AtomicUsize;

/// A host that is connected to all others by name.
#[derive(Default)]
pub(super) struct Host {
    name: String,
    others: Arc<Mutex<HashMap<String, Weak<MeshManager>>>>,
    events: Mutex<Vec<Event>>,
    state: Mutex<Option<PaymentState>>,
    blocks: Mutex<HashMap<[u8; 32], KnownHeader>>,
    asked: AtomicUsize,
    /// So many datagrams disappear that are to be sent.
    lose: AtomicUsize,
    broadcast: Mutex<Vec<bitcoin::Transaction>>,
}

impl NodeAPI for Host {
    fn send_to_peer<'a>(
        &'a self,
        peer: &'a str,
        _: Priority,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        let other = self.others.lock().unwrap().get(peer).and_then(Weak::upgrade);
        let is_datagram = packet.get(5) == Some(&(Kind::Datagram as u8));
        let lost = is_datagram
            && self
                .lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_ok();
        Box::pin(async move {
            if lost {
                return Ok(());
            }
            let other = other.ok_or(NodeApiError::NotConnected)?;
            let taken = other.handle_packet(&self.name, packet).await;
            taken.map(drop).map_err(|e| NodeApiError::Other(e.to_string()))
        })
    }

    fn payment_state<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>> {
        Box::pin(async { *self.state.lock().unwrap() })
    }

    fn block<'a>(&'a self, hash: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async { self.blocks.lock().unwrap().get(hash).copied() })
    }

    fn broadcast<'a>(
        &'a self,
        transaction: &'a bitcoin::Transaction,
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        self.broadcast.lock().unwrap().push(transaction.clone());
        Box::pin(async { Ok(()) })
    }

    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()> {
        self.events.lock().unwrap().push(event.clone());
        Box::pin(async {})
    }
}

fn context(key: u8) -> MeshContext {
    let mut config = Config::host(Network::Regtest);
    config.mode = blvm_mesh_core::config::MeshMode::Open;
    let key = SecretKey::from_byte_array([key; 32]).unwrap();
    MeshContext { config, key, store: None, inbox_bytes: 1_000_000, spending: Limits::default() }
}

/// Two managers that are connected, and their hosts.
pub(super) async fn pair(
    executor: &smol::LocalExecutor<'static>,
) -> ([Arc<MeshManager>; 2], [Arc<Host>; 2]) {
    pair_of([1, 2].map(context), executor).await
}

async fn pair_of(
    contexts: [MeshContext; 2],
    executor: &smol::LocalExecutor<'static>,
) -> ([Arc<MeshManager>; 2], [Arc<Host>; 2]) {
    let others: Arc<Mutex<HashMap<String, Weak<MeshManager>>>> = Arc::default();
    let hosts = ["a", "b"].map(|name| {
        Arc::new(Host { name: name.into(), others: others.clone(), ..Host::default() })
    });
    let mut given = contexts.into_iter().zip(&hosts);
    let [a, b] = [(); 2].map(|()| {
        let (context, host) = given.next().unwrap();
        let manager = Arc::new(MeshManager::new(context, host.clone()).unwrap());
        others.lock().unwrap().insert(host.name.clone(), Arc::downgrade(&manager));
        let timed = manager.clone();
        executor.spawn(async move { timed.run().await }).detach();
        manager
    });
    b.peer_connected("a", a.id(), false, Standing::Own).await.unwrap();
    a.peer_connected("b", b.id(), true, Standing::Own).await.unwrap();
    // The second's first hello came before the first knew of it; the next one comes
    // by the clock.
    let up = |i: usize| {
        let host: &Host = &hosts[i];
        let events = host.events.lock().unwrap();
        events.iter().any(|event| matches!(event, Event::PeerConnected { .. }))
    };
    while !(up(0) && up(1)) {
        smol::Timer::after(Duration::from_millis(1)).await;
    }
    ([a, b], hosts)
}

/// Runs a test while the managers that it makes keep time.
pub(super) fn run<F: Future<Output = ()>>(
    test: impl FnOnce(Rc<smol::LocalExecutor<'static>>) -> F,
) {
    let executor = Rc::new(smol::LocalExecutor::new());
    smol::block_on(executor.clone().run(test(executor)));
}

#[test]
fn packets_and_events_pass_between_hosts() {
    run(async |executor| {
        let ([a, b], hosts) = pair(&executor).await;
        let again = a.peer_connected("b", b.id(), true, Standing::Own).await;
        assert!(matches!(again, Err(ManagerError::PeerInUse(_))), "{again:?}");
        let stranger = a.handle_packet("x", b"MESH").await;
        assert!(matches!(stranger, Err(ManagerError::UnknownPeer(_))), "{stranger:?}");
        let sent = a.send_mesh_packet(b.id(), b"hello", &[]).await.unwrap();
        assert_eq!(sent.hops, 0);
        let got = b.poll_local_deliveries(9);
        assert_eq!((got[0].source, &got[0].payload[..]), (a.id(), &b"hello"[..]));

        // A host that has no room says for which packets.
        a.congestion("b", Lane::Paid, true).await;
        assert!(a.send_mesh_packet(b.id(), b"free", &[]).await.is_ok());
        a.congestion("b", Lane::Free, true).await;
        a.congestion("nobody", Lane::Free, true).await;
        let refused = a.send_mesh_packet(b.id(), b"free", &[]).await;
        let congested = MeshError::NetworkError(NetworkReason::Congested);
        assert!(matches!(refused, Err(ManagerError::Refused(e)) if e == congested), "{refused:?}");
        a.congestion("b", Lane::Free, false).await;
        assert!(a.send_mesh_packet(b.id(), b"free", &[]).await.is_ok());

        // Garbage ends the connection.
        let verdict = b.handle_packet("a", &[0; 40]).await.unwrap();
        assert!(matches!(verdict, Verdict::Refused(MeshError::NetworkError(_))), "{verdict:?}");
        assert!(matches!(b.handle_packet("a", &[]).await, Err(ManagerError::UnknownPeer(_))));
        let gone = Event::PeerDisconnected { peer: a.id() };
        assert_eq!(hosts[1].events.lock().unwrap().last(), Some(&gone));
    });
}

#[test]
fn a_stranger_that_the_operator_knows_becomes_an_own_neighbour() {
    run(async |executor| {
        let ([a, b], _) = pair(&executor).await;
        let own = || b.lock().mesh.resources().own_neighbours;
        b.peer_disconnected("a").await;
        b.peer_connected("a", a.id(), false, Standing::Stranger { prefix: 1 }).await.unwrap();
        assert_eq!(own(), 0);
        b.make_own("a").unwrap();
        assert_eq!(own(), 1);
        assert!(matches!(b.make_own("x"), Err(ManagerError::UnknownPeer(_))));
    });
}

fn script(i: u8) -> ScriptBuf {
    ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([i; 20]))
}

/// A covenant for `bytes` bytes from `a` to `b`, and the block that funds it.
fn covenant(a: &MeshManager, b: &MeshManager, bytes: u64) -> (Vec<u8>, [u8; 32], KnownHeader) {
    let known = a.quote_route_fee(&b.id(), bytes).unwrap();
    let share = |node: NodeId, role| Share {
        node: node.hop(),
        role,
        price_msat: if role == Role::Source { 0 } else { 1_100 },
        share_msat: 0,
        issuers: None,
    };
    let quote = types::Quote {
        source: a.id(),
        destination: b.id(),
        hops: known.hops.to_vec(),
        network: Network::Regtest,
        bytes,
        amount_msat: known.amount_msat,
        terms_hash: known.terms_hash,
        description: String::new(),
        shares: vec![share(a.id(), Role::Source), share(b.id(), Role::Destination)],
        min_packet: known.min_packet,
        most_bytes: 0,
        covenant: None,
        accepts: None,
        per_hop: Vec::new(),
    };
    let payout = |(node, i): (NodeId, u8)| Payout { node: node.hop(), script: script(i) };
    let payouts = [(a.id(), 1), (b.id(), 2)].map(payout);
    let template = Template::new(&quote, &payouts, 1_000).unwrap();
    let sat = template.amount_sat() + template.fee_sat(1_000).unwrap();
    let funding = regtest::funding(template.locking_scripts().1, sat, known.terms_hash);
    let time = u32::try_from(unix().unwrap()).unwrap();
    let block = regtest::mine(BlockHash::all_zeros(), vec![funding.clone()], time);
    let txid = funding.compute_txid();
    let inclusion = MerkleBlock::from_block_with_predicate(&block, |id| *id == txid);
    let paid = template.paid(&quote, &payouts, &funding, &inclusion).unwrap();
    let proof = [&[INSTANT_SETTLEMENT], &paid.proof[..]].concat();
    let merkle_root = block.header.merkle_root.to_byte_array();
    let header = KnownHeader { merkle_root, time, confirmations: 1 };
    (proof, block.block_hash().to_byte_array(), header)
}

#[test]
fn a_covenants_block_is_looked_up_in_the_hosts_chain() {
    run(async |executor| {
        let dir = tempfile::tempdir().unwrap();
        let contexts = [1, 2].map(|i| {
            let store = Store::open(&dir.path().join(i.to_string()), 100_000).unwrap();
            let mut context = MeshContext { store: Some(Arc::new(store)), ..context(i) };
            context.config.mode = blvm_mesh_core::config::MeshMode::PaymentGated;
            let rules = &mut context.config.payment;
            rules.covenants_active = true;
            rules.payout_script.extend_from_slice(script(i).as_bytes()).unwrap();
            context
        });
        let ([a, b], hosts) = pair_of(contexts, &executor).await;
        let knows = |host: usize, hash, header| {
            hosts[host].blocks.lock().unwrap().insert(hash, header);
        };
        // The sender's own host is asked first.
        let (proof, hash, header) = covenant(&a, &b, 4);
        let unknown = a.send_mesh_packet(b.id(), b"paid", &proof).await;
        let Err(ManagerError::Refused(reason)) = unknown else { panic!("{unknown:?}") };
        assert!(reason.to_string().contains("block of the funding transaction"), "{reason}");
        knows(0, hash, header);
        knows(1, hash, header);
        a.send_mesh_packet(b.id(), b"paid", &proof).await.unwrap();
        let got = b.poll_local_deliveries(9);
        // Of 830 satoshi at least, so that 40 % are relayed: 330 of the sender.
        assert_eq!((&got[0].payload[..], got[0].earned_msat), (&b"paid"[..], 444_000));
        assert_eq!(b.routing_stats().earned_msat, 444_000);
        // Who is paid by it broadcasts it, and who pays does not.
        let broadcast = |host: usize| hosts[host].broadcast.lock().unwrap().clone();
        let [settlement] = &broadcast(1)[..] else { panic!("{:?}", broadcast(1)) };
        assert!(settlement.output.iter().any(|out| out.script_pubkey == script(2)));
        assert_eq!(broadcast(0), []);
        let again = a.send_mesh_packet(b.id(), b"paid", &proof).await;
        let used = |e: &MeshError| matches!(e, MeshError::ReplayDetected(_));
        assert!(matches!(&again, Err(ManagerError::Refused(e)) if used(e)), "{again:?}");

        // Known to the sender alone: the receiver refuses it and says so.
        let (proof, hash, header) = covenant(&a, &b, 5);
        knows(0, hash, header);
        let before = hosts[1].asked.load(Ordering::SeqCst);
        a.send_mesh_packet(b.id(), b"paid5", &proof).await.unwrap();
        assert_eq!(hosts[1].asked.load(Ordering::SeqCst), before + 1);
        assert!(b.poll_local_deliveries(9).is_empty());
        let told = |e: &Event| {
            matches!(e, Event::DeliveryFailed { cause: Cause::Unconfirmed, reporter, .. }
                if *reporter == b.id())
        };
        assert!(hosts[0].events.lock().unwrap().iter().any(told));
    });
}

/// Two managers that take each other's covenants.
async fn paying(
    dir: &tempfile::TempDir,
    executor: &smol::LocalExecutor<'static>,
) -> ([Arc<MeshManager>; 2], [Arc<Host>; 2]) {
    let contexts = [1, 2].map(|i| {
        let store = Store::open(&dir.path().join(i.to_string()), 100_000).unwrap();
        let mut context = MeshContext { store: Some(Arc::new(store)), ..context(i) };
        context.config.mode = blvm_mesh_core::config::MeshMode::PaymentGated;
        let rules = &mut context.config.payment;
        rules.covenants_active = true;
        rules.payout_script.extend_from_slice(script(i).as_bytes()).unwrap();
        context
    });
    pair_of(contexts, executor).await
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(20), "not in time: {what}");
        smol::Timer::after(Duration::from_millis(2)).await;
    }
}

fn receipts(host: &Host, to: NodeId) -> usize {
    let events = host.events.lock().unwrap();
    events
        .iter()
        .filter(|e| matches!(e, Event::Delivered { destination, .. } if *destination == to))
        .count()
}

#[test]
fn what_is_lost_without_a_word_is_sent_again_until_its_receipt_comes() {
    run(async |executor| {
        let dir = tempfile::tempdir().unwrap();
        let ([a, b], hosts) = paying(&dir, &executor).await;
        let pay = |bytes| {
            let (proof, hash, header) = covenant(&a, &b, bytes);
            for host in &hosts {
                host.blocks.lock().unwrap().insert(hash, header);
            }
            proof
        };
        let hurry = || {
            let now = a.now();
            a.lock().repeats.hurry(now);
            let _ = a.rearm.0.try_send(());
        };
        // It arrives at once: nothing is kept.
        let proof = pay(4);
        a.send_mesh_packet(b.id(), b"paid", &proof).await.unwrap();
        assert_eq!(b.poll_local_deliveries(9).len(), 1);
        until("the receipt", || receipts(&hosts[0], b.id()) == 1).await;
        assert_eq!(a.lock().repeats.due(), None);

        // The packet is lost twice, then its receipt cannot be: it is no datagram.
        hosts[0].lose.store(2, Ordering::SeqCst);
        let proof = pay(5);
        let sent = a.send_mesh_packet(b.id(), b"paid5", &proof).await.unwrap();
        for repeat in 1..=2 {
            assert!(b.poll_local_deliveries(9).is_empty());
            hurry();
            until("it is sent again", || a.lock().repeats.times(sent.sequence) != repeat - 1).await;
        }
        until("the receipt", || receipts(&hosts[0], b.id()) == 2).await;
        let got = b.poll_local_deliveries(9);
        assert_eq!((got.len(), &got[0].payload[..]), (1, &b"paid5"[..]));
        assert_eq!((got[0].sequence, b.routing_stats().earned_msat), (sent.sequence, 2 * 444_000));
        assert_eq!(a.lock().repeats.due(), None);
    });
}

#[test]
fn what_is_stopped_for_a_cause_that_passes_is_sent_again_by_itself() {
    run(async |executor| {
        let dir = tempfile::tempdir().unwrap();
        let ([a, b], hosts) = paying(&dir, &executor).await;
        let (proof, hash, header) = covenant(&a, &b, 4);
        // The receiver's chain lags by that block.
        hosts[0].blocks.lock().unwrap().insert(hash, header);
        let sent = a.send_mesh_packet(b.id(), b"paid", &proof).await.unwrap();
        let told = || {
            let events = hosts[0].events.lock().unwrap();
            events.iter().any(|e| matches!(e, Event::DeliveryFailed { cause: Cause::Unconfirmed, sequence, .. } if *sequence == sent.sequence))
        };
        until("the report", told).await;
        assert!(b.poll_local_deliveries(9).is_empty());
        hosts[1].blocks.lock().unwrap().insert(hash, header);
        until("the receipt", || receipts(&hosts[0], b.id()) == 1).await;
        assert_eq!(b.poll_local_deliveries(9).len(), 1);
        assert_eq!(a.routing_stats().repeated, 1);
    });
}

/// A disk in memory that may be full.
#[derive(Debug, Clone, Default)]
struct Full(Arc<AtomicBool>, Arc<redb::backends::InMemoryBackend>);

impl Full {
    fn room(&self) -> std::io::Result<()> {
        match self.0.load(Ordering::SeqCst) {
            true => Err(std::io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl redb::StorageBackend for Full {
    fn len(&self) -> std::io::Result<u64> {
        self.1.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.1.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.room()?;
        self.1.set_len(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        self.1.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.room()?;
        self.1.write(offset, data)
    }
}

#[test]
fn what_was_paid_while_the_disk_was_full_is_booked_and_delivered_when_there_is_room() {
    run(async |executor| {
        let full = Full::default();
        let contexts = [1, 2].map(|i| {
            let disk = if i == 2 { full.clone() } else { Full::default() };
            let store = Store::with_backend("disk".as_ref(), move || disk.clone()).unwrap();
            let mut context = MeshContext { store: Some(Arc::new(store)), ..context(i) };
            context.config.mode = blvm_mesh_core::config::MeshMode::PaymentGated;
            let rules = &mut context.config.payment;
            rules.covenants_active = true;
            rules.payout_script.extend_from_slice(script(i).as_bytes()).unwrap();
            context
        });
        let ([a, b], hosts) = pair_of(contexts, &executor).await;
        let pay = async |bytes: u8| {
            let (proof, hash, header) = covenant(&a, &b, bytes.into());
            for host in &hosts {
                host.blocks.lock().unwrap().insert(hash, header);
            }
            a.send_mesh_packet(b.id(), &vec![7; bytes.into()], &proof).await.unwrap();
        };
        let told = || {
            let events = hosts[1].events.lock().unwrap();
            events.iter().filter(|e| matches!(e, Event::PaymentVerified { .. })).count()
        };
        full.0.store(true, Ordering::SeqCst);
        pay(4).await;
        smol::Timer::after(Duration::from_millis(300)).await;
        assert!(b.poll_local_deliveries(9).is_empty());
        assert_eq!((told(), b.routing_stats().earned_msat), (0, 0), "it is not booked");
        full.0.store(false, Ordering::SeqCst);
        let start = Instant::now();
        while told() == 0 {
            assert!(start.elapsed() < Duration::from_secs(20));
            smol::Timer::after(Duration::from_millis(5)).await;
        }
        pay(5).await;
        assert_eq!(b.poll_local_deliveries(9).len(), 2);
        assert_eq!((told(), b.routing_stats().earned_msat), (2, 888_000));
    });
}

#[test]
fn a_store_that_is_no_store_is_an_error_and_an_empty_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Arc::new(Store::open(&path, 100_000).unwrap());
    let context = MeshContext { store: Some(store), ..context(1) };
    assert!(MeshManager::new(context, Arc::new(Host::default())).is_ok());
}

#[test]
fn a_verifier_says_which_rule_does_not_hold() {
    smol::block_on(async {
        let rules = context(1).config.payment;
        let verifier = PaymentVerifier::new(rules, Arc::new(Host::default()));
        let hops = [HopId([1; 8])];
        let terms = Terms {
            network: Network::Regtest,
            source: NodeId([1; 32]),
            destination: NodeId([2; 32]),
            hops: &hops,
            quota: 10,
        };
        let claim = Claim {
            terms: &terms,
            purpose: Purpose::Datagram,
            party: Party::Destination,
            price_msat: 0,
            unix: None,
            not_before: None,
        };
        let proof = PaymentProof::Lightning(LightningProof::Packed(&[]));
        let result = verifier.verify(&proof, &claim).await;
        assert_eq!(result.refused, Some(Refused::Payment(PaymentReason::NoClock)));
        let claim = Claim { unix: Some(1_700_000_000), ..claim };
        let result = verifier.verify(&proof, &claim).await;
        assert!(!result.is_valid());
        let refused = result.refused;
        assert!(
            matches!(refused, Some(Refused::Payment(PaymentReason::Lightning(_)))),
            "{refused:?}"
        );
        let covenant = blvm_mesh_core::payment::covenant::CovenantProof {
            output_index: 0,
            template: &[],
            funding: &[],
            block_hash: [0; 32],
            position: 0,
            siblings: &[],
        };
        let proof = PaymentProof::InstantSettlement(covenant);
        let result = verifier.verify(&proof, &claim).await;
        let inactive = PaymentReason::Covenant(CovenantError::NotActive);
        assert_eq!(result.refused, Some(Refused::Payment(inactive)));
    });
}
