//! What clients are told of real nodes, on a connection as they have it: each event is as the OpenRPC
//! document says, and what was fetched, paid and opened is what was told.

use super::flows::{line_with, ready, stop};
use super::paid::{accepts, proof, send_paid, service};
use super::*;
use crate::rpc::openrpc::tests::Described;
use crate::rpc::types::{PollReceived, Received, Subscribe};
use crate::rpc::{Connection, Handler, Reply, Request};
use blvm_mesh_core::policy::{PolicyConfig, RoutingPolicyEngine};
use serde_json::Value;
use std::collections::{BTreeSet, VecDeque};

/// A client that has subscribed to everything.
struct Client {
    connection: Connection,
    described: Described,
    events: VecDeque<Value>,
}

impl Client {
    fn of(node: &Node) -> Self {
        let connection = Connection::default();
        connection.subscribe(node.handle().events(), &Subscribe::default()).unwrap();
        connection.begin();
        Self { connection, described: Described::new(), events: VecDeque::new() }
    }

    /// The next event of this kind; others wait until they are asked for.
    async fn event(&mut self, kind: &str) -> Value {
        loop {
            let found = self.events.iter().position(|event| event["type"] == kind);
            if let Some(event) = found.and_then(|found| self.events.remove(found)) {
                return event;
            }
            let late = async {
                smol::Timer::after(PATIENCE).await;
                panic!("no {kind} in time, but {:?}", self.events);
            };
            let lines = smol::future::or(self.connection.events(), late).await;
            for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
                let line = serde_json::from_slice(line).unwrap();
                let told = self.described.check_notification(&line);
                self.events.push_back(told["event"].clone());
            }
        }
    }
}

/// What waits at a node, as its clients fetch it.
async fn fetched(node: &Node) -> Vec<Received> {
    let poll = Request::PollReceived(PollReceived::default());
    match service(node).handle(poll, &Connection::default()).await {
        Ok(Reply::PollReceived(got)) => got,
        other => panic!("{other:?}"),
    }
}

#[test]
fn links_datagrams_routes_and_payments_are_told_as_they_happen() {
    Bed::run(async |bed| {
        let start = |key, peers: &[&Node]| {
            bed.start_with(key, MeshMode::PaymentGated, peers, Disk::default(), accepts)
        };
        let b = start(2, &[]);
        let mut at_b = Client::of(&b);
        let (a, c) = (start(1, &[&b]), start(3, &[&b]));
        let (mut at_a, mut at_c) = (Client::of(&a), Client::of(&c));
        linked(&a, &b).await;
        linked(&c, &b).await;
        let [a_id, b_id, c_id] = [&a, &b, &c].map(|node| node.handle().id().to_string());
        let ups = [at_b.event("peer_up").await, at_b.event("peer_up").await];
        let up: BTreeSet<_> = ups.iter().map(|up| up["node"].as_str().unwrap()).collect();
        assert_eq!(up, BTreeSet::from([a_id.as_str(), &c_id]));
        assert!(ups.iter().all(|up| up["dialed"] == false), "{ups:?}");

        let (source, to) = (service(&a), c.handle().id());
        let good = proof(&source, to, 5).await;
        assert_eq!(at_a.event("route_found").await["destination"], c_id.as_str());
        let sent = send_paid(&source, to, b"hello", &good, false).await.unwrap();
        let used = at_a.event("payment_used").await;
        assert_eq!(used["amount_msat"], 10_000);
        let accepted = at_b.event("payment_accepted").await;
        assert_eq!((&accepted["payment"], &accepted["source"]), (&used["payment"], &a_id.into()));
        let share = at_c.event("payment_accepted").await["share_msat"].clone();
        let told = at_c.event("datagram_received").await;
        assert_eq!((&told["bytes"], &told["earned_msat"]), (&5.into(), &share));
        assert_eq!(told["sequence"], sent.sequence);
        // Whoever hears of it finds it.
        let got = fetched(&c).await;
        assert_eq!(
            (got.len(), got[0].sequence, &got[0].data[..]),
            (1, sent.sequence, &b"hello"[..])
        );
        let receipt = at_a.event("datagram_delivered").await;
        assert_eq!(
            (&receipt["sequence"], &receipt["destination"]),
            (&sent.sequence.into(), &c_id.clone().into())
        );

        let fate = send(&a, &c, b"unpaid", &[], true).await;
        let Progress::Sent { sequence, .. } = fate.first else { panic!("{fate:?}") };
        let stopped = at_a.event("datagram_stopped").await;
        assert_eq!((&stopped["sequence"], &stopped["reporter"]), (&sequence.into(), &b_id.into()));
        assert_eq!(stopped["cause"], Cause::PaymentRequired.to_string());
        let nobody = NodeId([9; 32]);
        assert_eq!(a.handle().find_route(nobody).await, Ok(false));
        // A node looks for gateways of Bitcoin by itself, and here is none.
        while at_a.event("route_not_found").await["destination"] != nobody.to_string() {}
        c.stop().await;
        assert_eq!(at_b.event("peer_down").await["node"], c_id.as_str());
        for node in [a, b] {
            node.stop().await;
        }
    });
}

