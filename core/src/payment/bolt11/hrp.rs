//! The human-readable part of an invoice: network and amount.

use super::{Bolt11Error, ParseError, SemanticError};
use crate::id::Network;

/// Longest human-readable part: `lnbcrt`, twenty digits, a multiplier.
const MAX_LEN: usize = 27;

/// Networks that have a prefix of their own. `lntb` stands for both versions of
/// the test network and is listed as version 3.
const PREFIXES: [Network; 4] =
    [Network::Mainnet, Network::Testnet3, Network::Signet, Network::Regtest];

/// Multipliers of the amount, with their value in pico-bitcoin.
const UNITS: [(Option<u8>, u64); 5] = [
    (None, 1_000_000_000_000),
    (Some(b'm'), 1_000_000_000),
    (Some(b'u'), 1_000_000),
    (Some(b'n'), 1_000),
    (Some(b'p'), 1),
];

/// Network and amount as they are written. Two that are equal are written alike,
/// because leading zeros are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hrp {
    /// Index into [`PREFIXES`].
    prefix: u8,
    amount: Option<Amount>,
}

/// An amount as it is written: digits and multiplier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    /// The digits.
    pub(crate) value: u64,
    /// Index into [`UNITS`].
    pub(crate) unit: u8,
}

impl Hrp {
    /// Reads the part before the separator, in either case (mixed case is
    /// refused before this).
    pub(super) fn parse(hrp: &[u8]) -> Result<Self, ParseError> {
        let letters = hrp.iter().position(u8::is_ascii_digit).unwrap_or(hrp.len());
        let (name, amount) = hrp.split_at(letters);
        if !name.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"ln")) {
            return Err(ParseError::NotAnInvoice);
        }
        let prefix = PREFIXES
            .iter()
            .position(|n| n.invoice_prefix().as_bytes().eq_ignore_ascii_case(name))
            .ok_or(ParseError::UnknownNetwork)?;
        let amount = if amount.is_empty() { None } else { Some(Amount::parse(amount)?) };
        Ok(Self { prefix: prefix as u8, amount })
    }

    /// From the numbers of the packed form.
    pub(crate) fn from_parts(prefix: u8, amount: Option<Amount>) -> Option<Self> {
        let known = usize::from(prefix) < PREFIXES.len()
            && amount.is_none_or(|a| usize::from(a.unit) < UNITS.len());
        known.then_some(Self { prefix, amount })
    }

    /// The numbers of the packed form.
    pub(crate) fn parts(&self) -> (u8, Option<Amount>) {
        (self.prefix, self.amount)
    }

    /// The network; `lntb` gives [`Network::Testnet3`].
    pub(super) fn network(&self) -> Network {
        PREFIXES.get(usize::from(self.prefix)).copied().unwrap_or(Network::Mainnet)
    }

    /// The amount in millisatoshi. BOLT 11 counts in pico-bitcoin, a tenth of it.
    pub(super) fn amount_msat(&self) -> Result<Option<u64>, Bolt11Error> {
        let Some(Amount { value, unit }) = self.amount else { return Ok(None) };
        let pico = UNITS
            .get(usize::from(unit))
            .and_then(|(_, multiplier)| value.checked_mul(*multiplier))
            .ok_or(ParseError::AmountOverflow)?;
        if pico % 10 != 0 {
            return Err(SemanticError::ImpreciseAmount.into());
        }
        Ok(Some(pico / 10))
    }

    /// The text in lower case, as it is signed.
    pub(super) fn text(&self) -> HrpText {
        let mut text = HrpText { bytes: [0; MAX_LEN], len: 0 };
        text.push(self.network().invoice_prefix().as_bytes());
        if let Some(Amount { value, unit }) = self.amount {
            let mut digits = [b'0'; 20];
            let mut rest = value;
            let mut used = 0;
            for digit in digits.iter_mut().rev() {
                *digit += (rest % 10) as u8;
                rest /= 10;
                used += 1;
                if rest == 0 {
                    break;
                }
            }
            text.push(digits.get(digits.len() - used..).unwrap_or_default());
            if let Some((Some(letter), _)) = UNITS.get(usize::from(unit)) {
                text.push(&[*letter]);
            }
        }
        text
    }
}

