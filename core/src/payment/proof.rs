//! The two kinds of proof, as a packet carries them: one byte for the kind, then
//! the proof.

use super::covenant::CovenantProof;
use super::lightning::LightningProof;
use super::reason::PaymentReason;

/// First byte of a packed Lightning proof ([`super::packed`]).
pub const LIGHTNING: u8 = 1;
/// First byte of a covenant proof ([`super::covenant::proof`]).
pub const INSTANT_SETTLEMENT: u8 = 2;

/// A proof of payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PaymentProof<'a> {
    /// A BOLT 11 invoice and the preimage that paying it revealed.
    Lightning(LightningProof<'a>),
    /// A BIP 119 template that is funded, and where our output is in it.
    InstantSettlement(CovenantProof<'a>),
}

impl<'a> PaymentProof<'a> {
    /// Reads the bytes that a packet carries. What is in them is checked later.
    ///
    /// # Errors
    /// [`PaymentReason`]: the kind is unknown, or a covenant proof is malformed.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PaymentReason> {
        match bytes.split_first() {
            Some((&LIGHTNING, rest)) => Ok(Self::Lightning(LightningProof::Packed(rest))),
            Some((&INSTANT_SETTLEMENT, rest)) => {
                let proof = CovenantProof::parse(rest);
                proof.map(Self::InstantSettlement).map_err(|e| PaymentReason::Covenant(e.into()))
            }
            _ => Err(PaymentReason::Malformed),
        }
    }
}
