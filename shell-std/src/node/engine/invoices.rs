//! Invoices for the bytes that this node sells. They are written off the engine's task, which
//! waits for none of them.

use bitcoin::hashes::{Hash, HashEngine, sha256};
use blvm_mesh_core::flow::tickets::SAME_S;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::Ticket;
use blvm_mesh_core::payment::bolt11;
use blvm_mesh_core::time::{Micros, SECOND};
use smol::{Executor, Task};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Invoices that wait to be written. Full: none is written for a further one.
const MOST_QUEUED: usize = 64;
/// Invoices that are kept. Full: who repeats the oldest request costs another one.
const MOST_KEPT: usize = 1_024;

/// An invoice that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) ticket: Ticket,
    pub(crate) source: NodeId,
    pub(crate) bytes: u64,
    pub(crate) amount_msat: u64,
    pub(crate) expiry_s: u32,
}

impl Wanted {
    /// What the invoice is for, as its description commits to it.
    pub(crate) fn purpose(&self) -> [u8; 32] {
        let mut engine = sha256::Hash::engine();
        engine.input(b"blvm-mesh flow");
        engine.input(&self.source.0);
        engine.input(&self.bytes.to_le_bytes());
        sha256::Hash::from_engine(engine).to_byte_array()
    }
}

/// The queue of those that are wanted, and those that were written: a source that repeats its
/// request gets the same again, and costs the Lightning node nothing.
#[derive(Debug, Default)]
pub(crate) struct Invoices {
    /// None where nobody writes any.
    queue: Option<smol::channel::Sender<Wanted>>,
    /// By payment hash.
    written: HashMap<[u8; 32], String>,
    /// When each was written.
    order: VecDeque<(Micros, [u8; 32])>,
}

impl Invoices {
    /// Starts the task that has invoices written by `write`, which may block, and tells each, or that there is none, as long
    /// as that is `true`.
    pub(crate) fn start<F: Future<Output = bool> + Send + 'static>(
        write: impl Fn(&Wanted) -> Result<String, String> + Send + Sync + 'static,
        tell: impl Fn(Ticket, Option<String>) -> F + Send + 'static,
        executor: &Executor<'static>,
    ) -> (Self, Task<()>) {
        let write = Arc::new(write);
        let (queue, wanted) = smol::channel::bounded::<Wanted>(MOST_QUEUED);
        let task = executor.spawn(async move {
            while let Ok(next) = wanted.recv().await {
                let write = write.clone();
                let invoice = match smol::unblock(move || write(&next)).await {
                    Ok(invoice) => Some(invoice),
                    Err(error) => {
                        let source = next.source;
                        tracing::warn!(%source, error, "no invoice could be written for bytes");
                        None
                    }
                };
                if !tell(next.ticket, invoice).await {
                    return;
                }
            }
        });
        (Self { queue: Some(queue), ..Self::default() }, task)
    }

    /// Asks for an invoice; false if there will be none.
    pub(crate) fn ask(&self, wanted: Wanted) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.try_send(wanted).is_ok())
    }

    /// The invoice with this payment hash, if it is kept.
    pub(crate) fn given(&self, payment_hash: &[u8; 32]) -> Option<String> {
        self.written.get(payment_hash).cloned()
    }

    /// Keeps an invoice as long as it may be given again.
    pub(crate) fn keep(&mut self, now: Micros, invoice: String) {
        let lifetime = u64::from(SAME_S) * SECOND;
        while let Some((at, payment_hash)) = self.order.front()
            && (self.order.len() >= MOST_KEPT || now.saturating_sub(*at) >= lifetime)
        {
            self.written.remove(payment_hash);
            self.order.pop_front();
        }
        let Ok(payment_hash) = bolt11::Invoice::from_text(&invoice).map(|i| i.payment_hash) else {
            return;
        };
        if self.written.insert(payment_hash, invoice).is_none() {
            self.order.push_back((now, payment_hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::issuer::{Issuer, Order};
    use blvm_mesh_core::id::Network;

    fn wanted(ticket: u64, amount_msat: u64) -> Wanted {
        let source = NodeId([1; 32]);
        Wanted { ticket: Ticket(ticket), source, bytes: 9, amount_msat, expiry_s: 900 }
    }

    #[test]
    fn each_is_answered_in_turn_and_too_many_are_refused() {
        let executor = Executor::new();
        let (go, wait) = smol::channel::unbounded();
        let (told, answers) = smol::channel::unbounded();
        let tell = move |ticket, invoice| {
            let told = told.clone();
            async move { told.send((ticket, invoice)).await.is_ok() }
        };
        let write = move |wanted: &Wanted| {
            wait.recv_blocking().map_err(|e| e.to_string())?;
            match wanted.amount_msat {
                0 => Err("no".into()),
                amount => Ok(amount.to_string()),
            }
        };
        let (invoices, _task) = Invoices::start(write, tell, &executor);
        assert!(invoices.ask(wanted(1, 5_000)) && invoices.ask(wanted(2, 0)));
        for n in 2..MOST_QUEUED as u64 {
            assert!(invoices.ask(wanted(n + 1, 1)));
        }
        assert!(!invoices.ask(wanted(99, 1)));
        go.try_send(()).unwrap();
        go.try_send(()).unwrap();
        let both = async { (answers.recv().await.unwrap(), answers.recv().await.unwrap()) };
        let (first, second) = smol::block_on(executor.run(both));
        assert_eq!(first, (Ticket(1), Some("5000".into())));
        assert_eq!(second, (Ticket(2), None));
        drop(go);
        assert!(!Invoices::default().ask(wanted(1, 1)));
    }

    #[test]
    fn what_was_written_is_given_again_for_a_while() {
        let mut invoices = Invoices::default();
        let secret = secp256k1::SecretKey::from_byte_array([1; 32]).unwrap();
        let order = Order {
            network: Network::Regtest,
            terms_hash: [1; 32],
            amount_msat: 5_000,
            expiry_s: 900,
            timestamp: 1_700_000_000,
            as_text: true,
        };
        let issuer = Issuer::from_secret(secret);
        let written: Vec<_> = (0..4).map(|_| issuer.invoice(&order).unwrap().invoice).collect();
        for (second, invoice) in (0..).zip(&written[..3]) {
            invoices.keep(second * SECOND, invoice.clone());
            invoices.keep(second * SECOND, invoice.clone());
        }
        invoices.keep(0, "lnbcrt1nonsense".into());
        assert_eq!((invoices.written.len(), invoices.order.len()), (3, 3));
        let hash = |n: usize| bolt11::Invoice::from_text(&written[n]).unwrap().payment_hash;
        assert_eq!(invoices.given(&hash(1)), Some(written[1].clone()));
        assert_eq!(invoices.given(&[7; 32]), None);
        invoices.keep(u64::from(SAME_S) * SECOND, written[3].clone());
        assert_eq!(invoices.given(&hash(0)), None);
        assert!(invoices.given(&hash(1)).is_some() && invoices.given(&hash(3)).is_some());
    }

    #[test]
    fn an_invoice_says_who_buys_how_much() {
        let other = Wanted { bytes: 10, ..wanted(1, 1) };
        assert_ne!(wanted(1, 1).purpose(), other.purpose());
        assert_eq!(wanted(1, 1).purpose(), wanted(2, 3).purpose());
    }
}
