//! Payment by a BIP 119 template: one transaction, already funded, whose funds nothing else
//! can spend, and that pays every party of the route its share.
//!
//! The template's outputs from `output_index` on belong to the intermediates in
//! travel order, then to the destination, then, unless that one is the terms
//! output or there is none, to the source. Change goes behind the terms output
//! or before `output_index`. The amount of the payment is the sum of the
//! parties' outputs; each must be at least its [`share`](super::fee::share) of that, so the source
//! absorbs the rounding to whole satoshi.
//!
//! Two steps, neither with any state: [`check`] reads the proof, and
//! [`Checked::confirm`] holds it against the block header. Between the two the
//! caller looks the replay key up and, for a block that it does not know, asks
//! its node.

pub mod proof;
pub mod template;

pub use proof::{CovenantProof, ProofError};
pub use template::{TemplateError, dust_limit, terms_script};

use super::ctv::template_hash;
use super::fee::Party;
use super::headers::KnownHeader;
use super::merkle::{MerkleError, root_of};
use super::terms::{Purpose, Terms};
use super::tx::{TxError, TxOut, TxView};
use crate::config::MAX_HOPS;
use crate::id::Network;
use sha2::{Digest, Sha256};

/// How far a block's time may be ahead of the clock, in seconds (Bitcoin Core's
/// `MAX_FUTURE_BLOCK_TIME`).
pub const MAX_FUTURE_SECS: u64 = 7_200;
/// How much longer than the proof is fresh its replay entry is kept, in seconds:
/// after a reorganisation the same funds can stand in a block with a later time.
pub const REORG_MARGIN_SECS: u64 = 86_400;
/// Virtual bytes that the witness of a spend adds to a template (BIP 141: marker,
/// flag, count, length, and a script of 34 bytes, a quarter each, rounded up).
const WITNESS_VBYTES: u64 = 10;
const OP_CTV: u8 = 0xb3;
const PUSH_32: u8 = 0x20;

/// What a node accepts covenant payments on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CovenantRules {
    /// Whether BIP 119 is enforced on the network. Where it is not, the opcode
    /// does nothing and anybody can take the funds.
    pub ctv_active: bool,
    /// Least confirmations of the funding transaction; 0 counts as 1.
    pub min_confirmations: u32,
    /// How long after the time in the funding block's header the proof is
    /// accepted, in seconds.
    pub max_age_secs: u32,
    /// Least fee rate of the template, in satoshi per 1,000 virtual bytes.
    pub min_fee_sat_per_kvb: u32,
}

impl CovenantRules {
    /// Defaults: active on signet (where Bitcoin Inquisition's miners enforce
    /// BIP 119) and on regtest only; 6 confirmations, 1 on regtest; one day;
    /// 100 satoshi per 1,000 virtual bytes, which Bitcoin Core relays from version 29.1 on
    /// (its `DEFAULT_MIN_RELAY_TX_FEE`).
    pub fn new(network: Network) -> Self {
        Self {
            ctv_active: matches!(network, Network::Signet | Network::Regtest),
            min_confirmations: if network == Network::Regtest { 1 } else { 6 },
            max_age_secs: 86_400,
            min_fee_sat_per_kvb: 100,
        }
    }
}

/// What the node that checks the proof knows of its own.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Terms of the payment; their hash must be in the template.
    pub terms: &'a Terms<'a>,
    /// What the payment is to buy.
    pub purpose: Purpose,
    /// Which party of the route this node is.
    pub party: Party,
    /// The locking script that this node wants to be paid to.
    pub payout_script: &'a [u8],
    /// What this node asks for, in millisatoshi.
    pub price_msat: u64,
}

