//! JSON-RPC 2.0 over a Unix socket: what the command line and other programs
//! ask the daemon.

mod hexed;
mod schema;

pub mod client;
pub mod connection;
pub mod error;
pub mod events;
pub mod openrpc;
pub mod request;
pub mod server;
pub mod target;
pub mod types;
pub(crate) mod words;

pub use connection::Connection;
pub use error::RpcError;
pub use request::{Reply, Request};

/// Answers requests: what the node gives to the server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request, which came by this connection. Many are under way at once; one that
    /// waits holds up nobody else. Dropping the future gives the request up.
    fn handle(
        &self,
        request: Request,
        connection: &Connection,
    ) -> impl Future<Output = Result<Reply, RpcError>> + Send;
}
