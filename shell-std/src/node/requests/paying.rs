//! What the node pays for by itself, hop by hop, and what others' wallets pay for it.

use super::super::engine::reports::Planned;
use super::super::engine::{Command, payments::Wanting};
use super::{LONGEST_WAIT, Service};
use crate::flows::inbox::{self, Handed};
use crate::flows::{Flow, FlowError};
use crate::rpc::RpcError;
use crate::rpc::types::{
    CreditedBytes, HopInvoice, HopPrice, HopPurchase, Outcome, PaymentPlan, PlanPayment,
    RequestHopInvoice, SendPacket, Sent, ShowPreimage, Stopped,
};
use crate::wallet::{Foreseen, Kept};
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::mesh::{FlowEnded, RoutingReason};
use blvm_mesh_core::payment::bolt11::Invoice;
use blvm_mesh_core::policy::{MeshMode, PolicyConfig, RoutingPolicy, RoutingPolicyEngine};
use secp256k1::Secp256k1;
use std::io;
use std::time::Duration;

/// Invoices are in whole satoshi, which is all that some wallets know.
pub(super) const SAT_MSAT: u64 = 1_000;
/// How long a node may take to write an invoice, or to credit what was paid.
const PATIENCE: Duration = Duration::from_secs(60);

/// What handing a datagram over has come to.
struct HandedOver {
    flow: Flow,
    handed: io::Result<Handed>,
}

impl Service {
    /// Whether a payload goes free wherever payments are asked for.
    fn goes_free(&self, payload: &[u8]) -> bool {
        let own = self.node.policy.config();
        let gated = PolicyConfig { mode: MeshMode::PaymentGated, ..*own };
        let engine = RoutingPolicyEngine::new(gated);
        engine.determine_policy(engine.detect_protocol(payload)) == RoutingPolicy::Free
    }

    /// Sends a datagram over a flow, for which each node of the route is paid; one that goes free as
    /// it is.
    pub(super) async fn send_paying(&self, request: SendPacket) -> Result<Sent, RpcError> {
        if self.goes_free(&request.data) {
            return self.send_datagram(SendPacket { pay: false, max_msat: None, ..request }).await;
        }
        let wait = Duration::from_millis(request.waits_ms()).min(LONGEST_WAIT);
        let SendPacket { destination, data, max_msat, .. } = request;
        let (destination, bytes) = (destination.0, data.len());
        if bytes > inbox::MOST {
            let most = inbox::MOST;
            return Err(RpcError::refused(format!(
                "{bytes} bytes are too many for one datagram, {most} are the most: send parts, or \
                 use a service (`forward`)"
            )));
        }
        let max_msat = max_msat.unwrap_or(self.node.current().services.max_msat);
        let mut number = [0; 8];
        getrandom::fill(&mut number)
            .map_err(|e| RpcError::internal(format!("the system gives no random bytes: {e}")))?;
        let sequence = u64::from_le_bytes(number);
        let work = async {
            let flow = self.node.flows().open(destination, max_msat).await?;
            let handed = inbox::hand_over(&flow, sequence, &data).await;
            Ok(Some(HandedOver { flow, handed }))
        };
        let late = async {
            smol::Timer::after(wait).await;
            Ok(None)
        };
        let done = match smol::future::or(work, late).await {
            Ok(done) => done,
            Err(error) => return Err(self.not_opened(error, max_msat).await),
        };
        let refused = |cause: &str| Some(Stopped { reporter: destination, cause: cause.into() });
        let (outcome, stopped) = match done.as_ref().map(|done| &done.handed) {
            Some(Ok(Handed::Taken)) => (Outcome::Delivered, None),
            Some(Ok(Handed::NotTaken)) => {
                let cause = "it takes no datagrams over flows (its flow.inbox)";
                (Outcome::Refused, refused(cause))
            }
            Some(Ok(Handed::NoRoom)) => {
                (Outcome::Refused, refused("it has no room: what came before was not fetched"))
            }
            Some(Err(_)) | None => (Outcome::Unknown, None),
        };
        if let Some(Err(error)) = done.as_ref().map(|done| &done.handed) {
            tracing::warn!(%destination, %error, "a datagram over a flow may not have come");
        }
        let own = match &done {
            Some(HandedOver { flow, .. }) => {
                let list = self.node.flows().list().await.unwrap_or_default();
                // What it has not used is there for the next one when this is answered.
                let _ = flow.close(0);
                let _ = self.node.flows().list().await;
                list.into_iter().find(|own| own.flow == flow.id())
            }
            None => None,
        };
        let hops = own.as_ref().map_or(0, |own| u8::try_from(own.hops.len()).unwrap_or(u8::MAX));
        let spent_msat = Some(own.map_or(0, |own| own.paid_msat));
        Ok(Sent {
            sequence,
            destination,
            hops,
            bytes,
            paid: true,
            outcome,
            stopped,
            repeats: 0,
            repeating: None,
            spent_msat,
        })
    }

