//! `covenant-template` and `covenant-proof`: paying by a covenant, in two steps.

use super::answer::lines;
use super::invoice::Terms;
use super::{Answer, Failure};
use crate::config::script_of;
use crate::covenant::{CovenantMakeError, Payout, Template};
use crate::rpc::target::Target;
use crate::rpc::types::Quote;
use bitcoin::consensus::encode::{deserialize, serialize_hex};
use bitcoin::{MerkleBlock, ScriptBuf, Transaction};
use blvm_mesh_core::id::HopId;
use clap::Args;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Make the template of a covenant payment (BIP 119) for a quote.
///
/// Pays every node of the route its share, the source included, and commits to the quote's
/// terms. Prints what to fund: an amount, and the scripts of which one must lock it. The answer
/// in JSON is what `covenant-proof` reads. No node needs to run. The network must enforce
/// BIP 119: signet or regtest. Exit code 1: some node would refuse it.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  blvm-mesh quote $NODE 4096 --json > terms.json
  blvm-mesh covenant-template --terms terms.json --payout $ME=tb1q... --payout $RELAY=tb1q... \\
      --payout $NODE=5120ab... --json > template.json")]
pub(super) struct CovenantTemplate {
    /// File with the answer of `quote --json`.
    #[arg(long, value_name = "FILE")]
    terms: PathBuf,
    /// Where a node of the route is paid to: its identity, its public key, or the short form
    /// that the quote shows, and a script in hex or an address. Its operator sees the script
    /// with `blvm-mesh id`. To be given for every node, this one included.
    #[arg(long, value_name = "NODE=SCRIPT|ADDRESS", required = true)]
    payout: Vec<String>,
    /// Fee of the template, in satoshi per virtual byte; relays refuse less than 1.
    #[arg(long, value_name = "SAT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    fee_rate: u32,
}

/// Make the proof of a covenant payment, once its funding transaction is in a block.
///
/// It is checked as every node on the route will, but for how deep the block is. Prints the
/// `proof` for `send --covenant`, and the `settlement`: the transaction that pays everyone,
/// which anybody can broadcast. No node needs to run. Exit code 1: it does not hold, and why.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  blvm-mesh covenant-proof --template template.json \\
      --funding-tx $(bitcoin-cli getrawtransaction $TXID false $BLOCK) \\
      --txoutproof $(bitcoin-cli gettxoutproof \"[\\\"$TXID\\\"]\" $BLOCK)")]
pub(super) struct CovenantProof {
    /// File with the answer of `covenant-template --json`.
    #[arg(long, value_name = "FILE")]
    template: PathBuf,
    /// The funding transaction, in hex or in a file.
    #[arg(long, value_name = "HEX|FILE")]
    funding_tx: String,
    /// What Bitcoin Core's `gettxoutproof` says of it (a CMerkleBlock), in hex or in a file.
    #[arg(long, value_name = "HEX|FILE")]
    txoutproof: String,
}

/// Answer of `covenant-template --json`.
#[derive(Debug, Serialize, Deserialize)]
struct TemplateFile {
    template: String,
    template_hash: String,
    locking_script: String,
    address: Option<String>,
    locking_script_bare: String,
    amount_msat: u64,
    fee_sat: u64,
    fund_sat: u64,
    payouts: Vec<PayoutText>,
    quote: Quote,
}

#[derive(Debug, Serialize, Deserialize)]
struct PayoutText {
    node: String,
    script: String,
}

impl CovenantTemplate {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let quote = Terms::read_quote(&self.terms)?;
        let payouts = self.payout.iter().map(|text| payout(text, &quote));
        let payouts: Vec<Payout> = payouts.collect::<Result<_, _>>()?;
        let fee_rate = 1_000 * u64::from(self.fee_rate);
        let template = match Template::new(&quote, &payouts, fee_rate) {
            Ok(template) => template,
            Err(e) => return refused(e),
        };
        let (bare, wrapped) = template.locking_scripts();
        // Both were found to fit together when the template was made.
        let fee_sat = template.fee_sat(fee_rate).unwrap_or_default();
        let fund_sat = template.amount_sat().saturating_add(fee_sat);
        let network = crate::config::bitcoin_network(quote.network);
        let address = bitcoin::Address::from_script(&wrapped, network).ok();
        let file = TemplateFile {
            template: serialize_hex(template.transaction()),
            template_hash: hex::encode(template.hash()),
            locking_script: wrapped.to_hex_string(),
            address: address.map(|address| address.to_string()),
            locking_script_bare: bare.to_hex_string(),
            amount_msat: template.amount_sat().saturating_mul(1_000),
            fee_sat,
            fund_sat,
            payouts: payouts
                .iter()
                .map(|Payout { node, script }| PayoutText {
                    node: node.to_string(),
                    script: script.to_hex_string(),
                })
                .collect(),
            quote,
        };
        let mut text = lines([
            ("template hash", file.template_hash.clone()),
            ("amount", super::global::msat(file.amount_msat)),
            ("fee", format!("{fee_sat} sat")),
            ("fund with", format!("{fund_sat} sat")),
            ("locking script", file.locking_script.clone()),
            ("address", file.address.clone().unwrap_or_default()),
            ("or bare script", file.locking_script_bare.clone()),
            ("template", file.template.clone()),
        ]);
        let asked = file.quote.amount_msat;
        if file.amount_msat > asked.saturating_mul(2) {
            text.push_str(&format!(
                "note: the quote asks for {asked} msat only. No output may be below the dust limit \
                 of its script, and the smallest share decides: a covenant pays for larger sums\n"
            ));
        }
        Answer::yes(&file, text)
    }
}

