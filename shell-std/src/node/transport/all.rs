//! All transports: where they are started, stopped and asked.

use super::Ways;
use super::lora::{self, RadioStatus};
use super::serial::{self, LineStatus};
use super::tcp::{self, half_open::HalfOpen, lan::LanStatus};
use crate::config::Settings;
use crate::radio::ChannelKey;
use crate::rpc::types::Stats;
use smol::{Async, Task};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

pub(crate) use super::lora::{Checked, NoKey, check};
pub(crate) use super::tcp::dialers::Dialers;
#[cfg(test)]
pub(crate) use super::tcp::shake_hands;

/// Listeners opened early, so that a node that cannot listen does not start.
pub(crate) struct Listeners {
    tcp: Option<Async<TcpListener>>,
    channel_keys: Vec<ChannelKey>,
}

/// Why a node cannot listen.
pub(crate) enum NotListening {
    /// The address, and why.
    Tcp(SocketAddr, io::Error),
    /// A radio channel has no key.
    Radio(NoKey),
}

impl Listeners {
    /// Listens where the settings say.
    ///
    /// # Errors
    /// The first thing that cannot be listened on, and why.
    pub(crate) fn bind(settings: &Settings) -> Result<Self, NotListening> {
        let wrong = |address| move |error| NotListening::Tcp(address, error);
        let bind = |address| Async::<TcpListener>::bind(address).map_err(wrong(address));
        let channel_keys = lora::keys(settings).map_err(NotListening::Radio)?;
        Ok(Self { tcp: settings.listen_addr.map(bind).transpose()?, channel_keys })
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
        let tcp::Started { tasks: newcomers, half_open, dialers, lan } =
            tcp::start(listeners.tcp, settings, ways);
        let (mut lines, of_lines) = serial::start(settings, ways);
        let (radios, of_radios) = lora::start(listeners.channel_keys, settings, ways);
        lines.extend(radios);
        let (lines_status, radios) = (of_lines.into(), of_radios.into());
        let status = TransportStatus { half_open, lan, lines: lines_status, radios };
        (Self { newcomers, dialers, _lines: lines }, status)
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
    lan: Arc<LanStatus>,
    lines: Arc<[Arc<LineStatus>]>,
    radios: Arc<[Arc<RadioStatus>]>,
}

impl TransportStatus {
    /// Adds what is known here.
    pub(crate) fn report(&self, stats: &mut Stats) {
        stats.lines = self.lines.iter().map(|line| line.report()).collect();
        stats.radios = self.radios.iter().map(|radio| radio.report()).collect();
        stats.lan = self.lan.report();
        let half_open = self.half_open.counts();
        stats.connections.half_open = half_open.now;
        stats.connections.displaced_by_prefix = half_open.of_prefix;
        stats.connections.displaced = half_open.of_all;
        stats.connections.late = half_open.late;
    }
}
