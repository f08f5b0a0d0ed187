//! Why a Lightning node gave no answer.

use std::path::{Path, PathBuf};

/// Most characters of a backend's own message that are shown.
const MOST_SHOWN: usize = 200;

/// Why a Lightning node gave no answer. None of them holds a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A file that is needed to be let in cannot be used.
    #[error("cannot use {key} {path}: {reason}", path = .path.display())]
    File {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No connection, so nothing was asked.
    #[error("there is no connection: {0}; does the Lightning node run, and is {1} right?")]
    Unreachable(String, &'static str),
    /// It shows another certificate, so nothing was asked.
    #[error(
        "its certificate is not trusted ({0}): let lightning.certificate_file name the tls.cert \
         that it has now"
    )]
    Certificate(String),
    /// It does not let this node in, so nothing was done.
    #[error("it refuses the credentials ({0}): make new ones for {1}; they may have expired")]
    Unauthorized(String, &'static str),
    /// The connection ended after the question; what was asked for may have been done.
    #[error("the connection ended without an answer: {0}")]
    Cut(String),
    /// No answer in time; what was asked for may have been done.
    #[error("it did not answer in time; is it busy, or lightning.timeout_ms too short?")]
    Timeout,
    /// An HTTP status with nothing that the backend says.
    #[error("it answers with HTTP status {0}; is {1} right, and no other server?")]
    Status(u16, &'static str),
    /// The answer is not what was asked for.
    #[error("its answer cannot be read: {0}")]
    Answer(String),
    /// The backend's own error to this call.
    #[error("it says: {0}")]
    Refused(String),
    /// It cannot do what is asked.
    #[error("{0}")]
    Unable(String),
}

impl Error {
    /// Whether what was asked for was certainly not begun.
    pub fn is_before_the_call(&self) -> bool {
        match self {
            Self::File { .. }
            | Self::Unreachable(..)
            | Self::Certificate(_)
            | Self::Unauthorized(..)
            | Self::Unable(_) => true,
            Self::Cut(_)
            | Self::Timeout
            | Self::Status(..)
            | Self::Answer(_)
            | Self::Refused(_) => false,
        }
    }

    pub(super) fn file(key: &'static str, path: &Path, reason: impl ToString) -> Self {
        Self::File { key, path: path.into(), reason: reason.to_string() }
    }

    /// What the backend says, cut where it is long, without what a terminal would carry out.
    pub(super) fn refused(message: &str) -> Self {
        Self::Refused(shown(message))
    }
}

/// A text of the other end, fit to be printed.
pub(super) fn shown(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(MOST_SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_told_from_what_was_not() {
        let before = [
            Error::file("lightning.macaroon_file", Path::new("/x"), "no such file"),
            Error::Unreachable("refused".into(), "lightning.url"),
            Error::Certificate("another".into()),
            Error::Unauthorized("expired".into(), "lightning.macaroon_file"),
            Error::Unable("no".into()),
        ];
        assert!(before.iter().all(Error::is_before_the_call));
        let after = [
            Error::Cut(String::new()),
            Error::Timeout,
            Error::Status(502, "lightning.url"),
            Error::Answer(String::new()),
            Error::refused("x"),
        ];
        assert!(!after.iter().any(Error::is_before_the_call));
    }

    #[test]
    fn what_the_other_end_says_is_short_and_harmless() {
        let Error::Refused(text) = Error::refused(&format!("\x1b[2J{}\n", "x".repeat(1_000)))
        else {
            unreachable!()
        };
        assert_eq!(text, format!("[2J{}", "x".repeat(197)));
    }
}
