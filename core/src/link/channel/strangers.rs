//! Nodes that are no neighbours: heard, or calling. They are vouched for by the channel's key alone.
//!
//! There are few places. Somebody who announces ever new names, or calls under them, has no more of
//! them, and of the turns, than of all that was heard: whoever is really there and comes again gets one.
//! A dial costs as much air time as eight announcements, so who invents names could have all others use
//! up the channel: the more dials are unanswered, the more often a name must have been heard to be dialed.

use super::frame::Address;
use crate::link::datagram::Ignored;
use crate::link::datagram::terms::ONE_LEN;
use crate::rng::Rng;
use crate::time::Micros;

/// Nodes that are remembered: of those that announce themselves, and of those that call.
pub const CANDIDATES: usize = 8;
/// A node with the higher key dials only if it has been announced so often: the other may not
/// have a place, or not hear it.
const PATIENCE: u16 = 3;
/// How often a node is dialed that does not answer, until it is heard again.
const TRIES: u8 = 2;
/// Dials that may be unanswered before a name must have been heard twice to be dialed. A name costs
/// whoever invents it one announcement until then.
pub const UNANSWERED: u64 = 4;
/// With so many more it must have been heard twice as often.
const DOUBLES: u64 = 4;
/// Announcements whose senders are known again. A node without neighbours announces itself each 15 s in EU868, so it
/// is known among four others a second.
const HEARD: usize = 64;

/// How often a name must have been heard to be dialed while so many dials are unanswered.
fn hearings(unanswered: u64) -> u16 {
    match unanswered.checked_sub(UNANSWERED) {
        None => 1,
        Some(more) => 2u16.saturating_mul(2u16.saturating_pow((more / DOUBLES).min(16) as u32)),
    }
}

/// A node that has announced itself.
#[derive(Debug)]
struct Candidate {
    key: [u8; 33],
    address: Address,
    /// How often since it had its last try.
    heard: u8,
    /// How often it was dialed since it was last heard.
    tries: u8,
}

/// A node that has sent Act One.
#[derive(Debug)]
struct Call {
    from: Address,
    act: [u8; ONE_LEN],
}

/// Who sent the last announcements. [`Address::ALL`]: nobody, or it had its tries since.
#[derive(Debug)]
struct Heard {
    ring: [Address; HEARD],
    next: usize,
}

impl Heard {
    /// How often this one was heard lately, now included.
    fn again(&mut self, address: Address) -> u8 {
        if let Some(oldest) = self.ring.get_mut(self.next) {
            *oldest = address;
        }
        self.next = (self.next + 1) % HEARD;
        self.ring.iter().filter(|heard| **heard == address).count() as u8
    }

    /// It had its tries: others need hearings of their own.
    fn forget(&mut self, address: Address) {
        self.ring.iter_mut().filter(|heard| **heard == address).for_each(|at| *at = Address::ALL);
    }
}

/// What is done in a turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Dial the holder of this key.
    Dial([u8; 33], Address),
    /// Answer this Act One.
    Answer(Address, [u8; ONE_LEN]),
}

/// Nodes that are no neighbours.
#[derive(Debug)]
pub(super) struct Strangers {
    candidates: Places<Candidate>,
    /// Candidates that were heard again and found no free place since the last turn.
    came_again: u64,
    heard: Heard,
    calls: Places<Call>,
    next_turn: Micros,
    /// When all that did not answer is made up for.
    even_at: Micros,
}

/// Nodes of one kind, and how many came since the last turn.
#[derive(Debug)]
struct Places<T> {
    list: heapless::Vec<T, CANDIDATES>,
    came: u64,
}

/// Which of all places a newcomer gets, if any: each that came has one with the same probability
/// (reservoir sampling; Vitter 1985, algorithm R).
fn draw(came: &mut u64, rng: &mut Rng) -> Option<usize> {
    *came = came.saturating_add(1);
    let drawn = rng.u64() % (*came).max(2 * CANDIDATES as u64);
    usize::try_from(drawn).ok().filter(|at| *at < CANDIDATES)
}

impl<T> Places<T> {
    const EMPTY: Self = Self { list: heapless::Vec::new(), came: 0 };
}

