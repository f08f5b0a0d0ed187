//! The way of a packet that goes back to the source of another: a reply or an error. Its hop limit
//! tells the place where it is now: at 0 it is at the source, at n at the n-th hop.

use crate::id::HopId;

/// The way, as one of the nodes on it sees it.
pub struct WayBack<'a> {
    ends: (HopId, HopId),
    limit: usize,
    count: usize,
    hop: &'a dyn Fn(usize) -> Option<HopId>,
}

impl<'a> WayBack<'a> {
    /// Between the source and the destination at its `ends` over `count` nodes that `hop` names,
    /// at the place that the hop limit tells.
    pub fn new(
        ends: (HopId, HopId),
        hop_limit: u8,
        count: usize,
        hop: &'a dyn Fn(usize) -> Option<HopId>,
    ) -> Self {
        Self { ends, limit: usize::from(hop_limit), count, hop }
    }

    /// The node at a place: 0 is the source; behind the last hop all is the destination.
    fn node(&self, place: usize) -> HopId {
        let (source, destination) = self.ends;
        match place.checked_sub(1) {
            None => source,
            Some(at) => (self.hop)(at).unwrap_or(destination),
        }
    }

    /// Which hop this node is; `None`: the source.
    pub fn place(&self) -> Option<usize> {
        self.limit.checked_sub(1)
    }

    /// Number of hops up to and with this node: those from there on lie behind it.
    pub fn behind(&self) -> usize {
        self.limit
    }

    /// Whose turn it is; `None`: nobody's, there are not so many hops.
    pub fn here(&self) -> Option<HopId> {
        (self.limit <= self.count).then(|| self.node(self.limit))
    }

    /// Who has it before, and sends it to this node.
    pub fn sender(&self) -> HopId {
        self.node(self.limit + 1)
    }

    /// Who had it before that one.
    pub fn sender_before(&self) -> HopId {
        self.node(self.limit + 2)
    }

    /// Who gets it next; at the source it stays.
    pub fn onward(&self) -> HopId {
        self.node(self.limit.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 9 over 1, 2 and 3 to 8.
    fn at(hop_limit: u8) -> ([Option<u8>; 4], Option<usize>, usize) {
        let hops = [1, 2, 3].map(|n| HopId([n; 8]));
        let hop = |at: usize| hops.get(at).copied();
        let way = WayBack::new((HopId([9; 8]), HopId([8; 8])), hop_limit, hops.len(), &hop);
        let nodes = [way.here(), Some(way.sender()), Some(way.sender_before()), Some(way.onward())];
        (nodes.map(|node| node.map(|n| n.0[0])), way.place(), way.behind())
    }

    #[test]
    fn each_node_on_the_way_has_its_turn() {
        let some = |nodes: [u8; 4]| nodes.map(Some);
        assert_eq!(at(3), (some([3, 8, 8, 2]), Some(2), 3));
        assert_eq!(at(2), (some([2, 3, 8, 1]), Some(1), 2));
        assert_eq!(at(1), (some([1, 2, 3, 9]), Some(0), 1));
        assert_eq!(at(0), (some([9, 1, 2, 9]), None, 0));
    }

    #[test]
    fn a_hop_limit_beyond_the_way_is_nobodys_turn() {
        assert_eq!(at(4).0[0], None);
        assert_eq!(at(u8::MAX).0[0], None);
    }
}
