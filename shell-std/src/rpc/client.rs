//! The socket's client. It blocks.

use super::{Request, RpcError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
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
}

#[derive(Deserialize)]
struct Response {
    result: Option<Value>,
    error: Option<RpcError>,
    id: Value,
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
        Ok(Self { stream, path: path.into(), patience, last_id: 0 })
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
        let answer = self.exchange(line.as_bytes(), deadline)?;
        let wrong = |e: serde_json::Error| ClientError::Answer(e.to_string());
        let response: Response = serde_json::from_slice(&answer).map_err(wrong)?;
        match response {
            Response { error: Some(error), .. } => Err(error.into()),
            Response { result: Some(result), id: of, .. } if of == id => {
                serde_json::from_value(result).map_err(wrong)
            }
            _ => Err(ClientError::Answer("it belongs to no question".into())),
        }
    }

    /// Writes a line and reads one.
    fn exchange(&mut self, line: &[u8], deadline: Instant) -> Result<Vec<u8>, ClientError> {
        let late = || ClientError::Late(self.path.clone(), self.patience);
        let left = || {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() { Err(late()) } else { Ok(left) }
        };
        let failed = |e: io::Error| match e.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(),
            _ => ClientError::Io(e),
        };
        let mut stream = &self.stream;
        let mut unsent = line;
        while !unsent.is_empty() {
            stream.set_write_timeout(Some(left()?))?;
            match stream.write(unsent) {
                Ok(n) => unsent = unsent.get(n..).unwrap_or_default(),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
        let (mut answer, mut chunk) = (Vec::new(), vec![0; 64 * 1024]);
        loop {
            stream.set_read_timeout(Some(left()?))?;
            let n = match stream.read(&mut chunk) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(failed(e)),
            };
            answer.extend_from_slice(chunk.get(..n).unwrap_or_default());
            // One question, one line in answer: nothing follows it.
            if answer.last() == Some(&b'\n') {
                return Ok(answer);
            }
            if n == 0 || answer.len() > MAX_ANSWER {
                let text = "it ends too early; the node may have stopped";
                return Err(ClientError::Answer(text.into()));
            }
        }
    }
}
