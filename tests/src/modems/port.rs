//! Where a modem's host finds it: a pseudo terminal, or a TCP port on loopback.

use super::order::OrderError;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, QueueSelector, tcflush, tcgetattr, tcsetattr};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Which ports are opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Ports {
    /// Pseudo terminals.
    #[default]
    Terminals,
    /// Pseudo terminals, and in this folder a link to each, `modem0` and so on, whose name stays when a
    /// modem is pulled out and put back.
    Linked(PathBuf),
    /// TCP ports of 127.0.0.1 that are free.
    Tcp,
}

/// The port of one modem.
pub(super) enum Port {
    Terminal(Terminal),
    Tcp(Tcp),
}

/// What came of reading.
pub(super) enum Got {
    Bytes(usize),
    Nothing,
}

impl Port {
    pub(super) fn new(ports: &Ports, modem: usize) -> Result<Self, OrderError> {
        let link = match ports {
            Ports::Tcp => return Ok(Self::Tcp(Tcp::new().map_err(OrderError::Port)?)),
            Ports::Terminals => None,
            Ports::Linked(folder) => Some(folder.join(format!("modem{modem}"))),
        };
        let (master, device) = (None, PathBuf::new());
        let mut terminal = Terminal { master, listened: false, device, link };
        terminal.plug().map_err(OrderError::Port)?;
        Ok(Self::Terminal(terminal))
    }

    /// Its name: a path, or an address.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Terminal(Terminal { device, link, .. }) => {
                link.as_ref().unwrap_or(device).display().to_string()
            }
            Self::Tcp(tcp) => tcp.address.to_string(),
        }
    }

    /// What to wait for; nothing if it is of no use to wait.
    pub(super) fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Terminal(terminal) => {
                terminal.master.as_ref().filter(|_| terminal.listened).map(AsFd::as_fd)
            }
            Self::Tcp(tcp) => match (&tcp.stream, &tcp.listener) {
                (Some(stream), _) => Some(stream.as_fd()),
                (None, Some(listener)) => Some(listener.as_fd()),
                (None, None) => None,
            },
        }
    }

    /// Whether it must be looked at from time to time, because nothing can be waited for.
    pub(super) fn must_be_tried(&self) -> bool {
        matches!(self, Self::Terminal(terminal) if terminal.master.is_some() && !terminal.listened)
    }

    /// Whether somebody is at the other end.
    pub(super) fn has_host(&self) -> bool {
        match self {
            Self::Terminal(terminal) => terminal.listened,
            Self::Tcp(tcp) => tcp.stream.is_some(),
        }
    }

    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Got {
        match self {
            Self::Terminal(terminal) => terminal.read(bytes),
            Self::Tcp(tcp) => tcp.read(bytes),
        }
    }

    /// Writes as much as goes at once. Without a host all goes nowhere.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let result = match self {
            Self::Terminal(Terminal { master: Some(master), listened: true, .. }) => {
                master.write(bytes)
            }
            Self::Tcp(Tcp { stream: Some(stream), .. }) => stream.write(bytes),
            _ => return bytes.len(),
        };
        match result {
            Ok(written) => written,
            Err(error) if waits(&error) => 0,
            Err(_) => {
                self.lost();
                bytes.len()
            }
        }
    }

    fn lost(&mut self) {
        match self {
            Self::Terminal(terminal) => terminal.listened = false,
            Self::Tcp(tcp) => tcp.stream = None,
        }
    }

    /// Pulls it out. A host notices.
    pub(super) fn pull(&mut self) {
        match self {
            Self::Terminal(terminal) => terminal.pull(),
            Self::Tcp(tcp) => (tcp.listener, tcp.stream) = (None, None),
        }
    }

    /// Puts it back.
    pub(super) fn plug(&mut self) -> Result<(), OrderError> {
        match self {
            Self::Terminal(terminal) => terminal.plug(),
            Self::Tcp(tcp) => tcp.plug(),
        }
        .map_err(OrderError::Port)
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Opens a terminal that does not become the one of this process.
fn open_device(path: &Path) -> io::Result<OwnedFd> {
    Ok(open(path, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A pseudo terminal, of which the host has the other side.
pub(super) struct Terminal {
    master: Option<File>,
    /// Whether a host has it open.
    listened: bool,
    /// Its path.
    device: PathBuf,
    link: Option<PathBuf>,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.pull();
    }
}

impl Terminal {
    fn plug(&mut self) -> io::Result<()> {
        if self.master.is_some() {
            return Ok(());
        }
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let master = openpt(flags)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        // As a serial device that is set to nothing: no echo, no line editing.
        let mut settings = tcgetattr(&master)?;
        settings.make_raw();
        tcsetattr(&master, OptionalActions::Now, &settings)?;
        fcntl_setfl(&master, fcntl_getfl(&master)? | OFlags::NONBLOCK)?;
        let device = ptsname(&master, Vec::new())?;
        let device = Path::new(OsStr::from_bytes(device.to_bytes())).to_owned();
        // From the first closing on it is known whether a host has it open.
        drop(open_device(&device)?);
        if let Some(link) = &self.link {
            // Renamed to its place, so that the link is never missing or half made.
            let made = link.with_extension("new");
            let _ = std::fs::remove_file(&made);
            std::os::unix::fs::symlink(&device, &made)?;
            std::fs::rename(&made, link)?;
        }
        (self.master, self.listened, self.device) = (Some(File::from(master)), false, device);
        Ok(())
    }

    fn pull(&mut self) {
        if let (Some(_), Some(link)) = (self.master.take(), &self.link) {
            let _ = std::fs::remove_file(link);
        }
        self.listened = false;
    }

    fn read(&mut self, bytes: &mut [u8]) -> Got {
        let Some(master) = &mut self.master else { return Got::Nothing };
        match master.read(bytes) {
            Ok(count) => {
                self.listened = true;
                Got::Bytes(count)
            }
            Err(error) => {
                // Everything else is that nobody has it open (EIO on Linux).
                let listened = std::mem::replace(&mut self.listened, waits(&error));
                if listened && !self.listened {
                    // What was said meanwhile is not for the next host: a serial device that is closed
                    // keeps nothing.
                    let device = open_device(&self.device);
                    let _ = device.and_then(|device| Ok(tcflush(&device, QueueSelector::IFlush)?));
                }
                Got::Nothing
            }
        }
    }
}

/// A listener, and the connection of a host. A further host waits until the first has gone.
pub(super) struct Tcp {
    address: SocketAddr,
    listener: Option<TcpListener>,
    stream: Option<TcpStream>,
}

impl Tcp {
    fn new() -> io::Result<Self> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut new = Self { address, listener: None, stream: None };
        new.plug()?;
        Ok(new)
    }

    fn plug(&mut self) -> io::Result<()> {
        if self.listener.is_none() {
            let listener = TcpListener::bind(self.address)?;
            listener.set_nonblocking(true)?;
            self.address = listener.local_addr()?;
            self.listener = Some(listener);
        }
        Ok(())
    }

    fn read(&mut self, bytes: &mut [u8]) -> Got {
        if self.stream.is_none() {
            let accepted = self.listener.as_ref().and_then(|listener| listener.accept().ok());
            let Some((stream, _)) = accepted else { return Got::Nothing };
            if stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok() {
                self.stream = Some(stream);
            }
        }
        let Some(stream) = &mut self.stream else { return Got::Nothing };
        match stream.read(bytes) {
            Ok(count) if count > 0 => return Got::Bytes(count),
            Err(error) if waits(&error) => {}
            _ => self.stream = None,
        }
        Got::Nothing
    }
}
