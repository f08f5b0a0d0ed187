//! Transactions sent through the mesh.

use super::super::clock::Clock;
use super::{LONGEST_WAIT, Service};
use crate::bridge::outbox::{Sent, State};
use crate::bridge::transaction;
use crate::rpc::RpcError;
use crate::rpc::types::{
    GetTransactions, SendTransaction, SentTransaction, TransactionState, TransactionWait,
};
use bitcoin::Txid;
use std::time::{Duration, Instant};

/// `tip`: the height of the newest block that is known.
fn shown(txid: &Txid, sent: &Sent, tip: Option<u32>) -> SentTransaction {
    let (mut reason, mut code, mut block, mut height) = (None, None, None, None);
    let (state, gateway) = match &sent.state {
        State::Waiting => {
            reason = sent.held_up.clone();
            (TransactionState::Waiting, None)
        }
        State::Accepted { gateway } => (TransactionState::Accepted, Some(*gateway)),
        State::Rejected { gateway, code: number, reason: why } => {
            (reason, code) = (Some(why.clone()), Some(*number));
            (TransactionState::Rejected, Some(*gateway))
        }
        State::Confirmed { gateway, block: hash, height: at } => {
            (block, height) = (Some(hash.clone()), *at);
            (TransactionState::Confirmed, Some(*gateway))
        }
    };
    let (txid, since_unix, attempts) = (txid.to_string(), sent.since, sent.attempts);
    let confirmations = height.zip(tip).map(|(at, tip)| tip.saturating_sub(at).saturating_add(1));
    SentTransaction {
        txid,
        state,
        gateway,
        reason,
        code,
        block,
        height,
        confirmations,
        since_unix,
        attempts,
    }
}

/// Whether what is waited for has come.
fn is_there(sent: &Sent, wait: TransactionWait) -> bool {
    match wait {
        TransactionWait::Kept => true,
        TransactionWait::Accepted => sent.state != State::Waiting,
        TransactionWait::Confirmed => sent.state.is_settled(),
    }
}

impl Service {
    pub(super) async fn send_transaction(
        &self,
        request: SendTransaction,
    ) -> Result<SentTransaction, RpcError> {
        let wrong = |e: transaction::NotATransaction| {
            RpcError::invalid_params(format!("tx_hex cannot be sent: {e}"))
        };
        let transaction = transaction::read(&request.tx_hex).map_err(wrong)?;
        let outbox = self.node.outbox.clone();
        let unix = Clock::unix().unwrap_or_default();
        let put = smol::unblock(move || outbox.put(&transaction, unix)).await;
        let txid = put.map_err(|e| RpcError::refused(e.to_string()))?;
        let until = Instant::now() + Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
        loop {
            let news = self.node.outbox.news();
            let sent = self.node.outbox.get(&txid);
            let sent = sent.ok_or_else(|| RpcError::internal("the transaction was forgotten"))?;
            if is_there(&sent, request.wait) || Instant::now() >= until {
                return Ok(shown(&txid, &sent, self.tip()));
            }
            let late = async {
                smol::Timer::at(until).await;
            };
            smol::future::or(news, late).await;
        }
    }

    fn tip(&self) -> Option<u32> {
        self.node.headers.newest().map(|newest| newest.height)
    }

    pub(super) fn transactions(
        &self,
        request: &GetTransactions,
    ) -> Result<Vec<SentTransaction>, RpcError> {
        let only: Option<Txid> = match &request.txid {
            None => None,
            Some(text) => {
                Some(text.parse().map_err(|e| RpcError::invalid_params(format!("txid: {e}")))?)
            }
        };
        let all = self.node.outbox.list().into_iter();
        let wanted = all.filter(|(txid, _)| only.is_none_or(|only| only == *txid));
        let tip = self.tip();
        Ok(wanted.map(|(txid, sent)| shown(&txid, &sent, tip)).collect())
    }
}
