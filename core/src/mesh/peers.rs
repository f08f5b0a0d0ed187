//! Neighbours that come and go.

use super::Mesh;
use super::api::{Action, Event, LinkCapabilities};
use super::error::{MeshError, NetworkReason, Remedy};
use super::timers::hello_timeout;
use crate::config::{Allowance, FREE_AT_FIRST};
use crate::id::{LinkId, NodeId, Standing};
use crate::payment::fee::Tariff;
use crate::policy::allowance::Meter;
use crate::policy::mode::MeshMode;
use crate::routing::bad_payments::BadPayments;
use crate::routing::conduct::{OFFENCE, PENALTY};
use crate::routing::liveness::Liveness;
use crate::routing::metric::PERFECT_LINK;
use crate::routing::neighbours::Neighbour;
use crate::routing::owners::{PLAIN, RARE, WHOLE};
use crate::routing::table::RoutingTable;
use crate::tables::Memory;
use crate::time::MILLISECOND;
use crate::wire::hello::{self, FREE_CLASSES, Hello, Told};
use crate::wire::route_error;
use crate::wire::{Header, WireError};

/// Checks of bad payments that a new owner starts with: what its handshake has cost. With fewer,
/// a first mistake would stop valid payments.
const CHECKS_AT_FIRST: u64 = 4;

/// A change of a link's quality that is worth telling its neighbour, in 1/256 transmissions.
const WORTH_A_HELLO: u16 = 32;

impl<M: Memory> Mesh<M> {
    /// A link is up; the neighbour's identity was proven on it.
    #[inline(never)]
    pub(super) fn connect(
        &mut self,
        (link, peer): (LinkId, NodeId),
        dialed: bool,
        standing: Standing,
        capabilities: Option<LinkCapabilities>,
    ) {
        let let_in = self.may_come(peer).and_then(|()| self.make_way(peer, dialed));
        let way = let_in.and_then(|()| self.make_place(standing));
        if let Err(reason) = way {
            return self.reject(Some(link), reason, Remedy::Disconnect);
        }
        let (now, owner) = (self.now, self.allowances_of(peer, standing));
        let own = capabilities.unwrap_or(LinkCapabilities {
            max_packet: self.config.max_packet,
            keepalive: self.config.timing.keepalive,
            medium: 0,
        });
        let ours_ms = u32::try_from(own.keepalive / MILLISECOND).unwrap_or(u32::MAX);
        let neighbour = Neighbour {
            link,
            node: peer,
            dialed,
            standing,
            up: false,
            max_packet: 0,
            tariff: Tariff::default(),
            mode: MeshMode::BitcoinOnly,
            quality: PERFECT_LINK,
            measured: PERFECT_LINK,
            own_max_packet: own.max_packet.min(self.config.max_packet),
            free_full: false,
            paid_full: false,
            medium: own.medium,
            liveness: Liveness::new(now, ours_ms),
            owner,
            since: now,
            paid: false,
            #[cfg(feature = "alloc")]
            trusted: self.config.trusts(&peer, standing),
        };
        if let Err(refused) = self.tables.routing.add_direct_peer(neighbour) {
            self.tables.routing.owners.leave(refused.owner);
            return self.reject(Some(link), NetworkReason::TooManyNeighbours, Remedy::Disconnect);
        }
        self.absorb();
        // Nothing that this neighbour sends makes the head grow, so errors can be reported to it.
        self.reserve_head(route_error::MAX_LEN);
        self.greet(link);
        self.wake_at(now.saturating_add(hello_timeout(&self.config.timing)));
    }

    /// The place of a neighbour's allowances, which may be there from before.
    pub(super) fn allowances_of(&mut self, peer: NodeId, standing: Standing) -> usize {
        let (now, config) = (self.now, &self.config);
        let bad = config.bad_payments;
        self.tables.routing.owners.enter(peer, standing, bad, now, |new, bad_payments| {
            let first = |limit, level| Meter::holding(limit, level, now);
            new.set(WHOLE, first(config.free(), FREE_AT_FIRST));
            new.set(PLAIN, first(config.plain, FREE_AT_FIRST));
            new.set(RARE, first(config.rare, FREE_AT_FIRST));
            *bad_payments = BadPayments::new(bad, CHECKS_AT_FIRST, now);
        })
    }

