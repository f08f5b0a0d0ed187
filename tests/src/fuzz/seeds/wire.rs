//! Packets of every kind, Stratum V2 frames, private TLV, records, and boards' configurations.

use super::Seed;
use crate::packets::payloads::ping;
use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::board::{BoardConfig, MAX_LEN, MAX_LINES};
use blvm_mesh_core::config::MAX_ISSUERS;
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::link::channel::lora::Modem;
use blvm_mesh_core::link::datagram::Role;
use blvm_mesh_core::mode::MeshMode;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Method, Payment, Record};
use blvm_mesh_core::payment::replay::PaidPacket;
use blvm_mesh_core::tariff::Tariff;
use blvm_mesh_core::wire::WireError;
use blvm_mesh_core::wire::accepted::Accepted;
use blvm_mesh_core::wire::datagram::{Emit, Form};
use blvm_mesh_core::wire::hello::{Hello, Told};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, RouteRequest};
use secp256k1::{Secp256k1, SecretKey};

const SOURCE: NodeId = NodeId([1; 32]);
const DESTINATION: NodeId = NodeId([2; 32]);
const TARIFF: Tariff = Tariff { base_msat: 1000, per_kib_msat: 100 };

fn written(write: impl FnOnce(&mut [u8]) -> Result<usize, WireError>) -> Vec<u8> {
    let mut out = vec![0; 2048];
    let len = write(&mut out).expect("it fits");
    out.truncate(len);
    out
}

fn datagram(proof: Option<&[u8]>, hops: &[HopId]) -> Vec<u8> {
    let emit = Emit {
        hop_limit: hops.len() as u8,
        sequence: 7,
        source: SOURCE,
        destination: DESTINATION,
        proof: proof.map(|proof| (&[2; 33], proof)),
        form: Form::Plain,
    };
    let payload = ping(5);
    let head = written(|out| emit.write(hops, &payload, out, |_| [8; 64]));
    [head, payload].concat()
}

pub(super) fn seeds() -> Vec<Seed> {
    let hop = |n| Hop { node: HopId([n; 8]), tariff: TARIFF };
    let hello = Hello {
        missing: false,
        network: Network::Regtest,
        mode: MeshMode::PaymentGated,
        quality: 256,
        max_packet: 8192,
        tariff: TARIFF,
        keepalive_ms: 250,
        unix: 1_700_000_000,
        free: [Told::ANY; 3],
        issuers: [[2; 33], [3; 33]].into_iter().collect(),
    };
    let request = RouteRequest {
        flags: 3,
        hop_limit: 3,
        sequence: 9,
        source: SOURCE.hop(),
        destination: DESTINATION.hop(),
        min_packet: 8192,
        quality: 512,
        accepted: None,
        hops: [hop(3), hop(4)].into_iter().collect(),
    };
    let reply = RouteReply {
        hop_limit: 2,
        sequence: 9,
        source: SOURCE.hop(),
        min_packet: 8192,
        quality: 768,
        accepted: None,
        tariff: TARIFF,
        public_key: [2; 33],
        signature: [5; 64],
        hops: request.hops.clone(),
    };
    let accepted =
        Accepted { min_confirmations: 6, issuers: Some([[3; 8], [4; 8]].into_iter().collect()) };
    let request_accepted = RouteRequest { accepted: Some(accepted.clone()), ..request.clone() };
    let reply_accepted = RouteReply { accepted: Some(accepted), ..reply.clone() };
    let reply_any = RouteReply { accepted: Some(Accepted::ANY), ..reply.clone() };
    let error = RouteError {
        hop_limit: 1,
        sequence: 7,
        source: SOURCE,
        destination: DESTINATION,
        reporter: NodeId([3; 32]),
        next: HopId([4; 8]),
        cause: Cause::PaymentRequired,
        hops: [HopId([3; 8]), HopId([4; 8])].into_iter().collect(),
    };
    let mut seeds = vec![
        ("wire", "datagram", datagram(None, &[HopId([3; 8])])),
        ("wire", "datagram-paid", datagram(Some(&[9; 20]), &[HopId([3; 8]), HopId([4; 8])])),
        ("wire", "hello", written(|out| hello.write(out))),
        ("wire", "route-request", written(|out| request.write(out))),
        ("wire", "route-reply", written(|out| reply.write(out))),
        ("wire", "route-request-accepted", written(|out| request_accepted.write(out))),
        ("wire", "route-reply-accepted", written(|out| reply_accepted.write(out))),
        ("wire", "route-reply-any", written(|out| reply_any.write(out))),
        ("wire", "route-error", written(|out| error.write(out))),
    ];
    seeds.extend(stratum());
    let tlv = |tag: u16, value: &[u8]| {
        let len = value.len() as u32;
        [&(len + 6).to_le_bytes()[..], &tag.to_le_bytes(), &len.to_le_bytes(), value].concat()
    };
    seeds.push(("private_tlv", "two-records", [tlv(0x01, b"value"), tlv(0x32, b"")].concat()));
    let payment = |method, role| {
        Record::Payment(Payment {
            key: [1; 32],
            method,
            role,
            source: SOURCE,
            destination: DESTINATION,
            amount_msat: 10_000,
            share_msat: 3_000,
            accepted_at: 1_750_000_000,
            expires_at: 1_750_003_600,
            packet: PaidPacket(0x1234_5678_9abc),
        })
        .encode()
        .to_vec()
    };
    seeds.extend(boards());
    seeds.push(("ledger", "floor", Record::Floor(1_750_000_000).encode().to_vec()));
    seeds.push(("ledger", "relay", payment(Method::Lightning, Party::Intermediate(3))));
    seeds.push(("ledger", "destination", payment(Method::Covenant, Party::Destination)));
    seeds
}

