//! What `docs/PROTOCOL.md` says of links over datagrams is true.

#[allow(dead_code)]
mod document;

use blvm_mesh_core::link::aead::{Aead, RustCrypto};
use blvm_mesh_core::link::datagram::body::{Ack, Body, Chunk};
use blvm_mesh_core::link::datagram::cipher::{OVERHEAD, Sealer, USES_OF_A_KEY};
use blvm_mesh_core::link::datagram::packet::Pieces;
use blvm_mesh_core::link::datagram::terms::{ActFrame, MIN_FRAME, SESSIONS, Terms};
use blvm_mesh_core::link::datagram::window::WINDOW;
use blvm_mesh_core::link::datagram::{DatagramLimits, HALF_OPEN, IN_FLIGHT, serial};
use blvm_mesh_core::link::handshake::{Initiator, Responder};
use blvm_mesh_core::time::MILLISECOND;
use blvm_mesh_core::wire::header;
use document::{DOCUMENT, example, table};
use secp256k1::{Keypair, Secp256k1};

/// The section without line breaks.
fn section() -> String {
    let (_, rest) = DOCUMENT.split_once("## Links over datagrams\n").unwrap();
    let (section, _) = rest.split_once("\n## ").unwrap();
    section.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn key(byte: u8) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), [byte; 32]).unwrap()
}

#[test]
fn serial_frame() {
    let mut out = [0; 20];
    let len = serial::encode(b"123456789", &mut out).unwrap();
    assert_eq!(out[..len], example("Serial frame"));
}

#[test]
fn a_handshake_and_the_first_frame() {
    let terms = |frame| Terms { session: 5, frame, max_packet: 1024 };
    let (ours, theirs) = (terms(255), terms(128));
    let frame = |act: ActFrame<'_>| {
        let mut out = [0; 80];
        let len = act.write(&mut out).unwrap();
        out[..len].to_vec()
    };
    let remote = key(0x21).public_key();
    let (initiator, one) =
        Initiator::start::<RustCrypto>(&key(0x11), &key(0x12), &remote, &ours.said());
    assert_eq!(hex::encode(frame(ActFrame::One(ours, &one))), hex::encode(example("Act one")));
    let responder = Responder::new(&key(0x21), &key(0x22));
    let (awaiting, two) =
        responder.act_one::<RustCrypto>(&one, &ours.said(), &theirs.said()).unwrap();
    assert_eq!(hex::encode(frame(ActFrame::Two(5, theirs, &two))), hex::encode(example("Act two")));
    let (three, secrets) = initiator.act_two::<RustCrypto>(&two, &theirs.said()).unwrap();
    assert_eq!(hex::encode(frame(ActFrame::Three(5, &three))), hex::encode(example("Act three")));
    let (initiator, _) = awaiting.act_three::<RustCrypto>(&three).unwrap();
    assert_eq!(initiator, key(0x11).public_key());

    // The body: nothing received, three bytes on the free lane, which are a packet of
    // two bytes that is not one of the mesh.
    let mut sealed = [0; OVERHEAD + 6];
    let chunk = [Some(Chunk { offset: 0, bytes: &[5, b'h', b'i'] }), None];
    let body = Body { chunk, ..Default::default() };
    assert_eq!(body.write(&mut sealed[3..]), Some(6));
    assert_eq!(
        Pieces::new(b"hi", &[]).unwrap().iter().flatten().copied().collect::<Vec<_>>(),
        [5, b'h', b'i']
    );
    let mut sealer = Sealer::<RustCrypto>::new(5, &secrets.sending, &secrets.chaining);
    assert!(sealer.seal(&mut sealed));
    assert_eq!(hex::encode(sealed), hex::encode(example("First frame of the initiator")));
    // The document alone, with nothing but the cipher, opens it.
    let mut frame = example("First frame of the initiator");
    let (head, rest) = frame.split_first_chunk_mut::<3>().unwrap();
    let (text, tag) = rest.split_last_chunk_mut::<16>().unwrap();
    assert_eq!(*head, [5, 0, 0]);
    RustCrypto::new(&secrets.sending).open(0, head, text, tag).unwrap();
    assert_eq!(text, [8, 0, 0, 5, b'h', b'i']);
}

/// Sums the numbers in brackets.
fn sum_of_fields(contents: &str) -> usize {
    contents
        .split('(')
        .skip(1)
        .map(|n| n.split(')').next().unwrap().parse::<usize>().unwrap())
        .sum()
}

