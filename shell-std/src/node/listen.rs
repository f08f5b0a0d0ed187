//! Accepts links, with a bound on unfinished handshakes.

use super::command::Command;
use super::handshake::LinkKey;
use crate::descriptors;
use smol::Async;
use smol::lock::Semaphore;
use std::collections::HashMap;
use std::net::{IpAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Unfinished handshakes from one address, so that one host cannot take all.
const MOST_FROM_ONE: usize = 16;

/// Counts unfinished handshakes by address.
#[derive(Default)]
struct Unfinished(Mutex<HashMap<IpAddr, usize>>);

struct Entry(Arc<Unfinished>, IpAddr);

impl Unfinished {
    fn enter(self: &Arc<Self>, ip: IpAddr) -> Option<Entry> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = map.entry(ip).or_default();
        if *count >= MOST_FROM_ONE {
            return None;
        }
        *count += 1;
        Some(Entry(self.clone(), ip))
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut map = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = map.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                map.remove(&self.1);
            }
        }
    }
}

/// Accepts until the task is dropped. While `most` handshakes are unfinished no
/// further connection is accepted; each ends within its time.
pub(crate) async fn accept(
    listener: Async<TcpListener>,
    identity: Arc<LinkKey>,
    most: usize,
    engine: smol::channel::Sender<Command>,
    executor: Arc<smol::Executor<'static>>,
) {
    let slots = Arc::new(Semaphore::new(most));
    let unfinished = Arc::new(Unfinished::default());
    let mut failing = false;
    loop {
        let slot = slots.acquire_arc().await;
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: it may pass.
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "cannot accept connections; this is said once");
                }
                smol::Timer::after(Duration::from_millis(200)).await;
                continue;
            }
        };
        if !descriptors::spares(&stream) {
            drop(stream);
            if !std::mem::replace(&mut failing, true) {
                tracing::warn!("connections are not accepted: {}", descriptors::NONE_LEFT);
            }
            smol::Timer::after(Duration::from_secs(1)).await;
            continue;
        }
        failing = false;
        let Some(entry) = unfinished.enter(address.ip()) else {
            tracing::debug!(%address, "too many unfinished handshakes from this address");
            continue;
        };
        let (identity, engine) = (identity.clone(), engine.clone());
        let handshake = async move {
            match identity.accept(stream, address).await {
                Ok(established) => {
                    drop((slot, entry));
                    let _ = engine.send(Command::LinkUp(Box::new(established))).await;
                }
                Err(error) => tracing::debug!(%address, %error, "handshake failed"),
            }
        };
        executor.spawn(handshake).detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_only_its_part() {
        let unfinished = Arc::new(Unfinished::default());
        let ip = IpAddr::from([10, 0, 0, 1]);
        let held: Vec<_> = (0..MOST_FROM_ONE).map(|_| unfinished.enter(ip)).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(unfinished.enter(ip).is_none());
        assert!(unfinished.enter(IpAddr::from([10, 0, 0, 2])).is_some());
        drop(held);
        assert!(unfinished.enter(ip).is_some());
        assert!(unfinished.0.lock().unwrap().is_empty());
    }
}
