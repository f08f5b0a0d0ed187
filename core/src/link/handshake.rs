//! The authenticated key agreement of BOLT 8:
//! `Noise_XK_secp256k1_ChaChaPoly_SHA256`, three acts, no randomness of its own.
//!
//! Each step consumes the state before it, so an ephemeral key serves once.
//!
//! What is *said* beside an act is not secret but bound to it: the handshake fails if
//! the other side heard anything else. The initiator's words follow the prologue; the
//! responder's are mixed into the hash before its ephemeral key. Where both say
//! nothing, this is BOLT 8 to the letter.

use super::aead::{Aead, TAG_LEN};
use core::fmt;
use hkdf::Hkdf;
use secp256k1::{Keypair, PublicKey, SecretKey, ecdh::SharedSecret};
use sha2::{Digest, Sha256};

/// Bytes of Act One: version, ephemeral key, tag.
pub const ACT_ONE_LEN: usize = 50;
/// Bytes of Act Two: version, ephemeral key, tag.
pub const ACT_TWO_LEN: usize = 50;
/// Bytes of Act Three: version, encrypted static key with its tag, tag.
pub const ACT_THREE_LEN: usize = 66;

/// The only handshake version that BOLT 8 defines.
pub(crate) const VERSION: u8 = 0;
const PROTOCOL_NAME: &[u8] = b"Noise_XK_secp256k1_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"lightning";
const PUBLIC_KEY_LEN: usize = 33;

/// Why a handshake failed: the act and what was wrong with it. Whatever it is,
/// the connection must be closed (BOLT 8, "Handshake Exchange").
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum HandshakeError {
    /// `ACT1_READ_FAILED`
    #[error("peer closed before the 50 bytes of handshake act one")]
    ActOneShort,
    /// `ACT1_BAD_VERSION`
    #[error("handshake act one has version {0}, not 0")]
    ActOneVersion(u8),
    /// `ACT1_BAD_PUBKEY`
    #[error("handshake act one carries an ephemeral key that is not a point of the curve")]
    ActOneKey,
    /// `ACT1_BAD_TAG`: the initiator expects another static key than ours.
    #[error(
        "handshake act one is not authentic: the peer dialled another public key than this node's"
    )]
    ActOneTag,
    /// `ACT2_READ_FAILED`
    #[error("peer closed during the handshake; is PUBKEY right?")]
    ActTwoShort,
    /// `ACT2_BAD_VERSION`
    #[error("handshake act two has version {0}, not 0")]
    ActTwoVersion(u8),
    /// `ACT2_BAD_PUBKEY`
    #[error("handshake act two carries an ephemeral key that is not a point of the curve")]
    ActTwoKey,
    /// `ACT2_BAD_TAG`: the responder does not hold the static key that we expect.
    #[error("handshake act two is not authentic: the peer does not hold the key of PUBKEY")]
    ActTwoTag,
    /// `ACT3_READ_FAILED`
    #[error("peer closed before the 66 bytes of handshake act three")]
    ActThreeShort,
    /// `ACT3_BAD_VERSION`
    #[error("handshake act three has version {0}, not 0")]
    ActThreeVersion(u8),
    /// `ACT3_BAD_CIPHERTEXT`
    #[error("the static key in handshake act three is not authentic")]
    ActThreeCiphertext,
    /// `ACT3_BAD_PUBKEY`
    #[error("handshake act three carries a static key that is not a point of the curve")]
    ActThreeKey,
    /// `ACT3_BAD_TAG`: the initiator does not hold the static key that it sent.
    #[error("handshake act three is not authentic: the peer does not hold the key that it claims")]
    ActThreeTag,
}

/// What a finished handshake gives to the transport.
#[derive(Clone, PartialEq, Eq)]
pub struct Secrets {
    /// Encrypts what we send (`sk`).
    pub sending: [u8; 32],
    /// Decrypts what we receive (`rk`).
    pub receiving: [u8; 32],
    /// Chaining key that both directions' key rotations begin from (`ck`).
    pub chaining: [u8; 32],
}

/// Initiator that has sent Act One and awaits Act Two.
#[derive(Clone)]
pub struct Initiator {
    symmetric: Symmetric,
    local: SecretKey,
    local_public: [u8; PUBLIC_KEY_LEN],
    ephemeral: SecretKey,
}

