//! Which AEAD protects the frames of a stream link, and how its ends agree on it.
//!
//! Where both ends have AES in hardware they take AES-256-GCM. They agree in the acts of the
//! handshake: the initiator's version byte offers, the responder's chooses, and what stands for a
//! byte that is not 0 is mixed into the handshake hash, so that nobody in between can choose for
//! them. With 0 in both it is BOLT 8 to the letter.

/// What encrypts the frames of a link. The number is the version byte of the acts in which a
/// stream link's ends agree on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Suite {
    /// ChaCha20-Poly1305 (RFC 8439), as in BOLT 8.
    #[default]
    ChaCha20Poly1305 = 0,
    /// AES-256-GCM (NIST SP 800-38D). Not 1, which stands for a bad version in the test vectors
    /// of BOLT 8.
    Aes256Gcm = 2,
}

impl Suite {
    /// The suite with this number.
    pub fn from_u8(n: u8) -> Option<Self> {
        [Self::ChaCha20Poly1305, Self::Aes256Gcm].into_iter().find(|suite| *suite as u8 == n)
    }

    /// What is said beside an act that offers or chooses it.
    pub(super) fn said(self) -> &'static [u8] {
        match self {
            Self::ChaCha20Poly1305 => &[],
            Self::Aes256Gcm => b"AES-256-GCM",
        }
    }
}

/// An act with the version of BOLT 8, and the version byte that came with it.
pub(super) fn take_version<const N: usize>(act: &[u8; N]) -> ([u8; N], u8) {
    let mut act = *act;
    let version = act.first_mut().map(core::mem::take);
    (act, version.unwrap_or_default())
}
