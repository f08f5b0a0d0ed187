//! Transactions of every common kind, with keys of one's own, and blocks that hold them.

use super::Bitcoind;
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::key::{Keypair, TapTweak};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::secp256k1::{All, Message, Secp256k1, SecretKey};
use bitcoin::sighash::{EcdsaSighashType, Prevouts, SighashCache, TapSighashType};
use bitcoin::taproot::{LeafVersion, TaprootBuilder, TaprootSpendInfo};
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, Block, BlockHash, CompactTarget, Network, OutPoint, PublicKey, ScriptBuf,
    Sequence, Transaction, TxIn, TxMerkleNode, TxOut, WPubkeyHash, Witness,
};
use serde_json::json;

/// What is left to the miner by a transaction, in satoshis.
pub const FEE: u64 = 20_000;

/// A way to lock a coin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// P2PKH.
    Legacy,
    /// P2SH of a script that anybody satisfies.
    ScriptHash,
    /// P2WPKH inside of P2SH.
    Nested,
    /// P2WPKH.
    SegwitV0,
    /// P2WSH of a script that anybody satisfies.
    WitnessScriptHash,
    /// P2TR, spent by its key.
    TaprootKey,
    /// P2TR, spent by a script.
    TaprootScript,
    /// P2A: spent without anything.
    Anchor,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Legacy,
        Self::ScriptHash,
        Self::Nested,
        Self::SegwitV0,
        Self::WitnessScriptHash,
        Self::TaprootKey,
        Self::TaprootScript,
        Self::Anchor,
    ];
}

/// Something to spend.
#[derive(Debug, Clone)]
pub struct Coin {
    /// Where it is.
    pub outpoint: OutPoint,
    /// Its value, in satoshis.
    pub value: u64,
    /// How it is locked.
    pub kind: Kind,
}

/// One key, and the scripts that it opens.
pub struct Wallet {
    secp: Secp256k1<All>,
    key: Keypair,
    taproot: TaprootSpendInfo,
}

impl Default for Wallet {
    fn default() -> Self {
        Self::new()
    }
}

impl Wallet {
    /// The same wallet every time.
    ///
    /// # Panics
    /// Never: its key is one.
    pub fn new() -> Self {
        let secp = Secp256k1::new();
        let secret = SecretKey::from_slice(&[0x42; 32]).expect("a key");
        let key = Keypair::from_secret_key(&secp, &secret);
        let builder = TaprootBuilder::new().add_leaf(0, anybody()).expect("one leaf");
        let (internal, _) = key.x_only_public_key();
        let taproot = builder.finalize(&secp, internal).expect("a whole tree");
        Self { secp, key, taproot }
    }

    fn public_key(&self) -> PublicKey {
        PublicKey::new(self.key.public_key())
    }

    fn key_hash(&self) -> WPubkeyHash {
        self.public_key().wpubkey_hash().expect("it is compressed")
    }

    /// What an output of this kind is locked with.
    pub fn script(&self, kind: Kind) -> ScriptBuf {
        match kind {
            Kind::Legacy => ScriptBuf::new_p2pkh(&self.public_key().pubkey_hash()),
            Kind::ScriptHash => ScriptBuf::new_p2sh(&anybody().script_hash()),
            Kind::Nested => {
                ScriptBuf::new_p2sh(&ScriptBuf::new_p2wpkh(&self.key_hash()).script_hash())
            }
            Kind::SegwitV0 => ScriptBuf::new_p2wpkh(&self.key_hash()),
            Kind::WitnessScriptHash => ScriptBuf::new_p2wsh(&anybody().wscript_hash()),
            Kind::TaprootKey | Kind::TaprootScript => {
                ScriptBuf::new_p2tr_tweaked(self.taproot.output_key())
            }
            Kind::Anchor => ScriptBuf::from(vec![0x51, 2, 0x4e, 0x73]),
        }
    }

    /// The address that blocks pay to: [`Kind::SegwitV0`].
    ///
    /// # Panics
    /// Never: the script has an address.
    pub fn address(&self) -> String {
        let script = self.script(Kind::SegwitV0);
        Address::from_script(&script, Network::Regtest).expect("an address").to_string()
    }

