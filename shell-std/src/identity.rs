//! Who this node is, and how other nodes are written: `PUBKEY@HOST:PORT`.

use crate::private_file::{self, PrivateFileError};
use bitcoin::secp256k1::{PublicKey, Secp256k1, SecretKey};
use blvm_mesh_core::id::NodeId;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the key's file in the data directory.
pub const KEY_FILE: &str = "identity.key";

/// A secp256k1 key pair that is kept in a file: 64 hex digits and a newline.
#[derive(Clone)]
pub struct Identity {
    secret: SecretKey,
    public: PublicKey,
}

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be used.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// The file holds something else.
    #[error(
        "{} holds no key (64 hex digits): put the right file back, or move it away to get \
         a new key on the next start",
        .0.display()
    )]
    Content(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl Identity {
    /// A new key from the system's randomness, on no disk.
    pub fn generate() -> Result<Self, IdentityError> {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
            // One number in 2^128 is not a key.
            if let Ok(secret) = SecretKey::from_slice(&bytes) {
                return Ok(Self::from_secret(secret));
            }
        }
    }

    /// The pair that belongs to a secret key.
    pub fn from_secret(secret: SecretKey) -> Self {
        let public = secret.public_key(&Secp256k1::signing_only());
        Self { secret, public }
    }

    /// Reads the key in this file.
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let bytes = private_file::read(path)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default().trim_end();
        match (text.len(), SecretKey::from_str(text)) {
            (64, Ok(secret)) => Ok(Self::from_secret(secret)),
            _ => Err(IdentityError::Content(path.into())),
        }
    }

    /// Makes a new key and writes it into a new file, with the directories that
    /// lead there.
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(dir) = path.parent() {
            private_file::create_dir(dir)?;
        }
        let identity = Self::generate()?;
        let text = format!("{}\n", hex::encode(identity.secret.secret_bytes()));
        private_file::create(path, text.as_bytes())?;
        Ok(identity)
    }

    /// Reads the key in this file, or makes it where there is none.
    pub fn load_or_create(path: &Path) -> Result<Self, IdentityError> {
        match Self::load(path) {
            Err(IdentityError::File(e)) if e.is_not_found() => {}
            other => return other,
        }
        match Self::create(path) {
            // Another process was faster.
            Err(IdentityError::File(PrivateFileError::Exists(_))) => Self::load(path),
            other => other,
        }
    }

    /// The secret key.
    pub fn secret_key(&self) -> &SecretKey {
        &self.secret
    }

    /// The public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// SHA-256 of the compressed public key.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_public_key(&self.public)
    }
}

impl fmt::Debug for Identity {
    /// Shows the public key only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public)
    }
}

/// Where a node is reached and who it must prove to be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress {
    /// Its key.
    pub public_key: PublicKey,
    /// Name, IPv4 or IPv6 address (without brackets).
    pub host: String,
    /// TCP port, not 0.
    pub port: u16,
}

impl PeerAddress {
    /// Its identity.
    pub fn node_id(&self) -> NodeId {
        NodeId::from_public_key(&self.public_key)
    }

    /// `HOST:PORT`, with brackets where the host is an IPv6 address.
    pub fn host_port(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// From a public key and `HOST:PORT`.
    pub fn from_parts(key: &str, host_port: &str) -> Result<Self, AddressError> {
        let public_key = parse_public_key(key).ok_or_else(|| AddressError::Key(short(key)))?;
        let wrong = || AddressError::HostPort(short(host_port));
        let (host, port) = host_port.rsplit_once(':').ok_or_else(wrong)?;
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        let port = port.parse::<u16>().ok().filter(|p| *p != 0 && digits).ok_or_else(wrong)?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let inner = rest.strip_suffix(']').ok_or_else(wrong)?;
                // A zone (%eth0) is the system's business.
                let ip = inner.split_once('%').map_or(inner, |(ip, _)| ip);
                ip.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                inner
            }
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        let bracketed = host_port.starts_with('[');
        if host.is_empty() || host.len() > 253 || !(bracketed || host.chars().all(plain)) {
            return Err(wrong());
        }
        Ok(Self { public_key, host: host.into(), port })
    }
}

