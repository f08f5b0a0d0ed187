//! The socket's server: one JSON-RPC 2.0 request, notification or batch per line,
//! one line in answer.

use super::{Handler, Reply, Request, RpcError};
use serde::Serialize;
use serde_json::Value;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Semaphore;
use smol::{Async, Executor};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest line that is read: the largest packet as hex, with its proof.
pub const MAX_REQUEST: usize = 12 * 1024 * 1024;
/// Most requests in one batch.
const MAX_BATCH: usize = 100;
/// Connections served at once; further ones wait.
const MAX_CONNECTIONS: usize = 64;
/// Longest path of a Unix socket (sockaddr_un has 108 bytes).
const MAX_PATH: usize = 107;

/// Why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process serves it.
    #[error("another node answers at {}: stop it, or give --data-dir", .0.display())]
    InUse(PathBuf),
    /// There is a file that is no socket.
    #[error("{} is there and is not a socket; it was left as it is", .0.display())]
    NoSocket(PathBuf),
    /// The path does not fit into a socket's address.
    #[error(
        "the socket's path {} is longer than {MAX_PATH} bytes: give a shorter --rpc-socket",
        .0.display()
    )]
    TooLong(PathBuf),
    /// The system refuses.
    #[error("cannot make the socket {path}: {error}", path = .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// A socket that only its owner may use. Dropped, it takes its file away.
#[derive(Debug)]
pub struct Server {
    listener: Async<UnixListener>,
    path: PathBuf,
    inode: u64,
}

