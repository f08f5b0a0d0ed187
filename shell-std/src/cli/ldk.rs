//! `lightning ldk`: the Lightning node for whoever runs no other, `blvm-mesh-lightning`.

use super::answer::{lines, table};
use super::global::{Global, msat};
use super::{Answer, Failure};
use crate::config::Settings;
use crate::lightning::{BackendSettings, Error, ldk};
use crate::private_file::{self, PrivateFileError};
use blvm_mesh_core::id::Network;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// In the data directory: the service's own, where `init` has made it.
const DIR: &str = "lightning";
const CONFIG: &str = "lightning.toml";
const SOCKET: &str = "rpc.sock";

/// Make, fund, connect and back up a Lightning node of the mesh's own: blvm-mesh-lightning, with LDK.
///
/// All but init ask the running service, over the socket that lightning.socket names with
/// lightning.backend = "ldk", or else that of init. Exit code 1: it refuses.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh lightning ldk init --esplora https://mempool.space/signet/api
  blvm-mesh lightning ldk address
  blvm-mesh lightning ldk open 02ab...@198.51.100.7:9735 --amount-sat 200000
  blvm-mesh lightning ldk backup ~/lightning.backup")]
pub(super) struct Ldk {
    #[command(subcommand)]
    command: Command,
    /// The service's socket. [default: lightning.socket, else lightning/rpc.sock in the data directory]
    #[arg(long, global = true, value_name = "FILE")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(Init),
    /// Say who it is, and whether it follows the chain.
    Info,
    /// Make an address to send on-chain money to.
    Address,
    /// Say what it holds on chain, and what it can pay and receive.
    Balance,
    Open(Open),
    /// List its channels. Exit code 1: there are none.
    Channels,
    Close(Close),
    Withdraw(Withdraw),
    Backup(Backup),
    /// Let it end. Payments on their way go on when it runs again.
    Stop,
}

/// Write the service's configuration, for the network of this node.
///
/// It makes its key and its wallet at its first start. Exit code 1: it was there, and is left as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh lightning ldk init --esplora https://mempool.space/signet/api
  blvm-mesh lightning ldk init --bitcoind 127.0.0.1:38332 \\
      --bitcoind-cookie-file ~/.bitcoin/signet/.cookie --listen 0.0.0.0:9735 --alias relay")]
struct Init {
    /// A bitcoind's RPC address, to follow the chain by.
    #[arg(long, value_name = "HOST:PORT", required_unless_present = "esplora")]
    bitcoind: Option<String>,
    /// Its cookie file.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["esplora", "bitcoind_user"])]
    bitcoind_cookie_file: Option<PathBuf>,
    /// Else its user,
    #[arg(
        long,
        value_name = "NAME",
        requires = "bitcoind_password_file",
        conflicts_with = "bitcoind_cookie_file"
    )]
    bitcoind_user: Option<String>,
    /// and a file with that user's password.
    #[arg(long, value_name = "FILE", requires = "bitcoind_user")]
    bitcoind_password_file: Option<PathBuf>,
    /// An Esplora server to follow the chain by, where there is no bitcoind.
    #[arg(long, value_name = "URL", conflicts_with_all = ["bitcoind", "bitcoind_cookie_file",
          "bitcoind_user", "bitcoind_password_file"])]
    esplora: Option<String>,
    /// Where other Lightning nodes may connect. [default: nowhere]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// The name that other Lightning nodes see.
    #[arg(long, value_name = "NAME")]
    alias: Option<String>,
    /// Needed on mainnet: the service is young, and the money in it may be lost.
    #[arg(long)]
    i_understand_mainnet: bool,
}

/// Open a channel to another Lightning node, with on-chain money.
///
/// It can be used when its transaction has its confirmations; `channels` shows them. Each channel
/// also holds back 25000 sat on chain, for its end.
#[derive(Debug, Args)]
struct Open {
    /// The other node.
    #[arg(value_name = "KEY@HOST:PORT")]
    node: String,
    /// How much goes into it.
    #[arg(long, value_name = "SAT")]
    amount_sat: u64,
    /// How much of that is given to the other node, so that this one can receive.
    #[arg(long, value_name = "MSAT", default_value_t = 0)]
    push_msat: u64,
    /// Tell the Lightning network of it; needs `listen` and `alias`.
    #[arg(long)]
    announce: bool,
}

