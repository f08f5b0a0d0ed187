//! The examples and tables in `docs/PROTOCOL.md` are true.

mod document;

use blvm_mesh_core::config::{
    Allowance, Capacities, Config, FREE_AT_FIRST, MAX_HEAD, MAX_HOPS, MAX_ISSUERS,
    ROUTES_PER_DESTINATION, fixed,
};
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::link::handshake;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::payment::covenant::CovenantRules;
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::time::MILLISECOND;
use blvm_mesh_core::wire::accepted::Accepted;
use blvm_mesh_core::wire::account::{
    Balance, Invoice, InvoiceRequest, Message, Pay, Referral, Ticket, TicketRequest,
};
use blvm_mesh_core::wire::datagram::{Datagram, Emit, Form};
use blvm_mesh_core::wire::flow::{self, FlowError, OpenTerms};
use blvm_mesh_core::wire::hello::{Hello, Told};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{ACCEPTED, HINTS, Hop, ROUTES, RouteRequest};
use blvm_mesh_core::wire::{Header, Kind};
use document::{example, table};

const SOURCE: NodeId = NodeId([0xaa; 32]);
const DESTINATION: NodeId = NodeId([0xbb; 32]);
const RELAY: NodeId = NodeId([0xcc; 32]);
const CASHIER: NodeId = NodeId([0x99; 32]);
const TARIFF: Tariff = Tariff { base_msat: 1000, per_kib_msat: 100 };

fn parsed(title: &str, kind: Kind) -> (Header, Vec<u8>) {
    let bytes = example(title);
    let (header, body) = Header::parse(&bytes).unwrap();
    assert_eq!(header.kind, kind);
    (header, body.to_vec())
}

fn hops() -> heapless::Vec<Hop, MAX_HOPS> {
    [Hop { node: RELAY.hop(), tariff: TARIFF }].into_iter().collect()
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
    let emit = Emit {
        hop_limit: 1,
        sequence: 7,
        source: SOURCE,
        destination: DESTINATION,
        proof: None,
        form: Form::Plain,
    };
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
        flags: HINTS | ROUTES,
        hop_limit: 0,
        sequence: 8,
        source: SOURCE.hop(),
        destination: DESTINATION.hop(),
        min_packet: 65536,
        quality: 256,
        accepted: None,
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
        source: SOURCE.hop(),
        min_packet: 65536,
        quality: 512,
        accepted: None,
        tariff: Tariff::default(),
        public_key: [2; 33],
        signature: [0xdd; 64],
        hops: hops(),
    };
    assert_eq!(RouteReply::parse(header, &body), Ok(expected));
}

/// As the examples say: the relay's, and what the destination leaves of it.
fn accepted() -> [Accepted; 2] {
    let issuers = |issuers: &[u8]| Some(issuers.iter().map(|n| [*n; 8]).collect());
    let relay = Accepted { min_confirmations: 6, issuers: issuers(&[0xee, 0xff]) };
    let mut left = relay.clone();
    left.narrow(&Accepted { min_confirmations: 0, issuers: issuers(&[0xff]) });
    [relay, left]
}

#[test]
fn route_request_for_payments() {
    let (header, body) = parsed("RouteRequest", Kind::RouteRequest);
    let plain = RouteRequest::parse(header, &body).unwrap();
    let (header, body) = parsed("RouteRequest for payments", Kind::RouteRequest);
    assert_eq!(header.flags, HINTS | ROUTES | ACCEPTED);
    let [accepted, _] = accepted();
    let expected = RouteRequest { accepted: Some(accepted), ..plain };
    assert_eq!(RouteRequest::parse(header, &body), Ok(expected));
}

