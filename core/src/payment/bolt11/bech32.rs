//! Bech32 (BIP 173) without its length limit of 90, as BOLT 11 uses it.

use super::ParseError;
use crate::payment::symbols::alphabet::symbol;

/// Longest invoice that is read, in characters. The limit of lightning-invoice
/// and of LND (what fits a QR code).
pub const MAX_TEXT_LEN: usize = 7089;

/// Symbols of the checksum at the end.
pub(super) const CHECKSUM_LEN: usize = 6;

/// What the five bits that leave the checksum register feed back (BIP 173).
const FEEDBACK: [u32; 32] = {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let mut table = [0; 32];
    let mut top = 0;
    while top < 32 {
        let mut bit = 0;
        while bit < 5 {
            if (top >> bit) & 1 == 1 {
                table[top] ^= GENERATOR[bit];
            }
            bit += 1;
        }
        top += 1;
    }
    table
};

/// The checksum register (BIP 173, "polymod").
pub(super) struct Checksum(u32);

impl Checksum {
    /// Starts with the human-readable part, in lower or upper case.
    pub(super) fn new(hrp: &[u8]) -> Self {
        let mut register = Self(1);
        let lower = || hrp.iter().map(u8::to_ascii_lowercase);
        lower().for_each(|c| register.input(c >> 5));
        register.input(0);
        lower().for_each(|c| register.input(c & 31));
        register
    }

    pub(super) fn input(&mut self, symbol: u8) {
        let top = (self.0 >> 25) & 31;
        self.0 = ((self.0 & 0x01ff_ffff) << 5) ^ u32::from(symbol) ^ FEEDBACK[top as usize];
    }

    /// Whether what was put in ended with its right checksum.
    pub(super) fn is_valid(&self) -> bool {
        self.0 == 1
    }

    /// The six symbols that complete what was put in.
    pub(super) fn finish(mut self) -> [u8; CHECKSUM_LEN] {
        (0..CHECKSUM_LEN).for_each(|_| self.input(0));
        let residue = self.0 ^ 1;
        [25, 20, 15, 10, 5, 0].map(|shift| ((residue >> shift) & 31) as u8)
    }
}

/// Splits a text into its human-readable part and its data characters without
/// the checksum. Case, alphabet, length and checksum are checked.
pub(super) fn split(text: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    if text.len() > MAX_TEXT_LEN {
        return Err(ParseError::TooLong);
    }
    if text.iter().any(u8::is_ascii_lowercase) && text.iter().any(u8::is_ascii_uppercase) {
        return Err(ParseError::MixedCase);
    }
    // '1' is not in the alphabet, so the last one is the separator.
    let separator = text.iter().rposition(|c| *c == b'1').ok_or(ParseError::NoSeparator)?;
    let (hrp, rest) = text.split_at(separator);
    let characters = rest.get(1..).unwrap_or_default();
    let mut checksum = Checksum::new(hrp);
    for c in characters {
        checksum.input(symbol(*c).ok_or(ParseError::InvalidCharacter)?);
    }
    let data_len = characters.len().checked_sub(CHECKSUM_LEN).ok_or(ParseError::TooShort)?;
    if !checksum.is_valid() {
        return Err(ParseError::Checksum);
    }
    Ok((hrp, characters.get(..data_len).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// BIP 173, "Test vectors".
    #[test]
    fn bip173_vectors() {
        let valid = [
            "A12UEL5L",
            "a12uel5l",
            "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
            "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw",
            "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
            "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w",
            "?1ezyfcl",
        ];
        for text in valid {
            let (hrp, data) = split(text.as_bytes()).expect(text);
            let mut checksum = Checksum::new(hrp);
            data.iter().for_each(|c| checksum.input(symbol(*c).unwrap()));
            let end: std::vec::Vec<u8> = checksum
                .finish()
                .into_iter()
                .map(crate::payment::symbols::alphabet::character)
                .collect();
            let lower = text.to_ascii_lowercase();
            assert!(lower.as_bytes().ends_with(&end), "{text}");
        }
        let invalid = [
            ("pzry9x0s0muk", ParseError::NoSeparator),
            ("x1b4n0q5v", ParseError::InvalidCharacter),
            ("li1dgmt3", ParseError::TooShort),
            ("A1G7SGD8", ParseError::Checksum),
            ("a12UEL5L", ParseError::MixedCase),
        ];
        for (text, error) in invalid {
            assert_eq!(split(text.as_bytes()), Err(error), "{text}");
        }
    }
}
