//! What can be wrong with an invoice, in two levels as in BOLT 11 libraries:
//! it cannot be read, or what it says is not allowed.

use thiserror_no_std::Error;

/// Why an invoice is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Bolt11Error {
    /// It cannot be read.
    #[error("the invoice cannot be read: {0}")]
    Parse(#[from] ParseError),
    /// It can be read, and breaks a rule of BOLT 11.
    #[error("the invoice breaks a rule of BOLT 11: {0}")]
    Semantic(#[from] SemanticError),
}

/// Why an invoice cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Longer than [`super::MAX_TEXT_LEN`] characters.
    #[error("it is longer than 7089 characters")]
    TooLong,
    /// BIP 173: lower and upper case must not be mixed.
    #[error("it mixes lower and upper case")]
    MixedCase,
    /// BIP 173: no `1` between human-readable part and data.
    #[error("it has no separator")]
    NoSeparator,
    /// BIP 173: a data character outside the alphabet.
    #[error("it has a character that is not in the bech32 alphabet")]
    InvalidCharacter,
    /// BIP 173: the checksum is wrong.
    #[error("its checksum is wrong")]
    Checksum,
    /// It does not begin with `ln`.
    #[error("it does not begin with 'ln'")]
    NotAnInvoice,
    /// Its prefix is of no network known here.
    #[error("its network is unknown")]
    UnknownNetwork,
    /// What follows the digits of the amount is not one of `m`, `u`, `n`, `p`.
    #[error("the multiplier of its amount is unknown")]
    UnknownMultiplier,
    /// Writers must not begin an amount with a zero.
    #[error("its amount begins with a zero")]
    LeadingZero,
    /// The amount in millisatoshi exceeds 64 bits.
    #[error("its amount is over 2^64 millisatoshi")]
    AmountOverflow,
    /// No room for timestamp, signature and checksum.
    #[error("it is too short for a timestamp and a signature")]
    TooShort,
    /// A field says that it is longer than what is left.
    #[error("its last field is cut short")]
    TruncatedField,
    /// A `p`, `h`, `s` or `n` field is not of the length that it must have.
    #[error("its {0} field does not have the length that BOLT 11 fixes")]
    FieldLength(char),
    /// A number (`x` or `c` field) exceeds 64 bits.
    #[error("one of its numbers exceeds 64 bits")]
    NumberOverflow,
    /// The `d` field is not UTF-8.
    #[error("its description is not UTF-8")]
    DescriptionNotUtf8,
    /// The `f` field's length does not fit its version.
    #[error("the length of a fallback address does not fit its version")]
    FallbackLength,
    /// The `r` field is not a whole number of 51-byte hops.
    #[error("a route hint is not a whole number of hops")]
    RouteHintLength,
    /// The recovery identifier exceeds 3, or `r` or `s` the order of the group.
    #[error("its signature is out of range")]
    SignatureRange,
}

/// Which rule of BOLT 11 an invoice breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SemanticError {
    /// No `p` field.
    #[error("it has no payment hash")]
    NoPaymentHash,
    /// More than one `p` field.
    #[error("it has more than one payment hash")]
    MultiplePaymentHashes,
    /// Neither a `d` nor an `h` field.
    #[error("it has no description")]
    NoDescription,
    /// More than one of `d` and `h` fields.
    #[error("it has more than one description")]
    MultipleDescriptions,
    /// No `s` field.
    #[error("it has no payment secret")]
    NoPaymentSecret,
    /// More than one `s` field.
    #[error("it has more than one payment secret")]
    MultiplePaymentSecrets,
    /// The `payment_secret` feature (14 or 15, BOLT 9) is missing.
    #[error("its features lack the payment secret")]
    NoPaymentSecretFeature,
    /// An even feature bit that is not known here.
    #[error("it requires an unknown feature")]
    UnknownRequiredFeature,
    /// Writers must not say an amount that pays nothing.
    #[error("its amount is zero")]
    ZeroAmount,
    /// The amount is not a whole number of millisatoshi.
    #[error("its amount is not a whole number of millisatoshi")]
    ImpreciseAmount,
    /// The `n` field is not a point of the curve.
    #[error("its payee is not a valid public key")]
    InvalidPayeeKey,
    /// The `n` field names another key than the one asked about.
    #[error("it names another payee")]
    OtherPayee,
    /// The signature is not by the key, not low-S where it must be, or no key can
    /// be recovered from it.
    #[error("its signature is not valid")]
    InvalidSignature,
}
