//! A port of this host that leads to a service of another node.

use super::copy;
use super::handle::{Flow, FlowError, Flows};
use super::pipe::Stream;
use super::preamble::{self, ServiceName};
use crate::rpc::target::Target;
use blvm_mesh_core::id::NodeId;
use smol::Executor;
use smol::lock::Mutex;
use smol::net::{TcpListener, TcpStream};
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Pause after an error of `accept`, such as no free descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the other end may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// For how long a flow is kept without a connection.
const KEEP: Duration = Duration::from_secs(600);

/// A forward as users write it: `LOCAL=NODE:NAME`, where LOCAL is `IP:PORT`, or a port of
/// 127.0.0.1, and NODE an identity or a public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwardSpec {
    /// Where connections are taken.
    pub local: SocketAddr,
    /// To whom they lead.
    pub node: NodeId,
    /// To which of its services.
    pub service: ServiceName,
}

/// The text is not a forward, or not a service to expose.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\": {reason}; write LOCAL=NODE:NAME to forward, as in 2222=02ab...:ssh, and \
     NAME=IP:PORT to expose, as in ssh=127.0.0.1:22"
)]
pub struct SpecError {
    text: String,
    reason: String,
}

impl SpecError {
    pub(super) fn new(text: &str, reason: String) -> Self {
        Self { text: text.into(), reason }
    }
}

/// An address of this host: `IP:PORT`, or a port of 127.0.0.1.
pub(crate) fn local(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    text.parse().map_err(|_| format!("\"{text}\" is neither a port nor IP:PORT"))
}

impl ForwardSpec {
    /// Its parts: where it begins, and `NODE:NAME`.
    ///
    /// # Errors
    /// [`SpecError`].
    pub fn of(from: &str, to: &str) -> Result<Self, SpecError> {
        let wrong = |reason| SpecError::new(&format!("{from}={to}"), reason);
        let local = local(from).map_err(wrong)?;
        let (node, name) = to.rsplit_once(':').ok_or_else(|| wrong("NAME is missing".into()))?;
        let node: Target = node.parse().map_err(|e| wrong(format!("{e}")))?;
        let service = name.parse().map_err(|e| wrong(format!("{e}")))?;
        Ok(Self { local, node: node.0, service })
    }
}

impl FromStr for ForwardSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        let wrong = |reason: &str| SpecError::new(text, reason.into());
        let (from, to) = text.split_once('=').ok_or_else(|| wrong("there is no \"=\""))?;
        Self::of(from, to)
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:{}", self.local, self.node, self.service)
    }
}

/// A forward at work.
pub(super) struct Forward {
    spec: ForwardSpec,
    max_msat: u64,
    flows: Flows,
    flow: Mutex<Option<Flow>>,
}

impl Forward {
    pub(super) fn new(spec: ForwardSpec, max_msat: u64, flows: Flows) -> Self {
        Self { spec, max_msat, flows, flow: Mutex::new(None) }
    }

    /// Takes connections until it is dropped.
    pub(super) async fn run(self, listener: TcpListener, executor: Arc<Executor<'static>>) {
        let this = Arc::new(self);
        loop {
            let next = async { Some(listener.accept().await) };
            let idle = async {
                smol::Timer::after(KEEP).await;
                None
            };
            match smol::future::or(next, idle).await {
                Some(Ok((tcp, _))) => {
                    let this = this.clone();
                    executor.spawn(async move { this.connection(tcp).await }).detach();
                }
                Some(Err(error)) => {
                    tracing::warn!(local = %this.spec.local, %error, "no connection can be taken");
                    smol::Timer::after(PAUSE).await;
                }
                // Open connections keep it; without one it costs nothing to open another.
                None => drop(this.flow.try_lock().and_then(|mut flow| flow.take())),
            }
        }
    }

    async fn connection(&self, tcp: TcpStream) {
        let ForwardSpec { local, node, service } = &self.spec;
        let joined = async {
            let mut stream = self.stream().await.map_err(io::Error::other)?;
            // The other end's answer may have to wait for a purchase.
            if let Err(error) = copy::within(PATIENCE, preamble::ask(&mut stream, service)).await {
                if error.kind() != io::ErrorKind::TimedOut {
                    return Err(error);
                }
                // It may have spent what it may cost: the next connection opens another.
                drop(self.flow.lock().await.take());
                let text = "the flow does not go on: its budget may be spent (max_msat)";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            copy::join(stream, tcp).await
        };
        if let Err(error) = joined.await {
            tracing::warn!(%local, %node, %service, %error, "a forwarded connection has failed");
        }
    }

    /// A stream of the flow that all connections share.
    async fn stream(&self) -> Result<Stream, FlowError> {
        let mut flow = self.flow.lock().await;
        if let Some(open) = flow.as_ref().filter(|flow| !flow.is_over()) {
            return open.open_stream().await;
        }
        let new = self.flows.open(self.spec.node, self.max_msat).await?;
        let stream = new.open_stream().await;
        *flow = Some(new);
        stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_read_and_faults_named() {
        let node = "ab".repeat(32);
        let spec: ForwardSpec = format!("2222={node}:ssh").parse().unwrap();
        assert_eq!(spec.local, "127.0.0.1:2222".parse().unwrap());
        assert_eq!((spec.node, spec.service.to_string()), (NodeId([0xab; 32]), "ssh".into()));
        let again: ForwardSpec = spec.to_string().parse().unwrap();
        assert_eq!(again, spec);
        let v6: ForwardSpec = format!("[::1]:80={node}:web").parse().unwrap();
        assert_eq!(v6.local, "[::1]:80".parse().unwrap());
        for (text, reason) in [
            ("2222", "no \"=\""),
            ("x=ab:ssh", "neither a port nor IP:PORT"),
            ("1=abcd", "NAME is missing"),
            ("1=abcd:ssh", "not a destination"),
            (&format!("1={node}:SSH"), "name of a service"),
        ] {
            let error = text.parse::<ForwardSpec>().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
