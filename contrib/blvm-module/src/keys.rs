//! This node's key, as links need it.

use blvm_mesh_core::link::datagram::Keys;
use blvm_mesh_core::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use std::time::Duration;

/// The node's key, and a fresh one for each handshake.
pub struct ModuleKeys {
    local: Keypair,
    secp: Secp256k1<All>,
}

impl ModuleKeys {
    /// With this key.
    pub fn new(key: &SecretKey) -> Self {
        let secp = Secp256k1::new();
        Self { local: Keypair::from_secret_key(&secp, key), secp }
    }
}

impl Keys for ModuleKeys {
    fn local(&self) -> &Keypair {
        &self.local
    }

    fn ephemeral(&mut self) -> Keypair {
        loop {
            let mut bytes = [0; 32];
            // The system had random bytes when the node started. Without them it is best to wait:
            // any other key would expose the link.
            if getrandom::fill(&mut bytes).is_ok()
                && let Ok(pair) = Keypair::from_seckey_byte_array(&self.secp, bytes)
            {
                return pair;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
