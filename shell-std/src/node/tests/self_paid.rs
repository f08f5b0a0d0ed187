//! Datagrams for which the node pays by itself, each node of the route for itself; and invoices of
//! single nodes, paid by another wallet.

use super::flows::{Paying, memory, paying_within, ready, stop};
use super::*;
use crate::rpc::target::Target;
use crate::rpc::types::{
    GetLedger, HopInvoice, Ledger, Outcome, PaymentPlan, PlanPayment, QuoteRoute,
    RequestHopInvoice, SendPacket, Sent, ShowPreimage,
};
use crate::rpc::{Handler, Reply, Request, RpcError};
use crate::wallet::{Bill, Limits, Outcome as Paid, RegtestWallet, Wallet};

/// A gated line, whose last node takes datagrams over flows; the first may spend so much.
fn line(bed: &Bed, count: u8, limits: Limits, last: impl Fn(&mut Settings)) -> Vec<Paying> {
    let mut nodes: Vec<Paying> = Vec::new();
    for key in 1..=count {
        let mut settings = settings(MeshMode::PaymentGated);
        settings.peers = nodes.last().map(|before| address(&before.node)).into_iter().collect();
        settings.services.max_msat = 1_000_000;
        if key == count {
            settings.services.inbox = true;
            last(&mut settings);
        }
        let limits = if key == 1 { limits } else { Limits::default() };
        nodes.push(paying_within(bed, key, memory(), &settings, limits));
    }
    nodes
}

fn service(of: &Paying) -> Service {
    Service::new(of.node.handle().clone(), of.store.clone(), None)
}

fn ledger(of: &Paying) -> Ledger {
    of.store.ledger(&GetLedger::default()).unwrap()
}

async fn send(
    from: &Paying,
    to: &Paying,
    data: &[u8],
    max_msat: Option<u64>,
) -> Result<Sent, String> {
    let request = SendPacket {
        destination: Target(to.node.handle().id()),
        data: data.to_vec(),
        proof: None,
        pay: true,
        max_msat,
        unchecked: false,
        wait_ms: 30_000,
    };
    match service(from).handle(Request::SendPacket(request), &Default::default()).await {
        Ok(Reply::SendPacket(sent)) => Ok(sent),
        Err(error) => Err(error.message),
        other => panic!("{other:?}"),
    }
}

async fn plan(from: &Paying, to: &Paying, bytes: u64, max_msat: Option<u64>) -> PaymentPlan {
    let destination = Target(to.node.handle().id());
    let request = Request::PlanPayment(PlanPayment { destination, bytes, max_msat });
    match service(from).handle(request, &Default::default()).await {
        Ok(Reply::PlanPayment(plan)) => plan,
        other => panic!("{other:?}"),
    }
}

fn text(len: usize) -> Vec<u8> {
    b"not Bitcoin ".iter().copied().cycle().take(len).collect()
}

#[test]
fn each_node_of_the_route_is_paid_for_itself_as_was_foretold() {
    Bed::run(async |bed| {
        let nodes = line(&bed, 4, Limits::default(), |_| {});
        ready(&nodes).await;
        let [from, .., to] = &nodes[..] else { panic!() };
        let foretold = plan(from, to, 20_000, None).await;
        assert_eq!((foretold.hops.len(), &foretold.refused), (2, &None), "{foretold:?}");
        assert!(foretold.amount_msat > 0 && foretold.max_fee_msat == foretold.amount_msat / 10);
        assert_eq!(foretold.left_hour_msat, Limits::default().max_msat_per_hour);
        // Nothing is spent beyond what may be, and that is said before and after.
        let too_little = foretold.amount_msat - 1;
        let refused = plan(from, to, 20_000, Some(too_little)).await.refused.unwrap();
        assert!(refused.contains("max_msat"), "{refused}");
        let refused = send(from, to, &text(20_000), Some(too_little)).await.unwrap_err();
        assert!(refused.contains(&format!("more than {too_little} msat")), "{refused}");
        let paid_before = ledger(from).bought.amount_msat;
        let sent = send(from, to, &text(20_000), None).await.unwrap();
        assert_eq!((sent.outcome, sent.paid, sent.hops), (Outcome::Delivered, true, 2));
        assert_eq!(sent.spent_msat.unwrap() + paid_before, foretold.amount_msat);
        let came = to.node.handle().deliveries().take(9, usize::MAX);
        assert_eq!(came.len(), 1);
        assert_eq!((came[0].source, came[0].sequence), (from.node.handle().id(), sent.sequence));
        assert!(came[0].payload == text(20_000));
        // What was bought and not used carries the next.
        let next = plan(from, to, 5_000, None).await;
        assert_eq!(next.amount_msat, 0, "{next:?}");
        let sent = send(from, to, &text(5_000), Some(0)).await.unwrap();
        assert_eq!((sent.outcome, sent.spent_msat), (Outcome::Delivered, Some(0)));
        let sold: Vec<_> = nodes.iter().map(|node| ledger(node).sold.amount_msat).collect();
        assert!(sold[0] == 0 && sold[1] > 0 && sold[2] > 0 && sold[3] == 0, "{sold:?}");
        assert_eq!(sold.iter().sum::<u64>(), foretold.amount_msat);
        stop(nodes).await;
    });
}

#[test]
fn what_goes_free_is_not_paid_for() {
    Bed::run(async |bed| {
        let nodes = line(&bed, 3, Limits::default(), |_| {});
        ready(&nodes).await;
        let free = ping(7);
        let sent = send(&nodes[0], &nodes[2], &free, None).await.unwrap();
        assert_eq!((sent.paid, sent.spent_msat, sent.outcome), (false, None, Outcome::Sent));
        assert_eq!(delivery(&nodes[2].node).await.payload, free);
        assert_eq!(ledger(&nodes[0]).purchases, []);
        stop(nodes).await;
    });
}

