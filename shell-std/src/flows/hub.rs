//! Between applications and the state machine: whose streams are whose.
//!
//! The hub belongs to whoever owns the state machine. An application's [`Ask`] or the state
//! machine's event goes in; what comes out is the input to give next, if there is one.

use super::handle::{Flow, FlowError};
use super::memory::{Owner, PipeMemory};
use super::pipe::{Pipe, Stream};
use blvm_mesh_core::flow::end::Event;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::mesh::{
    FlowEnded, FlowEvent, FlowId, HostMesh, Input, MeshError, OwnFlow, Streams,
};
use smol::channel::{Receiver, Sender};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Flows of others that wait until somebody takes them. Full: a further one is closed.
pub(crate) const MOST_WAITING: usize = 64;
/// What a flow is closed with that nobody takes.
const NOBODY: u32 = 1;
/// Bytes that are read from a stream at a time.
const SCRATCH: usize = 64 * 1024;

/// What applications ask for.
#[derive(Debug)]
pub(crate) enum Ask {
    /// Open a flow: it comes when the destination has answered.
    Open { destination: NodeId, budget_msat: u64, answer: Sender<Result<Flow, FlowError>> },
    /// Open a stream on it, as soon as one may be opened.
    OpenStream(FlowId, Sender<Result<Stream, FlowError>>),
    /// A stream was written to, read from, closed or dropped.
    Used(FlowId, u32),
    /// More may be paid for a flow.
    Budget(FlowId, u64),
    /// Close a flow, and drop what was not sent.
    Close(FlowId, u32),
    /// Nobody has it any more: close it when its streams are over.
    Released(FlowId),
    /// Take flows of others, for the listener with this number.
    Listen(u64, Sender<Flow>),
    /// Take no more of them, if it is still that listener.
    Unlisten(u64),
    /// Those that end here.
    List(Sender<Vec<OwnFlow>>),
}

struct Open {
    peer: NodeId,
    owner: Owner,
    /// Who waits for its destination.
    opener: Option<Sender<Result<Flow, FlowError>>>,
    pipes: HashMap<u32, Arc<Pipe>>,
    /// Streams of the other end; `None`: nobody takes them.
    incoming: Option<Sender<Stream>>,
    /// Who waits until a stream may be opened.
    waiting: VecDeque<Sender<Result<Stream, FlowError>>>,
    released: bool,
}

/// All flows that end here.
pub(crate) struct Hub {
    pub(crate) asks: Receiver<Ask>,
    ask: Sender<Ask>,
    flows: HashMap<FlowId, Open>,
    /// The Open that the state machine was given last.
    opening: Option<(NodeId, Sender<Result<Flow, FlowError>>)>,
    listener: Option<(u64, Sender<Flow>)>,
    scratch: Vec<u8>,
    /// What the pipes of all streams hold.
    pub(crate) memory: Arc<PipeMemory>,
}

impl Hub {
    /// A hub whose pipes may hold so many bytes, and where it is asked.
    pub(crate) fn new(pipe_memory: u64) -> (Self, Sender<Ask>) {
        let (ask, asks) = smol::channel::unbounded();
        let hub = Self {
            asks,
            ask: ask.clone(),
            flows: HashMap::new(),
            opening: None,
            listener: None,
            scratch: vec![0; SCRATCH],
            memory: PipeMemory::new(pipe_memory),
        };
        (hub, ask)
    }

