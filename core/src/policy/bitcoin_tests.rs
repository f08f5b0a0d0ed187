//! Tests of detection in Bitcoin's framing, through the engine.

use super::command::{Command, Kind};
use super::samples::*;
use super::{DetectedProtocol, MeshMode, PolicyConfig, Reason, RoutingPolicyEngine, Unrecognised};
use crate::id::Network;
use proptest::prelude::*;
use std::vec::Vec;

fn engine() -> RoutingPolicyEngine {
    RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::PaymentGated, Network::Mainnet))
}

fn explain(payload: &[u8]) -> Result<DetectedProtocol, Unrecognised> {
    engine().explain(payload)
}

fn is_free_bitcoin(payload: &[u8]) -> bool {
    engine().detect_protocol(payload) == DetectedProtocol::BitcoinP2P
}

/// A payload in a right regtest frame.
fn framed(command: Command, payload: &[u8]) -> Result<DetectedProtocol, Unrecognised> {
    explain(&frame(Network::Regtest, command.name(), payload))
}

#[test]
fn messages_of_the_protocol_documentation_are_free() {
    for text in [VERSION_MESSAGE, TX_MESSAGE] {
        assert_eq!(explain(&bytes(text)), Ok(DetectedProtocol::BitcoinP2P));
    }
    let verack = bytes("f9beb4d976657261636b000000000000000000005df6e0e2");
    assert_eq!(explain(&verack), Ok(DetectedProtocol::BitcoinP2P));
}

#[test]
fn genesis_blocks_are_free_on_their_own_network() {
    let real = bytes(GENESIS);
    assert!(is_free_bitcoin(&frame(Network::Mainnet, b"block", &real)));
    for network in Network::ALL {
        let oracle = bitcoin::Network::from(network);
        let block = bitcoin::consensus::serialize(&bitcoin::constants::genesis_block(oracle));
        assert_eq!(
            explain(&frame(network, b"block", &block)),
            Ok(DetectedProtocol::BitcoinP2P),
            "{network}"
        );
        if network == Network::Mainnet {
            assert_eq!(block, real);
        }
    }
    let regtest = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
    let regtest = bitcoin::consensus::serialize(&regtest);
    assert_eq!(
        explain(&frame(Network::Mainnet, b"block", &regtest)),
        Err(Reason::Target(Network::Mainnet).at(24 + 72))
    );
}

#[test]
fn every_command_is_recognised_and_one_byte_off_is_not() {
    for (command, message) in good_messages() {
        let expected = match command.kind() {
            Kind::Bitcoin => DetectedProtocol::BitcoinP2P,
            Kind::Governance => DetectedProtocol::CommonsGovernance,
        };
        assert_eq!(explain(&message), Ok(expected), "{command:?}");

        let mut trailing = message.clone();
        trailing.push(0);
        assert_eq!(explain(&trailing), Err(Reason::HeaderTruncated.at(message.len())));
        let cut = explain(&message[..message.len() - 1]).unwrap_err();
        assert!(matches!(cut.reason, Reason::PayloadTruncated | Reason::HeaderTruncated));

        let mut checksum = message.clone();
        checksum[20] ^= 1;
        assert_eq!(explain(&checksum), Err(Reason::Checksum.at(20)), "{command:?}");
        let mut name = message.clone();
        name[4] ^= 0x20;
        assert_eq!(explain(&name), Err(Reason::UnknownCommand.at(4)));
        if command.name().len() < 11 {
            let mut padding = message.clone();
            padding[15] = b' ';
            assert_eq!(explain(&padding), Err(Reason::CommandPadding.at(4)));
        }
        for length in [message.len() as u32 - 24 + 1, u32::MAX] {
            let mut longer = message.clone();
            longer[16..20].copy_from_slice(&length.to_le_bytes());
            let reason = explain(&longer).unwrap_err().reason;
            assert!(matches!(reason, Reason::PayloadTruncated | Reason::PayloadLength { .. }));
        }
        // With a right header around it, one byte more or less is still wrong,
        // except where a payload has no structure, or the end is optional.
        let payload = &message[24..];
        if command.kind() == Kind::Bitcoin {
            let mut longer = payload.to_vec();
            longer.push(1);
            assert!(framed(command, &longer).is_err(), "{command:?}");
            // The relay flag at the end of a version is optional.
            let shorter = payload.split_last().filter(|_| command != Command::Version);
            if let Some((_, shorter)) = shorter {
                assert!(framed(command, shorter).is_err(), "{command:?}");
            }
        }
    }
}

