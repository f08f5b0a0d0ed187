//! Carries out what the state machine asked for.

use super::effects::{Effect, Outcome, Waiting};
use super::{ManagerError, MeshManager, NodeApiError};
use blvm_mesh_core::mesh::{Event, Input, NetworkReason};
use blvm_mesh_core::payment::ledger::Record;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// First and longest pause before a commit that failed is tried once more.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What the store did not take, and what waits for it.
#[derive(Default)]
pub(super) struct Unwritten {
    records: Vec<(u64, Record)>,
    paid: Vec<Effect>,
    /// While the store fails: when to try again, and the pause after that.
    next: Option<(Instant, Duration)>,
}

impl MeshManager {
    /// Does what is to be done: what is free first, then one commit for all records,
    /// then what waits for them. While the store takes nothing that waits, in order.
    pub(super) async fn perform(&self, effects: Vec<Effect>) {
        let (mut records, mut paid) = (Vec::new(), Vec::new());
        for effect in effects {
            match effect {
                Effect::Persist { number, record } => records.push((number, record)),
                Effect::Send { after: Some(_), .. }
                | Effect::Deliver { after: Some(_), .. }
                | Effect::Settle { after: Some(_), .. }
                | Effect::Publish(
                    Event::PaymentVerified { after: Some(_), .. }
                    | Event::BytesSold { after: Some(_), .. },
                ) => {
                    paid.push(effect);
                }
                other => self.perform_one(other).await,
            }
        }
        {
            let mut unwritten = self.unwritten();
            if unwritten.next.is_some() {
                unwritten.records.extend(records);
                unwritten.paid.extend(paid);
                return;
            }
        }
        if let Err(error) = self.commit(&records).await {
            tracing::error!(
                error,
                waiting = paid.len(),
                "the store cannot be written: no payment is accepted until it can, and what was \
                 accepted waits"
            );
            let next = Some((Instant::now() + RETRY.0, RETRY.0 * 2));
            *self.unwritten() = Unwritten { records, paid, next };
            self.tell(Input::StoreFailed);
            // A full channel means that `run` is to look already.
            let _ = self.rearm.0.try_send(());
            return;
        }
        for effect in paid {
            self.perform_one(effect).await;
        }
    }

    /// Writes once more what the store did not take. When to try again.
    pub(super) async fn retry(&self) -> Duration {
        let (records, pause) = {
            let unwritten = self.unwritten();
            let Some((at, pause)) = unwritten.next else { return Duration::MAX };
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return left;
            }
            (unwritten.records.clone(), pause)
        };
        if self.commit(&records).await.is_err() {
            self.unwritten().next = Some((Instant::now() + pause, (2 * pause).min(RETRY.1)));
            return pause;
        }
        let (left, paid) = {
            let mut unwritten = self.unwritten();
            // More may have come meanwhile.
            let written = records.len().min(unwritten.records.len());
            unwritten.records.drain(..written);
            match unwritten.records.is_empty() {
                false => (true, Vec::new()),
                true => (false, std::mem::take(&mut *unwritten).paid),
            }
        };
        if left {
            return Duration::ZERO;
        }
        tracing::warn!("the store can be written again: payments are accepted");
        self.tell(Input::StoreRecovered);
        for effect in paid {
            self.perform_one(effect).await;
        }
        Duration::MAX
    }

    fn unwritten(&self) -> MutexGuard<'_, Unwritten> {
        self.unwritten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, input: Input<'_>) {
        let told = self.give(|core, now| core.give(now, input).map_err(ManagerError::Misuse));
        self.log(told);
    }

    async fn commit(&self, records: &[(u64, Record)]) -> Result<(), String> {
        let (false, Some(store)) = (records.is_empty(), self.store.clone()) else { return Ok(()) };
        let records = records.to_vec();
        smol::unblock(move || store.commit(&records)).await.map_err(|e| e.to_string())
    }

    async fn perform_one(&self, effect: Effect) {
        match effect {
            Effect::Send { link, priority, bytes, own, .. } => {
                let peer = self.lock().by_link.get(&link).cloned();
                let Some(peer) = peer else { return };
                let sent = self.api.send_to_peer(&peer, priority, &bytes).await;
                match (sent, own) {
                    (Ok(()), Some((who, sent))) => {
                        let _ = who.try_send(Outcome::Sent(sent));
                    }
                    (Ok(()), None) => {}
                    (Err(error), own) => {
                        tracing::warn!(peer, %error, "a packet was not sent");
                        if let Some((who, _)) = own {
                            let reason = NetworkReason::Congested.into();
                            let _ = who.try_send(Outcome::Refused(reason));
                        }
                        if error == NodeApiError::NotConnected {
                            self.drop_link(link, "it is not connected any more").await;
                        }
                    }
                }
            }
            Effect::Deliver { delivery, .. } => self.deliveries.push(delivery),
            Effect::Publish(event) => {
                match &event {
                    Event::PaymentVerified { share_msat, .. } => {
                        self.earned_msat.fetch_add(*share_msat, Ordering::Relaxed);
                    }
                    Event::BytesBought { ticket, bytes, .. } => {
                        self.credited(*ticket, *bytes).await;
                    }
                    _ => {}
                }
                self.api.publish_event(&event).await;
            }
            Effect::Settle { transaction, .. } => {
                if let Err(error) = self.api.broadcast(&transaction).await {
                    let hex = bitcoin::consensus::encode::serialize_hex(&*transaction);
                    tracing::warn!(
                        transaction = hex,
                        "a covenant was accepted, but its transaction was not broadcast: {error}"
                    );
                }
            }
            Effect::Ask { ticket, block } => {
                let block = self.api.block(&block).await;
                let told = self.give(|core, now| {
                    let input = Input::PaymentVerified { ticket, block };
                    core.give(now, input).map_err(ManagerError::Misuse)
                });
                self.log(told);
            }
            Effect::Pay { ticket, bill } => self.queue_bill(ticket, bill),
            Effect::Invoice { ticket, amount_msat, expiry_s } => {
                let invoice = self.api.invoice(amount_msat, expiry_s).await;
                let told = self.give(|core, now| {
                    // A request that was dropped meanwhile needs none.
                    let Some(Waiting::Packet(_, packet)) = core.unpark(ticket) else {
                        return Ok(());
                    };
                    let invoice = invoice.as_deref().unwrap_or_default().as_bytes();
                    let input = Input::Invoice { ticket, packet: &packet, invoice };
                    core.give(now, input).map_err(ManagerError::Misuse)
                });
                self.log(told);
            }
            Effect::Close { link, reason } => self.drop_link(link, &reason.to_string()).await,
            // Collected by `perform`.
            Effect::Persist { .. } => {}
        }
    }
}
