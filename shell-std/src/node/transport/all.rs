//! All transports: where they are started, stopped and asked.

use super::Ways;
use super::serial::{self, LineStatus};
use super::tcp::{self, half_open::HalfOpen};
use crate::config::Settings;
use crate::rpc::types::Stats;
use smol::{Async, Task};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

pub(crate) use super::tcp::dialers::Dialers;
#[cfg(test)]
pub(crate) use super::tcp::shake_hands;

/// Listeners opened early, so that a node that cannot listen does not start.
#[derive(Default)]
pub(crate) struct Listeners {
    tcp: Option<Async<TcpListener>>,
}

impl Listeners {
    /// Listens where the settings say.
    ///
    /// # Errors
    /// The first address that cannot be listened on, and why.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, (SocketAddr, io::Error)> {
        let bind = |address| Async::<TcpListener>::bind(address).map_err(|e| (address, e));
        Ok(Self { tcp: settings.listen_addr.map(bind).transpose()? })
    }

    /// Where it listens, with the actual port.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.get_ref().local_addr().ok())
    }
}

/// The transports of a running node.
pub(crate) struct Transports {
    /// Those that make new links. Dropping a task ends it.
    newcomers: Vec<Task<()>>,
    /// Those that dial by TCP.
    dialers: Arc<Dialers>,
    /// Those that also send what is left.
    _lines: Vec<Task<()>>,
}

impl Transports {
    /// Starts all; what they report is in the status.
    pub(crate) fn start(
        listeners: Listeners,
        settings: &Settings,
        ways: &Ways,
    ) -> (Self, TransportStatus) {
        let (newcomers, half_open, dialers) = tcp::start(listeners.tcp, settings, ways);
        let (lines, status) = serial::start(settings, ways);
        let transports = Self { newcomers, dialers, _lines: lines };
        (transports, TransportStatus { half_open, lines: status.into() })
    }

    /// The neighbours that are dialled by TCP.
    pub(crate) fn dialers(&self) -> Arc<Dialers> {
        self.dialers.clone()
    }

    /// Makes no new links. Existing ones stay.
    pub(crate) fn take_no_more(&mut self) {
        self.newcomers.clear();
        self.dialers.stop();
    }
}

/// The state of the transports, for status reports; cheap to clone.
#[derive(Clone)]
pub(crate) struct TransportStatus {
    half_open: Arc<HalfOpen>,
    lines: Arc<[Arc<LineStatus>]>,
}

impl TransportStatus {
    /// Adds what is known here.
    pub(crate) fn report(&self, stats: &mut Stats) {
        stats.lines = self.lines.iter().map(|line| line.report()).collect();
        let half_open = self.half_open.counts();
        stats.connections.half_open = half_open.now;
        stats.connections.displaced_by_prefix = half_open.of_prefix;
        stats.connections.displaced = half_open.of_all;
        stats.connections.late = half_open.late;
    }
}