    /// Makes room for a neighbour if it can; a stranger in its place is disconnected.
    fn make_place(&mut self, standing: Standing) -> Result<(), NetworkReason> {
        let neighbours = &self.tables.routing.neighbours;
        if let Standing::Stranger { prefix } = standing
            && neighbours.from_prefix(prefix) >= self.config.capacities.per_prefix
        {
            return Err(NetworkReason::TooManyOfPrefix);
        }
        if !neighbours.is_full() {
            return Ok(());
        }
        // A newcomer takes the place of another newcomer, never of a neighbour that has proven
        // useful.
        let least = neighbours.least_useful_stranger();
        let least = least.filter(|n| standing == Standing::Own || !n.paid);
        let link = least.ok_or(NetworkReason::TooManyNeighbours)?.link;
        self.part_from(link, Some(NetworkReason::Displaced));
        Ok(())
    }

    /// Whether a node is not shut out.
    fn may_come(&self, peer: NodeId) -> Result<(), NetworkReason> {
        match self.banned_until(&peer) {
            Some(_) => Err(NetworkReason::Banned),
            None => Ok(()),
        }
    }

    /// Whether a new link to a neighbour is kept; the one that it replaces is closed.
    fn make_way(&mut self, peer: NodeId, dialed: bool) -> Result<(), NetworkReason> {
        if peer == self.me.id() {
            return Err(NetworkReason::Itself);
        }
        let Some(other) = self.tables.routing.neighbours.by_hop(peer.hop()) else { return Ok(()) };
        if other.node != peer {
            return Err(NetworkReason::HopIdTaken);
        }
        // Of two links that both ends opened at the same time, both ends keep the one that the
        // smaller identity opened. A second one opened from the same end replaces a first that is
        // dead.
        let opened_by_smaller = dialed == (self.me.id() < peer);
        if other.dialed != dialed && !opened_by_smaller {
            return Err(NetworkReason::OtherLinkKept);
        }
        let (old, was_up) = (other.link, other.up);
        self.tables.routing.remove_link_of_peer(old);
        let reason = NetworkReason::OtherLinkKept.into();
        self.act(Action::Close { link: old, reason });
        if was_up {
            self.act(Action::Publish(Event::PeerDisconnected { peer }));
        }
        self.give_up_from(old);
        Ok(())
    }

    /// A link is gone, and with it the routes over it.
    #[inline(never)]
    pub(super) fn disconnect(&mut self, link: LinkId) {
        self.absorb();
        // This node may have closed the link itself and forgotten it.
        self.part_from(link, None);
    }

    /// Forgets a neighbour, whose link is closed if there is a reason for that.
    #[inline(never)]
    pub(super) fn part_from(&mut self, link: LinkId, why: Option<NetworkReason>) {
        let Some(gone) = self.tables.routing.remove_direct_peer(link) else { return };
        if let Some(reason) = why {
            self.act(Action::Close { link, reason: reason.into() });
        }
        if gone.up {
            self.act(Action::Publish(Event::PeerDisconnected { peer: gone.node }));
        }
        #[cfg(feature = "alloc")]
        self.neighbour_gone(&gone.node);
        self.give_up_from(link);
    }

    /// Counts an offence against the neighbour on a link: what is to be done about it.
    pub(super) fn judge(&mut self, link: LinkId, reason: &MeshError, remedy: Remedy) -> Remedy {
        let weight = match remedy {
            Remedy::Penalise => PENALTY,
            Remedy::Disconnect if reason.is_offence() => OFFENCE,
            Remedy::Ignore | Remedy::Disconnect => return remedy,
        };
        let RoutingTable { neighbours, conduct, .. } = &mut self.tables.routing;
        let node = neighbours.get(link).map(|n| n.node.hop());
        match node.is_some_and(|node| conduct.add(node, weight, self.now)) {
            true => Remedy::Disconnect,
            false => remedy,
        }
    }

    /// Takes what a link has measured. Its neighbour is told if it matters.
    pub(super) fn measured(&mut self, link: LinkId, quality: u16) {
        let now = self.now;
        let Some(n) = self.tables.routing.neighbours.get_mut(link) else { return };
        let quality = quality.max(PERFECT_LINK);
        if quality.abs_diff(n.measured) >= WORTH_A_HELLO {
            n.measured = quality;
            n.liveness.greet_at(now);
            self.wake_at(now);
        }
    }

