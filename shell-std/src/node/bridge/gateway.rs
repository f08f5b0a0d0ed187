//! The end that leads connections of other nodes to a Bitcoin node.

use super::connection::{self, Ended};
use super::shared::Bridge;
use crate::bridge::control::Control;
use crate::bridge::table::Connection;
use blvm_mesh_core::id::NodeId;
use smol::channel::Receiver;
use smol::net::TcpStream;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long the Bitcoin node may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes the connections that others open.
pub(super) async fn accept(bridge: Arc<Bridge>, accepted: Receiver<Arc<Connection>>) {
    while let Ok(connection) = accepted.recv().await {
        let shared = bridge.clone();
        bridge.executor.spawn(async move { lead(&shared, &connection).await }).detach();
    }
}

async fn lead(bridge: &Bridge, connection: &Connection) {
    let peer = connection.peer;
    let ended = match connect(bridge).await {
        Ok(tcp) => {
            tracing::info!(%peer, "a node's connection is led to the Bitcoin node");
            connection::run(bridge, connection, tcp).await
        }
        Err(error) => {
            let address = bridge.settings.node.map(|node| node.to_string()).unwrap_or_default();
            tracing::warn!(%peer, address, %error, "the Bitcoin node (bitcoin.node) does not answer");
            connection::give_up(bridge, connection).await;
            Ended::Failed(error.to_string())
        }
    };
    bridge.table.remove(connection);
    tracing::info!(%peer, "a node's connection has ended: {ended}");
}

async fn connect(bridge: &Bridge) -> io::Result<TcpStream> {
    let node = bridge.settings.node.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let late = async {
        smol::Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    smol::future::or(TcpStream::connect(node), late).await
}

/// Tells others that there is no such connection.
pub(super) async fn refuse(bridge: Arc<Bridge>, resets: Receiver<(NodeId, Control)>) {
    while let Ok((destination, control)) = resets.recv().await {
        let mut payload = Vec::new();
        control.write(bridge.magic, &mut payload);
        bridge.answer(destination, payload).await;
        // Whoever asks for many of these waits.
        smol::Timer::after(Duration::from_millis(50)).await;
    }
}
