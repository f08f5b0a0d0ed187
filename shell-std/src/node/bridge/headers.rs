//! Block headers: a checked chain of them is kept, fed by this node's own Bitcoin node or by gateways,
//! and given to the state machine, which looks the blocks of covenants up in it.

use super::super::clock::Clock;
use super::gateways;
use super::peer::BitcoinPeer;
use super::shared::Bridge;
use crate::bridge::control::random_id;
use crate::bridge::headers::{self, Said};
use crate::bridge::outbox::Outbox;
use crate::bridge::table::{About, lock};
use crate::bridge::{HeaderStatus, Signal};
use crate::headers::{Chain, Change, MOST_IN_MESSAGE, Refused};
use bitcoin::BlockHash;
use bitcoin::block::Header;
use bitcoin::consensus::serialize;
use blvm_mesh_core::config::Capacities;
use blvm_mesh_core::id::NodeId;
use smol::channel::Receiver;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long one gateway is followed before the next is asked, and the same over a route of small
/// packets: none of them alone can keep new blocks from this node for longer, where there are others.
const TURN: Duration = Duration::from_secs(600);
const NARROW_TURN: Duration = Duration::from_secs(3600);
/// The same at the start, when the first few are asked one after the other.
const FIRST_TURN: Duration = Duration::from_secs(5);
const FIRST_TURNS: usize = 3;
/// Bytes of a datagram below which a route is one of small packets.
const SMALL: usize = 16 * 1024;
/// Pause where there is no gateway, or it does not answer.
const PAUSE: Duration = Duration::from_secs(5);
/// How long an answer may take, and the same over a route of small packets.
const PATIENCE: Duration = Duration::from_secs(15);
const NARROW_PATIENCE: Duration = Duration::from_secs(60);
/// This node's own Bitcoin node is asked so often at least.
const LOOK: Duration = Duration::from_secs(60);
/// Questions whose answers, and news of blocks, are taken.
const MOST_ASKED: usize = 8;

/// The chain, and what it feeds.
pub(super) struct HeaderSync {
    bridge: Arc<Bridge>,
    chain: Arc<Mutex<Chain>>,
    status: Arc<HeaderStatus>,
    outbox: Arc<Outbox>,
    /// Height of the first header that is new since it was asked for.
    new_from: Mutex<Option<u32>>,
    /// There are new headers.
    pub(super) new: Signal,
    /// Blocks are missed here: gateways are to be asked.
    wanted: Signal,
}

/// A question to a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    id: u64,
    gateway: NodeId,
}

impl HeaderSync {
    /// Gives what the chain has to the state machine.
    pub(super) async fn start(
        bridge: Arc<Bridge>,
        chain: Chain,
        status: Arc<HeaderStatus>,
        outbox: Arc<Outbox>,
    ) -> Arc<Self> {
        let newest = Capacities::HOST.headers as u32;
        let from = chain.height().saturating_sub(newest).max(chain.root_height());
        let (new_from, new, wanted) = (Mutex::default(), Signal::default(), Signal::default());
        let chain = Arc::new(Mutex::new(chain));
        let sync = Arc::new(Self { bridge, chain, status, outbox, new_from, new, wanted });
        sync.show(None);
        sync.feed(from.saturating_add(1)).await;
        sync
    }

    /// Shows how far the chain is.
    fn show(&self, gateway: Option<NodeId>) {
        let chain = lock(&self.chain);
        self.status.set(&chain, gateway);
    }

    /// Some headers of the chain, the first of this height.
    pub(super) fn some(&self, from: u32, most: usize) -> Vec<Header> {
        let chain = lock(&self.chain);
        (from..=chain.height()).take(most).map_while(|height| chain.header(height)).collect()
    }

    pub(super) fn height(&self) -> u32 {
        lock(&self.chain).height()
    }

