//! I6: no table exceeds its capacity, and no neighbour takes more than its share
//! of any, or has less, as one sees it who counts what each was given.

use super::super::World;
use super::super::machine::{Action, Input, Known, Step, Verdict};
use super::super::wires::conn_of;
use super::paid::datagram;
use blvm_mesh_core::config::{Allowance, FREE_AT_FIRST, ROUTES_PER_DESTINATION};
use blvm_mesh_core::id::{HopId, LinkId, NodeId, Standing};
use blvm_mesh_core::mesh::{MeshError, PaymentReason, Priority, RoutingReason, Ticket};
use blvm_mesh_core::payment::lightning::LightningError;
use blvm_mesh_core::payment::replay::REPEAT_PAUSE;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::datagram::Form;
use blvm_mesh_core::wire::route_request::RouteRequest;
use blvm_mesh_core::wire::{HEADER_LEN, Header};
use siphasher::sip::SipHasher13;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hasher;

/// Bad payments of its own that a new neighbour may pass on at once, however many are allowed.
const BAD_AT_FIRST: u64 = 4;

/// Parts in which the nodes behind a neighbour have the same once more, and sources that
/// paid another time.
const PARTS: u64 = 8;

/// Bad payments of one owner: an own neighbour's, what the nodes behind it share, and what
/// those have that paid. Strangers of a prefix share no more than what is in parts.
fn bad_payments(of: Allowance, standing: &Standing, now: Micros) -> Left {
    let (times, own, own_at_first) = match standing {
        Standing::Own => (3, of.burst, BAD_AT_FIRST),
        Standing::Stranger { .. } => (2, 0, 0),
    };
    let rate = of.rate.saturating_mul(times).saturating_add(times);
    let burst = own.saturating_add(2 * PARTS * part_of(of));
    Left::new(Allowance { rate, burst }, own_at_first + PARTS, now)
}

/// What one part may have at once.
fn part_of(of: Allowance) -> u64 {
    of.burst.div_ceil(PARTS).clamp(1, 1 << 16)
}

/// How long a request is remembered where there is room.
const REMEMBERED: Micros = 60 * SECOND;

/// Requests of a link that are kept here beyond what a table can hold.
const KEPT: usize = 1024;

/// An allowance that is used up and comes back with time; in millionths.
#[derive(Debug)]
struct Left {
    level: u128,
    of: Allowance,
    at: Micros,
}

impl Left {
    fn new(of: Allowance, at_first: u64, at: Micros) -> Self {
        Self { level: u128::from(of.burst.min(at_first)) * u128::from(SECOND), of, at }
    }

    /// What is left now.
    fn now(&mut self, now: Micros) -> u64 {
        let more = u128::from(self.of.rate) * u128::from(now - self.at);
        self.level = (self.level + more).min(u128::from(self.of.burst) * u128::from(SECOND));
        self.at = now;
        (self.level / u128::from(SECOND)) as u64
    }

    /// As much more at once.
    fn add(&mut self, n: u64) {
        self.level += u128::from(n) * u128::from(SECOND);
    }

    fn take(&mut self, n: u64) {
        self.level = self.level.saturating_sub(u128::from(n) * u128::from(SECOND));
    }
}

/// What came over one link.
#[derive(Debug)]
struct Used {
    /// Whose free allowance it takes.
    owner: (NodeId, u64),
    /// Requests that were new and when they came, the latest last.
    requests: VecDeque<((HopId, u64), Micros)>,
}

/// What a node's neighbours have of its tables since its start.
#[derive(Debug, Default)]
pub(in crate::sim) struct Shares {
    links: BTreeMap<LinkId, Used>,
    /// On which links packets came that wait.
    waiting: HashMap<Ticket, LinkId>,
    /// What is left free, by identity or address prefix, kept when links are gone.
    free: BTreeMap<(NodeId, u64), Left>,
    /// The same of bad payments, and whether any was charged.
    bad_payments: BTreeMap<(NodeId, u64), (Left, bool)>,
    /// Most links that it had at the same time.
    most: usize,
    /// Requests and datagrams that it took.
    requests: HashSet<(HopId, u64)>,
    /// Requests for itself. It answers some of them more than once, so that it is not
    /// seen of which link they are.
    mine: HashSet<(HopId, u64)>,
    /// Datagrams by neighbour and header.
    seen: HashSet<(NodeId, u64)>,
    latest: Option<(Datagram, Micros)>,
}

fn refusal(step: &Step) -> Option<MeshError> {
    step.actions.iter().find_map(|d| match d {
        Action::Verdict(Verdict::Reject { reason, .. }) => Some(*reason),
        _ => None,
    })
}