/// Close a channel; what is this node's of it goes to its on-chain wallet.
#[derive(Debug, Args)]
struct Close {
    /// As `channels` shows it.
    channel: String,
    /// Without the other node, which is away: dearer, and the money is locked for some days.
    #[arg(long)]
    force: bool,
}

/// Send on-chain money to an address. [without --amount-sat: all but the channels' reserve]
#[derive(Debug, Args)]
struct Withdraw {
    /// The address.
    address: String,
    /// How much.
    #[arg(long, value_name = "SAT")]
    amount_sat: Option<u64>,
}

/// Write the words of the wallet, and with whom there are channels, to a new file.
///
/// Who has the file has the money. It brings back what is on chain; what channels hold is in the
/// data directory alone, of which an old copy is worse than none.
#[derive(Debug, Args)]
struct Backup {
    /// The file, which is not there yet; the service writes it.
    #[arg(value_name = "FILE")]
    path: PathBuf,
}

impl Ldk {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let settings = global.settings(Vec::new())?;
        let Self { command, socket } = self;
        if let Command::Init(init) = command {
            return init.run(&settings);
        }
        let socket = socket.unwrap_or_else(|| own_socket(&settings));
        let (method, params) = command.call()?;
        let timeout = global.patience();
        match ldk::call(&socket, method, &params, timeout) {
            Ok(found) => command.answer(&found),
            Err(Error::Refused(text)) => {
                let json = json!({"error": {"code": 1, "message": text}});
                Answer::no(json, format!("no: {text}"))
            }
            Err(Error::Unreachable(why, _)) => Err(Failure(format!(
                "no blvm-mesh-lightning answers at {}: {why}",
                socket.display()
            ))),
            Err(error) => Err(Failure(error.to_string())),
        }
    }
}

fn own_socket(settings: &Settings) -> PathBuf {
    match settings.lightning.as_ref().map(|lightning| &lightning.backend) {
        Some(BackendSettings::Ldk { socket }) => socket.clone(),
        _ => settings.data_dir.join(DIR).join(SOCKET),
    }
}

impl Command {
    fn call(&self) -> Result<(&'static str, Value), Failure> {
        Ok(match self {
            Self::Init(_) | Self::Info => ("getinfo", json!({})),
            Self::Address => ("newaddress", json!({})),
            Self::Balance => ("balance", json!({})),
            Self::Channels => ("channels", json!({})),
            Self::Stop => ("stop", json!({})),
            Self::Open(Open { node, amount_sat, push_msat, announce }) => (
                "openchannel",
                json!({"node": node, "amount_sat": amount_sat, "push_msat": push_msat,
                       "announce": announce}),
            ),
            Self::Close(Close { channel, force }) => {
                ("closechannel", json!({"channel": channel, "force": force}))
            }
            Self::Withdraw(Withdraw { address, amount_sat }) => {
                ("withdraw", json!({"address": address, "amount_sat": amount_sat}))
            }
            Self::Backup(Backup { path }) => {
                ("backup", json!({"path": std::path::absolute(path)?}))
            }
        })
    }

