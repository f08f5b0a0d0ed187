//! Hosts that lend their Lightning nodes: one sells, the other buys.

use super::*;
use crate::issuer::Issuer;
use crate::node::Issue;
use crate::rpc::types::{GetLedger, PurchaseState};
use crate::wallet::{Bill, Outcome, RegtestWallet, Wallet};
use bitcoin::Transaction;
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::headers::KnownHeader;
use std::path::Path;
use std::sync::{OnceLock, Weak};

/// The amount whose payment never ends.
const STUCK: u64 = 90_000;
const BYTES: u64 = 100_000;

#[derive(Default)]
pub(super) struct Host {
    other: OnceLock<(&'static str, Weak<MeshManager>)>,
    events: Mutex<Vec<Event>>,
    pays: bool,
}

impl NodeAPI for Host {
    fn send_to_peer<'a>(
        &'a self,
        _: &'a str,
        _: Priority,
        packet: &'a [u8],
    ) -> BoxFuture<'a, Result<(), NodeApiError>> {
        Box::pin(async move {
            let (name, other) = self.other.get().ok_or(NodeApiError::NotConnected)?;
            let other = other.upgrade().ok_or(NodeApiError::NotConnected)?;
            let taken = other.handle_packet(name, packet).await;
            taken.map(drop).map_err(|e| NodeApiError::Other(e.to_string()))
        })
    }

    fn payment_state<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<PaymentState>> {
        Box::pin(async { None })
    }

    fn block<'a>(&'a self, _: &'a [u8; 32]) -> BoxFuture<'a, Option<KnownHeader>> {
        Box::pin(async { None })
    }

    fn invoice(&self, amount_msat: u64, expiry_s: u32) -> BoxFuture<'_, Option<String>> {
        let issuer = Issuer::from_secret(SecretKey::from_byte_array([77; 32]).unwrap());
        let issued = issuer.issue([0; 32], amount_msat, expiry_s.into()).unwrap();
        Box::pin(async { Some(issued.invoice) })
    }

    fn pay<'a>(&'a self, bill: &'a Bill, max_fee_msat: u64) -> BoxFuture<'a, Outcome> {
        Box::pin(async move {
            if bill.amount_msat == STUCK {
                std::future::pending::<()>().await;
            }
            match self.pays {
                true => RegtestWallet::on(Network::Regtest).unwrap().pay(bill, max_fee_msat),
                false => Outcome::NotPaid("not today".into()),
            }
        })
    }

    fn broadcast<'a>(&'a self, _: &'a Transaction) -> BoxFuture<'a, Result<(), NodeApiError>> {
        Box::pin(async { Ok(()) })
    }

    fn publish_event<'a>(&'a self, event: &'a Event) -> BoxFuture<'a, ()> {
        self.events.lock().unwrap().push(event.clone());
        Box::pin(async {})
    }
}

impl Host {
    async fn tells(&self, wanted: impl Fn(&Event) -> bool) {
        let start = Instant::now();
        while !self.events.lock().unwrap().iter().any(&wanted) {
            assert!(start.elapsed() < Duration::from_secs(20), "not told in time");
            smol::Timer::after(Duration::from_millis(1)).await;
        }
    }
}

/// A buyer and a seller that are connected.
pub(super) async fn pair(
    executor: &smol::Executor<'static>,
    store: Option<Arc<Store>>,
    pays: bool,
) -> ([Arc<MeshManager>; 2], [Arc<Host>; 2]) {
    let hosts = [pays, false].map(|pays| Arc::new(Host { pays, ..Host::default() }));
    let mut config = Config::host(Network::Regtest);
    config.mode = MeshMode::PaymentGated;
    let manager = |key, host: &Arc<Host>, store| {
        let key = SecretKey::from_byte_array([key; 32]).unwrap();
        let (config, spending) = (config.clone(), Limits::default());
        let context = MeshContext { config, key, store, inbox_bytes: 1_000_000, spending };
        let manager = Arc::new(MeshManager::new(context, host.clone()).unwrap());
        let timed = manager.clone();
        executor.spawn(async move { timed.run().await }).detach();
        manager
    };
    let (a, b) = (manager(1, &hosts[0], store), manager(2, &hosts[1], None));
    let _ = hosts[0].other.set(("a", Arc::downgrade(&b)));
    let _ = hosts[1].other.set(("b", Arc::downgrade(&a)));
    b.peer_connected("a", a.id(), false, Standing::Own).await.unwrap();
    a.peer_connected("b", b.id(), true, Standing::Own).await.unwrap();
    for host in &hosts {
        host.tells(|event| matches!(event, Event::PeerConnected { .. })).await;
    }
    ([a, b], hosts)
}

async fn buy([buyer, seller]: &[Arc<MeshManager>; 2], amount_msat: u64) {
    let node = seller.id().hop();
    let begun = buyer.give(|core, now| {
        let (hops, bytes, open_number) = (&[], BYTES, 0);
        let input = Input::Buy { hops, node, bytes, amount_msat, open_number };
        core.give(now, input).map_err(ManagerError::Misuse)
    });
    begun.unwrap();
    buyer.carry_out().await;
}

fn memory() -> Arc<Store> {
    let disk = redb::backends::InMemoryBackend::new;
    Arc::new(Store::with_backend(Path::new("memory"), disk).unwrap())
}

#[test]
fn a_host_pays_several_at_once_and_the_ledger_has_it() {
    let (executor, store) = (smol::Executor::new(), memory());
    smol::block_on(executor.run(async {
        let (managers, [host, _]) = pair(&executor, Some(store.clone()), true).await;
        buy(&managers, STUCK).await;
        buy(&managers, 50_000).await;
        host.tells(|e| matches!(e, Event::BytesBought { amount_msat: 50_000, .. })).await;
    }));
    let ledger = store.ledger(&GetLedger::default()).unwrap();
    let of = |state| {
        let mut found = ledger.purchases.iter().filter(|purchase| purchase.state == state);
        (found.next().map(|purchase| purchase.amount_msat), found.count())
    };
    assert_eq!(of(PurchaseState::Credited), (Some(50_000), 0));
    assert_eq!(of(PurchaseState::Unknown), (Some(STUCK), 0));
    assert_eq!(ledger.bought.bytes, BYTES);
}

#[test]
fn a_purchase_ends_where_the_host_does_not_pay_or_keeps_no_ledger() {
    for (store, pays) in [(Some(memory()), false), (None, true)] {
        let executor = smol::Executor::new();
        smol::block_on(executor.run(async {
            let (managers, [host, _]) = pair(&executor, store.clone(), pays).await;
            buy(&managers, 50_000).await;
            host.tells(|e| matches!(e, Event::PurchaseFailed { .. })).await;
        }));
        let purchases = store.map(|store| store.ledger(&GetLedger::default()).unwrap().purchases);
        assert!(purchases.is_none_or(|purchases| purchases.is_empty()));
    }
}
