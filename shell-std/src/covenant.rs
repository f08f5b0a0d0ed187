//! Making a covenant payment: the BIP 119 template that pays a quoted route, and the proof
//! of it once it is funded and in a block.
//!
//! Neither hellos nor quotes tell where a relay wants to be paid to: the payer asks each
//! operator (`blvm-mesh id` shows it). All amounts of a template are whole satoshi and exact
//! shares; so the amount is rounded up from the quote's.

use crate::rpc::types::Quote;
use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::{Hash, HashEngine, sha256d};
use bitcoin::merkle_tree::{MerkleBlockError, PartialMerkleTree};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, MerkleBlock, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Txid, Witness,
};
use blvm_mesh_core::id::HopId;
use blvm_mesh_core::payment::covenant::{
    Claim, CovenantError, CovenantProof, CovenantRules, check, dust_limit, locking_scripts,
    proof::ProofError, terms_script,
};
use blvm_mesh_core::payment::ctv::ctv_hash;
use blvm_mesh_core::payment::fee::{FeeDistribution, Party};
use blvm_mesh_core::payment::proof::{ForAccounts, PaymentProof};
use blvm_mesh_core::payment::terms::{Purpose, Terms};
use blvm_mesh_core::payment::tx::TxError;

/// Where a party of a route wants to be paid to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// The short form of its identity, as quotes name it.
    pub node: HopId,
    /// Its locking script.
    pub script: ScriptBuf,
}

/// Why there is no template or no proof.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CovenantMakeError {
    /// A party without a payout.
    #[error(
        "no payout is given for {node}, which is on the route: ask its operator, who sees it \
         with `blvm-mesh id`"
    )]
    NoPayout {
        /// The party.
        node: HopId,
    },
    /// A payout without a party, or a second one.
    #[error("the payout for {0} belongs to nobody else on the quoted route")]
    StrayPayout(HopId),
    /// No such amount exists.
    #[error("the amount is larger than can be paid")]
    TooLarge,
    /// A party would not accept the payment.
    #[error("{node} would refuse it: {error}")]
    Refused {
        /// The party.
        node: HopId,
        /// Why.
        error: CovenantError,
    },
    /// The funding transaction does not fund this template.
    #[error("no output of the funding transaction is locked by the template's hash")]
    NotFunded,
    /// What should prove that the funding transaction is in a block proves nothing.
    #[error("the proof of inclusion does not hold: {0}")]
    Inclusion(String),
    /// It proves something about other transactions.
    #[error("the proof of inclusion is not about the funding transaction {0}")]
    OtherTransaction(Txid),
    /// It does not fit into a packet, or is no proof.
    #[error("{0}")]
    Proof(ProofError),
    /// It is no transaction of which a template hash can be.
    #[error("the template is malformed: {0}")]
    Template(TxError),
}

impl From<ProofError> for CovenantMakeError {
    fn from(e: ProofError) -> Self {
        Self::Proof(e)
    }
}

impl From<MerkleBlockError> for CovenantMakeError {
    fn from(e: MerkleBlockError) -> Self {
        Self::Inclusion(e.to_string())
    }
}

/// A transaction that pays every party of a route, still without a coin to spend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    transaction: Transaction,
    hash: [u8; 32],
}

/// A payment that can be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The proof as a packet carries it, without the byte for its kind.
    pub proof: Vec<u8>,
    /// The template with its coin: anyone can broadcast it, and then the parties are paid.
    pub settlement: Transaction,
    /// Hash of the block with the funding transaction.
    pub block_hash: bitcoin::BlockHash,
}

/// A route, and where each of its parties is paid to.
struct Route<'a> {
    quote: &'a Quote,
    /// In the order of the template's outputs.
    parties: Vec<(HopId, Party, ScriptBuf)>,
}

impl<'a> Route<'a> {
    fn new(quote: &'a Quote, payouts: &[Payout]) -> Result<Self, CovenantMakeError> {
        let hops = (0..=u8::MAX).zip(&quote.hops).map(|(i, hop)| (*hop, Party::Intermediate(i)));
        let ends =
            [(quote.destination.hop(), Party::Destination), (quote.source.hop(), Party::Source)];
        let mut left: Vec<&Payout> = payouts.iter().collect();
        let mut parties = Vec::new();
        for (node, party) in hops.chain(ends) {
            let at = left.iter().position(|payout| payout.node == node);
            let payout = at.map(|at| left.remove(at));
            let script = payout.ok_or(CovenantMakeError::NoPayout { node })?.script.clone();
            parties.push((node, party, script));
        }
        match left.first() {
            Some(stray) => Err(CovenantMakeError::StrayPayout(stray.node)),
            None => Ok(Self { quote, parties }),
        }
    }

