//! The nodes of the demonstration, their directory, and what the scenes share.

use super::actor::Actor;
use crate::identity::Identity;
use crate::issuer::{Issuer, Order, unix_now};
use crate::node::Issued;
use crate::private_file;
use crate::rpc::types::{LightningProof, Proof, Quote};
use bitcoin::hashes::Hash;
use bitcoin::{ScriptBuf, WPubkeyHash};
use std::path::{Path, PathBuf};

/// What the scenes act on.
pub(super) struct Stage {
    /// Everybody's files.
    dir: PathBuf,
    /// Whether they stay.
    keep: bool,
    /// Whose invoices the nodes accept.
    pub(super) issuer: Issuer,
    /// A, B, C and D, once they are started.
    pub(super) actors: Vec<Actor>,
    /// The payment that was accepted.
    pub(super) paid: Option<Proof>,
}

impl Stage {
    /// An empty stage; `keep`: a new directory that stays.
    pub(super) fn new(keep: Option<PathBuf>) -> Result<Self, String> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| e.to_string())?;
        let name = format!("blvm-mesh-demo-{}", hex::encode(random));
        let dir = keep.clone().unwrap_or_else(|| std::env::temp_dir().join(name));
        if dir.exists() {
            return Err(format!("{} is there already", dir.display()));
        }
        private_file::create_dir(&dir).map_err(|e| e.to_string())?;
        let key = Identity::generate().map_err(|e| e.to_string())?;
        Ok(Self {
            dir,
            keep: keep.is_some(),
            issuer: Issuer::from_secret(*key.secret_key()),
            actors: Vec::new(),
            paid: None,
        })
    }

    /// Starts a node that keeps links to `peers`, accepts the issuer, and covenants to a key
    /// that nobody has.
    pub(super) fn start(&mut self, name: &'static str, peers: &[String]) -> Result<(), String> {
        // For bytes of flows each has an issuer of its own.
        let mut arguments = vec!["--issuer".to_owned(), self.issuer.public_key().to_string()];
        arguments.extend(["--set".into(), "issuer_key=issuer.key".into()]);
        let payout = ScriptBuf::new_p2wpkh(&WPubkeyHash::hash(name.as_bytes()));
        arguments.extend([
            "--set".into(),
            "payment.covenants_active=true".into(),
            "--set".into(),
            format!("payment.payout_script={}", payout.to_hex_string()),
        ]);
        for peer in peers {
            arguments.extend(["--peer".into(), peer.clone()]);
        }
        let actor = Actor::start(name, &self.dir, arguments)?;
        self.actors.push(actor);
        Ok(())
    }

    /// One of the nodes by its place: A is 0.
    pub(super) fn actor(&mut self, place: usize) -> Result<&mut Actor, String> {
        self.actors.get_mut(place).ok_or_else(|| "the node was not started".into())
    }

    /// What can be read about what went wrong: the last lines of every log.
    pub(super) fn logs(&self) -> String {
        let mut text = String::new();
        for name in ["A", "B", "C", "D"] {
            let Ok(log) = std::fs::read_to_string(self.dir.join(name).with_extension("log")) else {
                continue;
            };
            let lines: Vec<&str> = log.lines().rev().take(8).collect();
            text.push_str(&format!("Log of {name}, last lines:\n"));
            lines.iter().rev().for_each(|line| text.push_str(&format!("  {line}\n")));
        }
        text
    }

    /// The directory of everybody's files.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.actors.clear();
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// An invoice for a quote.
pub(super) fn invoice(issuer: &Issuer, quote: &Quote) -> Result<(Issued, Proof), String> {
    let order = Order {
        network: quote.network,
        terms_hash: quote.terms_hash,
        amount_msat: quote.amount_msat,
        expiry_s: 3600,
        timestamp: unix_now(),
        as_text: false,
    };
    let issued = issuer.invoice(&order).map_err(|e| e.to_string())?;
    let preimage = issued.preimage.ok_or("a regtest issuer gives every preimage away")?;
    let invoice = issued.invoice.clone();
    Ok((issued, Proof::Lightning(LightningProof { invoice, preimage })))
}
