//! Serial lines: a task for each keeps it open and a link over it up.
//!
//! ```text
//! engine -- packets --> egress --> DatagramLink -- frames --> port (paced by its rate)
//!    ^                                  ^ |
//!    +---- packets, up and down --------+-+---- bytes between zeros <-- port
//! ```
//!
//! A line has one neighbour. The end that has the other's key dials; the other listens. The line
//! stays open when the link ends, and is reopened when it fails.

mod driver;
mod limits;
mod line;
mod status;

pub(super) use status::LineStatus;

use super::Ways;
use super::backoff::Backoff;
use super::port::{Port, PortError};
use crate::address::{Place, SerialLine};
use crate::config::Settings;
use driver::Driver;
use limits::LineLimits;
use line::Line;
use secp256k1::PublicKey;
use smol::Task;
use std::sync::Arc;
use std::time::Instant;

/// Starts the tasks of all lines, and reports what becomes of each.
pub(super) fn start(settings: &Settings, ways: &Ways) -> (Vec<Task<()>>, Vec<Arc<LineStatus>>) {
    let start = |(line, remote): (&SerialLine, Option<PublicKey>)| {
        let status = Arc::new(LineStatus::new(line.clone(), remote.is_some()));
        let limits = LineLimits::new(line, &settings.config, settings.shell.queue_bytes);
        let (line, ways) = (line.clone(), ways.clone());
        let line = Line { line, remote, limits, status: status.clone(), ways };
        (line.ways.executor.clone().spawn(keep(line)), status)
    };
    lines(settings).map(start).unzip()
}

/// All serial lines, and whose key is dialled on each.
fn lines(settings: &Settings) -> impl Iterator<Item = (&SerialLine, Option<PublicKey>)> {
    let dialed = settings.peers.iter().filter_map(|peer| match &peer.place {
        Place::Tcp(_) => None,
        Place::Line(line) => Some((line, Some(peer.public_key))),
    });
    settings.listen_lines.iter().map(|line| (line, None)).chain(dialed)
}

/// Keeps the line open for as long as the engine runs.
async fn keep(line: Line) {
    let mut backoff = Backoff::new(line.ways.pauses);
    while !line.ways.engine.is_closed() {
        line.absent().await;
        let (error, lasted) = match Port::open(&line.line, line.ways.key.timeout).await {
            Ok(port) => {
                let since = Instant::now();
                tracing::info!(line = %line.line, "the line is open");
                line.status.opened();
                let error = Driver::new(&line, &port).run().await;
                (error, Some(since.elapsed()))
            }
            Err(error) => (error, None),
        };
        if let PortError::Stopping = error {
            return;
        }
        line.failed(&error.to_string());
        if let Some(pause) = backoff.after(lasted) {
            smol::Timer::after(pause).await;
        }
    }
}
