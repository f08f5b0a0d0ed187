//! What a template must look like to be worth its money to everybody whom it
//! pays: it can be mined at once, by anyone, as it is.
//!
//! A template that BIP 119 alone would let pass can still be worthless: locked
//! until a far height, bound to a second coin that only the source can add,
//! carrying an unlocking script that fails, or outputs that nodes do not relay.

use crate::payment::tx::{TxOut, TxView};
use bitcoin::opcodes::all::{OP_PUSHBYTES_32, OP_RETURN};
use bitcoin::{Amount, Script, Sequence, WitnessVersion};

/// Why a template is not accepted, whatever it pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum TemplateError {
    /// Version 0, or above 3: nodes do not relay it.
    #[error("the template's version is not 1, 2 or 3")]
    Version,
    /// Another input would have to be found, or its coin could be spent elsewhere.
    #[error("the template does not have exactly one input")]
    InputCount,
    /// An unlocking script can only break the spend, and the template hash then
    /// insists on it.
    #[error("the template's input has an unlocking script")]
    ScriptSig,
    /// Lock time not 0, or a relative lock time (BIP 68).
    #[error("the template cannot be mined at once")]
    Locked,
    /// An output script that nodes do not relay or that cannot be spent.
    #[error("an output of the template is not a standard payment")]
    NonStandardOutput,
    /// An output below the [`dust_limit`] of its script: nodes do not relay the template.
    #[error(
        "an output of the template is {value_sat} sat, below its script's dust limit of {least_sat} sat"
    )]
    Dust {
        /// What it pays, in satoshi.
        value_sat: u64,
        /// What it must pay at least, in satoshi.
        least_sat: u64,
    },
    /// Not exactly one `OP_RETURN` output, or it is not the hash of the terms.
    #[error(
        "the template commits to another size, route, source or destination than this packet's"
    )]
    TermsNotBound,
    /// The outputs sum to more than there can be.
    #[error("the template pays more than all bitcoin that there are")]
    AmountTooLarge,
}

/// The locking script that binds a template to its terms:
/// `OP_RETURN <32-byte hash>`, see [`Terms::hash`](crate::payment::terms::Terms::hash).
pub fn terms_script(terms_hash: &[u8; 32]) -> [u8; 34] {
    let mut script = [0; 34];
    let (head, hash) = script.split_at_mut(2);
    head.copy_from_slice(&[OP_RETURN.to_u8(), OP_PUSHBYTES_32.to_u8()]);
    hash.copy_from_slice(terms_hash);
    script
}

/// Least value, in satoshi, of an output with this script that nodes relay. 0 for data, which
/// nobody spends.
pub fn dust_limit(script: &[u8]) -> u64 {
    Script::from_bytes(script).minimal_non_dust().to_sat()
}

/// Whether an output carries data and pays nobody.
pub(super) fn is_data(output: &TxOut<'_>) -> bool {
    Script::from_bytes(output.script_pubkey).is_op_return()
}

/// Checks everything about a template but who is paid how much. Returns the sum
/// of its outputs in satoshi, at most [`Amount::MAX_MONEY`].
pub(super) fn check_form(
    template: &TxView<'_>,
    terms_hash: &[u8; 32],
) -> Result<u64, TemplateError> {
    if !(1..=3).contains(&template.version()) {
        return Err(TemplateError::Version);
    }
    let mut inputs = template.inputs();
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(TemplateError::InputCount);
    };
    if !input.script_sig.is_empty() {
        return Err(TemplateError::ScriptSig);
    }
    if template.lock_time() != 0 || Sequence(input.sequence).is_relative_lock_time() {
        return Err(TemplateError::Locked);
    }
    let bound = terms_script(terms_hash);
    let (mut sum, mut bindings) = (0u64, 0u32);
    for output in template.outputs() {
        // At most u16::MAX outputs, each at most all there are: the sum cannot overflow.
        sum = sum.saturating_add(output.value);
        if sum > Amount::MAX_MONEY.to_sat() {
            return Err(TemplateError::AmountTooLarge);
        }
        if is_data(&output) {
            if output.script_pubkey != bound {
                return Err(TemplateError::TermsNotBound);
            }
            bindings += 1;
        } else if !is_standard_payment(output.script_pubkey) {
            return Err(TemplateError::NonStandardOutput);
        } else {
            let (value_sat, least_sat) = (output.value, dust_limit(output.script_pubkey));
            if value_sat < least_sat {
                return Err(TemplateError::Dust { value_sat, least_sat });
            }
        }
    }
    if bindings == 1 { Ok(sum) } else { Err(TemplateError::TermsNotBound) }
}

