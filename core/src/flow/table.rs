//! The flows that pass through this node, or end here.
//!
//! An entry is found from either side, by the identity of the neighbour that a packet comes from
//! and the number of the flow. One look-up and a counter is all that a packet of data takes.
//! Full, and where a neighbour has its share: no new flow is taken; none is ever evicted. A flow
//! ends when it was idle for as long as its Open said.

use crate::config::fixed::{FLOW_HEADS, FLOWS};
use crate::id::{HopId, NodeId};
use crate::tables::{List, Memory};
use crate::time::Micros;
use core::hash::Hasher;
use core::num::NonZeroU64;
use siphasher::sip::SipHasher13;

/// No place; the others count from 1, so that an empty table is all zeros.
const NONE: u16 = 0;
/// Most flows: each has a place for either side.
const MOST: usize = u16::MAX as usize / 2;

/// From which end of the flow a packet comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// From the source.
    Source,
    /// From the destination.
    Destination,
}

/// Where a flow goes, from one node's view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The neighbour before this node on the route; `None`: this node is the source.
    pub from: Option<HopId>,
    /// The neighbour behind it; `None`: this node is the destination.
    pub to: Option<HopId>,
    /// Links between the source and this node.
    pub behind: u8,
    /// Links between this node and the destination.
    pub ahead: u8,
}

/// A flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Its number.
    pub number: u64,
    /// Who opened it, and pays.
    pub source: NodeId,
    /// Where it goes.
    pub path: Path,
    /// Number of the Open that is in force.
    pub open_number: u64,
    /// Whether bytes are taken from the source's account.
    pub metered: bool,
    /// Bytes that it may still carry before it draws again.
    pub left: u64,
    /// Bytes that it may still draw.
    pub may_draw: u64,
    /// How many of those that are left were drawn last.
    pub fresh: u64,
    /// Records, which are numbered from 1, that must be durable before bytes are used: those drawn
    /// before, and those drawn last.
    pub records: [Option<NonZeroU64>; 2],
    /// Whether the destination's answer has passed.
    pub opened: bool,
    /// When a packet was last carried.
    pub heard: Micros,
    /// For how long it may carry none.
    pub idle: Micros,
}

impl Flow {
    /// A flow that ends at this node, which takes no bytes for it.
    #[cfg(feature = "alloc")]
    pub fn at_end(
        number: u64,
        source: NodeId,
        path: Path,
        open_number: u64,
        [heard, idle]: [Micros; 2],
    ) -> Self {
        Self {
            number,
            source,
            path,
            open_number,
            metered: false,
            left: 0,
            may_draw: 0,
            fresh: 0,
            records: [None; 2],
            opened: path.to.is_none(),
            heard,
            idle,
        }
    }

    /// Adds bytes that were drawn, as a record says.
    #[inline(never)]
    pub fn add(&mut self, bytes: u64, record: Option<u64>) {
        let [_, before] = self.records;
        self.records = [before, record.and_then(NonZeroU64::new)];
        self.fresh = bytes;
        self.left = self.left.saturating_add(bytes);
        self.may_draw = self.may_draw.saturating_sub(bytes);
    }

    /// Uses bytes, those drawn first before the others; the record that must be durable for it.
    /// `None` if there are not so many.
    pub fn spend(&mut self, bytes: u64) -> Option<Option<u64>> {
        self.left = self.left.checked_sub(bytes)?;
        let [before, last] = self.records;
        let record = if self.left >= self.fresh { before } else { last };
        Some(record.map(NonZeroU64::get))
    }

    /// The neighbour to which a packet from this side goes; `None`: it ends here.
    pub fn next(&self, side: Side) -> Option<HopId> {
        match side {
            Side::Source => self.path.to,
            Side::Destination => self.path.from,
        }
    }

    /// The hop limit that a packet from this side must arrive with: the links still to go.
    pub fn hop_limit(&self, side: Side) -> u8 {
        match side {
            Side::Source => self.path.ahead,
            Side::Destination => self.path.behind,
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    flow: Option<Flow>,
    /// The next place with the same hash, for either side; of a free slot, the next free one.
    next: [u16; 2],
}

/// Why a flow is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum FlowTableError {
    /// There is no room for another flow.
    #[error("there is no room for another flow")]
    Full,
    /// The neighbour has its share of the flows.
    #[error("the neighbour has its share of the flows already")]
    ShareTaken,
}

/// The flows of one node.
pub struct FlowTable<M: Memory> {
    slots: M::List<Slot, FLOWS>,
    /// The first place of each hash.
    heads: M::List<u16, FLOW_HEADS>,
    /// How many flows came from each neighbour, sorted.
    counts: M::List<(HopId, u16), FLOWS>,
    free: u16,
    len: usize,
    secret: [u8; 16],
    /// No flow has been idle for too long before this.
    next_look: Micros,
}

impl<M: Memory> FlowTable<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self {
        slots: M::List::EMPTY,
        heads: M::List::EMPTY,
        counts: M::List::EMPTY,
        free: NONE,
        len: 0,
        secret: [0; 16],
        next_look: 0,
    };

