//! Nodes that are no neighbours: heard, or calling. They are vouched for by the channel's key alone.
//!
//! There are few places. Somebody who announces ever new names, or calls under them, has no more of
//! them, and of the turns, than of all that was heard: whoever is really there and comes again gets one.

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

/// Nodes that may be dialed and not answer before there is a pause: whoever has a key can announce what
/// does not exist. The second half of these is for names that were heard more than once.
pub const UNANSWERED: u64 = 16;
const HALF: u64 = UNANSWERED / 2;

/// A node that has announced itself.
#[derive(Debug)]
struct Candidate {
    key: [u8; 33],
    address: Address,
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

impl<T> Places<T> {
    const EMPTY: Self = Self { list: heapless::Vec::new(), came: 0 };

    /// Gives a place to a newcomer, or does not: each that came since the last turn has one with the same
    /// probability (reservoir sampling; Vitter 1985, algorithm R).
    fn put(&mut self, new: T, rng: &mut Rng) -> bool {
        self.came = self.came.saturating_add(1);
        let Err(new) = self.list.push(new) else { return true };
        let drawn = rng.u64() % self.came.max(2 * CANDIDATES as u64);
        let place = usize::try_from(drawn).ok().and_then(|at| self.list.get_mut(at));
        place.map(|place| *place = new).is_some()
    }
}

impl Strangers {
    pub(super) fn new(now: Micros, interval: Micros) -> Self {
        let next_turn = now.saturating_add(interval);
        Self { candidates: Places::EMPTY, calls: Places::EMPTY, next_turn, even_at: now }
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

    /// A node has announced itself.
    pub(super) fn announced(&mut self, key: [u8; 33], address: Address, rng: &mut Rng) {
        match self.candidates.list.iter_mut().find(|candidate| candidate.key == key) {
            Some(candidate) => {
                (candidate.heard, candidate.tries) = (candidate.heard.saturating_add(1), 0);
            }
            None => _ = self.candidates.put(Candidate { key, address, heard: 1, tries: 0 }, rng),
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
        if self.calls.put(new, rng) { Ok(()) } else { Err(Ignored::TooManyHandshakes) }
    }

    /// It has a session now.
    pub(super) fn forget(&mut self, key: &[u8; 33]) {
        self.candidates.list.retain(|candidate| candidate.key != *key);
    }

    /// One that was dialed has answered, and proven who it is.
    pub(super) fn answered(&mut self, interval: Micros) {
        self.even_at = self.even_at.saturating_sub(interval);
    }

    /// Who has the turn, by chance. A call leaves its place, a candidate after two tries. A dial counts as
    /// unanswered until it is [`answered`](Self::answered).
    pub(super) fn choose(
        &mut self,
        now: Micros,
        unanswered: Micros,
        me: &[u8; 33],
        rng: &mut Rng,
    ) -> Option<Turn> {
        (self.candidates.came, self.calls.came) = (0, 0);
        let owed = self.even_at.saturating_sub(now) / unanswered.max(1);
        let least = match owed {
            ..HALF => 1,
            HALF..UNANSWERED => 2,
            _ => u16::MAX,
        };
        // Of two nodes the one with the lower key dials, so that not both do.
        let may_dial = |candidate: &&mut Candidate| {
            let lower = *me < candidate.key;
            u16::from(candidate.heard) >= if lower { least } else { least.max(PATIENCE) }
        };
        let dials = self.candidates.list.iter_mut().filter(may_dial).count();
        let calls = self.calls.list.len();
        let drawn = rng.u64() as usize;
        // Whoever floods one kind does not take the turns of the other.
        if calls > 0 && (dials == 0 || drawn.is_multiple_of(2)) {
            let Call { from, act } = self.calls.list.swap_remove(drawn / 2 % calls);
            return Some(Turn::Answer(from, act));
        }
        let chosen = drawn / 2 % dials.max(1);
        let candidate = self.candidates.list.iter_mut().filter(may_dial).nth(chosen)?;
        candidate.tries += 1;
        self.even_at = self.even_at.max(now).saturating_add(unanswered);
        let (key, address) = (candidate.key, candidate.address);
        self.candidates.list.retain(|candidate| candidate.tries < TRIES);
        Some(Turn::Dial(key, address))
    }
}
