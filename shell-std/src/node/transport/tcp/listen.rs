//! Accepts links, with a bound on unfinished handshakes.

use super::half_open::HalfOpen;
use super::handshake::ConnectError;
use super::link::Carrier;
use crate::{address, descriptors};
use smol::Async;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts until the task is dropped. Each handshake ends within its time, or when its place is
/// taken.
pub(super) async fn accept(
    listener: Async<TcpListener>,
    half_open: Arc<HalfOpen>,
    carrier: Arc<Carrier>,
) {
    let mut failing = false;
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: it may pass.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; this is said once");
                }
                smol::Timer::after(PAUSE).await;
                continue;
            }
        };
        if !descriptors::spares(&stream) {
            drop(stream);
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!("connections are not accepted: {}", descriptors::NONE_LEFT);
            }
            smol::Timer::after(5 * PAUSE).await;
            continue;
        }
        failing = false;
        let (number, displaced) = half_open.enter(address::prefix(address.ip()));
        drop(displaced);
        let (carrier, places) = (carrier.clone(), half_open.clone());
        let executor = carrier.ways.executor.clone();
        let handshake = async move {
            let result = carrier.ways.key.accept(stream, address).await;
            let is_late =
                |e: &ConnectError| matches!(e, ConnectError::Timeout(_) | ConnectError::Silent(_));
            places.leave(number, result.as_ref().is_err_and(is_late));
            match result {
                Ok(connection) => drop(carrier.carry(connection)),
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
        };
        half_open.attach(number, executor.spawn(handshake));
    }
}