/// Why a covenant payment is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum CovenantError {
    /// By [`CovenantRules::ctv_active`].
    #[error("OP_CHECKTEMPLATEVERIFY is not active on this network")]
    NotActive,
    /// The proof cannot be read.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The party is not on the route of the terms, or the route is too long.
    #[error("the payee is not on the route of the terms")]
    NotOnRoute,
    /// The template cannot be read.
    #[error("the template is malformed: {0}")]
    TemplateMalformed(TxError),
    /// The template is not fit to pay anybody, or not for these terms.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The template ends, or its terms stand, before the last party's output.
    #[error("the template has no output for some party of the route")]
    OutputMissing,
    /// The output at this node's place has another script.
    #[error("the output at the payee's place does not pay the payee's script")]
    OutputScript,
    /// The output at this node's place is below the share of the amount.
    #[error("the payee's output is smaller than its share of the amount")]
    ShareNotPaid,
    /// The share of the amount is below this node's price.
    #[error("the payee's share of the amount does not cover its price")]
    PriceNotCovered,
    /// The funding transaction cannot be read.
    #[error("the funding transaction is malformed: {0}")]
    FundingMalformed(TxError),
    /// 64 bytes without witness, which is also an inner node of a Merkle tree.
    #[error("the funding transaction is 64 bytes long")]
    FundingAmbiguous,
    /// A block reward, which cannot be spent for 100 blocks.
    #[error("the funding transaction is a coinbase")]
    FundingImmature,
    /// The template's input names another transaction, or an output that the
    /// funding transaction does not have.
    #[error("the template does not spend the funding transaction")]
    FundingNotSpent,
    /// Locked in another way than by BIP 119 alone.
    #[error("the funding output is not locked by a template hash")]
    FundingScript,
    /// Locked by a hash, but not by this template's.
    #[error("the funding output is locked by the hash of another template")]
    TemplateHash,
    /// The funding output is worth less than the template's outputs.
    #[error("the funding output is worth less than the template pays")]
    FundingTooSmall,
    /// What is left for miners is below the rules' fee rate.
    #[error("the template leaves too small a fee to be mined")]
    FeeTooLow,
    /// The Merkle path does not hold.
    #[error(transparent)]
    Merkle(#[from] MerkleError),
    /// Nobody asked knows the block.
    #[error("the block of the funding transaction is not known")]
    HeaderUnknown,
    /// The path leads to another Merkle root than the block's.
    #[error("the funding transaction is not in the block")]
    NotInBlock,
    /// Fewer confirmations than the rules ask for, or none: a stale block.
    #[error("the funding transaction does not have enough confirmations")]
    Unconfirmed,
    /// The block's time is more than [`MAX_FUTURE_SECS`] ahead of the clock.
    #[error("the block of the funding transaction is from the future")]
    FromFuture,
    /// The block's time is [`CovenantRules::max_age_secs`] ago, or longer.
    #[error("the funding transaction is too old")]
    TooOld,
}

/// A proof that holds if the block `block_hash` has this Merkle root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What makes this payment one: see [`replay_key`].
    pub replay_key: [u8; 32],
    /// Hash of the block to look up, in internal byte order.
    pub block_hash: [u8; 32],
    /// Merkle root that the block must have, in internal byte order.
    pub merkle_root: [u8; 32],
    /// Sum of the parties' outputs, in millisatoshi.
    pub amount_msat: u64,
    /// This node's share of the amount, in millisatoshi; the source's at most what
    /// its output pays it.
    pub share_msat: u64,
    /// This node's output, in millisatoshi; at least the share. 0 for a source
    /// without one.
    pub paid_msat: u64,
}

/// An accepted payment, if its replay key is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// See [`Checked::replay_key`].
    pub replay_key: [u8; 32],
    /// Until when the replay key must be kept, in Unix seconds.
    pub keep_until: u64,
    /// See [`Checked::amount_msat`].
    pub amount_msat: u64,
    /// See [`Checked::share_msat`].
    pub share_msat: u64,
    /// See [`Checked::paid_msat`].
    pub paid_msat: u64,
}