/// Tells packets apart: by number and check, which an adversary can make the same, and by all of
/// their bytes.
fn prints_of(packet: &[u8]) -> [u64; 2] {
    [&packet[..HEADER_LEN], packet].map(|bytes| {
        let mut h = SipHasher13::new();
        h.write(bytes);
        h.finish()
    })
}

/// The link on which a datagram came, the neighbour at its end, and what tells it apart.
type Datagram = (LinkId, NodeId, [u64; 2]);

/// Whether a refusal cost a signature or a question to the node.
fn was_bad(reason: &MeshError) -> bool {
    use PaymentReason as P;
    let signature = P::Lightning(LightningError::InvalidSignature);
    let MeshError::PaymentVerificationFailed(reason) = reason else { return false };
    *reason == P::SourceSignature || *reason == signature
}

impl World {
    /// Capacities, and the places of packets that wait.
    pub(super) fn within_capacity(&mut self, n: usize, input: &Input, step: &Step) {
        let node = &self.nodes[n];
        let c = node.config.capacities;
        let used = crate::either!(&node.machine, m => [
            m.live_payments(), m.parked(), m.table().routes().len(),
            m.table().neighbours.len(), m.searches(), m.relayed_requests(), m.route_hints(),
        ]);
        let most = [
            c.payments,
            c.parked,
            c.routes,
            c.neighbours,
            c.searches,
            c.relayed_requests,
            c.route_hints,
        ];
        assert!(used.iter().zip(most).all(|(u, m)| *u <= m), "I6: node {n}: {used:?} of {most:?}");
        self.account.peaks.iter_mut().zip(used).for_each(|(peak, used)| *peak = used.max(*peak));
        if step.actions.iter().any(|d| matches!(d, Action::Verdict(Verdict::Parked { .. }))) {
            let link = match input {
                Input::MessageReceived { link, .. } => Some(*link),
                _ => None,
            };
            let half = c.parked.div_ceil(2);
            let share = if link.is_some() { half.div_ceil(used[3].max(1)) } else { half };
            let own = node.parked.values().filter(|h| h.link == link).count() + 1;
            assert!(own <= share, "I6: node {n}: {link:?} has {own} places of {share}");
            let theirs = node.parked.values().filter(|h| h.link.is_some()).count();
            let theirs = theirs + usize::from(link.is_some());
            assert!(theirs <= half, "I6: node {n}: its neighbours have {theirs} places");
        }
    }

    /// The shares of each neighbour.
    pub(super) fn within_shares(&mut self, n: usize, input: &Input, step: &Step) {
        self.links_as_given(n, input, step);
        let came_on = self.came_on(n, input, step);
        match input {
            Input::MessageReceived { link, packet: bytes } => {
                if datagram(bytes).is_some_and(|d| d.form != Form::Plain) {
                    // Control packets; their signatures are checks like any other. What came before
                    // one may be known no longer.
                    self.nodes[n].shares.latest = None;
                    if refusal(step).is_some_and(|reason| was_bad(&reason)) {
                        self.count_bad(n, came_on);
                    }
                } else if let Some(d) = datagram(bytes) {
                    let what =
                        ((*link, self.at_the_end_of(*link), prints_of(bytes)), d.signed.is_some());
                    self.datagram_within(n, what, bytes.len() as u64, step);
                } else if let Ok((header, body)) = Header::parse(bytes) {
                    if let Ok(request) = RouteRequest::parse(header, body) {
                        let mine =
                            [request.source, request.destination].map(|e| e == self.id(n).hop());
                        let number = (request.source, request.sequence);
                        self.request_within(n, *link, number, mine, step);
                    }
                    self.routes_within(n, step);
                }
            }
            Input::Resumed { .. } if refusal(step).is_some() => self.count_bad(n, came_on),
            Input::Resumed { packet: bytes, .. } => {
                if let (Some(d), Some(link)) = (datagram(bytes), came_on) {
                    let what =
                        ((link, self.at_the_end_of(link), prints_of(bytes)), d.signed.is_some());
                    self.datagram_within(n, what, bytes.len() as u64, step);
                }
            }
            _ => {}
        }
        // The node was asked in vain about a block.
        for did in &step.actions {
            if let Action::Drop { link, .. } = did
                && matches!(input, Input::PaymentVerified { .. })
            {
                self.count_bad(n, *link);
            }
        }
    }