    /// Checks a proof as each party on the route does, up to what the block's header says.
    /// Gives the Merkle root that the header must have.
    fn check(&self, proof: &[u8]) -> Result<[u8; 32], CovenantMakeError> {
        let proof = CovenantProof::parse(proof)?;
        let rules = CovenantRules::new(self.quote.network);
        let terms = Terms {
            network: self.quote.network,
            source: self.quote.source,
            destination: self.quote.destination,
            hops: &self.quote.hops,
            quota: self.quote.bytes,
        };
        let mut root = [0; 32];
        for (node, party, script) in &self.parties {
            let share = self.quote.shares.iter().find(|share| share.node == *node);
            let claim = Claim {
                terms: &terms,
                purpose: Purpose::Datagram,
                party: *party,
                payout_script: script.as_bytes(),
                price_msat: share.map_or(0, |share| share.price_msat),
            };
            let checked = check(&proof, &claim, &rules);
            let refused = |error| CovenantMakeError::Refused { node: *node, error };
            root = checked.map_err(refused)?.merkle_root;
        }
        Ok(root)
    }
}

impl Template {
    /// The template for a quote: pays the intermediates in travel order, the destination and
    /// the source, and commits to the terms. `fee_rate` is in satoshi per 1,000 virtual bytes.
    ///
    /// # Errors
    /// [`CovenantMakeError::NoPayout`], [`CovenantMakeError::StrayPayout`],
    /// [`CovenantMakeError::TooLarge`], and [`CovenantMakeError::Refused`], as by a party whose
    /// payout is no standard script.
    pub fn new(
        quote: &Quote,
        payouts: &[Payout],
        fee_rate: u64,
    ) -> Result<Self, CovenantMakeError> {
        let route = Route::new(quote, payouts)?;
        let hops = quote.hops.len();
        // Of this amount every share is a whole number of satoshi, and of its multiples.
        let unit_sat = 10 * hops.max(1) as u64;
        let unit = FeeDistribution::new(unit_sat * 1_000, hops);
        let unit = unit.ok_or(CovenantMakeError::TooLarge)?;
        let part = |party: Party| unit.get(party) / 1_000;
        let least = route
            .parties
            .iter()
            .map(|(_, party, script)| dust_limit(script.as_bytes()).div_ceil(part(*party).max(1)));
        let times = quote.amount_msat.div_ceil(unit_sat * 1_000).max(least.max().unwrap_or(1));
        let amount = times.checked_mul(unit_sat).filter(|sat| *sat <= Amount::MAX_MONEY.to_sat());
        let amount_sat = amount.ok_or(CovenantMakeError::TooLarge)?;

        let terms = ScriptBuf::from(terms_script(&quote.terms_hash).to_vec());
        let paid = route.parties.iter().map(|(_, party, script)| TxOut {
            // Less than the whole amount.
            value: Amount::from_sat(part(*party) * times),
            script_pubkey: script.clone(),
        });
        let bound = TxOut { value: Amount::ZERO, script_pubkey: terms };
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn { sequence: Sequence::ENABLE_RBF_NO_LOCKTIME, ..TxIn::default() }],
            output: paid.chain([bound]).collect(),
        };
        let template = Self::from_transaction(transaction)?;
        let fund_sat = template.fee_sat(fee_rate).and_then(|fee| fee.checked_add(amount_sat));
        route.check(&template.on_trial(fund_sat.ok_or(CovenantMakeError::TooLarge)?)?)?;
        Ok(template)
    }

    /// Least that the coin for a quote must be worth, in satoshi: with the shortest of today's
    /// scripts for every party. `None` where no covenant pays for it.
    pub fn least_sat(quote: &Quote, fee_rate: u64) -> Option<u64> {
        // Any key will do: the output is as long, and its dust limit the same.
        let script = || ScriptBuf::from([&[0x51, 0x20][..], &[2; 32]].concat());
        let parties = [quote.source.hop(), quote.destination.hop()];
        let nodes = parties.into_iter().chain(quote.hops.iter().copied());
        let payouts: Vec<_> = nodes.map(|node| Payout { node, script: script() }).collect();
        let template = Self::new(quote, &payouts, fee_rate).ok()?;
        template.fee_sat(fee_rate)?.checked_add(template.amount_sat())
    }

    /// A template that was made before. What is wrong with it shows in [`Self::paid`].
    ///
    /// # Errors
    /// [`CovenantMakeError::Template`].
    pub fn from_transaction(transaction: Transaction) -> Result<Self, CovenantMakeError> {
        let hash = ctv_hash(&serialize(&transaction), 0).map_err(CovenantMakeError::Template)?;
        Ok(Self { transaction, hash })
    }

    /// The transaction; its input spends nothing yet.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Its template hash (BIP 119).
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// What it pays the parties together, in satoshi.
    pub fn amount_sat(&self) -> u64 {
        self.transaction.output.iter().fold(0, |sum, o| o.value.to_sat().saturating_add(sum))
    }

    /// What miners are to get at so many satoshi per 1,000 virtual bytes, in satoshi; `None`
    /// if that is more than 2^64.
    pub fn fee_sat(&self, fee_rate: u64) -> Option<u64> {
        let vsize = self.spending(OutPoint::null(), true).vsize() as u64;
        vsize.checked_mul(fee_rate).map(|fee| fee.div_ceil(1_000))
    }

    /// The scripts of which one must lock the coin: bare, and as a witness script hash. Only
    /// the latter has an address and is relayed everywhere.
    pub fn locking_scripts(&self) -> (ScriptBuf, ScriptBuf) {
        let (bare, wrapped) = locking_scripts(&self.hash);
        (ScriptBuf::from(bare.to_vec()), ScriptBuf::from(wrapped.to_vec()))
    }

    /// The proof that `funding` funds this template for `quote`, by what `gettxoutproof` of
    /// Bitcoin Core says about it. It is checked as every party on the route will.
    ///
    /// # Errors
    /// Any but [`CovenantMakeError::TooLarge`].
    pub fn paid(
        &self,
        quote: &Quote,
        payouts: &[Payout],
        funding: &Transaction,
        inclusion: &MerkleBlock,
    ) -> Result<Paid, CovenantMakeError> {
        let route = Route::new(quote, payouts)?;
        let (position, siblings) = branch(inclusion, funding.compute_txid())?;
        let block_hash = inclusion.header.block_hash();
        let proof = self.proof(funding, block_hash.to_byte_array(), position, &siblings)?;
        let root = route.check(&proof)?;
        if root != inclusion.header.merkle_root.to_byte_array() {
            // Unreachable while `branch` and the state machine agree on what a path is.
            return Err(CovenantMakeError::Inclusion("it leads to another Merkle root".into()));
        }
        let (outpoint, wrapped) = self.coin(funding)?;
        Ok(Paid { proof, settlement: self.spending(outpoint, wrapped), block_hash })
    }

    /// The output that is locked by this template, and whether as a witness script hash.
    fn coin(&self, funding: &Transaction) -> Result<(OutPoint, bool), CovenantMakeError> {
        let (bare, wrapped) = self.locking_scripts();
        let outputs = (0u32..).zip(&funding.output);
        let mut coins = outputs
            .filter(|(_, output)| output.script_pubkey == bare || output.script_pubkey == wrapped);
        let (vout, output) = coins.next().ok_or(CovenantMakeError::NotFunded)?;
        let outpoint = OutPoint { txid: funding.compute_txid(), vout };
        Ok((outpoint, output.script_pubkey == wrapped))
    }

    /// The template spending a coin, complete.
    fn spending(&self, coin: OutPoint, wrapped: bool) -> Transaction {
        let mut transaction = self.transaction.clone();
        for input in &mut transaction.input {
            input.previous_output = coin;
            if wrapped {
                let (bare, _) = self.locking_scripts();
                input.witness = Witness::from_slice(&[bare.as_bytes()]);
            }
        }
        transaction
    }

    fn proof(
        &self,
        funding: &Transaction,
        block_hash: [u8; 32],
        position: u32,
        siblings: &[u8],
    ) -> Result<Vec<u8>, CovenantMakeError> {
        let (coin, _) = self.coin(funding)?;
        let mut funding = funding.clone();
        // Without witness it is shorter, and its identity the same.
        funding.input.iter_mut().for_each(|input| input.witness.clear());
        let (template, funding) = (serialize(&self.spending(coin, false)), serialize(&funding));
        let proof = CovenantProof {
            output_index: 0,
            template: &template,
            funding: &funding,
            block_hash,
            position,
            siblings,
        };
        let mut bytes = vec![0; proof.encoded_len()];
        proof.emit(&mut bytes)?;
        Ok(bytes)
    }

    /// A proof with a funding transaction that was never made, to see what the parties will
    /// say of this template.
    fn on_trial(&self, fund_sat: u64) -> Result<Vec<u8>, CovenantMakeError> {
        let previous_output = OutPoint { txid: Txid::from_byte_array([1; 32]), vout: 0 };
        let funding = Transaction {
            input: vec![TxIn { previous_output, ..TxIn::default() }],
            output: vec![TxOut {
                value: Amount::from_sat(fund_sat),
                script_pubkey: self.locking_scripts().1,
            }],
            ..self.transaction.clone()
        };
        self.proof(&funding, [0; 32], 0, &[])
    }
}