/// Checks everything about a proof but the block header. Reads nothing but its
/// arguments and changes nothing; the cheap rules come first.
///
/// # Errors
/// [`CovenantError`]: the rule that the proof breaks.
pub fn check(
    proof: &CovenantProof<'_>,
    claim: &Claim<'_>,
    rules: &CovenantRules,
) -> Result<Checked, CovenantError> {
    if !rules.ctv_active {
        return Err(CovenantError::NotActive);
    }
    let template = TxView::parse(proof.template).map_err(CovenantError::TemplateMalformed)?;
    let hops = claim.terms.hops.len();
    let paid = claim.purpose.paid(hops);
    let place = place(claim.party, hops, paid).ok_or(CovenantError::NotOnRoute)?;
    let sum_sat = template::check_form(&template, &claim.terms.hash_for(claim.purpose))?;

    let outputs = template.outputs().skip(proof.output_index.into());
    // Change may follow where the source has no share.
    let most = paid + usize::from(claim.purpose == Purpose::Datagram);
    let (amount_sat, own) = parties(outputs, (paid, most), place)?;
    let own = own.filter(|own| own.script_pubkey == claim.payout_script);
    // At most MAX_MONEY satoshi: a thousand times as much fits.
    let amount_msat = amount_sat * 1_000;
    let mut share_msat = claim.purpose.share(amount_msat, hops, claim.party);
    let paid_msat = match (own, claim.party) {
        (Some(own), _) => own.value * 1_000,
        (None, Party::Source) => 0,
        (None, _) => return Err(CovenantError::OutputScript),
    };
    if claim.party == Party::Source {
        // It pays, and may take back less.
        share_msat = share_msat.min(paid_msat);
    } else if paid_msat < share_msat {
        return Err(CovenantError::ShareNotPaid);
    }
    if share_msat < claim.price_msat {
        return Err(CovenantError::PriceNotCovered);
    }

    let funding = TxView::parse(proof.funding).map_err(CovenantError::FundingMalformed)?;
    let txid = funding.txid();
    let vout = check_funding(&funding, &txid, &template, sum_sat, rules)?;
    let merkle_root = root_of(txid, proof.position, proof.siblings)?;
    Ok(Checked {
        replay_key: replay_key(&txid, vout),
        block_hash: proof.block_hash,
        merkle_root,
        amount_msat,
        share_msat,
        paid_msat,
    })
}

impl Checked {
    /// Holds the proof against what is known of its block: from a
    /// [`HeaderStore`](super::headers::HeaderStore), or from the operator's
    /// node. `now` is in Unix seconds; a node without a clock must not accept.
    ///
    /// # Errors
    /// [`CovenantError`]: the block is unknown, too young, too old or another one, or the
    /// Merkle path is wrong.
    pub fn confirm(
        &self,
        block: Option<&KnownHeader>,
        now: u64,
        rules: &CovenantRules,
    ) -> Result<Accepted, CovenantError> {
        let block = block.ok_or(CovenantError::HeaderUnknown)?;
        if block.merkle_root != self.merkle_root {
            return Err(CovenantError::NotInBlock);
        }
        if block.confirmations < rules.min_confirmations.max(1) {
            return Err(CovenantError::Unconfirmed);
        }
        let time = u64::from(block.time);
        if time > now.saturating_add(MAX_FUTURE_SECS) {
            return Err(CovenantError::FromFuture);
        }
        let fresh_until = time + u64::from(rules.max_age_secs);
        if fresh_until <= now {
            return Err(CovenantError::TooOld);
        }
        Ok(Accepted {
            replay_key: self.replay_key,
            keep_until: fresh_until + REORG_MARGIN_SECS,
            amount_msat: self.amount_msat,
            share_msat: self.share_msat,
            paid_msat: self.paid_msat,
        })
    }
}

