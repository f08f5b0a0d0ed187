//! A Bitcoin transaction as a view of its bytes: checked once, never copied.
//!
//! Accepts what a block can hold: the network serialisation without witness or
//! with it (BIP 144), canonical length prefixes, at least one input and one
//! output, nothing after the end. Memory use is constant; time is linear in the
//! bytes given, whatever the counts in them claim. The transactions of `bitcoin` own their
//! parts, which takes an allocator.

use crate::hash::double_sha256_parts;

/// Why bytes are not a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum TxError {
    /// A field or a count reaches past the end.
    #[error("the transaction ends too early")]
    Truncated,
    /// Bytes follow the lock time.
    #[error("bytes follow the transaction")]
    TrailingBytes,
    /// A length prefix is longer than it needs to be.
    #[error("a length in the transaction is not in its shortest form")]
    NonCanonicalLength,
    /// The byte after the segwit marker is not 1 (BIP 144).
    #[error("the transaction carries an unknown flag")]
    UnknownFlag,
    /// The witness form is used and every witness is empty.
    #[error("the transaction announces a witness and has none")]
    EmptyWitness,
    /// No input; the legacy form with none cannot be told from a segwit marker.
    #[error("the transaction has no input")]
    NoInput,
    /// No output.
    #[error("the transaction has no output")]
    NoOutput,
}

/// A well-formed transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxView<'a> {
    version: u32,
    lock_time: u32,
    /// Input count to last output, which is the same in both serialisations.
    body: &'a [u8],
    input_count: u32,
    inputs: &'a [u8],
    output_count: u32,
    outputs: &'a [u8],
}

/// One input of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxIn<'a> {
    /// Transaction that made the coin, in internal byte order.
    pub prev_txid: [u8; 32],
    /// Its output, counted from 0.
    pub prev_vout: u32,
    /// The unlocking script.
    pub script_sig: &'a [u8],
    /// Sequence number (BIP 68).
    pub sequence: u32,
    /// `script_sig` with its length before it.
    pub(super) script_sig_field: &'a [u8],
}

/// One output of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxOut<'a> {
    /// Satoshi. Not checked to be below 21 million coins.
    pub value: u64,
    /// The locking script.
    pub script_pubkey: &'a [u8],
}

