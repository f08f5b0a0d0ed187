//! The two kinds of proof, as a packet carries them: one byte for the kind, then
//! the proof; and what stands before one that pays for accounts.

use super::covenant::CovenantProof;
use super::lightning::LightningProof;
use super::reason::PaymentReason;
use super::terms::Purpose;

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

/// First byte of a proof that pays for bytes on accounts: see [`ForAccounts`].
pub const FOR_ACCOUNTS: u8 = 3;

/// What stands before a proof that pays for bytes on the source's accounts at the nodes of the
/// route, instead of carrying the packet that it is in.
///
/// | size | field |
/// |---|---|
/// | 1 | 3 |
/// | 1 | 1 where the destination is paid as well, for receiving, else 0 |
/// | 8 | the source's latest Open number |
/// | rest | a proof of another kind, which commits to these terms |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForAccounts {
    /// Whether the destination is paid as well.
    pub receives: bool,
    /// Opens of the source up to this number are refused.
    pub open_number: u64,
}

/// Bytes of [`ForAccounts`].
pub const FOR_ACCOUNTS_LEN: usize = 1 + 1 + 8;

impl ForAccounts {
    /// It, if these bytes begin with it, and the proof behind it.
    ///
    /// # Errors
    /// [`PaymentReason::Malformed`].
    pub fn split(bytes: &[u8]) -> Result<(Option<Self>, &[u8]), PaymentReason> {
        match bytes {
            [FOR_ACCOUNTS, receives @ 0..=1, rest @ ..] => {
                let (number, proof) = rest.split_first_chunk().ok_or(PaymentReason::Malformed)?;
                let open_number = u64::from_le_bytes(*number);
                Ok((Some(Self { receives: *receives != 0, open_number }), proof))
            }
            _ => Ok((None, bytes)),
        }
    }

    /// It as it is in a packet.
    pub fn bytes(&self) -> [u8; FOR_ACCOUNTS_LEN] {
        let [a, b, c, d, e, f, g, h] = self.open_number.to_le_bytes();
        [FOR_ACCOUNTS, self.receives.into(), a, b, c, d, e, f, g, h]
    }

    /// What the payment is for.
    pub fn purpose(&self) -> Purpose {
        Purpose::Accounts { receives: self.receives }
    }
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
