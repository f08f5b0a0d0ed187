//! The page: a mesh node in a browser on its own host.
//!
//! - [`http`]: a small HTTP server with a bound on everything. Prometheus is served by it as well.
//! - [`Snapshot`] and [`Totals`]: what a node, or a simulated world, tells about itself. Whoever
//!   has them implements [`Source`].
//! - [`Hub`]: asks the source at most once a second, whoever looks, and keeps the [`History`] and
//!   the last [`Lines`] of the log.
//! - [`Page`]: a port of this host, behind a [`Token`].
//!
//! It stands apart from the node so that the simulator can use it without the node.

mod document;
mod history;
pub mod http;
mod hub;
mod log;
mod page;
mod snapshot;
mod token;

pub use history::{History, Totals};
pub use hub::{Hub, MOST_VIEWERS, Source};
pub use log::{Line, Lines};
pub use page::{NotLocal, Page};
pub use snapshot::{
    About, Fact, Flow, Link, LinkKind, LinkState, Node, Peer, Place, Price, Radio, Role, Route,
    Snapshot, Warning,
};
pub use token::Token;