    /// Makes room for so many flows, at most 32,767; hashed with a secret.
    pub fn prepare(&mut self, capacity: usize, secret: [u8; 16]) {
        let capacity = capacity.min(MOST);
        self.slots.set_capacity(capacity);
        self.counts.set_capacity(capacity);
        self.heads.set_capacity((2 * capacity).next_power_of_two());
        self.secret = secret;
    }

    fn chain(&self, neighbour: HopId, number: u64) -> Option<usize> {
        let mut hasher = SipHasher13::new_with_key(&self.secret);
        hasher.write_u64(u64::from_le_bytes(neighbour.0));
        hasher.write_u64(number);
        usize::try_from(hasher.finish().checked_rem(self.heads.len() as u64)?).ok()
    }

    /// A place is a slot and a side of it.
    fn at(place: u16) -> Option<(usize, usize)> {
        let at = usize::from(place).checked_sub(1)?;
        Some((at / 2, at % 2))
    }

    fn place(slot: usize, side: usize) -> u16 {
        (2 * slot + side + 1) as u16
    }

    /// The flow with this number to which a packet from a neighbour belongs, and the end from
    /// which it comes.
    pub fn find(&self, neighbour: HopId, number: u64) -> Option<(usize, Side)> {
        let mut place = *self.heads.get(self.chain(neighbour, number)?)?;
        loop {
            let (slot, side) = Self::at(place)?;
            let entry = self.slots.get(slot)?;
            let flow = entry.flow.as_ref()?;
            let side_of = [(flow.path.from, Side::Source), (flow.path.to, Side::Destination)];
            let (hop, found) = *side_of.get(side)?;
            if flow.number == number && hop == Some(neighbour) {
                return Some((slot, found));
            }
            place = *entry.next.get(side)?;
        }
    }

    /// A flow that was [found](Self::find).
    pub fn get_mut(&mut self, at: usize) -> Option<&mut Flow> {
        self.slots.get_mut(at)?.flow.as_mut()
    }

    /// Whether a flow from this neighbour could be added, whose share is `share`.
    ///
    /// # Errors
    /// [`FlowTableError`].
    pub fn room(&self, from: Option<HopId>, share: usize) -> Result<(), FlowTableError> {
        if self.len >= self.slots.capacity() {
            return Err(FlowTableError::Full);
        }
        match from.is_some_and(|from| self.count(from) >= share) {
            true => Err(FlowTableError::ShareTaken),
            false => Ok(()),
        }
    }

    /// Adds a flow; returns where it is. Neither side may be [known](Self::find), and there must
    /// be [room](Self::room).
    pub fn insert(&mut self, flow: Flow) -> Option<usize> {
        if self.heads.is_empty() {
            self.heads.reserve();
            while !self.heads.is_full() && self.heads.try_push(NONE).is_ok() {}
        }
        let slot = match Self::at(self.free) {
            Some((slot, _)) => {
                self.free = self.slots.get(slot)?.next.first().copied()?;
                slot
            }
            None => {
                self.slots.try_push(Slot::default()).ok()?;
                self.slots.len().checked_sub(1)?
            }
        };
        let mut next = [NONE; 2];
        for (side, hop) in [flow.path.from, flow.path.to].into_iter().enumerate() {
            let Some(head) = hop.and_then(|hop| self.chain(hop, flow.number)) else { continue };
            if let (Some(head), Some(next)) = (self.heads.get_mut(head), next.get_mut(side)) {
                *next = core::mem::replace(head, Self::place(slot, side));
            }
        }
        if let Some(from) = flow.path.from {
            match self.counts.binary_search_by_key(&from, |(hop, _)| *hop) {
                Ok(at) => self.counts.get_mut(at).into_iter().for_each(|(_, n)| *n += 1),
                Err(at) => {
                    let _ = self.counts.try_insert(at, (from, 1));
                }
            }
        }
        let ends = flow.heard.saturating_add(flow.idle);
        self.next_look = if self.len == 0 { ends } else { self.next_look.min(ends) };
        *self.slots.get_mut(slot)? = Slot { flow: Some(flow), next };
        self.len += 1;
        Some(slot)
    }