impl Initiator {
    /// Begins a handshake with the holder of `remote`; gives Act One to send, beside
    /// which it says `said`. `ephemeral` must be fresh and random for each handshake.
    pub fn start<A: Aead>(
        local: &Keypair,
        ephemeral: &Keypair,
        remote: &PublicKey,
        said: &[u8],
    ) -> (Self, [u8; ACT_ONE_LEN]) {
        let mut symmetric = Symmetric::new(remote, said);
        let es = SharedSecret::new(remote, &ephemeral.secret_key());
        let (act, _) = symmetric.send_ephemeral::<A>(&ephemeral.public_key(), &es);
        let initiator = Self {
            symmetric,
            local: local.secret_key(),
            local_public: local.public_key().serialize(),
            ephemeral: ephemeral.secret_key(),
        };
        (initiator, act)
    }

    /// Takes Act Two, beside which the responder said `said`; gives Act Three to send
    /// and the keys of the transport.
    ///
    /// # Errors
    /// `ActTwoVersion`, `ActTwoKey`, `ActTwoTag`.
    pub fn act_two<A: Aead>(
        mut self,
        act: &[u8; ACT_TWO_LEN],
        said: &[u8],
    ) -> Result<([u8; ACT_THREE_LEN], Secrets), HandshakeError> {
        let (version, ephemeral, tag) = ephemeral_fields(act);
        if version != VERSION {
            return Err(HandshakeError::ActTwoVersion(version));
        }
        let remote = PublicKey::from_slice(ephemeral).map_err(|_| HandshakeError::ActTwoKey)?;
        let ee = SharedSecret::new(&remote, &self.ephemeral);
        self.symmetric.mix_said(said);
        let temp_k2 = self
            .symmetric
            .receive_ephemeral::<A>(ephemeral, &ee, tag)
            .ok_or(HandshakeError::ActTwoTag)?;

        let mut act = [VERSION; ACT_THREE_LEN];
        let (key, key_tag, tag) = static_fields(&mut act);
        key.copy_from_slice(&self.local_public);
        self.symmetric.seal::<A>(&temp_k2, 1, key, key_tag);
        let se = SharedSecret::new(&remote, &self.local);
        let temp_k3 = self.symmetric.mix_key(&se);
        self.symmetric.seal::<A>(&temp_k3, 0, &mut [], tag);

        let (sending, receiving) = self.symmetric.split();
        Ok((act, Secrets { sending, receiving, chaining: self.symmetric.ck }))
    }
}

/// Responder that awaits Act One.
#[derive(Clone)]
pub struct Responder {
    local: Keypair,
    ephemeral: Keypair,
}

impl Responder {
    /// A responder with its static key and an `ephemeral` key that must be fresh
    /// and random for each handshake.
    pub fn new(local: &Keypair, ephemeral: &Keypair) -> Self {
        Self { local: *local, ephemeral: *ephemeral }
    }

    /// Takes Act One, beside which the initiator said `heard`; gives Act Two to send,
    /// beside which this side says `said`.
    ///
    /// # Errors
    /// `ActOneVersion`, `ActOneKey`, `ActOneTag`.
    pub fn act_one<A: Aead>(
        self,
        act: &[u8; ACT_ONE_LEN],
        heard: &[u8],
        said: &[u8],
    ) -> Result<(AwaitingStatic, [u8; ACT_TWO_LEN]), HandshakeError> {
        let (version, ephemeral, tag) = ephemeral_fields(act);
        if version != VERSION {
            return Err(HandshakeError::ActOneVersion(version));
        }
        let remote = PublicKey::from_slice(ephemeral).map_err(|_| HandshakeError::ActOneKey)?;
        let mut symmetric = Symmetric::new(&self.local.public_key(), heard);
        let es = SharedSecret::new(&remote, &self.local.secret_key());
        symmetric.receive_ephemeral::<A>(ephemeral, &es, tag).ok_or(HandshakeError::ActOneTag)?;

        let secret = self.ephemeral.secret_key();
        let ee = SharedSecret::new(&remote, &secret);
        symmetric.mix_said(said);
        let (act, temp_k2) = symmetric.send_ephemeral::<A>(&self.ephemeral.public_key(), &ee);
        Ok((AwaitingStatic { symmetric, temp_k2, ephemeral: secret }, act))
    }
}

