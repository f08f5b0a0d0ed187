//! What an operator changes while nodes run: peers, bans, prices, and the configuration.

use super::*;
use crate::config::Written;
use crate::kept::{Keep, Kept};
use crate::rpc::types::{PeerState, Reloaded, TariffReport};
use crate::rpc::{Handler, Reply, Request, RpcError};
use blvm_mesh_core::payment::fee::Tariff;
use serde_json::{Value, json};
use std::sync::PoisonError;

/// What is kept, in memory.
#[derive(Default)]
pub(super) struct Memory {
    kept: Mutex<Kept>,
    broken: AtomicBool,
}

impl Keep for Memory {
    fn kept(&self) -> Result<Kept, String> {
        Ok(self.kept.lock().unwrap().clone())
    }

    fn keep(&self, kept: &Kept) -> Result<(), String> {
        if self.broken.load(Ordering::SeqCst) {
            return Err("disk full".into());
        }
        *self.kept.lock().unwrap() = kept.clone();
        Ok(())
    }
}

/// What is read when the configuration is read again.
#[derive(Clone)]
pub(super) struct Again(Arc<Mutex<Result<Settings, String>>>);

impl Reread for Again {
    fn read(&self) -> Result<(Settings, Written), String> {
        let settings = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Ok((settings, Written::default()))
    }

    fn set_log(&self, filter: &str) -> Result<(), String> {
        if filter == "wrong" { Err("no such level".into()) } else { Ok(()) }
    }
}

/// A service with an operator: the configuration as it is read again, and where changes are kept.
pub(super) fn operated(service: Service, node: &Node, memory: &Arc<Memory>) -> (Service, Again) {
    let base = (*node.handle().settings()).clone();
    let again = Again(Arc::new(Mutex::new(Ok(base.clone()))));
    let kept: (Arc<dyn Keep>, Kept) = (memory.clone(), memory.kept().unwrap());
    let operator = Operator::new((base, Written::default()), kept, again.clone(), None);
    (service.operated_by(Arc::new(operator)), again)
}

fn plain(node: &Node, memory: &Arc<Memory>) -> (Service, Again) {
    let service = Service::new(node.handle().clone(), Arc::new(super::paid::NoLedger), None);
    operated(service, node, memory)
}

async fn ask(service: &Service, method: &str, params: Value) -> Result<Reply, RpcError> {
    service.handle(Request::parse(method, Some(params)).unwrap(), &Default::default()).await
}

async fn refusal(service: &Service, method: &str, params: Value) -> String {
    let error = ask(service, method, params).await.unwrap_err();
    assert_eq!(error.code, RpcError::REFUSED, "{error}");
    error.message
}

async fn sees(node: &Node, other: NodeId) -> bool {
    node.handle().neighbours().await.unwrap().contains(&other)
}

/// The price that a node's neighbour has heard from it.
async fn price_heard(by: &Node, of: NodeId) -> Option<Tariff> {
    let peers = by.handle().ask(Command::Peers).await.unwrap();
    let peer = peers.into_iter().find(|peer| peer.node_id == of)?;
    peer.hello.map(|hello| hello.tariff)
}

/// Own neighbours, and whether the link with a node is one in the memory of links too.
async fn own(node: &Node, other: NodeId) -> (usize, bool) {
    let seen = move |engine: &mut engine::Engine| {
        let links = engine.shell.links.iter().filter(|(_, link)| link.peer == other);
        let all = links.map(|(_, link)| link.is_own()).collect::<Vec<_>>();
        (engine.mesh.resources().own_neighbours, all == [true])
    };
    node.handle().job(seen).await.unwrap()
}

