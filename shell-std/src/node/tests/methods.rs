//! Every method of the table, asked of real nodes as a program asks: the answers are as the
//! OpenRPC document says.

use super::paid::{TestIssuer, accepts};
use super::*;
use crate::rpc::openrpc::tests::Described;
use crate::rpc::request::METHODS;
use crate::rpc::types::{
    Bought, GetLedger, Ledger, LedgerEntry, LedgerTotal, Owed, Purchase, PurchaseState, Role, Sale,
    Sold,
};
use crate::rpc::{Connection, server};
use serde_json::{Value, json};

/// A ledger with a payment, a sale and a purchase.
struct OnePayment;

impl Ledgers for OnePayment {
    fn ledger(&self, _: &GetLedger) -> Result<Ledger, String> {
        let entry = LedgerEntry {
            payment: [1; 32],
            method: "covenant".into(),
            role: Role::Intermediate,
            place: Some(0),
            source: NodeId([2; 32]),
            destination: NodeId([3; 32]),
            amount_msat: 4,
            share_msat: 5,
            accepted_at: 6,
            expires_at: 7,
        };
        let total = LedgerTotal { payments: 1, amount_msat: 4, share_msat: 5 };
        let sale = Sale {
            payment: [4; 32],
            source: NodeId([2; 32]),
            amount_msat: 8,
            account_bytes: 9,
            accepted_at: 10,
        };
        let purchase = Purchase {
            payment: [5; 32],
            node: NodeId([3; 32]),
            bytes: 11,
            amount_msat: 12,
            fee_msat: 1,
            state: PurchaseState::Paid,
            preimage: Some("06".repeat(32)),
            begun_at: 13,
        };
        Ok(Ledger {
            entries: vec![entry],
            totals: [(Role::Intermediate, total)].into(),
            sales: vec![sale],
            sold: Sold { sales: 1, amount_msat: 8 },
            purchases: vec![purchase],
            bought: Bought { purchases: 1, amount_msat: 12, fee_msat: 1, bytes: 0 },
            owed: vec![Owed { source: NodeId([4; 32]), bytes: 7 }],
        })
    }
}

fn service(node: &Node) -> Service {
    let issuer: Arc<dyn Issue> = Arc::new(TestIssuer(secret(77)));
    let service = Service::new(node.handle().clone(), Arc::new(OnePayment), Some(issuer));
    service.shown_at("http://127.0.0.1:9/#token=00")
}

async fn ask(service: &Service, method: &str, params: &Value) -> Value {
    ask_by(service, &Connection::default(), method, params).await
}

