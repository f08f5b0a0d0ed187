//! LoRa radios without I/O: what is said to modems, and what the law allows.
//!
//! ```text
//! bytes of the line --> KISS frames --> Rnode, Meshcore --> events
//!                   <--             <--                 <-- frames to be sent
//! ```
//!
//! A [`Modem`] is a state machine for each of two dialects: it finds out what is attached, sets the
//! parameters and reads each back, and then sends and receives frames. Whoever has the line drives it.

mod fault;
mod key;
pub mod kiss;
mod meshcore;
mod modem;
mod parameters;
pub mod region;
mod rnode;
mod table;

pub use fault::Fault;
pub use key::{ChannelKey, KeyError};
pub use meshcore::Meshcore;
pub use modem::{Dialect, Event, Heard, Identity, Modem};
pub use parameters::{BANDWIDTHS_HZ, Limits, Parameters};
pub use region::{Region, Unlawful};
pub use rnode::Rnode;
pub use table::{Row, rows};

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
