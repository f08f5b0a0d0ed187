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
pub mod channel;
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
mod tests;
