//! The handshake of BOLT 8 over TCP: from a connection to a link with a neighbour that has proven
//! its key.

use super::super::LinkKey;
use crate::aead::Ring;
use crate::descriptors;
use blvm_mesh_core::link::transport::{Receiver, Sender};
use blvm_mesh_core::link::{Link, LinkError, LinkLimits, Step};
use secp256k1::PublicKey;
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Most bytes that an act of the handshake has.
const LONGEST_ACT: usize = 66;

/// How long the connecting side may take for the first act: it waits for nothing of this node.
const FIRST_ACT: Duration = Duration::from_secs(2);

/// A connection whose other end has proven its key, and the keys for its frames.
pub(super) struct Connection {
    pub(super) stream: Async<TcpStream>,
    pub(super) sender: Sender<Ring>,
    pub(super) receiver: Receiver<Ring>,
    pub(super) address: SocketAddr,
    pub(super) remote: PublicKey,
    pub(super) dialed: bool,
    /// Whether it was dialled because of a beacon.
    pub(super) found: bool,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Link(LinkError),
    #[error("the connection was not made in {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("nothing that begins a handshake came in {} s", .0.as_secs())]
    Silent(Duration),
    #[error("the host name {0} has no address")]
    NoAddress(String),
    #[error("the system gives no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    #[error("{}", descriptors::NONE_LEFT)]
    NoDescriptor,
}

impl LinkKey {
    /// Connects to the holder of `remote` at one of the addresses of `host_port`.
    pub(super) async fn dial(
        &self,
        host_port: &str,
        remote: &PublicKey,
    ) -> Result<Connection, ConnectError> {
        let connect = async {
            let mut last = ConnectError::NoAddress(host_port.to_owned());
            for address in smol::net::resolve(host_port).await? {
                if !descriptors::are_left() {
                    return Err(ConnectError::NoDescriptor);
                }
                match Async::<TcpStream>::connect(address).await {
                    Ok(stream) => return self.initiate(stream, address, remote).await,
                    Err(error) => last = error.into(),
                }
            }
            Err(last)
        };
        self.in_time(connect).await
    }

    async fn initiate(
        &self,
        stream: Async<TcpStream>,
        address: SocketAddr,
        remote: &PublicKey,
    ) -> Result<Connection, ConnectError> {
        tune(&stream)?;
        let (link, act) = Link::initiator(0, limits(), &self.keypair, &self.ephemeral()?, remote);
        (&stream).write_all(&act).await?;
        self.finish(stream, address, link, true).await
    }

    /// Lets the connecting side prove its key.
    pub(super) async fn accept(
        &self,
        stream: Async<TcpStream>,
        address: SocketAddr,
    ) -> Result<Connection, ConnectError> {
        let accept = async {
            tune(&stream)?;
            let link = Link::responder(0, limits(), &self.keypair, &self.ephemeral()?);
            self.finish(stream, address, link, false).await
        };
        self.in_time(accept).await
    }

    async fn finish(
        &self,
        stream: Async<TcpStream>,
        address: SocketAddr,
        mut link: Link<Ring>,
        dialed: bool,
    ) -> Result<Connection, ConnectError> {
        let mut buf = [0; LONGEST_ACT];
        let (mut have, mut first) = (0, !dialed);
        loop {
            let _permit = self.computing.acquire().await;
            let act = buf.get_mut(..have).unwrap_or_default();
            let (whole, since) = (!act.is_empty(), Instant::now());
            let step = link.receive(0, act);
            if whole {
                self.computed.note(since.elapsed());
            }
            match step.map_err(ConnectError::Link)? {
                Step::NeedBytes(need) => {
                    drop(_permit);
                    // Exactly what is needed: further bytes belong to frames.
                    let missing = buf.get_mut(have..need).unwrap_or_default();
                    let mut reader = &stream;
                    let read = reader.read_exact(missing);
                    let read = match std::mem::take(&mut first) {
                        true => {
                            within(FIRST_ACT, ConnectError::Silent, async { Ok(read.await) })
                                .await?
                        }
                        false => read.await,
                    };
                    if let Err(error) = read {
                        link.end_of_stream().map_err(ConnectError::Link)?;
                        return Err(error.into());
                    }
                    have = need;
                }
                Step::Reply { act, .. } => {
                    (&stream).write_all(&act).await?;
                    have = 0;
                }
                Step::Established { remote, reply, .. } => {
                    if let Some(act) = reply {
                        (&stream).write_all(&act).await?;
                    }
                    let halves = link.split();
                    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
                    let (sender, receiver) = halves.ok_or_else(invalid)?;
                    let found = false;
                    return Ok(Connection {
                        stream,
                        sender,
                        receiver,
                        address,
                        remote,
                        dialed,
                        found,
                    });
                }
                // No frame was asked for: the link has just been established at most.
                Step::Frame(_) => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            }
        }
    }

    async fn in_time<T>(
        &self,
        work: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        within(self.timeout, ConnectError::Timeout, work).await
    }
}

async fn within<T>(
    time: Duration,
    error: impl FnOnce(Duration) -> ConnectError,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let late = async {
        smol::Timer::after(time).await;
        Err(error(time))
    };
    smol::future::or(work, late).await
}

/// Time is kept by [`LinkKey::in_time`], which also covers connecting.
fn limits() -> LinkLimits {
    LinkLimits { handshake_timeout: u64::MAX, max_body: u16::MAX, aes: Ring::aes_in_hardware() }
}

fn tune(stream: &Async<TcpStream>) -> io::Result<()> {
    // The writer packs frames already: nothing should wait for more.
    stream.get_ref().set_nodelay(true)
}