    /// Takes a flow out.
    pub fn remove(&mut self, at: usize) -> Option<Flow> {
        let flow = self.slots.get_mut(at)?.flow.take()?;
        for (side, hop) in [flow.path.from, flow.path.to].into_iter().enumerate() {
            let Some(head) = hop.and_then(|hop| self.chain(hop, flow.number)) else { continue };
            // Read now: both sides may be in one chain.
            let behind = *self.slots.get(at)?.next.get(side)?;
            self.unlink(head, Self::place(at, side), behind);
        }
        self.slots.get_mut(at)?.next = [self.free, NONE];
        self.free = Self::place(at, 0);
        if let Some(from) = flow.path.from
            && let Ok(at) = self.counts.binary_search_by_key(&from, |(hop, _)| *hop)
            && let Some((_, n)) = self.counts.get_mut(at)
        {
            *n -= 1;
            if *n == 0 {
                self.counts.take(at);
            }
        }
        self.len -= 1;
        Some(flow)
    }

    /// Links whatever pointed to a place to the one behind it.
    fn unlink(&mut self, head: usize, gone: u16, behind: u16) {
        let Some(first) = self.heads.get_mut(head) else { return };
        if *first == gone {
            *first = behind;
            return;
        }
        let mut place = *first;
        while let Some((slot, side)) = Self::at(place) {
            let Some(next) = self.slots.get_mut(slot).and_then(|s| s.next.get_mut(side)) else {
                return;
            };
            if *next == gone {
                *next = behind;
                return;
            }
            place = *next;
        }
    }

    /// How many flows came from a neighbour.
    pub fn count(&self, from: HopId) -> usize {
        let at = self.counts.binary_search_by_key(&from, |(hop, _)| *hop).ok();
        at.and_then(|at| self.counts.get(at)).map_or(0, |(_, n)| usize::from(*n))
    }

    /// A flow that has been idle for too long at `now`. All are looked at only once
    /// [`next_look`](Self::next_look) has come.
    pub fn expired(&mut self, now: Micros) -> Option<usize> {
        if now < self.next_look()? {
            return None;
        }
        let ends = |flow: &Flow| flow.heard.saturating_add(flow.idle);
        let expired = self.iter().find(|(_, flow)| ends(flow) <= now).map(|(at, _)| at);
        if expired.is_none() {
            self.next_look = self.iter().map(|(_, flow)| ends(flow)).min()?;
        }
        expired
    }

    /// When to ask for an [expired](Self::expired) flow again.
    pub fn next_look(&self) -> Option<Micros> {
        (self.len > 0).then_some(self.next_look)
    }

