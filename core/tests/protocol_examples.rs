//! The examples and the table of causes in `docs/PROTOCOL.md` are true.

use blvm_mesh_core::config::MAX_HOPS;
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::wire::datagram::{Datagram, Emit};
use blvm_mesh_core::wire::hello::Hello;
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, RouteRequest};
use blvm_mesh_core::wire::{Header, Kind};

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");
const SOURCE: NodeId = NodeId([0xaa; 32]);
const DESTINATION: NodeId = NodeId([0xbb; 32]);
const RELAY: NodeId = NodeId([0xcc; 32]);
const TARIFF: Tariff = Tariff { base_msat: 1000, per_kib_msat: 100 };

/// The bytes of the example under this title.
fn example(title: &str) -> Vec<u8> {
    let start = format!("```hex {title}\n");
    let (_, rest) = DOCUMENT.split_once(&start).unwrap_or_else(|| panic!("no example {title}"));
    let (digits, _) = rest.split_once("```").unwrap();
    hex::decode(digits.split_whitespace().collect::<String>()).unwrap()
}

fn parsed(title: &str, kind: Kind) -> (Header, Vec<u8>) {
    let bytes = example(title);
    let (header, body) = Header::parse(&bytes).unwrap();
    assert_eq!(header.kind, kind);
    (header, body.to_vec())
}

fn hops() -> heapless::Vec<Hop, MAX_HOPS> {
    [Hop { node: RELAY, tariff: TARIFF }].into_iter().collect()
}

#[test]
fn datagram() {
    let (header, body) = parsed("Datagram", Kind::Datagram);
    let read = Datagram::parse(header, &body).unwrap();
    assert_eq!((read.source, read.destination), (SOURCE, DESTINATION));
    assert_eq!((read.hop_limit, read.sequence), (1, 7));
    assert_eq!(read.hops().collect::<Vec<_>>(), [RELAY.hop()]);
    assert_eq!((read.payload, read.signed), (&b"hello"[..], None));
    let mut out = [0; 200];
    let emit =
        Emit { hop_limit: 1, sequence: 7, source: SOURCE, destination: DESTINATION, proof: None };
    let n = emit.write(&[RELAY.hop()], b"hello", &mut out, |_| [0; 64]).unwrap();
    assert_eq!([&out[..n], b"hello"].concat(), example("Datagram"));
}

#[test]
fn datagram_with_proof() {
    let (header, body) = parsed("Datagram with proof", Kind::Datagram);
    let signed = Datagram::parse(header, &body).unwrap().signed.unwrap();
    assert_eq!((signed.public_key, signed.signature), (&[2; 33], &[0xdd; 64]));
    assert_eq!(signed.proof, [1, 0xee, 0xee, 0xee]);
}

#[test]
fn route_request() {
    let (header, body) = parsed("RouteRequest", Kind::RouteRequest);
    let expected = RouteRequest {
        hop_limit: 0,
        sequence: 8,
        source: SOURCE,
        destination: DESTINATION,
        min_packet: 65536,
        quality: 256,
        hops: hops(),
    };
    assert_eq!(RouteRequest::parse(header, &body), Ok(expected));
}

#[test]
fn route_reply() {
    let (header, body) = parsed("RouteReply", Kind::RouteReply);
    let expected = RouteReply {
        hop_limit: 1,
        sequence: 8,
        source: SOURCE,
        destination: DESTINATION,
        min_packet: 65536,
        quality: 512,
        tariff: Tariff::default(),
        public_key: [2; 33],
        signature: [0xdd; 64],
        hops: hops(),
    };
    assert_eq!(RouteReply::parse(header, &body), Ok(expected));
}

#[test]
fn route_error() {
    let (header, body) = parsed("RouteError", Kind::RouteError);
    let expected = RouteError {
        hop_limit: 0,
        sequence: 7,
        source: SOURCE,
        destination: DESTINATION,
        reporter: RELAY,
        next: DESTINATION.hop(),
        cause: Cause::PaymentRequired,
        hops: [RELAY.hop()].into_iter().collect::<heapless::Vec<HopId, MAX_HOPS>>(),
    };
    assert_eq!(RouteError::parse(header, &body), Ok(expected));
}

#[test]
fn hello() {
    let (header, body) = parsed("Hello", Kind::Hello);
    let expected = Hello {
        network: Network::Regtest,
        mode: MeshMode::PaymentGated,
        quality: 256,
        max_packet: 65536,
        tariff: TARIFF,
        keepalive_ms: 250,
        issuers: [[2; 33]].into_iter().collect(),
    };
    assert_eq!(Hello::parse(header, &body), Ok(expected));
}

#[test]
fn every_cause_is_listed_as_it_is() {
    for cause in Cause::ALL {
        let row = format!("| {} | {cause} |", *cause as u8);
        assert!(DOCUMENT.contains(&row), "missing: {row}");
    }
}
