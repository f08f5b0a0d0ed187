//! Where the node's page is.

use super::ConfigError;
use super::build::value;
use super::keys::Page;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Name of the token's file in the data directory.
const TOKEN_FILE: &str = "page.token";

/// The node's page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageSettings {
    /// A loopback address.
    pub listen: SocketAddr,
    /// The file with its token.
    pub token_file: PathBuf,
}

/// The page, if there is to be one. `inside` says where a path is.
pub(super) fn settings(
    file: Page,
    inside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Option<PageSettings>, ConfigError> {
    let Some(listen) = file.listen.map(|port| port.0) else { return Ok(None) };
    if !listen.ip().is_loopback() {
        let reason = format!(
            "{listen} is reached by other hosts; the page is for this host alone: use \
             127.0.0.1:PORT or [::1]:PORT, and from elsewhere a tunnel (ssh -L)"
        );
        return Err(value("page.listen", reason));
    }
    let token_file = inside(file.token_file.unwrap_or_else(|| TOKEN_FILE.into()));
    Ok(Some(PageSettings { listen, token_file }))
}
