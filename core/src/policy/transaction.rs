//! Walks over a transaction without taking memory for it.
//!
//! [`Transaction::decode`] accepts what the `bitcoin` crate's consensus decoder
//! accepts (BIP 144); [`Transaction::check`] adds the rules of Bitcoin Core's
//! `CheckTransaction` that need nothing but the transaction, except the search
//! for inputs that are spent twice.

use super::reader::Reader;
use super::reason::{Reason, Unrecognised};
use super::work::double_sha256;

type Result<T> = core::result::Result<T, Unrecognised>;

/// All bitcoin there will ever be, in satoshis.
pub(super) const MAX_MONEY: u64 = 21_000_000 * 100_000_000;

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
        let marker = *reader;
        let mut body = *reader;
        let mut inputs = reader.compact_size()?;
        let segwit = inputs == 0;
        if segwit {
            if reader.u8()? != 1 {
                return marker.fail(Reason::SegwitFlag);
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
    pub(super) fn weight(&self) -> usize {
        // Version and lock time stand outside of the body.
        self.body.len().saturating_add(8).saturating_mul(3).saturating_add(self.bytes.len())
    }

    /// Hash of the transaction without its witnesses.
    pub(super) fn txid(&self) -> [u8; 32] {
        match (self.witness, self.bytes.first_chunk::<4>(), self.bytes.last_chunk::<4>()) {
            (Some(_), Some(version), Some(lock)) => double_sha256(&[version, self.body, lock]),
            _ => double_sha256(&[self.bytes]),
        }
    }

    /// Hash of the transaction with its witnesses (BIP 141).
    pub(super) fn wtxid(&self) -> [u8; 32] {
        double_sha256(&[self.bytes])
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
    Ok(sum <= MAX_MONEY)
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
