//! Where the node's numbers are read.

use super::ConfigError;
use super::build::value;
use super::keys::Metrics;
use std::net::SocketAddr;

/// The address, if it may be this one.
pub(super) fn listen(file: Metrics, anywhere: bool) -> Result<Option<SocketAddr>, ConfigError> {
    let at = file.listen.map(|port| port.0);
    match at.filter(|at| !anywhere && !at.ip().is_loopback()) {
        None => Ok(at),
        Some(at) => {
            let reason = format!(
                "{at} is reached by other hosts, which then read the node's numbers; if they may, \
                 set metrics.anywhere = true"
            );
            Err(value("metrics.listen", reason))
        }
    }
}
