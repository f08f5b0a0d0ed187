//! BIP 340 signatures under the keys that nodes are known by.

use crate::id::NodeId;
use secp256k1::schnorr::Signature;
use secp256k1::{Keypair, Secp256k1, SecretKey, Signing, Verification, XOnlyPublicKey};

/// A node's own key.
#[derive(Clone)]
pub struct Identity {
    keypair: Keypair,
    public: [u8; 33],
    id: NodeId,
}

#[cfg(feature = "zeroize")]
impl Drop for Identity {
    fn drop(&mut self) {
        // A copy that was made while the key was moved stays, hence libsecp256k1's
        // name for it.
        self.keypair.non_secure_erase();
    }
}

impl Identity {
    /// The identity of a secret key.
    pub fn new<C: Signing>(secp: &Secp256k1<C>, key: &SecretKey) -> Self {
        let keypair = Keypair::from_secret_key(secp, key);
        let public = keypair.public_key().serialize();
        Self { keypair, public, id: NodeId::from_compressed(&public) }
    }

    /// Compressed public key.
    pub fn public_key(&self) -> &[u8; 33] {
        &self.public
    }

    /// Hash of the public key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The key itself.
    #[cfg(feature = "alloc")]
    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    /// Signs a hash. The nonce depends on key and hash alone (BIP 340 without
    /// auxiliary randomness): same inputs, same signature.
    pub fn sign<C: Signing>(&self, secp: &Secp256k1<C>, hash: &[u8; 32]) -> [u8; 64] {
        secp.sign_schnorr_no_aux_rand(hash, &self.keypair).to_byte_array()
    }
}

/// Whether a signature over a hash is that of a compressed public key. BIP 340
/// signs under its x coordinate.
pub fn verify<C: Verification>(
    secp: &Secp256k1<C>,
    public_key: &[u8; 33],
    hash: &[u8; 32],
    signature: &[u8; 64],
) -> bool {
    let [parity, x @ ..] = public_key;
    let Ok(key) = XOnlyPublicKey::from_byte_array(*x) else {
        return false;
    };
    let signature = Signature::from_byte_array(*signature);
    matches!(parity, 2 | 3) && secp.verify_schnorr(&signature, hash, &key).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_under_keys_of_either_parity() {
        let secp = Secp256k1::new();
        let mut parities = std::collections::BTreeSet::new();
        for n in 1..=8 {
            let me = Identity::new(&secp, &SecretKey::from_byte_array([n; 32]).unwrap());
            parities.insert(me.public_key()[0]);
            let s = me.sign(&secp, &[7; 32]);
            assert!(verify(&secp, me.public_key(), &[7; 32], &s));
            assert!(!verify(&secp, me.public_key(), &[8; 32], &s));
            assert_eq!(s, me.sign(&secp, &[7; 32]));
            let mut other = *me.public_key();
            other[0] = 4;
            assert!(!verify(&secp, &other, &[7; 32], &s));
        }
        assert_eq!(parities.len(), 2);
    }

    #[test]
    fn bip340_test_vector_0() {
        // BIP 340, test-vectors.csv, index 0: secret key 3, message of zeros.
        let secp = Secp256k1::new();
        let mut sk = [0; 32];
        sk[31] = 3;
        let me = Identity::new(&secp, &SecretKey::from_byte_array(sk).unwrap());
        let signature = hex::decode("E907831F80848D1069A5371B402410364BDF1C5F8307B0084C55F1CE2DCA821525F66A4A85EA8B71E482A74F382D2CE5EBEEE8FDB2172F477DF4900D310536C0").unwrap();
        assert!(verify(&secp, me.public_key(), &[0; 32], &signature.try_into().unwrap()));
    }
}
