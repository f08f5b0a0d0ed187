//! Proofs of payment, checked offline. The rules are in docs/PROTOCOL.md, "Which payments
//! are accepted".

#[cfg(feature = "alloc")]
pub mod asked;
pub mod bolt11;
pub mod covenant;
pub mod ctv;
pub mod fee;
pub mod headers;
pub mod ledger;
pub mod lightning;
pub mod merkle;
pub mod packed;
pub mod proof;
pub mod reason;
pub mod replay;
mod symbols;
pub mod terms;
pub mod tx;
pub mod verify;

#[cfg(test)]
pub(crate) mod test_covenant;
#[cfg(test)]
pub(crate) mod test_invoice;
