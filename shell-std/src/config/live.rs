//! What of the configuration is applied to a running node, and what has changed of it.

use super::key::Key;
use super::{ConfigError, KEYS, Settings};
use crate::address::Place;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::mode::MeshMode;
use std::collections::BTreeMap;
use std::fmt;
use toml::{Table, Value};

/// The keys that a running node takes over; all others need a restart.
const LIVE: [&str; 27] = [
    "log",
    "mesh.peers",
    "mesh.issuers",
    "mesh.answer_probes",
    "tariff.base_msat",
    "tariff.per_kib_msat",
    "tariff.receive_base_msat",
    "tariff.receive_per_kib_msat",
    "limits.free_rate",
    "limits.free_burst",
    "limits.plain_rate",
    "limits.plain_burst",
    "limits.rare_rate",
    "limits.rare_burst",
    "limits.bad_payments_rate",
    "limits.bad_payments_burst",
    "limits.per_prefix",
    "payment.min_confirmations",
    "payment.strangers_relay_paid",
    "flow.credit",
    "flow.max_msat",
    "lightning.max_fee_ppm",
    "budget.max_msat_per_payment",
    "budget.max_msat_per_hour",
    "budget.max_msat_per_day",
    "budget.max_msat_per_destination_day",
    "bench.sink",
];

impl Key {
    /// Whether a running node takes a new value over when it reads its configuration again.
    pub fn is_live(&self) -> bool {
        LIVE.contains(&self.dotted().as_str())
    }
}

/// The values that are given, by key, without those that are what counts anyway. It shows none of
/// them: there may be a password.
#[derive(Clone, Default, PartialEq)]
pub struct Written(BTreeMap<String, Value>);

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Written {
    /// What is in the configuration, all of it put together.
    pub(super) fn of(table: &Table, network: Network) -> Self {
        let given = KEYS.iter().filter_map(|key| {
            let section = match key.section {
                "" => Some(table),
                section => table.get(section).and_then(Value::as_table),
            };
            let value = section?.get(key.name)?;
            let usual = key.default(network);
            let is_usual = usual.is_some_and(|usual| text(value).as_deref() == Some(&usual));
            (!is_usual).then(|| (key.dotted(), value.clone()))
        });
        Self(given.collect())
    }

    /// The keys whose values are others in `new`, in the order of the file.
    pub fn changed(&self, new: &Self) -> Vec<&'static Key> {
        let differs = |key: &&Key| self.0.get(&key.dotted()) != new.0.get(&key.dotted());
        KEYS.iter().filter(differs).collect()
    }

    /// Takes over the values of the keys that a running node does.
    pub fn adopt(&mut self, new: &Self) {
        for key in KEYS.iter().filter(|key| key.is_live()).map(Key::dotted) {
            match new.0.get(&key) {
                Some(value) => self.0.insert(key, value.clone()),
                None => self.0.remove(&key),
            };
        }
    }
}

/// A value as defaults are written.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

impl Settings {
    /// Whether any payment can be accepted, or none need be.
    pub fn takes_payments(&self) -> bool {
        let payment = &self.config.payment;
        let takes_covenants = payment.covenants_active && !payment.payout_script.is_empty();
        self.config.mode != MeshMode::PaymentGated
            || !payment.issuers.is_empty()
            || self.lightning.is_some()
            || takes_covenants
    }

    /// Takes of other settings what a running node can: [`Key::is_live`]. Peers on serial lines
    /// and other devices stay as they are.
    ///
    /// # Errors
    /// More issuers than there is room for, with the Lightning node's own key: then nothing has changed.
    pub fn adopt(&mut self, new: &Self) -> Result<(), ConfigError> {
        let mut config = self.config.clone();
        config.adopt(&new.config);
        if self.lan.enabled != new.lan.enabled {
            // What follows from that waits for a restart with it.
            config.strangers_relay_paid = self.config.strangers_relay_paid;
        }
        let rules = &mut config.payment;
        if let Some(own) = rules.shared_issuer.filter(|own| !rules.issuers.contains(own)) {
            let reason = "leaves no room for the Lightning node's own key";
            let full = |_| ConfigError::Value { key: "mesh.issuers", reason: reason.into() };
            rules.issuers.push(own).map_err(full)?;
        }
        self.config = config;
        let dialed = |place: &Place| matches!(place, Place::Tcp(_));
        self.peers.retain(|peer| !dialed(&peer.place));
        let here: Vec<_> = self.peers.iter().map(|peer| peer.public_key).collect();
        let news = new.peers.iter().filter(|peer| dialed(&peer.place));
        self.peers.extend(news.filter(|peer| !here.contains(&peer.public_key)).cloned());
        self.banned.clone_from(&new.banned);
        self.log.clone_from(&new.log);
        self.spending = new.spending;
        self.services.max_msat = new.services.max_msat;
        self.shell.answer_probes = new.shell.answer_probes;
        self.shell.bench_sink = new.shell.bench_sink;
        Ok(())
    }
}
