//! Proofs of payment, checked offline (DESIGN section 6).

pub mod covenant;
pub mod ctv;
pub mod fee;
pub mod headers;
pub mod merkle;
pub mod terms;
pub mod tx;