/// The transaction that pays the parties of a proof, with what unlocks its coin: whoever has
/// a share in it can broadcast it. `None` where the proof holds none; one that was accepted does.
pub fn settlement(proof: &CovenantProof<'_>) -> Option<Transaction> {
    let transaction: Transaction = deserialize(proof.template).ok()?;
    let funding: Transaction = deserialize(proof.funding).ok()?;
    let coin = transaction.input.first()?.previous_output;
    let output = funding.output.get(usize::try_from(coin.vout).ok()?)?;
    let template = Template::from_transaction(transaction).ok()?;
    let wrapped = output.script_pubkey == template.locking_scripts().1;
    Some(template.spending(coin, wrapped))
}

/// The same for an encoded proof of payment, which may be another one.
pub(crate) fn settlement_of(proof: &[u8]) -> Option<Transaction> {
    let (_, proof) = ForAccounts::split(proof).ok()?;
    match PaymentProof::parse(proof) {
        Ok(PaymentProof::InstantSettlement(proof)) => settlement(&proof),
        _ => None,
    }
}

/// Place and siblings, from the bottom up, of a transaction that a CMerkleBlock (BIP 37)
/// proves to be in a block. The tree is checked against the header's Merkle root.
fn branch(inclusion: &MerkleBlock, txid: Txid) -> Result<(u32, Vec<u8>), CovenantMakeError> {
    let (mut found, mut places) = (Vec::new(), Vec::new());
    inclusion.extract_matches(&mut found, &mut places)?;
    let place = found.iter().zip(places).find(|(id, _)| **id == txid).map(|(_, place)| place);
    let position = place.ok_or(CovenantMakeError::OtherTransaction(txid))?;
    let mut walk = Walk::new(&inclusion.txn, position);
    let height = (0..32).find(|height| walk.width(*height) <= 1).unwrap_or_default();
    let short = || CovenantMakeError::Inclusion("it ends too early".into());
    walk.node(height, 0).ok_or_else(short)?;
    Ok((position, walk.siblings))
}