#[test]
fn flows_and_what_is_bought_for_them_are_told_at_both_ends() {
    Bed::run(async |bed| {
        let nodes = line_with(&bed, MeshMode::PaymentGated, 3, |_| {});
        ready(&nodes).await;
        let mut clients: Vec<_> = nodes.iter().map(|node| Client::of(&node.node)).collect();
        let listener = nodes[2].node.handle().flows().listen().unwrap();
        let _server = bed.executor.spawn(async move {
            let mut flows = Vec::new();
            while let Some(flow) = listener.accept().await {
                flows.push(flow);
            }
        });
        let ids: Vec<_> = nodes.iter().map(|node| node.node.handle().id()).collect();
        // One that cannot be opened has ended too.
        nodes[0].node.handle().flows().open(ids[2], 1_000).await.unwrap_err();
        let ended = clients[0].event("flow_ended").await;
        assert!(ended["cause"].as_str().unwrap().contains("may cost"), "{ended}");
        let flow = nodes[0].node.handle().flows().open(ids[2], 1 << 40).await.unwrap();
        let sold = clients[1].event("bytes_sold").await;
        assert_eq!(sold["source"], ids[0].to_string());
        let bought = clients[0].event("bytes_bought").await;
        assert_eq!(
            (&bought["node"], &bought["amount_msat"]),
            (&ids[1].to_string().into(), &sold["amount_msat"])
        );
        let here = clients[0].event("flow_opened").await;
        let there = clients[2].event("flow_opened").await;
        assert_eq!((&here["flow"], &here["opened"]), (&there["flow"], &true.into()));
        assert_eq!((&there["peer"], &there["opened"]), (&ids[0].to_string().into(), &false.into()));
        drop(flow);
        let ended = clients[0].event("flow_ended").await;
        assert_eq!((&ended["flow"], &ended["peer"]), (&here["flow"], &ids[2].to_string().into()));
        assert_eq!(clients[2].event("flow_ended").await["flow"], here["flow"]);
        stop(nodes).await;
    });
}

/// What is sent over a flow with `send --pay` is announced too.
#[test]
fn what_comes_over_a_flow_is_announced_too() {
    let log = Arc::new(crate::rpc::events::EventLog::new(10));
    let deliveries = Arc::new(Deliveries::new(1_000_000));
    let policy = PolicyConfig::new(MeshMode::Open, Network::Regtest);
    let policy = RoutingPolicyEngine::new(policy);
    let inbox = StreamInbox { deliveries: deliveries.clone(), events: log.clone(), policy };
    let (mut reader, _) = log.read(&[], None, smol::channel::bounded(1).0).unwrap();
    assert!(inbox.expect(NodeId([5; 32]), 3));
    assert!(reader.take(9).is_empty());
    inbox.take(NodeId([5; 32]), 7, vec![1, 2, 3]);
    let got = deliveries.take(9, 99);
    let told = reader.take(9).remove(0);
    assert_eq!((got.len(), told.happened), (1, got[0].event()));
}