impl CovenantProof {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let name = self.template.display().to_string();
        let text = std::fs::read_to_string(&self.template)
            .map_err(|e| Failure(format!("--template {name}: {e}")))?;
        let wrong = |what: &dyn std::fmt::Display| {
            Failure(format!(
                "--template {name}: this is not the answer of `covenant-template --json`: {what}"
            ))
        };
        let file: TemplateFile = serde_json::from_str(&text).map_err(|e| wrong(&e))?;
        let mut payouts = Vec::new();
        for PayoutText { node, script } in &file.payouts {
            let node = hop(node, &file.quote).ok_or_else(|| wrong(&"a payout's node"))?;
            let script = ScriptBuf::from_hex(script).map_err(|e| wrong(&e))?;
            payouts.push(Payout { node, script });
        }
        let transaction = hex::decode(&file.template).map_err(|e| wrong(&e))?;
        let transaction: Transaction = deserialize(&transaction).map_err(|e| wrong(&e))?;
        let funding = given("--funding-tx", &self.funding_tx)?;
        let funding: Transaction = deserialize(&funding)
            .map_err(|e| Failure(format!("--funding-tx: not a transaction: {e}")))?;
        let inclusion = given("--txoutproof", &self.txoutproof)?;
        let inclusion: MerkleBlock = deserialize(&inclusion)
            .map_err(|e| Failure(format!("--txoutproof: not what gettxoutproof says: {e}")))?;
        let paid = Template::from_transaction(transaction)
            .and_then(|template| template.paid(&file.quote, &payouts, &funding, &inclusion));
        let paid = match paid {
            Ok(paid) => paid,
            Err(e) => return refused(e),
        };
        let (proof, settlement) = (hex::encode(&paid.proof), serialize_hex(&paid.settlement));
        let json = serde_json::json!({
            "proof": proof,
            "block_hash": paid.block_hash.to_string(),
            "settlement": settlement,
            "settlement_txid": paid.settlement.compute_txid().to_string(),
        });
        let text = lines([
            ("proof", proof),
            ("block", paid.block_hash.to_string()),
            ("settlement", settlement),
        ]);
        Answer::yes(json, text)
    }
}

fn refused(error: CovenantMakeError) -> Result<Answer, Failure> {
    let message = error.to_string();
    let json = serde_json::json!({"error": {"code": 1, "message": message}});
    Answer::no(json, format!("no: {message}"))
}

/// Reads `NODE=SCRIPT|ADDRESS`.
fn payout(text: &str, quote: &Quote) -> Result<Payout, Failure> {
    let wrong = |what: String| Failure(format!("--payout {text}: {what}"));
    let (node, script) =
        text.rsplit_once('=').ok_or_else(|| wrong("write NODE=SCRIPT or NODE=ADDRESS".into()))?;
    let node = hop(node, quote).ok_or_else(|| {
        wrong("no such node is on the quoted route; see the nodes that `quote` lists".into())
    })?;
    let script = script_of(script, quote.network).map_err(wrong)?;
    Ok(Payout { node, script: ScriptBuf::from(script) })
}

/// The node on the route that is meant.
fn hop(text: &str, quote: &Quote) -> Option<HopId> {
    let named = text.parse::<Target>().ok().map(|target| target.0.hop());
    let nodes = quote.shares.iter().map(|share| share.node);
    nodes.into_iter().find(|node| Some(*node) == named || node.to_string() == text)
}

/// Bytes from hex, or from a file that holds hex or the bytes.
fn given(flag: &str, text: &str) -> Result<Vec<u8>, Failure> {
    if let Ok(bytes) = hex::decode(text.trim()) {
        return Ok(bytes);
    }
    if !Path::new(text).exists() {
        let shown: String = text.chars().take(60).collect();
        return Err(Failure(format!("{flag} {shown}: neither hex nor a file")));
    }
    super::input::Input { file: Some(text.into()), ..Default::default() }.read()
}

#[cfg(test)]
mod tests {
    use super::super::Cli;
    use super::*;
    use crate::covenant::tests::{block_with, funding, inclusion, p2wpkh, quote};
    use blvm_mesh_core::payment::ctv::ctv_hash;
    use clap::Parser;

    fn run(arguments: &[&str]) -> Result<Answer, Failure> {
        let all = ["blvm-mesh"].iter().chain(arguments);
        Cli::try_parse_from(all).unwrap_or_else(|e| panic!("{arguments:?}: {e}")).run()
    }