    /// Why no flow was opened, with what can be done.
    async fn not_opened(&self, error: FlowError, max_msat: u64) -> RpcError {
        let text = match error {
            FlowError::Ended(FlowEnded::Budget) => {
                format!("the route costs more than {max_msat} msat (max_msat): {error}")
            }
            FlowError::Ended(FlowEnded::NotBought { .. }) => {
                let stats = self.node.ask(Command::Stats).await.ok();
                match stats.and_then(|stats| stats.purchases.last_refusal) {
                    Some(why) => format!("{error}; the last invoice was not paid because {why}"),
                    None => error.to_string(),
                }
            }
            error => error.to_string(),
        };
        RpcError::refused(text)
    }

    /// What a flow to a node would buy at each node of its route.
    pub(super) async fn price_per_hop(
        &self,
        destination: NodeId,
        bytes: u64,
    ) -> Result<Planned, RpcError> {
        Ok(self.node.ask(|who| Command::Plan(destination, bytes, who)).await?)
    }

    /// What a flow would buy, and whether it would be paid.
    pub(super) async fn plan(&self, request: PlanPayment) -> Result<PaymentPlan, RpcError> {
        let PlanPayment { destination, bytes, max_msat } = request;
        let destination = destination.0;
        self.ensure_paid_route(destination).await?;
        let max_msat = max_msat.unwrap_or(self.node.current().services.max_msat);
        let Planned { hops, spending } = self.price_per_hop(destination, bytes).await?;
        let hops = hops.ok_or_else(|| {
            RpcError::refused("no route is known that a flow would take: see `blvm-mesh routes`")
        })?;
        let to_pay = hops.iter().filter(|hop| hop.amount_msat > 0);
        let amounts: Vec<_> = to_pay.map(|hop| (hop.node, hop.amount_msat)).collect();
        let amount_msat = amounts.iter().fold(0u64, |sum, (_, msat)| sum.saturating_add(*msat));
        let foreseen = spending.map(|spending| spending.foresee(&amounts));
        let no_wallet = foreseen.is_none() && amount_msat > 0;
        let nothing = Foreseen {
            max_fee_msat: 0,
            left_hour_msat: 0,
            left_day_msat: 0,
            refused: no_wallet.then_some(crate::wallet::NotPaid::NoWallet),
        };
        let Foreseen { max_fee_msat, left_hour_msat, left_day_msat, refused } =
            foreseen.unwrap_or(nothing);
        let too_much = (amount_msat > max_msat).then(|| {
            format!("the route costs {amount_msat} msat, more than {max_msat} msat (max_msat)")
        });
        let untrusted = self.node.ask(|who| Command::Untrusted(destination, who)).await?;
        let untrusted = untrusted.filter(|_| amount_msat > 0);
        let untrusted = untrusted.map(|node| RoutingReason::Untrusted(node).to_string());
        let refused = untrusted.or(too_much).or_else(|| refused.map(|why| why.to_string()));
        Ok(PaymentPlan {
            destination,
            bytes,
            hops,
            amount_msat,
            max_fee_msat,
            max_msat,
            left_hour_msat,
            left_day_msat,
            refused,
        })
    }

