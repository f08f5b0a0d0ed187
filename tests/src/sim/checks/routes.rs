//! I10: searches end once and in time, and what they find could be walked.

use super::super::World;
use super::super::machine::{Action, Input, Step, Verdict};
use super::super::node::Search;
use super::paid::datagram;
use blvm_mesh_core::config::{Config, MAX_ISSUERS, MeshMode};
use blvm_mesh_core::id::{HopId, LinkId, NodeId};
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::time::Micros;
use blvm_mesh_core::wire::Header;
use blvm_mesh_core::wire::accepted::{Accepted, FOR_ACCOUNTS, issuer_id};
use blvm_mesh_core::wire::route_error::{Cause, RouteError};
use blvm_mesh_core::wire::route_reply::RouteReply;
use secp256k1::PublicKey;

fn error_in(input: &Input) -> Option<(LinkId, RouteError)> {
    let Input::MessageReceived { link, packet: bytes } = input else { return None };
    let (header, body) = Header::parse(bytes).ok()?;
    RouteError::parse(header, body).ok().map(|error| (*link, error))
}

fn reply_in(packet: &[u8]) -> Option<RouteReply> {
    let (header, body) = Header::parse(packet).ok()?;
    RouteReply::parse(header, body).ok()
}

/// What nodes with these configurations accept as payment, all of them.
fn accepted_by<'c>(configs: impl Iterator<Item = &'c Config>) -> Accepted {
    let all: Vec<_> = configs.filter(|c| c.mode != MeshMode::Open).collect();
    let Some(first) = all.first() else { return Accepted::ANY };
    if all.iter().any(|c| c.mode == MeshMode::BitcoinOnly) {
        return Accepted::NOTHING;
    }
    let takes = |c: &&Config| c.payment.covenants_active && !c.payment.payout_script.is_empty();
    let most = all.iter().map(|c| c.payment.min_confirmations).max().unwrap_or_default();
    let common = |key: &&PublicKey| all.iter().all(|c| c.payment.issuers.contains(key));
    let issuers = first.payment.issuers.iter().filter(common).map(issuer_id);
    // Who has as many issuers as fit does not say that it takes these.
    let says = |c: &&Config| c.payment.issuers.len() < MAX_ISSUERS;
    let for_accounts = all.iter().all(says).then_some(FOR_ACCOUNTS);
    Accepted {
        min_confirmations: if all.iter().all(takes) { most.clamp(1, 255) as u8 } else { 0 },
        issuers: Some(issuers.chain(for_accounts).collect()),
    }
}

impl World {
    /// I3: an error counts only on the link that its datagram took.
    pub(super) fn errors_from_the_way(&mut self, n: usize, input: &Input, step: &Step) {
        for did in &step.actions {
            if let Some((link, bytes)) = did.sent()
                && let Some(d) = datagram(bytes)
            {
                let sent = (n, link, d.source, d.destination, d.sequence);
                let way = (d.route().to_vec(), d.signed.is_some());
                self.checks.went.entry(sent).or_default().push(way);
            }
        }
        let refused =
            step.actions.iter().any(|d| matches!(d, Action::Verdict(Verdict::Reject { .. })));
        let Some((link, e)) = error_in(input).filter(|_| !refused) else { return };
        let went = self.checks.went.get(&(n, link, e.source, e.destination, e.sequence));
        // Only what has a proof has a receipt.
        let receipt = e.cause == Cause::Delivered;
        let is = |(way, paid): &(Vec<HopId>, bool)| way[..] == e.hops[..] && (*paid || !receipt);
        let same = went.is_some_and(|ways| ways.iter().any(is));
        assert!(same, "I3: node {n} believes of a datagram that did not go there: {input:?}");
        self.checks.count(if receipt { "receipts believed" } else { "errors believed" });
    }

    /// What its destination is said to have was handed over there, unless an adversary is on the way.
    pub(super) fn receipts_are_true(&mut self, n: usize, step: &Step) {
        for did in &step.actions {
            let Action::Publish(Event::Delivered { sequence, destination }) = did else { continue };
            let Some(sent) = self.nodes[n].own_paid.get(sequence) else { continue };
            let hops = datagram(&sent.bytes).expect("it was sent").route();
            let way = hops.into_iter().chain([destination.hop()]);
            let way: Vec<_> = way.map(|hop| self.by_hop.get(&hop).copied()).collect();
            let honest = |m: &Option<usize>| {
                m.is_some_and(|m| self.nodes[m].honest && !self.checks.lied.contains(&m))
            };
            if let (true, Some(Some(end))) = (way.iter().all(honest), way.last()) {
                if let Some(key) = self.deposit_in(&sent.bytes) {
                    self.relays_credited(n, key, &way);
                    continue;
                }
                let there = self.checks.handed.contains(&(*end, self.id(n), *sequence));
                assert!(there, "I3: node {n} is told that {end} has {sequence:x}, and it has not");
                self.checks.count("receipts that are true");
            }
        }
    }