#[test]
fn magic_and_command_alone_are_not_bitcoin() {
    for (_, message) in good_messages() {
        for cut in [1, 4, 16, 20, 23] {
            assert_eq!(engine().detect_protocol(&message[..cut]), DetectedProtocol::Unknown);
        }
        let mut padded = message[..16].to_vec();
        padded.resize(64, 0);
        assert_eq!(engine().detect_protocol(&padded), DetectedProtocol::Unknown);
    }
}

#[test]
fn messages_may_follow_each_other_on_one_network() {
    let ping = good_message(Command::Ping);
    let verack = good_message(Command::Verack);
    let governance = good_message(Command::BanList);
    let together = [ping.clone(), verack.clone(), ping.clone()].concat();
    assert_eq!(explain(&together), Ok(DetectedProtocol::BitcoinP2P));
    for mixed in [[ping.clone(), governance.clone()], [governance, ping.clone()]] {
        assert_eq!(explain(&mixed.concat()), Ok(DetectedProtocol::CommonsGovernance));
    }
    let foreign = frame(Network::Signet, b"ping", &[0; 8]);
    let (first, found) = (Network::Regtest, Network::Signet);
    assert_eq!(
        explain(&[ping.clone(), foreign].concat()),
        Err(Reason::MixedNetworks { first, found }.at(32))
    );
    assert_eq!(
        explain(&[&ping[..], b"anything else, but long enough"].concat()),
        Err(Reason::NotAMessage.at(32))
    );
}

#[test]
fn one_network_only_where_configured() {
    let mut config = PolicyConfig::new(MeshMode::BitcoinOnly, Network::Regtest);
    config.own_network_only = true;
    let engine = RoutingPolicyEngine::new(config);
    assert!(engine.explain(&good_message(Command::Ping)).is_ok());
    let (found, allowed) = (Network::Mainnet, Network::Regtest);
    assert_eq!(
        engine.explain(&bytes(TX_MESSAGE)),
        Err(Reason::OtherNetwork { found, allowed }.at(0))
    );
}

#[test]
fn mesh_packets_are_not_bitcoin_inside_or_outside_of_a_message() {
    assert_eq!(explain(b"MESH"), Ok(DetectedProtocol::MeshPacket));
    assert_eq!(explain(b"MESHanything"), Ok(DetectedProtocol::MeshPacket));
    assert_eq!(explain(b"MES"), Err(Reason::NoKnownProtocol.at(0)));
    assert_eq!(explain(&frame(Network::Mainnet, b"mesh", b"MESH")), Err(Reason::MeshCommand.at(4)));
    assert_eq!(explain(&[]), Err(Reason::Empty.at(0)));
}

#[test]
fn a_reason_is_a_sentence_with_its_place() {
    use std::string::ToString;
    let mut message = good_message(Command::Ping);
    message[16] = 9;
    assert_eq!(
        explain(&message).unwrap_err().to_string(),
        "byte 16: a payload of 9 bytes is outside of 0 to 8 for this command"
    );
    assert_eq!(
        explain(b"GET / HTTP/1.1").unwrap_err().to_string(),
        "byte 0: no network magic, no mesh magic and no Stratum V2 extension type stands here"
    );
}

