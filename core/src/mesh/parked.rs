//! Packets that wait: for a route, or for what the node knows about a block.
//!
//! The shell keeps their bytes. Each ticket ends once: in a `Resume`, after which the bytes come
//! back and are treated as if they had just arrived, or in a `Drop`.

use super::api::{Action, Ticket, Verdict};
use super::error::{MeshError, NetworkReason, PaymentReason, Remedy};
use super::relay::Trace;
use super::{Mesh, Pending};
use crate::id::{LinkId, NodeId};
use crate::payment::covenant::CovenantError;
use crate::payment::headers::KnownHeader;
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::Header;
use crate::wire::datagram::{self, Datagram};

/// What a parked packet waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Awaits {
    /// A route to this node.
    Route(NodeId),
    /// The node's answer about the block with this hash.
    Answer([u8; 32]),
    /// An invoice that the shell has written.
    #[cfg(feature = "alloc")]
    Invoice { account: NodeId, bytes: u64, amount_msat: u64 },
    /// To be handed back, with the node's answer. The ticket is used up.
    Return([u8; 32], KnownHeader),
    /// Room at the first hop, for a datagram of this node's own.
    Room { destination: NodeId, to: LinkId, len: usize, plain: bool },
    /// To be handed back, because there is room. The ticket is used up.
    Turn { destination: NodeId, len: usize },
}

impl Awaits {
    /// Whether a neighbour's packet waits for the shell's answer.
    fn is_about_neighbours(&self) -> bool {
        match self {
            Self::Answer(_) => true,
            #[cfg(feature = "alloc")]
            Self::Invoice { .. } => true,
            _ => false,
        }
    }
}

/// A place in the table.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    ticket: Ticket,
    awaits: Awaits,
    until: Micros,
    /// Bytes that the shell keeps.
    bytes: usize,
    /// Whom it came from; `None` for this node's own.
    from: Option<From>,
}

/// Whom a parked packet came from.
#[derive(Debug, Clone)]
pub(super) struct From {
    pub(super) link: LinkId,
    /// The link was closed; its number may since have been given to another.
    pub(super) closed: bool,
    /// Who is told if the packet is refused.
    pub(super) trace: Trace,
}

impl Parked {
    /// The neighbour whose share of the table it takes.
    fn link(&self) -> Option<LinkId> {
        self.from.as_ref().map(|from| from.link)
    }

    #[cfg(feature = "alloc")]
    fn is_for_invoice(&self) -> bool {
        matches!(self.awaits, Awaits::Invoice { .. })
    }
}

impl<M: Memory> Mesh<M> {
    /// Parks a packet and asks the node for a block.
    #[inline(never)]
    pub(super) fn ask(
        &mut self,
        link: Option<LinkId>,
        datagram: &Datagram<'_>,
        hash: [u8; 32],
    ) -> Result<(), MeshError> {
        let from = link.map(|link| From { link, closed: false, trace: Trace::of(datagram) });
        let until = self.now.saturating_add(self.config.timing.verify_timeout);
        let bytes =
            datagram::head_len(datagram.hops().len(), datagram.signed.map_or(0, |s| s.proof.len()));
        let bytes = bytes.saturating_add(datagram.payload.len());
        let ticket = self.park(Awaits::Answer(hash), from, until, bytes)?;
        // Parked packets count too: no more questions may be open at once than may be asked in
        // vain.
        if let Some(link) = link {
            self.charge_check(link, datagram);
        }
        self.act(Action::Verify { ticket, block_hash: hash });
        Ok(())
    }

    /// Parks a datagram of our own until the search for a route ends.
    pub(super) fn await_route(&mut self, to: NodeId, bytes: usize) -> Result<(), MeshError> {
        self.park(Awaits::Route(to), None, Micros::MAX, bytes).map(|_| ())
    }

    /// Reserves a place for a packet that waits, and room for its bytes. Half of the places and
    /// of the room belongs to this node; its neighbours have the other half in equal shares, of
    /// at least one place and one packet each.
    pub(super) fn park(
        &mut self,
        awaits: Awaits,
        from: Option<From>,
        until: Micros,
        bytes: usize,
    ) -> Result<Ticket, MeshError> {
        let half = self.tables.parked.capacity().div_ceil(2);
        let room = self.config.capacities.parked_bytes.div_ceil(2);
        let link = from.as_ref().map(|from| from.link);
        // Places and bytes taken in the same half, and by the same link.
        let (mut all, mut own) = ((0usize, bytes), (0usize, bytes));
        for parked in self.tables.parked.iter().filter(|p| p.from.is_some() == link.is_some()) {
            all = (all.0.saturating_add(1), all.1.saturating_add(parked.bytes));
            if parked.link() == link {
                own = (own.0.saturating_add(1), own.1.saturating_add(parked.bytes));
            }
        }
        let neighbours = self.tables.routing.neighbours.len().max(1);
        let full = match link {
            None => false,
            Some(_) => {
                own.0 >= half.div_ceil(neighbours) || (own.0 > 0 && own.1 > room / neighbours)
            }
        };
        if full || all.0 >= half || (all.0 > 0 && all.1 > room) {
            return Err(NetworkReason::TooManyParked.into());
        }
        let ticket = Ticket(self.next_ticket);
        let parked = Parked { ticket, awaits, until, bytes, from };
        self.tables.parked.try_push(parked).map_err(|_| NetworkReason::TooManyParked)?;
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.wake_at(until);
        self.verdict(Verdict::Parked { ticket, until });
        Ok(ticket)
    }

