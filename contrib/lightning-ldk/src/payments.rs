//! Pays an invoice once, over any crash.

use crate::records::{Hash, Payment, Records, hex};
use crate::service::Refusal;
use ldk_node::bitcoin::Network;
use ldk_node::lightning::events::PaymentFailureReason as Reason;
use ldk_node::lightning::ln::channelmanager::PaymentId;
use ldk_node::lightning::routing::router::RouteParametersConfig;
use ldk_node::lightning_invoice::Bolt11Invoice;
use ldk_node::payment::{PaymentDirection, PaymentKind, PaymentStatus};
use ldk_node::{Event, Node, NodeError};
use std::sync::Arc;

/// The longest invoice that is read, in characters.
const MAX_INVOICE: usize = 7_089;

/// What the node pays with.
pub(crate) struct Payments {
    pub(crate) node: Arc<Node>,
    pub(crate) network: Network,
    pub(crate) records: Arc<Records>,
}

impl Payments {
    /// Begins to pay an invoice; what becomes of it is told by [`look_up`](Self::look_up).
    ///
    /// # Errors
    /// Nothing was begun, or it was asked for before.
    pub(crate) fn pay(&self, invoice: &str, max_fee_msat: u64) -> Result<Payment, Refusal> {
        if invoice.len() > MAX_INVOICE {
            return Err(Refusal::params(format!("invoice is longer than {MAX_INVOICE}")));
        }
        let invoice: Bolt11Invoice =
            invoice.parse().map_err(|e| Refusal::params(format!("invoice: {e}")))?;
        if invoice.network() != self.network {
            return Err(Refusal::unable("the invoice is for another network"));
        }
        if invoice.amount_milli_satoshis().is_none() {
            return Err(Refusal::unable("the invoice names no amount"));
        }
        if invoice.is_expired() {
            return Err(Refusal::unable("the invoice has expired"));
        }
        if invoice.recover_payee_pub_key() == self.node.node_id() {
            return Err(Refusal::unable("the invoice is this node's own"));
        }
        let hash: &Hash = invoice.payment_hash().as_ref();
        // LDK forgets its payments some time after they ended; these records do not.
        if self.node.payment(&PaymentId(*hash)).is_some() || !self.records.begin(hash)? {
            return Err(Refusal::unable(
                "it was told to pay this invoice before; lookup tells what became of it",
            ));
        }
        let limits = RouteParametersConfig {
            max_total_routing_fee_msat: Some(max_fee_msat),
            ..Default::default()
        };
        match self.node.bolt11_payment().send(&invoice, Some(limits)) {
            // The second was known to LDK after all; the third was sent and not listed. The event of
            // each comes.
            Ok(_) | Err(NodeError::DuplicatePayment | NodeError::PersistenceFailed) => {
                Ok(Payment::Pending)
            }
            Err(error) => {
                let reason = match error {
                    NodeError::PaymentSendingFailed => {
                        "no way to the payee with this limit of fees and what the channels hold"
                            .into()
                    }
                    other => other.to_string(),
                };
                let failed = Payment::Failed { reason };
                self.records.end(hash, &failed)?;
                Ok(failed)
            }
        }
    }

    /// What became of a payment; `None`: it was never asked for.
    ///
    /// # Errors
    /// The database's.
    pub(crate) fn look_up(&self, hash: &Hash) -> Result<Option<Payment>, Refusal> {
        // LDK's list is behind its events, which are noted in the records.
        match self.records.payment(hash)? {
            Some(Payment::Pending) | None => {}
            ended => return Ok(ended),
        }
        let listed = self.node.payment(&PaymentId(*hash));
        let Some(listed) = listed.filter(|l| l.direction == PaymentDirection::Outbound) else {
            return Ok(self.records.payment(hash)?);
        };
        let preimage = match listed.kind {
            PaymentKind::Bolt11 { preimage, .. } => preimage,
            _ => None,
        };
        Ok(Some(match (listed.status, preimage) {
            (PaymentStatus::Succeeded, Some(preimage)) => Payment::Paid {
                preimage: hex(&preimage.0),
                fee_msat: listed.fee_paid_msat.unwrap_or(0),
            },
            // Its event is on its way, and says why it failed.
            _ => Payment::Pending,
        }))
    }

    /// Notes what an event says of a payment.
    ///
    /// # Errors
    /// The database's; the event must come again.
    pub(crate) fn note(&self, event: &Event) -> std::io::Result<()> {
        note(&self.records, event)
    }
}

/// Notes what an event says of a payment.
///
/// # Errors
/// The database's; the event must come again.
pub(crate) fn note(records: &Records, event: &Event) -> std::io::Result<()> {
    match event {
        Event::PaymentSuccessful {
            payment_hash,
            payment_preimage: Some(preimage),
            fee_paid_msat,
            ..
        } => {
            let (preimage, fee_msat) = (hex(&preimage.0), fee_paid_msat.unwrap_or(0));
            records.end(&payment_hash.0, &Payment::Paid { preimage, fee_msat })
        }
        Event::PaymentFailed { payment_hash: Some(payment_hash), reason, .. } => {
            records.end(&payment_hash.0, &Payment::Failed { reason: words(*reason).into() })
        }
        _ => Ok(()),
    }
}

fn words(reason: Option<Reason>) -> &'static str {
    match reason {
        Some(Reason::RecipientRejected) => "the payee refused it",
        Some(Reason::UserAbandoned) => "it was given up",
        Some(Reason::RetriesExhausted) => "no way to the payee carried it",
        Some(Reason::PaymentExpired) => "the invoice expired before it arrived",
        Some(Reason::RouteNotFound) => {
            "no way to the payee with this limit of fees and what the channels hold"
        }
        _ => "it did not arrive",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ldk_node::io::sqlite_store::SqliteStore;
    use ldk_node::lightning_types::payment::{PaymentHash, PaymentPreimage};

    #[test]
    fn an_event_is_noted_and_the_same_again_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::new(dir.path().into(), None, None).unwrap();
        let records = Records::new(Arc::new(store));
        let payment_hash = PaymentHash([1; 32]);
        records.begin(&payment_hash.0).unwrap();
        let paid = Event::PaymentSuccessful {
            payment_id: None,
            payment_hash,
            payment_preimage: Some(PaymentPreimage([2; 32])),
            fee_paid_msat: Some(5),
        };
        let failed = Event::PaymentFailed {
            payment_id: None,
            payment_hash: Some(payment_hash),
            reason: Some(Reason::RouteNotFound),
        };
        for event in [&paid, &paid, &failed] {
            note(&records, event).unwrap();
            let expected = Payment::Paid { preimage: hex(&[2; 32]), fee_msat: 5 };
            assert_eq!(records.payment(&payment_hash.0).unwrap(), Some(expected));
        }
    }
}
