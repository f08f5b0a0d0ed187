//! This node's keys, as handshakes on a line need them.

use super::super::LinkKey;
use blvm_mesh_core::link::datagram::Keys;
use secp256k1::Keypair;
use std::sync::Arc;
use std::time::Duration;

/// The node's key, and a fresh one for each handshake.
pub(super) struct LineKeys(pub(super) Arc<LinkKey>);

impl Keys for LineKeys {
    fn local(&self) -> &Keypair {
        &self.0.keypair
    }

    fn ephemeral(&mut self) -> Keypair {
        loop {
            // The system had random bytes when the node started. Without them it is best to wait:
            // any other key would expose the link.
            if let Ok(pair) = self.0.ephemeral() {
                return pair;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
