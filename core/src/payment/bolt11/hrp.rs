//! The human-readable part of an invoice: network and amount.

use super::{Bolt11Error, ParseError, SemanticError};
use crate::id::Network;

/// Longest human-readable part: `lnbcrt`, 21 digits, a multiplier.
const MAX_LEN: usize = 28;

/// Networks that have a prefix of their own. `lntb` stands for both versions of
/// the test network and is listed as version 3.
const PREFIXES: [Network; 4] =
    [Network::Mainnet, Network::Testnet3, Network::Signet, Network::Regtest];

/// Multipliers of the amount, with their value in millisatoshi. That of `p` is a tenth
/// of one: such amounts end with a zero, which stands for it.
const UNITS: [(Option<u8>, u64); 5] = [
    (None, 100_000_000_000),
    (Some(b'm'), 100_000_000),
    (Some(b'u'), 100_000),
    (Some(b'n'), 100),
    (Some(b'p'), 1),
];
const PICO: u8 = 4;

/// Network and amount as they are written. Two that are equal are written alike,
/// because leading zeros are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hrp {
    /// Index into [`PREFIXES`].
    prefix: u8,
    amount: Option<Amount>,
}

/// An amount, and the multiplier that it is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Amount {
    /// The amount in millisatoshi, a whole number of the multiplier's value.
    msat: u64,
    /// Index into [`UNITS`].
    unit: u8,
}

impl Hrp {
    /// Reads the part before the separator, in either case (mixed case is
    /// refused before this).
    pub(super) fn parse(hrp: &[u8]) -> Result<Self, Bolt11Error> {
        let letters = hrp.iter().position(u8::is_ascii_digit).unwrap_or(hrp.len());
        let (name, amount) = hrp.split_at(letters);
        if !name.get(..2).is_some_and(|p| p.eq_ignore_ascii_case(b"ln")) {
            return Err(ParseError::NotAnInvoice.into());
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
        (usize::from(prefix) < PREFIXES.len()).then_some(Self { prefix, amount })
    }

    /// The numbers of the packed form.
    pub(crate) fn parts(&self) -> (u8, Option<Amount>) {
        (self.prefix, self.amount)
    }

    /// The network; `lntb` gives [`Network::Testnet3`].
    pub(super) fn network(&self) -> Network {
        PREFIXES.get(usize::from(self.prefix)).copied().unwrap_or(Network::Mainnet)
    }

    /// The amount in millisatoshi.
    pub(super) fn amount_msat(&self) -> Result<Option<u64>, SemanticError> {
        match self.amount {
            Some(Amount { msat: 0, .. }) => Err(SemanticError::ZeroAmount),
            amount => Ok(amount.map(|a| a.msat)),
        }
    }

    /// The text in lower case, as it is signed.
    pub(super) fn text(&self) -> HrpText {
        let mut text = HrpText { bytes: [0; MAX_LEN], len: 0 };
        text.push(self.network().invoice_prefix().as_bytes());
        if let Some(Amount { msat, unit }) = self.amount {
            let (letter, value) = UNITS.get(usize::from(unit)).copied().unwrap_or((None, 1));
            let mut digits = [b'0'; 20];
            let mut rest = msat / value;
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
            if unit == PICO && msat > 0 {
                text.push(b"0");
            }
            if let Some(letter) = letter {
                text.push(&[letter]);
            }
        }
        text
    }
}

impl Amount {
    fn parse(text: &[u8]) -> Result<Self, Bolt11Error> {
        let count = text.iter().take_while(|c| c.is_ascii_digit()).count();
        let (digits, multiplier) = text.split_at(count);
        let unit = match multiplier {
            [] => Some(0),
            [letter] => UNITS.iter().position(|(l, _)| *l == Some(letter.to_ascii_lowercase())),
            _ => None,
        };
        let unit = unit.ok_or(ParseError::UnknownMultiplier)? as u8;
        if digits.len() > 1 && digits.first() == Some(&b'0') {
            return Err(ParseError::LeadingZero.into());
        }
        let number = digits
            .iter()
            .try_fold(0u128, |v, d| v.checked_mul(10)?.checked_add(u128::from(d - b'0')))
            .ok_or(ParseError::AmountOverflow)?;
        Self::from_number(number, unit)
    }