impl Amount {
    fn parse(text: &[u8]) -> Result<Self, ParseError> {
        let count = text.iter().take_while(|c| c.is_ascii_digit()).count();
        let (digits, multiplier) = text.split_at(count);
        let unit = match multiplier {
            [] => Some(0),
            [letter] => UNITS.iter().position(|(l, _)| *l == Some(letter.to_ascii_lowercase())),
            _ => None,
        };
        let unit = unit.ok_or(ParseError::UnknownMultiplier)? as u8;
        if digits.len() > 1 && digits.first() == Some(&b'0') {
            return Err(ParseError::LeadingZero);
        }
        let value = digits
            .iter()
            .try_fold(0u64, |v, d| v.checked_mul(10)?.checked_add(u64::from(d - b'0')))
            .ok_or(ParseError::AmountOverflow)?;
        Ok(Self { value, unit })
    }
}

/// A human-readable part in lower case.
pub(super) struct HrpText {
    bytes: [u8; MAX_LEN],
    len: usize,
}

impl HrpText {
    fn push(&mut self, part: &[u8]) {
        for (to, from) in self.bytes.iter_mut().skip(self.len).zip(part) {
            *to = *from;
            self.len += 1;
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_networks() {
        let msat = |s: &str| Hrp::parse(s.as_bytes()).map(|h| (h.network(), h.amount_msat()));
        assert_eq!(msat("lnbc"), Ok((Network::Mainnet, Ok(None))));
        assert_eq!(msat("lnbc0m"), Ok((Network::Mainnet, Ok(Some(0)))));
        assert_eq!(msat("LNTB20M"), Ok((Network::Testnet3, Ok(Some(2_000_000_000)))));
        assert_eq!(msat("lntbs1"), Ok((Network::Signet, Ok(Some(100_000_000_000)))));
        assert_eq!(msat("lnbcrt10p"), Ok((Network::Regtest, Ok(Some(1)))));
        let imprecise = Bolt11Error::Semantic(SemanticError::ImpreciseAmount);
        assert_eq!(msat("lnbc11p"), Ok((Network::Mainnet, Err(imprecise))));
        let overflow = Bolt11Error::Parse(ParseError::AmountOverflow);
        assert_eq!(msat("lnbc18446744073709551615"), Ok((Network::Mainnet, Err(overflow))));
        let errors = [
            ("lnbc18446744073709551616", ParseError::AmountOverflow),
            ("lnbc01m", ParseError::LeadingZero),
            ("lnbc1x", ParseError::UnknownMultiplier),
            ("lnbc1mm", ParseError::UnknownMultiplier),
            ("lnbcm", ParseError::UnknownNetwork),
            ("lnsb1m", ParseError::UnknownNetwork),
            ("ln1m", ParseError::UnknownNetwork),
            ("bc", ParseError::NotAnInvoice),
            ("", ParseError::NotAnInvoice),
        ];
        for (text, error) in errors {
            assert_eq!(msat(text), Err(error), "{text}");
        }
    }

    #[test]
    fn written_as_read() {
        for text in ["lnbc", "lntb0", "lnbcrt18446744073709551615p", "lntbs2500u", "lnbc7n"] {
            let hrp = Hrp::parse(text.as_bytes()).unwrap();
            assert_eq!(hrp.text().as_bytes(), text.as_bytes());
            let (prefix, amount) = hrp.parts();
            assert_eq!(Hrp::from_parts(prefix, amount), Some(hrp));
        }
        assert_eq!(Hrp::from_parts(4, None), None);
        assert_eq!(Hrp::from_parts(0, Some(Amount { value: 1, unit: 5 })), None);
    }
}
