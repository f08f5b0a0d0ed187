use super::{
    aead::RustCrypto,
    fragment::{FrameBuilder, Put, Splitter},
    joiner::Joiner,
    lane::Lane,
    transport::FRAME_OVERHEAD,
    *,
};
use proptest::{collection::vec as any_vec, prelude::*, sample::Index};
use secp256k1::Secp256k1;
use std::{vec, vec::Vec};

type Packets = Vec<(Lane, Vec<u8>)>;

fn key(byte: u8) -> Keypair {
    Keypair::from_seckey_byte_array(&Secp256k1::new(), [byte; 32]).unwrap()
}

fn initiator() -> (Link<RustCrypto>, [u8; ACT_ONE_LEN]) {
    let remote = key(2).public_key();
    Link::initiator(0, LinkLimits::default(), &key(1), &key(3), &remote)
}

fn responder() -> Link<RustCrypto> {
    Link::responder(0, LinkLimits::default(), &key(2), &key(4))
}

fn body_of(packets: &Packets) -> Vec<u8> {
    let mut frame = vec![0; FRAME_OVERHEAD + 4000];
    let mut builder = FrameBuilder::new(&mut frame, u16::MAX).unwrap();
    for (lane, packet) in packets {
        assert_eq!(Splitter::default().put(&mut builder, *lane, packet), Ok(Put::Done));
    }
    let whole = builder.finish();
    frame.truncate(whole);
    frame
}

/// All that the initiator sends: two acts and one frame per body.
fn initiators_stream(bodies: &[Packets]) -> Vec<u8> {
    let ((mut link, act_one), mut other) = (initiator(), responder());
    let mut stream = act_one.to_vec();
    let Ok(Step::Reply { mut act, .. }) = other.receive(0, &mut stream) else { panic!() };
    let Ok(Step::Established { reply, .. }) = link.receive(0, &mut act) else { panic!() };
    stream.extend(reply.unwrap());
    for packets in bodies {
        let mut frame = body_of(packets);
        link.sender().unwrap().seal_frame(&mut frame).unwrap();
        stream.extend(frame);
    }
    stream
}

/// What a responder takes from a stream that comes in pieces.
#[derive(Debug, Default, PartialEq)]
struct Taken {
    remote: Option<PublicKey>,
    packets: Packets,
    error: Option<LinkError>,
    left: usize,
}

fn take(mut link: Link<RustCrypto>, stream: &[u8], pieces: &[usize]) -> Taken {
    let mut joiner = Joiner::new(500, 1000, heapless::Vec::<u8, 500>::new(), Default::default());
    let (mut taken, mut buf, mut start, mut sent) = (Taken::default(), Vec::new(), 0, 0);
    let mut pieces = pieces.iter().cycle();
    while sent < stream.len() {
        let end = stream.len().min(sent + pieces.next().unwrap());
        buf.extend(&stream[sent..end]);
        sent = end;
        loop {
            start += match link.receive(1, &mut buf[start..]) {
                Ok(Step::NeedBytes(all)) => {
                    assert!(all > buf.len() - start);
                    break;
                }
                Ok(Step::Reply { consumed, .. }) => consumed,
                Ok(Step::Established { consumed, remote, .. }) => {
                    assert_eq!(taken.remote.replace(remote), None);
                    consumed
                }
                Ok(Step::Frame(frame)) => {
                    let body = &mut buf[start..][frame.body];
                    let mut records = joiner.records(1, body).unwrap();
                    while let Some(packet) = records.next().unwrap() {
                        taken.packets.push((packet.lane, packet.bytes.to_vec()));
                    }
                    frame.consumed
                }
                Err(error) => {
                    assert_eq!(link.receive(1, &mut buf[start..]), Err(error));
                    taken.error = Some(error);
                    return taken;
                }
            };
        }
    }
    taken.left = buf.len() - start;
    taken
}

#[test]
fn halves_work_apart() {
    let ((mut near, mut act_one), mut far) = (initiator(), responder());
    assert!(near.clone().split().is_none() && near.sender().is_none());
    let Ok(Step::Reply { mut act, .. }) = far.receive(0, &mut act_one) else { panic!() };
    let step = near.receive(0, &mut act);
    let Ok(Step::Established { remote, reply, .. }) = step else { panic!() };
    assert_eq!(remote, key(2).public_key());
    let Ok(Step::Established { remote, reply: None, .. }) = far.receive(0, &mut reply.unwrap())
    else {
        panic!()
    };
    assert_eq!(remote, key(1).public_key());
    let (mut near_out, mut near_in) = near.split().unwrap();
    let (mut far_out, mut far_in) = far.split().unwrap();
    for (out, back) in [(&mut near_out, &mut far_in), (&mut far_out, &mut near_in)] {
        let mut frame = [7; FRAME_OVERHEAD + 3];
        out.seal_frame(&mut frame).unwrap();
        let opened = back.open_frame(&mut frame).unwrap().unwrap();
        assert_eq!(frame[opened.body], [7; 3]);
    }
}