/// Walks over a partial tree as BIP 37 writes it down: depth first, a bit per node, a hash
/// where nothing below is of interest.
struct Walk<'a> {
    count: u64,
    bits: std::slice::Iter<'a, bool>,
    hashes: std::slice::Iter<'a, TxMerkleNode>,
    position: u64,
    siblings: Vec<u8>,
}

impl<'a> Walk<'a> {
    fn new(tree: &'a PartialMerkleTree, position: u32) -> Self {
        Self {
            count: tree.num_transactions().into(),
            bits: tree.bits().iter(),
            hashes: tree.hashes().iter(),
            position: position.into(),
            siblings: Vec::new(),
        }
    }

    /// Number of nodes in the row so far above the transactions.
    fn width(&self, height: u32) -> u64 {
        self.count.div_ceil(1 << height)
    }

    /// The hash of a node; `None` if the tree ends before.
    fn node(&mut self, height: u32, place: u64) -> Option<[u8; 32]> {
        let opened = *self.bits.next()?;
        let Some(below) = height.checked_sub(1).filter(|_| opened) else {
            return self.hashes.next().map(|hash| hash.to_byte_array());
        };
        let left = self.node(below, 2 * place)?;
        let right = match 2 * place + 1 < self.width(below) {
            true => self.node(below, 2 * place + 1)?,
            false => left,
        };
        if self.position >> height == place {
            let is_right = (self.position >> below) & 1 == 1;
            self.siblings.extend(if is_right { left } else { right });
        }
        let mut engine = sha256d::Hash::engine();
        engine.input(&left);
        engine.input(&right);
        Some(sha256d::Hash::from_engine(engine).to_byte_array())
    }
}

#[cfg(test)]
pub(crate) mod tests;
