//! The test vectors of BOLT 8, Appendix A, read from its text.

use super::{
    Link, LinkError, LinkLimits, Step,
    aead::RustCrypto,
    handshake::{HandshakeError, Initiator, Responder, Secrets},
    transport::{FRAME_OVERHEAD, HEADER_LEN, Sender},
};
use secp256k1::{Keypair, PublicKey, Secp256k1};
use std::{format, string::String, vec, vec::Vec};

/// One `name:` block: its fields and, in order, what goes in and comes out.
#[derive(Default)]
struct Vector {
    name: String,
    fields: Vec<(String, String)>,
    steps: Vec<(String, String)>,
}

impl Vector {
    fn bytes(&self, field: &str) -> Vec<u8> {
        let found = self.fields.iter().find(|(name, _)| name == field);
        unhex(&found.unwrap_or_else(|| panic!("{}: no {field}", self.name)).1)
    }

    fn key(&self, which: &str) -> Keypair {
        let secret = self.bytes(&format!("{which}.priv"));
        let key =
            Keypair::from_seckey_byte_array(&Secp256k1::new(), secret.try_into().unwrap()).unwrap();
        let public = self.bytes(&format!("{which}.pub"));
        assert_eq!(key.public_key().serialize()[..], public);
        key
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.bytes(field).try_into().unwrap()
    }
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text.trim().trim_start_matches("0x")).unwrap()
}

fn vectors() -> Option<Vec<Vector>> {
    let text = crate::test_shared::read("vectors/bolt8-transport.txt")?;
    let mut all: Vec<Vector> = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix("name: ") {
            all.push(Vector { name: name.into(), ..Default::default() });
        } else if let Some(vector) = all.last_mut() {
            let step = line.starts_with("input") || line.starts_with("output");
            if let (true, Some((kind, value))) = (step, line.split_once(": ")) {
                vector.steps.push((kind.into(), value.into()));
            } else if let Some((name, value)) = line.split_once([':', '=']) {
                vector.fields.push((name.trim().into(), value.into()));
            }
        }
    }
    Some(all)
}

/// The name that BOLT 8 gives to an error, with the version where the file has it.
fn name_of(error: LinkError, with_version: bool) -> String {
    let LinkError::Handshake(error) = error else { panic!("{error:?}") };
    let version = |act: u8, version: u8| match with_version {
        true => format!("ACT{act}_BAD_VERSION {version}"),
        false => format!("ACT{act}_BAD_VERSION"),
    };
    match error {
        HandshakeError::ActOneShort => "ACT1_READ_FAILED".into(),
        HandshakeError::ActOneVersion(v) => version(1, v),
        HandshakeError::ActOneKey => "ACT1_BAD_PUBKEY".into(),
        HandshakeError::ActOneTag => "ACT1_BAD_TAG".into(),
        HandshakeError::ActTwoShort => "ACT2_READ_FAILED".into(),
        HandshakeError::ActTwoVersion(v) => version(2, v),
        HandshakeError::ActTwoKey => "ACT2_BAD_PUBKEY".into(),
        HandshakeError::ActTwoTag => "ACT2_BAD_TAG".into(),
        HandshakeError::ActThreeShort => "ACT3_READ_FAILED".into(),
        HandshakeError::ActThreeVersion(v) => version(3, v),
        HandshakeError::ActThreeCiphertext => "ACT3_BAD_CIPHERTEXT".into(),
        HandshakeError::ActThreeKey => "ACT3_BAD_PUBKEY".into(),
        HandshakeError::ActThreeTag => "ACT3_BAD_TAG".into(),
    }
}