/// Responder that has sent Act Two and awaits Act Three.
#[derive(Clone)]
pub struct AwaitingStatic {
    symmetric: Symmetric,
    temp_k2: [u8; 32],
    ephemeral: SecretKey,
}

impl AwaitingStatic {
    /// Takes Act Three; gives the initiator's static public key, now proven, and
    /// the keys of the transport.
    ///
    /// # Errors
    /// `ActThreeVersion`, `ActThreeCiphertext`, `ActThreeKey`, `ActThreeTag`.
    pub fn act_three<A: Aead>(
        mut self,
        act: &[u8; ACT_THREE_LEN],
    ) -> Result<(PublicKey, Secrets), HandshakeError> {
        let &[version, ..] = act;
        if version != VERSION {
            return Err(HandshakeError::ActThreeVersion(version));
        }
        let mut act = *act;
        let (key, key_tag, tag) = static_fields(&mut act);
        if !self.symmetric.open::<A>(&self.temp_k2, 1, key, key_tag) {
            return Err(HandshakeError::ActThreeCiphertext);
        }
        let remote = PublicKey::from_slice(key).map_err(|_| HandshakeError::ActThreeKey)?;
        let se = SharedSecret::new(&remote, &self.ephemeral);
        let temp_k3 = self.symmetric.mix_key(&se);
        if !self.symmetric.open::<A>(&temp_k3, 0, &mut [], tag) {
            return Err(HandshakeError::ActThreeTag);
        }
        let (receiving, sending) = self.symmetric.split();
        Ok((remote, Secrets { sending, receiving, chaining: self.symmetric.ck }))
    }
}

/// BOLT 8's `HKDF(salt, ikm)`: HKDF-SHA256 (RFC 5869) with empty info, 64 bytes
/// cut in two.
pub(super) fn hkdf_two(salt: &[u8; 32], ikm: &[u8]) -> ([u8; 32], [u8; 32]) {
    let mut out = [[0; 32]; 2];
    Hkdf::<Sha256>::new(Some(salt), ikm)
        .expand(&[], out.as_flattened_mut())
        .expect("64 bytes is below the limit of 8160");
    let [first, second] = out;
    (first, second)
}

/// Noise's symmetric state: chaining key and handshake hash.
#[derive(Clone)]
pub(crate) struct Symmetric {
    ck: [u8; 32],
    h: [u8; 32],
}

impl Symmetric {
    /// BOLT 8, "Handshake State Initialization".
    fn new(responder: &PublicKey, said: &[u8]) -> Self {
        Self::of_protocol(PROTOCOL_NAME, &[PROLOGUE, said], responder)
    }

    /// A handshake by this name, of which the initiator knows the responder's key (`<- s`).
    pub(crate) fn of_protocol(name: &[u8], prologue: &[&[u8]], responder: &PublicKey) -> Self {
        let ck: [u8; 32] = Sha256::digest(name).into();
        let mut state = Self { ck, h: ck };
        state.mix_hash(prologue);
        state.mix_hash(&[&responder.serialize()]);
        state
    }

    fn mix_hash(&mut self, parts: &[&[u8]]) {
        let mut hash = Sha256::new_with_prefix(self.h);
        parts.iter().for_each(|part| hash.update(part));
        self.h = hash.finalize().into();
    }

    fn mix_said(&mut self, said: &[u8]) {
        if !said.is_empty() {
            self.mix_hash(&[said]);
        }
    }

    /// Mixes a shared secret into the chaining key; gives the temporary key.
    fn mix_key(&mut self, secret: &SharedSecret) -> [u8; 32] {
        let key;
        (self.ck, key) = hkdf_two(&self.ck, secret.as_ref());
        key
    }

    fn seal<A: Aead>(
        &mut self,
        key: &[u8; 32],
        nonce: u64,
        buf: &mut [u8],
        tag: &mut [u8; TAG_LEN],
    ) {
        A::new(key).seal(nonce, &self.h, buf, tag);
        self.mix_hash(&[buf, tag]);
    }

