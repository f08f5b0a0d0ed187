//! The dialling side of a handshake: acts are sent again until they are answered.

use super::{
    Allowance, DatagramLimits, Ignored, Keys,
    session::Session,
    terms::{ActFrame, SESSIONS, Terms},
};
use crate::link::{
    aead::Aead,
    handshake::{ACT_ONE_LEN, ACT_THREE_LEN, ACT_TWO_LEN, Initiator},
};
use crate::time::Micros;
use secp256k1::PublicKey;

/// A handshake that this side began.
pub(super) struct Call<A> {
    /// Our number for the session.
    pub(super) session: u8,
    remote: PublicKey,
    ours: Terms,
    phase: Phase<A>,
    /// When to send the act again, and how long to wait after that.
    due: Micros,
    wait: Micros,
    /// When to give up.
    pub(super) until: Micros,
    allowance: Allowance,
}

enum Phase<A> {
    One {
        initiator: Initiator,
        act: [u8; ACT_ONE_LEN],
    },
    /// The session stands for us; the first frame of it shows that Act Three arrived.
    Three {
        act: [u8; ACT_THREE_LEN],
        theirs: u8,
        session: Session<A>,
    },
}

impl<A: Aead> Call<A> {
    /// Begins one.
    pub(super) fn new(
        now: Micros,
        limits: &DatagramLimits,
        remote: PublicKey,
        session: u8,
        keys: &mut impl Keys,
    ) -> Self {
        let ours = limits.terms(session & SESSIONS);
        let ephemeral = keys.ephemeral();
        let (initiator, act) =
            Initiator::start::<A>(keys.local(), &ephemeral, &remote, &ours.said());
        Self {
            session: ours.session,
            remote,
            ours,
            phase: Phase::One { initiator, act },
            due: now,
            wait: limits.initial_rto,
            until: now.saturating_add(limits.handshake_timeout),
            allowance: Allowance::default(),
        }
    }

    /// Takes Act Two. A wrong one changes nothing.
    ///
    /// # Errors
    /// [`Ignored`]: nothing has changed.
    pub(super) fn act_two(
        &mut self,
        now: Micros,
        limits: &DatagramLimits,
        terms: Terms,
        act: &[u8; ACT_TWO_LEN],
    ) -> Result<(), Ignored> {
        let Phase::One { initiator, .. } = &self.phase else { return Err(Ignored::Replayed) };
        if !self.allowance.take(now, limits.handshake_interval) {
            return Err(Ignored::TooManyHandshakes);
        }
        let (act, secrets) =
            initiator.clone().act_two::<A>(act, &terms.said()).map_err(Ignored::Handshake)?;
        let session = Session::new(self.remote, self.ours.session, &terms, limits, &secrets);
        self.phase = Phase::Three { act, theirs: terms.session, session };
        (self.due, self.wait) = (now, limits.initial_rto);
        Ok(())
    }

    /// Whether Act Two was taken.
    pub(super) fn is_answered(&self) -> bool {
        matches!(self.phase, Phase::Three { .. })
    }

    /// The session, once Act Two was taken.
    pub(super) fn session_mut(&mut self) -> Option<&mut Session<A>> {
        match &mut self.phase {
            Phase::One { .. } => None,
            Phase::Three { session, .. } => Some(session),
        }
    }

    /// The session, to be used.
    pub(super) fn into_session(self) -> Option<Session<A>> {
        match self.phase {
            Phase::One { .. } => None,
            Phase::Three { session, .. } => Some(session),
        }
    }

    /// When there is something to do.
    pub(super) fn poll_timeout(&self) -> Micros {
        self.due.min(self.until)
    }

    /// Writes an act that is to be sent.
    pub(super) fn transmit(
        &mut self,
        now: Micros,
        max_rto: Micros,
        out: &mut [u8],
    ) -> Option<usize> {
        if now < self.due {
            return None;
        }
        self.due = now.saturating_add(self.wait);
        self.wait = self.wait.saturating_mul(2).min(max_rto);
        match &self.phase {
            Phase::One { act, .. } => ActFrame::One(self.ours, act).write(out),
            Phase::Three { act, theirs, .. } => ActFrame::Three(*theirs, act).write(out),
        }
    }
}

impl<A> core::fmt::Debug for Call<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Call").field("session", &self.session).finish_non_exhaustive()
    }
}
