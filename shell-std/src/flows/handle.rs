//! What applications have of flows.

use super::hub::{Ask, MOST_WAITING};
use super::pipe::Stream;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{FlowEnded, FlowId, MeshError, OwnFlow};
use smol::channel::{Receiver, Sender};
use std::sync::Arc;

/// Opens flows to other nodes, and takes those that others open; cheap to clone.
#[derive(Debug, Clone)]
pub struct Flows {
    asks: Sender<Ask>,
}

/// Why there is no flow, or no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// This node refuses to open it.
    #[error("{0}")]
    Refused(MeshError),
    /// It has ended.
    #[error("{0}")]
    Ended(FlowEnded),
    /// The flow, or the node, is gone.
    #[error("the flow has ended")]
    Gone,
}

impl Flows {
    pub(crate) fn new(asks: Sender<Ask>) -> Self {
        Self { asks }
    }

    /// Opens a flow to a node, for at most `budget_msat` on its whole route; waits until the node
    /// has answered, or the flow has failed.
    ///
    /// # Errors
    /// [`FlowError`].
    pub async fn open(&self, destination: NodeId, budget_msat: u64) -> Result<Flow, FlowError> {
        let (answer, opened) = smol::channel::bounded(1);
        self.ask(Ask::Open { destination, budget_msat, answer })?;
        opened.recv().await.unwrap_or(Err(FlowError::Gone))
    }

    /// Takes flows that others open to this node from now on, as long as the listener lives.
    /// There is one at a time: a new one takes the place of another.
    ///
    /// # Errors
    /// [`FlowError::Gone`].
    pub fn listen(&self) -> Result<Listener, FlowError> {
        let (flows, taken) = smol::channel::bounded(MOST_WAITING);
        self.ask(Ask::Listen(Some(flows)))?;
        Ok(Listener { flows: taken, asks: self.asks.clone() })
    }

    /// The flows that end at this node.
    ///
    /// # Errors
    /// [`FlowError::Gone`].
    pub async fn list(&self) -> Result<Vec<OwnFlow>, FlowError> {
        let (answer, list) = smol::channel::bounded(1);
        self.ask(Ask::List(answer))?;
        list.recv().await.map_err(|_| FlowError::Gone)
    }

    fn ask(&self, ask: Ask) -> Result<(), FlowError> {
        self.asks.try_send(ask).map_err(|_| FlowError::Gone)
    }
}

/// Takes the flows that others open.
#[derive(Debug)]
pub struct Listener {
    flows: Receiver<Flow>,
    asks: Sender<Ask>,
}

impl Listener {
    /// The next flow; `None`: the node has stopped, or another listener takes them.
    pub async fn accept(&self) -> Option<Flow> {
        self.flows.recv().await.ok()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another one may have taken its place.
        if !self.flows.is_closed() {
            let _ = self.asks.try_send(Ask::Listen(None));
        }
    }
}

/// A flow between this node and another: any number of streams, encrypted from end to end. Clones
/// are the same flow; it is closed when the last one is dropped and its streams are over.
#[derive(Debug, Clone)]
pub struct Flow(Arc<Held>);

#[derive(Debug)]
struct Held {
    id: FlowId,
    peer: NodeId,
    asks: Sender<Ask>,
    streams: Receiver<Stream>,
}

impl Flow {
    pub(crate) fn new(
        id: FlowId,
        peer: NodeId,
        asks: Sender<Ask>,
        streams: Receiver<Stream>,
    ) -> Self {
        Self(Arc::new(Held { id, peer, asks, streams }))
    }

    /// Its number.
    pub fn id(&self) -> FlowId {
        self.0.id
    }

    /// Who is at the other end, whose identity is proven.
    pub fn peer(&self) -> NodeId {
        self.0.peer
    }

    /// Opens a stream; waits while as many are open as the other end allows.
    ///
    /// # Errors
    /// [`FlowError`].
    pub async fn open_stream(&self) -> Result<Stream, FlowError> {
        let (answer, opened) = smol::channel::bounded(1);
        self.ask(Ask::OpenStream(self.0.id, answer))?;
        opened.recv().await.unwrap_or(Err(FlowError::Gone))
    }

    /// The next stream that the other end opens; `None`: the flow has ended.
    pub async fn accept_stream(&self) -> Option<Stream> {
        self.0.streams.recv().await.ok()
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.0.streams.is_closed()
    }

    /// Lets it cost so much in all; a smaller budget than before changes nothing.
    ///
    /// # Errors
    /// [`FlowError::Gone`].
    pub fn set_budget(&self, budget_msat: u64) -> Result<(), FlowError> {
        self.ask(Ask::Budget(self.0.id, budget_msat))
    }

    /// Ends it now: what was not sent is dropped.
    ///
    /// # Errors
    /// [`FlowError::Gone`].
    pub fn close(&self, code: u32) -> Result<(), FlowError> {
        self.ask(Ask::Close(self.0.id, code))
    }

    fn ask(&self, ask: Ask) -> Result<(), FlowError> {
        self.0.asks.try_send(ask).map_err(|_| FlowError::Gone)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.asks.try_send(Ask::Released(self.id));
    }
}
