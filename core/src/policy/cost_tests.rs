//! Tests of the classes of free bytes.

use super::command::{Command, Kind};
use super::samples::*;
use super::{
    Class, Classified, DetectedProtocol, FreeCost, MeshMode, OwnNetwork, PolicyConfig, Reason,
    RoutingPolicyEngine,
};
use crate::config::{MAINNET_MIN_DIFFICULTY, min_difficulty};
use crate::id::Network;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::{Block, MerkleBlock};
use proptest::prelude::*;
use std::vec::Vec;

/// Header 794,143 of the main network, difficulty 51 * 10^12.
const HARD_HEADER: &str = "\
    000080200e102b98a160f4416c8ff0198db9b177523525c9de8a00000000000000000000\
    3b9b941003024e1afa90199732fdb1366a122ab0a5cacd3f7bcb8cb8815a811b\
    560e8864697e051767c0c9fd";

/// Header 125,552 of the main network, difficulty 244,112.
const EASY_HEADER: &str = "\
    0100000081cd02ab7e569e8bcd9317e2fe99f2de44d49ab2b8851ba4a308000000000000\
    e320b6c2fffc8d750423db8b1eb942ae710e951ed797f7affc8892b0f1fc122b\
    c7f5d74df2b9441a42a14695";

fn engine(network: Network, min_difficulty: u64) -> RoutingPolicyEngine {
    let config = PolicyConfig::new(MeshMode::PaymentGated, network);
    let own = OwnNetwork { min_difficulty, ..config.own };
    RoutingPolicyEngine::new(PolicyConfig { own, ..config })
}

fn usual(network: Network) -> RoutingPolicyEngine {
    engine(network, min_difficulty(network))
}

/// The class of a payload whose bytes are all of one.
fn class(engine: &RoutingPolicyEngine, payload: &[u8]) -> Class {
    let cost = engine.classify(payload).unwrap().cost;
    let all = payload.len();
    let one = |class| (FreeCost::of(class, all) == cost).then_some(class);
    [Class::Worked, Class::Plain, Class::Rare].into_iter().find_map(one).unwrap()
}

fn headers(network: Network, headers: &[&str]) -> Vec<u8> {
    let mut payload = std::vec![headers.len() as u8];
    for header in headers {
        payload.extend(bytes(header));
        payload.push(0);
    }
    frame(network, b"headers", &payload)
}

#[test]
fn the_class_of_every_command() {
    let node = usual(Network::Regtest);
    for (command, message) in good_messages() {
        let expected = match command.name() {
            b"headers" | b"block" | b"merkleblock" => Class::Worked,
            b"alert" | b"banlist" | b"getbanlist" | b"reject" => Class::Rare,
            b"econreg" | b"econveto" | b"econstatus" | b"econfork" => Class::Rare,
            _ => Class::Plain,
        };
        assert_eq!(class(&node, &message), expected, "{command:?}");
        assert!(command.kind() == Kind::Bitcoin || expected == Class::Rare, "{command:?}");
        assert_ne!(command.class(false), Class::Worked);
    }
}

#[test]
fn work_counts_on_the_own_network_and_on_the_main_one() {
    let regtest = good_message(Command::Block);
    let testnet = frame(Network::Testnet3, b"block", &bytes(SEGWIT_BLOCK));
    let hard = headers(Network::Mainnet, &[HARD_HEADER]);
    let easy = headers(Network::Mainnet, &[EASY_HEADER]);
    for network in Network::ALL {
        let node = usual(network);
        let expected = if network == Network::Regtest { Class::Worked } else { Class::Plain };
        assert_eq!(class(&node, &regtest), expected, "{network}");
        assert_eq!(class(&node, &testnet), Class::Plain, "too easy, or of another: {network}");
        assert_eq!(class(&node, &hard), Class::Worked, "{network}");
        assert_eq!(class(&node, &easy), Class::Plain, "{network}");
        // What is configured is for the own network, not for the main one elsewhere.
        let lax = engine(network, 0);
        let own = |of| if network == of { Class::Worked } else { Class::Plain };
        assert_eq!(class(&lax, &easy), own(Network::Mainnet), "{network}");
        assert_eq!(class(&lax, &testnet), own(Network::Testnet3), "{network}");
    }
    // To the last unit of difficulty.
    assert_eq!(class(&engine(Network::Mainnet, 244_112), &easy), Class::Worked);
    assert_eq!(class(&engine(Network::Mainnet, 244_113), &easy), Class::Plain);
    assert_eq!(MAINNET_MIN_DIFFICULTY, 1_000_000);
}

#[test]
fn one_easy_header_makes_its_message_plain() {
    let node = engine(Network::Regtest, 1);
    let block = regtest_block(0);
    let easy = block.header;
    let message =
        frame(Network::Regtest, b"headers", &[&[1], &serialize(&easy)[..], &[0]].concat());
    assert_eq!(class(&node, &message), Class::Plain);
    assert_eq!(class(&usual(Network::Regtest), &message), Class::Worked);
    // Two that follow one another, of which the second is the easier one.
    let mut first = easy;
    first.bits = bitcoin::CompactTarget::from_consensus(0x203f_ffff);
    while first.validate_pow(first.target()).is_err() {
        first.nonce += 1;
    }
    let mut second = easy;
    second.prev_blockhash = first.block_hash();
    while second.validate_pow(second.target()).is_err() {
        second.nonce += 1;
    }
    let both = [&[2], &serialize(&first)[..], &[0], &serialize(&second)[..], &[0]].concat();
    let both = frame(Network::Regtest, b"headers", &both);
    assert_eq!(class(&node, &both), Class::Plain);
    // Nothing was worked for no header.
    let none = frame(Network::Regtest, b"headers", &[0]);
    assert_eq!(class(&usual(Network::Regtest), &none), Class::Plain);
}

