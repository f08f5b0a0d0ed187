//! Who this node is.

use crate::private_file::{self, PrivateFileError, directory, sync_dir};
use blvm_mesh_core::id::NodeId;
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the key's file in the data directory.
pub const KEY_FILE: &str = "identity.key";
/// Beside that file: the identity has had no store so far. Written before the key, and taken
/// away once the store is there; a key without this file and without a store has lost it.
pub const UNUSED_FILE: &str = "identity.unused";

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
    ///
    /// # Errors
    /// [`IdentityError`]: the system gives no random bytes.
    pub fn generate() -> Result<Self, IdentityError> {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(IdentityError::Random)?;
            // One number in 2^128 is not a key.
            if let Ok(secret) = SecretKey::from_byte_array(bytes) {
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
    ///
    /// # Errors
    /// [`IdentityError`]: the file cannot be read, is open to others, or holds no key.
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
    ///
    /// # Errors
    /// [`IdentityError`]: the file exists or cannot be written, or the system gives no random
    /// bytes.
    pub fn create(path: &Path) -> Result<Self, IdentityError> {
        if let Some(dir) = path.parent() {
            private_file::create_dir(dir)?;
        }
        if path.file_name().is_some_and(|name| name == KEY_FILE) && !path.exists() {
            mark_unused(directory(path)).map_err(|error| PrivateFileError::Io {
                path: directory(path).join(UNUSED_FILE),
                error,
            })?;
        }
        let identity = Self::generate()?;
        let text = format!("{}\n", hex::encode(identity.secret.secret_bytes()));
        private_file::create(path, text.as_bytes())?;
        Ok(identity)
    }

    /// Reads the key in this file, or makes it where there is none.
    ///
    /// # Errors
    /// As [`load`](Self::load) and [`create`](Self::create).
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

/// Says that the identity which is about to be made in this directory has no store yet.
fn mark_unused(dir: &Path) -> io::Result<()> {
    File::create(dir.join(UNUSED_FILE))?.sync_all()?;
    sync_dir(dir)
}

/// Whether the identity in this directory never had a store.
pub fn is_unused(dir: &Path) -> bool {
    dir.join(UNUSED_FILE).exists()
}

/// From now on a store that is not there was lost.
///
/// # Errors
/// Those of the system.
pub fn mark_used(dir: &Path) -> io::Result<()> {
    match fs::remove_file(dir.join(UNUSED_FILE)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => sync_dir(dir),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn an_identity_is_unused_until_it_is_said_to_be_used() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_unused(dir.path()), "a key that came from elsewhere may have been used");
        let path = dir.path().join(KEY_FILE);
        Identity::create(&path).unwrap();
        assert!(is_unused(dir.path()));
        mark_used(dir.path()).unwrap();
        mark_used(dir.path()).unwrap();
        Identity::create(&path).unwrap_err();
        Identity::load_or_create(&path).unwrap();
        assert!(!is_unused(dir.path()));
    }
}