    /// What the digits before a multiplier say, as a number. BOLT 11 counts in
    /// pico-bitcoin, a tenth of a millisatoshi.
    pub(crate) fn from_number(number: u128, unit: u8) -> Result<Self, Bolt11Error> {
        let (_, value) = UNITS.get(usize::from(unit)).ok_or(ParseError::UnknownMultiplier)?;
        let msat = if unit == PICO {
            // Division of 128 bits is long on a board: 2^64 = 10 * TENTH + 6.
            const TENTH: u64 = u64::MAX / 10;
            let (high, low) = ((number >> 64) as u64, number as u64);
            let rest = high.saturating_mul(6).saturating_add(low % 10);
            if !rest.is_multiple_of(10) && high <= 9 {
                return Err(SemanticError::ImpreciseAmount.into());
            }
            high.checked_mul(TENTH)
                .and_then(|tenths| tenths.checked_add(low / 10)?.checked_add(rest / 10))
        } else {
            u64::try_from(number).ok().and_then(|number| number.checked_mul(*value))
        };
        let msat = msat.ok_or(ParseError::AmountOverflow)?;
        Ok(Self { msat, unit })
    }

    /// The number that its digits are.
    pub(crate) fn number(&self) -> u128 {
        match UNITS.get(usize::from(self.unit)) {
            Some((_, value)) if self.unit != PICO => u128::from(self.msat / value),
            _ => u128::from(self.msat).saturating_mul(10),
        }
    }

    /// Index of its multiplier.
    pub(crate) fn unit(&self) -> u8 {
        self.unit
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
        let zero = SemanticError::ZeroAmount;
        assert_eq!(msat("lnbc"), Ok((Network::Mainnet, Ok(None))));
        assert_eq!(msat("lnbc0m"), Ok((Network::Mainnet, Err(zero))));
        assert_eq!(msat("lntb0p"), Ok((Network::Testnet3, Err(zero))));
        assert_eq!(msat("lntb0"), Ok((Network::Testnet3, Err(zero))));
        assert_eq!(msat("LNTB20M"), Ok((Network::Testnet3, Ok(Some(2_000_000_000)))));
        assert_eq!(msat("lntbs1"), Ok((Network::Signet, Ok(Some(100_000_000_000)))));
        assert_eq!(msat("lnbcrt10p"), Ok((Network::Regtest, Ok(Some(1)))));
        // All bitcoin, 2.1 * 10^19 pico-bitcoin, are more than 2^64 of them.
        for text in ["21000000", "21000000000m", "21000000000000u", "21000000000000000n"] {
            let all = Some(2_100_000_000_000_000_000);
            assert_eq!(msat(&std::format!("lnbc{text}")), Ok((Network::Mainnet, Ok(all))));
            let pico = "lnbc21000000000000000000p";
            assert_eq!(msat(pico), Ok((Network::Mainnet, Ok(all))));
        }
        // 2^64 - 1 millisatoshi, and the next that each multiplier can write.
        let most = "lnbc184467440737095516150p";
        assert_eq!(msat(most), Ok((Network::Mainnet, Ok(Some(u64::MAX)))));
        for (most, over) in [
            ("184467440", "184467441"),
            ("184467440737m", "184467440738m"),
            ("184467440737095u", "184467440737096u"),
            ("184467440737095516n", "184467440737095517n"),
            ("184467440737095516150p", "184467440737095516160p"),
        ] {
            assert!(matches!(msat(&std::format!("lnbc{most}")), Ok((_, Ok(Some(_))))), "{most}");
            let over = msat(&std::format!("lnbc{over}"));
            assert_eq!(over, Err(ParseError::AmountOverflow.into()), "{over:?}");
        }
        for text in ["lnbc11p", "lnbc18446744073709551617p", "lnbc184467440737095516159p"] {
            assert_eq!(msat(text), Err(SemanticError::ImpreciseAmount.into()), "{text}");
        }
        let errors = [
            ("lnbc18446744073709551615", ParseError::AmountOverflow),
            ("lnbc340282366920938463463374607431768211460p", ParseError::AmountOverflow),
            ("lnbc9999999999999999999999999999999999999990p", ParseError::AmountOverflow),
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
            assert_eq!(msat(text), Err(error.into()), "{text}");
        }
    }

    #[test]
    fn written_as_read() {
        for text in [
            "lnbc",
            "lntb0",
            "lntb0p",
            "lnbcrt10p",
            "lnbcrt18446744073709551610p",
            "lnbcrt184467440737095516150p",
            "lntbs2500u",
            "lnbc7n",
            "lnbc21000000",
        ] {
            let hrp = Hrp::parse(text.as_bytes()).unwrap();
            assert_eq!(hrp.text().as_bytes(), text.as_bytes());
            let (prefix, amount) = hrp.parts();
            assert_eq!(Hrp::from_parts(prefix, amount), Some(hrp));
            let again = amount.map(|a| Amount::from_number(a.number(), a.unit()).unwrap());
            assert_eq!(again, amount);
        }
        assert_eq!(Hrp::from_parts(4, None), None);
        let unknown = Bolt11Error::Parse(ParseError::UnknownMultiplier);
        assert_eq!(Amount::from_number(1, 5), Err(unknown));
    }
}