    /// An output.
    pub fn output(&self, kind: Kind, value: u64) -> TxOut {
        TxOut { value: Amount::from_sat(value), script_pubkey: self.script(kind) }
    }

    /// The coins of these kinds that a transaction has made, in the order of its outputs.
    pub fn coins(transaction: &Transaction, kinds: &[Kind]) -> Vec<Coin> {
        let txid = transaction.compute_txid();
        let coin = |(vout, (output, kind)): (usize, (&TxOut, &Kind))| Coin {
            outpoint: OutPoint { txid, vout: vout as u32 },
            value: output.value.to_sat(),
            kind: *kind,
        };
        transaction.output.iter().zip(kinds).enumerate().map(coin).collect()
    }

    /// A signed transaction.
    ///
    /// # Panics
    /// If the coins are not this wallet's.
    pub fn spend(&self, coins: &[Coin], output: Vec<TxOut>) -> Transaction {
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let mut transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output,
        };
        let spent: Vec<TxOut> = coins.iter().map(|c| self.output(c.kind, c.value)).collect();
        let signed: Vec<_> =
            (0..coins.len()).map(|at| self.sign(&transaction, at, &coins[at], &spent)).collect();
        for (input, (script_sig, witness)) in transaction.input.iter_mut().zip(signed) {
            (input.script_sig, input.witness) = (script_sig, witness);
        }
        transaction
    }

    fn sign(
        &self,
        transaction: &Transaction,
        at: usize,
        coin: &Coin,
        spent: &[TxOut],
    ) -> (ScriptBuf, Witness) {
        let mut cache = SighashCache::new(transaction);
        let (kind, value) = (EcdsaSighashType::All, Amount::from_sat(coin.value));
        let push = |script: &ScriptBuf| {
            let bytes = PushBytesBuf::try_from(script.to_bytes()).expect("it is short");
            Builder::new().push_slice(bytes).into_script()
        };
        match coin.kind {
            Kind::Legacy => {
                let script = self.script(coin.kind);
                let hash = cache.legacy_signature_hash(at, &script, kind.to_u32()).expect("input");
                let signature = self.ecdsa(hash.to_byte_array());
                let signature = PushBytesBuf::try_from(signature.to_vec()).expect("it is short");
                let key =
                    PushBytesBuf::try_from(self.public_key().to_bytes()).expect("it is short");
                let script = Builder::new().push_slice(signature).push_slice(key).into_script();
                (script, Witness::new())
            }
            Kind::Nested | Kind::SegwitV0 => {
                let program = ScriptBuf::new_p2wpkh(&self.key_hash());
                let hash = cache.p2wpkh_signature_hash(at, &program, value, kind).expect("input");
                let signature = self.ecdsa(hash.to_byte_array());
                let witness = Witness::p2wpkh(&signature, &self.key.public_key());
                let nested = coin.kind == Kind::Nested;
                (if nested { push(&program) } else { ScriptBuf::new() }, witness)
            }
            Kind::ScriptHash => (push(&anybody()), Witness::new()),
            Kind::WitnessScriptHash => {
                (ScriptBuf::new(), Witness::from_slice(&[anybody().as_bytes()]))
            }
            Kind::TaprootKey => {
                let hash = cache.taproot_key_spend_signature_hash(
                    at,
                    &Prevouts::All(spent),
                    TapSighashType::Default,
                );
                let message = Message::from_digest(hash.expect("input").to_byte_array());
                let key = self.key.tap_tweak(&self.secp, self.taproot.merkle_root());
                let signature = bitcoin::taproot::Signature {
                    signature: self.secp.sign_schnorr_no_aux_rand(&message, &key.to_keypair()),
                    sighash_type: TapSighashType::Default,
                };
                (ScriptBuf::new(), Witness::p2tr_key_spend(&signature))
            }
            Kind::TaprootScript => {
                let leaf = (anybody(), LeafVersion::TapScript);
                let control = self.taproot.control_block(&leaf).expect("a leaf").serialize();
                let witness = Witness::from_slice(&[anybody().as_bytes(), &control]);
                (ScriptBuf::new(), witness)
            }
            Kind::Anchor => (ScriptBuf::new(), Witness::new()),
        }
    }

    fn ecdsa(&self, hash: [u8; 32]) -> bitcoin::ecdsa::Signature {
        let signature = self.secp.sign_ecdsa(&Message::from_digest(hash), &self.key.secret_key());
        bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All }
    }
}

