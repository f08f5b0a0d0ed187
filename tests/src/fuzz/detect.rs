//! What goes free as Bitcoin is Bitcoin: the `bitcoin` crate reads it too, and
//! writes it the same.

use bitcoin::block::Header;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, sha256d};
use bitcoin::p2p::message::RawNetworkMessage;
use bitcoin::{Block, BlockHash};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{
    DetectedProtocol, FreeCost, MeshMode, PolicyConfig, RoutingPolicyEngine, Unrecognised,
};

/// Bytes of a message's header.
const HEADER_LEN: usize = 24;
/// Bytes of a block's header.
const BLOCK_HEADER_LEN: usize = 80;
/// Bytes of the fields that no version message is without.
const VERSION_START: usize = 46;
/// Where the length of the user agent is in a version message.
const USER_AGENT: usize = 80;
/// `nBits` of the easiest target on regtest.
const REGTEST_BITS: u32 = 0x207f_ffff;

/// A payload as it is, and with lengths, work, roots and checksums put right.
pub fn target(data: &[u8]) -> bool {
    let mut fixed = data.to_vec();
    put_right(&mut fixed);
    let taken = payload(data);
    payload(&fixed) | taken
}

fn explain(
    bytes: &[u8],
    network: Network,
    own_network_only: bool,
) -> Result<DetectedProtocol, Unrecognised> {
    let config = PolicyConfig::new(MeshMode::PaymentGated, network);
    let answer =
        RoutingPolicyEngine::new(PolicyConfig { own_network_only, ..config }).explain(bytes);
    if let Err(why) = &answer {
        assert!(why.at <= bytes.len() && !why.to_string().is_empty(), "{why}");
    }
    answer
}

fn payload(bytes: &[u8]) -> bool {
    let answer = explain(bytes, Network::Mainnet, false);
    assert_eq!(bytes.starts_with(b"MESH"), answer == Ok(DetectedProtocol::MeshPacket));
    let magic = bytes.first_chunk::<4>();
    for network in Network::ALL {
        let own = explain(bytes, network, true);
        let its = magic == Some(&network.magic());
        let foreign = !its && Network::ALL.iter().any(|n| magic == Some(&n.magic()));
        assert_eq!(own.is_ok(), answer.is_ok() && !foreign, "{network:?}");
    }
    let Ok(protocol @ (DetectedProtocol::BitcoinP2P | DetectedProtocol::CommonsGovernance)) =
        answer
    else {
        return answer.is_ok();
    };
    let mut governance = false;
    // The bytes by class, at a node of each network: message by message.
    let engines = Network::ALL.map(|network| {
        RoutingPolicyEngine::new(PolicyConfig::new(MeshMode::PaymentGated, network))
    });
    let mut sums = engines.map(|_| FreeCost::default());
    let (mut rest, mut start) = (bytes, 0);
    while !rest.is_empty() {
        let len = HEADER_LEN + length(rest).expect("whole messages");
        let (message, after) = rest.split_at(len);
        governance |= !decodes(message);
        assert!(explain(message, Network::Mainnet, false).is_ok(), "each alone");
        for (engine, sum) in engines.iter().zip(&mut sums) {
            let FreeCost { worked, plain, rare } = engine.classified(message).cost;
            assert_eq!([worked, plain, rare].iter().filter(|n| **n == len).count(), 1);
            let named = matches!(command(message), "headers" | "block" | "merkleblock");
            assert!(worked == 0 || named, "{}", command(message));
            *sum = FreeCost {
                worked: sum.worked + worked,
                plain: sum.plain + plain,
                rare: sum.rare + rare,
            };
        }
        (rest, start) = (after, start + len);
    }
    assert_eq!(start, bytes.len());
    for (engine, sum) in engines.iter().zip(sums) {
        assert_eq!(engine.classified(bytes).cost, sum);
        assert_eq!(sum.total(), bytes.len());
    }
    assert_eq!(governance, protocol == DetectedProtocol::CommonsGovernance);
    true
}

fn length(message: &[u8]) -> Option<usize> {
    let field = message.get(16..20)?;
    Some(u32::from_le_bytes(field.try_into().ok()?) as usize)
}

fn command(message: &[u8]) -> &str {
    let name = message.get(4..16).unwrap_or_default();
    str::from_utf8(name).unwrap_or_default().trim_end_matches('\0')
}

