//! Neighbours: sorted by link, and found by the short form of their identity.

use super::liveness::Liveness;
use crate::config::fixed::NEIGHBOURS;
use crate::id::{HopId, LinkId, NodeId, Standing};
use crate::link::lane::Lane;
use crate::payment::fee::Tariff;
use crate::policy::mode::MeshMode;
use crate::tables::{List, Memory};
use crate::time::Micros;
use core::cmp::Reverse;

/// A neighbour.
#[derive(Debug)]
pub struct Neighbour {
    /// The link to it.
    pub link: LinkId,
    /// Its identity, proven by the handshake.
    pub node: NodeId,
    /// Whether this node opened the connection.
    pub dialed: bool,
    /// Whether it is configured or dialled, or a stranger.
    pub standing: Standing,
    /// Whether its hello came; nothing is sent through it before.
    pub up: bool,
    /// Largest packet that it accepts, in bytes.
    pub max_packet: u32,
    /// What it charges for relaying.
    pub tariff: Tariff,
    /// Its mode: what it lets through free.
    pub mode: MeshMode,
    /// ETX of the link, in 1/256, as the neighbour says.
    pub quality: u16,
    /// The same, as measured at this end of the link.
    pub measured: u16,
    /// Largest packet that this node accepts on the link, as its hellos say, in bytes.
    pub own_max_packet: u32,
    /// Whether the link's queue of free packets is full.
    pub free_full: bool,
    /// Whether the link's queue of paid packets is full.
    pub paid_full: bool,
    /// The medium that the link shares with others; 0: none.
    pub medium: u8,
    /// What is known of its liveness.
    pub liveness: Liveness,
    /// The place of its allowances among all [owners](super::owners).
    pub owner: usize,
    /// When the link came up.
    pub since: Micros,
    /// Whether it has ever brought a paid packet.
    pub paid: bool,
    /// Whether it relays what this node pays for.
    #[cfg(feature = "alloc")]
    pub trusted: bool,
}

impl Neighbour {
    /// Whose share of its allowances pays for a packet that came to it from `before`. Nobody has
    /// verified from whom a stranger has a packet.
    pub fn share_of(&self, before: HopId) -> u64 {
        let hop = match self.standing {
            Standing::Own => before,
            Standing::Stranger { .. } => self.node.hop(),
        };
        u64::from_le_bytes(hop.0)
    }
}

impl Neighbour {
    /// Whether the link's queue of this lane is full.
    pub fn is_full(&self, lane: Lane) -> bool {
        match lane {
            Lane::Free => self.free_full,
            Lane::Paid => self.paid_full,
        }
    }

    /// Notes whether the link's queue of this lane is full.
    pub fn set_full(&mut self, lane: Lane, full: bool) {
        match lane {
            Lane::Free => self.free_full = full,
            Lane::Paid => self.paid_full = full,
        }
    }
}

/// The neighbour table. A neighbour's place in it stays the same until one comes or goes.
pub struct Neighbours<M: Memory> {
    by_link: M::List<Neighbour, NEIGHBOURS>,
    /// Their links, side by side for the search.
    links: M::List<LinkId, NEIGHBOURS>,
    /// Their places.
    by_hop: M::List<(HopId, u16), NEIGHBOURS>,
}

