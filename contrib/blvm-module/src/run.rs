//! The module at work.

use crate::api::Api;
use crate::host::Host;
use crate::keys::ModuleKeys;
use crate::links::{Happened, Links};
use crate::log;
use crate::session::{Session, SessionError};
use crate::settings::ModuleSettings;
use crate::shared::Shared;
use blvm_mesh::chain::ChainSource;
use blvm_mesh::identity::{self, Identity, KEY_FILE};
use blvm_mesh::issuer::Issuer;
use blvm_mesh::manager::{ManagerError, MeshContext, MeshManager};
use blvm_mesh::store::{STORE_FILE, Store};
use blvm_mesh_core::id::NodeId;
use smol::Executor;
use std::sync::Arc;

/// Why the module cannot begin.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Opens the module's files and serves the node until `gone` says of an error that it is gone.
///
/// # Errors
/// [`Failure`]: what is wrong with the settings or files, or why the node cannot be served.
pub fn run(settings: ModuleSettings, gone: impl Fn(&SessionError) -> bool) -> Result<(), Failure> {
    let ModuleSettings { name, socket, dialed, frames_per_minute, mesh } = settings;
    let dir = &mesh.data_dir;
    let identity = Identity::load_or_create(&dir.join(KEY_FILE))?;
    let (file, cache) = (dir.join(STORE_FILE), mesh.shell.store_cache_bytes);
    let store = Store::open_of(&file, cache, &identity.node_id(), identity::is_unused(dir))?;
    identity::mark_used(dir)?;
    let issuer = mesh.issuer_key.as_deref().map(Issuer::load_or_create).transpose()?;
    let (key, network) = (*identity.secret_key(), mesh.config.network);
    let most = mesh.config.capacities.neighbours;
    let max_packet = mesh.config.max_packet;
    let links = Links::new(ModuleKeys::new(&key), dialed, max_packet, most, frames_per_minute);
    let shared = Arc::new(Shared::new(links));
    log::begin(&shared, &mesh.log)?;
    let chain = mesh.chain.map(|chain| Arc::new(ChainSource::new(chain, network)));
    let host = Arc::new(Host::new(shared.clone(), chain));
    let context = MeshContext {
        config: mesh.config,
        key,
        store: Some(Arc::new(store)),
        inbox_bytes: mesh.shell.inbox_bytes,
        spending: mesh.spending,
    };
    let manager = Arc::new(MeshManager::new(context, host.clone())?);
    host.belongs_to(&manager);
    tracing::info!(
        id = %manager.id(),
        public_key = %identity.public_key(),
        network = network.name(),
        "the mesh begins"
    );
    let public_key = *identity.public_key();
    let api = Arc::new(Api { manager: manager.clone(), public_key, network, issuer });
    let executor = Arc::new(Executor::new());
    let timed = manager.clone();
    executor.spawn(async move { timed.run().await }).detach();
    executor.spawn(engine(shared.clone(), manager)).detach();
    let session = Session { socket, name, shared, api, executor: executor.clone() };
    match smol::block_on(executor.run(session.run(gone))) {
        error @ SessionError::Version(_) => Err(error.into()),
        // The node is gone, and the module has nothing to do any more.
        _ => Ok(()),
    }
}

/// Hands to the mesh what happens on links.
async fn engine(shared: Arc<Shared>, manager: Arc<MeshManager>) {
    loop {
        while let Some(happened) = shared.look_at_links(|links, now| links.poll(now)) {
            // What was taken makes room for more.
            shared.writer.ring();
            if let Some((peer, error)) = hand_over(&manager, happened).await {
                tracing::info!(peer, "the link is closed: {error}");
                shared.with_links(|links, _| links.close(&peer));
            }
        }
        shared.engine.rung().await;
    }
}

/// Names the peer whose link is of no use, and why.
async fn hand_over(manager: &MeshManager, happened: Happened) -> Option<(String, ManagerError)> {
    let (peer, done) = match happened {
        Happened::Up { peer, key, dialed, standing } => {
            tracing::info!(peer, %key, dialed, "a link is up");
            let id = NodeId::from_public_key(&key);
            let done = manager.peer_connected(&peer, id, dialed, standing).await;
            (peer, done)
        }
        Happened::Down { peer, reason } => {
            tracing::info!(peer, reason, "a link is down");
            manager.peer_disconnected(&peer).await;
            return None;
        }
        Happened::Packet { peer, bytes } => {
            let done = manager.handle_packet(&peer, &bytes).await.map(drop);
            (peer, done)
        }
        Happened::Congestion { peer, lane, full } => {
            manager.congestion(&peer, lane, full).await;
            return None;
        }
    };
    done.err().map(|error| (peer, error))
}
