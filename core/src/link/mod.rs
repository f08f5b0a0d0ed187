//! Links: bytes to and from one neighbour. Those over streams are
//! here; those over lines that lose frames are in [`datagram`].
//!
//! [`Link`] carries out the handshake of BOLT 8 and then turns received bytes into
//! decrypted frames, in place. It does no I/O:
//!
//! ```text
//! link = Link::responder(now, ..)         or (link, act_one) = Link::initiator(now, ..)
//! loop over received bytes:
//!     match link.receive(now, &mut buf[start..])? {
//!         NeedBytes(n)                      => read until that many are there
//!         Reply { consumed, act }           => start += consumed; send act
//!         Established { consumed, reply, .. } => the same, and now frames flow both ways
//!         Frame(frame)                      => start += frame.consumed;
//!                                              joiner.records(now, &mut buf[frame.body])
//!     }
//! ```
//!
//! Any error means: close this link. Nobody is known before `Established`; until
//! then a link needs 66 bytes of buffer, and does no more work than the handshake.
//! Afterwards [`Link::split`] gives two halves that two tasks may drive.

pub mod aead;
pub mod datagram;
pub mod fragment;
pub mod handshake;
pub mod joiner;
pub mod lane;
pub mod packet_buffer;
pub mod suite;
pub mod transport;

#[cfg(test)]
mod vectors;

use aead::Aead;
use handshake::{
    ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, AwaitingStatic, HandshakeError, Initiator, Responder,
    Secrets,
};
use secp256k1::{Keypair, PublicKey};
use suite::{Suite, take_version};
use transport::{Frame, Receiver, Sender, TransportError};

/// Limits of a link that its shell chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// Microseconds that a handshake may take.
    pub handshake_timeout: u64,
    /// Largest frame body that is accepted, in bytes. The receive buffer must hold
    /// [`transport::FRAME_OVERHEAD`] more.
    pub max_body: u16,
    /// Offer AES-256-GCM, and take it where it is offered: set where the processor has it in
    /// hardware. Without effect where [`Aead::HAS_AES`] is false.
    pub aes: bool,
}

impl Default for LinkLimits {
    /// Ten seconds; 65,535 bytes; no AES.
    fn default() -> Self {
        Self { handshake_timeout: 10_000_000, max_body: u16::MAX, aes: false }
    }
}

impl LinkLimits {
    /// The best suite that this end has.
    fn suite<A: Aead>(&self) -> Suite {
        if self.aes && A::HAS_AES { Suite::Aes256Gcm } else { Suite::default() }
    }
}

/// Why a link must be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum LinkError {
    /// The handshake failed.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// The handshake was not finished in time.
    #[error("the handshake was not finished in time")]
    HandshakeTimeout,
    /// A frame was not acceptable.
    #[error("{0}")]
    Transport(TransportError),
}

impl From<HandshakeError> for LinkError {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<TransportError> for LinkError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

/// What [`Link::receive`] made of the bytes. Bytes after those consumed wait for
/// the next call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing was consumed: call again once this many bytes are there, counted
    /// from the first one not consumed.
    NeedBytes(usize),
    /// The handshake goes on: send Act Two.
    Reply {
        /// Bytes taken from the buffer.
        consumed: usize,
        /// Bytes to send.
        act: [u8; ACT_TWO_LEN],
    },
    /// The neighbour has proven that it holds `remote`. Frames may be sent, after
    /// the reply.
    Established {
        /// Bytes taken from the buffer.
        consumed: usize,
        /// The neighbour's static public key.
        remote: PublicKey,
        /// Act Three, to be sent first (initiator only).
        reply: Option<[u8; ACT_THREE_LEN]>,
    },
    /// A frame was decrypted in place.
    Frame(Frame),
}

/// One link, from its first byte on.
#[derive(Debug, Clone)]
pub struct Link<A> {
    state: State<A>,
    limits: LinkLimits,
    /// Monotonic microseconds by which the handshake must be finished.
    deadline: u64,
}

#[derive(Debug, Clone)]
enum State<A> {
    AwaitActOne(Responder),
    AwaitActTwo(Initiator, PublicKey),
    AwaitActThree(AwaitingStatic, Suite),
    Established(Sender<A>, Receiver<A>),
    Failed(LinkError),
}

impl<A: Aead> Link<A> {
    /// Opens a link to the holder of `remote`; gives Act One to send. `now` is in
    /// monotonic microseconds. `ephemeral` must be fresh and random for each link.
    pub fn initiator(
        now: u64,
        limits: LinkLimits,
        local: &Keypair,
        ephemeral: &Keypair,
        remote: &PublicKey,
    ) -> (Self, [u8; ACT_ONE_LEN]) {
        let offer = limits.suite::<A>();
        let (initiator, mut act) = Initiator::start::<A>(local, ephemeral, remote, offer.said());
        let [version, ..] = &mut act;
        *version = offer as u8;
        (Self::new(now, limits, State::AwaitActTwo(initiator, *remote)), act)
    }

    /// Accepts a link from whoever may come. `now` is in monotonic microseconds.
    /// `ephemeral` must be fresh and random for each link.
    pub fn responder(now: u64, limits: LinkLimits, local: &Keypair, ephemeral: &Keypair) -> Self {
        Self::new(now, limits, State::AwaitActOne(Responder::new(local, ephemeral)))
    }