    /// The node has answered what it knows about a block.
    pub(super) fn answer(&mut self, ticket: Ticket, block: Option<KnownHeader>) {
        self.absorb();
        let now = self.now;
        // A packet past its deadline is refused next, whatever the answer.
        let waiting = |p: &&mut Parked| p.ticket == ticket && p.until > now;
        let Some(parked) = self.tables.parked.iter_mut().find(waiting) else { return };
        let Awaits::Answer(hash) = parked.awaits else { return };
        match block {
            Some(block) => {
                parked.awaits = Awaits::Return(hash, block);
                parked.until = now.saturating_add(self.config.timing.verify_timeout);
                self.act(Action::Resume { ticket });
            }
            // The question was in vain, so its charge stands.
            None => {
                self.give_up(ticket, PaymentReason::from(CovenantError::HeaderUnknown).into());
            }
        }
    }

    /// Refuses a parked packet and tells its source why.
    fn give_up(&mut self, ticket: Ticket, reason: MeshError) {
        let Some(at) = self.tables.parked.iter().position(|p| p.ticket == ticket) else { return };
        let Some(parked) = self.tables.parked.take(at) else { return };
        let link = parked.link();
        self.act(Action::Drop { ticket, link, reason });
        if let Some(From { link, trace, .. }) = parked.from {
            self.tell_source(link, trace, &reason);
        }
    }

    /// The deadline of the packet that expires first.
    pub(super) fn parked_until(&self) -> Option<Micros> {
        self.tables.parked.iter().map(|p| p.until).min()
    }

    /// Gives up one packet past its deadline; false if there is none.
    pub(super) fn give_up_parked(&mut self) -> bool {
        let late = |p: &&Parked| p.until <= self.now;
        let Some(Parked { ticket, awaits, from, .. }) = self.tables.parked.iter().find(late) else {
            return false;
        };
        let ticket = *ticket;
        // The node did not answer: no neighbour is to blame.
        let asked =
            from.as_ref().filter(|from| !from.closed).map(|From { link, trace, .. }| {
                (
                    *link,
                    self.charged(*link, &trace.source, trace.hops.iter().copied(), trace.hop_limit),
                )
            });
        match awaits {
            // Its bytes were asked for and never came back: nobody waits any more.
            Awaits::Return(..) | Awaits::Turn { .. } => {
                self.tables.parked.retain(|p| p.ticket != ticket);
            }
            Awaits::Room { destination, len, .. } => {
                let (destination, len) = (*destination, *len);
                let until = self.now.saturating_add(self.config.timing.verify_timeout);
                let of = |p: &&mut Parked| p.ticket == ticket;
                if let Some(parked) = self.tables.parked.iter_mut().find(of) {
                    (parked.awaits, parked.until) = (Awaits::Turn { destination, len }, until);
                }
                self.wake_at(until);
                self.act(Action::Resume { ticket });
            }
            #[cfg(feature = "alloc")]
            Awaits::Invoice { .. } => self.give_up(ticket, PaymentReason::NoInvoice.into()),
            _ => {
                if let Some((link, charged)) = asked {
                    self.give_check_back(link, charged);
                }
                self.give_up(ticket, PaymentReason::NoAnswer.into());
            }
        }
        true
    }

    /// A link is gone: what came over it waits no longer.
    pub(super) fn give_up_from(&mut self, link: LinkId) {
        self.tables.requests.close(link);
        for from in self.tables.parked.iter_mut().filter_map(|p| p.from.as_mut()) {
            from.closed |= from.link == link;
        }
        self.push(Pending::Closed(link));
    }