async fn ask_by(service: &Service, connection: &Connection, method: &str, params: &Value) -> Value {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answer = server::answer(request.to_string().as_bytes(), service, connection).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

/// Somebody's public key.
fn public(key: u8) -> String {
    secret(key).public_key(&Default::default()).to_string()
}

/// A transaction of one input and one output, in hex.
fn transaction() -> String {
    let spent = "11".repeat(32);
    format!("0200000001{spent}0000000000ffffffff01e803000000000000015100000000")
}

/// Parameters for a method: those that it must have, and some that it may.
fn params(method: &str, destination: &NodeId) -> Value {
    let destination = destination.to_string();
    match method {
        "findroute" => json!({"destination": destination}),
        "meshping" => json!({"destination": destination, "bytes": 400, "wait_ms": 20_000}),
        "meshtrace" => json!({"destination": destination, "wait_ms": 20_000}),
        "meshsendpacket" => {
            json!({"destination": destination, "data_hex": hex::encode(ping(5)), "wait_ms": 1_000})
        }
        "meshpollreceived" => json!({"max": 5, "wait_ms": 20_000, "base64": true}),
        "meshquoteaccounts" => json!({"destination": destination, "bytes": 100}),
        "meshprepay" => json!({"destination": destination, "bytes": 100, "wait_ms": 5}),
        "meshquoteroute" => json!({"destination": destination, "bytes": 100}),
        "meshrequesthopinvoice" => {
            json!({"destination": destination, "bytes": 100, "amount_msat": 9_000, "expiry_s": 60})
        }
        "meshwriteinvoice" => {
            json!({"terms_hash": "05".repeat(32), "amount_msat": 9_000, "expiry_s": 60})
        }
        "meshplanpayment" => json!({"destination": destination, "bytes": 100, "max_msat": 5}),
        "meshshowpreimage" => json!({
            "node": destination, "promise": "01".repeat(49), "preimage": "02".repeat(32),
        }),
        "meshsubscribe" => json!({"topics": ["peers", "routes"]}),
        "meshunsubscribe" => json!({"subscription": 1}),
        "getledger" => json!({"since": 0, "kind": "purchases", "limit": 5}),
        "meshsubmitheader" => json!({"headers_hex": "00".repeat(80), "height": 5}),
        "benchstart" => json!({
            "destination": destination, "protocol": "bitcoin", "bytes": 600, "duration_ms": 50,
        }),
        "meshsendtx" => json!({"tx_hex": transaction(), "wait": "kept", "wait_ms": 5}),
        "meshaddpeer" => json!({"address": format!("{}@127.0.0.1:9", public(7))}),
        "meshremovepeer" => json!({"node": public(7)}),
        "meshbanpeer" => json!({"node": public(8), "for_s": 100}),
        "meshtrustpeer" | "meshdistrustpeer" => json!({"node": public(9)}),
        "meshunbanpeer" => json!({"node": public(8)}),
        "meshsettariff" => json!({"base_msat": 1_000}),
        "benchsink" => json!({"on": true}),
        "expose" => json!({"name": "ssh", "target": "22"}),
        "forward" => json!({
            "local": "0", "node": destination, "service": "ssh", "max_msat": 5_000,
        }),
        _ => json!({}),
    }
}

#[test]
fn every_method_answers_as_the_document_says() {
    Bed::run(async |bed| {
        let start = |key, peers: &[&Node]| {
            bed.start_with(key, MeshMode::PaymentGated, peers, Disk::default(), |s| {
                accepts(s);
                s.shell.bench_sink = true;
            })
        };
        let b = start(2, &[]);
        let (a, c) = (start(1, &[&b]), start(3, &[&b]));
        linked(&a, &b).await;
        linked(&b, &c).await;
        let (source, _) = super::operate::operated(service(&a), &a, &Arc::default());
        let destination = service(&c);
        let described = Described::new();
        let to = c.handle().id();
        // So that there are routes to list.
        ask(&source, "findroute", &params("findroute", &to)).await;
        let mut empty = Vec::new();
        for method in METHODS {
            let name = method.name;
            let asked = params(name, &to);
            described.check_params(name, &asked);
            // What is sent arrives at the other end.
            let at = if name == "meshpollreceived" { &destination } else { &source };
            for name in std::iter::once(&name).chain(method.aliases) {
                if method.name == "meshpollreceived" {
                    ask(&source, "meshsendpacket", &params("meshsendpacket", &to)).await;
                }
                if *name == "meshshowpreimage" {
                    // Nobody has promised that.
                    let credited = json!({"node": to.to_string(), "bytes": 5, "left": 6});
                    described.check_result(name, &credited);
                    continue;
                }
                let connection = Connection::default();
                if *name == "meshunsubscribe" {
                    ask_by(at, &connection, "meshsubscribe", &json!({})).await;
                }
                let answer = ask_by(at, &connection, name, &asked).await;
                let result = &answer["result"];
                assert!(answer.get("result").is_some(), "{name}: {answer}");
                described.check_result(method.name, result);
                empty.extend(result.as_array().filter(|list| list.is_empty()).map(|_| *name));
            }
        }
        assert_eq!(empty, Vec::<&str>::new(), "shows nothing of its answer");

        // Every refusal has a code that the document lists.
        let nobody = NodeId([9; 32]);
        // Where there is no neighbour a search ends soon.
        let d = start(4, &[]);
        let alone = Service::new(d.handle().clone(), Arc::new(OnePayment), None);
        for method in METHODS.iter().filter(|method| !method.errors.is_empty()) {
            let asked = match method.name {
                "expose" => json!({"name": "nothing"}),
                "meshsubscribe" => json!({"cursor": "5"}),
                "forward" => json!({"local": "9"}),
                "meshsendtx" => json!({"tx_hex": "00"}),
                "meshwriteinvoice" => json!({"terms_hash": "05".repeat(32), "amount_msat": 0}),
                name => params(name, &nobody),
            };
            let answer = ask(&alone, method.name, &asked).await;
            described.check_error(method.name, &answer["error"]["code"]);
        }
        for method in METHODS {
            let answer = ask(&source, method.name, &json!({"no such": 1})).await;
            described.check_error(method.name, &answer["error"]["code"]);
        }
        for node in [a, b, c, d] {
            node.stop().await;
        }
        for method in ["getinfo", "findroute", "getstats"] {
            let answer = ask(&source, method, &params(method, &nobody)).await;
            described.check_error(method, &answer["error"]["code"]);
        }
    });
}