#[test]
fn counts_and_lengths_are_bounded_and_canonical() {
    let many = |count: u16, each: &[u8]| {
        let mut payload = std::vec![0xfd];
        payload.extend(count.to_le_bytes());
        payload.extend(each.repeat(count.into()));
        payload
    };
    let item = [&[1, 0, 0, 0][..], &[7; 32]].concat();
    assert!(framed(Command::Inv, &many(50_000, &item)).is_ok());
    let length = framed(Command::Inv, &many(50_001, &item)).unwrap_err();
    assert!(matches!(length.reason, Reason::PayloadLength { .. }));
    assert!(framed(Command::Addr, &many(1_000, &[7; 30])).is_ok());
    assert!(framed(Command::Addr, &many(1_001, &[7; 30])).is_err());
    let mut locators = [&[1, 0, 0, 0, 102][..], &[7; 102 * 32 + 32]].concat();
    assert!(framed(Command::GetHeaders, &locators).is_err());
    locators.truncate(locators.len() - 32);
    locators[4] = 101;
    assert!(framed(Command::GetHeaders, &locators).is_ok());

    // The same count in three bytes.
    let long = [&[0xfd, 1, 0][..], &item].concat();
    assert_eq!(framed(Command::Inv, &long), Err(Reason::NonCanonicalSize.at(24)));
    let more = [&[2][..], &item].concat();
    assert_eq!(framed(Command::Inv, &more), Err(Reason::FieldTruncated.at(25)));
    let less = [&[0][..], &item].concat();
    assert_eq!(framed(Command::Inv, &less), Err(Reason::TrailingBytes.at(25)));
    let over = [&[0xfe, 1, 0, 1, 0][..], &item].concat();
    let (count, limit) = (65_537, 50_000);
    assert_eq!(framed(Command::Inv, &over), Err(Reason::TooMany { count, limit }.at(24)));
}

#[test]
fn fields_have_known_values() {
    let value = |command, payload: &[u8]| match framed(command, payload) {
        Err(Unrecognised { reason: Reason::Value(_), .. }) => {}
        other => panic!("{command:?}: {other:?}"),
    };
    value(Command::SendCmpct, &[2, 2, 0, 0, 0, 0, 0, 0, 0]);
    value(Command::SendTxRcncl, &[0; 12]);
    value(Command::GetCFCheckpt, &[1; 33]);
    value(Command::FilterLoad, &[0, 51, 0, 0, 0, 0, 0, 0, 0, 0]);
    // IPv4 has four bytes.
    value(Command::AddrV2, &[1, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0, 0]);
    value(Command::Reject, b"\x06verac\n\x02\x00");
    value(Command::Reject, b"\x06verack\x01\x01\n");
    value(Command::Feature, b"\x03abc\x01x");
    // Whoever has the published key can sign another alert.
    for at in 0..168 {
        let mut alert = bytes(FINAL_ALERT);
        alert[at] ^= 1;
        value(Command::Alert, &alert);
    }
    // The number of elements does not fit the filter's length.
    let mut filter = [&[0; 33][..], &[35], &bytes(LEGACY_FILTER)].concat();
    assert_eq!(filter.len(), 33 + 1 + 35);
    assert!(framed(Command::CFilter, &filter).is_ok());
    filter[34] += 1;
    value(Command::CFilter, &filter);
    filter[34] -= 2;
    value(Command::CFilter, &filter);
}

