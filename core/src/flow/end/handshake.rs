//! The key agreement of a sealed flow: `Noise_NK_secp256k1_ChaChaPoly_SHA256`, acts one and two
//! of the links' handshake under a name of their own.
//!
//! Act one travels in the Open packet, act two in its answer. The source does not prove its
//! identity here: it signs the Open. An Open that comes again gets the same answer, because the
//! destination derives its ephemeral key from a secret and from act one.

use crate::{
    id::{Network, NodeId},
    link::{
        aead::Aead,
        handshake::{
            ACT_ONE_LEN, ACT_TWO_LEN, HandshakeError, Secrets, Symmetric, VERSION, ephemeral_fields,
        },
    },
};
use core::fmt;
use secp256k1::{
    Keypair, PublicKey, Secp256k1, SecretKey, Signing, constants::SECRET_KEY_SIZE,
    ecdh::SharedSecret,
};
use sha2::{Digest, Sha256};

const PROTOCOL_NAME: &[u8] = b"Noise_NK_secp256k1_ChaChaPoly_SHA256";
const PROLOGUE: &[u8] = b"blvm-mesh/flow";
const EPHEMERAL: &[u8] = b"blvm-mesh/flow-ephemeral";
const BOUND_LEN: usize = 8 + 1 + 32 + 32;

/// What a flow is, bound to its keys as the handshake's prologue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Number of the flow.
    pub flow: u64,
    /// Network of both ends.
    pub network: Network,
    /// Who opens it.
    pub source: NodeId,
    /// Who answers.
    pub destination: NodeId,
}

impl Bound {
    fn bytes(&self) -> [u8; BOUND_LEN] {
        let mut bytes = [0; BOUND_LEN];
        let fields: [&[u8]; 4] =
            [&self.flow.to_le_bytes(), &[self.network as u8], &self.source.0, &self.destination.0];
        let mut rest = &mut bytes[..];
        for field in fields {
            let (room, behind) = rest.split_at_mut(field.len());
            room.copy_from_slice(field);
            rest = behind;
        }
        bytes
    }

    fn symmetric(&self, destination: &PublicKey) -> Symmetric {
        Symmetric::of_protocol(PROTOCOL_NAME, &[PROLOGUE, &self.bytes()], destination)
    }
}

/// A source that has sent act one and awaits act two.
#[derive(Clone)]
pub struct Opening {
    symmetric: Symmetric,
    ephemeral: SecretKey,
}

impl Opening {
    /// Begins a flow to the holder of `destination`; gives act one. `ephemeral` must be fresh and
    /// random for each flow; a flow that is opened again keeps its act.
    pub fn start<A: Aead>(
        bound: &Bound,
        ephemeral: &Keypair,
        destination: &PublicKey,
    ) -> (Self, [u8; ACT_ONE_LEN]) {
        let mut symmetric = bound.symmetric(destination);
        let es = SharedSecret::new(destination, &ephemeral.secret_key());
        let (act, _) = symmetric.send_ephemeral::<A>(&ephemeral.public_key(), &es);
        (Self { symmetric, ephemeral: ephemeral.secret_key() }, act)
    }

    /// Takes act two; gives the keys of the source's end.
    ///
    /// # Errors
    /// `ActTwoVersion`, `ActTwoKey`, `ActTwoTag`.
    pub fn act_two<A: Aead>(mut self, act: &[u8; ACT_TWO_LEN]) -> Result<Secrets, HandshakeError> {
        let (version, ephemeral, tag) = ephemeral_fields(act);
        if version != VERSION {
            return Err(HandshakeError::ActTwoVersion(version));
        }
        let remote = PublicKey::from_slice(ephemeral).map_err(|_| HandshakeError::ActTwoKey)?;
        let ee = SharedSecret::new(&remote, &self.ephemeral);
        let symmetric = &mut self.symmetric;
        let right = symmetric.receive_ephemeral::<A>(ephemeral, &ee, tag).is_some();
        right.then(|| symmetric.secrets()).ok_or(HandshakeError::ActTwoTag)
    }
}

/// Takes act one at the destination, whose key is `local`; gives act two and the keys of the
/// destination's end. The same act gets the same answer as long as `secret` stays.
///
/// The same keys must never serve two [`End`](super::End)s, which would use their packet numbers
/// twice. So a node draws a new `secret` for each end that it makes, and keeps the answer to an Open
/// for as long as the end.
///
/// # Errors
/// `ActOneVersion`, `ActOneKey`, `ActOneTag`.
pub fn answer<A: Aead>(
    bound: &Bound,
    secp: &Secp256k1<impl Signing>,
    local: &Keypair,
    secret: &[u8; 32],
    act: &[u8; ACT_ONE_LEN],
) -> Result<([u8; ACT_TWO_LEN], Secrets), HandshakeError> {
    let (version, ephemeral, tag) = ephemeral_fields(act);
    if version != VERSION {
        return Err(HandshakeError::ActOneVersion(version));
    }
    let remote = PublicKey::from_slice(ephemeral).map_err(|_| HandshakeError::ActOneKey)?;
    let mut symmetric = bound.symmetric(&local.public_key());
    let es = SharedSecret::new(&remote, &local.secret_key());
    symmetric.receive_ephemeral::<A>(ephemeral, &es, tag).ok_or(HandshakeError::ActOneTag)?;

    let ours = derived(bound, secp, secret, act);
    let ee = SharedSecret::new(&remote, &ours.secret_key());
    let (act, _) = symmetric.send_ephemeral::<A>(&ours.public_key(), &ee);
    let theirs = symmetric.secrets();
    let secrets =
        Secrets { sending: theirs.receiving, receiving: theirs.sending, chaining: theirs.chaining };
    Ok((act, secrets))
}