    /// On which link the packet came that is handled, now or before it had to wait.
    fn came_on(&mut self, n: usize, input: &Input, step: &Step) -> Option<LinkId> {
        let waiting = &mut self.nodes[n].shares.waiting;
        let link = match input {
            Input::MessageReceived { link, .. } => Some(*link),
            Input::Resumed { ticket, .. } => waiting.remove(ticket),
            _ => None,
        };
        for action in &step.actions {
            match (action, link) {
                (Action::Verdict(Verdict::Parked { ticket, .. }), Some(link)) => {
                    waiting.insert(*ticket, link);
                }
                (Action::Drop { ticket, .. }, _) => drop(waiting.remove(ticket)),
                _ => {}
            }
        }
        link
    }

    fn links_as_given(&mut self, n: usize, input: &Input, step: &Step) {
        let now = self.nodes[n].local(self.now);
        let node = &mut self.nodes[n];
        let (config, shares) = (&node.config, &mut node.shares);
        for did in &step.actions {
            if let Action::Close { link, .. } = did {
                shares.links.remove(link);
            }
        }
        match input {
            Input::PeerDisconnected { link } => drop(shares.links.remove(link)),
            Input::PeerConnected { link, peer, standing, .. } if refusal(step).is_none() => {
                let owner = match standing {
                    Standing::Own => (*peer, 0),
                    Standing::Stranger { prefix } => (NodeId::default(), prefix + 1),
                };
                let free = || Left::new(config.free(), FREE_AT_FIRST, now);
                shares.free.entry(owner).or_insert_with(free);
                let bad = || (bad_payments(config.bad_payments, standing, now), false);
                shares.bad_payments.entry(owner).or_insert_with(bad);
                let used = Used { owner, requests: VecDeque::new() };
                shares.links.insert(*link, used);
            }
            _ => {}
        }
        shares.most = shares.most.max(shares.links.len());
        let known = crate::either!(&node.machine, m => m.table().neighbours.len());
        assert_eq!(known, shares.links.len(), "I6: node {n} has other neighbours than links");
    }

    fn count_bad(&mut self, n: usize, link: Option<LinkId>) {
        let now = self.nodes[n].local(self.now);
        let shares = &mut self.nodes[n].shares;
        let owner = link.and_then(|link| shares.links.get(&link)).map(|used| used.owner);
        let bad = owner.and_then(|owner| shares.bad_payments.get_mut(&owner));
        if let Some((left, charged)) = bad {
            left.now(now);
            left.take(1);
            *charged = true;
        }
    }

    /// The neighbour at the other end of a link.
    fn at_the_end_of(&self, link: LinkId) -> NodeId {
        let (conn, side) = conn_of(link);
        self.id(self.conns[conn].ends[1 - side])
    }

    /// Free traffic, bad payments, and what was here lately.
    fn datagram_within(
        &mut self,
        n: usize,
        (what, signed): (Datagram, bool),
        size: u64,
        step: &Step,
    ) {
        let (_, giver, [print, _]) = what;
        let now = self.nodes[n].local(self.now);
        let (of, owners) =
            (self.nodes[n].config.bad_payments, self.nodes[n].config.capacities.owners);
        let shares = &mut self.nodes[n].shares;
        let Some(used) = shares.links.get(&what.0) else { return };
        // Who finds no place of his own has one in common with others.
        let in_common = shares.bad_payments.len() >= owners
            && shares.bad_payments.values().any(|(_, charged)| *charged);
        let Some(left) = shares.free.get_mut(&used.owner) else { return };
        let Some((bad_left, charged)) = shares.bad_payments.get_mut(&used.owner) else { return };
        let (free, bad) = (left.now(now), bad_left.now(now));
        let is_new = step.actions.iter().any(super::payments::is_booked);
        match refusal(step) {
            Some(MeshError::PaymentVerificationFailed(PaymentReason::TooManyBad)) => {
                assert!(*charged || in_common, "I6: node {n} refuses to check what it may");
            }
            Some(MeshError::RoutingError(RoutingReason::Duplicate)) => {
                assert!(
                    shares.seen.contains(&(giver, print)),
                    "I3: node {n} refuses what it never took: {what:?}"
                );
            }
            Some(reason) if was_bad(&reason) => {
                assert!(bad > 0, "I6: node {n} checks too many bad payments of {:?}", what.0);
                bad_left.take(1);
                *charged = true;
            }
            Some(_) => {}
            None if step
                .actions
                .iter()
                .any(|d| matches!(d, Action::Verdict(Verdict::Parked { .. }))) =>
            {
                *charged = true
            }
            // A paid one again.
            None if step.actions.iter().any(|d| match d {
                Action::Verdict(Verdict::Forward { priority, .. }) => {
                    *priority == Priority::Paid && !is_new
                }
                Action::Verdict(Verdict::Absorbed) => true,
                _ => false,
            }) =>
            {
                shares.seen.insert((giver, print));
            }
            None => {
                if is_new {
                    bad_left.add(part_of(of));
                } else {
                    assert!(size <= free, "I6: node {n} takes {size} bytes, {free} are free");
                    left.take(size);
                }
                // A signed one may come again where nobody keeps payments, but not at once.
                let before = shares.latest.replace((what, now));
                let again = before.is_some_and(|(latest, at)| {
                    latest == what && (!signed || now < at + REPEAT_PAUSE / 2)
                });
                assert!(!again, "I4: node {n} takes {what:?} twice");
                shares.seen.insert((giver, print));
            }
        }
    }

