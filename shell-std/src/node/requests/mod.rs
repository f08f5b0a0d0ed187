//! Answers to requests over the socket.

mod bitcoin;
mod flows;
pub(super) mod handle;
mod headers;
mod issue;
mod metrics;
mod operate;
mod operator;
mod overview;
mod page;
mod paying;
mod payments;
mod prepay;
pub(super) mod probing;
mod quoted;
mod reports;
mod today;
mod transactions;
mod warnings;

pub use issue::{Issue, Issued};
pub use operator::{Operator, Reread};

use super::deliveries::Delivery;
use super::engine::Command;
use super::progress::Progress;
use crate::export::ExportStatus;
use crate::rpc::openrpc::Document;
use crate::rpc::types::{
    BenchSink, BenchStart, FindRoute, FoundRoute, GetLedger, Ledger, Outcome, PollReceived,
    Received, SendPacket, Sent, Stopped,
};
use crate::rpc::{Connection, Handler, Reply, Request, RpcError, words};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::RoutingReason;
use handle::{Gone, NodeHandle};
use quoted::Quoted;
use std::sync::Arc;
use std::time::{Duration, Instant};
use today::DaySums;

/// Most bytes of payload in one answer of `meshpollreceived`; one datagram is
/// always handed out.
const MOST_POLLED: usize = 16 * 1024 * 1024;
/// Longest waits that a request may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// Where the ledger is read.
pub trait Ledgers: Send + Sync + 'static {
    /// Answers `getledger`. It may block.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn ledger(&self, query: &GetLedger) -> Result<Ledger, String>;
}

/// Answers the requests of one node; cheap to clone.
#[derive(Clone)]
pub struct Service {
    node: NodeHandle,
    ledgers: Arc<dyn Ledgers>,
    issuer: Option<Arc<dyn Issue>>,
    quoted: Quoted,
    operator: Option<Arc<Operator>>,
    today: DaySums,
    export: Option<Arc<ExportStatus>>,
    /// What to open in a browser, with the token.
    page: Option<Arc<str>>,
}

impl From<Gone> for RpcError {
    fn from(_: Gone) -> Self {
        Self::stopping()
    }
}

impl Service {
    /// Answers for `node`. With an `issuer`, `meshrequesthopinvoice` and `meshwriteinvoice` write
    /// invoices.
    pub fn new(
        node: NodeHandle,
        ledgers: Arc<dyn Ledgers>,
        issuer: Option<Arc<dyn Issue>>,
    ) -> Self {
        Self {
            node,
            ledgers,
            issuer,
            quoted: Quoted::default(),
            operator: None,
            today: DaySums::default(),
            export: None,
            page: None,
        }
    }

    /// Lets clients change what an operator may change at run time.
    #[must_use]
    pub fn operated_by(self, operator: Arc<Operator>) -> Self {
        Self { operator: Some(operator), ..self }
    }

    /// Tells what becomes of the ledger in its database.
    #[must_use]
    pub fn exporting(self, export: Option<Arc<ExportStatus>>) -> Self {
        Self { export, ..self }
    }

    /// Tells clients what to open in a browser.
    #[must_use]
    pub fn shown_at(self, url: &str) -> Self {
        Self { page: Some(url.into()), ..self }
    }

    async fn send(&self, request: SendPacket) -> Result<Sent, RpcError> {
        match request.pay {
            true => self.send_paying(request).await,
            false => self.send_datagram(request).await,
        }
    }

    async fn send_datagram(&self, request: SendPacket) -> Result<Sent, RpcError> {
        let destination = request.destination.0;
        let proof = match &request.proof {
            Some(proof) => {
                let unchecked = request.unchecked;
                self.encode_proof(destination, request.data.len(), proof, unchecked).await?
            }
            None => Vec::new(),
        };
        let wait = Duration::from_millis(request.wait_ms);
        self.send_proven((destination, request.data), proof, request.unchecked, wait).await
    }

