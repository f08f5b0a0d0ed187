//! The socket's server: one JSON-RPC 2.0 request, notification or batch per line,
//! one line in answer.

use super::{Handler, Reply, Request, RpcError};
use crate::descriptors;
use serde::Serialize;
use serde_json::Value;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Executor};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
        let places = Arc::new(Places::new(descriptors::most_commands(MAX_CONNECTIONS)));
        let mut failing = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    failing = false;
                    let Some(place) = places.take() else {
                        executor.spawn(refuse(stream)).detach();
                        continue;
                    };
                    let handler = handler.clone();
                    let converse = async move {
                        let talk = converse(&stream, &*handler, &place);
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

/// Who is connected, and since when he is idle.
struct Places {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    /// By when they became idle.
    idle: BTreeMap<u64, smol::channel::Sender<Infallible>>,
    busy: usize,
}

/// One connection's place; idle at first.
struct Place {
    places: Arc<Places>,
    /// Since when it is idle, if it is.
    idle: Mutex<Option<u64>>,
    end: smol::channel::Receiver<Infallible>,
    ender: smol::channel::Sender<Infallible>,
}

impl Places {
    fn new(most: usize) -> Self {
        Self { most, taken: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place, that of the one idle for longest if need be; none where all are busy.
    fn take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.lock();
        if taken.idle.len().saturating_add(taken.busy) >= self.most {
            let (_, ender) = taken.idle.pop_first()?;
            ender.close();
        }
        let (ender, end) = smol::channel::bounded(1);
        let since = taken.idle(ender.clone());
        Some(Place { places: self.clone(), idle: Mutex::new(Some(since)), end, ender })
    }
}

impl Taken {
    fn idle(&mut self, ender: smol::channel::Sender<Infallible>) -> u64 {
        self.next = self.next.saturating_add(1);
        self.idle.insert(self.next, ender);
        self.next
    }
}

impl Place {
    /// Until the place is somebody else's.
    async fn ended(&self) {
        // Nothing is ever sent.
        let _ = self.end.recv().await;
    }

    /// A request has come whole; `false` if the place is gone.
    fn busy(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.places.lock();
        let had = idle.take().is_some_and(|since| taken.idle.remove(&since).is_some());
        taken.busy = taken.busy.saturating_add(usize::from(had));
        had
    }

    /// It is answered.
    fn idle(&self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.is_none() {
            let mut taken = self.places.lock();
            taken.busy = taken.busy.saturating_sub(1);
            *idle = Some(taken.idle(self.ender.clone()));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut taken = self.places.lock();
        match idle {
            Some(since) => drop(taken.idle.remove(&since)),
            None => taken.busy = taken.busy.saturating_sub(1),
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

/// What must not take longer than [`PATIENCE`].
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    or(work, late).await
}

/// Writes; each part of it must be taken in time.
async fn write(mut out: &Async<UnixStream>, bytes: &[u8]) -> io::Result<()> {
    for part in bytes.chunks(64 * 1024) {
        in_time(out.write_all(part)).await?;
    }
    Ok(())
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
) -> io::Result<()> {
    let mut lines = Lines { stream, buffer: Vec::new(), searched: 0, begun: None, ended: false };
    loop {
        let line = match lines.next().await? {
            Line::Whole(line) => line,
            Line::TooLong => {
                let text = format!("the request is longer than {MAX_REQUEST} bytes");
                let error = RpcError { code: RpcError::INVALID_REQUEST, message: text };
                return write(stream, &encode(&Response::new(Value::Null, Err(error)))).await;
            }
            Line::End => return Ok(()),
        };
        if !place.busy() {
            return Ok(());
        }
        let answered = async { Some(answer(&line, handler).await) };
        let gone = async {
            lines.until_gone().await;
            None
        };
        match or(answered, gone).await {
            Some(Some(answer)) => write(stream, &answer).await?,
            Some(None) => {}
            None => return Ok(()),
        }
        place.idle();
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
    /// When the request in it began to come.
    begun: Option<Instant>,
    ended: bool,
}

impl Lines<'_> {
    async fn next(&mut self) -> io::Result<Line> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(self.searched + end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                (self.searched, self.begun) = (0, None);
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
            // The first byte may be long in coming; the rest of a request may not.
            match self.buffer.is_empty() {
                true => self.fill().await?,
                false => {
                    let begun = *self.begun.get_or_insert_with(Instant::now);
                    let left = PATIENCE.saturating_sub(begun.elapsed());
                    let late = async {
                        smol::Timer::after(left).await;
                        Err(io::ErrorKind::TimedOut.into())
                    };
                    or(self.fill(), late).await?;
                }
            }
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
