//! `run`: a node with its files, its socket for commands, and an end by signal.

use super::{Issue, Node, Service, StartError, runtime};
use crate::config::Settings;
use crate::identity::{Identity, IdentityError, KEY_FILE};
use crate::issuer::{Issuer, IssuerError};
use crate::rpc::server::{BindError, Server};
use crate::store::{STORE_FILE, Store, StoreError};
use async_signal::{Signal, Signals};
use smol::Executor;
use smol::stream::StreamExt;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

/// Why the daemon ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The data directory cannot be made.
    #[error("cannot make the directory {path}: {error}", path = .path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// There is no identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// There is no store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The issuer's key cannot be had.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The node did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The socket cannot be served.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signals(io::Error),
}

/// Runs a node until SIGINT or SIGTERM. It keeps its files in the data directory,
/// which is made where it is not there. `ready` is called once the node listens
/// and its socket answers.
///
/// # Errors
/// What kept it from starting.
pub fn run(settings: &Settings, ready: impl FnOnce(&Node)) -> Result<(), DaemonError> {
    let dir = &settings.data_dir;
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| DaemonError::DataDir { path: dir.clone(), error })?;
    let identity = Identity::load_or_create(&dir.join(KEY_FILE))?;
    let store = Store::open(&dir.join(STORE_FILE), settings.shell.store_cache_bytes)?;
    let store = Arc::new(store);
    let issuer = match &settings.issuer_key {
        Some(path) => Some(Arc::new(Issuer::load_or_create(path)?) as Arc<dyn Issue>),
        None => None,
    };
    let executor = Arc::new(Executor::new());
    runtime::run(&executor, settings.shell.threads, async {
        let mut signals =
            Signals::new([Signal::Int, Signal::Term]).map_err(DaemonError::Signals)?;
        let server = Server::bind(&settings.rpc_socket)?;
        let node = {
            let remembered = store.restore()?;
            let key = identity.secret_key();
            Node::start(settings, key, store.clone(), remembered, &executor)?
        };
        let service = Arc::new(Service::new(node.handle().clone(), store.clone(), issuer));
        ready(&node);
        let serve = async {
            server.serve(service, &executor).await;
            None
        };
        let signal = smol::future::or(signals.next(), serve).await;
        tracing::info!(?signal, "stopping");
        // First the socket: whoever finds it finds a node that answers.
        drop(server);
        node.stop().await;
        Ok(())
    })
}