/// A compressed public key, written as 66 hex digits.
pub fn parse_public_key(text: &str) -> Option<PublicKey> {
    (text.len() == 66).then(|| PublicKey::from_str(text).ok()).flatten()
}

/// Why text is not a [`PeerAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@`.
    #[error("\"{0}\" is not an address: write PUBKEY@HOST:PORT")]
    NoAt(String),
    /// Before the `@` stands no compressed public key.
    #[error(
        "\"{0}\" is not a compressed public key (66 hex digits, beginning with 02 or 03); \
         the other node prints its own with `blvm-mesh id`"
    )]
    Key(String),
    /// After the `@` stands no host and port.
    #[error("\"{0}\" is not HOST:PORT; an IPv6 address stands in brackets, as in [::1]:8338")]
    HostPort(String),
}

fn short(text: &str) -> String {
    text.chars().take(100).collect()
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no_at = || AddressError::NoAt(short(text));
        let (key, host_port) = text.split_once('@').ok_or_else(no_at)?;
        Self::from_parts(key, host_port)
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.public_key, self.host_port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn created_once_and_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data").join(KEY_FILE);
        let first = Identity::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        let second = Identity::load_or_create(&path).unwrap();
        assert_eq!(first.node_id(), second.node_id());
        assert!(Identity::create(&path).is_err());
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), 65);
        assert!(!format!("{first:?}").contains(text.trim()), "the secret is not printed");
        assert_ne!(Identity::generate().unwrap().node_id(), first.node_id());
    }

    #[test]
    fn the_key_of_a_known_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        private_file::create(&path, format!("{:064x}\n", 1).as_bytes()).unwrap();
        let one = Identity::load(&path).unwrap();
        assert_eq!(one.public_key().to_string(), KEY, "secret 1 belongs to the generator point");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = Identity::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_file_without_a_key_is_kept() {
        let wrong = ["", "01", &"00".repeat(32), &"ff".repeat(32), &"zz".repeat(32), KEY];
        for content in wrong {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(KEY_FILE);
            private_file::create(&path, content.as_bytes()).unwrap();
            assert!(matches!(Identity::load_or_create(&path), Err(IdentityError::Content(_))));
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn addresses_as_lightning_users_write_them() {
        for host_port in ["10.0.0.1:9735", "relay.example.org:1", "[::1]:65535", "[fe80::1%eth0]:8"]
        {
            let text = format!("{KEY}@{host_port}");
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.host_port(), host_port);
        }
        let address: PeerAddress = format!("{KEY}@[::1]:7").parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 7));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_named() {
        let at = |s: &str| format!("{KEY}@{s}").parse::<PeerAddress>().unwrap_err();
        let bad = [
            "host",
            "host:",
            "host:0",
            "host:65536",
            ":1",
            "::1:1",
            "[::1:1",
            "[x]:1",
            "[]:1",
            "a b:1",
            "host:+1",
            "a/b:1",
            "[::1]x:1",
        ];
        for host_port in bad {
            assert_eq!(at(host_port), AddressError::HostPort(host_port.into()));
        }
        assert!(matches!("host:1".parse::<PeerAddress>(), Err(AddressError::NoAt(_))));
        let id = "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554";
        let error = format!("{id}@host:1").parse::<PeerAddress>().unwrap_err();
        assert!(error.to_string().contains("blvm-mesh id"), "{error}");
    }

    proptest! {
        #[test]
        fn any_text(text: String, host_port in "[\\[\\]:.%a-f0-9]{0,20}") {
            let _ = text.parse::<PeerAddress>();
            if let Ok(address) = PeerAddress::from_parts(KEY, &host_port) {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