/// The replay key of a covenant payment: a tagged hash (BIP 340) of the coin
/// that the template spends. A template can be funded twice, and is then two
/// payments; a coin can be spent once. `txid` is in internal byte order.
pub fn replay_key(txid: &[u8; 32], vout: u32) -> [u8; 32] {
    let tag = Sha256::digest(b"blvm-mesh/covenant");
    let mut h = Sha256::new();
    h.update(tag);
    h.update(tag);
    h.update(txid);
    h.update(vout.to_le_bytes());
    h.finalize().into()
}

/// The two scripts that lock a coin by a template hash: `<hash>
/// OP_CHECKTEMPLATEVERIFY` itself, and its witness script hash (BIP 141).
pub fn locking_scripts(hash: &[u8; 32]) -> ([u8; 34], [u8; 34]) {
    let mut bare = [PUSH_32; 34];
    bare[1..33].copy_from_slice(hash);
    bare[33] = OP_CTV;
    let mut wrapped = [0; 34];
    wrapped[1] = PUSH_32;
    wrapped[2..].copy_from_slice(&Sha256::digest(bare));
    (bare, wrapped)
}

/// A party's output, counted from `output_index`.
fn place(party: Party, hops: usize, paid: usize) -> Option<usize> {
    if hops > MAX_HOPS {
        return None;
    }
    match party {
        Party::Intermediate(i) => Some(usize::from(i)).filter(|i| *i < hops),
        Party::Destination => Some(hops).filter(|at| *at < paid),
        Party::Source => Some(paid),
    }
}

/// The sum of the parties' outputs in satoshi, and the one at `place`, which only the
/// source's may lack. The sum of all outputs has been checked, so that this one
/// cannot overflow.
fn parties<'a>(
    outputs: impl Iterator<Item = TxOut<'a>>,
    (least, most): (usize, usize),
    place: usize,
) -> Result<(u64, Option<TxOut<'a>>), CovenantError> {
    // Intermediates, destination and maybe the source; the terms end the list.
    let paid = outputs.take(most).take_while(|o| !template::is_data(o));
    let (mut sum, mut count, mut own) = (0u64, 0, None);
    for (i, output) in paid.enumerate() {
        sum = sum.saturating_add(output.value);
        count = i + 1;
        if i == place {
            own = Some(output);
        }
    }
    if count >= least { Ok((sum, own)) } else { Err(CovenantError::OutputMissing) }
}

/// Checks the coin that the template spends; returns its output number.
fn check_funding(
    funding: &TxView<'_>,
    txid: &[u8; 32],
    template: &TxView<'_>,
    template_sum_sat: u64,
    rules: &CovenantRules,
) -> Result<u32, CovenantError> {
    if funding.stripped_len() == 64 {
        return Err(CovenantError::FundingAmbiguous);
    }
    if funding.inputs().any(|i| i.prev_txid == [0; 32]) {
        return Err(CovenantError::FundingImmature);
    }
    let spent = template.inputs().next().filter(|i| i.prev_txid == *txid);
    let vout = spent.ok_or(CovenantError::FundingNotSpent)?.prev_vout;
    let coin = usize::try_from(vout).ok().and_then(|n| funding.outputs().nth(n));
    let coin = coin.ok_or(CovenantError::FundingNotSpent)?;

    let (bare, wrapped) = locking_scripts(&template_hash(template, 0));
    if coin.script_pubkey != bare && coin.script_pubkey != wrapped {
        return Err(match coin.script_pubkey {
            [PUSH_32, hash @ .., OP_CTV] | [0, PUSH_32, hash @ ..] if hash.len() == 32 => {
                CovenantError::TemplateHash
            }
            _ => CovenantError::FundingScript,
        });
    }
    let fee = coin.value.checked_sub(template_sum_sat).ok_or(CovenantError::FundingTooSmall)?;
    let vbytes = (template.stripped_len() as u64).saturating_add(WITNESS_VBYTES);
    let least = vbytes.saturating_mul(rules.min_fee_sat_per_kvb.into()).div_ceil(1_000);
    if fee < least { Err(CovenantError::FeeTooLow) } else { Ok(vout) }
}

#[cfg(test)]
mod tests;
