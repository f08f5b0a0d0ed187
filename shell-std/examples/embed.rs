//! A host node embeds the mesh: three hosts in one process, each with its own
//! [`MeshManager`], connected A - B - C by nothing but their memory.
//!
//! Run it with `cargo run --example embed`. It ends with an error if anything is
//! not as it says.

use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use blvm_mesh::issuer::{Issuer, Order, unix_now};
use blvm_mesh::manager::{
    BoxFuture, ManagerError, MeshContext, MeshManager, NodeAPI, NodeApiError, PaymentState,
    PaymentVerifier,
};
use blvm_mesh::store::{STORE_FILE, Store};
use blvm_mesh::wallet::Limits;
use blvm_mesh_core::config::{Config, MeshMode};
use blvm_mesh_core::id::{Network, Standing};
use blvm_mesh_core::mesh::{Event, MeshError, PaymentReason, Priority};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::packed::{self, IssuerHint};
use blvm_mesh_core::payment::proof::{LIGHTNING, PaymentProof};
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use blvm_mesh_core::payment::verify::Claim;
use blvm_mesh_core::secp256k1::SecretKey;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

type Error = Box<dyn std::error::Error>;
type Hosts = Mutex<HashMap<String, Weak<MeshManager>>>;

/// What stands in for the host: its peers are the other hosts of this process.
struct Host {
    name: &'static str,
    network: Arc<Hosts>,
    events: Mutex<Vec<Event>>,
}

impl NodeAPI for Host {
    fn send_to_peer<'a>(
        &'a self,
        peer: &'a str,
        _: Priority,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        let other = self.network.lock().ok().and_then(|n| n.get(peer).and_then(Weak::upgrade));
        Box::pin(async move {
            let other = other.ok_or(NodeApiError::NotConnected)?;
            // A host would write one frame here, and the other read it.
            let taken = other.handle_packet(self.name, packet).await;
            taken.map(drop).map_err(|e| NodeApiError::Other(e.to_string()))
        })
    }

    fn payment_state<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>> {
        // This host has no Lightning node of its own.
        Box::pin(async { None })
    }

    fn block<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>> {
        // Nor a chain.
        Box::pin(async { None })
    }

    fn broadcast<'a>(
        &'a self,
        _: &'a bitcoin::Transaction,
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        Box::pin(async { Err(NodeApiError::Other("this host has no node to broadcast by".into())) })
    }

    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()> {
        if let Ok(mut events) = self.events.lock() {
            events.push(event.clone());
        }
        Box::pin(async {})
    }
}

impl Host {
    fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.events.lock().map_or(0, |events| events.iter().filter(|e| wanted(e)).count())
    }
}

fn main() -> Result<(), Error> {
    let executor = smol::LocalExecutor::new();
    smol::block_on(executor.run(scenes(&executor)))
}

