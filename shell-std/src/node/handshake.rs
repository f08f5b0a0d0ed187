//! The handshake of BOLT 8 over TCP: from a connection to a link with a neighbour
//! who has proven his key.

use super::line::LineEnd;
use crate::address;
use crate::aead::Ring;
use crate::descriptors;
use blvm_mesh_core::id::Standing;
use blvm_mesh_core::link::transport::{Receiver, Sender};
use blvm_mesh_core::link::{Link, LinkError, LinkLimits, Step};
use secp256k1::{All, Keypair, PublicKey, Secp256k1, SecretKey};
use smol::Async;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::lock::Semaphore;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Most bytes that an act of the handshake has.
const LONGEST_ACT: usize = 66;

/// How long whoever connects may take for the first act: it waits for nothing of this node.
const FIRST_ACT: Duration = Duration::from_secs(2);

/// This node's key, as links need it.
pub(crate) struct LinkKey {
    keypair: Keypair,
    secp: Secp256k1<All>,
    /// How long a handshake may take.
    pub(crate) timeout: Duration,
    /// Handshakes compute signatures' worth of work: so many at once, at most.
    computing: Semaphore,
}

/// A link whose neighbour is known.
pub(crate) struct Established {
    pub(crate) wire: Wire,
    /// What leads to the neighbour, for those who ask.
    pub(crate) address: String,
    pub(crate) remote: PublicKey,
    pub(crate) dialed: bool,
    /// What the way it came says of the neighbour, whoever it is.
    pub(crate) standing: Standing,
    /// Dropped when the link ends.
    pub(crate) up: Option<smol::channel::Sender<Infallible>>,
}

/// What a link runs over.
pub(crate) enum Wire {
    Stream(Box<Stream>),
    Line(LineEnd),
}

/// A TCP connection and the keys for its frames.
pub(crate) struct Stream {
    pub(crate) stream: Async<TcpStream>,
    pub(crate) sender: Sender<Ring>,
    pub(crate) receiver: Receiver<Ring>,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
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
    Random(getrandom::Error),
    #[error("{}", descriptors::NONE_LEFT)]
    NoDescriptor,
}

impl LinkKey {
    pub(crate) fn new(key: &SecretKey, timeout: Duration) -> Self {
        let secp = Secp256k1::new();
        let keypair = Keypair::from_secret_key(&secp, key);
        Self { keypair, secp, timeout, computing: Semaphore::new(4) }
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.keypair.public_key()
    }

    pub(crate) fn keypair(&self) -> &Keypair {
        &self.keypair
    }

    pub(crate) fn ephemeral(&self) -> Result<Keypair, ConnectError> {
        loop {
            let mut bytes = [0; 32];
            getrandom::fill(&mut bytes).map_err(ConnectError::Random)?;
            // All but one in 2^128 draws are keys.
            if let Ok(pair) = Keypair::from_seckey_byte_array(&self.secp, bytes) {
                return Ok(pair);
            }
        }
    }

    /// Connects to the holder of `remote` at one of the addresses of `host_port`.
    pub(crate) async fn dial(
        &self,
        host_port: &str,
        remote: &PublicKey,
    ) -> Result<Established, ConnectError> {
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
    ) -> Result<Established, ConnectError> {
        tune(&stream)?;
        let (link, act) = Link::initiator(0, LIMITS, &self.keypair, &self.ephemeral()?, remote);
        (&stream).write_all(&act).await?;
        self.finish(stream, address, link, true).await
    }

    /// Lets whoever connected prove who he is.
    pub(crate) async fn accept(
        &self,
        stream: Async<TcpStream>,
        address: SocketAddr,
    ) -> Result<Established, ConnectError> {
        let accept = async {
            tune(&stream)?;
            let link = Link::responder(0, LIMITS, &self.keypair, &self.ephemeral()?);
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
    ) -> Result<Established, ConnectError> {
        let mut buf = [0; LONGEST_ACT];
        let (mut have, mut first) = (0, !dialed);
        loop {
            let _permit = self.computing.acquire().await;
            let act = buf.get_mut(..have).unwrap_or_default();
            match link.receive(0, act).map_err(ConnectError::Link)? {
                Step::NeedBytes(need) => {
                    drop(_permit);
                    // Exactly what is needed: what follows belongs to the frames.
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
                    let wire = Wire::Stream(Box::new(Stream { stream, sender, receiver }));
                    let standing = match dialed {
                        true => Standing::Own,
                        false => Standing::Stranger { prefix: address::prefix(address.ip()) },
                    };
                    let address = address.to_string();
                    return Ok(Established { wire, address, remote, dialed, standing, up: None });
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
const LIMITS: LinkLimits = LinkLimits { handshake_timeout: u64::MAX, max_body: u16::MAX };

fn tune(stream: &Async<TcpStream>) -> io::Result<()> {
    // Frames are packed by the writer already: nothing is to wait for more.
    stream.get_ref().set_nodelay(true)
}
