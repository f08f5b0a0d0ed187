//! What a gateway's Bitcoin node says of transactions.

use super::questions::Questions;
use super::recent::Recent;
use super::shared::Bridge;
use crate::bridge::table::About;
use crate::bridge::transaction::{self, Answer, INVALID, Said};
use crate::chain::{ChainError, ChainSource};
use bitcoin::Txid;
use bitcoin::hashes::Hash;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the Bitcoin node may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Codes of `reject` (BIP 61).
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

/// Where it is asked what became of transactions.
pub(super) struct Source {
    /// JSON-RPC, where there is one: it says why it refuses one, and looks further back.
    pub(super) rpc: Option<Arc<ChainSource>>,
    /// P2P: it knows the newest blocks, also without an index of transactions.
    pub(super) recent: Option<Recent>,
}

/// Answers questions.
pub(super) async fn answer(bridge: Arc<Bridge>, source: Arc<Source>, questions: Arc<Questions>) {
    loop {
        let About { source: sender, id, messages, .. } = questions.next().await;
        let answered = match transaction::said(bridge.magic, &messages, None) {
            Some(Said::Submit(bytes)) => source.submit(bytes).await,
            Some(Said::Ask(txid)) => source.look_up(txid).await,
            Some(Said::Answer(..)) | None => None,
        };
        if let Some((txid, answer)) = answered {
            tracing::debug!(%sender, %txid, "a transaction was asked about");
            bridge.answer(sender, transaction::answer(bridge.magic, id, &txid, &answer)).await;
        }
    }
}

impl Source {
    async fn submit(&self, bytes: Vec<u8>) -> Option<(Txid, Answer)> {
        if let Some(node) = self.rpc.clone() {
            return smol::unblock(move || submit(&node, &bytes)).await;
        }
        let transaction = transaction::read(&hex::encode(&bytes)).ok()?;
        let txid = transaction.compute_txid();
        Some((txid, self.recent.as_ref()?.submit(transaction).await?))
    }

    async fn look_up(&self, txid: Txid) -> Option<(Txid, Answer)> {
        let Some(node) = self.rpc.clone() else {
            return Some((txid, self.recent.as_ref()?.look_up(txid).await?));
        };
        let (_, answer) = smol::unblock(move || look_up(&node, txid)).await?;
        // Without an index a node finds none whose outputs are all spent.
        let recent = self.recent.as_ref().filter(|_| answer == Answer::Unknown);
        let proof = match recent {
            Some(recent) => recent.confirmation(&txid).await.flatten(),
            None => None,
        };
        Some((txid, proof.map_or(answer, |proof| Answer::Confirmed { proof })))
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
