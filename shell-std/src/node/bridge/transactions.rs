//! Transactions through the mesh: handed to gateways here, and to a gateway's Bitcoin node.

use super::gateways;
use super::headers::HeaderSync;
use super::questions::Questions;
use super::shared::Bridge;
use crate::bridge::control::random_id;
use crate::bridge::outbox::{Outbox, State};
use crate::bridge::table::{About, lock};
use crate::bridge::transaction::{self, Answer, Said};
use bitcoin::Txid;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{MeshError, RoutingReason};
use smol::channel::Receiver;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pauses before a transaction is handed over again, doubled each time, and before its gateway is
/// asked again what became of it.
const AGAIN: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
const ASK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Hand-overs whose answers are waited for.
const MOST_HANDED: usize = 1024;
/// After so many questions that did not bring a confirmation others are asked too: the gateway may
/// be gone, or lie.
const ASKED_ALONE: u32 = 4;
/// What is done for one transaction, and when next.
#[derive(Debug, Clone, Copy)]
struct Plan {
    at: Instant,
    /// Whether its gateway was asked last, and not handed it.
    asked: bool,
    times: u32,
}

/// The sender's side.
struct Outgoing {
    bridge: Arc<Bridge>,
    outbox: Arc<Outbox>,
    headers: Option<Arc<HeaderSync>>,
    handed: Mutex<HashMap<u64, (Txid, NodeId)>>,
}

/// Takes what is said about transactions, and sends those that are due.
pub(super) async fn run(
    bridge: Arc<Bridge>,
    outbox: Arc<Outbox>,
    arrivals: Receiver<About>,
    questions: Option<Arc<Questions>>,
    headers: Option<Arc<HeaderSync>>,
) {
    let (handed, shared) = (Mutex::default(), outbox.clone());
    let outgoing = Arc::new(Outgoing { bridge, outbox: shared, headers, handed });
    let mut plans = HashMap::<Txid, Plan>::new();
    let mut due = outgoing.send_due(&mut plans);
    loop {
        let arrival = async { arrivals.recv().await.ok().map(Some) };
        let changed = async {
            outbox.changed.wait().await;
            Some(None)
        };
        let late = async {
            match due {
                Some(due) => _ = smol::Timer::at(due).await,
                None => std::future::pending().await,
            }
            Some(None)
        };
        // By chance: no flood of what others say keeps this node's own from being sent.
        match smol::future::race(arrival, smol::future::or(changed, late)).await {
            Some(Some(about)) => outgoing.take(about, questions.as_deref()),
            Some(None) => due = outgoing.send_due(&mut plans),
            None => return,
        }
    }
}

impl Outgoing {
    /// Sends what is due, and tells when the next is.
    fn send_due(self: &Arc<Self>, plans: &mut HashMap<Txid, Plan>) -> Option<Instant> {
        let (now, open) = (Instant::now(), self.outbox.open_ones());
        plans.retain(|txid, _| open.contains_key(txid));
        for (txid, asks) in open {
            let pauses = if asks { ASK } else { AGAIN };
            let plan = plans.entry(txid).or_insert(Plan { at: now, asked: asks, times: 0 });
            if plan.asked != asks {
                let at = if asks { now + pauses.0 } else { now };
                *plan = Plan { at, asked: asks, times: 0 };
            }
            if plan.at > now {
                continue;
            }
            plan.at = now + (pauses.0 * (1 << plan.times.min(10))).min(pauses.1);
            plan.times = plan.times.saturating_add(1);
            let (this, times) = (self.clone(), plan.times);
            self.bridge.executor.spawn(async move { this.send(txid, times).await }).detach();
        }
        plans.values().map(|plan| plan.at).min()
    }

    /// Hands a transaction to a gateway, or asks the one that has it, and at length others.
    async fn send(&self, txid: Txid, times: u32) {
        let Some(sent) = self.outbox.get(&txid) else { return };
        let gateway = match sent.state {
            // Each time another one, if there is one.
            State::Waiting => gateways::choose(&self.bridge, sent.attempts as usize).await,
            State::Accepted { gateway } if times <= ASKED_ALONE || times.is_multiple_of(2) => {
                Some(gateway)
            }
            State::Accepted { .. } => gateways::choose(&self.bridge, times as usize / 2).await,
            _ => None,
        };
        let Some(gateway) = gateway else {
            tracing::info!(%txid, "no gateway to Bitcoin was found; it is tried again");
            self.outbox.hold_up(&txid, Some("no gateway to Bitcoin was found".into()));
            return;
        };
        let Some(id) = random_id() else { return };
        let magic = self.bridge.magic;
        let payload = match sent.state {
            State::Waiting => {
                let Ok(bytes) = hex::decode(&sent.hex) else { return };
                self.outbox.tried(&txid);
                transaction::submit(magic, id, &bytes)
            }
            _ => transaction::ask(magic, id, &txid),
        };
        {
            let mut handed = lock(&self.handed);
            if handed.len() >= MOST_HANDED {
                handed.clear();
            }
            handed.insert(id, (txid, gateway));
        }
        let mut sent = self.bridge.send(gateway, payload.clone()).await;
        if let Some((Err(MeshError::RoutingError(RoutingReason::TooLargeForHop { .. })), _)) = sent
            && self.bridge.search_again(gateway).await
        {
            // There may be another way now.
            sent = self.bridge.send(gateway, payload).await;
        }
        let why = match sent {
            Some((Err(reason), _)) => {
                tracing::info!(%txid, %gateway, "a transaction is not handed over: {reason}");
                Some(format!("not sent to gateway {gateway}: {reason}"))
            }
            _ => None,
        };
        self.outbox.hold_up(&txid, why);
    }

    fn take(&self, about: About, questions: Option<&Questions>) {
        let About { source, id, messages, .. } = &about;
        let expected = lock(&self.handed).get(id).filter(|(_, gateway)| gateway == source).copied();
        let magic = self.bridge.magic;
        match transaction::said(magic, messages, expected.map(|(txid, _)| txid)) {
            Some(Said::Answer(txid, answer)) if expected == Some((txid, *source)) => {
                lock(&self.handed).remove(id);
                let mut height = None;
                // A block counts if it is in the chain that this node has checked.
                if let (Answer::Confirmed { proof }, Some(headers)) = (&answer, &self.headers) {
                    let block = transaction::block_of(proof, &txid);
                    height = block.and_then(|block| headers.find(&block));
                    if height.is_none() {
                        headers.look();
                        return;
                    }
                }
                self.outbox.answered(&txid, *source, &answer, height);
            }
            Some(Said::Submit(_) | Said::Ask(_)) => {
                if let Some(questions) = questions {
                    questions.put(about);
                }
            }
            _ => {}
        }
    }
}