    fn template(terms: &str, payouts: &[String]) -> Result<Answer, Failure> {
        let payouts = payouts.iter().flat_map(|payout| ["--payout", payout]);
        run(&["covenant-template", "--terms", terms].into_iter().chain(payouts).collect::<Vec<_>>())
    }

    #[test]
    fn from_a_quote_to_a_proof() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let quote = quote(1, 5_000);
        let terms = file("terms.json", &serde_json::to_string(&quote).unwrap());
        // A short form with a script, identities with an address and a script.
        let address = bitcoin::Address::from_script(&p2wpkh(2), bitcoin::Network::Regtest).unwrap();
        let payouts = [
            format!("{}={}", quote.hops[0], p2wpkh(1).to_hex_string()),
            format!("{}={address}", quote.source),
            format!("{}={}", quote.destination, p2wpkh(3).to_hex_string()),
        ];
        let answer = template(&terms, &payouts).unwrap();
        assert!(answer.yes, "{}", answer.text);
        let made: TemplateFile = serde_json::from_value(answer.json.clone()).unwrap();
        assert!(answer.text.contains(&format!("{} sat", made.fund_sat)), "{}", answer.text);
        let transaction = hex::decode(&made.template).unwrap();
        assert_eq!(hex::encode(ctv_hash(&transaction, 0).unwrap()), made.template_hash);
        // The bare script of BIP 119, and an address of the other.
        assert_eq!(made.locking_script_bare, format!("20{}b3", made.template_hash));
        let locked = made.address.unwrap().parse::<bitcoin::Address<_>>().unwrap();
        let locked = locked.assume_checked().script_pubkey();
        assert_eq!(locked.to_hex_string(), made.locking_script);
        let transaction: Transaction = deserialize(&transaction).unwrap();
        let scripts: Vec<_> = transaction.output.iter().map(|o| o.script_pubkey.clone()).collect();
        assert_eq!(scripts[..3], [p2wpkh(1), p2wpkh(3), p2wpkh(2)]);

        let path = file("template.json", &answer.json.to_string());
        let funding = funding(&locked, made.fund_sat, 4);
        let block = block_with(&funding, 1, 3);
        let inclusion = serialize_hex(&inclusion(&block, &funding));
        let proof = |funding: &str, inclusion: &str| {
            let proof = ["covenant-proof", "--template", &path, "--funding-tx", funding];
            run(&[&proof[..], &["--txoutproof", inclusion]].concat())
        };
        let funding_hex = serialize_hex(&funding);
        let paid = proof(&funding_hex, &file("inclusion", &inclusion)).unwrap();
        assert!(paid.yes, "{}", paid.text);
        assert_eq!(paid.json["block_hash"], block.block_hash().to_string());
        let settlement = hex::decode(paid.json["settlement"].as_str().unwrap()).unwrap();
        assert_eq!(hex::encode(ctv_hash(&settlement, 0).unwrap()), made.template_hash);
        let hex = paid.json["proof"].as_str().unwrap();
        assert!(hex.contains(&serialize_hex(&transaction.output[0])));

        let other = crate::covenant::tests::funding(&p2wpkh(9), made.fund_sat, 4);
        let no = proof(&serialize_hex(&other), &inclusion).unwrap();
        assert!(!no.yes && no.text.contains("is not about the funding"), "{}", no.text);
        for (funding, inclusion, expected) in [
            ("zz", inclusion.as_str(), "--funding-tx zz: neither hex nor a file"),
            ("00", &inclusion, "--funding-tx: not a transaction"),
            (&funding_hex, "00", "--txoutproof: not what gettxoutproof says"),
        ] {
            let error = proof(funding, inclusion).unwrap_err().0;
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn payouts_that_are_wrong_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let quote = quote(0, 5_000);
        let terms = dir.path().join("terms.json");
        std::fs::write(&terms, serde_json::to_string(&quote).unwrap()).unwrap();
        let terms = terms.to_str().unwrap();
        let (source, script) = (quote.source, p2wpkh(1).to_hex_string());
        let good = [format!("{source}={script}"), format!("{}={script}", quote.destination)];
        assert!(template(terms, &good).unwrap().yes);
        let no = template(terms, &good[..1]).unwrap();
        let lacking = format!("no payout is given for {}", quote.destination.hop());
        assert!(!no.yes && no.text.contains(&lacking), "{}", no.text);
        let mainnet = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
        for (payout, expected) in [
            (source.to_string(), "write NODE=SCRIPT"),
            (format!("{}={script}", "02".repeat(32)), "no such node is on the quoted route"),
            (format!("{source}={mainnet}"), "is not an address of network regtest"),
            (format!("{source}="), "is not a Bitcoin address"),
        ] {
            let error = template(terms, &[payout]).unwrap_err().0;
            assert!(error.contains(expected), "{error}");
        }
        let mut edited = quote;
        edited.bytes += 1;
        std::fs::write(terms, serde_json::to_string(&edited).unwrap()).unwrap();
        let error = template(terms, &good).unwrap_err().0;
        assert!(error.contains("not that of its other fields"), "{error}");
    }
}
