//! Whether a Lightning node serves: what is right, what is missing, and how to mend it.

use super::node::{Lightning, is_on};
use super::{Backend, BackendSettings, Error, InvoiceOrder, LightningSettings, Liquidity};
use crate::issuer::unix_now;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::Invoice;
use secp256k1::{PublicKey, Secp256k1};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is asked of a node at least to receive: what the smallest step of a flow costs, 50 sat.
const LEAST_MSAT: u64 = 50_000;
/// How far two clocks may be apart, in seconds: half of `payment.future_skew_s`.
const MOST_APART_S: u64 = 150;
const PROBE: &str = "blvm-mesh: check, not to be paid";

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub about: &'static str,
    /// Whether it is as it should be.
    pub is_good: bool,
    /// What was found, and where it is wrong how to mend it.
    pub text: String,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkup {
    /// The Lightning node's key, if it said so.
    pub key: Option<PublicKey>,
    /// In the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Checkup {
    fn note(&mut self, about: &'static str, is_good: bool, text: impl Into<String>) {
        self.findings.push(Finding { about, is_good, text: text.into() });
    }

    /// Whether all is as it should be.
    pub fn is_good(&self) -> bool {
        self.findings.iter().all(|finding| finding.is_good)
    }
}

impl LightningSettings {
    /// Where the Lightning node is.
    pub fn place(&self) -> String {
        match &self.backend {
            BackendSettings::Lnd { url, .. }
            | BackendSettings::Phoenixd { url, .. }
            | BackendSettings::Lnbits { url, .. } => url.clone(),
            BackendSettings::Cln { socket } | BackendSettings::Ldk { socket } => {
                socket.display().to_string()
            }
        }
    }

    /// Files with credentials, and the keys of the configuration that name them.
    pub fn credentials(&self) -> Vec<(&'static str, PathBuf)> {
        match &self.backend {
            BackendSettings::Lnd { macaroon, .. } => {
                vec![("lightning.macaroon_file", macaroon.clone())]
            }
            BackendSettings::Cln { socket } | BackendSettings::Ldk { socket } => {
                vec![("lightning.socket", socket.clone())]
            }
            BackendSettings::Phoenixd { password, .. } => {
                vec![("lightning.password_file", password.clone())]
            }
            BackendSettings::Lnbits { api_key, .. } => {
                vec![("lightning.api_key_file", api_key.clone())]
            }
        }
    }

    /// What is allowed, and hardly meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut found: Vec<_> =
            self.credentials().iter().filter_map(|(key, path)| open_to_all(key, path)).collect();
        found.extend(self.in_clear());
        found
    }

    /// Credentials that cross a network in clear.
    fn in_clear(&self) -> Option<String> {
        let place = self.place();
        let uri = place.parse::<ureq::http::Uri>().ok()?;
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let is_here = host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
        (uri.scheme_str() == Some("http") && !is_here).then(|| {
            format!(
                "credentials go to {place} in clear: let lightning.url be https, or a tunnel's end \
                 on this host"
            )
        })
    }

    /// Looks at everything. It blocks for as long as the Lightning node takes.
    pub fn check(&self, network: Network) -> Checkup {
        let backend = self.open();
        let mut checkup = Checkup { key: None, findings: Vec::new() };
        for (key, path) in self.credentials() {
            match open_to_all(key, &path) {
                Some(warning) => checkup.note("credentials", false, warning),
                None => checkup.note("credentials", true, path.display().to_string()),
            }
        }
        if let Some(warning) = self.in_clear() {
            checkup.note("connection", false, warning);
        }
        let info = match backend.info() {
            Ok(info) => info,
            Err(error) => {
                checkup.note("node", false, error.to_string());
                return checkup;
            }
        };
        checkup.key = Some(info.key);
        let name = [info.alias.as_str(), info.version.as_str()].join(" ");
        checkup.note("node", true, format!("{} {}", info.key, name.trim()).trim_end());
        match is_on(&info, network) {
            true => checkup.note("network", true, network.name()),
            false => {
                let found = info.network.map_or("another", Network::name);
                let text = format!(
                    "it is on {found}, this node on {network}: set mesh.network, or let \
                     [lightning] name a node of that network"
                );
                checkup.note("network", false, text);
            }
        }
        let height = info.block_height.map(|height| format!("block {height}"));
        match (info.is_synced, height) {
            (true, height) => checkup.note("chain", true, height.unwrap_or("not told".into())),
            (false, height) => checkup.note(
                "chain",
                false,
                format!("{}: wait until it has caught up", height.unwrap_or_default()),
            ),
        }
        checkup.look_at_money(&*backend);
        checkup.look_at_invoices(&*backend, &info.key);
        match backend.payment(&[0; 32]) {
            Ok(_) => checkup.note("look-ups", true, "payments can be looked up"),
            Err(error) => checkup.note("look-ups", false, error.to_string()),
        }
        checkup
    }
}

