//! The listening side of handshakes: half-open ones, bounded in number and in work.

use super::{
    Allowance, DatagramLimits, Ignored, Keys,
    terms::{ActFrame, SESSIONS, Terms},
};
use crate::{
    link::{
        aead::{Aead, TAG_LEN},
        handshake::{ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, AwaitingStatic, Responder, Secrets},
    },
    time::Micros,
};
use secp256k1::PublicKey;

/// Handshakes that may be half open.
pub const HALF_OPEN: usize = 2;

/// A handshake that was carried out.
pub(super) struct Answered {
    /// Who began it, proven.
    pub(super) remote: PublicKey,
    /// Keys of the session.
    pub(super) secrets: Secrets,
    /// Our number for the session.
    pub(super) session: u8,
    /// What the initiator takes.
    pub(super) terms: Terms,
}

/// Handshakes that others began.
#[derive(Debug, Default)]
pub(super) struct Answers {
    half_open: heapless::Vec<HalfOpen, HALF_OPEN>,
    allowance: Allowance,
    last_session: u8,
}

struct HalfOpen {
    session: u8,
    /// The tag of Act One, by which it is known again.
    act_one: [u8; TAG_LEN],
    act_two: [u8; ACT_TWO_LEN],
    theirs: Terms,
    ours: Terms,
    awaiting: AwaitingStatic,
    until: Micros,
    /// Act Two is to be sent.
    due: bool,
}

impl Answers {
    /// Takes Act One. One that came before is answered as before. A new one takes the
    /// place of the oldest: as the allowance is bounded, each has some time.
    ///
    /// # Errors
    /// [`Ignored`]: nothing has changed.
    pub(super) fn act_one<A: Aead>(
        &mut self,
        now: Micros,
        limits: &DatagramLimits,
        theirs: Terms,
        act: &[u8; ACT_ONE_LEN],
        keys: &mut impl Keys,
        in_use: Option<u8>,
    ) -> Result<(), Ignored> {
        self.half_open.retain(|half| now < half.until);
        let tag = act.last_chunk().ok_or(Ignored::NotAFrame)?;
        if let Some(half) = self.half_open.iter_mut().find(|half| half.act_one == *tag) {
            half.due = true;
            return Ok(());
        }
        if !self.allowance.take(now, limits.handshake_interval) {
            return Err(Ignored::TooManyHandshakes);
        }
        let session = self.free_session(in_use);
        let ours = limits.terms(session);
        let ephemeral = keys.ephemeral();
        let responder = Responder::new(keys.local(), &ephemeral);
        let (awaiting, act_two) = responder
            .act_one::<A>(act, &theirs.said(), &ours.said())
            .map_err(Ignored::Handshake)?;
        self.last_session = session;
        if self.half_open.is_full() {
            self.half_open.remove(0);
        }
        let until = now.saturating_add(limits.handshake_timeout);
        let act_one = *tag;
        let half = HalfOpen { session, act_one, act_two, theirs, ours, awaiting, until, due: true };
        self.half_open.push(half).map_err(|_| Ignored::TooManyHandshakes)
    }

    /// Takes Act Three. A wrong one changes nothing and costs no operation on the curve.
    ///
    /// # Errors
    /// [`Ignored`]: nothing has changed.
    pub(super) fn act_three<A: Aead>(
        &mut self,
        now: Micros,
        session: u8,
        act: &[u8; ACT_THREE_LEN],
    ) -> Result<Answered, Ignored> {
        self.half_open.retain(|half| now < half.until);
        let at = self.half_open.iter().position(|half| half.session == session);
        let at = at.ok_or(Ignored::UnknownSession)?;
        let half = self.half_open.get(at).ok_or(Ignored::UnknownSession)?;
        let (remote, secrets) =
            half.awaiting.clone().act_three::<A>(act).map_err(Ignored::Handshake)?;
        let half = self.half_open.remove(at);
        Ok(Answered { remote, secrets, session, terms: half.theirs })
    }

    /// Writes an Act Two that is to be sent.
    pub(super) fn transmit(&mut self, now: Micros, out: &mut [u8]) -> Option<usize> {
        self.half_open.retain(|half| now < half.until);
        let half = self.half_open.iter_mut().find(|half| half.due)?;
        half.due = false;
        ActFrame::Two(half.theirs.session, half.ours, &half.act_two).write(out)
    }

    /// When there is something to send: at once, if there is.
    pub(super) fn poll_timeout(&self) -> Option<Micros> {
        self.half_open.iter().any(|half| half.due).then_some(0)
    }

    /// The next number that neither the session in use nor a half-open one has.
    fn free_session(&self, in_use: Option<u8>) -> u8 {
        let taken = |number| {
            in_use == Some(number) || self.half_open.iter().any(|half| half.session == number)
        };
        let next = |number: u8| number.wrapping_add(1) & SESSIONS;
        let mut session = next(self.last_session);
        for _ in 0..=HALF_OPEN {
            if taken(session) {
                session = next(session);
            }
        }
        session
    }
}

impl core::fmt::Debug for HalfOpen {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("HalfOpen").field("session", &self.session).finish_non_exhaustive()
    }
}