async fn scenes(executor: &smol::LocalExecutor<'_>) -> Result<(), Error> {
    let issuer = Issuer::from_secret(SecretKey::from_byte_array([77; 32])?);
    let files = tempfile::tempdir()?;
    let network = Arc::new(Hosts::default());
    let mut nodes = Vec::new();
    for (name, key) in [("a", 1), ("b", 2), ("c", 3)] {
        let mut config = Config::host(Network::Regtest);
        config.mode = MeshMode::PaymentGated;
        let full = config.payment.issuers.push(*issuer.public_key()).is_err();
        assert!(!full);
        let key = SecretKey::from_byte_array([key; 32])?;
        // What was paid is on this host's disk before a packet goes on.
        let path = files.path().join(format!("{name}-{STORE_FILE}"));
        let store = Some(Arc::new(Store::open(&path, 1 << 18)?));
        let host = Arc::new(Host { name, network: network.clone(), events: Mutex::default() });
        let spending = Limits::default();
        let context = MeshContext { config, key, store, inbox_bytes: 1 << 20, spending };
        let manager = Arc::new(MeshManager::new(context, host.clone())?);
        network.lock().map_err(|e| e.to_string())?.insert(name.into(), Arc::downgrade(&manager));
        let timed = manager.clone();
        executor.spawn(async move { timed.run().await }).detach();
        nodes.push((manager, host));
    }
    let [(a, at_a), (b, at_b), (c, at_c)] = &nodes[..] else { return Err("three nodes".into()) };
    for (x, name_x, y, name_y) in [(a, "a", b, "b"), (b, "b", c, "c")] {
        y.peer_connected(name_x, x.id(), false, Standing::Own).await?;
        x.peer_connected(name_y, y.id(), true, Standing::Own).await?;
    }
    let is_up = |e: &Event| matches!(e, Event::PeerConnected { .. });
    while [at_a, at_b, at_b, at_c].iter().map(|h| h.count(is_up)).sum::<usize>() < 6 {
        smol::Timer::after(Duration::from_millis(5)).await;
    }
    println!("three hosts are connected: a - b - c");

    // A Bitcoin message goes free, and finds its own way.
    let ping = RawNetworkMessage::new(bitcoin::p2p::Magic::REGTEST, NetworkMessage::Ping(7));
    let ping = bitcoin::consensus::serialize(&ping);
    let sent = a.send_mesh_packet(c.id(), &ping, &[]).await?;
    assert_eq!(sent.hops, 1);
    let got = c.poll_local_deliveries(9);
    assert_eq!((got[0].source, &got[0].payload), (a.id(), &ping));
    println!("a Bitcoin ping went from a through b to c for free");

    // Other data does not.
    let data = b"weather report";
    match a.send_mesh_packet(c.id(), data, &[]).await {
        Err(ManagerError::Refused(MeshError::PaymentVerificationFailed(
            PaymentReason::Required,
        ))) => println!("other data was refused: {}", PaymentReason::Required),
        other => return Err(format!("unpaid data was not refused: {other:?}").into()),
    }

    // For a payment it does: quote, invoice, proof.
    let bytes = data.len() as u64;
    let quote = a.quote_route_fee(&c.id(), bytes).ok_or("no quote")?;
    let issued = issuer.invoice(&Order {
        network: Network::Regtest,
        terms_hash: quote.terms_hash,
        amount_msat: quote.amount_msat,
        expiry_s: 3600,
        timestamp: unix_now(),
        as_text: false,
    })?;
    let mut proof = vec![0; 1024];
    proof[0] = LIGHTNING;
    let hint = IssuerHint::of(issuer.public_key());
    let len = packed::pack(
        &issued.invoice,
        &issued.preimage.expect("a regtest issuer's"),
        &quote.terms_hash,
        hint,
        &mut proof[1..],
    )
    .map_err(|e| e.to_string())?;
    proof.truncate(1 + len);

    // Any host can check such a proof by itself.
    let terms = Terms {
        network: Network::Regtest,
        source: a.id(),
        destination: c.id(),
        hops: &quote.hops,
        quota: bytes,
    };
    let claim = Claim {
        purpose: Purpose::Datagram,
        terms: &terms,
        party: Party::Intermediate(0),
        price_msat: 1,
        unix: Some(unix_now()),
        not_before: None,
    };
    let mut rules = Config::host(Network::Regtest).payment;
    let parsed = PaymentProof::parse(&proof).map_err(|e| e.to_string())?;
    let nobody = PaymentVerifier::new(rules.clone(), at_b.clone());
    assert!(!nobody.verify(&parsed, &claim).await.is_valid(), "no issuer is accepted yet");
    rules.issuers.push(*issuer.public_key()).map_err(|_| "too many issuers")?;
    let verifier = PaymentVerifier::new(rules, at_b.clone());
    let result = verifier.verify(&parsed, &claim).await;
    let verified = result.verified.ok_or("the proof does not hold")?;
    assert_eq!(verified.amount_msat, quote.amount_msat);
    println!("{} msat were paid, {} of them to b", verified.amount_msat, verified.share_msat);

    a.send_mesh_packet(c.id(), data, &proof).await?;
    let got = c.poll_local_deliveries(9);
    assert_eq!(got[0].payload, data);
    assert_eq!(got[0].earned_msat, quote.shares.get(Party::Destination));
    let is_paid = |e: &Event| matches!(e, Event::PaymentVerified { .. });
    assert_eq!([at_a, at_b, at_c].map(|host| host.count(is_paid)), [1, 1, 1]);
    println!("the data arrived, and {} msat at c with it", got[0].earned_msat);

    match a.send_mesh_packet(c.id(), data, &proof).await {
        Err(ManagerError::Refused(MeshError::ReplayDetected(reason))) => {
            println!("the same proof again was refused: {reason}");
        }
        other => return Err(format!("a replay was not refused: {other:?}").into()),
    }
    Ok(())
}
