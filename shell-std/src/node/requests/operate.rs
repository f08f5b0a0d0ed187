//! What an operator changes while the node runs: the configuration, peers, bans and prices.

use super::super::engine::Command;
use super::super::engine::links::BANNED;
use super::Service;
use super::operator::{Operator, State};
use crate::address::{PeerAddress, Place};
use crate::issuer::unix_now;
use crate::kept::{Kept, MOST_BANS, MOST_PEERS, MOST_TRUSTED, PricesSet};
use crate::rpc::RpcError;
use crate::rpc::target::Target;
use crate::rpc::types::{
    AddPeer, AddedPeer, Ban, BanPeer, BannedPeer, KeptPeer, PeerList, PeerSource, PeerState,
    Reloaded, RemovePeer, RemovedPeer, SetTariff, TariffReport, TrustedPeer, UnbanPeer,
    UnbannedPeer,
};
use blvm_mesh_core::id::NodeId;
use smol::lock::MutexGuard;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Why a link is closed with a node that is no peer any more.
const NO_PEER: &str = "it is no longer a peer of this node";

/// A node that an embedding host runs has no operator of its own.
fn no_operator() -> RpcError {
    RpcError::refused("this node is run by its host, which also changes its settings")
}

/// The answer where something cannot be kept.
fn not_kept(error: String) -> RpcError {
    RpcError::refused(format!("nothing has changed, as it cannot be kept: {error}"))
}

impl Service {
    fn operator(&self) -> Result<&Arc<Operator>, RpcError> {
        self.operator.as_ref().ok_or_else(no_operator)
    }

