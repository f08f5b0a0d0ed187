//! From flags and a TOML file to what the service needs to start.

use clap::{Args, Parser};
use ldk_node::bitcoin::Network;
use ldk_node::lightning::ln::msgs::SocketAddress;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// The largest file with a password that is read, in bytes.
const MAX_SECRET: u64 = 4_096;

/// A Lightning node for blvm-mesh: it makes its key and wallet at its first start, follows the chain
/// by a bitcoind or an Esplora server, and is asked over a Unix socket that only its user may open.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  blvm-mesh-lightning --network signet --esplora https://mempool.space/signet/api
  blvm-mesh-lightning --network regtest --bitcoind 127.0.0.1:18443 \\
      --bitcoind-cookie-file ~/.bitcoin/regtest/.cookie
  blvm-mesh-lightning --config lightning.toml"
)]
pub(crate) struct Flags {
    /// TOML file with the same keys, written with underscores; a flag goes before it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    keys: Keys,
}

#[derive(Debug, Default, Args, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Keys {
    /// regtest, signet or mainnet. [default: signet]
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Needed for mainnet: this program is young, and the money in it may be lost.
    #[arg(long)]
    i_understand_mainnet: bool,
    /// A bitcoind's RPC address, by which the chain is followed.
    #[arg(long, value_name = "HOST:PORT")]
    bitcoind: Option<String>,
    /// Its cookie file, which is written anew whenever bitcoind starts.
    #[arg(long, value_name = "FILE")]
    bitcoind_cookie_file: Option<PathBuf>,
    /// Else its user,
    #[arg(long, value_name = "NAME")]
    bitcoind_user: Option<String>,
    /// and a file with that user's password.
    #[arg(long, value_name = "FILE")]
    bitcoind_password_file: Option<PathBuf>,
    /// An Esplora server by which the chain is followed, where there is no bitcoind.
    #[arg(long, value_name = "URL")]
    esplora: Option<String>,
    /// Where everything is kept. [default: ~/.blvm-mesh-lightning/NETWORK]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The Unix socket. [default: rpc.sock in the data directory]
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Where other Lightning nodes may connect. [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The name that other Lightning nodes see, up to 32 bytes. With it and `listen`, channels can be
    /// announced.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// What is written to standard error: error, warn, info, debug or trace. [default: warn]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// What the service needs to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) network: Network,
    pub(crate) chain: Chain,
    pub(crate) data_dir: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) listen: Option<SocketAddress>,
    pub(crate) alias: Option<String>,
    pub(crate) log: String,
}

/// By what the chain is followed.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Chain {
    Bitcoind { host: String, port: u16, user: String, password: String },
    Esplora(String),
}

// No password is printed.
impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bitcoind { host, port, .. } => write!(f, "bitcoind at {host}:{port}"),
            Self::Esplora(url) => write!(f, "Esplora at {url}"),
        }
    }
}

impl Flags {
    /// What they and the file of `--config` say.
    ///
    /// # Errors
    /// What is wrong and how to mend it.
    pub(crate) fn settings(self) -> Result<Settings, String> {
        let file = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| format!("cannot read {}: {e}", path.display()))?;
                toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?
            }
            None => Keys::default(),
        };
        self.keys.before(file).settings()
    }
}

impl Keys {
    fn before(self, file: Self) -> Self {
        Self {
            network: self.network.or(file.network),
            i_understand_mainnet: self.i_understand_mainnet || file.i_understand_mainnet,
            bitcoind: self.bitcoind.or(file.bitcoind),
            bitcoind_cookie_file: self.bitcoind_cookie_file.or(file.bitcoind_cookie_file),
            bitcoind_user: self.bitcoind_user.or(file.bitcoind_user),
            bitcoind_password_file: self.bitcoind_password_file.or(file.bitcoind_password_file),
            esplora: self.esplora.or(file.esplora),
            data_dir: self.data_dir.or(file.data_dir),
            socket: self.socket.or(file.socket),
            listen: self.listen.or(file.listen),
            alias: self.alias.or(file.alias),
            log: self.log.or(file.log),
        }
    }

    fn settings(self) -> Result<Settings, String> {
        let network = match self.network.as_deref().unwrap_or("signet") {
            "regtest" => Network::Regtest,
            "signet" => Network::Signet,
            "mainnet" if self.i_understand_mainnet => Network::Bitcoin,
            "mainnet" => {
                return Err(
                    "mainnet is real money: this program is young, a defect or a lost data \
                            directory can cost all that its channels hold, and nobody will give it \
                            back. With --i-understand-mainnet it starts, and then keep little in it"
                        .into(),
                );
            }
            other => {
                return Err(format!("network is {other}; allowed are regtest, signet, mainnet"));
            }
        };
        let name = name(network);
        let data_dir = match self.data_dir {
            Some(dir) => dir,
            None => {
                let home = std::env::var_os("HOME").ok_or("give --data-dir: HOME is not set")?;
                Path::new(&home).join(".blvm-mesh-lightning").join(name)
            }
        };
        let credentials =
            (self.bitcoind_cookie_file, self.bitcoind_user, self.bitcoind_password_file);
        let chain = chain(self.bitcoind, credentials, self.esplora)?;
        let listen = self.listen.map(|text| address("listen", &text)).transpose()?;
        if let Some(alias) = self.alias.as_ref().filter(|alias| alias.len() > 32) {
            return Err(format!("alias has {} bytes; 32 are allowed", alias.len()));
        }
        let log = self.log.unwrap_or_else(|| "warn".into());
        if !["error", "warn", "info", "debug", "trace"].contains(&log.as_str()) {
            return Err(format!("log is {log}; allowed are error, warn, info, debug, trace"));
        }
        let socket = self.socket.unwrap_or_else(|| data_dir.join("rpc.sock"));
        Ok(Settings { network, chain, data_dir, socket, listen, alias: self.alias, log })
    }
}

