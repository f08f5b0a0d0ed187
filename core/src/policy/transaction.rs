//! Walks over a transaction without taking memory for it; the decoder of `bitcoin` allocates.
//!
//! [`Transaction::decode`] accepts what the `bitcoin` crate's consensus decoder
//! accepts (BIP 144); [`Transaction::check`] adds the rules of Bitcoin Core's
//! `CheckTransaction` that need nothing but the transaction, except the search
//! for inputs that are spent twice.

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use crate::hash::{double_sha256, double_sha256_parts};
use bitcoin::Amount;

type Result<T> = core::result::Result<T, Unrecognised>;

/// What a walk over a transaction found out.
pub(super) struct Transaction<'a> {
    /// Offset in the payload.
    at: usize,
    /// The transaction as it stands.
    bytes: &'a [u8],
    /// Inputs and outputs with their counts, without marker and flag.
    body: &'a [u8],
    /// Outputs without their count.
    outputs: &'a [u8],
    /// Witness stacks of all inputs, if it is marked as segwit.
    witness: Option<&'a [u8]>,
    inputs: u64,
    output_count: u64,
    /// Some input spends the null outpoint.
    null_input: bool,
    /// Length of the first input's script.
    first_script: usize,
    /// Every output, and their sum, is within all bitcoin.
    in_range: bool,
}

impl<'a> Transaction<'a> {
    /// Reads one transaction.
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self> {
        let start = *reader;
        reader.take(4)?;
        let mut body = *reader;
        let mut inputs = reader.compact_size()?;
        let segwit = inputs == 0;
        if segwit {
            let flag = *reader;
            if reader.u8()? != 1 {
                return flag.fail(Reason::SegwitFlag);
            }
            body = *reader;
            inputs = reader.compact_size()?;
        }
        let (mut null_input, mut first_script) = (false, 0);
        for i in 0..inputs {
            let outpoint: &[u8; 36] = reader.array()?;
            null_input |= is_null(outpoint);
            let script = reader.var_bytes()?;
            if i == 0 {
                first_script = script.len();
            }
            reader.take(4)?;
        }
        let output_count = reader.compact_size()?;
        let before_outputs = *reader;
        let in_range = walk_outputs(reader, output_count)?;
        let (body, outputs) = (between(&body, reader), between(&before_outputs, reader));
        let mut witness = None;
        if segwit {
            let before = *reader;
            let mut empty = inputs != 0;
            for _ in 0..inputs {
                let items = reader.compact_size()?;
                empty &= items == 0;
                for _ in 0..items {
                    reader.var_bytes()?;
                }
            }
            if empty {
                return before.fail(Reason::WitnessMissing);
            }
            witness = Some(between(&before, reader));
        }
        reader.take(4)?;
        Ok(Self {
            at: start.at(),
            bytes: between(&start, reader),
            body,
            outputs,
            witness,
            inputs,
            output_count,
            null_input,
            first_script,
            in_range,
        })
    }

    /// The rules that every transaction keeps, whatever the chain.
    #[inline(never)]
    pub(super) fn check(&self) -> Result<()> {
        let coinbase = self.is_coinbase();
        let reason = if self.inputs == 0 {
            Reason::NoInputs
        } else if self.output_count == 0 {
            Reason::NoOutputs
        } else if !self.in_range {
            Reason::AmountRange
        } else if self.null_input && !coinbase {
            Reason::NullInput
        } else if coinbase && !(2..=100).contains(&self.first_script) {
            Reason::CoinbaseScript
        } else {
            return Ok(());
        };
        Err(reason.at(self.at))
    }

    /// One input, and it spends nothing.
    pub(super) fn is_coinbase(&self) -> bool {
        self.inputs == 1 && self.null_input
    }

    /// Offset in the payload.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Witness stacks of all inputs in turn; `None` without segwit marker.
    pub(super) fn witness(&self) -> Option<&'a [u8]> {
        self.witness
    }

    /// Weight in the units of BIP 141.
    #[inline(never)]
    pub(super) fn weight(&self) -> usize {
        // Version and lock time stand outside of the body.
        self.body.len().saturating_add(8).saturating_mul(3).saturating_add(self.bytes.len())
    }

    /// Hash of the transaction without its witnesses.
    pub(super) fn txid(&self) -> [u8; 32] {
        match (self.witness, self.bytes.first_chunk::<4>(), self.bytes.last_chunk::<4>()) {
            (Some(_), Some(version), Some(lock)) => {
                double_sha256_parts(&[version, self.body, lock])
            }
            _ => double_sha256(self.bytes),
        }
    }

    /// Hash of the transaction with its witnesses (BIP 141).
    pub(super) fn wtxid(&self) -> [u8; 32] {
        double_sha256(self.bytes)
    }

    /// Scripts of the outputs in turn.
    pub(super) fn output_scripts(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut reader = Reader::new(self.outputs, 0);
        core::iter::from_fn(move || {
            reader.u64().ok()?;
            reader.var_bytes().ok()
        })
    }
}

