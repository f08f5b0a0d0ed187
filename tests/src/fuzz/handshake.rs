//! The acts of BOLT 8: genuine ones lead to the same secrets at both ends, changed
//! ones to an error at the act that was changed.

use super::Choices;
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::link::handshake::{
    ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, HandshakeError, Initiator, Responder,
};
use blvm_mesh_core::link::suite::Suite;
use blvm_mesh_core::link::{Link, LinkError, LinkLimits, Step};
use secp256k1::{Keypair, Secp256k1};

/// Four keys, then for each act what is done to it.
pub fn target(data: &[u8]) -> bool {
    let mut choices = Choices(data);
    let mut key = || {
        let byte = choices.byte().clamp(1, 0xfe);
        Keypair::from_seckey_byte_array(&Secp256k1::signing_only(), [byte; 32]).expect("in range")
    };
    let [local, ephemeral, remote, other] = [key(), key(), key(), key()];
    let (initiator, one) =
        Initiator::start::<RustCrypto>(&local, &ephemeral, &remote.public_key(), &[]);
    let responder = Responder::new(&remote, &other);

    let changed: [u8; ACT_ONE_LEN] = change(one, &mut choices);
    link_agrees(&remote, &other, &changed);
    let answer = responder.act_one::<RustCrypto>(&changed, &[], &[]);
    assert_eq!(answer.is_ok(), changed == one);
    let (awaiting, two) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            use HandshakeError::{ActOneKey, ActOneTag, ActOneVersion};
            assert!(matches!(error, ActOneKey | ActOneTag | ActOneVersion(_)), "{error}");
            return false;
        }
    };
    let changed: [u8; ACT_TWO_LEN] = change(two, &mut choices);
    let answer = initiator.act_two::<RustCrypto>(&changed, &[]);
    assert_eq!(answer.is_ok(), changed == two);
    let (three, initiators) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            use HandshakeError::{ActTwoKey, ActTwoTag, ActTwoVersion};
            assert!(matches!(error, ActTwoKey | ActTwoTag | ActTwoVersion(_)), "{error}");
            return false;
        }
    };
    let changed: [u8; ACT_THREE_LEN] = change(three, &mut choices);
    let answer = awaiting.act_three::<RustCrypto>(&changed);
    assert_eq!(answer.is_ok(), changed == three);
    let (proven, responders) = match answer {
        Ok(answer) => answer,
        Err(error) => {
            use HandshakeError::{ActThreeCiphertext, ActThreeKey, ActThreeTag, ActThreeVersion};
            let third = matches!(
                error,
                ActThreeCiphertext | ActThreeKey | ActThreeTag | ActThreeVersion(_)
            );
            assert!(third, "{error}");
            return false;
        }
    };
    assert_eq!(proven, local.public_key());
    assert!(initiators.sending == responders.receiving);
    assert!(initiators.receiving == responders.sending);
    assert!(initiators.chaining == responders.chaining);
    true
}

/// 0: as it is; 1: one byte is another; 2: other bytes from here on.
fn change<const N: usize>(mut act: [u8; N], choices: &mut Choices<'_>) -> [u8; N] {
    match choices.byte() {
        1 => {
            let at = choices.below(N);
            act[at] ^= choices.byte();
        }
        2 => {
            let at = choices.below(N);
            let bytes = choices.take(N - at);
            act[at..at + bytes.len()].copy_from_slice(bytes);
        }
        _ => {}
    }
    act
}

/// A link makes of a first act what the responder makes of it, and once failed
/// stays so.
fn link_agrees(local: &Keypair, ephemeral: &Keypair, act: &[u8; ACT_ONE_LEN]) {
    let answer = Responder::new(local, ephemeral).act_one::<RustCrypto>(act, &[], &[]);
    let mut link = Link::<RustCrypto>::responder(0, LinkLimits::default(), local, ephemeral);
    let mut bytes = *act;
    assert_eq!(link.receive(0, &mut bytes[..ACT_ONE_LEN - 1]), Ok(Step::NeedBytes(ACT_ONE_LEN)));
    let step = link.receive(0, &mut bytes);
    match answer {
        Ok((_, two)) => assert_eq!(step, Ok(Step::Reply { consumed: ACT_ONE_LEN, act: two })),
        Err(error) => {
            use HandshakeError::{ActOneKey, ActOneTag};
            // A version that offers AES is known to a link, but bound to the act.
            match error {
                HandshakeError::ActOneVersion(version) if version == Suite::Aes256Gcm as u8 => {
                    let forged = matches!(step, Err(LinkError::Handshake(ActOneKey | ActOneTag)));
                    assert!(forged, "{step:?}");
                }
                _ => assert_eq!(step, Err(LinkError::Handshake(error))),
            }
            assert_eq!(link.receive(0, &mut []), step);
        }
    }
}