/// A script that everybody satisfies.
fn anybody() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

/// The block at this height.
///
/// # Panics
/// If the node has none.
pub fn block_at(node: &Bitcoind, height: u64) -> Block {
    let hash = node.text("getblockhash", json!([height]));
    deserialize_hex(&node.text("getblock", json!([hash, 0]))).expect("a block")
}

/// A block on top of the node's chain, which the node does not have yet.
///
/// # Panics
/// If the node does not answer.
pub fn mine(node: &Bitcoind, transactions: Vec<Transaction>) -> Block {
    let tip = node.text("getbestblockhash", json!([]));
    let header = node.call("getblockheader", json!([tip]));
    let height = header["height"].as_i64().expect("a height") + 1;
    let time = header["time"].as_u64().expect("a time") + 1;
    let reserved = [0; 32];
    let coinbase = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(height).push_int(0).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[reserved]),
        }],
        output: vec![TxOut { value: Amount::ZERO, script_pubkey: anybody() }],
    };
    let mut block = Block {
        header: Header {
            version: BlockVersion::NO_SOFT_FORK_SIGNALLING,
            prev_blockhash: tip.parse::<BlockHash>().expect("a hash"),
            merkle_root: TxMerkleNode::all_zeros(),
            time: u32::try_from(time).expect("before 2106"),
            bits: CompactTarget::from_consensus(0x207f_ffff),
            nonce: 0,
        },
        txdata: [vec![coinbase], transactions].concat(),
    };
    // BIP 141, "Commitment structure".
    let root = block.witness_root().expect("there is a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &reserved);
    let commitment = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment.to_byte_array()[..]];
    let script_pubkey = ScriptBuf::from(commitment.concat());
    block.txdata[0].output.push(TxOut { value: Amount::ZERO, script_pubkey });
    block.header.merkle_root = block.compute_merkle_root().expect("there is a coinbase");
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce += 1;
    }
    block
}

/// Coins that can be spent: 101 blocks are mined for it.
///
/// # Panics
/// If the node does not answer.
pub fn rewards(node: &Bitcoind, wallet: &Wallet) -> Vec<Coin> {
    node.call("generatetoaddress", json!([101, wallet.address()]));
    let reward = block_at(node, 1).txdata.remove(0);
    Wallet::coins(&reward, &[Kind::SegwitV0])
}

/// Puts blocks on top of the node's chain, each with a transaction that spends some of the coins to
/// new ones of every kind.
///
/// # Panics
/// If the node refuses one.
pub fn grow(node: &Bitcoind, wallet: &Wallet, coins: &mut Vec<Coin>, blocks: usize) {
    for _ in 0..blocks {
        let spent: Vec<Coin> = coins.drain(..coins.len().min(4)).collect();
        let value: u64 = spent.iter().map(|coin| coin.value).sum();
        let each = (value - FEE) / Kind::ALL.len() as u64;
        let outputs = Kind::ALL.iter().map(|kind| wallet.output(*kind, each)).collect();
        let transaction = wallet.spend(&spent, outputs);
        coins.extend(Wallet::coins(&transaction, &Kind::ALL));
        let block = mine(node, vec![transaction]);
        assert!(node.call("submitblock", json!([serialize_hex(&block)])).is_null());
    }
}

/// Gives the node a transaction by RPC.
///
/// # Panics
/// If the node refuses it.
pub fn submit(node: &Bitcoind, transaction: &Transaction) {
    node.call("sendrawtransaction", json!([serialize_hex(transaction), 0]));
}
