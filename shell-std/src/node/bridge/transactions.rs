//! Transactions through the mesh: handed to gateways here, and to a gateway's Bitcoin node.

use super::client;
use super::shared::Bridge;
use crate::bridge::Signal;
use crate::bridge::outbox::{Outbox, State};
use crate::bridge::table::{About, lock};
use crate::bridge::transaction::{self, Answer, Said};
use crate::chain::{ChainError, ChainSource};
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use blvm_mesh_core::id::NodeId;
use smol::channel::Receiver;
use std::collections::{HashMap, VecDeque};
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
/// Questions that wait for the Bitcoin node, and of them those that one neighbour brought; whoever
/// asks more asks again.
const QUESTIONS: usize = 16;
const FROM_ONE: usize = QUESTIONS / 2;
/// How long the Bitcoin node may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Codes of `reject` (BIP 61).
const INVALID: u8 = 0x10;
const DUPLICATE: u8 = 0x12;
const NONSTANDARD: u8 = 0x40;
const DUST: u8 = 0x41;
const INSUFFICIENT_FEE: u8 = 0x42;

/// Errors of `sendrawtransaction` that are about the transaction (Bitcoin Core, rpc/protocol.h:
/// RPC_DESERIALIZATION_ERROR, RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED); others are about the node,
/// which may be starting.
const VERDICTS: [i64; 3] = [-22, -25, -26];

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

/// Questions of others, until the Bitcoin node is asked.
#[derive(Default)]
struct Questions {
    waiting: Mutex<VecDeque<About>>,
    more: Signal,
}

impl Questions {
    fn put(&self, about: About) {
        let mut waiting = lock(&self.waiting);
        let from_there = waiting.iter().filter(|other| other.from == about.from).count();
        if waiting.len() < QUESTIONS && from_there < FROM_ONE {
            waiting.push_back(about);
            self.more.give();
        }
    }

    async fn next(&self) -> About {
        loop {
            let next = lock(&self.waiting).pop_front();
            match next {
                Some(next) => return next,
                None => self.more.wait().await,
            }
        }
    }
}

/// Takes what is said about transactions, and sends those that are due.
pub(super) async fn run(
    bridge: Arc<Bridge>,
    outbox: Arc<Outbox>,
    arrivals: Receiver<About>,
    source: Option<Arc<ChainSource>>,
) {
    let source = source.filter(|_| bridge.settings.node.is_some());
    let questions = source.is_some().then(Arc::<Questions>::default);
    let _answering = source.zip(questions.clone()).map(|(source, questions)| {
        bridge.executor.spawn(answer_all(bridge.clone(), source, questions))
    });
    let (handed, shared) = (Mutex::default(), outbox.clone());
    let outgoing = Arc::new(Outgoing { bridge, outbox: shared, handed });
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
            State::Waiting => client::choose(&self.bridge, sent.attempts as usize).await,
            State::Accepted { gateway } if times <= ASKED_ALONE || times.is_multiple_of(2) => {
                Some(gateway)
            }
            State::Accepted { .. } => client::choose(&self.bridge, times as usize / 2).await,
            _ => None,
        };
        let Some(gateway) = gateway else {
            tracing::info!(%txid, "no gateway to Bitcoin was found; it is tried again");
            return;
        };
        let mut id = [0; 8];
        if getrandom::fill(&mut id).is_err() {
            tracing::warn!(%txid, "there are no random bytes, without which others could answer");
            return;
        }
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

    fn take(&self, about: About, questions: Option<&Questions>) {
        let About { source, id, messages, .. } = &about;
        let expected = lock(&self.handed).get(id).filter(|(_, gateway)| gateway == source).copied();
        let magic = self.bridge.magic;
        match transaction::said(magic, messages, expected.map(|(txid, _)| txid)) {
            Some(Said::Answer(txid, answer)) if expected == Some((txid, *source)) => {
                lock(&self.handed).remove(id);
                self.outbox.answered(&txid, *source, &answer);
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

/// The gateway's side: what the Bitcoin node says.
async fn answer_all(bridge: Arc<Bridge>, source: Arc<ChainSource>, questions: Arc<Questions>) {
    loop {
        let About { source: sender, id, messages, .. } = questions.next().await;
        let (node, magic) = (source.clone(), bridge.magic);
        let answered = smol::unblock(move || match transaction::said(magic, &messages, None)? {
            Said::Submit(bytes) => submit(&node, &bytes),
            Said::Ask(txid) => look_up(&node, txid),
            Said::Answer(..) => None,
        });
        if let Some((txid, answer)) = answered.await {
            tracing::debug!(%sender, %txid, "a transaction was asked about");
            bridge.answer(sender, transaction::answer(magic, id, &txid, &answer)).await;
        }
    }
}

fn submit(node: &ChainSource, bytes: &[u8]) -> Option<(Txid, Answer)> {
    let hex = hex::encode(bytes);
    let transaction = transaction::read(&hex).ok()?;
    let txid = transaction.compute_txid();
    let answer = match node.broadcast(&hex, Instant::now() + PATIENCE) {
        Ok(()) => Answer::Accepted,
        Err(ChainError::Rpc { code, message }) if VERDICTS.contains(&code) => {
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
    use crate::chain::fake::{Fake, Reply};
    use crate::chain::{Auth, ChainSettings};
    use blvm_mesh_core::id::Network;
    use serde_json::json;

    #[test]
    fn only_what_the_node_says_of_the_transaction_is_a_verdict() {
        let transaction = format!(
            "0200000001{}0000000000ffffffff01e803000000000000015100000000",
            "aa".repeat(32)
        );
        let bytes = hex::decode(&transaction).unwrap();
        let answered = |code: i64| {
            let fake = Fake::start(move |method, _| match method {
                "getblockchaininfo" => Reply::result(json!({"chain": "regtest"})),
                _ => Reply::error(code, "min relay fee not met"),
            });
            let settings =
                ChainSettings { rpc_url: fake.url(), auth: Auth::None, timeout: PATIENCE };
            submit(&ChainSource::new(settings, Network::Regtest), &bytes).map(|(_, answer)| answer)
        };
        let reason = "min relay fee not met".to_owned();
        for code in [-22, -25, -26] {
            let refused = Answer::Rejected { code: INSUFFICIENT_FEE, reason: reason.clone() };
            assert_eq!(answered(code), Some(refused), "{code}");
        }
        assert_eq!(answered(-27), Some(Answer::Accepted), "it is in a block already");
        for code in [-28, -9, -32601, -1] {
            assert_eq!(answered(code), None, "{code} is no verdict: the sender tries again");
        }
    }

    #[test]
    fn no_neighbour_has_all_places_of_questions() {
        let questions = Questions::default();
        let put = |from: u8, count: usize| {
            for _ in 0..count {
                let (source, from) = (NodeId([1; 32]), NodeId([from; 32]));
                questions.put(About { source, from, id: 0, messages: Vec::new() });
            }
            lock(&questions.waiting).len()
        };
        assert_eq!((put(1, 20), put(2, 1)), (FROM_ONE, FROM_ONE + 1));
        assert_eq!((put(2, 20), put(3, 20)), (QUESTIONS, QUESTIONS));
        assert_eq!(smol::block_on(questions.next()).from, NodeId([1; 32]));
        assert_eq!(put(1, 20), QUESTIONS);
    }

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