impl<M: Memory> Neighbours<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self =
        Self { by_link: M::List::EMPTY, links: M::List::EMPTY, by_hop: M::List::EMPTY };

    /// Makes room for `capacity` neighbours.
    pub fn set_capacity(&mut self, capacity: usize) {
        let capacity = capacity.min(u16::MAX.into());
        self.by_link.set_capacity(capacity);
        self.links.set_capacity(capacity);
        self.by_hop.set_capacity(capacity);
    }

    /// The place of the neighbour at a link.
    pub fn place(&self, link: LinkId) -> Option<usize> {
        self.links.binary_search(&link).ok()
    }

    /// The neighbour at a place.
    pub fn at(&self, place: usize) -> Option<&Neighbour> {
        self.by_link.get(place)
    }

    /// The same, to change.
    pub fn at_mut(&mut self, place: usize) -> Option<&mut Neighbour> {
        self.by_link.get_mut(place)
    }

    /// The neighbour at a link.
    pub fn get(&self, link: LinkId) -> Option<&Neighbour> {
        self.at(self.place(link)?)
    }

    /// The neighbour at a link, to change.
    pub fn get_mut(&mut self, link: LinkId) -> Option<&mut Neighbour> {
        let place = self.place(link)?;
        self.at_mut(place)
    }

    /// Strangers of one address prefix.
    pub fn from_prefix(&self, prefix: u64) -> usize {
        self.iter().filter(|n| n.standing == Standing::Stranger { prefix }).count()
    }

    /// The least useful stranger: one that never brought a paid packet before one that did, then
    /// the youngest.
    pub fn least_useful_stranger(&self) -> Option<&Neighbour> {
        let strangers = self.iter().filter(|n| n.standing != Standing::Own);
        strangers.min_by_key(|n| (n.paid, Reverse((n.since, n.link))))
    }

    fn place_by_hop(&self, hop: HopId) -> Option<usize> {
        let at = self.by_hop.binary_search_by_key(&hop, |(h, _)| *h).ok()?;
        self.by_hop.get(at).map(|(_, place)| usize::from(*place))
    }

    /// The neighbour whose identity begins like this, whether its hello came or not.
    pub fn by_hop(&self, hop: HopId) -> Option<&Neighbour> {
        self.at(self.place_by_hop(hop)?)
    }

    /// The neighbour whose identity begins like this, if its hello came.
    pub fn live(&self, hop: HopId) -> Option<&Neighbour> {
        self.live_at(hop).map(|(_, n)| n)
    }

    /// The same, with its place.
    pub fn live_at(&self, hop: HopId) -> Option<(usize, &Neighbour)> {
        let place = self.place_by_hop(hop)?;
        Some((place, self.at(place).filter(|n| n.up)?))
    }

    /// Whether this is a live neighbour that relays what this node pays for.
    #[cfg(feature = "alloc")]
    pub fn relays_paid(&self, hop: HopId) -> bool {
        self.live(hop).is_some_and(|neighbour| neighbour.trusted)
    }

    /// Adds a neighbour and returns its place; gives it back if there is no room or if its link or
    /// the beginning of its identity is taken.
    ///
    /// # Errors
    /// The neighbour that was not added.
    #[allow(clippy::result_large_err)]
    pub fn insert(&mut self, neighbour: Neighbour) -> Result<usize, Neighbour> {
        let (link, hop) = (neighbour.link, neighbour.node.hop());
        let by_hop = self.by_hop.binary_search_by_key(&hop, |(h, _)| *h);
        let (Err(place), Err(at_hop)) = (self.links.binary_search(&link), by_hop) else {
            return Err(neighbour);
        };
        self.by_link.try_insert(place, neighbour)?;
        // All lists have the same capacity and length.
        let _ = self.links.try_insert(place, link);
        let moved = self.by_hop.iter_mut().filter(|(_, p)| usize::from(*p) >= place);
        moved.for_each(|(_, p)| *p += 1);
        let _ = self.by_hop.try_insert(at_hop, (hop, place as u16));
        Ok(place)
    }

    /// Removes the neighbour at a place.
    pub fn remove(&mut self, place: usize) -> Option<Neighbour> {
        let gone = self.by_link.take(place)?;
        self.links.take(place);
        self.by_hop.retain(|(_, p)| usize::from(*p) != place);
        let moved = self.by_hop.iter_mut().filter(|(_, p)| usize::from(*p) > place);
        moved.for_each(|(_, p)| *p -= 1);
        Some(gone)
    }

    /// All neighbours, in the order of their links.
    pub fn iter(&self) -> impl Iterator<Item = &Neighbour> {
        self.by_link.iter()
    }

    /// All neighbours, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Neighbour> {
        self.by_link.iter_mut()
    }

    /// The first neighbour whose hello came and whose link comes after `link`.
    pub fn next_live(&self, after: Option<LinkId>) -> Option<&Neighbour> {
        let from = after.map_or(0, |after| self.links.partition_point(|l| *l <= after));
        self.by_link.get(from..)?.iter().find(|n| n.up)
    }

    /// The medium that a link shares with others, and whether it is the first on it of those whose
    /// hello came; `None`: it shares none.
    pub fn medium(&self, link: LinkId) -> Option<(u8, bool)> {
        let place = self.links.binary_search(&link).ok()?;
        let medium = self.by_link.get(place)?.medium;
        let mut before = self.by_link.iter().take(place);
        (medium != 0).then(|| (medium, !before.any(|n| n.up && n.medium == medium)))
    }

    /// How many neighbours there are.
    pub fn len(&self) -> usize {
        self.by_link.len()
    }

    /// An equal share for each neighbour of a table with so many places.
    pub fn share_of(&self, places: usize) -> usize {
        places / self.len().max(1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_link.is_empty()
    }

    /// Whether the table is full.
    pub fn is_full(&self) -> bool {
        self.by_link.is_full()
    }
}