impl Checkup {
    fn look_at_money(&mut self, backend: &dyn Backend) {
        let Liquidity { receivable_msat, payable_msat } = match backend.liquidity() {
            Ok(liquidity) => liquidity,
            Err(error) => return self.note("balance", false, error.to_string()),
        };
        match receivable_msat {
            None => self.note("receive", true, "it does not say how much"),
            Some(msat) if msat >= LEAST_MSAT => {
                self.note("receive", true, format!("up to {msat} msat"));
            }
            Some(msat) => self.note(
                "receive",
                false,
                format!(
                    "{msat} msat only: nobody can pay this node; have a channel opened to it, or \
                     spend through one"
                ),
            ),
        }
        match payable_msat >= LEAST_MSAT {
            true => self.note("pay", true, format!("up to {payable_msat} msat")),
            false => self.note(
                "pay",
                false,
                format!(
                    "{payable_msat} msat only: this node cannot buy bytes; a relay that only sells \
                     need not"
                ),
            ),
        }
    }

    /// Has a small invoice written, which expires unpaid: its key, and the clock it was written by.
    fn look_at_invoices(&mut self, backend: &dyn Backend, key: &PublicKey) {
        let order = InvoiceOrder { description: PROBE, amount_msat: 1_000, expiry_s: 60 };
        let text = match backend.invoice(&order) {
            Ok(text) => text,
            Err(error) => return self.note("invoices", false, error.to_string()),
        };
        let invoice = match Invoice::from_text(&text) {
            Ok(invoice) => invoice,
            Err(error) => return self.note("invoices", false, error.to_string()),
        };
        match invoice.verify_by(&Secp256k1::verification_only(), key) {
            Ok(()) => self.note("invoices", true, "it writes them, signed by its key"),
            Err(_) => self.note("invoices", false, "another key than its own signs them"),
        }
        let apart = invoice.timestamp.abs_diff(unix_now());
        match apart <= MOST_APART_S {
            true => self.note("clock", true, format!("{apart} s apart")),
            false => self.note(
                "clock",
                false,
                format!(
                    "this system's clock and that of the Lightning node are {apart} s apart: have \
                     both follow NTP, or invoices count as expired or from the future"
                ),
            ),
        }
    }
}

/// A credential that everybody on this host may use.
fn open_to_all(key: &str, path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.mode() & 0o777;
    let path = path.display();
    (mode & 0o006 != 0).then(|| {
        format!("everybody on this host can use {key} {path} (mode {mode:03o}): `chmod o= {path}`")
    })
}

/// Asks the backend who it is, for a node that is to start.
///
/// # Errors
/// What is wrong, and how to mend it.
pub fn connect(settings: &LightningSettings, network: Network) -> Result<Lightning, Error> {
    let backend = settings.open();
    let info = backend.info()?;
    if !is_on(&info, network) {
        let found = info.network.map_or("another network", Network::name);
        return Err(Error::Unable(format!("it is on {found}, and this node on {network}")));
    }
    Ok(Lightning::new(backend, network, info.key))
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Fake, Fault, KINDS};
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn bad(checkup: &Checkup) -> Vec<&'static str> {
        checkup.findings.iter().filter(|f| !f.is_good).map(|f| f.about).collect()
    }

    #[test]
    fn a_node_that_serves_is_said_to_and_what_is_wrong_is_named() {
        for kind in KINDS {
            let fake = Fake::start(kind);
            for (_, path) in fake.settings.credentials() {
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
            }
            let checkup = fake.settings.check(Network::Regtest);
            assert!(checkup.is_good(), "{kind}: {checkup:?}");
            assert_eq!(checkup.key, Some(fake.with(|model| model.key())));
            let abouts: Vec<_> = checkup.findings.iter().map(|f| f.about).collect();
            let expected = [
                "credentials",
                "node",
                "network",
                "chain",
                "receive",
                "pay",
                "invoices",
                "clock",
                "look-ups",
            ];
            assert_eq!(abouts, expected, "{kind}");
            assert_eq!(bad(&fake.settings.check(Network::Signet)), ["network"], "{kind}");
            assert!(connect(&fake.settings, Network::Signet).is_err(), "{kind}");
            assert!(connect(&fake.settings, Network::Regtest).is_ok(), "{kind}");

            for (_, path) in fake.settings.credentials() {
                std::fs::set_permissions(path, PermissionsExt::from_mode(0o646)).unwrap();
            }
            assert_eq!(bad(&fake.settings.check(Network::Regtest)), ["credentials"], "{kind}");
            assert_eq!(fake.settings.warnings().len(), 1, "{kind}");
            fake.with(|model| model.fault = ("", Fault::Proxy));
            assert_eq!(bad(&fake.settings.check(Network::Regtest)), ["credentials", "node"]);
        }
    }

    #[test]
    fn a_credential_that_crosses_a_network_in_clear_is_warned_of() {
        let settings = |url: &str| LightningSettings {
            backend: BackendSettings::Phoenixd { url: url.into(), password: "/x".into() },
            timeouts: Default::default(),
        };
        for url in ["http://127.0.0.1:9740", "http://[::1]:1", "http://localhost:1", "https://x"] {
            assert_eq!(settings(url).warnings(), [""; 0], "{url}");
        }
        assert!(settings("http://relay.example.org:1").warnings()[0].contains("in clear"));
    }
}
