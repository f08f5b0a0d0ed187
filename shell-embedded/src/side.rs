//! The receiving side of a port: its handshake, frames and packets.

use crate::memory::Received;
use crate::{Down, HANDSHAKE_TIMEOUT, PACKET_TIMEOUT, PAUSE, Port, QUIET, Role};
use bitcoin::secp256k1::Keypair;
use blvm_mesh_core::link::aead::Aead;
use blvm_mesh_core::link::joiner::Joiner;
use blvm_mesh_core::link::transport::FRAME_OVERHEAD;
use blvm_mesh_core::link::{Link, LinkLimits};
use blvm_mesh_core::time::Micros;
use heapless::VecView;

/// Memory in which a split packet is put together.
type Assembly = &'static mut VecView<u8>;

/// One port, with what has come in on it.
pub(crate) struct Side<A, P> {
    pub(crate) port: P,
    pub(crate) role: Role,
    pub(crate) link: Option<Link<A>>,
    /// The link failed: nothing is sent, and what comes in is discarded, until then.
    pub(crate) rests_until: Option<Micros>,
    pub(crate) joiner: Joiner<Assembly>,
    rx: &'static mut [u8],
    have: usize,
}

impl<A: Aead, P: Port> Side<A, P> {
    pub(crate) fn new<const PACKET: usize, const FRAME: usize>(
        (port, role): (P, Role),
        memory: &'static mut Received<PACKET, FRAME>,
    ) -> Self {
        let Received { free, paid, frame } = memory;
        let (free, paid) = (free.as_mut_view(), paid.as_mut_view());
        let joiner = Joiner::new(PACKET, PACKET_TIMEOUT, free, paid);
        Self { port, role, link: None, rests_until: None, joiner, rx: frame, have: 0 }
    }

    fn limits(&self) -> LinkLimits {
        let max_body = self.rx.len().saturating_sub(FRAME_OVERHEAD);
        let max_body = u16::try_from(max_body).unwrap_or(u16::MAX);
        LinkLimits { handshake_timeout: HANDSHAKE_TIMEOUT, max_body }
    }

    /// Reads what fits; `false` if nothing came in. While the port rests, nothing
    /// is kept.
    pub(crate) fn read(&mut self, now: Micros) -> bool {
        if self.rests_until.is_some() {
            self.have = 0;
        }
        let room = self.rx.get_mut(self.have..).unwrap_or_default();
        let n = self.port.read(room).min(room.len());
        match &mut self.rests_until {
            Some(until) => {
                if n > 0 && self.role == Role::Listen {
                    *until = now.saturating_add(QUIET).max(*until);
                }
                if n == 0 && now >= *until {
                    self.rests_until = None;
                }
                false
            }
            None => {
                self.have += n;
                n > 0
            }
        }
    }

    /// Begins a handshake where it is this port's turn; gives Act One to send.
    /// A port that listens begins with the first byte that comes in.
    pub(crate) fn begin(
        &mut self,
        now: Micros,
        local: &Keypair,
        ephemeral: impl FnOnce() -> Keypair,
    ) -> Option<[u8; 50]> {
        if self.link.is_some() || self.rests_until.is_some() {
            return None;
        }
        let limits = self.limits();
        match &self.role {
            Role::Dial(remote) => {
                let (link, act) = Link::initiator(now, limits, local, &ephemeral(), remote);
                self.link = Some(link);
                self.have = 0;
                Some(act)
            }
            Role::Listen => {
                if self.have > 0 {
                    let link = Link::responder(now, limits, local, &ephemeral());
                    self.link = Some(link);
                }
                None
            }
        }
    }

    /// What has come in and is not consumed, with the parts that take it.
    pub(crate) fn parts(&mut self) -> Option<(&mut Link<A>, &mut Joiner<Assembly>, &mut [u8])> {
        let Self { link, joiner, rx, have, .. } = self;
        Some((link.as_mut()?, joiner, rx.get_mut(..*have)?))
    }

    /// Makes room: the first bytes are dealt with.
    pub(crate) fn consume(&mut self, len: usize) {
        let len = len.min(self.have);
        self.rx.copy_within(len..self.have, 0);
        self.have -= len;
    }

    /// Fails what takes too long.
    pub(crate) fn check_time(&mut self, now: Micros) -> Result<(), Down> {
        if let Some(link) = &mut self.link {
            link.handle_timeout(now).map_err(Down::Link)?;
        }
        self.joiner.handle_timeout(now).map_err(Down::Fragment)
    }

    /// When [`Self::check_time`] or [`Self::read`] has something to do at the latest.
    pub(crate) fn wake(&self) -> Option<Micros> {
        let link = self.link.as_ref().and_then(Link::poll_timeout);
        [link, self.joiner.poll_timeout(), self.rests_until].into_iter().flatten().min()
    }

    /// Drops the link and rests.
    pub(crate) fn drop_link(&mut self, now: Micros) {
        self.link = None;
        self.have = 0;
        self.joiner.clear();
        let rest = match self.role {
            Role::Dial(_) => PAUSE,
            Role::Listen => QUIET,
        };
        self.rests_until = Some(now.saturating_add(rest));
    }
}
