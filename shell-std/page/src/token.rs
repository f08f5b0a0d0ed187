//! What whoever looks must know.

use std::fmt;
use subtle::ConstantTimeEq;

/// Bytes of chance in a token.
const RANDOM: usize = 32;

/// A text that lets whoever shows it see the page. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// A new one of 64 hex digits.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; RANDOM];
        getrandom::fill(&mut random)?;
        Ok(Self(hex::encode(random)))
    }

    /// Reads one as it was written, with space around it; `None` if it is no token: 64 hex digits.
    pub fn read(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (digits && text.len() == 2 * RANDOM).then(|| Self(text.to_ascii_lowercase()))
    }

    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether this is it; how long that takes does not depend on where they differ.
    pub(crate) fn is(&self, given: &str) -> bool {
        self.0.as_bytes().ct_eq(given.as_bytes()).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_another_and_only_itself_is_taken() {
        let (one, other) = (Token::new().unwrap(), Token::new().unwrap());
        assert_ne!(one, other);
        assert_eq!(Token::read(&format!(" {}\n", one.reveal())), Some(one.clone()));
        assert!(one.is(one.reveal()) && !one.is(other.reveal()) && !one.is(""));
        let last = one.reveal().len() - 1;
        assert!(!one.is(&one.reveal()[..last]), "the beginning is not enough");
        for wrong in ["", "ab", &"g".repeat(64), &"a".repeat(65), &format!("{} a", "a".repeat(62))]
        {
            assert_eq!(Token::read(wrong), None, "{wrong}");
        }
        assert_eq!(format!("{one:?}"), "Token(..)");
    }
}