#[test]
fn a_stranger_that_is_made_a_peer_is_treated_as_one_over_the_link_that_it_has() {
    Bed::run(async |bed| {
        let a = bed.start(1, MeshMode::Open, &[]);
        let b = bed.start(2, MeshMode::Open, &[&a]);
        linked(&a, &b).await;
        let (service, _) = plain(&a, &Arc::default());
        let opened = async || a.handle().job(|engine| engine.shell.links.opened()).await.unwrap();
        let b_id = b.handle().id();
        assert_eq!((own(&a, b_id).await, opened().await), ((0, false), 1));
        // Nobody answers there: the link that is there is what it is about.
        let add = json!({"address": format!("{}@127.0.0.1:1", b.handle().public_key())});
        ask(&service, "meshaddpeer", add).await.unwrap();
        assert_eq!(own(&a, b_id).await, (1, true));
        assert!(sees(&a, b_id).await);
        assert_eq!(opened().await, 1, "it is the same link");
        // No longer a peer, it comes back as the stranger that it was.
        ask(&service, "meshremovepeer", json!({"node": b_id.to_string()})).await.unwrap();
        until("b comes again", async || sees(&a, b_id).await && opened().await == 2).await;
        assert_eq!(own(&a, b_id).await, (0, false));
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn places_of_a_peer_are_tried_in_turn_and_first_where_it_was_last() {
    Bed::run(async |bed| {
        let (a, b) = (bed.start(1, MeshMode::Open, &[]), bed.start(2, MeshMode::Open, &[]));
        let (service, _) = plain(&a, &Arc::default());
        let (key, at) = (b.handle().public_key(), b.handle().listen_addr().unwrap());
        // It takes connections, and hangs up at once.
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tried = Arc::<AtomicBool>::default();
        let (dead, seen) = (first.local_addr().unwrap(), tried.clone());
        std::thread::spawn(move || {
            while let Ok((stream, _)) = first.accept() {
                drop(stream);
                seen.store(true, Ordering::SeqCst);
            }
        });
        let nobody = "127.0.0.1:1";
        let none = json!({"address": format!("{key}@{nobody}/{dead}")});
        ask(&service, "meshaddpeer", none).await.unwrap();
        let why = async || a.handle().status.last(&b.handle().id()).map(|(_, error)| error);
        let names = |error: String| {
            error.contains(&format!("{nobody}: ")) && error.contains(&format!("; {dead}: "))
        };
        until("each place has its reason", async || why().await.is_some_and(names)).await;

        // The third leads there. Once there was a good link, the ones before are left alone.
        let all = json!({"address": format!("{key}@{nobody}/{dead}/{at}")});
        ask(&service, "meshaddpeer", all).await.unwrap();
        linked(&a, &b).await;
        let linked_at = Instant::now();
        until("a good link", async || linked_at.elapsed() > Duration::from_millis(1_100)).await;
        assert!(tried.swap(false, Ordering::SeqCst));
        let drop_all = |engine: &mut engine::Engine| {
            let links: Vec<_> = engine.shell.links.iter().map(|(id, _)| id).collect();
            let todo = links.into_iter().map(|id| shell::FollowUp::Close(id, "test".into()));
            engine.shell.todo.extend(todo);
        };
        a.handle().job(drop_all).await.unwrap();
        let opened = async || b.handle().job(|engine| engine.shell.links.opened()).await.unwrap();
        until("a dials again", async || opened().await >= 2).await;
        linked(&a, &b).await;
        assert!(!tried.load(Ordering::SeqCst), "it was not tried again");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn peers_are_added_banned_and_removed_at_run_time() {
    Bed::run(async |bed| {
        let (a, b) = (bed.start(1, MeshMode::Open, &[]), bed.start(2, MeshMode::Open, &[]));
        let memory = Arc::<Memory>::default();
        let (service, _) = plain(&a, &memory);
        let (b_id, b_address) = (b.handle().id(), address(&b));
        let node = json!({"node": b_id.to_string()});
        let add = json!({"address": b_address.to_string()});
        assert!(refusal(&service, "meshremovepeer", node.clone()).await.contains("was not added"));
        ask(&service, "meshaddpeer", add.clone()).await.unwrap();
        linked(&a, &b).await;
        assert_eq!(memory.kept().unwrap().peers.len(), 1);

        // A ban closes the link, and holds for both ways in.
        let Reply::BanPeer(banned) = ask(&service, "meshbanpeer", node.clone()).await.unwrap()
        else {
            unreachable!()
        };
        assert!(banned.links_closed >= 1 && banned.until.is_none());
        assert!(!sees(&a, b_id).await, "the link is closed at once");
        assert!(refusal(&service, "meshaddpeer", add.clone()).await.contains("banned"));
        let (b_service, _) = plain(&b, &Arc::default());
        let back = json!({"address": address(&a).to_string()});
        ask(&b_service, "meshaddpeer", back).await.unwrap();
        let refused = async || b.handle().status.last(&a.handle().id()).is_some();
        until("a refuses b", refused).await;
        for _ in 0..20 {
            assert!(!sees(&a, b_id).await);
            smol::Timer::after(Duration::from_millis(20)).await;
        }
        let Reply::ListPeers(list) = ask(&service, "meshlistpeers", json!({})).await.unwrap()
        else {
            unreachable!()
        };
        assert_eq!((list.peers.len(), list.bans.len()), (1, 1));
        assert_ne!(list.peers[0].state, PeerState::Up);

        // Trust is kept as well; a peer has it anyway.
        let other = json!({"node": "07".repeat(32)});
        assert!(refusal(&service, "meshtrustpeer", node.clone()).await.contains("trusted as such"));
        assert!(refusal(&service, "meshdistrustpeer", other.clone()).await.contains("not trusted"));
        ask(&service, "meshtrustpeer", other.clone()).await.unwrap();
        assert_eq!(memory.kept().unwrap().trusted, [NodeId([7; 32])].into());
        assert!(a.handle().current().config.trusted.contains(&NodeId([7; 32])));
        ask(&service, "meshdistrustpeer", other.clone()).await.unwrap();
        assert!(memory.kept().unwrap().trusted.is_empty());

        ask(&service, "meshunbanpeer", node.clone()).await.unwrap();
        assert!(refusal(&service, "meshunbanpeer", node.clone()).await.contains("not banned"));
        linked(&a, &b).await;

        // One that ends by itself: afterwards there is a link, and the next ban closes that too.
        let short = json!({"node": b_id.to_string(), "for_s": 2});
        for _ in 0..2 {
            ask(&service, "meshbanpeer", short.clone()).await.unwrap();
            assert!(!sees(&a, b_id).await);
            linked(&a, &b).await;
        }

        // Nothing that cannot be kept is done.
        memory.broken.store(true, Ordering::SeqCst);
        assert!(refusal(&service, "meshbanpeer", node.clone()).await.contains("disk full"));
        assert!(sees(&a, b_id).await);
        memory.broken.store(false, Ordering::SeqCst);

        ask(&service, "meshremovepeer", node.clone()).await.unwrap();
        assert!(memory.kept().unwrap().peers.is_empty());
        let me = json!({"address": address(&a).to_string()});
        assert!(refusal(&service, "meshaddpeer", me).await.contains("itself"));
        let line = format!("{}@serial:///dev/ttyS9?baud=9600", b_address.public_key);
        let line = json!({"address": line});
        assert!(refusal(&service, "meshaddpeer", line).await.contains("take a restart"));
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_ban_is_in_force_from_the_start() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::Open, &[]);
        let banned = b.handle().id();
        let a = bed.start_with(1, MeshMode::Open, &[&b], Disk::default(), |s| {
            s.banned.insert(banned, None);
        });
        smol::Timer::after(Duration::from_millis(300)).await;
        let opened = a.handle().job(|engine| engine.shell.links.opened()).await;
        assert_eq!(opened, Ok(0), "not even dialled");
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_price_that_is_set_is_told_to_neighbours_and_counts_more_than_the_configuration() {
    Bed::run(async |bed| {
        let b = bed.start(2, MeshMode::PaymentGated, &[]);
        let a = bed.start(1, MeshMode::PaymentGated, &[&b]);
        linked(&a, &b).await;
        let memory = Arc::<Memory>::default();
        let (service, again) = plain(&a, &memory);
        let usual = Config::host(Network::Regtest).payment.tariff;
        let report = async |method: &str, params: Value| -> TariffReport {
            match ask(&service, method, params).await.unwrap() {
                Reply::GetTariff(report)
                | Reply::SetTariff(report)
                | Reply::ResetTariff(report) => report,
                other => panic!("{other:?}"),
            }
        };
        let set = report("meshsettariff", json!({"base_msat": 7})).await;
        assert_eq!(set.relay, Tariff { base_msat: 7, ..usual });
        assert_eq!((set.configured, set.set), (usual, vec!["tariff.base_msat".to_owned()]));
        let heard = async |tariff| {
            let a = a.handle().id();
            until("the price is heard", || async { price_heard(&b, a).await == Some(tariff) })
                .await;
        };
        heard(Tariff { base_msat: 7, ..usual }).await;

        // The file has another one: what was set holds, and what was not comes from the file.
        let file = Tariff { base_msat: 50, per_kib_msat: 60 };
        again.0.lock().unwrap().as_mut().unwrap().config.payment.tariff = file;
        let Reply::Reload(Reloaded { notes, .. }) =
            ask(&service, "meshreload", json!({})).await.unwrap()
        else {
            unreachable!()
        };
        assert!(notes[0].contains("tariff.base_msat: 7 msat"), "{notes:?}");
        heard(Tariff { base_msat: 7, per_kib_msat: 60 }).await;
        assert_eq!(report("meshresettariff", json!({})).await.relay, file);
        heard(file).await;
        assert!(memory.kept().unwrap().prices.is_empty());
        assert_eq!(report("meshgettariff", json!({})).await.set, Vec::<String>::new());
        a.stop().await;
        b.stop().await;
    });
}

#[test]
fn a_configuration_that_is_read_again_is_applied_or_changes_nothing() {
    Bed::run(async |bed| {
        let (b, c) = (bed.start(2, MeshMode::Open, &[]), bed.start(3, MeshMode::Open, &[]));
        let a = bed.start(1, MeshMode::Open, &[&b]);
        linked(&a, &b).await;
        let (service, again) = plain(&a, &Arc::default());
        let edit = |edit: &dyn Fn(&mut Settings)| {
            edit(again.0.lock().unwrap().as_mut().unwrap());
        };
        edit(&|s| s.log = "wrong".into());
        assert!(refusal(&service, "meshreload", json!({})).await.contains("no such level"));
        edit(&|s| {
            s.log = "info".into();
            s.peers = vec![address(&c)];
            s.config.free_rate = 77;
            s.config.mode = MeshMode::BitcoinOnly;
            s.config.payment.issuers.push(secret(9).public_key(&Default::default())).unwrap();
        });
        ask(&service, "meshreload", json!({})).await.unwrap();
        linked(&a, &c).await;
        let gone = || async { !sees(&a, b.handle().id()).await };
        until("who is no peer any more has no link", gone).await;
        let config = a.handle().job(|engine| engine.mesh.config().clone()).await.unwrap();
        assert_eq!((config.free_rate, config.payment.issuers.len()), (77, 1));
        assert_eq!(config.mode, MeshMode::Open, "that takes a restart");
        assert_eq!(a.handle().current().config, config);

        *again.0.lock().unwrap() = Err("line 3 is wrong".into());
        let error = refusal(&service, "meshreload", json!({})).await;
        assert!(error.contains("nothing has changed: line 3"), "{error}");
        assert!(sees(&a, c.handle().id()).await);
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}
