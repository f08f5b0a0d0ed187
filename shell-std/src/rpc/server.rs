//! The socket's server: one JSON-RPC 2.0 request, notification or batch per line,
//! one line in answer. Events of subscriptions come between answers.

mod lines;
mod out;
mod places;

use super::connection::Seats;
use super::{Connection, Handler, Reply, Request, RpcError};
use crate::descriptors;
use lines::{Line, Lines};
use out::{Out, in_time};
use places::{Place, Places};
use serde::Serialize;
use serde_json::Value;
use smol::future::or;
use smol::io::AsyncWriteExt;
use smol::{Async, Executor};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest line that is read: the largest packet as hex, with its proof.
pub const MAX_REQUEST: usize = 12 * 1024 * 1024;
/// Most requests in one batch.
const MAX_BATCH: usize = 100;
/// Connections served at once. When there are so many the one that has been idle longest
/// makes room for the next.
const MAX_CONNECTIONS: usize = 64;
/// Time for a request that has begun to come whole, and for an answer to be read on.
const PATIENCE: Duration = Duration::from_secs(30);
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
    ///
    /// # Errors
    /// [`BindError`]: another node serves it, or it cannot be made.
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
        let most = descriptors::most_commands(MAX_CONNECTIONS);
        // Those that are left are for commands.
        let seats = Seats::new((most / 2).max(1));
        let places = Arc::new(Places::new(most));
        let mut failing = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    failing = false;
                    let Some(place) = places.take() else {
                        executor.spawn(refuse(stream)).detach();
                        continue;
                    };
                    let (handler, seats) = (handler.clone(), seats.clone());
                    let converse = async move {
                        let talk = converse(&stream, &*handler, &place, seats);
                        let ended = async {
                            place.ended().await;
                            Err(io::Error::other("another needed its place, and it was idle"))
                        };
                        if let Err(error) = or(talk, ended).await {
                            tracing::debug!(%error, "connection of a command ended");
                        }
                    };
                    executor.spawn(converse).detach();
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept connections of commands");
                    }
                    smol::Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

/// Says that there is no room, and why.
async fn refuse(stream: Async<UnixStream>) {
    let text = "too many commands are being answered; try again when one has ended";
    let error = RpcError { code: RpcError::INTERNAL, message: text.into() };
    let line = encode(&Response::new(Value::Null, Err(error)));
    let _ = in_time((&stream).write_all(&line)).await;
}

impl Drop for Server {
    fn drop(&mut self) {
        // Another process may have taken the place.
        if self.path.symlink_metadata().is_ok_and(|found| found.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

async fn converse<H: Handler>(
    stream: &Async<UnixStream>,
    handler: &H,
    place: &Place,
    seats: Seats,
) -> io::Result<()> {
    let connection = Connection::new(seats);
    let (mut lines, mut out) = (Lines::new(stream), Out::new(stream));
    loop {
        let line = match or(lines.next(), out.tell(&connection)).await? {
            Line::Whole(line) => line,
            Line::TooLong => {
                let text = format!("the request is longer than {MAX_REQUEST} bytes");
                let error = RpcError { code: RpcError::INVALID_REQUEST, message: text };
                return out.write(&encode(&Response::new(Value::Null, Err(error)))).await;
            }
            Line::End => return Ok(()),
        };
        if !place.busy() {
            return Ok(());
        }
        let answered = async { Some(answer(&line, handler, &connection).await) };
        let gone = async {
            if or(lines.until_ended(), out.tell(&connection)).await.is_ok() {
                out.until_gone().await;
            }
            None
        };
        match or(answered, gone).await {
            Some(Some(answer)) => out.write(&answer).await?,
            Some(None) => {}
            None => return Ok(()),
        }
        connection.begin();
        // One that is subscribed is never idle.
        if !connection.is_subscribed() {
            place.idle();
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
pub(crate) async fn answer<H: Handler>(
    line: &[u8],
    handler: &H,
    connection: &Connection,
) -> Option<Vec<u8>> {
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
        return one(value, handler, connection).await.map(|response| encode(&response));
    };
    if batch.is_empty() || batch.len() > MAX_BATCH {
        let error = invalid(format!("a batch has from 1 to {MAX_BATCH} requests"));
        return Some(encode(&Response::new(Value::Null, Err(error))));
    }
    let mut responses = Vec::new();
    for request in batch {
        responses.extend(one(request, handler, connection).await);
    }
    (!responses.is_empty()).then(|| encode(&responses))
}

async fn one<H: Handler>(request: Value, handler: &H, connection: &Connection) -> Option<Response> {
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
        Ok(request) => handler.handle(request, connection).await,
        Err(error) => Err(error),
    };
    id.map(|id| Response::new(id, outcome))
}

fn invalid(message: String) -> RpcError {
    RpcError { code: RpcError::INVALID_REQUEST, message }
}

#[cfg(test)]
mod tests;