    /// The height of a block of the chain, if it is one of the newest.
    pub(super) fn find(&self, block: &BlockHash) -> Option<u32> {
        lock(&self.chain).find(block)
    }

    /// A block was shown that the chain does not have.
    pub(super) fn look(&self) {
        self.wanted.give();
    }

    /// The first header that is new since this was last asked.
    pub(super) fn take_new(&self) -> Option<u32> {
        lock(&self.new_from).take()
    }

    /// Gives the headers from a height on to the state machine.
    async fn feed(&self, from: u32) {
        let mut next = from;
        loop {
            let headers = self.some(next, MOST_IN_MESSAGE);
            let raw: Vec<[u8; 80]> =
                headers.iter().filter_map(|header| serialize(header).try_into().ok()).collect();
            let count = raw.len();
            if count == 0 {
                return;
            }
            match self.bridge.node.headers(raw, next).await {
                Some(None) => {}
                Some(Some((place, reason))) => {
                    let height = next.saturating_add(place as u32);
                    tracing::warn!(height, "a header was not taken for covenants: {reason}");
                    return;
                }
                None => return,
            }
            next = next.saturating_add(count as u32);
        }
    }

    /// Takes headers that came: whether there may be more behind them.
    async fn take(&self, headers: Vec<Header>, from: Option<NodeId>) -> Result<bool, Refused> {
        let chain = self.chain.clone();
        let accept = move || {
            let mut chain = lock(&chain);
            let before = chain.height();
            let accepted = chain.accept(&headers, Clock::unix().unwrap_or_default());
            (before, chain.height(), accepted)
        };
        let (before, after, accepted) = smol::unblock(accept).await;
        let new = match accepted {
            Ok(Change::Longer { from } | Change::Reorganised { from }) => Some(from),
            Ok(Change::Nothing | Change::Branch) => None,
            // Of what was taken before the one that is refused.
            Err(_) => (after > before).then(|| before.saturating_add(1)),
        };
        if let Some(first) = new {
            tracing::debug!(height = after, "new block headers");
            if matches!(accepted, Ok(Change::Reorganised { .. })) {
                tracing::info!(from = first, height = after, "the chain was reorganised");
                self.outbox.reorganised(first, &|block| self.find(block).is_some());
            }
            self.feed(first).await;
            let mut new_from = lock(&self.new_from);
            *new_from = Some(new_from.map_or(first, |other| other.min(first)));
            drop(new_from);
            self.new.give();
        }
        self.show(from);
        Ok(accepted? != Change::Nothing)
    }

    /// Follows this node's own Bitcoin node.
    pub(super) async fn follow_own(self: Arc<Self>, peer: Arc<BitcoinPeer>) {
        loop {
            let locator = lock(&self.chain).locator();
            let more = match peer.headers(headers::question(locator)).await {
                Some(headers) => match self.take(headers, None).await {
                    Ok(more) => more,
                    Err(error) => {
                        tracing::warn!("headers of the Bitcoin node (bitcoin.node): {error}");
                        false
                    }
                },
                None => false,
            };
            if !more {
                let late = async { _ = smol::Timer::after(LOOK).await };
                smol::future::or(peer.news.wait(), late).await;
            }
        }
    }

    /// Follows gateways, one after the other, and hears of new blocks from those asked lately.
    pub(super) async fn follow_gateways(self: Arc<Self>, arrivals: Receiver<About>) {
        let (mut turn, mut asked) = (0, VecDeque::<Asked>::new());
        loop {
            match gateways::choose(&self.bridge, turn).await {
                Some(gateway) => {
                    if !self.ask_all(gateway, &mut asked, &arrivals).await {
                        self.bridge.avoid(gateway);
                        smol::Timer::after(PAUSE).await;
                    } else if !self.listen(self.turn(gateway, turn).await, &asked, &arrivals).await
                    {
                        return;
                    }
                }
                None => _ = smol::Timer::after(PAUSE).await,
            }
            turn = turn.wrapping_add(1);
        }
    }

