//! Transactions through the mesh: handed to gateways here, and to a gateway's Bitcoin node.

use super::client;
use super::shared::Bridge;
use crate::bridge::outbox::{Outbox, Sent, State};
use crate::bridge::table::{About, lock};
use crate::bridge::transaction::{self, Answer, Said};
use crate::chain::{ChainError, ChainSource};
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use blvm_mesh_core::id::NodeId;
use smol::channel::{Receiver, Sender};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Pauses before a transaction is handed over again, doubled each time, and before its gateway is
/// asked again what became of it.
const AGAIN: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));
const ASK: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// Hand-overs whose answers are waited for.
const MOST_HANDED: usize = 1024;
/// Questions that wait for the Bitcoin node; whoever asks more asks again.
const QUESTIONS: usize = 16;
/// How long the Bitcoin node may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Codes of `reject` (BIP 61).
const INVALID: u8 = 0x10;
const DUPLICATE: u8 = 0x12;
const NONSTANDARD: u8 = 0x40;
const DUST: u8 = 0x41;
const INSUFFICIENT_FEE: u8 = 0x42;

/// The code for what Bitcoin Core says.
fn code_of(reason: &str) -> u8 {
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    match () {
        () if says(&["dust"]) => DUST,
        () if says(&["fee"]) => INSUFFICIENT_FEE,
        () if says(&["conflict", "already", "missingorspent"]) => DUPLICATE,
        () if says(&[
            "non-final",
            "non-BIP68",
            "standard",
            "scriptpubkey",
            "tx-size",
            "version",
        ]) =>
        {
            NONSTANDARD
        }
        () => INVALID,
    }
}

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
    handed: Mutex<HashMap<u64, (Txid, NodeId)>>,
}

/// Takes what is said about transactions, and sends those that are due.
pub(super) async fn run(
    bridge: Arc<Bridge>,
    outbox: Arc<Outbox>,
    arrivals: Receiver<About>,
    source: Option<Arc<ChainSource>>,
) {
    let (questions, asked) = smol::channel::bounded(QUESTIONS);
    let _answering = match (source, bridge.settings.node) {
        (Some(source), Some(_)) => {
            Some(bridge.executor.spawn(answer_all(bridge.clone(), source, asked)))
        }
        _ => None,
    };
    let (handed, shared) = (Mutex::default(), outbox.clone());
    let outgoing = Arc::new(Outgoing { bridge, outbox: shared, handed });
    let mut plans = HashMap::<Txid, Plan>::new();
    loop {
        let due = outgoing.send_due(&mut plans);
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
        match smol::future::or(arrival, smol::future::or(changed, late)).await {
            Some(Some(about)) => outgoing.take(about, &questions),
            Some(None) => {}
            None => return,
        }
    }
}

impl Outgoing {
    /// Sends what is due, and tells when the next is.
    fn send_due(self: &Arc<Self>, plans: &mut HashMap<Txid, Plan>) -> Option<Instant> {
        let (now, open) = (Instant::now(), self.outbox.list());
        plans.retain(|txid, _| open.iter().any(|(id, one)| id == txid && !one.state.is_settled()));
        for (txid, sent) in open.into_iter().filter(|(_, one)| !one.state.is_settled()) {
            let asks = matches!(sent.state, State::Accepted { .. });
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
            plan.times += 1;
            let this = self.clone();
            self.bridge.executor.spawn(async move { this.send(txid, sent).await }).detach();
        }
        plans.values().map(|plan| plan.at).min()
    }

    /// Hands a transaction to a gateway, or asks the one that has it.
    async fn send(&self, txid: Txid, sent: Sent) {
        let gateway = match sent.state {
            // Each time another one, if there is one.
            State::Waiting => client::choose(&self.bridge, sent.attempts as usize).await,
            State::Accepted { gateway } => Some(gateway),
            _ => None,
        };
        let Some(gateway) = gateway else {
            tracing::info!(%txid, "no gateway to Bitcoin was found; it is tried again");
            return;
        };
        let mut id = [0; 8];
        let _ = getrandom::fill(&mut id);
        let id = u64::from_le_bytes(id);
        let magic = self.bridge.magic;
        let payload = match sent.state {
            State::Waiting => {
                let Ok(bytes) = hex::decode(&sent.hex) else { return };
                self.outbox.handed_over(&txid);
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
        self.bridge.send_once(gateway, payload).await;
    }

    fn take(&self, about: About, questions: &Sender<About>) {
        let About { source, id, messages } = &about;
        let expected = lock(&self.handed).get(id).filter(|(_, gateway)| gateway == source).copied();
        match transaction::said(messages, expected.map(|(txid, _)| txid)) {
            Some(Said::Answer(txid, answer)) if expected == Some((txid, *source)) => {
                lock(&self.handed).remove(id);
                self.outbox.answered(&txid, *source, &answer);
            }
            Some(Said::Submit(_) | Said::Ask(_)) => _ = questions.try_send(about),
            _ => {}
        }
    }
}

/// The gateway's side: what the Bitcoin node says.
async fn answer_all(bridge: Arc<Bridge>, source: Arc<ChainSource>, asked: Receiver<About>) {
    while let Ok(About { source: sender, id, messages }) = asked.recv().await {
        let node = source.clone();
        let answered = smol::unblock(move || match transaction::said(&messages, None)? {
            Said::Submit(bytes) => submit(&node, &bytes),
            Said::Ask(txid) => look_up(&node, txid),
            Said::Answer(..) => None,
        });
        if let Some((txid, answer)) = answered.await {
            tracing::debug!(%sender, %txid, "a transaction was asked about");
            bridge.send_once(sender, transaction::answer(bridge.magic, id, &txid, &answer)).await;
        }
    }
}

fn submit(node: &ChainSource, bytes: &[u8]) -> Option<(Txid, Answer)> {
    let hex = hex::encode(bytes);
    let transaction = transaction::read(&hex).ok()?;
    let txid = transaction.compute_txid();
    let answer = match node.broadcast(&hex, Instant::now() + PATIENCE) {
        Ok(()) => Answer::Accepted,
        Err(ChainError::Rpc { message, .. }) => {
            Answer::Rejected { code: code_of(&message), reason: message }
        }
        Err(error) => {
            tracing::warn!(%txid, "a transaction was not given to the Bitcoin node: {error}");
            return None;
        }
    };
    Some((txid, answer))
}

fn look_up(node: &ChainSource, txid: Txid) -> Option<(Txid, Answer)> {
    let hash = txid.to_byte_array();
    match node.look_up_transaction(&hash, Instant::now() + PATIENCE) {
        Ok(crate::chain::Whereabouts::Mempool) => Some((txid, Answer::Accepted)),
        Ok(crate::chain::Whereabouts::Block { proof }) => Some((txid, Answer::Confirmed { proof })),
        Ok(crate::chain::Whereabouts::Nowhere) => Some((txid, Answer::Unknown)),
        Err(error) => {
            tracing::warn!(%txid, "a transaction was not looked up: {error}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_their_codes() {
        for (reason, code) in [
            ("min relay fee not met, 10 < 141", INSUFFICIENT_FEE),
            ("insufficient fee, rejecting replacement", INSUFFICIENT_FEE),
            ("dust, tx with dust output must be 0-fee", DUST),
            ("txn-mempool-conflict", DUPLICATE),
            ("bad-txns-inputs-missingorspent", DUPLICATE),
            ("non-final", NONSTANDARD),
            ("mempool-script-verify-flag-failed (...)", INVALID),
        ] {
            assert_eq!(code_of(reason), code, "{reason}");
        }
    }
}
