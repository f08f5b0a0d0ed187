//! Proofs of payment, checked offline (DESIGN section 6).

pub mod fee;
pub mod terms;