    /// What a neighbour may send free: its part, if several share the allowances.
    fn told_to(&self, link: LinkId) -> [Told; FREE_CLASSES] {
        let (now, config) = (self.now, &self.config);
        let RoutingTable { neighbours, owners, .. } = &self.tables.routing;
        let limits = match config.mode {
            MeshMode::Open => [Some(config.free()), None, None],
            _ => [config.free(), config.plain, config.rare].map(Some),
        };
        let place = neighbours.get(link).map_or(usize::MAX, |n| n.owner);
        let links = owners.links(place).max(1) as u64;
        let mut told = [Told::ANY; FREE_CLASSES];
        for ((kind, limit), told) in (WHOLE..).zip(limits).zip(&mut told) {
            if let Some(limit) = limit {
                let left = owners.get(place).map_or(0, |o| o.left(kind, limit, now));
                let rate = limit.rate / links;
                *told = Told::of(Allowance { rate, burst: limit.burst }, left / links);
            }
        }
        told
    }

    /// Sends a hello.
    pub(super) fn greet(&mut self, link: LinkId) {
        let now = self.now;
        let Some(n) = self.tables.routing.neighbours.get_mut(link) else { return };
        let (missing, quality) = (!n.up, n.measured);
        let (max_packet, keepalive_ms) = (n.own_max_packet, n.liveness.ours_ms());
        let again = n.liveness.greet(now, missing, self.config.timing.hop_round_trip);
        self.wake_at(again);
        let issuers = self.config.payment.issuers.iter();
        let unix = self.wall.unix(self.now).and_then(|unix| u32::try_from(unix).ok());
        let free = self.told_to(link);
        let hello = Hello {
            missing,
            network: self.config.network,
            mode: self.config.mode,
            quality,
            max_packet,
            tariff: self.config.payment.tariff,
            keepalive_ms,
            unix: unix.unwrap_or(0),
            free,
            issuers: issuers.map(|key| key.serialize()).collect(),
        };
        self.send_control(link, hello::MAX_LEN, |out| hello.write(out));
    }

    /// A keep-alive: the neighbour says that it is there, and nothing else.
    pub(super) fn is_there(
        &mut self,
        link: LinkId,
        header: Header,
        body: &[u8],
    ) -> Result<(), (MeshError, Remedy)> {
        self.charge(link, body, None)?;
        if header.flags != 0 {
            return Err(WireError::Flags(header.flags).into());
        }
        header.is_for_one_link()?;
        if !body.is_empty() {
            return Err(WireError::Trailing(body.len()).into());
        }
        self.absorb();
        Ok(())
    }

    /// A neighbour's hello: the link can be used from now on.
    #[inline(never)]
    pub(super) fn hello(
        &mut self,
        link: LinkId,
        header: Header,
        body: &[u8],
    ) -> Result<(), (MeshError, Remedy)> {
        let hello = Hello::parse(header, body)?;
        if hello.network != self.config.network {
            let (theirs, ours) = (hello.network, self.config.network);
            return Err((NetworkReason::OtherNetwork { theirs, ours }.into(), Remedy::Disconnect));
        }
        let now = self.now;
        self.charge(link, body, None).map_err(|(reason, _)| (reason, Remedy::Penalise))?;
        let RoutingTable { neighbours, mirrors, .. } = &mut self.tables.routing;
        let place = neighbours.place(link);
        let Some((place, n)) = place.and_then(|at| Some((at, neighbours.at_mut(at)?))) else {
            return Err((NetworkReason::LinkClosed.into(), Remedy::Ignore));
        };
        n.max_packet = hello.max_packet;
        n.mode = hello.mode;
        n.tariff = hello.tariff;
        n.quality = hello.quality.max(PERFECT_LINK);
        n.liveness.set_theirs(hello.keepalive_ms);
        let (peer, was_up) = (n.node, core::mem::replace(&mut n.up, true));
        mirrors.tell(place, &hello.free, !was_up, now);
        if !was_up {
            n.liveness.greeted(now);
        }
        if hello.unix > 0 && self.config.clock_source == Some(peer) && !self.own_clock {
            self.set_wall(hello.unix.into());
        }
        self.absorb();
        if !was_up {
            #[cfg(feature = "alloc")]
            self.neighbour_up(&peer);
            self.act(Action::Publish(Event::PeerConnected { link, peer }));
            self.wake_at(now);
        } else if hello.missing {
            self.greet(link);
        }
        Ok(())
    }
}
