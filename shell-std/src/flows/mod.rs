//! Flows for applications: streams to another node of the mesh, encrypted from end to end, paid
//! for by the node itself, and taken up again over another route when one breaks.
//!
//! ```text
//! application -- Stream (pipe) --> Hub -- Mesh::streams --> state machine --> packets
//!             <-----------------       <-- Action::Flow --
//! ```
//!
//! - [`Flows`] opens flows and takes those of others ([`Listener`]); a [`Flow`] has any number of
//!   [`Stream`]s, which are read and written like a TCP connection.
//! - [`Services`] makes TCP ports of this host reachable by name, and those of others reachable
//!   at a port of this host, and takes datagrams that others send over flows.

mod copy;
mod forward;
mod handle;
pub(crate) mod hub;
pub(crate) mod inbox;
pub(crate) mod memory;
mod pipe;
pub(crate) mod places;
mod preamble;
mod services;

pub(crate) use forward::local;
pub use forward::{ForwardSpec, SpecError};
pub use handle::{Flow, FlowError, Flows, Listener};
pub use inbox::Inbox;
pub use pipe::Stream;
pub use preamble::{NameError, ServiceName};
pub use services::{Exposed, Forwarded, ServiceError, Services};