/// Reads `count` outputs; true if every amount and their sum are within all
/// bitcoin.
pub(super) fn walk_outputs(reader: &mut Reader<'_>, count: u64) -> Result<bool> {
    let mut sum = 0u64;
    for _ in 0..count {
        // Saturating, and so never back in range after leaving it.
        sum = sum.saturating_add(reader.u64()?);
        reader.var_bytes()?;
    }
    Ok(sum <= Amount::MAX_MONEY.to_sat())
}

/// Hash of zeros and index 0xffffffff.
fn is_null(outpoint: &[u8; 36]) -> bool {
    let (hash, index) = outpoint.split_at(32);
    index == [0xff; 4] && hash == [0; 32]
}

/// What was read from one reader's place to another's.
fn between<'a>(from: &Reader<'a>, to: &Reader<'a>) -> &'a [u8] {
    let length = to.at().saturating_sub(from.at());
    from.rest().get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::samples::*;
    use super::*;
    use bitcoin::consensus::encode::{deserialize, deserialize_partial, serialize};
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, TxIn, TxOut, Witness};
    use proptest::collection::vec;
    use proptest::prelude::*;
    use std::vec::Vec;

    const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

    fn decode(bytes: &[u8]) -> Result<(Transaction<'_>, usize)> {
        let mut reader = Reader::new(bytes, 0);
        Transaction::decode(&mut reader).map(|transaction| (transaction, reader.at()))
    }

    /// Accepted or not as by the `bitcoin` crate, and found to be the same.
    fn agrees(bytes: &[u8]) -> core::result::Result<bool, TestCaseError> {
        match (decode(bytes), deserialize_partial::<bitcoin::Transaction>(bytes)) {
            (Ok((ours, length)), Ok((theirs, used))) => {
                prop_assert_eq!(length, used);
                prop_assert_eq!(ours.txid(), theirs.compute_txid().to_byte_array());
                prop_assert_eq!(ours.wtxid(), theirs.compute_wtxid().to_byte_array());
                prop_assert_eq!(ours.weight() as u64, theirs.weight().to_wu());
                prop_assert_eq!(ours.is_coinbase(), theirs.is_coinbase());
                prop_assert_eq!(ours.witness().is_some(), bytes[4] == 0);
                let scripts: Vec<_> = ours.output_scripts().collect();
                let expected: Vec<_> =
                    theirs.output.iter().map(|out| out.script_pubkey.as_bytes()).collect();
                prop_assert_eq!(scripts, expected);
                Ok(true)
            }
            (Err(_), Err(_)) => Ok(false),
            (ours, theirs) => {
                let ours = ours.map(|(_, used)| used);
                Err(TestCaseError::fail(std::format!("{ours:?}, but {theirs:?}")))
            }
        }
    }

    /// Transactions of every shape, with few inputs and outputs.
    fn any_transaction() -> impl Strategy<Value = bitcoin::Transaction> {
        let bytes = || vec(any::<u8>(), 0..5);
        let input = (any::<bool>(), bytes(), vec(bytes(), 0..3), any::<u32>());
        let input = input.prop_map(|(null, script, witness, sequence)| TxIn {
            previous_output: if null {
                OutPoint::null()
            } else {
                OutPoint { vout: 1, ..OutPoint::null() }
            },
            script_sig: ScriptBuf::from_bytes(script),
            sequence: Sequence(sequence),
            witness: Witness::from_slice(&witness),
        });
        let amount = prop_oneof![0..=MAX_MONEY, MAX_MONEY / 2..=MAX_MONEY + 1, any::<u64>()];
        let output = (amount, bytes()).prop_map(|(value, script)| TxOut {
            value: Amount::from_sat(value),
            script_pubkey: ScriptBuf::from_bytes(script),
        });
        (vec(input, 0..4), vec(output, 0..4), any::<u32>()).prop_map(|(input, output, lock)| {
            bitcoin::Transaction {
                version: bitcoin::transaction::Version::TWO,
                lock_time: bitcoin::absolute::LockTime::from_consensus(lock),
                input,
                output,
            }
        })
    }

    /// `CheckTransaction` of Bitcoin Core, over the other crate's types.
    fn keeps_the_rules(transaction: &bitcoin::Transaction) -> bool {
        let sum = transaction.output.iter().map(|out| u128::from(out.value.to_sat())).sum::<u128>();
        let null = |input: &TxIn| input.previous_output.is_null();
        !transaction.input.is_empty()
            && !transaction.output.is_empty()
            && sum <= u128::from(MAX_MONEY)
            && match transaction.is_coinbase() {
                true => (2..=100).contains(&transaction.input[0].script_sig.len()),
                false => !transaction.input.iter().any(null),
            }
    }

    proptest! {
        #[test]
        fn transactions_of_every_shape(transaction in any_transaction(), cut: prop::sample::Index) {
            let bytes = serialize(&transaction);
            // Without inputs and with the marker it cannot be misread; the crate
            // always writes it so.
            prop_assert!(agrees(&bytes)?);
            let (ours, _) = decode(&bytes).unwrap();
            prop_assert_eq!(ours.check().is_ok(), keeps_the_rules(&transaction));
            prop_assert!(!agrees(&bytes[..cut.index(bytes.len())])?);
        }

        #[test]
        fn edited_transactions(
            transaction in any_transaction(),
            edits in vec((any::<prop::sample::Index>(), prop_oneof![0..3u8, 0xfc..=0xffu8, any::<u8>()]), 1..4),
            more in vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = serialize(&transaction);
            for (at, to) in edits {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            bytes.extend(more);
            agrees(&bytes)?;
        }

        #[test]
        fn small_numbers(bytes in vec(prop_oneof![8 => 0..3u8, 1 => any::<u8>()], 0..150)) {
            agrees(&bytes)?;
        }

        #[test]
        fn edited_real_transactions(at: prop::sample::Index, to: u8) {
            for text in [SEGWIT_TX, &TX_MESSAGE[48..]] {
                let mut bytes = bytes(text);
                let at = at.index(bytes.len());
                bytes[at] = to;
                agrees(&bytes)?;
            }
        }
    }

    #[test]
    fn a_segwit_transaction_of_the_main_network() {
        let bytes = bytes(SEGWIT_TX);
        assert!(agrees(&bytes).unwrap());
        let (transaction, length) = decode(&bytes).unwrap();
        assert_eq!(length, bytes.len());
        assert_eq!(transaction.check(), Ok(()));
        assert_eq!(transaction.inputs, 3);
    }

    #[test]
    fn reasons_name_the_rule() {
        let reason = |bytes: &[u8]| decode(bytes).err().unwrap();
        let mut flag = bytes(SEGWIT_TX);
        flag[5] = 2;
        assert_eq!(reason(&flag), Reason::SegwitFlag.at(5));
        // One input, no output, an empty witness stack.
        let mut idle = std::vec![2, 0, 0, 0, 0, 1, 1];
        idle.extend([7; 36]);
        idle.extend([0, 0, 0, 0, 0]);
        idle.extend([0, 0]);
        idle.extend([0; 4]);
        assert_eq!(reason(&idle).reason, Reason::WitnessMissing);
        let coinbase = bitcoin::constants::genesis_block(bitcoin::Network::Bitcoin).txdata;
        let rule = |edit: &dyn Fn(&mut bitcoin::Transaction)| {
            let mut transaction = coinbase[0].clone();
            edit(&mut transaction);
            decode(&serialize(&transaction)).unwrap().0.check().unwrap_err().reason
        };
        assert_eq!(rule(&|t| t.input.clear()), Reason::NoInputs);
        assert_eq!(rule(&|t| t.output.clear()), Reason::NoOutputs);
        assert_eq!(
            rule(&|t| t.output[0].value = Amount::from_sat(MAX_MONEY + 1)),
            Reason::AmountRange
        );
        assert_eq!(rule(&|t| t.input.push(t.input[0].clone())), Reason::NullInput);
        assert_eq!(
            rule(&|t| t.input[0].script_sig = ScriptBuf::from_bytes(std::vec![1; 101])),
            Reason::CoinbaseScript
        );
        assert!(deserialize::<bitcoin::Transaction>(&serialize(&coinbase[0])).is_ok());
    }
}