    /// Notes which routes a node confirms as their end.
    pub(super) fn confirms(&mut self, n: usize, step: &Step) {
        for did in &step.actions {
            if let Action::Send { packet: bytes, .. } = did
                && let Some(reply) =
                    reply_in(bytes).filter(|reply| reply.destination() == self.id(n))
            {
                self.checks.confirmed.insert(reply.sighash());
            }
        }
    }

    pub(super) fn one_end_per_search(&mut self, n: usize, input: &Input, step: &Step) {
        let now = self.nodes[n].local(self.now);
        let asked = match input {
            Input::FindRoute { destination: to } | Input::FindAccepted { destination: to } => {
                Some(*to)
            }
            Input::Send { destination: to, .. } => {
                // What waits for room waits until a certain time.
                let parks = |d: &Action| {
                    matches!(d, Action::Verdict(Verdict::Parked { until: u64::MAX, .. }))
                };
                let asks = |d: &Action| matches!(d, Action::Verify { .. });
                let searches = step.actions.iter().any(parks) && !step.actions.iter().any(asks);
                searches.then_some(*to)
            }
            _ => None,
        };
        // A neighbour is there: said at once, beside any search that is under way.
        let at_once = matches!(input, Input::FindRoute { .. })
            && step
                .actions
                .iter()
                .any(|d| matches!(d, Action::Publish(Event::RouteDiscovered { .. })));
        if at_once {
            return;
        }
        let accepted =
            !step.actions.iter().any(|d| matches!(d, Action::Verdict(Verdict::Reject { .. })));
        if let Some(to) = asked.filter(|_| accepted) {
            let search = Search { began: now, until: now + self.nodes[n].search_time() + 1 };
            let known = self.nodes[n].searching.entry(to).or_insert(search);
            // One that asked for less begins anew.
            if matches!(input, Input::FindAccepted { .. }) {
                known.until = search.until;
            }
        }
        for did in &step.actions {
            let (to, found) = match did {
                Action::Publish(Event::RouteDiscovered { destination, .. }) => (*destination, true),
                Action::Publish(Event::RouteFailed { destination }) => (*destination, false),
                _ => continue,
            };
            let search = self.nodes[n].searching.remove(&to);
            // Flows search when they need to.
            let begun = search.is_some() || self.has_flow_to(n, &to);
            assert!(begun, "I10: node {n} ends a search that nobody began: {did:?}");
            match (found, search) {
                (true, Some(search)) => self.account.discoveries.push(now - search.began),
                (true, None) => {}
                (false, _) => self.account.failed_searches += 1,
            }
            if found && self.nodes[n].honest {
                self.confirmed(n, to, input);
                self.walkable(n, to);
            }
        }
        let late = self.nodes[n].searching.iter().find(|(_, s)| s.until < now);
        let late = late.filter(|(to, _)| !self.has_flow_to(n, to));
        assert_eq!(late, None, "I10: node {n} still searches at {now}");
    }

    /// Whether the end of a published route has confirmed it.
    fn confirmed(&self, n: usize, to: NodeId, input: &Input) {
        let Input::MessageReceived { packet: bytes, .. } = input else { return };
        let honest = self.by_hop.get(&to.hop()).is_some_and(|m| !self.checks.lied.contains(m));
        if let Some(reply) = reply_in(bytes).filter(|_| honest) {
            let known = self.checks.confirmed.contains(&reply.sighash());
            assert!(known, "I10: node {n} publishes a route that its end never confirmed");
        }
    }

    /// Whether a published route could be walked when its reply came along it.
    fn walkable(&mut self, n: usize, to: NodeId) {
        let Some(route) = self.nodes[n].machine.path(&to, self.nodes[n].local(self.now)) else {
            panic!("I10: node {n} published a route and has none");
        };
        let by_hop = |hop| self.by_hop.get(&hop).copied();
        let way: Option<Vec<usize>> = [self.id(n).hop()]
            .into_iter()
            .chain(route.hops.iter().map(|(hop, _)| *hop))
            .chain([to.hop()])
            .map(by_hop)
            .collect();
        let Some(way) = way else { return };
        // Whoever is not honest may promise what he likes.
        if way.iter().any(|m| !self.nodes[*m].honest) {
            return;
        }
        if let Some(told) = self.nodes[n].machine.accepted(&to) {
            let configs = way.iter().skip(1).map(|m| &self.nodes[*m].config);
            assert_eq!(told, accepted_by(configs), "I10: not what all of {way:?} accept");
            self.checks.count("told what a route accepts");
        }
        for (i, step) in way.windows(2).enumerate() {
            let lately = |t: Micros| self.now.saturating_sub(t) < self.reply_time;
            let conns = self.nodes[step[0]].conns.iter().map(|c| &self.conns[*c]);
            let joined =
                conns.filter(|c| c.joins(step[0], step[1])).any(|c| c.broken_at.is_none_or(lately));
            assert!(joined, "I10: no link {step:?} on {way:?}");
            assert!(!way[i + 1..].contains(&way[i]), "I10: a loop in {way:?}");
        }
    }
}
