//! The socket's client. It blocks.

use super::{Request, RpcError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// Longest answer that is read.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody serves the socket.
    #[error(
        "no node answers at {}: start one with `blvm-mesh run`, or name its --data-dir",
        .0.display()
    )]
    NotRunning(PathBuf),
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
    /// Whether it is a clean no of the node.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Rpc(error) if error.code == RpcError::REFUSED)
    }
}

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    last_id: u64,
}

#[derive(Deserialize)]
struct Response {
    result: Option<Value>,
    error: Option<RpcError>,
    id: Value,
}

impl Client {
    /// Connects to the node that serves this socket.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                ClientError::NotRunning(path.into())
            }
            _ => ClientError::Io(e),
        })?;
        Ok(Self { stream: BufReader::new(stream), last_id: 0 })
    }

    /// Asks and waits for the answer, as long as that takes. `T` is the type that
    /// belongs to the request.
    pub fn call<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        self.last_id += 1;
        let id = Value::from(self.last_id);
        let (method, params) = request.to_parts();
        let message = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id});
        let mut line = message.to_string();
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        let mut answer = Vec::new();
        self.stream.by_ref().take(MAX_ANSWER).read_until(b'\n', &mut answer)?;
        if answer.last() != Some(&b'\n') {
            return Err(ClientError::Answer("it ends too early; the node may have stopped".into()));
        }
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
}
