//! The end to which Bitcoin nodes connect that reach others through the mesh.

use super::connection::{self, Ended};
use super::gateways;
use super::shared::Bridge;
use smol::net::{TcpListener, TcpStream};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections of Bitcoin nodes at once.
const MOST: usize = 32;
/// How long a Bitcoin node may take over its first message, and the pause while a part is there.
const GREETING: Duration = Duration::from_secs(20);
const PART: Duration = Duration::from_millis(20);
/// Pause after a failed `accept`: descriptors may be short.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes the connections of Bitcoin nodes.
pub(super) async fn listen(bridge: Arc<Bridge>, listener: TcpListener) {
    let places = Arc::new(smol::lock::Semaphore::new(MOST));
    loop {
        let place = places.acquire_arc().await;
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection of a Bitcoin node was not taken");
                smol::Timer::after(PAUSE).await;
                continue;
            }
        };
        let shared = bridge.clone();
        bridge
            .executor
            .spawn(async move {
                let _place = place;
                lead(&shared, tcp, from).await;
            })
            .detach();
    }
}

/// Waits for the beginning of the first message, and leaves it there. Who greets in another way is
/// turned away before a gateway hears of it: with a greeting of version 2 (BIP 324) it comes again
/// with one of version 1.
async fn is_greeted(bridge: &Bridge, tcp: &TcpStream) -> bool {
    let until = Instant::now() + GREETING;
    let mut begin = [0; 4];
    while Instant::now() < until {
        let late = async {
            smol::Timer::at(until).await;
            Ok(0)
        };
        let Ok(len) = smol::future::or(tcp.peek(&mut begin), late).await else { return false };
        match begin.get(..len) {
            Some(have) if len > 0 && bridge.magic.starts_with(have) => {}
            _ => return false,
        }
        if len == begin.len() {
            return true;
        }
        smol::Timer::after(PART).await;
    }
    false
}

async fn lead(bridge: &Bridge, tcp: TcpStream, from: SocketAddr) {
    if !is_greeted(bridge, &tcp).await {
        tracing::debug!(%from, "what connects does not begin as a Bitcoin node of this network, version 1");
        return;
    }
    let Some(gateway) = gateways::choose(bridge, 0).await else {
        tracing::warn!(
            %from,
            "no gateway to Bitcoin was found in the mesh; the Bitcoin node is let go, and will try again"
        );
        return;
    };
    let Some(connection) = bridge.table.open(bridge.node.now(), gateway) else {
        tracing::warn!(%from, "a Bitcoin node is let go: this node is stopping, or has no random bytes");
        return;
    };
    tracing::info!(%from, %gateway, "a Bitcoin node is led to a gateway");
    let ended = connection::run(bridge, &connection, tcp).await;
    bridge.table.remove(&connection);
    if matches!(ended, Ended::Lost(_)) {
        bridge.avoid(gateway);
    }
    tracing::info!(%from, %gateway, "the connection of a Bitcoin node has ended: {ended}");
}