/// Feeds the vector's inputs to a link, `chunk` bytes at a time, and checks every
/// output. Gives the public key that was established, if any.
fn run(vector: &Vector, chunk: usize) -> Option<PublicKey> {
    let limits = LinkLimits::default();
    let (local, ephemeral) = (vector.key("ls"), vector.key("e"));
    let mut outputs: Vec<Vec<u8>> = Vec::new();
    let mut link = if vector.name.starts_with("transport-initiator") {
        let remote = PublicKey::from_slice(&vector.bytes("rs.pub")).unwrap();
        let (link, act) = Link::<RustCrypto>::initiator(0, limits, &local, &ephemeral, &remote);
        outputs.push(act.into());
        link
    } else {
        Link::responder(0, limits, &local, &ephemeral)
    };
    let mut established = None;
    let mut outcome = Ok(());
    for (kind, value) in &vector.steps {
        if kind == "input" {
            let input = unhex(value);
            let mut buf = Vec::new();
            for part in input.chunks(chunk) {
                buf.extend(part);
                outcome = link.receive(1, &mut buf).map(|step| match step {
                    Step::NeedBytes(all) => assert!(all > buf.len()),
                    Step::Reply { consumed, act } => {
                        assert_eq!(consumed, input.len());
                        outputs.push(act.into());
                    }
                    Step::Established { consumed, remote, reply } => {
                        assert_eq!(consumed, input.len());
                        outputs.extend(reply.map(Vec::from));
                        established = Some(remote);
                    }
                    Step::Frame(_) => panic!("no frame was sent"),
                });
            }
        } else if let Some(error) = value.strip_prefix("ERROR (") {
            let error = error.trim_end_matches(')');
            let outcome = outcome.and_then(|()| link.end_of_stream()).unwrap_err();
            assert_eq!(name_of(outcome, error.contains(' ')), error, "{}", vector.name);
            assert!(established.is_none() && link.sender().is_none());
        } else if !value.starts_with("sk,rk") && !value.starts_with("rk,sk") {
            assert_eq!(outputs.remove(0), unhex(value), "{}", vector.name);
        }
    }
    assert!(outputs.is_empty(), "{}", vector.name);
    established
}

#[test]
fn handshakes() {
    let Some(vectors) = vectors() else { return };
    let handshakes: Vec<_> =
        vectors.iter().filter(|v| v.name != "transport-message test").collect();
    assert_eq!(handshakes.len(), 15);
    for vector in handshakes {
        for chunk in [1000, 1, 49] {
            let remote = run(vector, chunk);
            let good = vector.name.ends_with("successful handshake");
            assert_eq!(remote.is_some(), good, "{}", vector.name);
        }
    }
}

#[test]
fn keys_of_the_successful_handshakes() {
    let Some(vectors) = vectors() else { return };
    let find = |name: &str| vectors.iter().find(|v| v.name == name).unwrap();
    let keys = |vector: &Vector, label: &str| -> Vec<Vec<u8>> {
        let (_, line) = vector.steps.iter().rfind(|(kind, _)| kind == "output").unwrap();
        line.strip_prefix(label).unwrap().split(',').map(unhex).collect()
    };
    let initiator = find("transport-initiator successful handshake");
    let responder = find("transport-responder successful handshake");
    let chaining = find("transport-message test").bytes("ck");

    let remote = PublicKey::from_slice(&initiator.bytes("rs.pub")).unwrap();
    let (state, act_one) =
        Initiator::start::<RustCrypto>(&initiator.key("ls"), &initiator.key("e"), &remote, &[]);
    let (awaiting, act_two) = Responder::new(&responder.key("ls"), &responder.key("e"))
        .act_one::<RustCrypto>(&act_one, &[], &[])
        .unwrap();
    let (act_three, secrets) = state.act_two::<RustCrypto>(&act_two, &[]).unwrap();
    let expected = keys(initiator, "sk,rk=");
    assert_eq!(secrets.sending[..], expected[0]);
    assert_eq!(secrets.receiving[..], expected[1]);
    assert_eq!(secrets.chaining[..], chaining);

    let (remote, secrets) = awaiting.act_three::<RustCrypto>(&act_three).unwrap();
    let expected = keys(responder, "rk,sk=");
    assert_eq!(remote, initiator.key("ls").public_key());
    assert_eq!(secrets.receiving[..], expected[0]);
    assert_eq!(secrets.sending[..], expected[1]);
    assert_eq!(secrets.chaining[..], chaining);
}

#[test]
fn messages_and_key_rotation() {
    let Some(vectors) = vectors() else { return };
    let vector = vectors.iter().find(|v| v.name == "transport-message test").unwrap();
    let secrets = Secrets {
        sending: vector.array("sk"),
        receiving: vector.array("rk"),
        chaining: vector.array("ck"),
    };
    let mut sender = Sender::<RustCrypto>::new(Default::default(), &secrets);
    let other = Secrets { sending: secrets.receiving, receiving: secrets.sending, ..secrets };
    let mut receiver = super::transport::Receiver::<RustCrypto>::new(Default::default(), &other, 5);
    let mut seen = 0;
    for number in 0..=1001 {
        let mut frame = vec![0; 5 + FRAME_OVERHEAD];
        frame[HEADER_LEN..][..5].copy_from_slice(b"hello");
        sender.seal_frame(&mut frame).unwrap();
        let label = format!("output {number}");
        if let Some((_, expected)) = vector.steps.iter().find(|(kind, _)| *kind == label) {
            assert_eq!(frame, unhex(expected), "{label}");
            seen += 1;
        }
        let opened = receiver.open_frame(&mut frame).unwrap().unwrap();
        assert_eq!(&frame[opened.body], b"hello");
    }
    assert_eq!(seen, 6);
}
