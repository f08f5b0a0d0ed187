//! What systemd is told of the daemon (sd_notify(3), with `Type=notify` and `WatchdogSec=`): that it takes
//! connections, that it lives, and that it stops. Where nobody wants to know, nothing is said.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where the service manager listens.
#[derive(Debug, Default)]
pub(super) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// As the environment says (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`). A socket that cannot be
    /// had is warned of, and the node runs.
    pub(super) fn from_env() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let pid = number("WATCHDOG_PID").unwrap_or(std::process::id().into());
        let watchdog = number("WATCHDOG_USEC").filter(|_| pid == u64::from(std::process::id()));
        match Self::at(&name) {
            Ok(manager) => Self { manager: Some(manager), watchdog: watchdog.map(pause) },
            Err(error) => {
                let name = name.display();
                tracing::warn!("NOTIFY_SOCKET={name}: {error}; systemd is told nothing");
                Self::default()
            }
        }
    }

    fn at(name: &OsStr) -> std::io::Result<(UnixDatagram, SocketAddr)> {
        let address = match name.as_bytes() {
            #[cfg(target_os = "linux")]
            [b'@', abstract_name @ ..] => {
                <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(
                    abstract_name,
                )?
            }
            _ => SocketAddr::from_pathname(name)?,
        };
        Ok((UnixDatagram::unbound()?, address))
    }

    /// How often it is to be [told](Self::alive) that the node lives, if at all.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The node takes connections. `status` is shown by `systemctl status`.
    pub(super) fn ready(&self, status: &str) {
        let status = status.replace('\n', " ");
        self.tell(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// The node lives.
    pub(super) fn alive(&self) {
        self.tell("WATCHDOG=1\n");
    }

    /// The node stops.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=stopping\n");
    }

    fn tell(&self, what: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), manager) {
            tracing::debug!(%error, "systemd was not told");
        }
    }
}

/// Half of the time after which the manager would act, as sd_watchdog_enabled(3) recommends.
fn pause(usec: u64) -> Duration {
    Duration::from_micros((usec / 2).max(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let n = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..n].to_vec()).unwrap()
    }

    fn told_at(name: &OsStr, manager: &UnixDatagram) {
        manager.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let notify = Notify { manager: Some(Notify::at(name).unwrap()), watchdog: None };
        notify.ready("node 02ab\non regtest");
        assert_eq!(received(manager), "READY=1\nSTATUS=node 02ab on regtest\n");
        notify.alive();
        assert_eq!(received(manager), "WATCHDOG=1\n");
        notify.stopping();
        assert!(received(manager).starts_with("STOPPING=1\n"));
    }

    #[test]
    fn the_manager_is_told_at_a_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        told_at(path.as_os_str(), &UnixDatagram::bind(&path).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_manager_is_told_at_an_abstract_name() {
        use std::os::linux::net::SocketAddrExt;
        let name = format!("blvm-mesh-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        told_at(OsStr::new(&format!("@{name}")), &manager);
    }

    #[test]
    fn nobody_has_to_listen() {
        let dir = tempfile::tempdir().unwrap();
        let nobody = dir.path().join("nobody");
        let notify =
            Notify { manager: Some(Notify::at(nobody.as_os_str()).unwrap()), watchdog: None };
        notify.ready("");
        Notify::default().alive();
        assert_eq!(Notify::default().watchdog(), None);
        assert_eq!(pause(30_000_000), Duration::from_secs(15));
    }
}
