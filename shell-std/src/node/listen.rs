//! Accepts links, with a bound on unfinished handshakes.

use super::command::Command;
use super::half_open::HalfOpen;
use super::handshake::{ConnectError, LinkKey};
use crate::{address, descriptors};
use smol::Async;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Accepts until the task is dropped. Each handshake ends within its time, or when there is
/// no place for it any more.
pub(crate) async fn accept(
    listener: Async<TcpListener>,
    identity: Arc<LinkKey>,
    half_open: Arc<HalfOpen>,
    engine: smol::channel::Sender<Command>,
    executor: Arc<smol::Executor<'static>>,
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
        let (identity, engine, places) = (identity.clone(), engine.clone(), half_open.clone());
        let handshake = async move {
            let result = identity.accept(stream, address).await;
            let is_late =
                |e: &ConnectError| matches!(e, ConnectError::Timeout(_) | ConnectError::Silent(_));
            places.leave(number, result.as_ref().is_err_and(is_late));
            match result {
                Ok(established) => {
                    let _ = engine.send(Command::LinkUp(Box::new(established))).await;
                }
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
        };
        half_open.attach(number, executor.spawn(handshake));
    }
}