    /// An application asks; the input that follows.
    pub(crate) fn ask(&mut self, mesh: &mut HostMesh, ask: Ask) -> Option<Input<'static>> {
        match ask {
            Ask::Open { destination, budget_msat, answer } => {
                self.opening = Some((destination, answer));
                Some(Input::OpenFlow { destination, budget_msat })
            }
            Ask::OpenStream(flow, answer) => {
                match self.flows.get_mut(&flow) {
                    Some(open) => open.waiting.push_back(answer),
                    None => {
                        let _ = answer.try_send(Err(FlowError::Gone));
                        return None;
                    }
                }
                self.open_streams(mesh, flow)
            }
            Ask::Used(flow, stream) => self.look(mesh, flow, stream),
            Ask::Budget(flow, budget_msat) => Some(Input::FlowBudget { flow, budget_msat }),
            Ask::Close(flow, code) => Some(Input::CloseFlow { flow, code }),
            Ask::Released(flow) => {
                let open = self.flows.get_mut(&flow)?;
                open.released = true;
                // Streams that nobody has taken are given up.
                open.incoming = None;
                self.close_if_over(flow)
            }
            Ask::Listen(number, flows) => {
                self.listener = Some((number, flows));
                Some(Input::AcceptFlows { accept: true })
            }
            Ask::Unlisten(number) => {
                self.listener.take_if(|(current, _)| *current == number)?;
                Some(Input::AcceptFlows { accept: false })
            }
            Ask::List(answer) => {
                let _ = answer.try_send(mesh.own_flows().collect());
                None
            }
        }
    }

    /// The state machine opens the flow that was asked for.
    pub(crate) fn opening(&mut self, flow: FlowId) {
        if let Some((peer, opener)) = self.opening.take() {
            self.flows.insert(flow, Open::new(peer, Some(opener), Owner::Own));
        }
    }

    /// It does not.
    pub(crate) fn refused(&mut self, reason: MeshError) {
        if let Some((_, opener)) = self.opening.take() {
            let _ = opener.try_send(Err(FlowError::Refused(reason)));
        }
    }

    /// Who is at the other end of a flow.
    pub(crate) fn peer(&self, flow: FlowId) -> Option<NodeId> {
        self.flows.get(&flow).map(|open| open.peer)
    }

    /// Something has happened to a flow; the input that follows.
    pub(crate) fn event(
        &mut self,
        mesh: &mut HostMesh,
        flow: FlowId,
        event: FlowEvent,
    ) -> Option<Input<'static>> {
        match event {
            FlowEvent::Accepted { source } => self.accepted(flow, source),
            FlowEvent::Opened => self.opened(flow),
            FlowEvent::Stream(event) => self.stream_event(mesh, flow, event),
            FlowEvent::Interrupted { node, cause } => {
                tracing::info!(flow = flow.0, %node, %cause, "a flow looks for another route");
                None
            }
            FlowEvent::BudgetSpent => {
                tracing::warn!(
                    flow = flow.0,
                    "a flow has spent what it may cost (max_msat); what was bought is used up first"
                );
                None
            }
            FlowEvent::Ended(why) => {
                self.ended(mesh, flow, why);
                Some(Input::CloseFlow { flow, code: 0 })
            }
        }
    }

    fn accepted(&mut self, flow: FlowId, source: NodeId) -> Option<Input<'static>> {
        let mut open = Open::new(source, None, Owner::Other(source));
        let handle = open.handle(flow, &self.ask);
        let listener = self.listener.as_ref();
        let taken = listener.is_some_and(|(_, to)| to.try_send(handle).is_ok());
        self.flows.insert(flow, open);
        (!taken).then_some(Input::CloseFlow { flow, code: NOBODY })
    }

    fn opened(&mut self, flow: FlowId) -> Option<Input<'static>> {
        let open = self.flows.get_mut(&flow)?;
        let opener = open.opener.take()?;
        let handle = open.handle(flow, &self.ask);
        // Whoever asked may be gone: then it is released.
        let _ = opener.try_send(Ok(handle));
        None
    }

    fn ended(&mut self, mesh: &mut HostMesh, flow: FlowId, why: FlowEnded) {
        let Some(open) = self.flows.remove(&flow) else { return };
        tracing::debug!(flow = flow.0, peer = %open.peer, %why, "a flow has ended");
        for pipe in open.pipes.values() {
            pipe.flow_ended(why, mesh.streams(flow).as_mut(), &mut self.scratch);
        }
        for waits in open.waiting {
            let _ = waits.try_send(Err(FlowError::Ended(why)));
        }
        if let Some(opener) = open.opener {
            let _ = opener.try_send(Err(FlowError::Ended(why)));
        }
    }

    fn stream_event(
        &mut self,
        mesh: &mut HostMesh,
        flow: FlowId,
        event: Event,
    ) -> Option<Input<'static>> {
        match event {
            Event::Opened(stream) => {
                let open = self.flows.get_mut(&flow)?;
                let part = self.memory.part(open.owner);
                let (handle, pipe) = Stream::new(flow, stream, part, self.ask.clone());
                open.pipes.insert(stream, pipe);
                // Dropped, where nobody takes it: it is given up then.
                let _ = open.incoming.as_ref().map(|to| to.try_send(handle));
                None
            }
            Event::Readable(stream) | Event::Writable(stream) => self.look(mesh, flow, stream),
            Event::Finished(stream) => {
                self.flows.get(&flow)?.pipes.get(&stream)?.arrived();
                self.look(mesh, flow, stream)
            }
            Event::Stopped { id, .. } => {
                self.flows.get(&flow)?.pipes.get(&id)?.stopped();
                self.look(mesh, flow, id)
            }
            Event::StreamsAvailable => self.open_streams(mesh, flow),
            Event::OutOfAllowance | Event::Ended(_) => None,
        }
    }

    /// Moves bytes between an application and its stream.
    fn look(&mut self, mesh: &mut HostMesh, flow: FlowId, stream: u32) -> Option<Input<'static>> {
        let open = self.flows.get_mut(&flow)?;
        let pipe = open.pipes.get(&stream)?;
        let looked = pipe.look(&mut mesh.streams(flow)?, &mut self.scratch);
        if looked.over {
            open.pipes.remove(&stream);
            if let Some(close) = self.close_if_over(flow) {
                return Some(close);
            }
        }
        looked.used.then_some(Input::Streams { flow })
    }

    /// Opens the streams that are waited for, as many as may be open.
    fn open_streams(&mut self, mesh: &mut HostMesh, flow: FlowId) -> Option<Input<'static>> {
        let open = self.flows.get_mut(&flow)?;
        let mut streams: Streams<'_> = mesh.streams(flow)?;
        let mut any = false;
        while let Some(waits) = open.waiting.front() {
            if waits.is_closed() {
                open.waiting.pop_front();
                continue;
            }
            let Ok(stream) = streams.open() else { break };
            any = true;
            let part = self.memory.part(open.owner);
            let (handle, pipe) = Stream::new(flow, stream, part, self.ask.clone());
            open.pipes.insert(stream, pipe);
            if let Some(waits) = open.waiting.pop_front() {
                let _ = waits.try_send(Ok(handle));
            }
        }
        match any {
            true => Some(Input::Streams { flow }),
            false => self.close_if_over(flow),
        }
    }

    /// Closes a flow that nobody has any more, and whose streams are over.
    fn close_if_over(&mut self, flow: FlowId) -> Option<Input<'static>> {
        let open = self.flows.get(&flow)?;
        let over = open.released && open.pipes.is_empty() && open.waiting.is_empty();
        over.then_some(Input::CloseFlow { flow, code: 0 })
    }
}

impl Open {
    fn new(peer: NodeId, opener: Option<Sender<Result<Flow, FlowError>>>, owner: Owner) -> Self {
        Self {
            peer,
            owner,
            opener,
            pipes: HashMap::new(),
            incoming: None,
            waiting: VecDeque::new(),
            released: false,
        }
    }

    fn handle(&mut self, flow: FlowId, ask: &Sender<Ask>) -> Flow {
        // As many as the state machine lets the other end open.
        let (incoming, streams) = smol::channel::unbounded();
        self.incoming = Some(incoming);
        Flow::new(flow, self.peer, ask.clone(), streams)
    }
}