    /// All flows, and where each is.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &Flow)> {
        self.slots.iter().enumerate().filter_map(|(at, slot)| Some((at, slot.flow.as_ref()?)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Fixed;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn hop(n: u8) -> HopId {
        HopId([n; 8])
    }

    fn flow(number: u64, from: u8, to: Option<u8>) -> Flow {
        Flow {
            number,
            source: NodeId([1; 32]),
            path: Path { from: Some(hop(from)), to: to.map(hop), behind: 2, ahead: 1 },
            open_number: 1,
            metered: true,
            left: 0,
            may_draw: 0,
            fresh: 0,
            records: [None; 2],
            opened: false,
            heard: 0,
            idle: 100,
        }
    }

    fn table() -> FlowTable<Fixed> {
        let mut table = FlowTable::EMPTY;
        table.prepare(FLOWS, [3; 16]);
        table
    }

    #[test]
    fn a_flow_is_found_from_either_side_and_from_no_other() {
        let mut t = table();
        assert_eq!(t.find(hop(1), 7), None);
        let at = t.insert(flow(7, 1, Some(2))).unwrap();
        assert_eq!(t.find(hop(1), 7), Some((at, Side::Source)));
        assert_eq!(t.find(hop(2), 7), Some((at, Side::Destination)));
        assert_eq!(t.find(hop(3), 7), None);
        assert_eq!(t.find(hop(1), 8), None);
        let f = t.get_mut(at).unwrap();
        assert_eq!((f.next(Side::Source), f.next(Side::Destination)), (Some(hop(2)), Some(hop(1))));
        assert_eq!((f.hop_limit(Side::Source), f.hop_limit(Side::Destination)), (1, 2));
        t.remove(at).unwrap();
        assert_eq!((t.find(hop(1), 7), t.find(hop(2), 7), t.len()), (None, None, 0));
    }

    #[test]
    fn no_neighbour_has_more_than_its_share_and_none_is_evicted() {
        let mut t = table();
        for n in 0..4 {
            assert_eq!(t.room(Some(hop(1)), 4), Ok(()));
            t.insert(flow(n, 1, None));
        }
        assert_eq!(t.room(Some(hop(1)), 4), Err(FlowTableError::ShareTaken));
        for n in 4..FLOWS as u64 {
            assert_eq!(t.room(Some(hop(2)), FLOWS), Ok(()));
            t.insert(flow(n, 2, None));
        }
        assert_eq!(t.room(Some(hop(3)), 4), Err(FlowTableError::Full));
        assert!((0..4).all(|n| t.find(hop(1), n).is_some()));
        let (at, _) = t.find(hop(1), 2).unwrap();
        t.remove(at);
        assert_eq!(t.room(Some(hop(1)), 4), Ok(()));
    }

    #[test]
    fn what_was_drawn_last_is_used_last_and_after_its_record() {
        let mut f = Flow { may_draw: 1_000, ..flow(1, 1, None) };
        assert_eq!(f.spend(1), None);
        f.add(100, Some(1));
        assert_eq!((f.spend(60), f.spend(41)), (Some(Some(1)), None));
        f.add(100, Some(2));
        assert_eq!([f.spend(40), f.spend(1), f.spend(100)], [Some(Some(1)), Some(Some(2)), None]);
        f.add(50, Some(3));
        assert_eq!(
            [f.spend(99), f.spend(50), f.spend(0)],
            [Some(Some(2)), Some(Some(3)), Some(Some(3))]
        );
        assert_eq!((f.left, f.may_draw), (0, 750));
    }

    #[test]
    fn an_idle_flow_ends() {
        let mut t = table();
        let a = t.insert(flow(1, 1, None)).unwrap();
        let b = t.insert(Flow { heard: 50, ..flow(2, 1, None) }).unwrap();
        assert_eq!((t.next_look(), t.expired(99)), (Some(100), None));
        assert_eq!(t.expired(100), Some(a));
        t.get_mut(a).unwrap().heard = 10;
        assert_eq!((t.expired(100), t.next_look()), (None, Some(110)));
        t.remove(a);
        assert_eq!((t.expired(110), t.next_look()), (None, Some(150)));
        assert_eq!((t.expired(149), t.expired(150)), (None, Some(b)));
        t.remove(b);
        assert_eq!((t.next_look(), t.expired(1_000)), (None, None));
    }

    proptest! {
        #[test]
        fn follows_a_model(steps in prop::collection::vec((any::<bool>(), 0u64..6, 0u8..3, 0u8..4), 0..200)) {
            let mut t = table();
            let mut model: BTreeMap<(HopId, u64), (Flow, Side)> = BTreeMap::new();
            for (insert, number, from, to) in steps {
                let to = (to < 3).then_some(to + 3);
                let known = t.find(hop(from), number);
                if insert {
                    let free = known.is_none() && to.is_none_or(|to| t.find(hop(to), number).is_none());
                    if free && t.room(Some(hop(from)), FLOWS).is_ok() {
                        let new = flow(number, from, to);
                        t.insert(new).unwrap();
                        model.insert((hop(from), number), (new, Side::Source));
                        to.map(|to| model.insert((hop(to), number), (new, Side::Destination)));
                    }
                } else if let Some((at, _)) = known {
                    let gone = t.remove(at).unwrap();
                    model.retain(|_, (flow, _)| *flow != gone);
                }
                for neighbour in 0..6 {
                    for number in 0..6 {
                        let found = t.find(hop(neighbour), number);
                        let found = found.map(|(at, side)| (*t.get_mut(at).unwrap(), side));
                        prop_assert_eq!(found, model.get(&(hop(neighbour), number)).copied());
                    }
                    let count = t.iter().filter(|(_, f)| f.path.from == Some(hop(neighbour))).count();
                    prop_assert_eq!(t.count(hop(neighbour)), count);
                }
                prop_assert_eq!(t.len(), t.iter().count());
            }
        }
    }
}
