//! One node of the demonstration: a process of this program.

use crate::config::PREFIX;
use crate::rpc::Request;
use crate::rpc::client::{Client, ClientError};
use crate::rpc::types::{
    Expose, Exposing, Forward, Forwarding, GetLedger, Info, Ledger, LedgerEntry, Peer, PeerState,
    PollReceived, Proof, QuoteRoute, Received, SendPacket, Sent, SubmitHeader, SubmittedHeaders,
};
use crate::rpc::{target::Target, types::Quote};
use bitcoin::ScriptBuf;
use blvm_mesh_core::id::NodeId;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running node. Dropped, it is killed.
pub(super) struct Actor {
    name: &'static str,
    dir: PathBuf,
    arguments: Vec<String>,
    child: Child,
    ready: Ready,
    client: Client,
}

/// The line that `run --json` prints.
#[derive(Debug, Clone, Deserialize)]
struct Ready {
    public_key: String,
    listen_addr: String,
    rpc_socket: PathBuf,
}

impl Actor {
    /// Starts a node with its files in `dir/name`.
    pub(super) fn start(
        name: &'static str,
        dir: &Path,
        arguments: Vec<String>,
    ) -> Result<Self, String> {
        let dir = dir.join(name);
        let (child, ready) = spawn(name, &dir, "127.0.0.1:0", &arguments)?;
        let client =
            Client::connect(&ready.rpc_socket, PATIENCE).map_err(|e| format!("{name}: {e}"))?;
        Ok(Self { name, dir, arguments, child, ready, client })
    }