    /// The same with a proof as a packet carries it.
    async fn send_proven(
        &self,
        (destination, data): (NodeId, Vec<u8>),
        proof: Vec<u8>,
        unchecked: bool,
        wait: Duration,
    ) -> Result<Sent, RpcError> {
        let (bytes, paid) = (data.len(), !proof.is_empty());
        let wait = wait.min(LONGEST_WAIT);
        let fate = self.node.send(destination, data, proof, unchecked, wait).await?;
        let stopped = match fate.stopped {
            Some(Progress::Stopped { reporter, cause, .. }) => {
                Some(Stopped { reporter, cause: cause.to_string() })
            }
            _ => None,
        };
        let (repeats, repeating) = match fate.repeating {
            Some(Progress::Repeating { reporter, cause, repeat }) => {
                (repeat, Some(Stopped { reporter, cause: cause.to_string() }))
            }
            _ => (fate.repeats, None),
        };
        match fate.first {
            Progress::Sent { sequence, hops } => {
                let outcome = match (&stopped, fate.settled) {
                    _ if fate.delivered => Outcome::Delivered,
                    (Some(_), _) => Outcome::Refused,
                    (None, true) => Outcome::Sent,
                    (None, false) => Outcome::Unknown,
                };
                Ok(Sent {
                    sequence,
                    destination,
                    hops,
                    bytes,
                    paid,
                    outcome,
                    stopped,
                    repeats,
                    repeating,
                    spent_msat: None,
                })
            }
            Progress::Refused(reason) => Err(RpcError::refused(words::for_the_sender(&reason))),
            _ => Err(RpcError::internal("a report came before the packet")),
        }
    }

    async fn poll(&self, request: PollReceived) -> Vec<Received> {
        let max = request.max.max(1);
        let deliveries = self.node.deliveries();
        let mut taken = deliveries.take(max, MOST_POLLED);
        if taken.is_empty() && request.wait_ms > 0 {
            let wait = Duration::from_millis(request.wait_ms).min(LONGEST_WAIT);
            let late = async {
                smol::Timer::after(wait).await;
                Vec::new()
            };
            taken = smol::future::or(deliveries.next(max, MOST_POLLED), late).await;
        }
        taken.into_iter().map(|delivery| received(delivery, request.base64)).collect()
    }

    async fn find_route(&self, request: FindRoute) -> Result<FoundRoute, RpcError> {
        let (destination, start) = (request.destination.0, Instant::now());
        if !self.node.find_route(destination).await? {
            return Err(RpcError::no_route(destination));
        }
        let took_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        let route = self.route(destination).await?;
        route.map(|route| FoundRoute { route, took_us }).ok_or(RpcError::no_route(destination))
    }

    /// A quote needs a route: searches for one if none is known.
    async fn ensure_route(&self, destination: NodeId) -> Result<(), RpcError> {
        if self.route(destination).await?.is_some() || self.node.find_route(destination).await? {
            return Ok(());
        }
        Err(RpcError::no_route(destination))
    }

    /// The same for a quote of what is paid for: a search for that asks trusted neighbours, where the
    /// known routes begin at others.
    async fn ensure_paid_route(&self, destination: NodeId) -> Result<(), RpcError> {
        self.ensure_route(destination).await?;
        if self.node.ask(|who| Command::Untrusted(destination, who)).await?.is_some() {
            self.node.find_accepted(destination).await?;
        }
        Ok(())
    }

    /// Why nothing that is paid for can be sent to a node: there is no route, or none that begins
    /// at a trusted neighbour.
    async fn no_paid_route(&self, destination: NodeId) -> RpcError {
        match self.node.ask(|who| Command::Untrusted(destination, who)).await {
            Ok(Some(node)) => RpcError::refused(RoutingReason::Untrusted(node).to_string()),
            Ok(None) => RpcError::no_route(destination),
            Err(gone) => gone.into(),
        }
    }

    async fn bench(&self, request: BenchStart) -> Result<Reply, RpcError> {
        let BenchStart { destination, protocol, bytes, duration_ms, window } = request;
        self.ensure_route(destination.0).await?;
        let duration = Duration::from_millis(duration_ms).min(LONGEST_WAIT);
        let outcome = self.node.bench(destination.0, protocol, bytes, duration, window).await?;
        let outcome = outcome.ok_or_else(|| RpcError::refused("a trial is under way already"))?;
        if outcome.received > 0 {
            return Ok(Reply::BenchStart(Box::new(outcome.into())));
        }
        Err(RpcError::refused(match (&outcome.reason, outcome.stopped) {
            (Some(reason), _) => format!("nothing was sent: {reason}"),
            (None, 0) => "no report came back: is the sink on at the other end?".to_owned(),
            (None, count) => format!("relays stopped {count} of {} packets", outcome.sent),
        }))
    }
}

