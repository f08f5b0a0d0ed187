//! What a quote tells of the whole route.

use super::outcome::quote;
use super::paid::service;
use super::*;
use crate::rpc::types::RouteAccepts;

fn issuer(n: u8) -> secp256k1::PublicKey {
    secret(0x40 + n).public_key(&Default::default())
}

fn key(n: u8) -> String {
    issuer(n).to_string()
}

/// A node with these issuers, and covenants after so many confirmations; 0: none.
fn start(bed: &Bed, number: u8, mode: MeshMode, peers: &[&Node], kept: (&[u8], u32)) -> Node {
    let (issuers, confirmations) = kept;
    bed.start_with(number, mode, peers, Disk::default(), |s| {
        s.config.payment.issuers = issuers.iter().map(|n| issuer(*n)).collect();
        s.config.payment.covenants_active = confirmations > 0;
        s.config.payment.min_confirmations = confirmations;
        s.config.payment.payout_script.push(0x51).unwrap();
    })
}

/// A - B - C, linked.
async fn three(bed: &Bed, middle: MeshMode, kept: [(&[u8], u32); 3]) -> [Node; 3] {
    let gated = MeshMode::PaymentGated;
    let b = start(bed, 2, middle, &[], kept[1]);
    let (a, c) = (start(bed, 1, gated, &[&b], kept[0]), start(bed, 3, gated, &[&b], kept[2]));
    linked(&a, &b).await;
    linked(&c, &b).await;
    [a, b, c]
}

fn accepts(issuers: &[String], min_confirmations: Option<u8>) -> Option<RouteAccepts> {
    Some(RouteAccepts { any_issuer: false, issuers: issuers.to_vec(), min_confirmations })
}

#[test]
fn a_quote_names_the_issuer_that_all_accept_and_the_most_confirmations() {
    Bed::run(async |bed| {
        let kept: [(&[u8], u32); 3] = [(&[1], 1), (&[1, 2], 2), (&[3, 2], 5)];
        let [a, b, c] = three(&bed, MeshMode::PaymentGated, kept).await;
        let source = service(&a);
        let given = quote(&source, c.handle().id(), 100).await.unwrap();
        assert_eq!(given.hops, [b.handle().id().hop()]);
        // Its whole key is known of the neighbour's hello.
        assert_eq!(given.accepts, accepts(&[key(2)], Some(5)));
        assert_eq!(given.covenant.unwrap().min_confirmations, 5);
        // A neighbour tells more than its hello, and what is known is not asked again.
        let near = quote(&source, b.handle().id(), 100).await.unwrap();
        assert_eq!(near.accepts, accepts(&[key(1), key(2)], Some(2)));
        let asked = async || c.handle().job(|engine| engine.mesh.stats().control).await.unwrap();
        let before = asked().await;
        let again = quote(&source, c.handle().id(), 100).await.unwrap();
        assert_eq!((again, asked().await), (given, before));
        // A route that was found without asking is asked about.
        let other = quote(&service(&c), a.handle().id(), 100).await.unwrap();
        assert_eq!(other.accepts, accepts(&[key(1)], Some(2)));
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_quote_says_where_nodes_differ_and_what_nobody_checks() {
    Bed::run(async |bed| {
        let kept: [(&[u8], u32); 3] = [(&[1], 1), (&[1], 1), (&[2], 0)];
        let [a, b, c] = three(&bed, MeshMode::PaymentGated, kept).await;
        let given = quote(&service(&a), c.handle().id(), 100).await.unwrap();
        assert_eq!((given.accepts, given.covenant), (accepts(&[], None), None));
        for node in [a, b, c] {
            node.stop().await;
        }
        // The relay checks nothing, and nobody near knows the destination's issuer.
        let kept: [(&[u8], u32); 3] = [(&[1], 1), (&[], 0), (&[2], 4)];
        let [a, b, c] = three(&bed, MeshMode::Open, kept).await;
        let to = c.handle().id();
        assert_eq!(a.handle().find_route(to).await, Ok(true));
        let given = quote(&service(&a), to, 100).await.unwrap();
        assert_eq!(given.accepts, accepts(&[key(2)[2..18].to_owned()], Some(4)));
        let near = quote(&service(&a), b.handle().id(), 100).await.unwrap();
        let any =
            RouteAccepts { any_issuer: true, issuers: Vec::new(), min_confirmations: Some(1) };
        assert_eq!(near.accepts, Some(any));
        for node in [a, b, c] {
            node.stop().await;
        }
    });
}

#[test]
fn a_quote_without_an_answer_tells_what_is_known() {
    Bed::run(async |bed| {
        let a = start(&bed, 1, MeshMode::PaymentGated, &[], (&[1], 1));
        let deaf = Deaf::connect(&a, secret(9)).await;
        let up = || async { a.handle().neighbours().await.unwrap().contains(&deaf.id) };
        until("the deaf neighbour is up", up).await;
        let given = quote(&service(&a), deaf.id, 100).await.unwrap();
        assert_eq!(given.accepts, None);
        assert_eq!(given.shares[1].issuers, Some(Vec::new()), "as its hello says");
        assert_eq!(given.covenant.unwrap().min_confirmations, 1, "this node's own");
        a.stop().await;
    });
}
