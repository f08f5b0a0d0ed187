//! Messages of Bitcoin Core as it writes them: every one of them goes free.
//!
//! `recorded.txt` holds one of each kind, so that this is shown without a node too. With a
//! node (`blvm_mesh_tests::bitcoind::find`) all kinds are provoked anew;
//! `MESH_RECORD=FILE` writes down a new recording.

mod provoke;

use bitcoin::p2p::message::NetworkMessage;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{
    DetectedProtocol, MeshMode, PolicyConfig, RoutingPolicy, RoutingPolicyEngine,
};
use blvm_mesh_tests::bitcoind;
use blvm_mesh_tests::bitcoind::peer::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Kinds of messages that a node sends. All of them must come.
const FROM_NODE: &str = "\
    addr,addrv2,alert,block,block witness,blocktxn,cfcheckpt,cfheaders,cfilter,cmpctblock,\
    feefilter,getaddr,getblocktxn,getdata 4,getdata 40000001,getdata 40000002,getdata 5,\
    getheaders,headers,inv 1,inv 2,inv 5,merkleblock,notfound 1,notfound 40000001,notfound 5,\
    ping,ping empty,pong,sendaddrv2,sendcmpct 0,sendcmpct 1,sendheaders,sendtxrcncl,tx,\
    tx coinbase,tx witness,verack,version,wtxidrelay";

/// What is only sent to a node.
const TO_NODE: &str = "\
    feature,filteradd,filterclear,filterload,getblocks,getcfcheckpt,getcfheaders,getcfilters,\
    mempool,reject";

/// The command, and what else tells messages of it apart.
fn kind(message: &Message) -> String {
    let command = message.command();
    let payload = message.bytes.get(24..).unwrap_or_default();
    let witness = |tx: &bitcoin::Transaction| tx.input.iter().any(|i| !i.witness.is_empty());
    let variant = match (command, payload) {
        ("ping" | "pong", []) => " empty".to_string(),
        ("inv" | "getdata" | "notfound", [0xfd, _, _, rest @ ..] | [_, rest @ ..]) => {
            let kind = rest.first_chunk().map_or(0, |kind| u32::from_le_bytes(*kind));
            format!(" {kind:x}")
        }
        ("sendcmpct", [announce, ..]) => format!(" {announce}"),
        ("tx" | "block", _) => match message.read() {
            NetworkMessage::Tx(tx) if tx.is_coinbase() => " coinbase".to_string(),
            NetworkMessage::Tx(tx) if witness(&tx) => " witness".to_string(),
            NetworkMessage::Block(block) if block.txdata.iter().any(witness) => {
                " witness".to_string()
            }
            _ => String::new(),
        },
        _ => String::new(),
    };
    format!("{command}{variant}")
}

/// Those of the list that are not among the others.
fn missing<'a>(
    list: &'a str,
    kinds: &BTreeMap<(String, bool), Row<'_>>,
    from: bool,
) -> Vec<&'a str> {
    list.split(',').filter(|kind| !kinds.contains_key(&(kind.to_string(), from))).collect()
}

/// Engines that a regtest node's messages meet: in every mode, of their own network only and of
/// any.
fn engines() -> Vec<RoutingPolicyEngine> {
    let mut engines = Vec::new();
    for mode in MeshMode::ALL {
        for (network, own_network_only) in
            [(Network::Regtest, true), (Network::Regtest, false), (Network::Mainnet, false)]
        {
            let config = PolicyConfig { own_network_only, ..PolicyConfig::new(mode, network) };
            engines.push(RoutingPolicyEngine::new(config));
        }
    }
    engines
}

/// Why some engine does not let it go free.
fn refusal(engines: &[RoutingPolicyEngine], bytes: &[u8]) -> Option<String> {
    engines.iter().find_map(|engine| match engine.classify(bytes) {
        Ok(found) if found.protocol != DetectedProtocol::BitcoinP2P => {
            Some(format!("it is {:?}", found.protocol))
        }
        Ok(found) if engine.determine_policy(found.protocol) != RoutingPolicy::Free => {
            Some(format!("it is not free in mode {}", engine.config().mode))
        }
        Ok(found) if found.cost.total() != bytes.len() => {
            Some(format!("{:?} is not the cost of {} bytes", found.cost, bytes.len()))
        }
        Ok(_) => None,
        Err(why) => Some(why.to_string()),
    })
}

/// The longest message of a kind that is short enough for a recording.
const SHORT: usize = 24 + 300;

#[derive(Default)]
struct Row<'a> {
    count: usize,
    free: usize,
    longest: usize,
    example: Option<&'a Message>,
}

#[test]
fn every_message_of_a_real_node_goes_free() {
    let Some(program) = bitcoind::find() else { return };
    let log = provoke::all(&program);
    let engines = engines();
    let mut rows: BTreeMap<(String, bool), Row<'_>> = BTreeMap::new();
    let mut refused = String::new();
    for message in &log {
        let row = rows.entry((kind(message), message.from_node)).or_default();
        row.count += 1;
        row.longest = row.longest.max(message.bytes.len());
        let better = |example: &Message| match message.bytes.len() {
            len if len <= SHORT => example.bytes.len() < len || example.bytes.len() > SHORT,
            len => len < example.bytes.len(),
        };
        if row.example.is_none_or(better) {
            row.example = Some(message);
        }
        match refusal(&engines, &message.bytes) {
            None => row.free += 1,
            Some(why) => {
                let hex = hex::encode(&message.bytes);
                let start = hex.get(..4_000).unwrap_or(&hex);
                let from = if message.from_node { "from" } else { "to" };
                writeln!(refused, "{from} the node: {}: {why}: {start}", message.command())
                    .expect("it is text");
            }
        }
    }
    println!("{:<20} {:>9} {:>6} {:>6} {:>9}", "kind", "direction", "count", "free", "longest");
    for ((kind, from_node), Row { count, free, longest, .. }) in &rows {
        let direction = if *from_node { "from" } else { "to" };
        println!("{kind:<20} {direction:>9} {count:>6} {free:>6} {longest:>9}");
    }
    if let Some(path) = std::env::var_os("MESH_RECORD") {
        let told = |kind: &str, from_node| {
            let list = if from_node { FROM_NODE } else { TO_NODE };
            list.split(',').any(|one| one == kind)
        };
        let rows = rows.iter().filter(|((kind, from_node), _)| told(kind, *from_node));
        let examples = rows.filter_map(|(_, row)| row.example);
        let lines: String = examples.map(|m| format!("{}\n", hex::encode(&m.bytes))).collect();
        std::fs::write(path, lines).expect("the file can be written");
    }
    assert!(refused.is_empty(), "refused:\n{refused}");
    assert_eq!(missing(FROM_NODE, &rows, true), Vec::<&str>::new(), "these did not come");
    assert_eq!(missing(TO_NODE, &rows, false), Vec::<&str>::new(), "these were not sent");
}

#[test]
fn recorded_messages_of_every_kind_go_free() {
    let engines = engines();
    let mut kinds = BTreeSet::new();
    for line in include_str!("recorded.txt").lines() {
        let message = Message { from_node: true, bytes: hex::decode(line).expect("hex") };
        assert_eq!(refusal(&engines, &message.bytes), None, "{}: {line}", kind(&message));
        kinds.insert(kind(&message));
    }
    let expected = [FROM_NODE, TO_NODE].into_iter().flat_map(|list| list.split(','));
    assert_eq!(kinds, expected.map(String::from).collect());
}