/// Frames by the tables of sv2-spec.
fn stratum() -> Vec<Seed> {
    let frame = |extension: u16, message: u8, payload: &[u8]| {
        let len = &(payload.len() as u32).to_le_bytes()[..3];
        [&extension.to_le_bytes()[..], &[message], len, payload].concat()
    };
    let text = |s: &str| [&[s.len() as u8][..], s.as_bytes()].concat();
    let setup = [
        &[0, 2, 0, 2, 0, 0, 0, 0, 0][..],
        &text("pool"),
        &3336u16.to_le_bytes(),
        &text("maker"),
        &text("model"),
        &text("1.0"),
        &text("device"),
    ]
    .concat();
    let setup = frame(0, 0x00, &setup);
    let success = frame(0, 0x01, &[2, 0, 0, 0, 0, 0]);
    let open = [&[1, 0, 0, 0][..], &text("user"), &[0; 4], &[255; 32]].concat();
    let open = frame(0, 0x10, &open);
    // SubmitSharesStandard: six numbers of four bytes.
    let share = frame(0x8000, 0x1a, &[3; 24]);
    vec![
        ("stratum", "setup", setup.clone()),
        ("stratum", "success", success.clone()),
        ("stratum", "several", [setup, success, open, share].concat()),
    ]
}

fn channel() -> RadioConfig {
    RadioConfig {
        key: [6; 32],
        is_public: false,
        frequency_hz: 922_900_000,
        power_dbm: 11,
        modem: Modem::SHORT,
        pause_ms: 50,
        listen_dbm: Some(-65),
    }
}

/// Configurations of boards: the shortest, and one with everything.
fn boards() -> [Seed; 2] {
    let key = SecretKey::from_byte_array([7; 32]).expect("a key");
    let public = key.public_key(&Secp256k1::signing_only());
    let shortest = BoardConfig {
        key,
        secret: [8; 32],
        network: Network::Regtest,
        mode: MeshMode::Open,
        baud: 9600,
        tariff: TARIFF,
        keepalive_ms: 5000,
        future_skew: 300,
        clock_source: None,
        checkpoint: None,
        cashier: None,
        lines: [Role::Listen].into_iter().collect(),
        issuers: Default::default(),
        radio: None,
    };
    let longest = BoardConfig {
        mode: MeshMode::PaymentGated,
        clock_source: Some(SOURCE),
        checkpoint: Some([9; 80]),
        cashier: Some(SOURCE),
        lines: [Role::Dial(public); MAX_LINES].into_iter().collect(),
        issuers: [public; MAX_ISSUERS].into_iter().collect(),
        radio: Some(channel().bytes()),
        ..shortest.clone()
    };
    [("shortest", shortest), ("longest", longest)].map(|(name, config)| {
        let mut out = vec![0; MAX_LEN];
        let len = config.write(&mut out).expect("there is room");
        out.truncate(len);
        ("board", name, out)
    })
}
