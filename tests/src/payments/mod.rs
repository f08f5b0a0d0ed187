//! Payments made for tests: invoices that are paid or not, and covenants on a simulated chain.

pub mod bank;
pub mod chain;
pub mod invoice;