#[test]
fn route_reply_with_payments() {
    let (header, body) = parsed("RouteReply", Kind::RouteReply);
    let plain = RouteReply::parse(header, &body).unwrap();
    let (header, body) = parsed("RouteReply with payments", Kind::RouteReply);
    assert_eq!(header.flags, ACCEPTED);
    let [_, accepted] = accepted();
    let expected = RouteReply { accepted: Some(accepted), ..plain };
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
fn receipt() {
    let (header, body) = parsed("Receipt", Kind::RouteError);
    let expected = RouteError {
        hop_limit: 0,
        sequence: 7,
        source: SOURCE,
        destination: DESTINATION,
        reporter: DESTINATION,
        next: DESTINATION.hop(),
        cause: Cause::Delivered,
        hops: [RELAY.hop()].into_iter().collect::<heapless::Vec<HopId, MAX_HOPS>>(),
    };
    assert_eq!(RouteError::parse(header, &body).as_ref(), Ok(&expected));
    let mut out = [0; 200];
    let n = expected.write(&mut out).unwrap();
    assert_eq!(out[..n], example("Receipt"));
}

#[test]
fn hello() {
    let (header, body) = parsed("Hello", Kind::Hello);
    let expected = Hello {
        missing: true,
        network: Network::Regtest,
        mode: MeshMode::PaymentGated,
        quality: 256,
        max_packet: 65536,
        tariff: TARIFF,
        keepalive_ms: 250,
        unix: 1_700_000_000,
        free: [
            Told::of(Allowance { rate: 12_500_000, burst: 8_388_608 }, 65_536),
            Told::of(Allowance { rate: 262_144, burst: 8_388_608 }, 65_536),
            Told::of(Allowance { rate: 4_096, burst: 131_072 }, 65_536),
        ],
        issuers: [[2; 33]].into_iter().collect(),
    };
    assert_eq!(Hello::parse(header, &body), Ok(expected));
}

#[test]
fn every_cause_is_listed_as_it_is_and_no_other() {
    let listed = table("| cause | meaning |");
    let causes: Vec<[String; 2]> =
        Cause::ALL.iter().map(|cause| [(*cause as u8).to_string(), cause.to_string()]).collect();
    assert_eq!(listed, causes);
    assert!((0..=255).filter_map(Cause::from_u8).eq(Cause::ALL.iter().copied()));
}

#[test]
fn acts_of_the_handshake() {
    let sizes = [handshake::ACT_ONE_LEN, handshake::ACT_TWO_LEN, handshake::ACT_THREE_LEN];
    let rows = table("| act | size | contents |");
    let listed: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    assert_eq!(listed, sizes.map(|size| size.to_string()));
    for (row, size) in rows.iter().zip(sizes) {
        let digits = row[2].replace(|c: char| !c.is_ascii_digit(), " ");
        // The first number is the version's value.
        let parts = digits.split_whitespace().skip(1).map(|n| n.parse::<usize>().unwrap());
        assert_eq!(parts.sum::<usize>(), size, "{row:?}");
    }
}

#[test]
fn limits_are_those_of_the_configuration() {
    let host = Config::host(Network::Regtest);
    let board = Config::board(Network::Regtest, 2048);
    let listed = table("| limit | host | board |");
    let both = |f: &dyn Fn(&Config) -> u64| [f(&host), f(&board)].map(|n| n.to_string());
    let capacity = |f: &dyn Fn(&Capacities) -> usize| both(&|c| f(&c.capacities) as u64);
    let same = |n: usize| [n.to_string(), n.to_string()];
    let expected = [
        same(MAX_HOPS),
        same(MAX_ISSUERS),
        [host.max_packet.to_string(), "as built".into()],
        [MAX_HEAD.to_string(), fixed::HEAD.to_string()],
        capacity(&|c| c.neighbours),
        capacity(&|c| c.per_prefix),
        capacity(&|c| c.owners),
        capacity(&|c| c.offenders),
        capacity(&|c| c.shares),
        capacity(&|c| c.routes),
        capacity(&|c| c.route_hops),
        capacity(&|c| c.route_hints),
        same(ROUTES_PER_DESTINATION),
        capacity(&|c| c.relayed_requests),
        capacity(&|c| c.searches),
        capacity(&|c| c.accepted),
        capacity(&|c| c.payments),
        capacity(&|c| c.parked),
        capacity(&|c| c.seen),
        capacity(&|c| c.headers),
        both(&|c| c.free_rate),
        both(&|c| c.free_burst),
        both(&|c| c.plain.rate),
        both(&|c| c.plain.burst),
        both(&|c| c.rare.rate),
        both(&|c| c.rare.burst),
        both(&|_| FREE_AT_FIRST),
        both(&|c| c.control.rate),
        both(&|c| c.control.burst),
        both(&|c| c.control_of_all.rate),
        both(&|c| c.control_of_all.burst),
        both(&|c| c.signature_work),
        both(&|c| c.wide_searches.rate),
        both(&|c| c.wide_searches.burst),
        both(&|c| c.bad_payments.rate),
        both(&|c| c.bad_payments.burst),
        both(&|c| c.payment.max_lifetime),
        both(&|c| c.payment.future_skew),
        both(&|c| c.payment.min_confirmations.into()),
        same(CovenantRules::new(Network::Regtest).max_age_secs as usize),
        both(&|c| c.timing.verify_timeout / MILLISECOND),
    ];
    for (row, expected) in listed.iter().zip(&expected) {
        assert_eq!(row[1..], expected[..], "{}", row[0]);
    }
    assert_eq!(listed.len(), expected.len());
}

/// The examples of flows, written anew.
fn examples_of_flows() -> Vec<(&'static str, Vec<u8>)> {
    let (public_key, signature) = (&[2; 33], &[0xdd; 64]);
    let (bytes, amount_msat, open_number) = (65_536, 50_000, 4);
    let ticket = Ticket { run: 2, issued: 600, bytes, amount_msat, open_number, mac: [0xee; 16] };
    let request = InvoiceRequest { bytes, amount_msat, open_number, public_key, signature };
    let invoice = Invoice { request: 7, ticket, invoice: b"lnbcrt1", public_key, signature };
    let pay = Pay { ticket, preimage: [8; 32] };
    let balance = Balance { answers: 7, bought: bytes, drawn: 0 };
    let referral = Referral { request: 7, ticket, cashier: CASHIER, public_key, signature };
    let asked = TicketRequest { node: DESTINATION, ticket };
    let mut out = [0; 400];
    let mut examples = Vec::new();
    for (title, message, source, destination) in [
        ("InvoiceRequest", Message::InvoiceRequest(request), SOURCE, DESTINATION),
        ("Invoice", Message::Invoice(invoice), DESTINATION, SOURCE),
        ("Pay", Message::Pay(pay), SOURCE, DESTINATION),
        ("Balance", Message::Balance(balance), DESTINATION, SOURCE),
        ("Referral", Message::Referral(referral), DESTINATION, SOURCE),
        ("TicketRequest", Message::TicketRequest(asked), SOURCE, CASHIER),
    ] {
        let form = Form::Account;
        let emit = Emit { hop_limit: 1, sequence: 7, source, destination, proof: None, form };
        let payload = message.bytes::<400>().unwrap();
        assert_eq!(Message::parse(&payload), Ok(message));
        let n = emit.write(&[RELAY.hop()], &payload, &mut out, |_| [0; 64]).unwrap();
        examples.push((title, [&out[..n], &payload].concat()));
    }
    let terms = OpenTerms {
        random: [4; 16],
        open_number: 5,
        max_bytes: 1_000_000,
        idle_s: 60,
        max_packet: 1_400,
        act: [1; flow::ACT_LEN],
    };
    let number = flow::number(&SOURCE, &DESTINATION, &terms.random);
    let emit = Emit {
        hop_limit: 1,
        sequence: number,
        source: SOURCE,
        destination: DESTINATION,
        proof: Some((public_key, &terms.bytes())),
        form: Form::Open,
    };
    let n = emit.write(&[RELAY.hop()], &[], &mut out, |_| *signature).unwrap();
    examples.push(("Open", out[..n].to_vec()));
    for (title, kind, body) in [
        ("Opened", Kind::Opened, &[9; flow::ACT_LEN][..]),
        ("Data", Kind::Data, &[0xab; 40]),
        ("Close", Kind::Close, &[]),
    ] {
        let n = flow::write(kind, number, 1, body, &mut out).unwrap();
        examples.push((title, out[..n].to_vec()));
    }
    let error = FlowError { reporter: RELAY.hop(), cause: Cause::NothingLeft };
    let n = error.write(number, 0, &mut out).unwrap();
    examples.push(("FlowError", out[..n].to_vec()));
    examples
}

#[test]
fn flows() {
    for (title, bytes) in examples_of_flows() {
        assert_eq!(hex::encode(example(title)), hex::encode(&bytes), "{title}");
        let (header, body) = Header::parse(&bytes).unwrap();
        match header.kind {
            Kind::Datagram | Kind::Open => assert!(Datagram::parse(header, body).is_ok()),
            Kind::FlowError => assert!(FlowError::parse(header, body).is_ok()),
            _ => flow::check_body(header, body).unwrap(),
        }
    }
}