    fn answer(&self, found: &Value) -> Result<Answer, Failure> {
        let shown = |name: &str| shown(found, name);
        let text = match self {
            Self::Init(_) | Self::Info => lines([
                ("node", shown("node")),
                ("alias", shown("alias")),
                ("network", shown("network")),
                ("block", shown("block_height")),
                ("follows the chain", shown("synced")),
                ("listens at", shown("listen")),
                ("channels", shown("channels")),
                ("of these usable", shown("usable_channels")),
                ("version", shown("version")),
            ]),
            Self::Address => shown("address"),
            Self::Balance => lines([
                ("on chain", format!("{} sat", shown("onchain_sat"))),
                ("of it spendable", format!("{} sat", shown("onchain_spendable_sat"))),
                ("held back for channels", format!("{} sat", shown("reserve_sat"))),
                ("in channels", format!("{} sat", shown("lightning_sat"))),
                ("can pay", msat(found["payable_msat"].as_u64().unwrap_or(0))),
                ("can receive", msat(found["receivable_msat"].as_u64().unwrap_or(0))),
            ]),
            Self::Open(_) => format!(
                "channel {} is begun; it can be used when its transaction is confirmed",
                shown("channel")
            ),
            Self::Channels => {
                let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
                if found.is_empty() {
                    return Answer::no(json!([]), "there are no channels");
                }
                channels(found)
            }
            Self::Close(_) => format!("channel {} is being closed", shown("channel")),
            Self::Withdraw(_) => format!("sent: transaction {}", shown("txid")),
            Self::Backup(_) => {
                format!("written: {}; who has it has the money", shown("path"))
            }
            Self::Stop => "it ends".into(),
        };
        Answer::yes(found, text)
    }
}

