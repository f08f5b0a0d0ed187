//! The bytes of a serial line: a device, or a TCP server that stands in for one.

use super::Stopped;
use crate::address::SerialLine;
use smol::Async;
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use std::fs::File;
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// An open line.
pub(crate) enum Port {
    Device(Async<File>),
    Tcp(Async<TcpStream>),
}

/// Why a line is not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    #[error("cannot open {path}: {error}{}", advice(.error))]
    Device { path: String, error: io::Error },
    #[error("cannot connect to {at}: {error}")]
    Tcp { at: String, error: io::Error },
    #[error("the line broke off: {0}")]
    Broken(#[from] io::Error),
    #[error("the other end closed the connection")]
    Closed,
    #[error("the device is gone")]
    Gone,
    #[error("the node is stopping")]
    Stopping,
}

impl From<Stopped> for PortError {
    fn from(_: Stopped) -> Self {
        Self::Stopping
    }
}

/// What an operator can do about it.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => " (is it plugged in?)",
        io::ErrorKind::PermissionDenied => {
            " (`ls -l` shows the group that may use it: make the node's user a member)"
        }
        _ => "",
    }
}

async fn late<T>(patience: Duration) -> io::Result<T> {
    smol::Timer::after(patience).await;
    Err(io::ErrorKind::TimedOut.into())
}

impl Port {
    /// Opens a line, within `patience`.
    pub(crate) async fn open(line: &SerialLine, patience: Duration) -> Result<Self, PortError> {
        match line {
            SerialLine::Device { path, baud } => {
                let (name, baud) = (path.clone(), *baud);
                // Configuring a device may wait for bytes that it still has to send.
                let open = smol::unblock(move || {
                    let port = serial2::SerialPort::open(name, baud)?;
                    // Bytes from before the node listened are stale.
                    port.discard_buffers()?;
                    Async::new(File::from(OwnedFd::from(port)))
                });
                let opened = or(open, late(patience)).await;
                let wrong = |error| PortError::Device { path: path.clone(), error };
                opened.map(Self::Device).map_err(wrong)
            }
            SerialLine::Tcp(at) => {
                let connect = async {
                    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
                    for address in smol::net::resolve(at.to_string()).await? {
                        match Async::<TcpStream>::connect(address).await {
                            Ok(stream) => {
                                stream.get_ref().set_nodelay(true)?;
                                return Ok(stream);
                            }
                            Err(error) => last = error,
                        }
                    }
                    Err(last)
                };
                let opened = or(connect, late(patience)).await;
                opened.map(Self::Tcp).map_err(|error| PortError::Tcp { at: at.to_string(), error })
            }
        }
    }

    /// Waits for bytes; at least one was read. Cancelling it loses nothing.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> Result<usize, PortError> {
        match self {
            Self::Device(file) => match { file }.read(buffer).await {
                Ok(0) => Err(PortError::Gone),
                // Linux's answer for an adapter that was pulled out.
                Err(error) if error.raw_os_error() == Some(EIO) => Err(PortError::Gone),
                other => Ok(other?),
            },
            Self::Tcp(stream) => match { stream }.read(buffer).await {
                Ok(0) => Err(PortError::Closed),
                other => Ok(other?),
            },
        }
    }

    /// Waits until bytes can be written; at least one was. Cancelling it has written nothing.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<usize, PortError> {
        let written = match self {
            Self::Device(file) => { file }.write(bytes).await,
            Self::Tcp(stream) => { stream }.write(bytes).await,
        };
        match written {
            Ok(0) => Err(PortError::Gone),
            Err(error) if error.raw_os_error() == Some(EIO) => Err(PortError::Gone),
            other => Ok(other?),
        }
    }
}

/// The number that all Unix systems use for a failure of the device.
const EIO: i32 = 5;