    /// Asks a gateway until it has no more: whether it has answered, and with what holds.
    async fn ask_all(
        &self,
        gateway: NodeId,
        asked: &mut VecDeque<Asked>,
        arrivals: &Receiver<About>,
    ) -> bool {
        let magic = self.bridge.magic;
        loop {
            let Some(id) = random_id() else { return false };
            // What comes late is taken too.
            if asked.len() >= MOST_ASKED {
                asked.pop_front();
            }
            asked.push_back(Asked { id, gateway });
            let locator = lock(&self.chain).locator();
            self.bridge.send_once(gateway, headers::ask(magic, id, locator, true)).await;
            let is_narrow = self.is_narrow(gateway).await;
            let until = Instant::now() + if is_narrow { NARROW_PATIENCE } else { PATIENCE };
            let (headers, all) = loop {
                match self.next(asked, arrivals, until).await {
                    Some((from, headers, all)) if from.id == id => break (headers, all),
                    Some((from, headers, _)) => _ = self.take_from(from, headers).await,
                    None => return false,
                }
            };
            // The last of one gateway is its own: by it it tells of new blocks.
            asked.retain(|other| other.gateway != gateway || other.id == id);
            match self.take_from(Asked { id, gateway }, headers).await {
                Some(true) if !all => {}
                Some(_) => return true,
                None => return false,
            }
        }
    }

    /// Until when a gateway is followed, whose turn has this number.
    async fn turn(&self, gateway: NodeId, turn: usize) -> Instant {
        let time = match self.is_narrow(gateway).await {
            _ if turn < FIRST_TURNS => FIRST_TURN,
            true => NARROW_TURN,
            false => TURN,
        };
        Instant::now() + time
    }

    /// Whether the route to a gateway is one of small packets.
    async fn is_narrow(&self, gateway: NodeId) -> bool {
        self.bridge.route(&gateway).await.is_some_and(|most| most < SMALL)
    }

    /// Hears of new blocks until then; false if nothing more will be heard.
    async fn listen(
        &self,
        until: Instant,
        asked: &VecDeque<Asked>,
        arrivals: &Receiver<About>,
    ) -> bool {
        let wanted = async {
            self.wanted.wait().await;
            // Not more often than that, whatever is shown.
            smol::Timer::after(PAUSE).await;
        };
        let heard = async {
            while let Some((from, headers, _)) = self.next(asked, arrivals, until).await {
                if self.take_from(from, headers).await.is_none() {
                    return;
                }
            }
        };
        smol::future::or(heard, wanted).await;
        !arrivals.is_closed()
    }

    /// Takes what a gateway says: whether something of it was new. `None`: it does not hold, or there
    /// are headers before it that are missing here.
    async fn take_from(&self, from: Asked, headers: Vec<Header>) -> Option<bool> {
        let gateway = from.gateway;
        match self.take(headers, Some(gateway)).await {
            Ok(more) => Some(more),
            Err(Refused::Disconnected) => {
                tracing::debug!(%gateway, "headers that do not follow what is known");
                None
            }
            Err(error) => {
                tracing::warn!(%gateway, "headers of a gateway are not taken: {error}");
                None
            }
        }
    }

    /// The next that a gateway says which was asked.
    async fn next(
        &self,
        asked: &VecDeque<Asked>,
        arrivals: &Receiver<About>,
        until: Instant,
    ) -> Option<(Asked, Vec<Header>, bool)> {
        loop {
            let late = async {
                smol::Timer::at(until).await;
                None
            };
            let About { source, id, end, messages, .. } =
                smol::future::or(async { arrivals.recv().await.ok() }, late).await?;
            let from = Asked { id, gateway: source };
            if !asked.contains(&from) {
                continue;
            }
            if let Some(Said::Headers(headers)) = headers::said(self.bridge.magic, &messages) {
                return Some((from, headers, end));
            }
        }
    }
}
