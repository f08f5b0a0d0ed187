//! Who is a neighbour, how to reach the others, and what was here before
//! (DESIGN section 7).

pub mod bad_payments;
pub mod discovery;
pub mod hints;
pub mod liveness;
pub mod metric;
pub mod mirrors;
pub mod neighbours;
pub mod owners;
pub mod seen;
pub mod table;