fn shown(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.into(),
        Some(Value::Array(list)) if list.is_empty() => "-".into(),
        Some(Value::Array(list)) => {
            list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

fn channels(found: &[Value]) -> String {
    let row = |channel: &Value| {
        let shown = |name: &str| shown(channel, name);
        let state = match (channel["usable"].as_bool(), channel["ready"].as_bool()) {
            (Some(true), _) => "usable".into(),
            (_, Some(true)) => "other node is away".into(),
            _ => format!("{} of {} blocks", shown("confirmations"), shown("confirmations_needed")),
        };
        [
            shown("channel"),
            shown("node"),
            shown("amount_sat"),
            shown("payable_msat"),
            shown("receivable_msat"),
            state,
        ]
    };
    let heading = ["channel", "node", "sat", "can pay (msat)", "can receive (msat)", "state"];
    table(heading, &found.iter().map(row).collect::<Vec<_>>())
}

impl Init {
    fn run(self, settings: &Settings) -> Result<Answer, Failure> {
        let network = match settings.config.network {
            network @ (Network::Regtest | Network::Signet) => network.name(),
            Network::Mainnet if self.i_understand_mainnet => "mainnet",
            Network::Mainnet => {
                return Err(Failure(
                    "mainnet is real money: blvm-mesh-lightning is young, a defect or a lost data \
                     directory can cost all that its channels hold. With --i-understand-mainnet it \
                     is set up all the same; keep little in it"
                        .into(),
                ));
            }
            other => {
                let text = format!(
                    "mesh.network is {other}; blvm-mesh-lightning has regtest, signet and mainnet"
                );
                return Err(Failure(text));
            }
        };
        let here = |path: &Path| std::path::absolute(path);
        let dir = here(&settings.data_dir.join(DIR))?;
        private_file::create_dir(&dir).map_err(|e| Failure(e.to_string()))?;
        let socket = dir.join(SOCKET);
        let (cookie, password) = (self.bitcoind_cookie_file, self.bitcoind_password_file);
        let config = Config {
            network,
            i_understand_mainnet: self.i_understand_mainnet.then_some(true),
            data_dir: &dir,
            bitcoind: self.bitcoind,
            bitcoind_cookie_file: cookie.as_deref().map(here).transpose()?,
            bitcoind_user: self.bitcoind_user,
            bitcoind_password_file: password.as_deref().map(here).transpose()?,
            esplora: self.esplora,
            listen: self.listen,
            alias: self.alias,
        };
        let text = toml::to_string(&config).map_err(|e| Failure(e.to_string()))?;
        let path = dir.join(CONFIG);
        let made = match private_file::create(&path, text.as_bytes()) {
            Ok(()) => true,
            Err(PrivateFileError::Exists(_)) => false,
            Err(e) => return Err(Failure(e.to_string())),
        };
        let json = json!({"config": path, "config_made": made, "socket": socket});
        let state = if made { "made" } else { "was there, left as it is" };
        let text = lines([("configuration", format!("{} ({state})", path.display()))])
            + &format!(
                "next: `blvm-mesh-lightning --config {}`, and in mesh.toml\n\n[lightning]\nbackend = \
                 \"ldk\"\nsocket = {}\n",
                path.display(),
                toml::Value::from(socket.display().to_string())
            );
        if made { Answer::yes(json, text) } else { Answer::no(json, text) }
    }
}

/// What the service is configured by.
#[derive(serde::Serialize)]
struct Config<'a> {
    network: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    i_understand_mainnet: Option<bool>,
    data_dir: &'a Path,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitcoind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitcoind_cookie_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitcoind_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bitcoind_password_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    esplora: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use crate::lightning::BackendSettings;
    use crate::lightning::fake::Fake;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    fn at<'a>(dir: &'a Path, network: &'a str) -> [&'a str; 6] {
        let dir = dir.to_str().unwrap();
        ["--data-dir", dir, "--set", network, "lightning", "ldk"]
    }

    #[test]
    fn its_configuration_is_written_once_and_mainnet_is_warned_of() {
        let dir = tempfile::tempdir().unwrap();
        let signet = at(dir.path(), "mesh.network=signet");
        let init = ["init", "--bitcoind", "127.0.0.1:1", "--bitcoind-cookie-file", "c\"ookie"];
        let made = run(&[&signet[..], &init].concat()).unwrap();
        assert!(made.yes && made.text.contains("backend = \"ldk\""), "{}", made.text);
        let path = dir.path().join("lightning/lightning.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let written: toml::Table = text.parse().unwrap();
        assert_eq!(written["network"].as_str(), Some("signet"));
        // Wherever the service is started, and whatever is in a name.
        let cookie = std::path::absolute("c\"ookie").unwrap();
        assert_eq!(written["bitcoind_cookie_file"].as_str(), cookie.to_str());
        assert_eq!(written.get("i_understand_mainnet"), None);
        assert_eq!(std::fs::metadata(dir.path().join("lightning")).unwrap().mode() & 0o777, 0o700);
        assert!(!run(&[&signet[..], &init].concat()).unwrap().yes);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

        let dir = tempfile::tempdir().unwrap();
        let mainnet = at(dir.path(), "mesh.network=mainnet");
        let init = ["init", "--esplora", "https://e.example.org"];
        let refused = run(&[&mainnet[..], &init].concat()).unwrap_err();
        assert!(refused.0.contains("--i-understand-mainnet"), "{refused}");
        let sure = [&mainnet[..], &init, &["--i-understand-mainnet"]].concat();
        assert!(run(&sure).unwrap().yes);
        let other = at(dir.path(), "mesh.network=testnet4");
        assert!(run(&[&other[..], &init].concat()).unwrap_err().0.contains("mesh.network"));
    }

    #[test]
    fn it_asks_the_socket_of_the_configuration_or_the_one_of_init() {
        let fake = Fake::start("ldk");
        let BackendSettings::Ldk { socket } = &fake.settings.backend else { unreachable!() };
        let dir = tempfile::tempdir().unwrap();
        let named = format!("lightning.socket={}", socket.display());
        let regtest = at(dir.path(), "mesh.network=regtest");
        let set = ["--set", "lightning.backend=ldk", "--set", &named];
        let info = run(&[&regtest[..], &["info"], &set].concat()).unwrap();
        assert!(info.yes && info.text.contains("127.0.0.1:9735"), "{}", info.text);
        assert_eq!(info.json["network"], "regtest");
        let socket = socket.to_str().unwrap();
        let balance = run(&[&regtest[..], &["balance", "--socket", socket]].concat()).unwrap();
        assert!(balance.yes && balance.text.contains("75000 sat"), "{}", balance.text);
        // What it refuses is a no, what it does not answer none.
        let refused = run(&[&regtest[..], &["stop", "--socket", socket]].concat()).unwrap();
        assert_eq!((refused.yes, &refused.json["error"]["code"]), (false, &1.into()));
        let nobody = run(&[&regtest[..], &["stop"]].concat()).unwrap_err();
        let expected = dir.path().join("lightning/rpc.sock");
        assert!(nobody.0.contains(expected.to_str().unwrap()), "{nobody}");
    }
}
