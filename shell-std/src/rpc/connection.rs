//! What the server keeps of one connection: the subscriptions of its client.

use super::RpcError;
use super::events::{EventLog, Read, Reader};
use super::types::{MeshEvent, Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use serde::Serialize;
use smol::channel::{Receiver, Sender, bounded};
use smol::lock::{Semaphore, SemaphoreGuardArc};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Name of the notification that carries an event.
pub const EVENT: &str = "meshevent";
/// Most subscriptions of one connection.
pub const MOST_SUBSCRIPTIONS: usize = 8;
/// Events of one subscription that are written in one go.
const AT_ONCE: usize = 16;

/// Connections that may have subscriptions. They are never closed to make room for others, so that
/// they must not be all.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    free: Arc<Semaphore>,
    most: usize,
}

impl Seats {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }
}

/// A client's connection, as those know it who answer its requests.
#[derive(Debug)]
pub struct Connection {
    seats: Seats,
    news: Sender<()>,
    heard: Receiver<()>,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    open: Vec<Subscription>,
    last: u64,
    seat: Option<SemaphoreGuardArc>,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    reader: Reader,
    /// Whether the client has been answered, and may be told events.
    begun: bool,
}

/// A connection by itself, as for a host that answers requests from elsewhere.
impl Default for Connection {
    fn default() -> Self {
        Self::new(Seats::new(1))
    }
}

impl Connection {
    pub(super) fn new(seats: Seats) -> Self {
        let (news, heard) = bounded(1);
        Self { seats, news, heard, subscriptions: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Subscriptions> {
        self.subscriptions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Subscribes to what a log is told. The first event comes behind the answer.
    ///
    /// # Errors
    /// [`RpcError::REFUSED`]: this connection has [`MOST_SUBSCRIPTIONS`], or too many connections
    /// have some. [`RpcError::INVALID_PARAMS`]: the cursor is ahead of the log.
    pub fn subscribe(
        &self,
        log: &Arc<EventLog>,
        request: &Subscribe,
    ) -> Result<Subscribed, RpcError> {
        let mut subscriptions = self.lock();
        if subscriptions.open.len() >= MOST_SUBSCRIPTIONS {
            let text = format!(
                "this connection has {MOST_SUBSCRIPTIONS} subscriptions already; one may have \
                 several topics"
            );
            return Err(RpcError::refused(text));
        }
        let (reader, missed) = log
            .read(&request.topics, request.cursor.as_ref(), self.news.clone())
            .map_err(|e| RpcError::invalid_params(format!("meshsubscribe: {e}")))?;
        if subscriptions.seat.is_none() {
            let text = || {
                let most = self.seats.most;
                format!("{most} connections have subscriptions, and more may not; close one")
            };
            let seat = self.seats.free.try_acquire_arc();
            subscriptions.seat = Some(seat.ok_or_else(|| RpcError::refused(text()))?);
        }
        let number = subscriptions.last.saturating_add(1);
        subscriptions.last = number;
        let cursor = reader.cursor();
        subscriptions.open.push(Subscription { number, reader, begun: false });
        Ok(Subscribed { subscription: number, cursor, missed })
    }

    /// Ends a subscription.
    ///
    /// # Errors
    /// [`RpcError::REFUSED`]: there is none with this number.
    pub fn unsubscribe(&self, request: Unsubscribe) -> Result<Unsubscribed, RpcError> {
        let Unsubscribe { subscription } = request;
        let mut subscriptions = self.lock();
        let place = subscriptions.open.iter().position(|open| open.number == subscription);
        let Some(place) = place else {
            let text = format!("this connection has no subscription {subscription}");
            return Err(RpcError::refused(text));
        };
        let cursor = subscriptions.open.remove(place).reader.cursor();
        if subscriptions.open.is_empty() {
            subscriptions.seat = None;
        }
        Ok(Unsubscribed { subscription, cursor })
    }

    /// Whether there are any.
    pub(super) fn is_subscribed(&self) -> bool {
        !self.lock().open.is_empty()
    }

    /// The client has its answers: what it has subscribed to may be told.
    pub(crate) fn begin(&self) {
        for subscription in &mut self.lock().open {
            if !std::mem::replace(&mut subscription.begun, true) {
                // There may be events behind the cursor. A full channel means the same.
                let _ = self.news.try_send(());
            }
        }
    }

    /// Lines with the next events, once there are any. Dropped before, it loses none.
    pub(crate) async fn events(&self) -> Vec<u8> {
        loop {
            let mut lines = Vec::new();
            for Subscription { number, reader, .. } in
                self.lock().open.iter_mut().filter(|open| open.begun)
            {
                for event in reader.take(AT_ONCE) {
                    Notification::new(*number, event).write(&mut lines);
                }
            }
            if !lines.is_empty() {
                // There may be more.
                let _ = self.news.try_send(());
                return lines;
            }
            // Both ends of the channel are here.
            let _ = self.heard.recv().await;
        }
    }
}

#[derive(Serialize)]
struct Notification {
    jsonrpc: &'static str,
    method: &'static str,
    params: MeshEvent,
}

impl Notification {
    fn new(subscription: u64, event: Read) -> Self {
        let Read { cursor, time_ms, topic, happened: event } = event;
        let params = MeshEvent { subscription, cursor, time_ms, topic, event };
        Self { jsonrpc: "2.0", method: EVENT, params }
    }

    fn write(&self, lines: &mut Vec<u8>) {
        // It has no key that JSON cannot hold, and a vector takes all.
        if serde_json::to_writer(&mut *lines, self).is_ok() {
            lines.push(b'\n');
        }
    }
}
