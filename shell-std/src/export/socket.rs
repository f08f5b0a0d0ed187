//! The connection to the server: TCP or a Unix socket, with TLS where that is needed. It blocks, each
//! step within its time, and ends early where the node stops.

use super::error::shown;
use super::{ExportError, ExportSettings, Place};
use crate::tls::{self, NoTrust};
use bytes::BytesMut;
use postgres_protocol::message::frontend;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use smol::Async;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How often a step that waits looks whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// Tells whoever waits for the server to end; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Says so.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was said.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What messages go over.
pub(super) trait Duplex: Read + Write {
    /// A step begins: what is read and written from now on, until the next one, has the time of one
    /// step.
    fn begin(&mut self) {}

    /// Why a step failed.
    fn fault(&self, error: io::Error, _doing: &'static str) -> ExportError {
        ExportError::Cut(error.to_string())
    }
}

/// A connection.
pub(super) enum Stream {
    Plain(Socket),
    Tls(Box<StreamOwned<ClientConnection, Socket>>),
}

enum Kind {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A connection with a time limit.
pub(super) struct Socket {
    kind: Kind,
    deadline: Instant,
    step: Duration,
    stop: Stop,
}

impl Stream {
    /// Connects, and begins TLS where it is needed.
    pub(super) fn open(settings: &ExportSettings, stop: &Stop) -> Result<Self, ExportError> {
        let target = &settings.target;
        let mut socket = connect(&target.place, settings.step, stop)?;
        let Place::Tcp { host, .. } = &target.place else { return Ok(Self::Plain(socket)) };
        if !target.tls {
            return Ok(Self::Plain(socket));
        }
        let certificate = settings.certificate.as_deref();
        let config = tls::config(certificate).map_err(|error| no_trust(error, certificate))?;
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| ExportError::Tls(format!("no certificate names {host}")))?;
        let conn = ClientConnection::new(config, name);
        let conn = conn.map_err(|e| ExportError::Tls(e.to_string()))?;
        socket.begin();
        const DOING: &str = "TLS was begun";
        ask_for_tls(&mut socket).map_err(|e| socket.fault(e, DOING)).and_then(|has| match has {
            true => Ok(()),
            false => Err(ExportError::NoTls),
        })?;
        let mut stream = Box::new(StreamOwned::new(conn, socket));
        while stream.conn.is_handshaking() {
            let StreamOwned { conn, sock } = &mut *stream;
            if let Err(error) = conn.complete_io(sock) {
                return Err(stream.sock.fault(error, DOING));
            }
        }
        Ok(Self::Tls(stream))
    }

    /// Whether others on the way can read nothing.
    pub(super) fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }
}

fn no_trust(error: NoTrust, certificate: Option<&Path>) -> ExportError {
    match error {
        NoTrust::System(reason) => ExportError::Tls(reason),
        NoTrust::File(reason) => {
            let path = certificate.unwrap_or(Path::new("")).display();
            let reason = format!("{path}: {reason}");
            ExportError::File { key: "ledger.certificate_file", reason }
        }
    }
}

/// Whether the server has TLS. Nothing behind its answer is read, so nothing that somebody put in
/// there counts.
fn ask_for_tls(socket: &mut Socket) -> io::Result<bool> {
    let mut request = BytesMut::new();
    frontend::ssl_request(&mut request);
    socket.write_all(&request)?;
    let mut answer = [0];
    socket.read_exact(&mut answer)?;
    match answer {
        [b'S'] => Ok(true),
        [b'N'] => Ok(false),
        other => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!("the answer to the question for TLS is \"{}\"", shown(&other)),
        )),
    }
}

/// Connects within the time of a step, names included.
fn connect(place: &Place, step: Duration, stop: &Stop) -> Result<Socket, ExportError> {
    let late = async {
        smol::Timer::after(step).await;
        Err(ExportError::Timeout(step.as_millis(), "it was connected to"))
    };
    let stopped = async {
        while !stop.is_set() {
            smol::Timer::after(LOOK).await;
        }
        Err(ExportError::Stopping)
    };
    let connected = async { connect_to(place).await.map_err(not_connected) };
    let limit = smol::future::or(late, stopped);
    let kind = smol::block_on(smol::future::or(connected, limit))?;
    Ok(Socket { kind, deadline: Instant::now() + step, step, stop: stop.clone() })
}

fn not_connected(error: io::Error) -> ExportError {
    ExportError::Unreachable(error.to_string())
}

async fn connect_to(place: &Place) -> io::Result<Kind> {
    match place {
        Place::Unix { directory, port } => {
            let path = directory.join(format!(".s.PGSQL.{port}"));
            let at = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", path.display()));
            let stream = Async::<UnixStream>::connect(&path).await.map_err(at)?.into_inner()?;
            stream.set_nonblocking(false)?;
            Ok(Kind::Unix(stream))
        }
        Place::Tcp { host, port } => {
            let mut last = io::Error::new(ErrorKind::NotFound, "the host has no address");
            for address in smol::net::resolve((host.as_str(), *port)).await? {
                match Async::<TcpStream>::connect(address).await {
                    Ok(stream) => {
                        let stream = stream.into_inner()?;
                        stream.set_nonblocking(false)?;
                        stream.set_nodelay(true)?;
                        return Ok(Kind::Tcp(stream));
                    }
                    Err(e) => last = io::Error::new(e.kind(), format!("{address}: {e}")),
                }
            }
            Err(last)
        }
    }
}

impl Socket {
    /// How long it may wait now.
    fn patience(&self) -> io::Result<Duration> {
        if self.stop.is_set() {
            return Err(io::Error::other("the node stops"));
        }
        match self.deadline.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(left.min(LOOK)),
        }
    }

    /// Tries again as long as there is time.
    fn patiently(
        &mut self,
        mut attempt: impl FnMut(&mut Kind, Duration) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let patience = self.patience()?;
            match attempt(&mut self.kind, patience) {
                Err(e) if is_passing(e.kind()) => {}
                other => return other,
            }
        }
    }
}

fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.patiently(|kind, patience| match kind {
            Kind::Tcp(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.read(buf)
            }
            Kind::Unix(stream) => {
                stream.set_read_timeout(Some(patience))?;
                stream.read(buf)
            }
        })
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.patiently(|kind, patience| match kind {
            Kind::Tcp(stream) => {
                stream.set_write_timeout(Some(patience))?;
                stream.write(buf)
            }
            Kind::Unix(stream) => {
                stream.set_write_timeout(Some(patience))?;
                stream.write(buf)
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Duplex for Socket {
    fn begin(&mut self) {
        self.deadline = Instant::now() + self.step;
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> ExportError {
        if self.stop.is_set() {
            return ExportError::Stopping;
        }
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        match error.kind() {
            _ if is_tls => ExportError::Tls(error.to_string()),
            ErrorKind::TimedOut => ExportError::Timeout(self.step.as_millis(), doing),
            ErrorKind::InvalidData => ExportError::Protocol(error.to_string()),
            _ => ExportError::Cut(error.to_string()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buf),
            Self::Tls(stream) => stream.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(buf),
            Self::Tls(stream) => stream.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

impl Duplex for Stream {
    fn begin(&mut self) {
        match self {
            Self::Plain(socket) => socket.begin(),
            Self::Tls(stream) => stream.sock.begin(),
        }
    }

    fn fault(&self, error: io::Error, doing: &'static str) -> ExportError {
        self.socket().fault(error, doing)
    }
}