impl<'a> TxView<'a> {
    /// Reads all of `bytes` as one transaction.
    ///
    /// # Errors
    /// [`TxError`]: it is cut short, malformed, or bytes are left over.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TxError> {
        let mut r = Reader(bytes);
        let version = r.u32()?;
        let has_witness = r.0.first() == Some(&0);
        if has_witness {
            r.take(1)?;
            match r.take(1)? {
                [1] => {}
                // What follows an input count of 0 in the legacy form is an output count.
                _ => return Err(TxError::UnknownFlag),
            }
        }
        let body = r.0;
        let input_count = r.compact_size()?;
        if input_count == 0 {
            return Err(TxError::NoInput);
        }
        let inputs = r.span(|r| (0..input_count).try_for_each(|_| r.input().map(|_| ())))?;
        let output_count = r.compact_size()?;
        if output_count == 0 {
            return Err(TxError::NoOutput);
        }
        let outputs = r.span(|r| (0..output_count).try_for_each(|_| r.output().map(|_| ())))?;
        let body = consumed(body, r.0);
        if has_witness {
            let mut empty = true;
            for _ in 0..input_count {
                let items = r.compact_size()?;
                empty &= items == 0;
                (0..items).try_for_each(|_| r.var_bytes().map(|_| ()))?;
            }
            if empty {
                return Err(TxError::EmptyWitness);
            }
        }
        let lock_time = r.u32()?;
        if !r.0.is_empty() {
            return Err(TxError::TrailingBytes);
        }
        // More inputs or outputs than that do not fit into any slice that passed.
        let count = |n: u64| u32::try_from(n).map_err(|_| TxError::Truncated);
        let (input_count, output_count) = (count(input_count)?, count(output_count)?);
        Ok(Self { version, lock_time, body, input_count, inputs, output_count, outputs })
    }

    /// Version, as the 32 bits that are signed and hashed.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Lock time: block height, or Unix seconds from 500,000,000 on.
    pub fn lock_time(&self) -> u32 {
        self.lock_time
    }

    /// Number of inputs, at least 1.
    pub fn input_count(&self) -> u32 {
        self.input_count
    }

    /// Number of outputs, at least 1.
    pub fn output_count(&self) -> u32 {
        self.output_count
    }

    /// The inputs in order.
    pub fn inputs(&self) -> impl Iterator<Item = TxIn<'a>> + use<'a> {
        let mut r = Reader(self.inputs);
        core::iter::from_fn(move || r.input().ok())
    }

    /// The outputs in order.
    pub fn outputs(&self) -> impl Iterator<Item = TxOut<'a>> + use<'a> {
        let mut r = Reader(self.outputs);
        core::iter::from_fn(move || r.output().ok())
    }

    /// All outputs as they are serialised, without their count.
    pub(super) fn outputs_field(&self) -> &'a [u8] {
        self.outputs
    }

    /// Length in bytes without witness.
    pub fn stripped_len(&self) -> usize {
        self.body.len() + 8
    }

    /// Writes the serialisation without witness to the start of `out` and
    /// returns its length; `None` if it does not fit. Proofs carry this form,
    /// it is the shorter one and all that a transaction's identity depends on.
    pub fn write_stripped(&self, out: &mut [u8]) -> Option<usize> {
        let out = out.get_mut(..self.stripped_len())?;
        let (version, rest) = out.split_first_chunk_mut::<4>()?;
        let (body, lock_time) = rest.split_last_chunk_mut::<4>()?;
        *version = self.version.to_le_bytes();
        *lock_time = self.lock_time.to_le_bytes();
        body.copy_from_slice(self.body);
        Some(self.stripped_len())
    }

    /// The transaction's identity in internal byte order: double SHA-256 of the
    /// serialisation without witness.
    pub fn txid(&self) -> [u8; 32] {
        double_sha256_parts(&[
            &self.version.to_le_bytes()[..],
            self.body,
            &self.lock_time.to_le_bytes(),
        ])
    }
}

/// The part of `before` that has been read when `after` is what remains of it.
fn consumed<'a>(before: &'a [u8], after: &[u8]) -> &'a [u8] {
    before.get(..before.len().saturating_sub(after.len())).unwrap_or_default()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], TxError> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(TxError::Truncated)?;
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TxError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(TxError::Truncated)?;
        self.0 = tail;
        Ok(*head)
    }

    fn u32(&mut self) -> Result<u32, TxError> {
        self.array().map(u32::from_le_bytes)
    }

    fn compact_size(&mut self) -> Result<u64, TxError> {
        let [first] = self.array()?;
        let (value, least) = match first {
            0xfd => (u16::from_le_bytes(self.array()?).into(), 0xfd),
            0xfe => (u32::from_le_bytes(self.array()?).into(), 0x1_0000),
            0xff => (u64::from_le_bytes(self.array()?), 0x1_0000_0000),
            small => (small.into(), 0),
        };
        if value < least { Err(TxError::NonCanonicalLength) } else { Ok(value) }
    }

    fn var_bytes(&mut self) -> Result<&'a [u8], TxError> {
        let len = self.compact_size()?;
        self.take(usize::try_from(len).map_err(|_| TxError::Truncated)?)
    }

    /// Runs `read` and gives back the bytes that it took.
    fn span(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<(), TxError>,
    ) -> Result<&'a [u8], TxError> {
        let before = self.0;
        read(self)?;
        Ok(consumed(before, self.0))
    }

    fn input(&mut self) -> Result<TxIn<'a>, TxError> {
        let prev_txid = self.array()?;
        let prev_vout = self.u32()?;
        let before = self.0;
        let script_sig = self.var_bytes()?;
        let script_sig_field = consumed(before, self.0);
        Ok(TxIn { prev_txid, prev_vout, script_sig, sequence: self.u32()?, script_sig_field })
    }

    fn output(&mut self) -> Result<TxOut<'a>, TxError> {
        let value = u64::from_le_bytes(self.array()?);
        Ok(TxOut { value, script_pubkey: self.var_bytes()? })
    }
}

