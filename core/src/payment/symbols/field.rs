//! What is known of an invoice's fields (BOLT 11) without reading it.

/// What a text description begins with when it commits to payment terms; 64 hex
/// digits follow, and nothing else.
pub const TERMS_PREFIX: &[u8; 10] = b"blvm-mesh:";

/// Symbols of the timestamp (35 bits).
pub(in crate::payment) const TIMESTAMP_SYMBOLS: usize = 7;
/// Symbols of a field that holds 32 bytes: `p`, `h`, `s`.
pub(in crate::payment) const HASH_SYMBOLS: usize = 52;

/// Field tags (BOLT 11, "Tagged Fields").
pub(in crate::payment) mod tag {
    pub(in crate::payment) const PAYMENT_HASH: u8 = 1;
    pub(in crate::payment) const ROUTE_HINT: u8 = 3;
    pub(in crate::payment) const FEATURES: u8 = 5;
    pub(in crate::payment) const EXPIRY: u8 = 6;
    pub(in crate::payment) const FALLBACK: u8 = 9;
    pub(in crate::payment) const DESCRIPTION: u8 = 13;
    pub(in crate::payment) const PAYMENT_SECRET: u8 = 16;
    pub(in crate::payment) const PAYEE: u8 = 19;
    pub(in crate::payment) const DESCRIPTION_HASH: u8 = 23;
    pub(in crate::payment) const MIN_FINAL_CLTV: u8 = 24;
}
