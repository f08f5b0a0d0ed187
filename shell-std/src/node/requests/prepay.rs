//! Bytes that are bought at the relays of a route before a flow needs them.

use super::super::engine::Command;
use super::super::engine::prepaid::Quoted;
use super::Service;
use super::paying::{SAT_MSAT, whole_satoshi};
use crate::rpc::RpcError;
use crate::rpc::types::{AccountsQuote, BoughtAt, Prepaid, Prepay, Proof, Sent};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::bolt11::TERMS_PREFIX;
use blvm_mesh_core::payment::proof::INSTANT_SETTLEMENT;
use blvm_mesh_core::wire::datagram::head_len;
use std::time::Duration;

impl Service {
    async fn quoted(&self, destination: NodeId, bytes: u64) -> Result<Quoted, RpcError> {
        if bytes == 0 {
            return Err(RpcError::refused("buy one byte at least"));
        }
        self.ensure_accepted(destination).await?;
        let quoted = self.node.ask(|who| Command::QuoteAccounts(destination, bytes, who)).await?;
        let Some(quoted) = quoted else { return Err(self.no_paid_route(destination).await) };
        match quoted.quote.hops.is_empty() {
            true => Err(RpcError::refused(
                "the destination is a neighbour: no relay is between that could be paid",
            )),
            false => Ok(quoted),
        }
    }

    pub(super) async fn quote_accounts(
        &self,
        destination: NodeId,
        bytes: u64,
    ) -> Result<AccountsQuote, RpcError> {
        let Quoted { quote, taken, .. } = self.quoted(destination, bytes).await?;
        let accepts = self.node.ask(|who| Command::Accepts(destination, who)).await?;
        Ok(AccountsQuote {
            destination,
            hops: quote.hops.to_vec(),
            bytes,
            amount_msat: quote.amount_msat,
            part_msat: quote.part_msat,
            terms_hash: quote.terms_hash,
            description: String::from_utf8_lossy(TERMS_PREFIX).into_owned()
                + &hex::encode(quote.terms_hash),
            min_packet: quote.min_packet,
            accepts,
            taken,
        })
    }

    pub(super) async fn prepay(&self, request: Prepay) -> Result<Prepaid, RpcError> {
        let Prepay { destination, bytes, proof, wait_ms } = request;
        let quoted = self.quoted(destination.0, bytes).await?;
        if let Some(proof) = proof {
            let shown = self.show(destination.0, &quoted, &proof, wait_ms).await?;
            return Ok(Prepaid { bought: Vec::new(), shown: Some(shown) });
        }
        let hops = quoted.quote.hops.to_vec();
        let amount_msat = whole_satoshi(quoted.quote.part_msat).max(SAT_MSAT);
        let mut bought = Vec::new();
        for (at, (node, charges)) in hops.iter().zip(quoted.charge).enumerate() {
            let (node, before) = (*node, hops.get(..at).unwrap_or_default().to_vec());
            let ended = match charges {
                false => Err("it takes no payment".to_owned()),
                true => {
                    let purchase = (bytes, amount_msat);
                    self.node.ask(|who| Command::Prepay(before, node, purchase, who)).await?
                }
            };
            let paid = |msat| if ended.is_ok() { msat } else { 0 };
            bought.push(BoughtAt {
                node,
                bytes: paid(bytes),
                amount_msat: paid(amount_msat),
                left: ended.clone().ok(),
                reason: ended.clone().err(),
            });
        }
        Ok(Prepaid { bought, shown: None })
    }

    /// Sends the proof that the relays share.
    async fn show(
        &self,
        destination: NodeId,
        Quoted { quote, taken, .. }: &Quoted,
        proof: &Proof,
        wait_ms: u64,
    ) -> Result<Sent, RpcError> {
        if *taken == Some(false) {
            return Err(RpcError::refused(
                "not every node on the route takes one payment for all accounts; leave the proof \
                 out and have each of them paid by an invoice of its own",
            ));
        }
        let packed = match proof {
            Proof::Lightning(proof) => Self::pack(proof, &quote.terms_hash)?.ok_or_else(|| {
                RpcError::refused(
                    "the invoice is not for these accounts by the route that is known now: it must \
                     commit to the terms_hash of meshquoteaccounts. If the route has changed, only \
                     the old one can be paid with it",
                )
            })?,
            Proof::Covenant(proof) => [&[INSTANT_SETTLEMENT][..], &proof.covenant].concat(),
        };
        let proof = [&quote.accounts[..], &packed].concat();
        let size = head_len(quote.hops.len(), proof.len());
        if u32::try_from(size).map_or(true, |size| size > quote.min_packet) {
            return Err(RpcError::refused(format!(
                "the proof makes a packet of {size} bytes, and a node on the route takes {} bytes \
                 at most: have each relay paid by an invoice of its own (leave the proof out)",
                quote.min_packet
            )));
        }
        let wait = Duration::from_millis(wait_ms);
        self.send_proven((destination, Vec::new()), proof, false, wait).await
    }
}
