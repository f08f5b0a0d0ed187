//! Proofs of payment, checked offline (DESIGN section 6).

pub mod bolt11;
pub mod lightning;
pub mod packed;
pub mod terms;

#[cfg(test)]
mod test_invoice;