    /// SIGKILL: nothing can be tidied up.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        let result = self.child.kill().and_then(|()| self.child.wait());
        result.map(|_| ()).map_err(|e| format!("{}: {e}", self.name))
    }

    /// Starts the node again with the same files, on the same port.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let listen = &self.ready.listen_addr;
        (self.child, self.ready) = spawn(self.name, &self.dir, listen, &self.arguments)?;
        let client = Client::connect(&self.ready.rpc_socket, PATIENCE);
        self.client = client.map_err(|e| format!("{}: {e}", self.name))?;
        Ok(())
    }

    /// `PUBKEY@HOST:PORT`.
    pub(super) fn address(&self) -> String {
        format!("{}@{}", self.ready.public_key, self.ready.listen_addr)
    }

    /// The node's identity.
    pub(super) fn id(&self) -> Result<NodeId, String> {
        self.ready.public_key.parse::<Target>().map(|t| t.0).map_err(|e| e.to_string())
    }

    /// Waits until the links to all of these are up.
    pub(super) fn wait_for_links(&mut self, to: &[NodeId]) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let peers: Vec<Peer> = self.ask(&Request::GetPeers)?;
            let up =
                |id: &NodeId| peers.iter().any(|p| p.node_id == *id && p.state == PeerState::Up);
            if to.iter().all(up) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("{}: not all of its links came up in time", self.name));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Sends; `Err` is the refusal's sentence, by the node itself or by a relay
    /// whose report comes within `wait_ms`.
    pub(super) fn send(&mut self, request: SendPacket) -> Result<Result<Sent, String>, String> {
        match self.client.call::<Sent>(&Request::SendPacket(request)) {
            Ok(sent) => Ok(match &sent.stopped {
                Some(stopped) => Err(format!("{} says: {}", stopped.reporter.hop(), stopped.cause)),
                None => Ok(sent),
            }),
            Err(e) if e.is_refusal() => Ok(Err(format!("{} itself says: {e}", self.name))),
            Err(e) => Err(self.failed(&e)),
        }
    }

    /// Waits up to `wait_ms` for one datagram.
    pub(super) fn receive(&mut self, wait_ms: u64) -> Result<Option<Received>, String> {
        let poll = PollReceived { max: 1, wait_ms, base64: true };
        let got: Vec<Received> = self.ask(&Request::PollReceived(poll))?;
        Ok(got.into_iter().next())
    }

    pub(super) fn quote(&mut self, to: NodeId, bytes: usize) -> Result<Quote, String> {
        let destination = Target(to);
        self.ask(&Request::QuoteRoute(QuoteRoute { destination, bytes: bytes as u64 }))
    }

    /// The entry of a payment in the ledger.
    pub(super) fn booked(&mut self, payment: &[u8; 32]) -> Result<LedgerEntry, String> {
        let entry = self.ledger()?.entries.into_iter().find(|e| e.payment == *payment);
        entry.ok_or_else(|| format!("{} has not booked the payment", self.name))
    }

    /// The ledger.
    pub(super) fn ledger(&mut self) -> Result<Ledger, String> {
        self.ask(&Request::GetLedger(GetLedger::default()))
    }

    /// Makes a port reachable under a name.
    pub(super) fn expose(&mut self, name: &str, target: SocketAddr) -> Result<(), String> {
        let (name, target) = (name.to_owned(), Some(target.to_string()));
        self.ask::<Exposing>(&Request::Expose(Expose { name, target })).map(|_| ())
    }

    /// Leads connections to a service of another node: where they are taken.
    pub(super) fn forward(
        &mut self,
        to: NodeId,
        service: &str,
        max_msat: u64,
    ) -> Result<String, String> {
        let (node, service) = (Some(Target(to)), Some(service.to_owned()));
        let local = "127.0.0.1:0".to_owned();
        let asked = Forward { local, node, service, max_msat: Some(max_msat) };
        self.ask::<Forwarding>(&Request::Forward(asked)).map(|now| now.local)
    }

    /// Ends a forward.
    pub(super) fn end_forward(&mut self, local: &str) -> Result<(), String> {
        let asked = Forward { local: local.to_owned(), node: None, service: None, max_msat: None };
        self.ask::<Forwarding>(&Request::Forward(asked)).map(|_| ())
    }

    /// The script that covenants must pay the node to.
    pub(super) fn payout(&mut self) -> Result<ScriptBuf, String> {
        let info: Info = self.ask(&Request::GetInfo)?;
        Ok(ScriptBuf::from(info.payout_script))
    }

    /// Gives the node a block header.
    pub(super) fn give_header(&mut self, header: Vec<u8>, height: u32) -> Result<(), String> {
        let request = Request::SubmitHeader(SubmitHeader { headers: header, height });
        match self.ask::<SubmittedHeaders>(&request)?.refused {
            None => Ok(()),
            Some(refused) => Err(format!("{}: {}", self.name, refused.reason)),
        }
    }

    fn ask<T: serde::de::DeserializeOwned>(&mut self, request: &Request) -> Result<T, String> {
        self.client.call(request).map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &ClientError) -> String {
        format!("{}: {error}", self.name)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A datagram without proof that waits for no report.
pub(super) fn free(to: NodeId, data: Vec<u8>) -> SendPacket {
    SendPacket {
        destination: Target(to),
        data,
        proof: None,
        pay: false,
        max_msat: None,
        unchecked: false,
        wait_ms: 0,
    }
}

/// A datagram that is sent whatever its sender thinks of it.
pub(super) fn unchecked(to: NodeId, data: Vec<u8>, proof: Option<Proof>) -> SendPacket {
    SendPacket {
        destination: Target(to),
        data,
        proof,
        pay: false,
        max_msat: None,
        unchecked: true,
        wait_ms: 5_000,
    }
}

fn spawn(
    name: &str,
    dir: &Path,
    listen: &str,
    arguments: &[String],
) -> Result<(Child, Ready), String> {
    let at = |e: std::io::Error| format!("{name}: {e}");
    crate::private_file::create_dir(dir).map_err(|e| format!("{name}: {e}"))?;
    let log =
        File::options().create(true).append(true).open(dir.with_extension("log")).map_err(at)?;
    let mut command = Command::new(std::env::current_exe().map_err(at)?);
    command.args(["run", "--json", "--network", "regtest", "--listen-addr", listen]);
    command.arg("--data-dir").arg(dir).args(arguments);
    // The user's own settings are no part of it.
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with(PREFIX) {
            command.env_remove(variable);
        }
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().map_err(at)?;
    let mut line = String::new();
    if let Some(out) = child.stdout.take() {
        BufReader::new(out).read_line(&mut line).map_err(at)?;
    }
    match serde_json::from_str(&line) {
        Ok(ready) => Ok((child, ready)),
        Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(format!("{name} did not start: {}", line.trim()))
        }
    }
}
