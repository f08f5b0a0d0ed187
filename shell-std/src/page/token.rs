//! The file with the page's token.

use crate::private_file::{self, PrivateFileError};
use blvm_mesh_page::Token;
use std::path::{Path, PathBuf};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error(
        "{path} does not hold a token (64 hex digits): move it away to get a new one on the next \
         start",
        path = .0.display()
    )]
    Content(PathBuf),
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

/// Reads the token, or makes one where there is none, which only the file's owner can read.
///
/// # Errors
/// [`TokenError`]: the file cannot be used, is open to others, or holds no token.
pub fn token(path: &Path) -> Result<Token, TokenError> {
    match private_file::read(path) {
        Ok(bytes) => {
            let token = std::str::from_utf8(&bytes).ok().and_then(Token::read);
            token.ok_or_else(|| TokenError::Content(path.into()))
        }
        Err(e) if e.is_not_found() => {
            let token = Token::new().map_err(TokenError::Random)?;
            private_file::create(path, format!("{}\n", token.reveal()).as_bytes())?;
            Ok(token)
        }
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("page.token");
        let made = token(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(token(&path).unwrap(), made);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let open = token(&path).unwrap_err().to_string();
        assert!(open.contains("chmod 600"), "{open}");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        for other in [&b"secret"[..], b"", &[0xff; 64]] {
            std::fs::write(&path, other).unwrap();
            assert!(matches!(token(&path), Err(TokenError::Content(_))), "{other:?}");
        }
    }
}