#[test]
fn what_goes_free_as_worked_hangs_on_the_work_with_every_byte() {
    let node = engine(Network::Testnet3, 0);
    let block: Block = deserialize(&bytes(SEGWIT_BLOCK)).unwrap();
    let ids: Vec<_> = block.txdata.iter().map(|t| t.compute_txid()).collect();
    let proof = MerkleBlock::from_block_with_predicate(&block, |id| *id == ids[1]);
    let header = serialize(&block.header);
    let worked = [
        (&b"block"[..], bytes(SEGWIT_BLOCK)),
        (b"block", bytes(LEGACY_BLOCK)),
        (b"merkleblock", serialize(&proof)),
        (b"headers", [&[1], &header[..], &[0]].concat()),
    ];
    for (command, payload) in worked {
        assert_eq!(class(&node, &frame(Network::Testnet3, command, &payload)), Class::Worked);
        // The last byte of a merkleblock are the flags; which leaves are asked for is the
        // sender's choice.
        let bound = payload.len() - usize::from(command == b"merkleblock");
        for at in 0..bound {
            for bit in 0..8 {
                let mut changed = payload.clone();
                changed[at] ^= 1 << bit;
                let changed = frame(Network::Testnet3, command, &changed);
                assert_eq!(node.classified(&changed).cost.worked, 0, "{command:?} {at} {bit}");
            }
        }
        for more in [0, 7] {
            let longer = [&payload[..], &[more]].concat();
            let longer = frame(Network::Testnet3, command, &longer);
            assert_eq!(node.detect_protocol(&longer), DetectedProtocol::Unknown);
        }
    }
}

#[test]
fn a_signet_of_its_own_is_not_the_default_one() {
    let magic = Network::signet_magic(&[0x51]);
    let usual = PolicyConfig::new(MeshMode::PaymentGated, Network::Signet);
    let own = OwnNetwork { magic, ..usual.own };
    let node = RoutingPolicyEngine::new(PolicyConfig { own, ..usual });
    let only = RoutingPolicyEngine::new(PolicyConfig { own_network_only: true, ..*node.config() });
    let default = bitcoin::constants::genesis_block(bitcoin::Network::Signet);
    let default = frame(Network::Signet, b"block", &serialize(&default));
    let mine = [&magic[..], &default[4..]].concat();
    assert_eq!(class(&node, &mine), Class::Worked);
    assert_eq!(class(&only, &mine), Class::Worked);
    assert_eq!(class(&node, &default), Class::Plain, "of another signet");
    assert_eq!(only.detect_protocol(&default), DetectedProtocol::Unknown);
    let unknown = RoutingPolicyEngine::new(usual);
    assert_eq!(class(&unknown, &default), Class::Worked);
    assert_eq!(unknown.explain(&mine), Err(Reason::NoKnownProtocol.at(0)));
    // Two signets are two networks.
    let (first, found) = (Network::Signet, Network::Signet);
    let both = node.explain(&[mine, default].concat()).unwrap_err();
    assert_eq!(both.reason, Reason::MixedNetworks { first, found });
}

#[test]
fn a_compact_block_is_plain_whatever_its_work() {
    let block = regtest_block(2);
    // Any header that was ever mined, and anything behind it.
    let payload = [&serialize(&block.header)[..], &[7; 8], &[200], &[7; 1_200], &[0]].concat();
    let message = frame(Network::Regtest, b"cmpctblock", &payload);
    assert_eq!(class(&usual(Network::Regtest), &message), Class::Plain);
}

#[test]
fn in_mode_open_nothing_is_looked_at() {
    for network in Network::ALL {
        let open = RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::Open, network));
        for payload in [&b"anything"[..], b"", b"MESH", &good_message(Command::BanList)] {
            let cost = open.classified(payload).cost;
            assert_eq!(cost, FreeCost::of(Class::Worked, payload.len()));
        }
        let gated = usual(network).classified(b"anything");
        assert_eq!(gated, Classified::of(DetectedProtocol::Unknown, Class::Plain, 8));
    }
}

#[test]
fn stratum_is_plain() {
    let setup = [0, 0, 1, 6, 0, 0, 2, 0, 7, 7, 7, 7];
    assert_eq!(class(&usual(Network::Mainnet), &setup), Class::Plain);
}

proptest! {
    #[test]
    fn messages_are_counted_one_by_one(
        picks in prop::collection::vec(prop::sample::select(Command::ALL), 1..6),
    ) {
        let node = usual(Network::Regtest);
        let (mut all, mut expected) = (Vec::new(), FreeCost::default());
        for command in picks {
            let message = good_message(command);
            expected.add(command.class(true), message.len());
            all.extend(message);
        }
        let found = node.classify(&all).unwrap();
        prop_assert_eq!(found.cost, expected);
        prop_assert_eq!(found.cost.total(), all.len());
    }
}
