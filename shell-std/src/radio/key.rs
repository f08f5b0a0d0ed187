//! The key of a radio channel, which says that a frame is of this mesh.

use crate::private_file::{self, PrivateFileError};
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::link::channel::frame::KEY_LEN;
use std::fmt;
use std::path::Path;

/// What stands before a passphrase when a key is made of it.
const LABEL: &[u8] = b"blvm-mesh/channel";

/// The key of a channel. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ChannelKey([u8; KEY_LEN]);

/// Why a file holds no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read, or others can.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds no passphrase.
    #[error(
        "{0} holds no passphrase: write one line of at least 12 characters into it, the same for \
         all nodes of the channel"
    )]
    Passphrase(String),
}

impl ChannelKey {
    /// The key that everybody knows: with it nodes find each other that were told of no key.
    pub fn public(network: Network) -> Self {
        Self::of_passphrase(network, "")
    }

    /// The key made of a passphrase: SHA-256 of a label, the network's name, and it, with a zero byte
    /// between each.
    pub fn of_passphrase(network: Network, passphrase: &str) -> Self {
        let parts = [LABEL, network.name().as_bytes(), passphrase.as_bytes()];
        Self(sha256::Hash::hash(&parts.join(&0)).to_byte_array())
    }

    /// The key made of the first line of a file that nobody else may read.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn of_file(network: Network, path: &Path) -> Result<Self, KeyError> {
        let bytes = private_file::read(path)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default().trim();
        match line.chars().count() >= 12 {
            true => Ok(Self::of_passphrase(network, line)),
            false => Err(KeyError::Passphrase(path.display().to_string())),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; KEY_LEN] {
        self.0
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_by_network_and_passphrase() {
        let public = ChannelKey::public(Network::Mainnet);
        assert_eq!(
            hex::encode(public.bytes()),
            hex::encode(sha256::Hash::hash(b"blvm-mesh/channel\0mainnet\0").to_byte_array())
        );
        assert_ne!(public, ChannelKey::public(Network::Regtest));
        assert_ne!(public, ChannelKey::of_passphrase(Network::Mainnet, "correct horse"));
        assert_eq!(format!("{public:?}"), "ChannelKey(..)");
    }

    #[test]
    fn a_file_must_be_private_and_hold_a_passphrase() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("channel.key");
        let of = |path: &Path| ChannelKey::of_file(Network::Regtest, path);
        assert!(matches!(of(&path), Err(KeyError::File(_))));
        private_file::create(&path, b"too short\n").unwrap();
        let error = of(&path).unwrap_err().to_string();
        assert!(error.contains("at least 12 characters"), "{error}");
        let path = dir.path().join("other.key");
        private_file::create(&path, b"  correct horse battery \nsecond line").unwrap();
        let expected = ChannelKey::of_passphrase(Network::Regtest, "correct horse battery");
        assert_eq!(of(&path).unwrap(), expected);
    }
}