#[test]
fn frames_of_the_handshake() {
    let terms = Terms { session: 1, frame: 255, max_packet: 9 };
    let frames = [
        ActFrame::One(terms, &[0; 50]),
        ActFrame::Two(1, terms, &[0; 50]),
        ActFrame::Three(1, &[0; 66]),
    ];
    let rows = table("| act | frame | contents |");
    assert_eq!(rows.len(), frames.len());
    for (row, frame) in rows.iter().zip(frames) {
        let mut out = [0; 80];
        let len = frame.write(&mut out).unwrap();
        assert_eq!((row[1], sum_of_fields(row[2])), (len.to_string().as_str(), len));
        assert!(row[2].starts_with(&format!("{:#x} ", out[0])));
    }
    let terms: usize = table("| offset | size | field of the terms |")
        .iter()
        .map(|r| r[1].parse::<usize>().unwrap())
        .sum();
    assert_eq!(terms, 8);
}

#[test]
fn numbers_in_the_text() {
    let text = section();
    for told in [
        format!("0 to {SESSIONS}"),
        format!("at least {MIN_FRAME}"),
        format!("more than {WINDOW} lower"),
        format!("multiple of {USES_OF_A_KEY} "),
        format!("At most {IN_FLIGHT} pieces"),
        "no more than 16384 bytes".into(),
    ] {
        assert!(text.contains(&told), "{told}");
    }
}

#[test]
fn overhead_is_exact() {
    let ack = Some(Ack { highest: 1, before: 1 });
    let chunk = Some(Chunk { offset: 0, bytes: b"x" });
    let around = |body: Body<'_>| {
        let bytes: usize = body.chunk.iter().flatten().map(|chunk| chunk.bytes.len()).sum();
        (OVERHEAD + body.size() - bytes).to_string()
    };
    let none = Body::default();
    let mesh_packet = |len: usize| {
        let mut packet = vec![0; len];
        packet[4] = 1;
        assert!(header::complete(&mut packet));
        packet
    };
    let saved =
        |len: usize| Pieces::new(&mesh_packet(len), &[]).unwrap().size() as isize - len as isize;
    assert_eq!([saved(76 - 1), saved(76), saved(8203), saved(8204)], [-11, -10, -10, -9]);
    let on_line = |len: usize| {
        let mut out = vec![0; 600];
        serial::encode(&vec![1; len], &mut out).unwrap() - len
    };
    assert_eq!([on_line(252), on_line(253), on_line(506), on_line(507)], [5, 6, 6, 7]);
    let rows = table("| overhead | bytes |");
    let told: Vec<&str> = rows.iter().map(|row| row[1]).collect();
    let exact = [
        OVERHEAD.to_string(),
        around(Body { chunk: [chunk, None], ..none }),
        around(Body { ack, chunk: [None, chunk], ..none }),
        around(Body { ack, chunk: [chunk, chunk], ..none }),
        (OVERHEAD + Body { ack, ..none }.size()).to_string(),
        "-10".into(),
        "5".into(),
        "6".into(),
    ];
    assert_eq!(told, exact);
    // The largest packet of the mesh that goes whole into a frame on radio.
    let whole = |len: usize| Pieces::new(&mesh_packet(len), &[]).unwrap().size() + 22 <= 255;
    let largest = (24..300).rev().find(|len| whole(*len)).unwrap();
    assert!(section().contains(&format!("a whole packet of up to {largest} bytes")));
}

#[test]
fn limits_are_those_of_the_code() {
    let both = [DatagramLimits::serial(255, 1024), DatagramLimits::radio(1024)];
    let ms = |f: &dyn Fn(&DatagramLimits) -> u64| both.map(|l| (f(&l) / MILLISECOND).to_string());
    let expected = [
        both.map(|limits| limits.window.to_string()),
        ms(&|l| l.initial_rto),
        ms(&|l| l.min_rto),
        ms(&|l| l.max_rto),
        ms(&|l| l.ack_delay),
        ms(&|l| l.packet_timeout),
        ms(&|l| l.probe_after),
        ms(&|l| l.dead_after),
        ms(&|l| l.handshake_timeout),
        ms(&|l| l.handshake_interval),
        [HALF_OPEN.to_string(), HALF_OPEN.to_string()],
    ];
    let rows = table("| limit | serial line | radio |");
    assert_eq!(rows.len(), expected.len());
    for (row, expected) in rows.iter().zip(&expected) {
        assert_eq!(row[1..], expected[..], "{}", row[0]);
    }
}
