//! What the node counts, for Prometheus: the numbers as text, and the small HTTP server that hands
//! them out. All of them are counted anyway, and read when somebody asks.

pub mod exposition;
pub mod histogram;
mod request;
mod serve;

pub use exposition::{Exposition, Form};
pub use histogram::Histogram;
pub use serve::{Listener, Scrape};
