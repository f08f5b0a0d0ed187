//! The links' AEADs by `ring`, in assembly for the host's processor.

use blvm_mesh_core::link::aead::{Aead, Forged, KEY_LEN, TAG_LEN, nonce_bytes};
use blvm_mesh_core::link::suite::Suite;
use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

/// `ring`'s implementation: the same bytes as
/// [`RustCrypto`](blvm_mesh_core::link::aead::RustCrypto), several times faster, and
/// AES-256-GCM beside it.
#[derive(Debug, Clone)]
pub struct Ring(LessSafeKey);

impl Ring {
    /// Whether this processor has instructions for AES and GCM. Without them AES is slower
    /// than ChaCha20-Poly1305.
    pub fn aes_in_hardware() -> bool {
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        return is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
        #[cfg(target_arch = "aarch64")]
        return std::arch::is_aarch64_feature_detected!("aes")
            && std::arch::is_aarch64_feature_detected!("pmull");
        #[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
        return false;
    }
}

impl Aead for Ring {
    const HAS_AES: bool = true;

    fn new(key: &[u8; KEY_LEN]) -> Self {
        Self::of_suite(Suite::ChaCha20Poly1305, key)
    }

    fn of_suite(suite: Suite, key: &[u8; KEY_LEN]) -> Self {
        let algorithm = match suite {
            Suite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
            Suite::Aes256Gcm => &AES_256_GCM,
        };
        let key = UnboundKey::new(algorithm, key).expect("a key of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    fn seal(&self, nonce: u64, ad: &[u8], buf: &mut [u8], tag: &mut [u8; TAG_LEN]) {
        let nonce = Nonce::assume_unique_for_key(nonce_bytes(nonce));
        let sealed = self.0.seal_in_place_separate_tag(nonce, Aad::from(ad), buf);
        tag.copy_from_slice(sealed.expect("a buffer of at most 64 GiB").as_ref());
    }

    fn open(
        &self,
        nonce: u64,
        ad: &[u8],
        buf: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), Forged> {
        let nonce = Nonce::assume_unique_for_key(nonce_bytes(nonce));
        self.0
            .open_in_place_separate_tag(nonce, Aad::from(ad), (*tag).into(), buf, 0..)
            .map(|_| ())
            .map_err(|_| Forged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::link::{
        Link, LinkError, LinkLimits, Step,
        aead::RustCrypto,
        handshake::{HandshakeError, Secrets},
        transport::{FRAME_OVERHEAD, HEADER_LEN, Receiver, Sender},
    };
    use proptest::{collection::vec as any_vec, prelude::*};
    use secp256k1::{Keypair, Secp256k1};

    fn unhex<const N: usize>(text: &str) -> [u8; N] {
        hex::decode(text).unwrap().try_into().unwrap()
    }

    #[test]
    fn rfc_8439_appendix_a5() {
        let key = unhex("1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0");
        let ad: [u8; 12] = unhex("f33388860000000000004e91");
        let plain = hex::decode(
            "496e7465726e65742d4472616674732061726520647261667420646f63756d656e74732076616c69\
             6420666f722061206d6178696d756d206f6620736978206d6f6e74687320616e64206d6179206265\
             20757064617465642c207265706c616365642c206f72206f62736f6c65746564206279206f746865\
             7220646f63756d656e747320617420616e792074696d652e20497420697320696e617070726f7072\
             6961746520746f2075736520496e7465726e65742d447261667473206173207265666572656e6365\
             206d6174657269616c206f7220746f2063697465207468656d206f74686572207468616e20617320\
             2fe2809c776f726b20696e2070726f67726573732e2fe2809d",
        )
        .unwrap();
        let (mut buf, mut tag) = (plain.clone(), [0; 16]);
        let aead = Ring::new(&key);
        aead.seal(0x0807_0605_0403_0201, &ad, &mut buf, &mut tag);
        assert_eq!(
            hex::encode(&buf),
            "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43ee\
             a09ee94e382d26b0bdb7b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b9481\
             14ad176e008d33bd60f982b1ff37c8559797a06ef4f0ef61c186324e2b3506383606907b6a7c02b0\
             f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433225ee282a1b0a06c523e\
             af4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa7699\
             1955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130\
             305beaba2eda04df997b714d6c6f2c29a6ad5cb4022b02709b"
        );
        assert_eq!(tag, unhex("eead9d67890cbb22392336fea1851f38"));
        aead.open(0x0807_0605_0403_0201, &ad, &mut buf, &tag).unwrap();
        assert_eq!(buf, plain);
    }

    /// "Message Encryption Tests" of BOLT 8, Appendix A.
    #[test]
    fn bolt_8_messages_and_key_rotation() {
        let key = unhex("969ab31b4d288cedf6218839b27a3e2140827047f2c0f01bf5c04435d43511a9");
        let chaining = unhex("919219dbb2920afa8db80f9a51787a840bcf111ed8d588caf9ab4be716e42b01");
        let secrets = Secrets { sending: key, receiving: key, chaining };
        let expected = [
            (0, "cf2b30ddf0cf3f80e7c35a6e6730b59fe802473180f396d88a8fb0db8cbcf25d2f214cf9ea1d95"),
            (1, "72887022101f0b6753e0c7de21657d35a4cb2a1f5cde2650528bbc8f837d0f0d7ad833b1a256a1"),
            (500, "178cb9d7387190fa34db9c2d50027d21793c9bc2d40b1e14dcf30ebeeeb220f48364f7a4c68bf8"),
            (501, "1b186c57d44eb6de4c057c49940d79bb838a145cb528d6e8fd26dbe50a60ca2c104b56b60e45bd"),
            (
                1000,
                "4a2f3cc3b5e78ddb83dcb426d9863d9d9a723b0337c89dd0b005d89f8d3c05c52b76b29b740f09",
            ),
            (
                1001,
                "2ecd8c8a5629d0d02ab457a0fdd0f7b90a192cd46be5ecb6ca570bfc5e268338b1a16cf4ef2d36",
            ),
        ];
        let mut sender = Sender::<Ring>::new(Suite::default(), &secrets);
        let mut receiver = Receiver::<Ring>::new(Suite::default(), &secrets, 5);
        let mut seen = 0;
        for number in 0..=1001 {
            let mut frame = [0; 5 + FRAME_OVERHEAD];
            frame[HEADER_LEN..][..5].copy_from_slice(b"hello");
            sender.seal_frame(&mut frame).unwrap();
            if let Some((_, bytes)) = expected.iter().find(|(n, _)| *n == number) {
                assert_eq!(hex::encode(frame), *bytes, "message {number}");
                seen += 1;
            }
            let opened = receiver.open_frame(&mut frame).unwrap().unwrap();
            assert_eq!(&frame[opened.body], b"hello");
        }
        assert_eq!(seen, expected.len());
    }

    #[test]
    fn links_of_both_implementations_understand_each_other() {
        let secp = Secp256k1::new();
        let key = |byte| Keypair::from_seckey_byte_array(&secp, [byte; 32]).unwrap();
        let (limits, remote) = (LinkLimits::default(), key(2).public_key());
        let (mut host, mut act_one) = Link::<Ring>::initiator(0, limits, &key(1), &key(3), &remote);
        let mut board = Link::<RustCrypto>::responder(0, limits, &key(2), &key(4));
        let Ok(Step::Reply { mut act, .. }) = board.receive(0, &mut act_one) else { panic!() };
        let Ok(Step::Established { reply, .. }) = host.receive(0, &mut act) else { panic!() };
        let step = board.receive(0, &mut reply.unwrap());
        let Ok(Step::Established { remote, .. }) = step else { panic!() };
        assert_eq!(remote, key(1).public_key());
        let (mut frame, mut back) = ([9; 99], [8; 77]);
        host.sender().unwrap().seal_frame(&mut frame).unwrap();
        board.sender().unwrap().seal_frame(&mut back).unwrap();
        let Ok(Step::Frame(opened)) = board.receive(0, &mut frame) else { panic!() };
        assert_eq!(frame[opened.body], [9; 99 - FRAME_OVERHEAD]);
        let Ok(Step::Frame(opened)) = host.receive(0, &mut back) else { panic!() };
        assert_eq!(back[opened.body], [8; 77 - FRAME_OVERHEAD]);
    }

    /// Test cases 13 and 14 of "The Galois/Counter Mode of Operation" (McGrew and Viega).
    #[test]
    fn aes_256_gcm_test_cases() {
        let aead = Ring::of_suite(Suite::Aes256Gcm, &[0; 32]);
        let mut tag = [0; 16];
        aead.seal(0, &[], &mut [], &mut tag);
        assert_eq!(tag, unhex("530f8afbc74536b9a963b4f1c4cb738b"));
        let mut buf = [0; 16];
        aead.seal(0, &[], &mut buf, &mut tag);
        assert_eq!(buf, unhex("cea7403d4d606b6e074ec5d3baf39d18"));
        assert_eq!(tag, unhex("d0d1c8a799996bf0265b98b5d48ab919"));
        aead.open(0, &[], &mut buf, &tag).unwrap();
        assert_eq!(buf, [0; 16]);
        assert_eq!(aead.open(1, &[], &mut buf, &tag), Err(Forged));
    }

    /// Both ends of a link, and what crosses it in one direction, changed on its way.
    type Met = Result<(Link<Ring>, Link<Ring>), LinkError>;

    fn meet(aes: [bool; 2], change: impl Fn(usize, &mut [u8])) -> Met {
        let secp = Secp256k1::new();
        let key = |byte| Keypair::from_seckey_byte_array(&secp, [byte; 32]).unwrap();
        let [near, far] = aes.map(|aes| LinkLimits { aes, ..LinkLimits::default() });
        let remote = key(2).public_key();
        let (mut near, mut act) = Link::<Ring>::initiator(0, near, &key(1), &key(3), &remote);
        let mut far = Link::<Ring>::responder(0, far, &key(2), &key(4));
        change(1, &mut act);
        let Step::Reply { mut act, .. } = far.receive(0, &mut act)? else { panic!() };
        change(2, &mut act);
        let Step::Established { reply, .. } = near.receive(0, &mut act)? else { panic!() };
        let mut act = reply.unwrap();
        change(3, &mut act);
        let Step::Established { .. } = far.receive(0, &mut act)? else { panic!() };
        Ok((near, far))
    }

    /// The first frame that the initiator sends, and what the responder makes of it.
    fn first_frame((mut near, mut far): (Link<Ring>, Link<Ring>)) -> [u8; 34 + 64] {
        // The third change of keys: each is of the same suite.
        let mut first = None;
        for n in 0..1100u16 {
            let mut frame = [n as u8; 34 + 64];
            near.sender().unwrap().seal_frame(&mut frame).unwrap();
            first.get_or_insert(frame);
            let Ok(Step::Frame(opened)) = far.receive(0, &mut frame) else { panic!("{n}") };
            assert_eq!(frame[opened.body], [n as u8; 64]);
        }
        first.unwrap()
    }

    #[test]
    fn frames_are_of_the_suite_that_both_ends_have() {
        let unchanged = |_: usize, _: &mut [u8]| {};
        let bolt8 = first_frame(meet([false, false], unchanged).unwrap());
        let mut acts = Vec::new();
        for (aes, offered, chosen) in [([true, false], 2, 0), ([false, true], 0, 0)] {
            let versions = std::cell::RefCell::new(Vec::new());
            let met = meet(aes, |_, act| versions.borrow_mut().push(act[0]));
            let frame = first_frame(met.unwrap());
            acts.push(versions.into_inner());
            assert_eq!(acts.last().unwrap(), &[offered, chosen, 0]);
            // Without AES at the far end the secrets are the same, and so are the frames.
            assert_eq!(frame, bolt8);
        }
        let aes = first_frame(meet([true, true], unchanged).unwrap());
        assert_ne!(aes, bolt8);
    }

    #[test]
    fn nobody_in_between_chooses_the_suite() {
        use HandshakeError::{ActOneTag, ActOneVersion, ActTwoTag, ActTwoVersion};
        let cases = [
            // An offer taken away, or made for somebody who has made none.
            ([true, true], 1, 0, ActOneTag),
            ([false, true], 1, 2, ActOneTag),
            // A choice changed to what was offered, or to what was not.
            ([true, true], 2, 0, ActTwoTag),
            ([true, false], 2, 2, ActTwoTag),
            ([false, true], 2, 2, ActTwoVersion(2)),
            // What nobody has.
            ([true, true], 1, 1, ActOneVersion(1)),
            ([true, true], 2, 1, ActTwoVersion(1)),
        ];
        for (aes, act, version, error) in cases {
            let met = meet(aes, |n, bytes| {
                if n == act {
                    bytes[0] = version;
                }
            });
            assert_eq!(met.err(), Some(LinkError::Handshake(error)), "{aes:?} {act} {version}");
        }
        let both_forged = meet([true, true], |n, bytes| bytes[0] *= u8::from(n > 2));
        assert_eq!(both_forged.err(), Some(LinkError::Handshake(ActOneTag)));
    }

    proptest! {
        #[test]
        fn aes_256_gcm_is_rust_cryptos(
            key: [u8; 32], nonce: u64, ad in any_vec(any::<u8>(), 0..50),
            plain in any_vec(any::<u8>(), 0..2000), at: prop::sample::Index, bit in 0u8..8,
        ) {
            use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
            let (ring, rust) = (Ring::of_suite(Suite::Aes256Gcm, &key), Aes256Gcm::new(&key.into()));
            let (mut one, mut other, mut tag) = (plain.clone(), plain.clone(), [0; 16]);
            ring.seal(nonce, &ad, &mut one, &mut tag);
            let nonce_bytes = nonce_bytes(nonce).into();
            let expected = rust.encrypt_inout_detached(&nonce_bytes, &ad, (&mut other[..]).into()).unwrap();
            prop_assert_eq!((&one, tag), (&other, expected.into()));
            let mut broken = [&ad[..], &one, &tag].concat();
            let at = at.index(broken.len());
            broken[at] ^= 1 << bit;
            let (bad_ad, rest) = broken.split_at_mut(ad.len());
            let (bad, bad_tag) = rest.split_last_chunk_mut().unwrap();
            prop_assert_eq!(ring.open(nonce, bad_ad, bad, bad_tag), Err(Forged));
            prop_assert_eq!(ring.open(nonce, &ad, &mut one, &tag), Ok(()));
            prop_assert_eq!(one, plain);
        }

        #[test]
        fn both_implementations_agree(
            key: [u8; 32], nonce: u64, ad in any_vec(any::<u8>(), 0..50),
            plain in any_vec(any::<u8>(), 0..2000), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let (ring, rust) = (Ring::new(&key), RustCrypto::new(&key));
            let (mut one, mut other) = (plain.clone(), plain.clone());
            let (mut tag, mut other_tag) = ([0; 16], [0; 16]);
            ring.seal(nonce, &ad, &mut one, &mut tag);
            rust.seal(nonce, &ad, &mut other, &mut other_tag);
            prop_assert_eq!((&one, tag), (&other, other_tag));

            // A flipped bit is refused by both, and what is intact opened by both.
            let mut broken = [&ad[..], &one, &tag].concat();
            let at = at.index(broken.len());
            broken[at] ^= 1 << bit;
            let (bad_ad, rest) = broken.split_at_mut(ad.len());
            let (bad, bad_tag) = rest.split_last_chunk_mut().unwrap();
            prop_assert_eq!(ring.open(nonce, bad_ad, &mut bad.to_vec(), bad_tag), Err(Forged));
            prop_assert_eq!(rust.open(nonce, bad_ad, &mut bad.to_vec(), bad_tag), Err(Forged));
            prop_assert_eq!(rust.open(nonce, &ad, &mut one, &tag), Ok(()));
            prop_assert_eq!(ring.open(nonce, &ad, &mut other, &tag), Ok(()));
            prop_assert_eq!((&one, &other), (&plain, &plain));
        }
    }
}
