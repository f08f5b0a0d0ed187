//! What happens to links and meshes, and the texts that the daemon reads.

use super::Seed;
use bitcoin::hashes::{Hash, sha256d};

pub(super) fn seeds() -> Vec<Seed> {
    vec![
        ("handshake", "genuine", vec![1, 2, 3, 4]),
        ("handshake", "refused-one", vec![1, 2, 3, 4, 1, 5, 9]),
        ("handshake", "refused-two", vec![1, 2, 3, 4, 0, 1, 40, 1]),
        ("handshake", "refused-three", vec![1, 2, 3, 4, 0, 0, 1, 60, 1]),
        ("packet_buffer", "grows", [&[20, 255][..], &[7; 20], &[30, 255], &[8; 30], &[0]].concat()),
        ("joiner", "records", vec![1, 6, 1, 40, 3, 9, 0, 5, 2, 4, 2, 7, 0, 3]),
        ("joiner", "bytes", vec![0, 15, 0, 0, 3, 0, b'a', b'b', b'c', 2, 0, 4, 0, 1, 2, 3, 4]),
        ("stream", "both-ways", stream()),
        ("datagram", "both-ways", datagram()),
        ("flow_end", "both-ways", flow_end()),
        ("flow_end", "authentic-peer", flow_peer()),
        ("mesh", "free", mesh(2, 0, FREE)),
        ("mesh", "streams", mesh(17, 4, FREE)),
        ("mesh", "paid", mesh(2, 0, PAID)),
        ("mesh", "faults", mesh(0x84, 5, &faults())),
        ("mesh", "attacks", mesh(0x22, 1, &attacks())),
        ("mesh", "covenants", mesh(8, 0, COVENANTS)),
        ("rpc", "info", br#"{"jsonrpc":"2.0","id":1,"method":"getinfo"}"#.to_vec()),
        ("rpc", "batch", BATCH.to_vec()),
        ("rpc", "send", SEND.to_vec()),
        ("bench", "report", bench_report()),
        ("beacon", "one", beacon()),
        ("beacon", "steps", LAN.to_vec()),
        ("bridge", "a-datagram", bridge_datagram()),
        ("bridge", "both-ways", bridge_steps()),
        ("invitation", "a-word", INVITATION.to_vec()),
        ("invitation", "places", invitation()),
        ("probe", "probe", probe()),
        ("probe", "answer", probe_answer()),
        ("probe", "neighbours", vec![2, 0, 1, 0, 1, 1, 2, 2, 1, 2, 1, 255, 255, 0, 1, 2, 1]),
        ("config", "usual", USUAL.to_vec()),
        ("config", "peers", PEERS.to_vec()),
        ("config", "lines", LINES.to_vec()),
    ]
}

/// A beacon on regtest, of the key whose secret is 1.
fn beacon() -> Vec<u8> {
    let key = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let key = (0..33).map(|at| u8::from_str_radix(&key[2 * at..2 * at + 2], 16).unwrap_or(0));
    b"\x00BMLN\x01\x04\x01\x20\x92".iter().copied().chain(key).collect()
}

/// Beacons of one and of two addresses, attempts that fail, and time.
const LAN: &[u8] = &[
    1, 5, 1, 0, 0, 6, 1, 1, 0, 7, 2, 0, 0, 200, 2, 1, 0, 0, 0, 2, 4, 1, 0, 3, 0, 1, 1, 0, 3, 0, 8,
    3, 0, 4, 0, 0, 2, 255, 2, 0, 3, 0,
];

/// A report of the load generator, as raw data.
fn bench_report() -> Vec<u8> {
    let numbers = [1u64, 2, 3, 4, 5].map(u64::to_le_bytes);
    [&b"BLVMBEN\x02"[..], numbers.as_flattened(), &[0; 16]].concat()
}

/// The data of a probe that has room for a little more than it must.
fn probe() -> Vec<u8> {
    [&[0, 4, 0][..], &7u64.to_le_bytes(), &[0; 40]].concat()
}

/// The data of an answer with software and an issuer.
fn probe_answer() -> Vec<u8> {
    let numbers = [1_000u32, 100, 12_500_000, 8_388_608, 262_144, 8_388_608].map(u32::to_le_bytes);
    let software = b"\x0fblvm-mesh/1.2.3";
    let fields = [&[0, 5, 1][..], &7u64.to_le_bytes(), &[0, 1], numbers.as_flattened(), software];
    [&fields.concat()[..], &[1], &[2; 33], &[0; 9]].concat()
}

/// A control message of a bridged connection with a range, and a `verack` behind it.
fn bridge_datagram() -> Vec<u8> {
    let numbers = [5u32, 3, 1000, 7, 9].map(u32::to_le_bytes);
    let mut data = b"\x04mesh\x1e\x01\x01".to_vec();
    data.extend([&7u64.to_le_bytes(), numbers.as_flattened()].concat());
    let mut all = vec![0];
    let messages: [(&[u8; 12], &[u8]); 2] =
        [(b"feature\0\0\0\0\0", &data), (b"verack\0\0\0\0\0\0", b"")];
    for (command, payload) in messages {
        let hash = sha256d::Hash::hash(payload).to_byte_array();
        let len = (payload.len() as u32).to_le_bytes();
        all.extend([&[0xfa, 0xbf, 0xb5, 0xda], &command[..], &len, &hash[..4], payload].concat());
    }
    all
}

/// To a node at an IPv4 address.
const INVITATION: &[u8] = b"\0blvmmesh1qyzqy7d7vel0nh9m4326qc54e6rskpczn07dk\
    tww9rv4nu5ptvt0s9ucqyzq5qqqqysfyvdlyhr";

/// What is in one with an address of each kind.
fn invitation() -> Vec<u8> {
    // Generator point, compressed.
    let x = bitcoin::secp256k1::constants::GENERATOR_X;
    let mut all = [&[1, 1, 4, 2][..], &x, &[3, 4, 10, 0, 0, 1, 32, 146, 6, 0xfd]].concat();
    all.extend([&[0; 14][..], &[1, 32, 146], b"\0\x09localhost", &[0, 80]].concat());
    all
}

/// Messages both ways, lost and doubled, time, a liar.
fn bridge_steps() -> Vec<u8> {
    let (push, send, come, time, pop, lie) = (0u8, 2, 6, 10, 12, 14);
    let mut all = vec![1, push, 9, push, 200, push | 1, 3, send, 99, send | 1, 99];
    all.extend([come | 1, 0, come, 0, pop, 0, pop | 1, 0, push, 20, send, 9, time, 255, send, 99]);
    all.extend([come | 0xc1, 0, come | 1, 0, pop | 1, 0, lie, 200, lie | 0x31, 255, pop, 0]);
    all
}

/// Packets from both ends, frames and pieces.
fn stream() -> Vec<u8> {
    let (queue, frame, deliver) = (0u8, 8, 16);
    let mut ops = Vec::new();
    // The three acts, in pieces.
    ops.extend([deliver | 1, 30, deliver | 1, 99, deliver, 20, deliver, 99, deliver | 1, 99]);
    ops.extend([queue, 200, queue | 2, 3, queue | 1, 9, frame, 100, frame | 1, 255]);
    ops.extend([deliver | 1, 17, deliver | 1, 255, deliver, 80, frame | 2, 0, deliver | 1, 255]);
    ops
}

/// A handshake, packets both ways over a line that does everything to them, a close.
fn datagram() -> Vec<u8> {
    let (queue, transmit, deliver, alter, stranger, time, talk) = (0u8, 4, 8, 16, 20, 24, 28);
    let mut ops = vec![talk, 0, talk, 0, queue, 200, queue | 2, 9, queue | 1, 70, transmit, 7];
    ops.extend([transmit | 1, 7, deliver | 1, 3, deliver | 0x81, 0, deliver | 1, 0, deliver, 250]);
    ops.extend([alter | 1, 0, 30, alter | 0x61, 1, 2, stranger, 3, 0x81, 1, 2, time, 40]);
    ops.extend([transmit, 7, talk, 0, talk, 0, time | 1, 255, queue, 5, time, 250, talk, 0]);
    ops
}

/// Streams both ways over a path that does everything to them.
fn flow_end() -> Vec<u8> {
    let (write, transmit, deliver, alter, stranger, time) = (0u8, 4, 6, 10, 12, 14);
    let (open, finish, reset, top_up, route, talk) = (16, 18, 20, 22, 24, 28);
    let mut ops = vec![open, 0, open | 1, 0, write, 0, 200, write | 1, 0, 99, talk, 0];
    ops.extend([write, 0, 255, transmit, 7, deliver | 1, 3, deliver | 0x81, 0, deliver | 1, 250]);
    ops.extend([alter | 1, 0, 9, stranger, 3, 1, 2, 3, time, 40, transmit | 1, 7, deliver, 0]);
    ops.extend([open, 0, write, 1, 50, reset, 1, talk, 0, route, 20, write, 0, 99, top_up, 200]);
    ops.extend([finish, 0, talk, 0, time, 200, finish | 1, 0, talk, 0]);
    // An odd number first: not a peer's frames.
    [&[talk | 1, 0][..], &ops].concat()
}

/// Every frame from an authentic destination: credit, a piece with an end, limits, a reset, a stop.
fn flow_peer() -> Vec<u8> {
    let packets: [&[u8]; 4] = [
        &[2],
        &[3, 100, 5, 20, 4, 3, 9],
        &[0xe1, 0, 0, 0, 2, 0, b'h', b'i', 6, 0, 0xff, 0, 1, 0, 0, 0, 0],
        &[7, 0, 5, 2, 8, 0, 6, 0x83, 0, 0, 0, b'x'],
    ];
    let mut bytes = vec![0, 0];
    for packet in packets {
        bytes.push(packet.len() as u8);
        bytes.extend(packet);
    }
    bytes
}

/// What the mesh is like, and steps.
fn mesh(how: u8, shape: u8, steps: &[[u8; 4]]) -> Vec<u8> {
    [&[how, shape, 33][..], steps.as_flattened()].concat()
}

/// A route is found from end to end, and pings go both ways.
const FREE: &[[u8; 4]] =
    &[[3, 0b1100, 0, 0], [0, 0, 200, 0], [1, 0b1100, 7, 0], [0, 0, 200, 1], [1, 0b0011, 8, 0]];

/// Paid once, used again at once, from elsewhere, and after a restart.
const PAID: &[[u8; 4]] = &[
    [3, 0b1100, 0, 0],
    [0, 0, 200, 0],
    [4, 0b1100, 0, 0],
    [0, 0, 200, 0],
    [10, 0b1100, 0, 0],
    [10, 0b0001, 0, 0],
    [0, 0, 200, 0],
    [6, 0b0001, 3, 0],
    [0, 0, 200, 4],
    [10, 0b1100, 0, 0],
    [0, 0, 200, 0],
];

/// Faults of every kind, on the way of what is paid for.
fn faults() -> Vec<[u8; 4]> {
    let each = |f| [[6, f & 3, f, f], [4, 0b1100, 0, 0], [1, 0b0100, f, 0], [0, 0, 150, 1]];
    let steps = (0..17).flat_map(each);
    let lossy = [[12, 0, 0b0101_0101, 0]];
    FREE.iter().copied().chain(lossy).chain(steps).collect()
}

/// Every attack, while others pay.
fn attacks() -> Vec<[u8; 4]> {
    let each = |n| [[7, 0, n, 0], [5, 0b1100, n, 0], [0, 0, 150, 1]];
    (0..15).flat_map(each).collect()
}

/// Covenants that wait for a block, and for what the node says of it.
const COVENANTS: &[[u8; 4]] = &[
    [3, 0b1100, 0, 0],
    [0, 0, 200, 0],
    [4, 0b1100, 1, 0],
    [4, 0b1100, 2, 0],
    [4, 0b1100, 3, 0],
    [4, 0b1100, 4, 0],
    [8, 0, 0, 0],
    [0, 0, 200, 4],
    [9, 0, 0, 0],
    [0, 0, 200, 0],
    [8, 0, 1, 0],
    [0, 0, 200, 4],
];

const BATCH: &[u8] = br#"[{"jsonrpc":"2.0","id":"a","method":"getpeers","params":{}},
{"jsonrpc":"2.0","method":"getledger","params":{"role":"destination"}},
{"jsonrpc":"2.0","id":null,"method":"get_routing_stats"}]"#;

const SEND: &[u8] = br#"{"jsonrpc":"2.0","id":2,"method":"meshsendpacket","params":{"destination":"0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798","data_base64":"AP8=","wait_ms":5,"proof":{"covenant":"00ff"}}}"#;

const USUAL: &[u8] = br#"log = "info"
[mesh]
enabled = true
mode = "payment_gated"
listen_addr = "0.0.0.0:8338"
network = "regtest"
issuers = ["0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"]
[tariff]
base_msat = 1000
[limits]
seen = 1024
free_rate = 5
[timing]
keepalive_ms = 250
"#;

const LINES: &[u8] = br#"[mesh]
listen_addr = ["[::]:1", "serial:///dev/ttyS0?baud=9600", "serial+tcp://[::1]:7001"]
peers = ["0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@serial:///dev/ttyS1"]
"#;

const PEERS: &[u8] = br#"[mesh]
max_peers = 4
network = "regtest"
peers = [
  "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798@127.0.0.1:8338",
  { address = "[::1]:1", node_id_hex = "02c6047f9441ed7d6d3045406e95c07cd85c778e4b8cef3ca7abac09b95c709ee5" },
]
[payment]
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
covenants_active = true
"#;
