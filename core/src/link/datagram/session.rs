//! An established session: its keys, and which frames are to be acknowledged.

use super::{
    DatagramLimits, Ignored,
    body::{Ack, Body},
    cipher::{OVERHEAD, Opener, Sealer},
    terms::Terms,
};
use crate::link::{
    aead::{Aead, TAG_LEN},
    handshake::Secrets,
};
use crate::time::Micros;
use secp256k1::PublicKey;

/// Frames that are acknowledged at once, not after a pause, if so many came in.
const ACK_EVERY: u8 = 2;

/// Keys and counters of a session.
pub(super) struct Session<A> {
    /// The neighbour, proven.
    pub(super) remote: PublicKey,
    /// Our number for the session.
    pub(super) number: u8,
    /// Largest packet that the neighbour takes, in bytes.
    pub(super) max_packet: u32,
    /// Largest frame that both sides hold, in bytes.
    pub(super) frame: usize,
    /// The tag of the Act Three that made it, by which that is known again.
    pub(super) act_three: Option<[u8; TAG_LEN]>,
    /// A frame is to be sent, even if it is empty.
    pub(super) confirm: bool,
    sealer: Sealer<A>,
    opener: Opener<A>,
    /// When an acknowledgement must be sent, if one must.
    ack_due: Option<Micros>,
    unacknowledged: u8,
}

impl<A: Aead> Session<A> {
    /// From a finished handshake.
    pub(super) fn new(
        remote: PublicKey,
        number: u8,
        theirs: &Terms,
        limits: &DatagramLimits,
        secrets: &Secrets,
    ) -> Self {
        Self {
            remote,
            number,
            max_packet: theirs.max_packet,
            frame: usize::from(theirs.frame.min(limits.frame)),
            act_three: None,
            confirm: false,
            sealer: Sealer::new(theirs.session, &secrets.sending, &secrets.chaining),
            opener: Opener::new(&secrets.receiving, &secrets.chaining),
            ack_due: None,
            unacknowledged: 0,
        }
    }

    /// Decrypts a frame in place; gives its counter and body.
    ///
    /// # Errors
    /// [`Ignored`]: nothing has changed.
    pub(super) fn open<'f>(&mut self, frame: &'f mut [u8]) -> Result<(u64, &'f mut [u8]), Ignored> {
        self.opener.open(frame)
    }

    /// Notes that the body of a frame was taken, and when to acknowledge it: at once if
    /// something is missing, so that the other side learns of it.
    pub(super) fn accept(
        &mut self,
        now: Micros,
        counter: u64,
        body: &Body<'_>,
        gap: bool,
        delay: Micros,
    ) {
        let expected =
            self.opener.window().highest().map_or(0, |highest| highest.saturating_add(1));
        self.opener.accept(counter);
        if !body.asks_for_ack() {
            return;
        }
        self.unacknowledged = self.unacknowledged.saturating_add(1);
        let at_once = gap || counter != expected || self.unacknowledged >= ACK_EVERY;
        let due = if at_once { now } else { now.saturating_add(delay) };
        self.ack_due = Some(self.ack_due.map_or(due, |before| before.min(due)));
    }

    /// When an acknowledgement must be sent, if one must.
    pub(super) fn ack_due(&self) -> Option<Micros> {
        self.ack_due
    }

    /// What came in, if anything did.
    pub(super) fn ack(&self) -> Option<Ack> {
        let window = self.opener.window();
        Some(Ack { highest: window.highest()? as u16, before: window.before_highest() })
    }

    /// Counter of the next frame to be sent.
    pub(super) fn next_counter(&self) -> u64 {
        self.sealer.next_counter()
    }

    /// Makes a frame of a body of `len` bytes that stands behind room for the header;
    /// returns the length of the frame. `acked`: the acknowledgement is in it.
    pub(super) fn seal(&mut self, out: &mut [u8], len: usize, acked: bool) -> Option<usize> {
        let whole = len.checked_add(OVERHEAD)?;
        if !self.sealer.seal(out.get_mut(..whole)?) {
            return None;
        }
        self.confirm = false;
        if acked {
            (self.ack_due, self.unacknowledged) = (None, 0);
        }
        Some(whole)
    }
}

impl<A> core::fmt::Debug for Session<A> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Session").field("number", &self.number).finish_non_exhaustive()
    }
}