/// Arbitrary transactions for the tests of this room.
#[cfg(test)]
pub(super) mod strategy {
    use bitcoin::hashes::Hash;
    use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, Txid, Witness};
    use bitcoin::{TxIn, TxOut, absolute::LockTime, transaction::Version};
    use proptest::{collection::vec, prelude::*};
    use std::vec::Vec;

    fn script() -> impl Strategy<Value = ScriptBuf> {
        prop_oneof![9 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 240..270)]
            .prop_map(ScriptBuf::from)
    }

    pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
        let witness = prop_oneof![Just(Vec::new()), vec(vec(any::<u8>(), 0..80), 0..4)];
        let input = (any::<([u8; 32], u32, u32)>(), script(), any::<bool>(), witness).prop_map(
            |((txid, vout, sequence), script, bare, witness)| TxIn {
                previous_output: OutPoint { txid: Txid::from_byte_array(txid), vout },
                script_sig: if bare { ScriptBuf::new() } else { script },
                sequence: Sequence(sequence),
                witness: Witness::from_slice(&witness),
            },
        );
        let output = (any::<u64>(), script()).prop_map(|(value, script_pubkey)| TxOut {
            value: Amount::from_sat(value),
            script_pubkey,
        });
        (any::<(i32, u32)>(), vec(input, 1..6), vec(output, 1..6)).prop_map(
            |((version, lock_time), input, output)| Transaction {
                version: Version(version),
                lock_time: LockTime::from_consensus(lock_time),
                input,
                output,
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{Transaction, consensus};
    use proptest::prelude::*;

    /// The genesis block's only transaction.
    const GENESIS: &str = "01000000010000000000000000000000000000000000000000000000000000000000\
        000000ffffffff4d04ffff001d0104455468652054696d65732030332f4a616e2f32303039204368616e63656c\
        6c6f72206f6e206272696e6b206f66207365636f6e64206261696c6f757420666f722062616e6b73ffffffff01\
        00f2052a01000000434104678afdb0fe5548271967f1a67130b7105cd6a828e03909a67962e0ea1f61deb649f6\
        bc3f4cef38c4f35504e51ec112de5c384df7ba0b8d578a4c702b6bf11d5fac00000000";

    /// Our reading against the `bitcoin` crate's, which also accepts no outputs
    /// (and, in the witness form, no inputs) and caps lengths that we do not reach.
    fn agrees_with_oracle(bytes: &[u8]) -> Result<(), TestCaseError> {
        let oracle = consensus::deserialize::<Transaction>(bytes)
            .ok()
            .filter(|t| !t.input.is_empty() && !t.output.is_empty());
        let ours = TxView::parse(bytes);
        prop_assert_eq!(ours.is_ok(), oracle.is_some(), "{:?}", ours);
        let (Ok(ours), Some(oracle)) = (ours, oracle) else { return Ok(()) };
        prop_assert_eq!(ours.version(), oracle.version.0 as u32);
        prop_assert_eq!(ours.lock_time(), oracle.lock_time.to_consensus_u32());
        prop_assert_eq!(ours.txid(), oracle.compute_txid().to_byte_array());
        prop_assert_eq!(ours.input_count() as usize, oracle.input.len());
        prop_assert_eq!(ours.output_count() as usize, oracle.output.len());
        prop_assert_eq!(ours.inputs().count(), oracle.input.len());
        prop_assert_eq!(ours.outputs().count(), oracle.output.len());
        for (a, b) in ours.inputs().zip(&oracle.input) {
            prop_assert_eq!(a.prev_txid, b.previous_output.txid.to_byte_array());
            prop_assert_eq!(a.prev_vout, b.previous_output.vout);
            prop_assert_eq!(a.script_sig, b.script_sig.as_bytes());
            prop_assert_eq!(a.sequence, b.sequence.0);
            prop_assert_eq!(a.script_sig_field, consensus::serialize(&b.script_sig));
        }
        for (a, b) in ours.outputs().zip(&oracle.output) {
            prop_assert_eq!(a.value, b.value.to_sat());
            prop_assert_eq!(a.script_pubkey, b.script_pubkey.as_bytes());
        }
        let mut stripped = std::vec![0; ours.stripped_len()];
        prop_assert_eq!(ours.write_stripped(&mut stripped), Some(stripped.len()));
        prop_assert_eq!(TxView::parse(&stripped).map(|t| t.txid()), Ok(ours.txid()));
        prop_assert_eq!(ours.write_stripped(&mut stripped[1..]), None);
        Ok(())
    }

    #[test]
    fn genesis_transaction() {
        let raw = hex::decode(GENESIS).unwrap();
        let tx = TxView::parse(&raw).unwrap();
        let mut txid = tx.txid();
        txid.reverse();
        let known = "4a5e1e4baab89f3a32518a88c31bc87f618f76673e2cc77ab2127b7afdeda33b";
        assert_eq!(hex::encode(txid), known);
        assert_eq!(tx.outputs().next().unwrap().value, 5_000_000_000);
    }

    #[test]
    fn each_defect_has_its_reason() {
        let raw = hex::decode(GENESIS).unwrap();
        let why = |bytes: &[u8]| TxView::parse(bytes).unwrap_err();
        let edited = |at: usize, remove: usize, insert: &[u8]| {
            let mut b = raw.clone();
            b.splice(at..at + remove, insert.iter().copied());
            b
        };
        for n in 0..raw.len() {
            assert_eq!(why(&raw[..n]), TxError::Truncated, "{n}");
        }
        assert_eq!(why(&edited(raw.len(), 0, &[0])), TxError::TrailingBytes);
        assert_eq!(why(&edited(4, 1, &[0xfd, 1, 0])), TxError::NonCanonicalLength);
        assert_eq!(why(&edited(4, 1, &[0xfe, 1, 0, 0, 0])), TxError::NonCanonicalLength);
        assert_eq!(why(&edited(4, 1, &[0xff; 9])), TxError::Truncated);
        assert_eq!(why(&edited(4, 1, &[0, 2, 1])), TxError::UnknownFlag);
        assert_eq!(why(&edited(4, 1, &[0, 1, 0])), TxError::NoInput);
        // Marker and flag before the inputs, an empty witness before the lock time.
        let mut witness = edited(4, 0, &[0, 1]);
        witness.insert(witness.len() - 4, 0);
        assert_eq!(why(&witness), TxError::EmptyWitness);
        let no_output = [&raw[..4 + 1 + 36 + 78 + 4], &[0; 5]].concat();
        assert_eq!(why(&no_output), TxError::NoOutput);
    }

    proptest! {
        #[test]
        fn valid_and_damaged_transactions(
            tx in strategy::transaction(),
            flips in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..3),
            cut in any::<Option<prop::sample::Index>>(),
        ) {
            let mut bytes = consensus::serialize(&tx);
            agrees_with_oracle(&bytes)?;
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            agrees_with_oracle(&bytes)?;
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
                agrees_with_oracle(&bytes)?;
            }
        }

        #[test]
        fn arbitrary_bytes(bytes in prop::collection::vec(prop_oneof![any::<u8>(), 0..3u8], 0..200)) {
            agrees_with_oracle(&bytes)?;
        }
    }
}