    /// Reads the configuration again, and applies what a running node can.
    ///
    /// # Errors
    /// What is wrong with it: then nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, RpcError> {
        let operator = self.operator()?.clone();
        let mut state = operator.state.lock().await;
        let read = {
            let operator = operator.clone();
            smol::unblock(move || operator.reread.read()).await
        };
        let wrong = |e: String| RpcError::refused(format!("nothing has changed: {e}"));
        let (new, written) = read.map_err(wrong)?;
        let mut base = state.base.clone();
        base.adopt(&new).map_err(|e| wrong(e.to_string()))?;
        if base.log != state.base.log {
            operator.reread.set_log(&base.log).map_err(|e| wrong(format!("log: {e}")))?;
        }
        let changed = state.written.changed(&written);
        let names = |live: bool| {
            let these = changed.iter().filter(move |key| key.is_live() == live);
            these.map(|key| key.dotted()).collect::<Vec<_>>()
        };
        let (applied, mut restart) = (names(true), names(false));
        if devices(&base.peers) != devices(&new.peers) {
            restart.push("mesh.peers: those that are not reached by TCP".to_owned());
        }
        let set = state.kept.prices.by_key().into_iter();
        let notes = set.filter_map(|(key, price)| {
            price.map(|price| {
                format!("{key}: {price} msat, which `tariff set` gave, hold until `tariff reset`")
            })
        });
        let reloaded = Reloaded {
            file: new.config_file.as_ref().map(|file| file.display().to_string()),
            notes: notes.collect(),
            applied,
            restart,
        };
        state.base = base;
        state.written.adopt(&written);
        self.apply(&operator, &state).await?;
        tracing::info!(
            applied = reloaded.applied.join(", "),
            needs_restart = reloaded.restart.join(", "),
            "the configuration was read again"
        );
        Ok(reloaded)
    }

    /// Makes the node what the state says. Links that were closed for it.
    async fn apply(
        &self,
        operator: &Operator,
        state: &MutexGuard<'_, State>,
    ) -> Result<usize, RpcError> {
        let (before, settings) = (self.node.current(), state.settings());
        let ids = || settings.peers.iter().map(PeerAddress::node_id);
        let own: BTreeSet<NodeId> = ids().collect();
        self.node.status.set(ids());
        self.node.bans.set(&settings.banned);
        self.node.current.set(Arc::new(settings.clone()));
        if let Some(spending) = &operator.spending {
            spending.set_limits(settings.spending);
        }
        if before.shell.bench_sink != settings.shell.bench_sink {
            self.node.bench_sink(settings.shell.bench_sink).await?;
        }
        let answers = settings.shell.answer_probes;
        if before.shell.answer_probes != answers {
            self.node.ask(|done| Command::AnswerProbes(answers, done)).await?;
        }
        let changed = Box::new((settings.config.clone(), own.clone()));
        self.node.ask(|done| Command::Reconfigure(changed, done)).await?;
        self.node.dialers.set(&settings.peers);
        let no_peers = before.peers.iter().map(PeerAddress::node_id).filter(|id| !own.contains(id));
        // One that has expired is another ban.
        let banned =
            settings.banned.iter().filter(|(id, until)| before.banned.get(*id) != Some(*until));
        let parted = no_peers.map(|id| (id, NO_PEER)).chain(banned.map(|(id, _)| (*id, BANNED)));
        let mut closed = 0;
        for (node, reason) in parted {
            closed += self.node.ask(|who| Command::Part(node, reason, who)).await?;
        }
        Ok(closed)
    }

    /// Keeps something else, and makes the node so. Links that were closed for it.
    async fn keep(
        &self,
        operator: &Arc<Operator>,
        state: &mut MutexGuard<'_, State>,
        kept: Kept,
    ) -> Result<usize, RpcError> {
        let (keep, written) = (operator.keep.clone(), kept.clone());
        smol::unblock(move || keep.keep(&written)).await.map_err(not_kept)?;
        state.kept = kept;
        self.apply(operator, state).await
    }

    pub(super) async fn add_peer(&self, request: AddPeer) -> Result<AddedPeer, RpcError> {
        let operator = self.operator()?.clone();
        let peer: PeerAddress = request
            .address
            .parse()
            .map_err(|e| RpcError::invalid_params(format!("meshaddpeer: address: {e}")))?;
        if !matches!(peer.place, Place::Tcp(_)) {
            return Err(RpcError::refused(
                "only peers that are reached by TCP can be added: others are configured \
                 (mesh.peers) and take a restart",
            ));
        }
        let node_id = peer.node_id();
        if node_id == self.node.id() {
            return Err(RpcError::refused("that is this node itself"));
        }
        let mut state = operator.state.lock().await;
        if state.base.peers.iter().any(|other| other.public_key == peer.public_key) {
            return Err(RpcError::refused(format!(
                "{node_id} is configured (mesh.peers): change its address there and `reload`"
            )));
        }
        if self.node.bans.is_banned(&node_id) {
            return Err(RpcError::refused(format!("{node_id} is banned: `peer unban` it first")));
        }
        let mut kept = state.kept.clone();
        let address = peer.place.to_string();
        kept.peers.insert(peer.public_key, peer);
        if kept.peers.len() > MOST_PEERS {
            return Err(RpcError::refused(format!(
                "{MOST_PEERS} peers are added already: remove one that is not needed"
            )));
        }
        self.keep(&operator, &mut state, kept).await?;
        Ok(AddedPeer { node_id, address })
    }

    pub(super) async fn remove_peer(&self, request: RemovePeer) -> Result<RemovedPeer, RpcError> {
        let operator = self.operator()?.clone();
        let node_id = request.node.0;
        let mut state = operator.state.lock().await;
        let configured = state.base.peers.iter().any(|peer| peer.node_id() == node_id);
        let mut kept = state.kept.clone();
        kept.peers.retain(|_, peer| peer.node_id() != node_id);
        if kept.peers.len() == state.kept.peers.len() {
            return Err(RpcError::refused(match configured {
                true => format!(
                    "{node_id} is configured (mesh.peers): take it out there and `reload`, or \
                     `peer ban` it"
                ),
                false => format!("{node_id} was not added: see `peer list`"),
            }));
        }
        let links_closed = self.keep(&operator, &mut state, kept).await?;
        Ok(RemovedPeer { node_id, links_closed })
    }

    pub(super) async fn ban_peer(&self, request: BanPeer) -> Result<BannedPeer, RpcError> {
        let operator = self.operator()?.clone();
        let BanPeer { node, for_s } = request;
        let (node_id, unix) = (node.0, unix_now());
        if node_id == self.node.id() {
            return Err(RpcError::refused("that is this node itself"));
        }
        let until = for_s.map(|span| unix.saturating_add(span));
        if for_s == Some(0) {
            return Err(RpcError::invalid_params("meshbanpeer: for_s: must be at least 1"));
        }
        let mut state = operator.state.lock().await;
        let mut kept = state.kept.clone();
        kept.bans.retain(|_, until| until.is_none_or(|until| until > unix));
        kept.bans.insert(node_id, until);
        if kept.bans.len() > MOST_BANS {
            return Err(RpcError::refused(format!(
                "{MOST_BANS} nodes are banned already: lift a ban that is not needed"
            )));
        }
        let links_closed = self.keep(&operator, &mut state, kept).await?;
        tracing::warn!(node = %node_id, links_closed, "the operator has banned a node");
        Ok(BannedPeer { node_id, until, links_closed })
    }

    pub(super) async fn unban_peer(&self, request: UnbanPeer) -> Result<UnbannedPeer, RpcError> {
        let operator = self.operator()?.clone();
        let (node_id, unix) = (request.node.0, unix_now());
        let mut state = operator.state.lock().await;
        let mut kept = state.kept.clone();
        kept.bans.retain(|_, until| until.is_none_or(|until| until > unix));
        if kept.bans.remove(&node_id).is_none() {
            return Err(RpcError::refused(format!("{node_id} is not banned: see `peer list`")));
        }
        self.keep(&operator, &mut state, kept).await?;
        Ok(UnbannedPeer { node_id })
    }

    pub(super) async fn trust_peer(
        &self,
        node_id: NodeId,
        trusted: bool,
    ) -> Result<TrustedPeer, RpcError> {
        let operator = self.operator()?.clone();
        if node_id == self.node.id() {
            return Err(RpcError::refused("that is this node itself"));
        }
        let mut state = operator.state.lock().await;
        if state.settings().peers.iter().any(|peer| peer.node_id() == node_id) {
            return Err(RpcError::refused(format!(
                "{node_id} is a peer of this node, and trusted as such: see `peer list`"
            )));
        }
        let mut kept = state.kept.clone();
        match trusted {
            true => drop(kept.trusted.insert(node_id)),
            false if kept.trusted.remove(&node_id) => {}
            false => {
                return Err(RpcError::refused(format!(
                    "{node_id} was not trusted: see `peer list`"
                )));
            }
        }
        if kept.trusted.len() > MOST_TRUSTED {
            return Err(RpcError::refused(format!(
                "{MOST_TRUSTED} neighbours are trusted already: `peer distrust` one that is not needed"
            )));
        }
        self.keep(&operator, &mut state, kept).await?;
        tracing::info!(node = %node_id, trusted, "the operator has changed whom to trust");
        Ok(TrustedPeer { node_id, trusted })
    }

    pub(super) async fn list_peers(&self) -> Result<PeerList, RpcError> {
        let (settings, known) = (self.node.current(), self.peers().await?);
        let unix = unix_now();
        let configured = match &self.operator {
            Some(operator) => operator.state.lock().await.base.peers.clone(),
            None => settings.peers.clone(),
        };
        let listed = settings.peers.iter().map(|peer| {
            let node_id = peer.node_id();
            let link = known.iter().find(|known| known.node_id == node_id);
            let is_configured = configured.iter().any(|other| other.public_key == peer.public_key);
            KeptPeer {
                node_id,
                public_key: peer.public_key.serialize(),
                address: peer.place.to_string(),
                source: match is_configured {
                    true => PeerSource::Configuration,
                    false => PeerSource::Added,
                },
                state: link.map_or(PeerState::Connecting, |link| link.state),
                last_error: link.and_then(|link| link.last_error.clone()),
            }
        });
        let banned = settings.banned.iter().filter(|(_, until)| until.is_none_or(|at| at > unix));
        let bans = banned.map(|(node, until)| Ban { node_id: *node, until: *until });
        let (peers, bans) = (listed.collect(), bans.collect());
        let trusted = settings.config.trusted.iter().map(|node| Target(*node)).collect();
        Ok(PeerList { peers, bans, trusted })
    }

    pub(super) async fn tariff(&self) -> TariffReport {
        match &self.operator {
            Some(operator) => operator.state.lock().await.tariff(),
            None => {
                let config = &self.node.current().config;
                let (relay, receive) = (config.payment.tariff, config.flows.receive);
                let (configured, configured_receive) = (relay, receive);
                TariffReport { relay, receive, configured, configured_receive, set: Vec::new() }
            }
        }
    }

    pub(super) async fn set_tariff(&self, request: SetTariff) -> Result<TariffReport, RpcError> {
        let SetTariff { base_msat, per_kib_msat, receive_base_msat, receive_per_kib_msat } =
            request;
        let wanted = PricesSet { base_msat, per_kib_msat, receive_base_msat, receive_per_kib_msat };
        if wanted.is_empty() {
            let text = "meshsettariff: give at least one price; `tariff reset` forgets them";
            return Err(RpcError::invalid_params(text));
        }
        self.prices(|before| wanted.or(before)).await
    }

    pub(super) async fn reset_tariff(&self) -> Result<TariffReport, RpcError> {
        self.prices(|_| PricesSet::default()).await
    }

    async fn prices(
        &self,
        change: impl FnOnce(PricesSet) -> PricesSet,
    ) -> Result<TariffReport, RpcError> {
        let operator = self.operator()?.clone();
        let mut state = operator.state.lock().await;
        let prices = change(state.kept.prices);
        let kept = Kept { prices, ..state.kept.clone() };
        self.keep(&operator, &mut state, kept).await?;
        let report = state.tariff();
        tracing::info!(
            base_msat = report.relay.base_msat,
            per_kib_msat = report.relay.per_kib_msat,
            "the operator has changed the tariff"
        );
        Ok(report)
    }
}

/// The peers that are reached by other means than TCP.
fn devices(peers: &[PeerAddress]) -> Vec<&PeerAddress> {
    peers.iter().filter(|peer| !matches!(peer.place, Place::Tcp(_))).collect()
}
