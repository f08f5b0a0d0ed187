//! This node's key, as handshakes need it.

use crate::metrics::Histogram;
use blvm_mesh_core::link::datagram::Keys;
use secp256k1::{All, Keypair, Secp256k1, SecretKey};
use smol::lock::Semaphore;
use std::sync::Arc;
use std::time::Duration;

/// This node's key, as links need it.
pub(crate) struct LinkKey {
    pub(super) keypair: Keypair,
    secp: Secp256k1<All>,
    /// How long a handshake may take.
    pub(super) timeout: Duration,
    /// Handshakes compute signatures' worth of work: so many at once, at most.
    pub(super) computing: Semaphore,
    /// How long that takes.
    pub(crate) computed: Arc<Histogram>,
}

impl LinkKey {
    pub(crate) fn new(key: &SecretKey, timeout: Duration) -> Self {
        let secp = Secp256k1::new();
        let keypair = Keypair::from_secret_key(&secp, key);
        Self { keypair, secp, timeout, computing: Semaphore::new(4), computed: Arc::default() }
    }

    /// A fresh key for one handshake.
    pub(super) fn ephemeral(&self) -> Result<Keypair, getrandom::Error> {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes)?;
            // All but one in 2^128 draws are keys.
            if let Ok(pair) = Keypair::from_seckey_byte_array(&self.secp, bytes) {
                return Ok(pair);
            }
        }
    }
}

/// The node's key, and a fresh one for each handshake over a line or a radio.
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