#[test]
fn why_it_did_not_come_is_said() {
    Bed::run(async |bed| {
        // The budget, of which the dry run knows.
        let little = Limits { max_msat_per_hour: 60_000, ..Limits::default() };
        let nodes = line(&bed, 4, little, |_| {});
        ready(&nodes).await;
        let refused = plan(&nodes[0], &nodes[3], 10, None).await.refused.unwrap();
        assert!(refused.contains("budget.max_msat_per_hour"), "{refused}");
        let refused = send(&nodes[0], &nodes[3], b"hello", None).await.unwrap_err();
        assert!(refused.contains("budget.max_msat_per_hour"), "{refused}");
        // One of two invoices would fit: neither is paid.
        assert_eq!(ledger(&nodes[0]).bought.amount_msat, 0);
        stop(nodes).await;
        // The destination.
        let nodes = line(&bed, 3, Limits::default(), |settings| {
            settings.shell.inbox_bytes = 400_000;
        });
        ready(&nodes).await;
        let (from, to) = (&nodes[0], &nodes[2]);
        let refused = send(from, to, &text(110_000), None).await.unwrap();
        assert_eq!(refused.outcome, Outcome::Refused);
        assert!(refused.stopped.unwrap().cause.contains("no room"));
        assert_eq!(send(from, to, &text(1_000), None).await.unwrap().outcome, Outcome::Delivered);
        let long = send(from, to, &vec![0; (1 << 20) + 1], None).await.unwrap_err();
        assert!(long.contains("too many for one datagram"), "{long}");
        // One that takes services only.
        let relay = &nodes[1].node;
        relay.handle().services().expose("x".parse().unwrap(), ([127, 0, 0, 1], 9).into()).unwrap();
        let refused = send(from, &nodes[1], b"hello", None).await.unwrap();
        assert!(refused.stopped.unwrap().cause.contains("flow.inbox"));
        stop(nodes).await;
    });
}

async fn hop_invoice(from: &Paying, to: &Paying, hop: &str) -> Result<HopInvoice, RpcError> {
    let request = RequestHopInvoice {
        destination: Target(to.node.handle().id()),
        bytes: 100_000,
        hop: Some(hop.into()),
        amount_msat: None,
        expiry_s: None,
    };
    match service(from).handle(Request::RequestHopInvoice(request), &Default::default()).await? {
        Reply::RequestHopInvoice(invoice) => Ok(*invoice),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_hop_writes_its_own_invoice_which_any_wallet_pays() {
    Bed::run(async |bed| {
        let nodes = line(&bed, 4, Limits { max_msat_per_hour: 0, ..Limits::default() }, |_| {});
        ready(&nodes).await;
        let [from, .., to] = &nodes[..] else { panic!() };
        let (destination, bytes) = (Target(to.node.handle().id()), 1_000);
        let quote = match service(from)
            .handle(Request::QuoteRoute(QuoteRoute { destination, bytes }), &Default::default())
            .await
        {
            Ok(Reply::QuoteRoute(quote)) => quote,
            other => panic!("{other:?}"),
        };
        assert_eq!(quote.per_hop.iter().map(|hop| hop.node).collect::<Vec<_>>(), quote.hops);
        let wallet = RegtestWallet::on(Network::Regtest).unwrap();
        for (n, hop) in quote.hops.iter().enumerate() {
            let written = hop_invoice(from, to, &hop.to_string()).await.unwrap();
            let issuer = secret(100 + n as u8 + 2).public_key(&Secp256k1::new());
            assert_eq!(written.issuer, issuer.serialize(), "its own issuer's");
            let bought = written.purchase.unwrap();
            assert_eq!((bought.node, bought.bytes), (nodes[n + 1].node.handle().id(), 100_000));
            let bill = Bill {
                node: bought.node,
                bytes: bought.bytes,
                amount_msat: bought.amount_msat,
                promise: bought.promise,
                invoice: written.invoice,
            };
            let Paid::Paid { preimage, .. } = wallet.pay(&bill, 0) else { panic!() };
            let show = |preimage| {
                let (node, promise) = (bought.node, bought.promise);
                let request = Request::ShowPreimage(ShowPreimage { node, promise, preimage });
                let service = service(from);
                async move { service.handle(request, &Default::default()).await }
            };
            // Shown twice it counts once.
            for _ in 0..2 {
                match show(preimage).await {
                    Ok(Reply::ShowPreimage(credited)) => {
                        assert_eq!((credited.bytes, credited.left), (100_000, 100_000));
                    }
                    other => panic!("{other:?}"),
                }
            }
            assert!(show([1; 32]).await.is_err());
            assert_eq!(ledger(&nodes[n + 1]).sold.amount_msat, bought.amount_msat);
        }
        // With these bytes it sends, though it may spend nothing itself.
        let sent = send(from, to, b"hello", Some(0)).await.unwrap();
        assert_eq!((sent.outcome, sent.spent_msat), (Outcome::Delivered, Some(0)));
        assert_eq!(ledger(from).purchases, []);
        // Nodes that are none of its.
        let stranger = hop_invoice(from, to, &"ab".repeat(8)).await.unwrap_err();
        assert!(stranger.message.contains("is not on the route"), "{stranger}");
        let free = hop_invoice(from, to, &to.node.handle().id().to_string()).await.unwrap_err();
        assert!(free.message.contains("writes no invoice"), "{free}");
        stop(nodes).await;
    });
}
