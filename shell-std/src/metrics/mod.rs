//! What the node counts, for Prometheus: the numbers as text, and where they are asked for. All of
//! them are counted anyway, and read when somebody asks.

pub mod exposition;
pub mod histogram;
mod site;

pub use exposition::{Exposition, Form};
pub use histogram::Histogram;
pub use site::{Numbers, Scrape};
