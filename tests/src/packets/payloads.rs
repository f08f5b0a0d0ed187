//! Payloads: Bitcoin messages that go free, and others that do not.

use bitcoin::hashes::{Hash, sha256d};
use blvm_mesh_core::id::Network;

/// A Bitcoin P2P message with the right checksum.
pub fn bitcoin_message(network: Network, command: &str, body: &[u8]) -> Vec<u8> {
    let mut out = network.magic().to_vec();
    let mut name = [0; 12];
    name[..command.len()].copy_from_slice(command.as_bytes());
    out.extend(name);
    out.extend((body.len() as u32).to_le_bytes());
    out.extend(&sha256d::Hash::hash(body).to_byte_array()[..4]);
    out.extend(body);
    out
}

/// A ping with this nonce: 32 bytes.
pub fn ping(nonce: u64) -> Vec<u8> {
    bitcoin_message(Network::Regtest, "ping", &nonce.to_le_bytes())
}

/// A `version` message of regtest of so many bytes: its user agent fills it.
pub fn version_message(size: usize) -> Vec<u8> {
    let agent = size - 24 - 86;
    let mut body = 70_016u32.to_le_bytes().to_vec();
    body.resize(80, 0);
    body.push(agent as u8);
    body.resize(81 + agent, b'a');
    body.extend([0, 0, 0, 0, 1]);
    bitcoin_message(Network::Regtest, "version", &body)
}