impl Handler for Service {
    async fn handle(&self, request: Request, connection: &Connection) -> Result<Reply, RpcError> {
        Ok(match request {
            Request::GetInfo => Reply::GetInfo(self.info().await?),
            Request::GetOverview => Reply::GetOverview(Box::new(self.overview().await?)),
            Request::GetPeers => Reply::GetPeers(self.peers().await?),
            Request::GetRoutes => Reply::GetRoutes(self.routes(usize::MAX).await?),
            Request::GetStats => Reply::GetStats(Box::new(self.stats().await?)),
            Request::FindRoute(request) => Reply::FindRoute(self.find_route(request).await?),
            Request::Ping(request) => Reply::Ping(self.ping(request).await?),
            Request::Trace(request) => Reply::Trace(self.trace(request).await?),
            Request::SendPacket(request) => Reply::SendPacket(self.send(request).await?),
            Request::PollReceived(request) => Reply::PollReceived(self.poll(request).await),
            Request::Subscribe(request) => {
                Reply::Subscribe(connection.subscribe(self.node.events(), &request)?)
            }
            Request::Unsubscribe(request) => Reply::Unsubscribe(connection.unsubscribe(request)?),
            Request::QuoteRoute(request) => {
                Reply::QuoteRoute(self.quote(request.destination.0, request.bytes).await?)
            }
            Request::RequestHopInvoice(request) => {
                Reply::RequestHopInvoice(Box::new(self.hop_invoice(request).await?))
            }
            Request::ShowPreimage(request) => {
                Reply::ShowPreimage(self.show_preimage(request).await?)
            }
            Request::PlanPayment(request) => Reply::PlanPayment(self.plan(request).await?),
            Request::WriteInvoice(request) => {
                Reply::WriteInvoice(self.write_invoice(request).await?)
            }
            Request::QuoteAccounts(request) => {
                let (destination, bytes) = (request.destination.0, request.bytes);
                Reply::QuoteAccounts(self.quote_accounts(destination, bytes).await?)
            }
            Request::Prepay(request) => Reply::Prepay(self.prepay(request).await?),
            Request::GetLedger(query) => {
                let ledgers = self.ledgers.clone();
                let ledger = smol::unblock(move || ledgers.ledger(&query)).await;
                Reply::GetLedger(ledger.map_err(RpcError::internal)?)
            }
            Request::GetFlows => Reply::GetFlows(self.flows(usize::MAX).await?),
            Request::GetBitcoin => Reply::GetBitcoin(self.bitcoin()),
            Request::SendTransaction(request) => {
                Reply::SendTransaction(self.send_transaction(request).await?)
            }
            Request::GetTransactions(request) => {
                Reply::GetTransactions(self.transactions(&request)?)
            }
            Request::Expose(request) => Reply::Expose(self.expose(request)?),
            Request::Forward(request) => Reply::Forward(self.forward(request).await?),
            Request::SubmitHeader(request) => Reply::SubmitHeader(self.headers(request).await?),
            Request::BenchStart(request) => self.bench(request).await?,
            Request::BenchSink(BenchSink { on }) => {
                self.node.bench_sink(on).await?;
                Reply::BenchSink(BenchSink { on })
            }
            Request::Reload => Reply::Reload(self.reload().await?),
            Request::AddPeer(request) => Reply::AddPeer(self.add_peer(request).await?),
            Request::ListPeers => Reply::ListPeers(self.list_peers().await?),
            Request::RemovePeer(request) => Reply::RemovePeer(self.remove_peer(request).await?),
            Request::BanPeer(request) => Reply::BanPeer(self.ban_peer(request).await?),
            Request::TrustPeer(request) => {
                Reply::TrustPeer(self.trust_peer(request.node.0, true).await?)
            }
            Request::DistrustPeer(request) => {
                Reply::DistrustPeer(self.trust_peer(request.node.0, false).await?)
            }
            Request::UnbanPeer(request) => Reply::UnbanPeer(self.unban_peer(request).await?),
            Request::GetTariff => Reply::GetTariff(self.tariff().await),
            Request::SetTariff(request) => Reply::SetTariff(self.set_tariff(request).await?),
            Request::ResetTariff => Reply::ResetTariff(self.reset_tariff().await?),
            Request::GetPage => Reply::GetPage(self.page_address()?),
            Request::Discover => Reply::Discover(Document::new()),
        })
    }
}

fn received(delivery: Delivery, base64: bool) -> Received {
    let Delivery { source, sequence, protocol, earned_msat, payload } = delivery;
    let protocol = protocol.name().to_owned();
    Received { source, sequence, protocol, earned_msat, data: payload, base64 }
}