/// The name of a network, as blvm-mesh writes it.
pub(crate) fn name(network: Network) -> &'static str {
    match network {
        Network::Bitcoin => "mainnet",
        Network::Signet => "signet",
        Network::Regtest => "regtest",
        _ => "another",
    }
}

/// `HOST:PORT` as Lightning nodes are reached.
pub(crate) fn address(what: &str, text: &str) -> Result<SocketAddress, String> {
    text.parse().map_err(|_| format!("{what} is {text}, expected HOST:PORT as 127.0.0.1:9735"))
}

type Credentials = (Option<PathBuf>, Option<String>, Option<PathBuf>);

fn chain(
    bitcoind: Option<String>,
    (cookie, user, password): Credentials,
    esplora: Option<String>,
) -> Result<Chain, String> {
    let at = match (bitcoind, esplora) {
        (Some(_), Some(_)) => return Err("bitcoind and esplora are both set; set one".into()),
        (None, None) => {
            return Err(
                "nothing to follow the chain by: set --bitcoind HOST:PORT or --esplora URL".into(),
            );
        }
        (None, Some(url)) if url.starts_with("https://") || url.starts_with("http://") => {
            return Ok(Chain::Esplora(url));
        }
        (None, Some(url)) => return Err(format!("esplora is {url}, expected https://HOST/PATH")),
        (Some(at), None) => at,
    };
    let wrong = || format!("bitcoind is {at}, expected HOST:PORT as 127.0.0.1:8332");
    let (host, port) = at.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let (user, password) = match (cookie, user, password) {
        (Some(cookie), None, None) => {
            let text = secret(&cookie)?;
            let (user, password) = text
                .split_once(':')
                .ok_or_else(|| format!("{} is no cookie file of bitcoind", cookie.display()))?;
            (user.to_owned(), password.to_owned())
        }
        (None, Some(user), Some(password)) => (user, secret(&password)?),
        _ => {
            return Err("bitcoind needs --bitcoind-cookie-file, or both --bitcoind-user and \
                        --bitcoind-password-file"
                .into());
        }
    };
    Ok(Chain::Bitcoind { host: host.to_owned(), port, user, password })
}

fn secret(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let read = || {
        let mut text = String::new();
        std::fs::File::open(path)?.take(MAX_SECRET).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    };
    read().map_err(|e: std::io::Error| format!("cannot read {}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> Result<Settings, String> {
        let all = ["blvm-mesh-lightning", "--data-dir", "/d"].iter().chain(args);
        Flags::try_parse_from(all).unwrap().settings()
    }

    const ESPLORA: [&str; 2] = ["--esplora", "https://e.example.org/api"];

    #[test]
    fn it_is_on_signet_and_mainnet_wants_more_than_its_name() {
        let found = settings(&ESPLORA).unwrap();
        assert_eq!(found.network, Network::Signet);
        assert_eq!(found.socket, Path::new("/d/rpc.sock"));
        let mainnet = [&ESPLORA[..], &["--network", "mainnet"]].concat();
        assert!(settings(&mainnet).unwrap_err().contains("--i-understand-mainnet"));
        let sure = [&mainnet[..], &["--i-understand-mainnet"]].concat();
        assert_eq!(settings(&sure).unwrap().network, Network::Bitcoin);
        let other = [&ESPLORA[..], &["--network", "x"]].concat();
        assert!(settings(&other).unwrap_err().contains("allowed are regtest"));
    }

    #[test]
    fn a_flag_goes_before_the_file_and_nothing_unknown_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.toml");
        std::fs::write(&path, "alias = \"a\"\nesplora = \"http://127.0.0.1:1\"").unwrap();
        let file = ["--config", path.to_str().unwrap()];
        assert_eq!(settings(&file).unwrap().alias.as_deref(), Some("a"));
        let both = [&file[..], &["--alias", "b"]].concat();
        assert_eq!(settings(&both).unwrap().alias.as_deref(), Some("b"));
        std::fs::write(&path, "aliases = \"a\"").unwrap();
        assert!(settings(&file).unwrap_err().contains("aliases"));
    }

    #[test]
    fn a_chain_source_is_one_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let cookie = dir.path().join(".cookie");
        std::fs::write(&cookie, "__cookie__:s3cret\n").unwrap();
        let by =
            ["--bitcoind", "127.0.0.1:8332", "--bitcoind-cookie-file", cookie.to_str().unwrap()];
        let chain = settings(&by).unwrap().chain;
        assert!(!format!("{chain:?}").contains("s3cret"));
        let Chain::Bitcoind { user, password, .. } = chain else { panic!() };
        assert_eq!((user.as_str(), password.as_str()), ("__cookie__", "s3cret"));
        for (args, says) in [
            (&[][..], "nothing to follow"),
            (&["--bitcoind", "127.0.0.1:1"][..], "needs --bitcoind-cookie-file"),
            (&["--bitcoind", "here"][..], "expected HOST:PORT"),
            (&["--bitcoind", "h:1", "--esplora", "https://x"][..], "both set"),
            (&["--esplora", "x"][..], "expected https://"),
            (&[ESPLORA[0], ESPLORA[1], "--listen", "x"][..], "listen is x"),
            (&[ESPLORA[0], ESPLORA[1], "--log", "x"][..], "log is x"),
        ] {
            let error = settings(args).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
