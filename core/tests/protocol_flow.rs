//! The examples of a sealed flow in `docs/PROTOCOL.md` are true.
#![cfg(feature = "alloc")]

mod document;

use blvm_mesh_core::flow::end::{
    Direction, End, EndConfig, Event, INITIAL_STREAMS, INITIAL_WINDOW, Read, Violation,
    frames::{Frame, Frames, Writer},
    handshake::{Bound, Opening, answer},
    packet::OVERHEAD,
};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::aead::RustCrypto;
use blvm_mesh_core::secp256k1::{Keypair, Secp256k1};
use document::{DOCUMENT, example, table};

const BOUND: Bound = Bound {
    flow: 7,
    network: Network::Regtest,
    source: NodeId([0xaa; 32]),
    destination: NodeId([0xbb; 32]),
};

fn key(byte: u8) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), [byte; 32]).unwrap()
}

#[test]
fn acts_and_the_first_packet() {
    let destination = key(2);
    let (opening, one) = Opening::start::<RustCrypto>(&BOUND, &key(3), &destination.public_key());
    assert_eq!(hex::encode(one), hex::encode(example("Act one of a flow")));
    let answered = answer::<RustCrypto>(&BOUND, &Secp256k1::new(), &destination, &[9; 32], &one);
    let (two, theirs) = answered.unwrap();
    assert_eq!(hex::encode(two), hex::encode(example("Act two of a flow")));
    let ours = opening.act_two::<RustCrypto>(&two).unwrap();

    let config = EndConfig::default();
    let mut source = End::<RustCrypto>::new(0, config, Direction::FromSource, 7, &ours);
    source.set_allowance(0, 1 << 20);
    let id = source.open_stream().unwrap();
    source.write(id, b"hello").unwrap();
    let mut out = [0; 1_400];
    let len = source.poll_transmit(0, &mut out).unwrap();
    assert_eq!(hex::encode(&out[..len]), hex::encode(example("Data of a sealed flow")));
    assert_eq!(len, OVERHEAD + example("Frames of the first packet").len());

    let direction = Direction::FromDestination;
    let mut end = End::<RustCrypto>::new(0, config, direction, 7, &theirs);
    end.receive(0, &mut out[..len]).unwrap();
    assert_eq!(end.poll_event(), Some(Event::Opened(id)));
    let mut read = [0; 9];
    assert_eq!((end.read(id, &mut read), &read[..5]), (Ok(Read::Bytes(5)), &b"hello"[..]));
    let frames: Result<Vec<_>, _> = Frames::new(&example("Frames of the first packet"))
        .map(|frame| frame.map(|frame| format!("{frame:?}")))
        .collect();
    let data = b"hello";
    let expected = [Frame::Credit(16_384), Frame::Stream { id: 0, offset: 0, fin: false, data }];
    assert_eq!(frames.unwrap(), expected.map(|frame| format!("{frame:?}")));
}

#[test]
fn every_frame() {
    let expected = [
        Frame::Ping,
        Frame::Credit(1_000_000),
        Frame::AckFrequency { packets: 8, delay: 6_400 },
        Frame::MaxStreams(1_040),
        Frame::MaxStreamData { id: 4, limit: 32_768 },
        Frame::ResetStream { id: 6, code: 1, size: 300 },
        Frame::StopSending { id: 8, code: 2 },
        Frame::Stream { id: 2, offset: 300, fin: true, data: b"abc" },
        Frame::Stream { id: 64, offset: 0x12_3456, fin: false, data: b"de" },
    ];
    let bytes = example("Frames");
    let mut out = [0; 200];
    let mut writer = Writer::new(&mut out);
    assert!(writer.ack(640, [(120, 130), (100, 117)].into_iter()));
    assert!(expected[..8].iter().all(|frame| writer.put(frame)));
    let room = writer.stream(64, 0x12_3456, false, 2, false).unwrap();
    room.copy_from_slice(b"de");
    let len = writer.len();
    assert_eq!(hex::encode(&out[..len]), hex::encode(&bytes));
    let mut frames = Frames::new(&bytes);
    let Some(Ok(Frame::Ack { delay: 640, ranges })) = frames.next() else { panic!() };
    assert_eq!(ranges.collect::<Vec<_>>(), [(120, 130), (100, 117)]);
    assert_eq!(frames.collect::<Result<Vec<_>, _>>().unwrap(), expected);
}

#[test]
fn every_violation_is_listed_as_it_is_and_no_other() {
    let all = Violation::ALL.map(|v| [(v as u32).to_string(), v.to_string()]);
    assert_eq!(table("| number | violation |"), all.to_vec());
}

#[test]
fn what_both_ends_begin_with() {
    let text = format!("{INITIAL_STREAMS} streams may be opened and {INITIAL_WINDOW} bytes sent");
    assert!(DOCUMENT.contains(&text), "{text}");
}
