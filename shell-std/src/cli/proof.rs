//! `verify-proof` and `ctv-hash`: payments, checked by hand.

use super::answer::lines;
use super::input::{Bytes, Format, Input, bytes, fixed};
use super::invoice::Terms;
use super::{Answer, Failure};
use crate::address::parse_public_key;
use crate::config::parse_network;
use crate::issuer::unix_now;
use blvm_mesh_core::id::Network;
use blvm_mesh_core::payment::bolt11::Invoice;
use blvm_mesh_core::payment::ctv::ctv_hash;
use blvm_mesh_core::payment::lightning::{LightningError, LightningLimits, LightningProof};
use clap::Args;
use secp256k1::{PublicKey, Secp256k1, Verification};
use serde_json::json;
use std::path::PathBuf;

/// Check a paid invoice as a relay does.
///
/// Prints `verified`, and either `amount_msat`, `payment_hash`, `payee` and `expires_at`, or
/// the `reason` why not. Exit code 1: not verified. No node needs to run. What a relay checks
/// besides: the packet's signature, its own share, and that the payment is new.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh verify-proof --invoice lnbcrt... --preimage 00ff... --issuer 02ab...
  blvm-mesh verify-proof --invoice lnbc... --preimage 00ff... --issuer 02ab... \\
      --network mainnet --at 1750000000 --terms terms.json")]
pub(super) struct VerifyProof {
    /// The BOLT 11 invoice.
    #[arg(long)]
    invoice: String,
    /// Its preimage, in hex.
    #[arg(long, value_name = "HEX", value_parser = fixed::<32>)]
    preimage: [u8; 32],
    /// Public key whose invoices are accepted; may be given several times.
    #[arg(long, value_name = "PUBKEY", required = true, value_parser = issuer)]
    issuer: Vec<PublicKey>,
    /// Network that the invoice must be for. [default: the invoice's own]
    #[arg(long, value_parser = parse_network)]
    network: Option<Network>,
    /// Time of the check: seconds since 1970, or as 2026-01-31T12:00:00Z. [default: now]
    #[arg(long, value_name = "TIME", value_parser = crate::date::parse)]
    at: Option<u64>,
    /// Terms that the invoice must commit to: a terms hash, or a file with the answer of
    /// `quote --json`. Without it the invoice may be for anything.
    #[arg(long, value_name = "HASH|FILE")]
    terms: Option<String>,
    /// Longest life of an invoice, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 604_800)]
    max_lifetime: u64,
    /// How far in the future an invoice may be dated, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    future_skew: u64,
}

/// Compute the template hash of OP_CHECKTEMPLATEVERIFY (BIP 119).
///
/// No node needs to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh ctv-hash --tx 0200000001... --input 0
  blvm-mesh ctv-hash --input 1 tx.hex")]
pub(super) struct CtvHash {
    /// The transaction in hex. [default: read FILE]
    #[arg(long, value_name = "HEX", value_parser = bytes, conflicts_with = "file")]
    tx: Option<Bytes>,
    /// Input that spends the coin, counted from 0.
    #[arg(long, value_name = "N")]
    input: u32,
    /// File with the transaction; `-` or none: standard input.
    file: Option<PathBuf>,
    /// How the bytes in the file are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What a relay would find in the proof.
struct Verified {
    amount_msat: u64,
    payment_hash: [u8; 32],
    payee: PublicKey,
    expires_at: u64,
}

fn issuer(text: &str) -> Result<PublicKey, String> {
    let wrong =
        || "expected a compressed public key (66 hex digits, beginning with 02 or 03)".to_owned();
    parse_public_key(text).ok_or_else(wrong)
}

impl VerifyProof {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let terms = self.terms.as_deref().map(Terms::read).transpose()?;
        match self.verify(terms.map(|t| t.terms_hash)) {
            Ok(Verified { amount_msat, payment_hash, payee, expires_at }) => {
                let hash = hex::encode(payment_hash);
                let terms = if self.terms.is_some() { "committed to" } else { "not checked" };
                let json = json!({
                    "verified": true,
                    "amount_msat": amount_msat,
                    "payment_hash": hash,
                    "payee": payee.to_string(),
                    "expires_at": expires_at,
                    "terms": terms,
                });
                let text = lines([
                    ("verified", "true".to_owned()),
                    ("amount_msat", amount_msat.to_string()),
                    ("payment_hash", hash),
                    ("payee", payee.to_string()),
                    ("expires_at", crate::date::time(expires_at)),
                    ("terms", terms.to_owned()),
                ]);
                Answer::yes(json, text)
            }
            Err(e) => {
                let reason = crate::rpc::words::with_dates(&e);
                let text = lines([("verified", "false"), ("reason", &reason)]);
                Answer::no(json!({"verified": false, "reason": reason}), text)
            }
        }
    }

    fn verify(&self, terms: Option<[u8; 32]>) -> Result<Verified, LightningError> {
        let invoice = Invoice::from_text(&self.invoice)?;
        let network = self.network.unwrap_or_else(|| invoice.network());
        let limits =
            LightningLimits { max_lifetime_s: self.max_lifetime, future_skew_s: self.future_skew };
        let (text, preimage) = (self.invoice.as_str(), self.preimage);
        let proof = LightningProof::Text { invoice: text, preimage, stated: None };
        let now = Some(self.at.unwrap_or_else(unix_now));
        let secp = Secp256k1::verification_only();
        let payee = match proof.check(&terms.unwrap_or_default(), network, now, &limits) {
            Ok(checked) => checked.verify_signature(&secp, &self.issuer)?,
            // The last of the checks: all others hold.
            Err(LightningError::TermsNotCommitted) if terms.is_none() => {
                self.signed_by(&invoice, &secp)?
            }
            Err(e) => return Err(e),
        };
        let amount_msat = invoice.amount_msat.ok_or(LightningError::NoAmount)?;
        let expires_at = invoice.expires_at().unwrap_or(u64::MAX);
        Ok(Verified { amount_msat, payment_hash: invoice.payment_hash, payee, expires_at })
    }

    /// Which of the issuers signed an invoice that may be for anything.
    fn signed_by<C: Verification>(
        &self,
        invoice: &Invoice<'_>,
        secp: &Secp256k1<C>,
    ) -> Result<PublicKey, LightningError> {
        let signer = match invoice.signature.payee {
            Some(payee) => {
                let named = self.issuer.iter().find(|key| key.serialize() == payee);
                let named = *named.ok_or(LightningError::SelfIssued)?;
                invoice.verify_by(secp, &named).map_err(|_| LightningError::InvalidSignature)?;
                named
            }
            None => invoice.recover_payee(secp).map_err(|_| LightningError::InvalidSignature)?,
        };
        match self.issuer.contains(&signer) {
            true => Ok(signer),
            false => Err(LightningError::SelfIssued),
        }
    }
}

impl CtvHash {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let tx = match self.tx {
            Some(Bytes(tx)) => tx,
            None => Input { file: self.file, format: self.format }.read()?,
        };
        match ctv_hash(&tx, self.input) {
            Ok(hash) => {
                let hash = hex::encode(hash);
                Answer::yes(json!({"ctv_hash": hash, "input": self.input}), hash)
            }
            Err(e) => {
                let reason = e.to_string();
                let json = json!({"error": {"code": 1, "message": reason}});
                Answer::no(json, format!("not a transaction: {reason}"))
            }
        }
    }
}