    /// Decrypts `buf` in place and is true if it was authentic.
    fn open<A: Aead>(
        &mut self,
        key: &[u8; 32],
        nonce: u64,
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> bool {
        let ad = self.h;
        self.mix_hash(&[buf, tag]);
        A::new(key).open(nonce, &ad, buf, tag).is_ok()
    }

    /// Acts One and Two, sending: mixes our ephemeral key and the secret that it
    /// gives, proves them; gives the act and the temporary key.
    pub(crate) fn send_ephemeral<A: Aead>(
        &mut self,
        ephemeral: &PublicKey,
        secret: &SharedSecret,
    ) -> ([u8; ACT_ONE_LEN], [u8; 32]) {
        let mut act = [VERSION; ACT_ONE_LEN];
        let (_, rest) = act.split_at_mut(1);
        let (key, tag) = rest.split_at_mut(PUBLIC_KEY_LEN);
        key.copy_from_slice(&ephemeral.serialize());
        self.mix_hash(&[key]);
        let temp_key = self.mix_key(secret);
        let mut sealed = [0; TAG_LEN];
        self.seal::<A>(&temp_key, 0, &mut [], &mut sealed);
        tag.copy_from_slice(&sealed);
        (act, temp_key)
    }

    /// Acts One and Two, receiving; gives the temporary key if the tag is right.
    pub(crate) fn receive_ephemeral<A: Aead>(
        &mut self,
        ephemeral: &[u8; PUBLIC_KEY_LEN],
        secret: &SharedSecret,
        tag: &[u8; TAG_LEN],
    ) -> Option<[u8; 32]> {
        self.mix_hash(&[ephemeral]);
        let temp_key = self.mix_key(secret);
        self.open::<A>(&temp_key, 0, &mut [], tag).then_some(temp_key)
    }

    /// The transport's secrets as the initiator has them; the responder has the keys the other way
    /// round.
    #[cfg(feature = "alloc")]
    pub(crate) fn secrets(&self) -> Secrets {
        let (sending, receiving) = self.split();
        Secrets { sending, receiving, chaining: self.ck }
    }

    /// The transport's keys: the initiator's sending key, then its receiving key.
    fn split(&self) -> ([u8; 32], [u8; 32]) {
        hkdf_two(&self.ck, &[])
    }
}

/// Version, ephemeral key and tag of Act One or Two.
pub(crate) fn ephemeral_fields(
    act: &[u8; ACT_ONE_LEN],
) -> (u8, &[u8; PUBLIC_KEY_LEN], &[u8; TAG_LEN]) {
    let [version, rest @ ..] = act;
    let (key, tag) = rest.split_first_chunk().expect("33 of 49 bytes");
    (*version, key, tag.first_chunk().expect("16 bytes"))
}

type StaticFields<'a> =
    (&'a mut [u8; PUBLIC_KEY_LEN], &'a mut [u8; TAG_LEN], &'a mut [u8; TAG_LEN]);

/// Encrypted static key, its tag, and the closing tag of Act Three.
fn static_fields(act: &mut [u8; ACT_THREE_LEN]) -> StaticFields<'_> {
    let [_version, rest @ ..] = act;
    let (key, tags) = rest.split_first_chunk_mut().expect("33 of 65 bytes");
    let (key_tag, tag) = tags.split_first_chunk_mut().expect("16 of 32 bytes");
    (key, key_tag, tag.first_chunk_mut().expect("16 bytes"))
}

#[cfg(feature = "zeroize")]
mod erase {
    use super::{AwaitingStatic, Initiator, Responder, Secrets, Symmetric};
    use zeroize::Zeroize;

    impl Drop for Secrets {
        fn drop(&mut self) {
            self.sending.zeroize();
            self.receiving.zeroize();
            self.chaining.zeroize();
        }
    }

    impl Drop for Symmetric {
        fn drop(&mut self) {
            self.ck.zeroize();
        }
    }

    impl Drop for Initiator {
        fn drop(&mut self) {
            self.local.non_secure_erase();
            self.ephemeral.non_secure_erase();
        }
    }

    impl Drop for Responder {
        fn drop(&mut self) {
            self.local.non_secure_erase();
            self.ephemeral.non_secure_erase();
        }
    }

    impl Drop for AwaitingStatic {
        fn drop(&mut self) {
            self.temp_k2.zeroize();
            self.ephemeral.non_secure_erase();
        }
    }
}

// The secrets are not for logs.
macro_rules! opaque_debug {
    ($($t:ty),*) => {$(
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($t), "(..)"))
            }
        }
    )*};
}
opaque_debug!(Secrets, Initiator, Responder, AwaitingStatic);
