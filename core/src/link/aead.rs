//! The AEADs of links behind a trait, so that a host may bring a faster implementation than a
//! board can carry: ChaCha20-Poly1305 as BOLT 8 uses it, and AES-256-GCM for the frames of a
//! stream link where both ends have it in hardware.

use super::suite::Suite;
use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit};

/// Bytes of a key.
pub const KEY_LEN: usize = 32;
/// Bytes of an authentication tag.
pub const TAG_LEN: usize = 16;

/// An AEAD under one key. The 96-bit nonce is 32 zero bits and then the counter as 64 bits,
/// little-endian (BOLT 8, "Lightning Message Specification").
///
/// The caller must never seal twice with the same nonce under one key.
pub trait Aead: Sized {
    /// Whether [`Self::of_suite`] knows [`Suite::Aes256Gcm`].
    const HAS_AES: bool = false;

    /// Prepares a key of ChaCha20-Poly1305.
    fn new(key: &[u8; KEY_LEN]) -> Self;

    /// Prepares a key of a suite that [`Self::HAS_AES`] allows.
    fn of_suite(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
        debug_assert_eq!(suite, Suite::ChaCha20Poly1305);
        Self::new(key)
    }

    /// Encrypts `buf` in place and writes the tag over it and `ad`.
    ///
    /// # Panics
    /// May panic where `buf` is longer than the suite permits, which is 64 GiB at least.
    fn seal(&self, nonce: u64, ad: &[u8], buf: &mut [u8], tag: &mut [u8; TAG_LEN]);

    /// Decrypts `buf` in place if `tag` is right for it and `ad`.
    ///
    /// # Errors
    /// [`Forged`] if it is not; `buf` then holds nothing of use and must not be
    /// read.
    fn open(
        &self,
        nonce: u64,
        ad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged>;
}

/// The tag is not the one that the key gives for these bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("the authentication tag does not match")]
pub struct Forged;

/// The nonce of BOLT 8 with this counter, as RFC 8439 takes it.
pub fn nonce_bytes(counter: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce
}

/// RustCrypto's implementation: portable, small, without allocation.
#[derive(Debug, Clone)]
pub struct RustCrypto(ChaCha20Poly1305);

impl Aead for RustCrypto {
    fn new(key: &[u8; KEY_LEN]) -> Self {
        Self(ChaCha20Poly1305::new(key.into()))
    }

    fn seal(&self, nonce: u64, ad: &[u8], buf: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        let sealed = self.0.encrypt_inout_detached(&nonce_bytes(nonce).into(), ad, buf.into());
        *tag = sealed.expect("a buffer of at most 256 GiB").into();
    }

    fn open(
        &self,
        nonce: u64,
        ad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        self.0
            .decrypt_inout_detached(&nonce_bytes(nonce).into(), ad, buf.into(), tag.into())
            .map_err(|_| Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::{string::ToString, vec::Vec};

    fn check(key: &str, nonce: u64, ad: &str, plain: &str, sealed: &str) {
        let key: [u8; 32] = hex::decode(key).unwrap().try_into().unwrap();
        let (ad, plain) = (hex::decode(ad).unwrap(), hex::decode(plain).unwrap());
        let aead = RustCrypto::new(&key);
        let (mut buf, mut tag) = (plain.clone(), [0; 16]);
        aead.seal(nonce, &ad, &mut buf, &mut tag);
        assert_eq!(hex::encode(&buf) + &hex::encode(tag), sealed);
        aead.open(nonce, &ad, &mut buf, &tag).unwrap();
        assert_eq!(buf, plain);
    }

    #[test]
    fn rfc_8439_appendix_a5() {
        check(
            "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0",
            0x0807_0605_0403_0201,
            "f33388860000000000004e91",
            "496e7465726e65742d4472616674732061726520647261667420646f63756d656e74732076616c69\
             6420666f722061206d6178696d756d206f6620736978206d6f6e74687320616e64206d6179206265\
             20757064617465642c207265706c616365642c206f72206f62736f6c65746564206279206f746865\
             7220646f63756d656e747320617420616e792074696d652e20497420697320696e617070726f7072\
             6961746520746f2075736520496e7465726e65742d447261667473206173207265666572656e6365\
             206d6174657269616c206f7220746f2063697465207468656d206f74686572207468616e20617320\
             2fe2809c776f726b20696e2070726f67726573732e2fe2809d",
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43ee\
             a09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b9481\
             14ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0\
             f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
             af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa7699\
             1955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
             305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f\
             38",
        );
    }

    /// The `encryptWithAD` lines of the handshake and `encrypt` lines of the
    /// message tests in BOLT 8, Appendix A: key, nonce bytes, AD, cleartext.
    #[test]
    fn bolt_8_encryptions() {
        let Some(text) = crate::test_shared::read("vectors/bolt8-transport.txt") else { return };
        let counter = |nonce: &str| {
            let bytes: [u8; 12] =
                hex::decode(nonce.trim_start_matches("0x")).unwrap()[..].try_into().unwrap();
            let (zero, counter) = bytes.split_at(4);
            assert_eq!(zero, [0; 4]);
            u64::from_le_bytes(counter.try_into().unwrap())
        };
        let bare = |field: &str| {
            let field = field.trim().trim_start_matches("0x");
            if field == "<empty>" || field == "NULL" { "".to_string() } else { field.to_string() }
        };
        let mut seen = (0, 0);
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            if let Some(call) = line.trim().strip_prefix("# encryptWithAD(") {
                let fields: Vec<_> = call.trim_end_matches(')').split(',').map(bare).collect();
                let result = lines.peek().unwrap().trim().trim_start_matches("# ");
                let result = result.split_once('=').unwrap().1;
                check(&fields[0], counter(&fields[1]), &fields[2], &fields[3], &bare(result));
                seen.0 += 1;
            } else if line.trim().starts_with("# encrypt ") {
                let (call, result) = line.split_once("=>").unwrap();
                let value = |name: &str| {
                    let rest = call.split_once(name).unwrap().1;
                    bare(rest.split(',').next().unwrap())
                };
                check(
                    &value("sk="),
                    counter(&value("sn=")),
                    &value("AD="),
                    &value("cleartext="),
                    &bare(result),
                );
                seen.1 += 1;
            }
        }
        assert_eq!(seen, (4, 4), "vectors in the file");
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_forged(
            key: [u8; 32], nonce: u64, ad in prop::collection::vec(any::<u8>(), 0..40),
            plain in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let aead = RustCrypto::new(&key);
            let (mut all, mut tag) = (ad.clone(), [0; 16]);
            all.extend(&plain);
            aead.seal(nonce, &ad, &mut all[ad.len()..], &mut tag);
            all.extend(tag);
            let at = at.index(all.len());
            all[at] ^= 1 << bit;
            let (ad, rest) = all.split_at_mut(ad.len());
            let (buf, tag) = rest.split_last_chunk_mut::<16>().unwrap();
            prop_assert_eq!(aead.open(nonce, ad, buf, tag), Err(Forged));
        }

        #[test]
        fn another_nonce_is_forged(key: [u8; 32], nonce: u64, other: u64) {
            prop_assume!(nonce != other);
            let (aead, mut buf, mut tag) = (RustCrypto::new(&key), [7; 9], [0; 16]);
            aead.seal(nonce, &[], &mut buf, &mut tag);
            prop_assert_eq!(aead.open(other, &[], &mut buf, &tag), Err(Forged));
        }
    }
}