    /// Refuses one packet that waits for an answer and came over a closed link.
    pub(super) fn give_up_closed(&mut self, link: LinkId) -> Option<Action<'static>> {
        let at = self.tables.parked.iter().position(|p| {
            p.awaits.is_about_neighbours()
                && p.from.as_ref().is_some_and(|from| from.closed && from.link == link)
        })?;
        let ticket = self.tables.parked.take(at)?.ticket;
        let reason = NetworkReason::LinkClosed.into();
        Some(Action::Drop { ticket, link: Some(link), reason })
    }

    /// Takes one packet out that waits for a route to a node.
    pub(super) fn unpark_for(&mut self, to: NodeId) -> Option<Ticket> {
        let at = self.tables.parked.iter().position(|p| p.awaits == Awaits::Route(to))?;
        self.tables.parked.take(at).map(|p| p.ticket)
    }

    /// Whether a neighbour's packet is to be handed back under this ticket.
    pub(super) fn is_returning(&self, ticket: Ticket) -> bool {
        self.place_of_returning(ticket).is_some()
    }

    fn place_of_returning(&self, ticket: Ticket) -> Option<usize> {
        let returning = |p: &Parked| matches!(p.awaits, Awaits::Return(..)) && p.from.is_some();
        self.tables.parked.iter().position(|p| p.ticket == ticket && returning(p))
    }

    /// A parked packet comes back: it is treated as if it had just arrived, with the block known.
    #[inline(never)]
    pub(super) fn resume(&mut self, ticket: Ticket, packet: &mut [u8]) {
        let place = self.place_of_returning(ticket);
        let parked = place.and_then(|at| self.tables.parked.take(at));
        let Some(Parked { awaits: Awaits::Return(hash, block), from: Some(from), .. }) = parked
        else {
            return;
        };
        let link = from.link;
        let place = self.tables.routing.neighbours.place(link).filter(|_| !from.closed);
        let Some(place) = place else {
            return self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore);
        };
        // Bytes other than those parked are the shell's fault, not the neighbour's.
        let header = match self.check_size(packet).and_then(|()| Ok(Header::parse(packet)?.0)) {
            Ok(header) => header,
            Err(e) => return self.reject(Some(link), e, Remedy::Ignore),
        };
        self.answered = Some((hash, block));
        self.datagram((link, place), header, packet);
        self.answered = None;
    }

    /// The node's answer about a block, for a datagram of our own that is given again. It is used
    /// once.
    pub(super) fn take_answer(&mut self, hash: &[u8; 32]) -> Option<([u8; 32], KnownHeader)> {
        let at = self.tables.parked.iter().position(|p| {
            p.from.is_none() && matches!(p.awaits, Awaits::Return(about, _) if about == *hash)
        })?;
        match self.tables.parked.take(at)?.awaits {
            Awaits::Return(hash, block) => Some((hash, block)),
            _ => None,
        }
    }

    /// Whether a datagram of this node's own has waited for room and comes back. The answer is
    /// used once.
    pub(super) fn take_turn(&mut self, to: &NodeId, bytes: usize) -> bool {
        let its = |p: &Parked| matches!(p.awaits, Awaits::Turn { destination, len } if destination == *to && len == bytes);
        let at = self.tables.parked.iter().position(its);
        at.and_then(|at| self.tables.parked.take(at)).is_some()
    }

    /// When the last of the packets that wait for room at a neighbour has its turn.
    pub(super) fn last_waiting(&self, link: LinkId, of_plain: bool) -> Option<Micros> {
        let of = |p: &&Parked| matches!(p.awaits, Awaits::Room { to, plain, .. } if to == link && plain == of_plain);
        self.tables.parked.iter().filter(of).map(|p| p.until).max()
    }

    /// Whether a request for an invoice waits under this ticket.
    #[cfg(feature = "alloc")]
    pub(super) fn awaits_invoice(&self, ticket: Ticket) -> bool {
        self.tables.parked.iter().any(|p| p.ticket == ticket && p.is_for_invoice())
    }

    /// Whether such a request of this neighbour's waits.
    #[cfg(feature = "alloc")]
    pub(super) fn is_awaited(&self, link: LinkId, awaits: Awaits) -> bool {
        let of = |from: &From| from.link == link && !from.closed;
        let its = |p: &Parked| p.awaits == awaits && p.from.as_ref().is_some_and(of);
        self.tables.parked.iter().any(its)
    }

    /// Takes out a request that waited for an invoice; who brought it.
    #[cfg(feature = "alloc")]
    pub(super) fn take_waiting_for_invoice(&mut self, ticket: Ticket) -> Option<From> {
        let its = |p: &Parked| p.ticket == ticket && p.is_for_invoice();
        let at = self.tables.parked.iter().position(its)?;
        self.tables.parked.take(at)?.from
    }

    fn waiting(&self) -> impl Iterator<Item = &Parked> {
        let returned = |p: &Parked| matches!(p.awaits, Awaits::Return(..) | Awaits::Turn { .. });
        self.tables.parked.iter().filter(move |p| !returned(p))
    }

    /// Packets that wait now; the shell keeps their bytes.
    pub fn parked(&self) -> usize {
        self.waiting().count()
    }

    /// Bytes of the packets that wait now.
    pub fn parked_bytes(&self) -> usize {
        self.waiting().map(|p| p.bytes).sum()
    }
}