    /// Asks a node of a route for an invoice of its own issuer.
    pub(super) async fn invoice_of_hop(
        &self,
        request: &RequestHopInvoice,
        hop: &str,
    ) -> Result<HopInvoice, RpcError> {
        let RequestHopInvoice { destination, bytes, amount_msat, expiry_s, .. } = request;
        if expiry_s.is_some() {
            let text = "expiry_s: a node's invoices for bytes of flows hold for 15 minutes";
            return Err(RpcError::invalid_params(text));
        }
        let (destination, bytes) = (destination.0, *bytes);
        self.ensure_paid_route(destination).await?;
        let route = self.node.ask(|who| Command::Quote(destination, bytes, who)).await?;
        let Some(route) = route else { return Err(self.no_paid_route(destination).await) };
        let is_meant = |node: &HopId| hop.get(..16) == Some(&node.to_string()[..]);
        let place = route.hops.iter().position(is_meant);
        let (before, node, asks) = match place {
            Some(place) => {
                let price = route.prices_msat.get(place).copied().unwrap_or_default();
                (route.hops.iter().take(place), hop_at(&route.hops, place), price)
            }
            // What it takes for receiving it says itself.
            None if is_meant(&destination.hop()) => {
                (route.hops.iter().take(route.hops.len()), destination.hop(), 0)
            }
            None => {
                let hops: Vec<_> = route.hops.iter().map(ToString::to_string).collect();
                return Err(RpcError::refused(format!(
                    "{hop} is not on the route to {destination}: that is {}",
                    if hops.is_empty() { "direct".into() } else { hops.join(" ") }
                )));
            }
        };
        let asks = whole_satoshi(asks.max(amount_msat.unwrap_or(0)));
        if place.is_some() && asks == 0 {
            return Err(RpcError::refused(format!("{node} takes nothing for {bytes} bytes")));
        }
        let hops = before.map(|hop| hop.0).collect();
        let amount_msat = if place.is_some() { asks } else { 0 };
        let wanting = Box::new(Wanting { hops, node, bytes, amount_msat });
        let (answer, bill) = smol::channel::bounded(1);
        let asked = Command::AskFor(wanting, answer);
        let bill = self.wait_for(asked, bill).await?;
        let bill = bill.map_err(|why| {
            RpcError::refused(format!("{node} writes no invoice for {bytes} bytes: {why}"))
        })?;
        let read = Invoice::from_text(&bill.invoice)
            .map_err(|e| RpcError::internal(format!("the invoice: {e}")))?;
        let issuer = read
            .recover_payee(&Secp256k1::verification_only())
            .map_err(|e| RpcError::refused(format!("the invoice of {node}: {e}")))?;
        Ok(HopInvoice {
            preimage: None,
            payment_hash: read.payment_hash,
            issuer: issuer.serialize(),
            expires_at: read.expires_at().unwrap_or(u64::MAX),
            quote: None,
            purchase: Some(HopPurchase {
                node: bill.node,
                bytes: bill.bytes,
                amount_msat: bill.amount_msat,
                promise: bill.promise,
            }),
            invoice: bill.invoice,
        })
    }

    /// Shows what paying such an invoice revealed to the node that wrote it.
    pub(super) async fn show_preimage(
        &self,
        request: ShowPreimage,
    ) -> Result<CreditedBytes, RpcError> {
        let ShowPreimage { node, promise, preimage } = request;
        let payment_hash = [0; 32];
        let kept = Box::new(Kept { payment_hash, node, promise, preimage, credited: false });
        let (answer, credited) = smol::channel::bounded(1);
        let credited = self.wait_for(Command::Redeem(kept, answer), credited).await?;
        let (bytes, left) = credited.map_err(|why| {
            RpcError::refused(format!("{node} has credited nothing: {why}; show it again"))
        })?;
        Ok(CreditedBytes { node, bytes, left })
    }

    async fn wait_for<T>(
        &self,
        command: Command,
        answer: smol::channel::Receiver<T>,
    ) -> Result<T, RpcError> {
        self.node.commands.send(command).await.map_err(|_| RpcError::stopping())?;
        let late = async {
            smol::Timer::after(PATIENCE).await;
            Err(RpcError::refused("the node did not answer in time: try again"))
        };
        let answered = async { answer.recv().await.map_err(|_| RpcError::stopping()) };
        smol::future::or(answered, late).await
    }
}

/// An amount rounded up to whole satoshi, in millisatoshi.
pub(super) fn whole_satoshi(msat: u64) -> u64 {
    msat.div_ceil(SAT_MSAT).saturating_mul(SAT_MSAT)
}

fn hop_at(hops: &[HopId], place: usize) -> HopId {
    hops.get(place).copied().unwrap_or_default()
}

/// What a quote shows of it; nothing where no route is known that a flow would take.
pub(super) fn shown(planned: Planned) -> Vec<HopPrice> {
    planned.hops.unwrap_or_default()
}