impl Server {
    /// Makes the socket; takes the place of one that nobody serves any more.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let at = |error| BindError::Io { path: path.into(), error };
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(BindError::NoSocket(path.into()));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(BindError::InUse(path.into()));
            }
            _ => {}
        }
        // Under another name until its mode is set; the last step replaces what
        // is left of an earlier process.
        let mut name = path.as_os_str().to_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        if new.as_os_str().len() > MAX_PATH {
            return Err(BindError::TooLong(path.into()));
        }
        let _ = std::fs::remove_file(&new);
        let listener = Async::<UnixListener>::bind(&new).map_err(at)?;
        let finish = || {
            std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600))?;
            let inode = std::fs::symlink_metadata(&new)?.ino();
            std::fs::rename(&new, path)?;
            Ok(inode)
        };
        let inode = finish().map_err(|e| {
            let _ = std::fs::remove_file(&new);
            at(e)
        })?;
        Ok(Self { listener, path: path.into(), inode })
    }

    /// Answers until the future is dropped, each connection in a task of its own.
    pub async fn serve<H: Handler>(&self, handler: Arc<H>, executor: &Executor<'static>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let place = room.acquire_arc().await;
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let handler = handler.clone();
                    let converse = async move {
                        if let Err(error) = converse(&stream, &*handler).await {
                            tracing::debug!(%error, "connection of a command ended");
                        }
                        drop(place);
                    };
                    executor.spawn(converse).detach();
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of a command");
                    smol::Timer::after(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Another process may have taken the place.
        if self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn converse<H: Handler>(stream: &Async<UnixStream>, handler: &H) -> io::Result<()> {
    let mut lines = Lines { stream, buffer: Vec::new(), searched: 0, ended: false };
    let mut out = stream;
    loop {
        let line = match lines.next().await? {
            Line::Whole(line) => line,
            Line::TooLong => {
                let text = format!("the request is longer than {MAX_REQUEST} bytes");
                let error = RpcError { code: RpcError::INVALID_REQUEST, message: text };
                out.write_all(&encode(&Response::new(Value::Null, Err(error)))).await?;
                return Ok(());
            }
            Line::End => return Ok(()),
        };
        let answered = async { Some(answer(&line, handler).await) };
        let gone = async {
            lines.until_gone().await;
            None
        };
        match or(answered, gone).await {
            Some(Some(answer)) => out.write_all(&answer).await?,
            Some(None) => {}
            None => return Ok(()),
        }
    }
}

enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

/// Cuts what comes in into lines of bounded length.
struct Lines<'a> {
    stream: &'a Async<UnixStream>,
    buffer: Vec<u8>,
    /// Bytes of the buffer in which there is no end of line.
    searched: usize,
    ended: bool,
}

impl Lines<'_> {
    async fn next(&mut self) -> io::Result<Line> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                self.searched = 0;
                return Ok(Line::Whole(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_REQUEST {
                return Ok(Line::TooLong);
            }
            if self.ended {
                // The last line may lack its end.
                self.searched = 0;
                let line = std::mem::take(&mut self.buffer);
                let blank = line.iter().all(u8::is_ascii_whitespace);
                return Ok(if blank { Line::End } else { Line::Whole(line) });
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut chunk = [0; 8192];
        let n = self.stream.read(&mut chunk).await?;
        self.ended = n == 0;
        self.buffer.extend_from_slice(chunk.get(..n).unwrap_or_default());
        Ok(())
    }

    /// Returns once nobody can read the answer any more. Someone who has merely
    /// said all that he has to say still can: a space before the answer, which
    /// JSON allows, finds out.
    async fn until_gone(&mut self) {
        while !self.ended {
            if self.buffer.len() > MAX_REQUEST {
                // Says more than can be kept; it is dealt with after the answer.
                return std::future::pending().await;
            }
            if self.fill().await.is_err() {
                return;
            }
        }
        let mut out = self.stream;
        while out.write_all(b" ").await.is_ok() {
            smol::Timer::after(std::time::Duration::from_millis(500)).await;
        }
    }
}

#[derive(Serialize)]
struct Response {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RpcError>,
    id: Value,
}

impl Response {
    fn new(id: Value, outcome: Result<Reply, RpcError>) -> Self {
        let (result, error) = match outcome {
            Ok(reply) => (Some(reply), None),
            Err(error) => (None, Some(error)),
        };
        Self { jsonrpc: "2.0", result, error, id }
    }
}

/// A line of JSON.
fn encode(value: &impl Serialize) -> Vec<u8> {
    // None of the types has a key that JSON cannot hold.
    let mut line = serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec());
    line.push(b'\n');
    line
}

/// The answer to one line; `None` if it held only notifications, or nothing.
pub(crate) async fn answer<H: Handler>(line: &[u8], handler: &H) -> Option<Vec<u8>> {
    if line.iter().all(u8::is_ascii_whitespace) {
        return None;
    }
    let value = match serde_json::from_slice::<Value>(line) {
        Ok(value) => value,
        Err(e) => {
            let error = RpcError { code: RpcError::PARSE, message: format!("not JSON: {e}") };
            return Some(encode(&Response::new(Value::Null, Err(error))));
        }
    };
    let Value::Array(batch) = value else {
        return one(value, handler).await.map(|response| encode(&response));
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let error = invalid(format!("a batch has from 1 to {MAX_BATCH} requests"));
        return Some(encode(&Response::new(Value::Null, Err(error))));
    }
    let mut responses = Vec::new();
    for request in batch {
        responses.extend(one(request, handler).await);
    }
    (!responses.is_empty()).then(|| encode(&responses))
}

async fn one<H: Handler>(request: Value, handler: &H) -> Option<Response> {
    let Value::Object(mut request) = request else {
        return Some(Response::new(Value::Null, Err(invalid("a request is an object".into()))));
    };
    let id = request.remove("id");
    let known = matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_)));
    let method = match request.remove("method") {
        Some(Value::String(method)) if known => method,
        _ => {
            let error = invalid("method must be text, and id a text or a number".into());
            return Some(Response::new(Value::Null, Err(error)));
        }
    };
    if request.remove("jsonrpc") != Some(Value::String("2.0".into())) {
        let error = invalid("\"jsonrpc\": \"2.0\" is missing".into());
        return Some(Response::new(id.unwrap_or_default(), Err(error)));
    }
    let outcome = match Request::parse(&method, request.remove("params")) {
        Ok(request) => handler.handle(request).await,
        Err(error) => Err(error),
    };
    id.map(|id| Response::new(id, outcome))
}

fn invalid(message: String) -> RpcError {
    RpcError { code: RpcError::INVALID_REQUEST, message }
}

#[cfg(test)]
mod tests;
