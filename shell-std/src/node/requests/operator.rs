//! What an operator may change of a node, and with what.

use crate::config::{Settings, Written};
use crate::kept::{Keep, Kept};
use crate::rpc::types::TariffReport;
use crate::wallet::Spending;
use smol::lock::Mutex;
use std::sync::Arc;

/// What changes a node at run time needs of whoever runs it.
pub trait Reread: Send + Sync + 'static {
    /// Reads the configuration again. It may block.
    ///
    /// # Errors
    /// What is wrong with it.
    fn read(&self) -> Result<(Settings, Written), String>;

    /// Logs by another filter from now on.
    ///
    /// # Errors
    /// What is wrong with it.
    fn set_log(&self, filter: &str) -> Result<(), String>;
}

/// What an operator may change, and what has been changed.
pub struct Operator {
    pub(super) keep: Arc<dyn Keep>,
    pub(super) reread: Box<dyn Reread>,
    pub(super) spending: Option<Arc<Spending>>,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Clone)]
pub(super) struct State {
    /// What is configured, as far as it is in force.
    pub(super) base: Settings,
    pub(super) written: Written,
    /// What comes on top of it.
    pub(super) kept: Kept,
}

impl Operator {
    /// For a node that was started with these settings, which were [read](Reread::read) with what
    /// was written, and with what is kept [put over](Kept::put_over) them.
    pub fn new(
        (base, written): (Settings, Written),
        (keep, kept): (Arc<dyn Keep>, Kept),
        reread: impl Reread,
        spending: Option<Arc<Spending>>,
    ) -> Self {
        let state = Mutex::new(State { base, written, kept });
        Self { keep, reread: Box::new(reread), spending, state }
    }
}

impl State {
    /// Everything that is in force.
    pub(super) fn settings(&self) -> Settings {
        let mut settings = self.base.clone();
        self.kept.put_over(&mut settings);
        settings
    }

    pub(super) fn tariff(&self) -> TariffReport {
        let (now, base) = (self.settings(), &self.base.config);
        let set = self.kept.prices.by_key().into_iter();
        let set = set.filter(|(_, price)| price.is_some()).map(|(key, _)| key.to_owned());
        TariffReport {
            relay: now.config.payment.tariff,
            receive: now.config.flows.receive,
            configured: base.payment.tariff,
            configured_receive: base.flows.receive,
            set: set.collect(),
        }
    }
}