/// What nodes of today ignore may be of nodes to come: it goes through, within bounds.
#[test]
fn what_nodes_ignore_goes_through() {
    let good = |command, payload: &[u8]| {
        assert_eq!(framed(command, payload), Ok(DetectedProtocol::BitcoinP2P), "{command:?}");
    };
    let bad = |command, payload: &[u8]| framed(command, payload).unwrap_err().reason;
    for kind in [0u32, 1, 4, 6, 0x4000_0004, u32::MAX] {
        let payload = [&[1][..], &kind.to_le_bytes(), &[7; 32]].concat();
        for command in [Command::Inv, Command::GetData, Command::NotFound] {
            good(command, &payload);
        }
    }
    good(Command::FeeFilter, &u64::MAX.to_le_bytes());
    good(Command::FilterLoad, &[0, 50, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    for version in [0u64, 1, 2, 3, u64::MAX] {
        for flag in [0, 1] {
            good(Command::SendCmpct, &[&[flag][..], &version.to_le_bytes()].concat());
        }
    }
    // BIP 31.
    for command in [Command::Ping, Command::Pong] {
        good(command, &[]);
        good(command, &[7; 8]);
        for length in 1..8 {
            assert_eq!(bad(command, &[7; 8][..length]), Reason::FieldTruncated);
        }
    }
    // BIP 155: networks that are not known, up to 512 bytes of address.
    let address = |network: u8, length: u16| {
        let size = match length {
            0..0xfd => std::vec![length as u8],
            _ => [&[0xfd][..], &length.to_le_bytes()].concat(),
        };
        let entry =
            [&[7; 4][..], &[9, network], &size, &std::vec![7; length.into()], &[0x20, 0x8d]];
        [&[2][..], &entry.concat(), &[7, 7, 7, 7, 9, 1, 4, 10, 0, 0, 1, 0x20, 0x8d]].concat()
    };
    for network in core::iter::once(0).chain(8..=255) {
        for length in [0, 1, 4, 252, 253, 512] {
            good(Command::AddrV2, &address(network, length));
        }
        let (length, limit) = (513, 512);
        assert_eq!(bad(Command::AddrV2, &address(network, 513)), Reason::TooLong { length, limit });
    }
    for (network, length) in [(1, 4), (2, 16), (3, 10), (4, 32), (5, 32), (6, 16), (7, 16)] {
        good(Command::AddrV2, &address(network, length));
        for other in [0, length - 1, length + 1, 253, 512] {
            let reason = Reason::Value("address's length");
            assert_eq!(bad(Command::AddrV2, &address(network, other)), reason);
        }
    }
    let longest = address(8, 512);
    let most = [&[0xfd, 0xe8, 3][..], &longest[1..524].repeat(1_000)].concat();
    good(Command::AddrV2, &most);
    // BIP 61: bcoin's code 0, and commands and codes to come.
    for payload in [&b"\x06verack\0\x02no"[..], b"\x07unknown\x4f\0", b"\0\x01\0"] {
        good(Command::Reject, payload);
        good(Command::Reject, &[payload, &[7; 32]].concat());
        assert_eq!(bad(Command::Reject, &[payload, &[7; 31]].concat()), Reason::FieldTruncated);
        assert_eq!(bad(Command::Reject, &[payload, &[7; 33]].concat()), Reason::TrailingBytes);
    }
    // A version message of before each of its later fields.
    let version = bytes(VERSION_MESSAGE)[24..].to_vec();
    let text = 80 + 1 + usize::from(version[80]);
    for end in 0..version.len() {
        let whole = [46, 80, text, version.len()].contains(&end);
        assert_eq!(framed(Command::Version, &version[..end]).is_ok(), whole, "{end}");
    }
    // BIP 434.
    let feature = |id: u8, data: u16| {
        let data = [&[0xfd][..], &data.to_le_bytes(), &std::vec![7; data.into()]].concat();
        [&[id][..], &std::vec![b'x'; id.into()], &data].concat()
    };
    good(Command::Feature, b"\x04demo\0");
    good(Command::Feature, &feature(80, 512));
    assert_eq!(bad(Command::Feature, &feature(81, 511)), Reason::TooLong { length: 81, limit: 80 });
    assert_eq!(
        bad(Command::Feature, &feature(79, 513)),
        Reason::TooLong { length: 513, limit: 512 }
    );
}

/// Recorded from Bitcoin Core 28 (regtest).
#[test]
fn messages_of_a_real_node_are_free() {
    for name in ["alert", "ping-empty", "pong-empty", "tx-coinbase"] {
        let file = std::format!("vectors/found/{name}.hex");
        let Some(text) = crate::test_shared::read(&file) else { continue };
        assert_eq!(explain(&bytes(text.trim())), Ok(DetectedProtocol::BitcoinP2P), "{name}");
    }
}

fn any_good() -> impl Strategy<Value = (Command, Vec<u8>)> {
    let good: Vec<_> =
        good_messages().into_iter().filter(|(c, _)| c.kind() == Kind::Bitcoin).collect();
    prop::sample::select(good)
}

proptest! {
    #[test]
    fn a_changed_byte_is_not_free((_, message) in any_good(), at: prop::sample::Index, to: u8) {
        let mut changed = message.clone();
        changed[at.index(message.len())] = to;
        // Every byte is under the checksum or is checked, and no two commands
        // of like structure differ in one letter, but ping and pong.
        let same = changed == message;
        let swapped = matches!((&message[4..8], &changed[4..8]), (b"ping", b"pong") | (b"pong", b"ping"));
        prop_assert_eq!(is_free_bitcoin(&changed), same || swapped);
    }

    #[test]
    fn addresses_may_come_in_any_order(
        entries in prop::collection::vec((0usize..9, any::<u64>(), 0u32..64), 1..40),
        at: prop::sample::Index,
    ) {
        use bitcoin::p2p::{ServiceFlags, address::{AddrV2, AddrV2Message}};
        // IPv4 with few services is what most entries are.
        let address = |kind| match kind {
            0 => AddrV2::Ipv6("2001:db8::1".parse().unwrap()),
            1 => AddrV2::TorV2([7; 10]),
            2 => AddrV2::TorV3([8; 32]),
            3 => AddrV2::I2p([9; 32]),
            4 => AddrV2::Cjdns("fc00::2".parse().unwrap()),
            _ => AddrV2::Ipv4([10, 1, 2, 3].into()),
        };
        let entries: Vec<_> = entries.iter().map(|&(kind, services, shift)| {
            let services = ServiceFlags::from(services >> shift);
            let entry = AddrV2Message { time: 7, services, addr: address(kind), port: 8333 };
            bitcoin::consensus::serialize(&entry)
        }).collect();
        let payload = |count: usize| [&[count as u8][..], &entries.concat()].concat();
        prop_assert!(framed(Command::AddrV2, &payload(entries.len())).is_ok());
        let end = 24 + payload(0).len();
        let expected = Err(Reason::FieldTruncated.at(end));
        prop_assert_eq!(framed(Command::AddrV2, &payload(entries.len() + 1)), expected);
        // Where the entries do not end with the payload, or one is not of its network's length.
        prop_assert!(framed(Command::AddrV2, &payload(entries.len() - 1)).is_err());
        let at = at.index(entries.len());
        let mut broken = payload(entries.len());
        let services = bitcoin::consensus::deserialize_partial::<bitcoin::VarInt>(&entries[at][4..]);
        let network = 1 + entries[..at].concat().len() + 4 + services.unwrap().1;
        // Tor v2 has 10 bytes, which only itself has.
        broken[network] = if broken[network] == 3 { 1 } else { 3 };
        let expected = Err(Reason::Value("address's length").at(24 + network + 1));
        prop_assert_eq!(framed(Command::AddrV2, &broken), expected);
    }

    #[test]
    fn no_prefix_is_free((_, message) in any_good(), at: prop::sample::Index) {
        prop_assert!(!is_free_bitcoin(&message[..at.index(message.len())]));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        engine().detect_protocol(&bytes);
    }

    #[test]
    fn no_payload_panics(
        (command, good) in any_good(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut: prop::sample::Index,
        random in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut payload = good[24..].to_vec();
        for (at, to) in edits {
            if !payload.is_empty() {
                let at = at.index(payload.len());
                payload[at] = to;
            }
        }
        let _ = framed(command, &payload);
        let end = cut.index(payload.len() + 1);
        let _ = framed(command, &payload[..end]);
        let _ = framed(command, &random);
    }
}