    fn new(now: u64, limits: LinkLimits, state: State<A>) -> Self {
        Self { state, limits, deadline: now.saturating_add(limits.handshake_timeout) }
    }

    /// Takes received bytes, from the first one not yet consumed. Call it until it
    /// answers [`Step::NeedBytes`].
    ///
    /// # Errors
    /// [`LinkError`]: close the link. Every later call fails likewise.
    pub fn receive(&mut self, now: u64, buf: &mut [u8]) -> Result<Step, LinkError> {
        self.handle_timeout(now)?;
        if let State::Established(_, receiver) = &mut self.state {
            return Ok(match receiver.open_frame(buf)? {
                Some(frame) => Step::Frame(frame),
                None => Step::NeedBytes(receiver.needs()),
            });
        }
        self.advance_handshake(buf).inspect_err(|error| self.state = State::Failed(*error))
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called at the latest,
    /// in monotonic microseconds; `None` once established.
    pub fn poll_timeout(&self) -> Option<u64> {
        let waits = !matches!(self.state, State::Established(..) | State::Failed(_));
        waits.then_some(self.deadline)
    }

    /// Fails a handshake whose time is over.
    ///
    /// # Errors
    /// [`LinkError::HandshakeTimeout`], or the error that the link failed with.
    pub fn handle_timeout(&mut self, now: u64) -> Result<(), LinkError> {
        if self.poll_timeout().is_some_and(|deadline| now >= deadline) {
            self.state = State::Failed(LinkError::HandshakeTimeout);
        }
        match self.state {
            State::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    /// What it means that the neighbour's stream ends here, before more bytes.
    ///
    /// # Errors
    /// The `..Short` errors of [`HandshakeError`], or the error that the link failed
    /// with; `Ok` once established.
    pub fn end_of_stream(&self) -> Result<(), LinkError> {
        match self.state {
            State::AwaitActOne(_) => Err(HandshakeError::ActOneShort.into()),
            State::AwaitActTwo(..) => Err(HandshakeError::ActTwoShort.into()),
            State::AwaitActThree(..) => Err(HandshakeError::ActThreeShort.into()),
            State::Established(..) => Ok(()),
            State::Failed(error) => Err(error),
        }
    }

    /// The sending half, once established.
    pub fn sender(&mut self) -> Option<&mut Sender<A>> {
        match &mut self.state {
            State::Established(sender, _) => Some(sender),
            _ => None,
        }
    }

    /// The two halves, to be driven independently, once established.
    pub fn split(self) -> Option<(Sender<A>, Receiver<A>)> {
        match self.state {
            State::Established(sender, receiver) => Some((sender, receiver)),
            _ => None,
        }
    }

    fn advance_handshake(&mut self, buf: &[u8]) -> Result<Step, LinkError> {
        match &self.state {
            State::AwaitActOne(responder) => {
                let Some(act) = buf.first_chunk() else { return Ok(Step::NeedBytes(ACT_ONE_LEN)) };
                let (act, number) = take_version(act);
                let offer = Suite::from_u8(number).ok_or(HandshakeError::ActOneVersion(number))?;
                let suite = match offer {
                    Suite::ChaCha20Poly1305 => offer,
                    Suite::Aes256Gcm => self.limits.suite::<A>(),
                };
                let (awaiting, mut act) =
                    responder.clone().act_one::<A>(&act, offer.said(), suite.said())?;
                let [version, ..] = &mut act;
                *version = suite as u8;
                self.state = State::AwaitActThree(awaiting, suite);
                Ok(Step::Reply { consumed: ACT_ONE_LEN, act })
            }
            State::AwaitActTwo(initiator, remote) => {
                let Some(act) = buf.first_chunk() else { return Ok(Step::NeedBytes(ACT_TWO_LEN)) };
                let remote = *remote;
                let (act, number) = take_version(act);
                let suite = Suite::from_u8(number)
                    .filter(|suite| {
                        *suite == Suite::default() || *suite == self.limits.suite::<A>()
                    })
                    .ok_or(HandshakeError::ActTwoVersion(number))?;
                let (reply, secrets) = initiator.clone().act_two::<A>(&act, suite.said())?;
                self.establish(suite, &secrets);
                Ok(Step::Established { consumed: ACT_TWO_LEN, remote, reply: Some(reply) })
            }
            State::AwaitActThree(awaiting, suite) => {
                let Some(act) = buf.first_chunk() else {
                    return Ok(Step::NeedBytes(ACT_THREE_LEN));
                };
                let suite = *suite;
                let (remote, secrets) = awaiting.clone().act_three::<A>(act)?;
                self.establish(suite, &secrets);
                Ok(Step::Established { consumed: ACT_THREE_LEN, remote, reply: None })
            }
            // Both are dealt with by `receive`.
            State::Established(..) => Ok(Step::NeedBytes(0)),
            State::Failed(error) => Err(*error),
        }
    }

    fn establish(&mut self, suite: Suite, secrets: &Secrets) {
        let receiver = Receiver::new(suite, secrets, self.limits.max_body);
        self.state = State::Established(Sender::new(suite, secrets), receiver);
    }
}

#[cfg(test)]
mod tests {
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
        let mut joiner =
            Joiner::new(500, 1000, heapless::Vec::<u8, 500>::new(), Default::default());
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
}