/// Scripts that nodes relay payments to, and that stay far below the limit on
/// signature operations: pay to public key hash, to script hash (BIP 16), and to
/// witness programs (BIP 141; version 0 in its two defined lengths).
fn is_standard_payment(script: &[u8]) -> bool {
    let script = Script::from_bytes(script);
    match script.witness_version() {
        Some(WitnessVersion::V0) => script.is_p2wpkh() || script.is_p2wsh(),
        Some(_) => true,
        None => script.is_p2pkh() || script.is_p2sh(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn terms_script_is_op_return_and_a_push() {
        let hash = [7; 32];
        assert_eq!(terms_script(&hash)[..], ScriptBuf::new_op_return(hash).to_bytes());
    }

    /// The limits that wallets know by heart, and of pay to anchor.
    #[test]
    fn dust_limits_are_those_of_bitcoin_core() {
        let p2pkh = [&[0x76, 0xa9, 20][..], &[1; 20], &[0x88, 0xac]].concat();
        let p2sh = [&[0xa9, 20][..], &[1; 20], &[0x87]].concat();
        let program = |version: u8, len: u8| [&[version, len][..], &vec![1; len.into()]].concat();
        let limits = [
            (p2pkh, 546),
            (p2sh, 540),
            (program(0, 20), 294),
            (program(0, 32), 330),
            (program(0x51, 32), 330),
            (std::vec![0x51, 2, 0x4e, 0x73], 240),
            (terms_script(&[7; 32]).to_vec(), 0),
        ];
        for (script, limit) in limits {
            assert_eq!(dust_limit(&script), limit, "{script:x?}");
        }
    }

    proptest! {
        #[test]
        fn dust_limits_agree_with_another_implementation(script in prop::collection::vec(any::<u8>(), 0..70), version in 0u8..18, len in 2u8..=40) {
            let program = [&[if version == 0 { 0 } else { 0x50 + version.min(16) }, len][..], &vec![3; len.into()]].concat();
            for script in [script, program] {
                let other = ScriptBuf::from(script.clone()).minimal_non_dust().to_sat();
                prop_assert_eq!(dust_limit(&script), other, "{:x?}", script);
            }
        }
    }

    fn oracle(bytes: &[u8]) -> bool {
        let script = ScriptBuf::from(bytes.to_vec());
        let version_0 = script.is_p2wpkh() || script.is_p2wsh();
        let later = script.is_witness_program() && bytes[0] != 0;
        script.is_p2pkh() || script.is_p2sh() || version_0 || later
    }

    #[test]
    fn heads_and_lengths_of_standard_payments() {
        let mut standard = 0;
        for len in 0..=45 {
            for head in [[0x76, 0xa9, 20], [0xa9, 20, 1]] {
                for tail in [[0x88, 0xac], [9, 0x87]] {
                    let mut script = std::vec![1; len];
                    script.iter_mut().zip(head).for_each(|(s, h)| *s = h);
                    script.iter_mut().rev().zip(tail.iter().rev()).for_each(|(s, t)| *s = *t);
                    assert_eq!(is_standard_payment(&script), oracle(&script), "{script:?}");
                    standard += u32::from(oracle(&script));
                }
            }
            for version in 0..=255 {
                for push in 0..=45 {
                    let mut script = std::vec![1; len];
                    script.iter_mut().zip([version, push]).for_each(|(s, h)| *s = h);
                    assert_eq!(is_standard_payment(&script), oracle(&script), "{script:?}");
                    standard += u32::from(oracle(&script));
                }
            }
        }
        assert!(standard > 600);
    }

    proptest! {
        #[test]
        fn arbitrary_scripts(script in prop::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(is_standard_payment(&script), oracle(&script));
        }
    }
}
