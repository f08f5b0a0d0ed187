//! Managers that hand packets to one another; more is shown by
//! `examples/embed.rs`.

use super::*;
use crate::store::STORE_FILE;
use blvm_mesh_core::id::{HopId, Network};
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::payment::covenant::CovenantError;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::headers::KnownHeader;
use blvm_mesh_core::payment::lightning::LightningProof;
use blvm_mesh_core::payment::proof::PaymentProof;
use blvm_mesh_core::payment::reason::{PaymentReason, Refused};
use blvm_mesh_core::payment::terms::Terms;
use blvm_mesh_core::payment::verify::Claim;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Weak;

/// A host that is connected to all others by name.
#[derive(Default)]
struct Host {
    name: String,
    others: Arc<Mutex<HashMap<String, Weak<MeshManager>>>>,
    events: Mutex<Vec<Event>>,
    state: Mutex<Option<PaymentState>>,
}

impl NodeAPI for Host {
    fn send_to_peer<'a>(
        &'a self,
        peer: &'a str,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        let other = self.others.lock().unwrap().get(peer).and_then(Weak::upgrade);
        Box::pin(async move {
            let other = other.ok_or(NodeApiError::NotConnected)?;
            let taken = other.handle_packet(&self.name, packet).await;
            taken.map(drop).map_err(|e| NodeApiError::Other(e.to_string()))
        })
    }

    fn payment_state<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>> {
        Box::pin(async { *self.state.lock().unwrap() })
    }

    fn block<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>> {
        Box::pin(async { None })
    }

    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()> {
        self.events.lock().unwrap().push(event.clone());
        Box::pin(async {})
    }
}

fn context(key: u8) -> MeshContext {
    let mut config = Config::host(Network::Regtest);
    config.mode = blvm_mesh_core::config::MeshMode::Open;
    let key = SecretKey::from_slice(&[key; 32]).unwrap();
    MeshContext { config, key, store: None, inbox_bytes: 1_000_000 }
}

/// Two managers that are connected, and their hosts.
async fn pair(executor: &smol::LocalExecutor<'static>) -> ([Arc<MeshManager>; 2], [Arc<Host>; 2]) {
    let others: Arc<Mutex<HashMap<String, Weak<MeshManager>>>> = Arc::default();
    let hosts = ["a", "b"].map(|name| {
        Arc::new(Host { name: name.into(), others: others.clone(), ..Host::default() })
    });
    let [a, b] = [0, 1].map(|i| {
        let manager = MeshManager::new(context(i as u8 + 1), hosts[i].clone()).unwrap();
        let manager = Arc::new(manager);
        others.lock().unwrap().insert(hosts[i].name.clone(), Arc::downgrade(&manager));
        let timed = manager.clone();
        executor.spawn(async move { timed.run().await }).detach();
        manager
    });
    b.peer_connected("a", a.id(), false).await.unwrap();
    a.peer_connected("b", b.id(), true).await.unwrap();
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
fn run<F: Future<Output = ()>>(test: impl FnOnce(Rc<smol::LocalExecutor<'static>>) -> F) {
    let executor = Rc::new(smol::LocalExecutor::new());
    smol::block_on(executor.clone().run(test(executor)));
}

#[test]
fn packets_and_events_pass_between_hosts() {
    run(async |executor| {
        let ([a, b], hosts) = pair(&executor).await;
        let again = a.peer_connected("b", b.id(), true).await;
        assert!(matches!(again, Err(ManagerError::PeerInUse(_))), "{again:?}");
        let stranger = a.handle_packet("x", b"MESH").await;
        assert!(matches!(stranger, Err(ManagerError::UnknownPeer(_))), "{stranger:?}");
        let sent = a.send_mesh_packet(b.id(), b"hello", &[]).await.unwrap();
        assert_eq!(sent.hops, 0);
        let got = b.poll_local_deliveries(9);
        assert_eq!((got[0].source, &got[0].payload[..]), (a.id(), &b"hello"[..]));

        // Garbage ends the connection.
        let verdict = b.handle_packet("a", &[0; 40]).await.unwrap();
        assert!(matches!(verdict, Verdict::Refused(MeshError::NetworkError(_))), "{verdict:?}");
        assert!(matches!(b.handle_packet("a", &[]).await, Err(ManagerError::UnknownPeer(_))));
        let gone = Event::PeerDisconnected { peer: a.id() };
        assert_eq!(hosts[1].events.lock().unwrap().last(), Some(&gone));
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
