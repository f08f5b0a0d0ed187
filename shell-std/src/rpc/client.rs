//! The socket's client. It blocks.

use super::connection::EVENT;
use super::types::{MeshEvent, Subscribe, Subscribed};
use super::{Request, RpcError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error(
        "no node answers at {}: start one with `blvm-mesh run`, or name its --data-dir",
        .0.display()
    )]
    NotRunning(PathBuf),
    /// The socket belongs to somebody else.
    #[error("the node at {} is another user's: only its owner may command it", .0.display())]
    NotAllowed(PathBuf),
    /// It says nothing.
    #[error(
        "the node at {} did not answer within {} s; it is busy or hangs (--timeout waits longer)",
        .0.display(), .1.as_secs_f64()
    )]
    Late(PathBuf, Duration),
    /// It has ended the connection while events were waited for.
    #[error(
        "the node at {} has ended the connection: it has stopped, or is restarted. Subscribe again, \
         with the cursor of the last event",
        .0.display()
    )]
    Ended(PathBuf),
    /// The connection failed.
    #[error("the connection to the node failed: {0}")]
    Io(#[from] io::Error),
    /// The answer is not what was asked for.
    #[error("the node's answer cannot be read: {0}")]
    Answer(String),
    /// The node answered with an error.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl ClientError {
    /// Whether the node answered with a negative result.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Rpc(error) if error.code == RpcError::REFUSED)
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    path: PathBuf,
    patience: Duration,
    last_id: u64,
    /// What was read and is not looked at yet.
    read: Vec<u8>,
    /// Events that came while an answer was waited for.
    events: VecDeque<MeshEvent>,
}

#[derive(Deserialize)]
struct Line {
    result: Option<Value>,
    error: Option<RpcError>,
    #[serde(default)]
    id: Value,
    method: Option<String>,
    #[serde(default)]
    params: Value,
}

impl Client {
    /// Connects to the node that serves this socket. Neither this nor an answer is waited for
    /// longer than `patience`, and the time that a request waits by itself.
    ///
    /// # Errors
    /// [`ClientError`]: nobody serves the socket, or not in time.
    pub fn connect(path: &Path, patience: Duration) -> Result<Self, ClientError> {
        // There is no `connect` with a deadline for these sockets, and it waits where the
        // server accepts nothing: the thread is left behind then.
        let (tell, told) = std::sync::mpsc::channel();
        let owned = path.to_path_buf();
        let connect = move || tell.send(UnixStream::connect(owned));
        std::thread::Builder::new().name("connect".into()).spawn(connect)?;
        let stream = match told.recv_timeout(patience) {
            Ok(stream) => stream,
            Err(_) => return Err(ClientError::Late(path.into(), patience)),
        };
        let stream = stream.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.into())
            }
            io::ErrorKind::PermissionDenied => ClientError::NotAllowed(path.into()),
            _ => ClientError::Io(e),
        })?;
        let (read, events) = (Vec::new(), VecDeque::new());
        Ok(Self { stream, path: path.into(), patience, last_id: 0, read, events })
    }

    /// Asks and waits for the answer. `T` is the type that belongs to the request.
    ///
    /// # Errors
    /// [`ClientError`]: the node refused, did not answer in time, or not with a `T`.
    pub fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        self.last_id += 1;
        let id = Value::from(self.last_id);
        let (method, params) = request.to_parts();
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id});
        let mut line = message.to_string();
        line.push('\n');
        let deadline = Instant::now() + self.patience + request.waits();
        self.write(line.as_bytes(), deadline)?;
        let line = loop {
            match self.line(Some(deadline))? {
                Line { method: Some(method), params, .. } => self.note(&method, params)?,
                answer => break answer,
            }
        };
        match line {
            Line { error: Some(error), .. } => Err(error.into()),
            Line { result: Some(result), id: of, .. } if of == id => {
                serde_json::from_value(result).map_err(unreadable)
            }
            _ => Err(ClientError::Answer("it belongs to no question".into())),
        }
    }

    /// Subscribes; [`Self::event`] then gives one event after the other.
    ///
    /// # Errors
    /// [`ClientError`], as those of [`Self::call`].
    pub fn subscribe(&mut self, request: Subscribe) -> Result<Subscribed, ClientError> {
        self.call(&Request::Subscribe(request))
    }

    /// The next event of any subscription of this connection; waits until there is one. Those that
    /// come during a [`call`](Self::call) are kept for this.
    ///
    /// # Errors
    /// [`ClientError::Ended`], where the node ends the connection; or what comes is no event.
    pub fn event(&mut self) -> Result<MeshEvent, ClientError> {
        while self.events.is_empty() {
            let Line { method, params, .. } = self.line(None)?;
            self.note(&method.unwrap_or_default(), params)?;
        }
        self.events.pop_front().ok_or_else(|| ClientError::Ended(self.path.clone()))
    }

    /// Keeps what the node says by itself.
    fn note(&mut self, method: &str, params: Value) -> Result<(), ClientError> {
        if method != EVENT {
            return Err(ClientError::Answer("it is no event".into()));
        }
        self.events.push_back(serde_json::from_value(params).map_err(unreadable)?);
        Ok(())
    }

    fn write(&mut self, line: &[u8], deadline: Instant) -> Result<(), ClientError> {
        let mut stream = &self.stream;
        let mut unsent = line;
        while !unsent.is_empty() {
            stream.set_write_timeout(Some(self.left(deadline)?))?;
            match stream.write(unsent) {
                Ok(n) => unsent = unsent.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed(e)),
            }
        }
        Ok(())
    }

    /// The next line; without a deadline one that may be long in coming.
    fn line(&mut self, deadline: Option<Instant>) -> Result<Line, ClientError> {
        let (mut searched, mut chunk) = (0, vec![0; 64 * 1024]);
        loop {
            let fresh = self.read.get(searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|b| *b == b'\n') {
                let rest = self.read.split_off(searched + end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return serde_json::from_slice(&line).map_err(unreadable);
            }
            searched = self.read.len();
            let left = deadline.map(|deadline| self.left(deadline)).transpose()?;
            self.stream.set_read_timeout(left)?;
            let n = match (&self.stream).read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(self.failed(e)),
            };
            if n == 0 && deadline.is_none() {
                return Err(ClientError::Ended(self.path.clone()));
            }
            if n == 0 || self.read.len() > MAX_ANSWER {
                let text = "it ends too early; the node may have stopped";
                return Err(ClientError::Answer(text.into()));
            }
            self.read.extend_from_slice(chunk.get(..n).unwrap_or_default());
        }
    }

    fn left(&self, deadline: Instant) -> Result<Duration, ClientError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.late()) } else { Ok(left) }
    }

    fn late(&self) -> ClientError {
        ClientError::Late(self.path.clone(), self.patience)
    }

    fn failed(&self, error: io::Error) -> ClientError {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => self.late(),
            _ => ClientError::Io(error),
        }
    }
}

fn unreadable(error: serde_json::Error) -> ClientError {
    ClientError::Answer(error.to_string())
}