/// The destination's ephemeral key: a hash of its secret and of all that was heard.
fn derived(
    bound: &Bound,
    secp: &Secp256k1<impl Signing>,
    secret: &[u8; 32],
    act: &[u8; ACT_ONE_LEN],
) -> Keypair {
    let tag = Sha256::digest(EPHEMERAL);
    let mut hash = Sha256::new();
    for part in [&tag[..], &tag[..], secret, &bound.bytes(), act] {
        hash.update(part);
    }
    let mut bytes: [u8; SECRET_KEY_SIZE] = hash.finalize().into();
    loop {
        match Keypair::from_seckey_byte_array(secp, bytes) {
            Ok(key) => return key,
            // One hash in 2^128 is not a secret key: the next one is.
            Err(_) => bytes = Sha256::digest(bytes).into(),
        }
    }
}

impl fmt::Debug for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opening(..)")
    }
}

#[cfg(feature = "zeroize")]
impl Drop for Opening {
    fn drop(&mut self) {
        self.ephemeral.non_secure_erase();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::aead::RustCrypto;
    use proptest::prelude::*;

    const BOUND: Bound = Bound {
        flow: 7,
        network: Network::Regtest,
        source: NodeId([0xaa; 32]),
        destination: NodeId([0xbb; 32]),
    };

    fn key(byte: u8) -> Keypair {
        Keypair::from_seckey_byte_array(&Secp256k1::new(), [byte; 32]).unwrap()
    }

    fn answered(
        bound: &Bound,
        secret: u8,
        act: &[u8; ACT_ONE_LEN],
    ) -> Result<([u8; ACT_TWO_LEN], Secrets), HandshakeError> {
        answer::<RustCrypto>(bound, &Secp256k1::new(), &key(2), &[secret; 32], act)
    }

    #[test]
    fn both_ends_have_the_same_keys_and_a_repeated_open_the_same_answer() {
        let (opening, one) = Opening::start::<RustCrypto>(&BOUND, &key(3), &key(2).public_key());
        let (two, theirs) = answered(&BOUND, 9, &one).unwrap();
        assert!(answered(&BOUND, 9, &one).unwrap() == (two, theirs.clone()));
        let ours = opening.clone().act_two::<RustCrypto>(&two).unwrap();
        assert_eq!((ours.sending, ours.receiving), (theirs.receiving, theirs.sending));
        assert_ne!(ours.sending, ours.receiving);
        // Another secret, another act one: another key.
        let (other, _) = answered(&BOUND, 8, &one).unwrap();
        let (_, again) = Opening::start::<RustCrypto>(&BOUND, &key(4), &key(2).public_key());
        let (third, _) = answered(&BOUND, 9, &again).unwrap();
        let keys = [&two[1..34], &other[1..34], &third[1..34]];
        assert!(keys[0] != keys[1] && keys[0] != keys[2]);
        // The answer to another act one does not serve.
        assert_eq!(opening.act_two::<RustCrypto>(&third).err(), Some(HandshakeError::ActTwoTag));
    }

    #[test]
    fn the_flow_is_bound_to_its_number_network_and_identities() {
        let (_, one) = Opening::start::<RustCrypto>(&BOUND, &key(3), &key(2).public_key());
        for other in [
            Bound { flow: 8, ..BOUND },
            Bound { network: Network::Signet, ..BOUND },
            Bound { source: NodeId([0xab; 32]), ..BOUND },
            Bound { destination: NodeId([0xba; 32]), ..BOUND },
        ] {
            assert_eq!(answered(&other, 9, &one).err(), Some(HandshakeError::ActOneTag));
        }
        // Nor is it the handshake of a link.
        let link = crate::link::handshake::Responder::new(&key(2), &key(5));
        let bytes = BOUND.bytes();
        assert!(link.act_one::<RustCrypto>(&one, &bytes, &[]).is_err());
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_refused(at in 0usize..50, bit in 0u8..8) {
            let (opening, mut one) =
                Opening::start::<RustCrypto>(&BOUND, &key(3), &key(2).public_key());
            let (mut two, _) = answered(&BOUND, 9, &one).unwrap();
            one[at] ^= 1 << bit;
            prop_assert!(answered(&BOUND, 9, &one).is_err());
            two[at] ^= 1 << bit;
            prop_assert!(opening.act_two::<RustCrypto>(&two).is_err());
        }
    }
}