#[test]
fn a_handshake_has_a_deadline() {
    let limits = LinkLimits { handshake_timeout: 50, ..Default::default() };
    let mut link = Link::<RustCrypto>::responder(100, limits, &key(2), &key(4));
    let (_, mut act_one) = initiator();
    assert_eq!(link.poll_timeout(), Some(150));
    assert!(matches!(link.receive(149, &mut act_one), Ok(Step::Reply { .. })));
    assert_eq!(link.poll_timeout(), Some(150));
    assert_eq!(link.handle_timeout(149), Ok(()));
    assert_eq!(link.receive(150, &mut []), Err(LinkError::HandshakeTimeout));
    assert_eq!(link.poll_timeout(), None);
    assert_eq!(link.receive(0, &mut act_one), Err(LinkError::HandshakeTimeout));
    assert_eq!(link.end_of_stream(), Err(LinkError::HandshakeTimeout));
    // An established link has none.
    let stream = initiators_stream(&[]);
    let mut link = responder();
    link.receive(0, &mut stream.clone()).unwrap();
    link.receive(0, &mut stream.clone()[ACT_ONE_LEN..]).unwrap();
    assert_eq!((link.poll_timeout(), link.handle_timeout(u64::MAX)), (None, Ok(())));
}

#[test]
fn errors_print_as_sentences() {
    use std::string::ToString;
    let error = LinkError::from(HandshakeError::ActTwoVersion(7));
    assert_eq!(error.to_string(), "handshake act two has version 7, not 0");
}

#[test]
fn the_state_is_small() {
    let sizes = [
        size_of::<Link<RustCrypto>>(),
        size_of::<Sender<RustCrypto>>(),
        size_of::<Receiver<RustCrypto>>(),
        size_of::<Joiner<heapless::Vec<u8, 0>>>(),
        size_of::<Step>(),
    ];
    std::println!("link, sender, receiver, joiner without memory, step: {sizes:?}");
    assert!(sizes[0] <= 352 && sizes[1] + sizes[2] <= 224 && sizes[3] <= 96, "{sizes:?}");
}

fn any_bodies() -> impl Strategy<Value = Vec<Packets>> {
    let lane = prop_oneof![Just(Lane::Free), Just(Lane::Paid)];
    any_vec(any_vec((lane, any_vec(any::<u8>(), 1..300)), 1..10), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_split_of_the_stream_gives_the_same_packets(
        bodies in any_bodies(), pieces in any_vec(1usize..200, 1..20),
    ) {
        let expected = Taken {
            remote: Some(key(1).public_key()),
            packets: bodies.concat(),
            ..Default::default()
        };
        prop_assert_eq!(take(responder(), &initiators_stream(&bodies), &pieces), expected);
    }

    #[test]
    fn a_flipped_bit_anywhere_ends_the_link_there(
        bodies in any_bodies(), pieces in any_vec(1usize..2000, 1..5), at: Index, bit in 0u8..8,
    ) {
        let mut stream = initiators_stream(&bodies);
        let at = at.index(stream.len());
        stream[at] ^= 1 << bit;
        let taken = take(responder(), &stream, &pieces);
        prop_assert!(taken.error.is_some());
        prop_assert_eq!(taken.remote.is_some(), at >= ACT_ONE_LEN + ACT_THREE_LEN);
        // What came before is intact, and nothing of the frame that was hit.
        let mut end = ACT_ONE_LEN + ACT_THREE_LEN;
        let whole = bodies.iter().take_while(|packets| {
            end += body_of(packets).len();
            end <= at
        });
        prop_assert_eq!(taken.packets, whole.flatten().cloned().collect::<Packets>());
    }

    #[test]
    fn arbitrary_bytes_never_authenticate(
        mut bytes in any_vec(any::<u8>(), 0..300), right_start in any::<bool>(),
        pieces in any_vec(1usize..100, 1..5),
    ) {
        // Also behind a good Act One, which needs only our public key.
        if right_start {
            bytes.splice(..0, initiators_stream(&[])[..ACT_ONE_LEN].iter().copied());
        }
        for link in [responder(), initiator().0] {
            let taken = take(link, &bytes, &pieces);
            prop_assert_eq!((taken.remote, taken.packets.len()), (None, 0));
        }
    }

    #[test]
    fn nobody_else_can_answer_or_open(other in 5u8..250, ephemeral in 5u8..250) {
        // A responder with another static key cannot read Act One.
        let (mut near, mut act_one) = initiator();
        let limits = LinkLimits::default();
        let mut wrong = Link::<RustCrypto>::responder(0, limits, &key(other), &key(4));
        let error = Err(HandshakeError::ActOneTag.into());
        prop_assert_eq!(wrong.receive(0, &mut act_one), error);
        // Nor does Act Two of another handshake serve in this one.
        let to = key(2).public_key();
        let (_, mut act_one) =
            Link::<RustCrypto>::initiator(0, limits, &key(1), &key(ephemeral), &to);
        let step = responder().receive(0, &mut act_one);
        let Ok(Step::Reply { mut act, .. }) = step else { panic!() };
        prop_assert_eq!(near.receive(0, &mut act), Err(HandshakeError::ActTwoTag.into()));
    }
}