/// Whether it is a message of Bitcoin; panics where the crate reads another.
fn decodes(message: &[u8]) -> bool {
    let name = command(message);
    let mut body = message[HEADER_LEN..].to_vec();
    match name {
        "banlist" | "getbanlist" | "econreg" | "econveto" | "econstatus" | "econfork" => {
            return false;
        }
        // The crate has an alert without its signature, and only one form of pings.
        "alert" => return true,
        "ping" | "pong" if body.is_empty() => return true,
        // The crate asks for what older nodes leave out: the relay flag (BIP 37) and more
        // before it; and for UTF-8 in the user agent.
        "version" => {
            if body.len() == VERSION_START {
                body.resize(USER_AGENT, 0);
            }
            if body.len() == USER_AGENT {
                body.push(0);
            }
            let (start, len) = match body[USER_AGENT] {
                0xfd => {
                    let len = [body[USER_AGENT + 1], body[USER_AGENT + 2]];
                    (USER_AGENT + 3, usize::from(u16::from_le_bytes(len)))
                }
                len => (USER_AGENT + 1, usize::from(len)),
            };
            body[start..start + len].fill(b'a');
            if body.len() == start + len {
                body.extend([0; 4]);
            }
            if body.len() == start + len + 4 {
                body.push(1);
            }
        }
        // It asks for a known code and for a hash in every reject (BIP 61).
        "reject" => {
            let code = 1 + usize::from(body[0]);
            let end = code + 2 + usize::from(body[code + 1]);
            body[code] = 0x10;
            if body.len() == end {
                body.extend([0; 32]);
            }
        }
        // It refuses a rate that is out of range, which nodes ignore.
        "feefilter" => body[6..].fill(0),
        // It knows the flags of today only.
        "filterload" => body.last_mut().into_iter().for_each(|flags| *flags = 0),
        _ => {}
    }
    assert!(deserialize_body(&body, message), "{name} does not decode, or is another");
    true
}

/// Whether the crate reads a message with this body and writes it the same.
fn deserialize_body(body: &[u8], message: &[u8]) -> bool {
    let mut message = message[..HEADER_LEN].to_vec();
    message.extend(body);
    sum(&mut message);
    let decoded = deserialize::<RawNetworkMessage>(&message);
    decoded.is_ok_and(|m| serialize(&m) == message)
}

fn sum(message: &mut [u8]) {
    let len = (message.len() - HEADER_LEN) as u32;
    message[16..20].copy_from_slice(&len.to_le_bytes());
    let sum = sha256d::Hash::hash(&message[HEADER_LEN..]).to_byte_array();
    message[20..24].copy_from_slice(&sum[..4]);
}

/// Puts the messages' derived fields right, as far as their lengths lead.
fn put_right(bytes: &mut [u8]) {
    let mut at = 0;
    while bytes.len() - at >= HEADER_LEN {
        let rest = &mut bytes[at..];
        let len = HEADER_LEN.saturating_add(length(rest).unwrap_or_default()).min(rest.len());
        let message = &mut rest[..len];
        let name = command(message).to_owned();
        let body = &mut message[HEADER_LEN..];
        match &*name {
            "block" => put_block_right(body),
            "cmpctblock" | "merkleblock" => mine(body),
            "headers" => {
                let mut previous = BlockHash::all_zeros();
                for entry in body.get_mut(1..).unwrap_or_default().chunks_mut(81) {
                    if previous != BlockHash::all_zeros() && entry.len() > BLOCK_HEADER_LEN {
                        entry[4..36].copy_from_slice(previous.as_ref());
                    }
                    mine(entry);
                    let header = entry.get(..BLOCK_HEADER_LEN).unwrap_or_default();
                    previous = BlockHash::from_raw_hash(sha256d::Hash::hash(header));
                }
            }
            _ => {}
        }
        sum(message);
        at += len;
    }
}

fn put_block_right(body: &mut [u8]) {
    if let Ok(block) = deserialize::<Block>(body) {
        let root = block.compute_merkle_root().map(|root| root.to_byte_array());
        body[36..68].copy_from_slice(&root.unwrap_or_default());
    }
    mine(body);
}

/// Finds a nonce for a header of regtest, where there is one among a few.
fn mine(body: &mut [u8]) {
    let Some(bytes) = body.get_mut(..BLOCK_HEADER_LEN) else { return };
    let Ok(mut header) = deserialize::<Header>(bytes) else { return };
    if header.bits.to_consensus() != REGTEST_BITS {
        return;
    }
    for _ in 0..32 {
        if header.validate_pow(header.target()).is_ok() {
            break;
        }
        header.nonce = header.nonce.wrapping_add(1);
    }
    bytes.copy_from_slice(&serialize(&header));
}
