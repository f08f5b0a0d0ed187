//! What follows from what the state machine tells.

use super::links::Links;
use super::shell::{FollowUp, Shell};
use crate::rpc::types::{Happened, Topic};
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::time::Micros;

impl Shell {
    /// A payment is booked: told and counted, and what settles it is broadcast.
    pub(crate) fn booked(
        &mut self,
        now: Micros,
        event: Event,
        own: bool,
        settlement: Option<Box<bitcoin::Transaction>>,
    ) {
        if let Some(transaction) = settlement {
            self.chain.settle(&transaction);
        }
        match event {
            Event::PaymentVerified { payment, amount_msat, .. } if own => {
                self.counters.paid += 1;
                self.counters.paid_msat = self.counters.paid_msat.saturating_add(amount_msat);
                tracing::info!(payment = hex::encode(payment), amount_msat, "own payment used");
                self.events.tell(Topic::Payments, Happened::PaymentUsed { payment, amount_msat });
            }
            event => self.publish(now, event),
        }
    }

    /// Logs, counts and passes on what the state machine tells.
    pub(super) fn publish(&mut self, now: Micros, event: Event) {
        if let Some((topic, happened)) = for_clients(&event, &self.links) {
            self.events.tell(topic, happened);
        }
        match event {
            Event::PeerConnected { link, peer } => {
                self.own.search_again();
                self.links.up(link);
                tracing::info!(%peer, link = link.0, "neighbour is up");
            }
            Event::PeerDisconnected { peer } => tracing::info!(%peer, "neighbour is gone"),
            Event::RouteDiscovered { destination, hops } => {
                self.counters.routes_found += 1;
                tracing::debug!(%destination, hops, "route found");
                self.own.found(destination);
            }
            Event::MemberFound { group, member, hops } => {
                tracing::debug!(%group, %member, hops, "a member of a group was found");
                self.own.found_member(&group, member);
            }
            Event::RouteFailed { destination } => {
                self.counters.routes_failed += 1;
                tracing::debug!(%destination, "no route found");
                self.own.not_found(now, destination);
            }
            Event::PaymentVerified { payment, source, amount_msat, share_msat, .. } => {
                self.counters.payments += 1;
                self.counters.earned_msat = self.counters.earned_msat.saturating_add(share_msat);
                let payment = hex::encode(payment);
                tracing::info!(payment, %source, amount_msat, share_msat, "payment accepted");
            }
            Event::BytesBought { ticket, node, bytes, amount_msat, left } => {
                self.payments.credited(ticket, bytes, left);
                self.prepaid.ended(ticket, Ok(left));
                tracing::info!(%node, amount_msat, bytes, left, "bytes bought");
            }
            Event::PurchaseFailed { ticket, node, cause } => {
                self.payments.failed(ticket, cause);
                self.prepaid.ended(ticket, Err(cause.to_string()));
                tracing::warn!(%node, "no bytes were bought: {cause}");
            }
            Event::BytesSold { source, payment_hash, bytes, amount_msat, .. } => {
                self.counters.payments += 1;
                self.counters.sales += 1;
                self.counters.sold_msat = self.counters.sold_msat.saturating_add(amount_msat);
                self.counters.earned_msat = self.counters.earned_msat.saturating_add(amount_msat);
                let payment = hex::encode(payment_hash);
                tracing::info!(payment, %source, amount_msat, bytes, "bytes sold");
            }
            Event::Delivered { sequence, destination } => {
                let repeats = self.own.delivered(sequence);
                tracing::debug!(sequence, %destination, repeats, "its destination has it");
            }
            Event::DeliveryFailed { sequence, destination, reporter, cause } => {
                tracing::debug!(sequence, %destination, %reporter, "stopped on the way: {cause}");
                self.todo.push_back(FollowUp::Stopped { sequence, reporter, cause });
            }
        }
    }
}

/// What clients are told of it. A link that is gone again was never up for them.
fn for_clients(event: &Event, links: &Links) -> Option<(Topic, Happened)> {
    use Happened as H;
    use Topic::{Deliveries, Payments, Peers, Routes};
    Some(match *event {
        Event::PeerConnected { link, peer: node } => {
            let link = links.get(link)?;
            let (address, dialed) = (link.address.clone(), link.dialed);
            (Peers, H::PeerUp { node, address, dialed })
        }
        Event::PeerDisconnected { peer: node } => (Peers, H::PeerDown { node }),
        Event::RouteDiscovered { destination, hops } => {
            (Routes, H::RouteFound { destination, hops })
        }
        Event::RouteFailed { destination } => (Routes, H::RouteNotFound { destination }),
        Event::MemberFound { group, member, hops } => {
            (Routes, H::MemberFound { group, member, hops })
        }
        Event::PaymentVerified { payment, source, amount_msat, share_msat, .. } => {
            (Payments, H::PaymentAccepted { payment, source, amount_msat, share_msat })
        }
        Event::BytesSold { source, payment_hash: payment, bytes, amount_msat, .. } => {
            (Payments, H::BytesSold { payment, source, bytes, amount_msat })
        }
        Event::BytesBought { node, bytes, amount_msat, left, .. } => {
            (Payments, H::BytesBought { node, bytes, amount_msat, left })
        }
        Event::PurchaseFailed { node, cause, .. } => {
            (Payments, H::PurchaseFailed { node, cause: cause.to_string() })
        }
        Event::Delivered { sequence, destination } => {
            (Deliveries, H::DatagramDelivered { sequence, destination })
        }
        Event::DeliveryFailed { sequence, destination, reporter, cause } => {
            let cause = cause.to_string();
            (Deliveries, H::DatagramStopped { sequence, destination, reporter, cause })
        }
    })
}