    /// A neighbour that asks much makes a node forget its own requests only: of
    /// each the latest are known, as many as its equal share.
    fn request_within(
        &mut self,
        n: usize,
        link: LinkId,
        number: (HopId, u64),
        [from_me, for_me]: [bool; 2],
        step: &Step,
    ) {
        let now = self.nodes[n].local(self.now);
        let node = &mut self.nodes[n];
        let (capacity, shares) = (node.config.capacities.relayed_requests, &mut node.shares);
        let share = capacity / shares.most.max(1);
        // Of those that came at the same time any may be taken for the oldest.
        let known = |used: &Used| {
            let at = used.requests.iter().find(|(r, _)| *r == number).map(|(_, at)| *at);
            let later = |at| used.requests.iter().filter(|(_, t)| *t >= at).count();
            at.is_some_and(|at| now - at < REMEMBERED && later(at) <= share)
        };
        match refusal(step) {
            Some(MeshError::RoutingError(RoutingReason::KnownRequest)) => {
                let rightly = from_me || shares.requests.contains(&number);
                assert!(rightly, "I6: node {n} refuses as known what it never heard: {number:?}");
                return;
            }
            // Refused before it was looked for.
            Some(_) => return,
            None => {
                let for_me = for_me || shares.mine.contains(&number);
                let forgot = shares.links.iter().find(|(_, used)| !for_me && known(used));
                assert!(
                    forgot.is_none(),
                    "I6: node {n} forgot {number:?}, of which {:?} may have {share}",
                    forgot.map(|(link, _)| link)
                );
            }
        }
        shares.requests.insert(number);
        if for_me {
            shares.mine.insert(number);
        }
        // One for this node may be new again or not: it counts as if it were.
        if let Some(used) = shares.links.get_mut(&link) {
            used.requests.push_back((number, now));
            let more = used.requests.len().saturating_sub(KEPT + capacity);
            used.requests.drain(..more);
        }
    }

    /// A new route takes another neighbour's place only while its own neighbour
    /// has less than an equal share.
    fn routes_within(&mut self, n: usize, step: &Step) {
        let Some(before) = &step.routes else { return };
        // A neighbour that was found silent in the same step takes its routes with it.
        if step.actions.iter().any(|did| matches!(did, Action::Close { .. })) {
            return;
        }
        let node = &self.nodes[n];
        let (now, capacity) = (node.local(self.now), node.config.capacities.routes);
        let (after, neighbours) = crate::either!(&node.machine, m => {
            (m.table().routes().map(Known::from).collect::<Vec<_>>(), m.table().neighbours.len())
        });
        let known = |list: &[Known], r: &Known| {
            list.iter().any(|o| o.destination == r.destination && o.hops == r.hops)
        };
        let Some(new) = after.iter().find(|r| !known(before, r)) else { return };
        let same = after.iter().filter(|r| r.destination == new.destination).count();
        assert!(same <= ROUTES_PER_DESTINATION, "I6: node {n} has {same} routes to one node");
        let gone: Vec<_> = before
            .iter()
            .filter(|r| r.expires_at > now && r.destination != new.destination)
            .filter(|r| !known(&after, r))
            .collect();
        let [gone] = gone[..] else {
            return assert!(gone.is_empty(), "I6: node {n} forgets several routes for one");
        };
        assert_eq!(before.len(), capacity, "I6: node {n} forgets a route and has room");
        let own = before.iter().filter(|r| r.hops[0].0 == new.hops[0].0).count();
        let share = (capacity / neighbours.max(1)).max(1);
        assert!(
            gone.hops[0].0 == new.hops[0].0 || own < share,
            "I6: node {n}: a neighbour with {own} routes of {share} takes another's place"
        );
    }
}