impl Strangers {
    pub(super) fn new(now: Micros, interval: Micros) -> Self {
        Self {
            candidates: Places::EMPTY,
            came_again: 0,
            heard: Heard { ring: [Address::ALL; HEARD], next: 0 },
            calls: Places::EMPTY,
            next_turn: now.saturating_add(interval),
            even_at: now,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.candidates.list.len()
    }

    pub(super) fn next_turn(&self) -> Micros {
        self.next_turn
    }

    pub(super) fn turn_over(&mut self, now: Micros, interval: Micros) {
        self.next_turn = now.saturating_add(interval);
    }

    /// A node has announced itself. One that is heard for the first time takes no place of one that was
    /// heard again.
    pub(super) fn announced(&mut self, key: [u8; 33], address: Address, rng: &mut Rng) {
        let heard = self.heard.again(address);
        let list = &mut self.candidates.list;
        if let Some(candidate) = list.iter_mut().find(|candidate| candidate.key == key) {
            (candidate.heard, candidate.tries) = (candidate.heard.saturating_add(1), 0);
            return;
        }
        let Err(new) = list.push(Candidate { key, address, heard, tries: 0 }) else { return };
        let once = |candidate: &Candidate| candidate.heard == 1;
        let place = match heard {
            ..=1 => draw(&mut self.candidates.came, rng)
                .and_then(|at| list.get_mut(at))
                .filter(|at| once(at)),
            _ => match list.iter().position(once) {
                Some(at) => list.get_mut(at),
                None => draw(&mut self.came_again, rng).and_then(|at| list.get_mut(at)),
            },
        };
        if let Some(place) = place {
            *place = new;
        }
    }

    /// A node calls. The act is kept until there is a turn for it.
    pub(super) fn called(
        &mut self,
        from: Address,
        act: &[u8],
        rng: &mut Rng,
    ) -> Result<(), Ignored> {
        let act = act.try_into().map_err(|_| Ignored::NotAFrame)?;
        let new = Call { from, act };
        if let Some(call) = self.calls.list.iter_mut().find(|call| call.from == from) {
            *call = new;
            return Ok(());
        }
        let Err(new) = self.calls.list.push(new) else { return Ok(()) };
        let place = draw(&mut self.calls.came, rng).and_then(|at| self.calls.list.get_mut(at));
        *place.ok_or(Ignored::TooManyHandshakes)? = new;
        Ok(())
    }

    /// It has a session now: a call from before would only be the same once more.
    pub(super) fn forget(&mut self, key: &[u8; 33], address: Address) {
        self.candidates.list.retain(|candidate| candidate.key != *key);
        self.calls.list.retain(|call| call.from != address);
    }

    /// One that was dialed has answered, and proven who it is.
    pub(super) fn answered(&mut self, interval: Micros) {
        self.even_at = self.even_at.saturating_sub(interval);
    }

    /// Who has the turn, by chance. A call leaves its place, a candidate after two tries. A dial counts as
    /// unanswered until it is [`answered`](Self::answered). Who calls is answered and not dialed, and nobody
    /// is dialed who `is_dialed` already.
    pub(super) fn choose(
        &mut self,
        now: Micros,
        unanswered: Micros,
        me: &[u8; 33],
        is_dialed: impl Fn(&[u8; 33]) -> bool,
        rng: &mut Rng,
    ) -> Option<Turn> {
        (self.candidates.came, self.calls.came, self.came_again) = (0, 0, 0);
        let least = hearings(self.even_at.saturating_sub(now) / unanswered.max(1));
        // Of two nodes the one with the lower key dials, so that not both do.
        let may_dial = |candidate: &Candidate| {
            let least = if *me < candidate.key { least } else { least.max(PATIENCE) };
            u16::from(candidate.heard) >= least && !is_dialed(&candidate.key)
        };
        let dials = self.candidates.list.iter().filter(|c| may_dial(c)).count();
        let calls = self.calls.list.len();
        let drawn = rng.u64() as usize;
        // Whoever floods one kind does not take the turns of the other.
        if calls > 0 && (dials == 0 || drawn.is_multiple_of(2)) {
            let Call { from, act } = self.calls.list.swap_remove(drawn / 2 % calls);
            return Some(Turn::Answer(from, act));
        }
        let chosen = drawn / 2 % dials.max(1);
        let mut allowed = (0..self.candidates.list.len())
            .filter(|at| self.candidates.list.get(*at).is_some_and(may_dial));
        let at = allowed.nth(chosen)?;
        let candidate = self.candidates.list.get_mut(at)?;
        let (key, address) = (candidate.key, candidate.address);
        if let Some(at) = self.calls.list.iter().position(|call| call.from == address) {
            let Call { from, act } = self.calls.list.swap_remove(at);
            return Some(Turn::Answer(from, act));
        }
        candidate.tries += 1;
        if candidate.tries >= TRIES {
            self.candidates.list.swap_remove(at);
            self.heard.forget(address);
        }
        self.even_at = self.even_at.max(now).saturating_add(unanswered);
        Some(Turn::Dial(key, address))
    }
}
