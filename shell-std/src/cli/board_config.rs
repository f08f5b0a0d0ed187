//! `board-config`: what a board is told, as it lies in its flash.

mod kind;
mod radio;

use super::answer::lines;
use super::input::fixed;
use super::{Answer, Failure};
use crate::address::RadioSettings;
use crate::identity::{Identity, IdentityError};
use crate::{clients, private_file};
use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::board::{BAUD, BoardConfig, MAX_LEN, MAX_LINES};
use blvm_mesh_core::config::{Client, Config, MAX_ISSUERS};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::link::datagram::Role;
use blvm_mesh_core::mesh::ticket_key;
use blvm_mesh_core::mode::{MeshMode, UnknownMode};
use blvm_mesh_core::tariff::Tariff;
use clap::{Args, ValueEnum};
use kind::Kind;
use secp256k1::PublicKey;
use serde_json::json;
use std::path::PathBuf;
use std::str::FromStr;

/// Write the configuration of a board, with its key, for its flash; or show one.
///
/// The file holds the board's secret key: give it to nobody. Where it is put is told by the
/// board's image; for the emulated one the answer names the whole option of QEMU.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh board-config board.bin --network regtest --issuer $ISSUER
  blvm-mesh board-config board.bin --line listen --line $NEIGHBOUR --clock-from $NEIGHBOUR
  blvm-mesh board-config board.bin --cashier $NODE --ticket-key board.tickets
  blvm-mesh board-config board.hex --board rak4631 --radio region=EU868
  blvm-mesh board-config --show board.bin")]
pub(super) struct BoardConfigCommand {
    /// File to write; it must not be there.
    file: PathBuf,
    /// Show what this file holds instead, without its secrets.
    #[arg(long)]
    show: bool,
    /// Key of the board, in the form of `keygen`; made where there is none. Without it a new
    /// key is made that stands in the configuration only.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The board, which says where the configuration belongs and in which form, and how many lines
    /// there are. Without it, for an image of your own, `--format` and `--address` do.
    #[arg(long, value_enum)]
    board: Option<Kind>,
    /// Its radio channel: a region, and what differs from what is usual there, as in
    /// `region=EU868&sf=8&key=/etc/channel.key` (docs/RADIO.md).
    #[arg(long, value_name = "SETTINGS")]
    radio: Option<RadioSettings>,
    /// Network whose payments are accepted.
    #[arg(long, default_value = "mainnet", value_parser = network)]
    network: Network,
    /// What goes free: bitcoin_only, payment_gated or open.
    #[arg(long, default_value_t = MeshMode::PaymentGated, value_parser = mode)]
    mode: MeshMode,
    /// What each line does, in their order: `listen`, or the public key of the node that it
    /// dials. [default: all listen]
    #[arg(long = "line", value_name = "listen|PUBKEY", value_parser = line)]
    lines: Vec<Role>,
    /// Bits per second of the lines.
    #[arg(long, default_value_t = 115_200, value_parser = clap::value_parser!(u32).range(i64::from(*BAUD.start())..=i64::from(*BAUD.end())))]
    baud: u32,
    /// Public key of a Lightning node whose invoices are accepted; up to eight.
    #[arg(long = "issuer", value_name = "PUBKEY")]
    issuers: Vec<PublicKey>,
    /// Price of a packet, in millisatoshi.
    #[arg(long, value_name = "MSAT")]
    base_msat: Option<u32>,
    /// Price of a started KiB of payload, in millisatoshi.
    #[arg(long, value_name = "MSAT")]
    per_kib_msat: Option<u32>,
    /// Neighbour whose hello sets the board's clock. Without a clock it takes no payment.
    #[arg(long, value_name = "PUBKEY", conflicts_with = "checkpoint")]
    clock_from: Option<PublicKey>,
    /// Block header, recent and of the best chain, from which the board follows those that
    /// pass, to take the time from them: 160 hex digits.
    #[arg(long, value_name = "HEX", value_parser = fixed::<80>)]
    checkpoint: Option<[u8; 80]>,
    /// Node that writes the board's invoices for bytes of flows, as it has no Lightning node. Without
    /// one it sells none.
    #[arg(long, value_name = "PUBKEY", requires = "ticket_key")]
    cashier: Option<PublicKey>,
    /// File to write for that node, with the board's ticket key: its flow.cashier_for names it. It
    /// must not be there.
    #[arg(long, value_name = "FILE", requires = "cashier")]
    ticket_key: Option<PathBuf>,
    /// Longest silence on a line, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..))]
    keepalive_ms: u32,
    /// How far in the future a payment may be dated, in seconds. [default: 300; 7200 where the
    /// time comes from block headers, which lag]
    #[arg(long, value_name = "S")]
    future_skew: Option<u32>,
    /// Form of the file. [default: the board's, else binary]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Where it belongs in the board's memory. [default: the board's, else that of the emulated one,
    /// 003ff000]
    #[arg(long, value_name = "HEX", value_parser = address)]
    address: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The bytes.
    Binary,
    /// Intel HEX, which has the address in it.
    Ihex,
}

fn network(text: &str) -> Result<Network, String> {
    let names = Network::ALL.map(Network::name).join(", ");
    let found = Network::ALL.into_iter().find(|network| network.name() == text);
    found.ok_or_else(|| format!("a network is one of {names}"))
}

fn mode(text: &str) -> Result<MeshMode, String> {
    text.parse().map_err(|e: UnknownMode| e.to_string())
}

fn line(text: &str) -> Result<Role, String> {
    if text == "listen" {
        return Ok(Role::Listen);
    }
    let key = PublicKey::from_str(text);
    key.map(Role::Dial).map_err(|_| "a line is `listen` or a public key of 66 hex digits".into())
}

fn address(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).map_err(|_| "an address is up to 8 hex digits".into())
}

impl BoardConfigCommand {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        if self.show {
            return self.shown();
        }
        let config = self.config()?;
        let mut bytes = vec![0; MAX_LEN];
        let len = config.write(&mut bytes);
        bytes.truncate(len.ok_or_else(|| Failure("the configuration is too long".into()))?);
        let usual = self.board.unwrap_or(Kind::Mps2);
        let format = self.format.unwrap_or(usual.format());
        let address = self.address.unwrap_or(usual.address());
        let contents = match format {
            Format::Binary => bytes,
            Format::Ihex => ihex(address, &bytes).into_bytes(),
        };
        if let Some(path) = &self.ticket_key {
            let node = Identity::from_secret(config.key).node_id();
            let client = Client { node, ticket_key: ticket_key(&config.key) };
            clients::write(path, &client).map_err(|e| Failure(e.to_string()))?;
        }
        if let Err(error) = private_file::create(&self.file, &contents) {
            // The key of no board.
            self.ticket_key.iter().for_each(|path| drop(std::fs::remove_file(path)));
            return Err(Failure(error.to_string()));
        }
        let option = match format {
            Format::Binary => format!(
                "-device loader,file={},addr={:#010x},force-raw=on",
                self.file.display(),
                address
            ),
            Format::Ihex => format!("-device loader,file={}", self.file.display()),
        };
        describe(&config, Some(&*option).filter(|_| usual == Kind::Mps2))
    }

    fn config(&self) -> Result<BoardConfig, Failure> {
        let identity = match &self.key {
            Some(path) => Identity::load_or_create(path)?,
            None => Identity::generate()?,
        };
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(|e| Failure::from(IdentityError::Random(e)))?;
        let usual = Config::board(self.network, 0).payment;
        let skew = u32::try_from(usual.future_skew).unwrap_or(u32::MAX);
        let count = self.board.unwrap_or(Kind::Mps2).lines();
        let lines = match &self.lines[..] {
            [] => &[Role::Listen; MAX_LINES][..count],
            lines => lines,
        };
        if let Some(board) = self.board.filter(|_| lines.len() != count) {
            return Err(Failure(format!("give --line as often as {board} has lines: {count}")));
        }
        let radio = radio::of(self.board, self.radio.as_ref(), self.network)?;
        let mut config = BoardConfig {
            key: *identity.secret_key(),
            secret,
            network: self.network,
            mode: self.mode,
            baud: self.baud,
            tariff: Tariff {
                base_msat: self.base_msat.unwrap_or(usual.tariff.base_msat),
                per_kib_msat: self.per_kib_msat.unwrap_or(usual.tariff.per_kib_msat),
            },
            keepalive_ms: self.keepalive_ms,
            future_skew: self.future_skew.unwrap_or(match self.checkpoint {
                Some(_) => 7200,
                None => skew,
            }),
            clock_source: self.clock_from.as_ref().map(NodeId::from_public_key),
            checkpoint: self.checkpoint,
            cashier: self.cashier.as_ref().map(NodeId::from_public_key),
            lines: Default::default(),
            issuers: Default::default(),
            radio: radio.as_ref().map(RadioConfig::bytes),
        };
        for line in lines {
            let many = |_| Failure(format!("a board has {MAX_LINES} lines at most"));
            config.lines.push(*line).map_err(many)?;
        }
        for issuer in &self.issuers {
            let many = |_| Failure(format!("a board has {MAX_ISSUERS} issuers at most"));
            config.issuers.push(*issuer).map_err(many)?;
        }
        Ok(config)
    }

    fn shown(&self) -> Result<Answer, Failure> {
        let name = self.file.display();
        let bytes = private_file::read(&self.file).map_err(|e| Failure(e.to_string()))?;
        let bytes = match bytes.first() {
            Some(b':') => from_ihex(&bytes).ok_or_else(|| {
                Failure(format!("{name} is not an Intel HEX file of a configuration"))
            })?,
            _ => bytes,
        };
        let config = BoardConfig::read(&bytes).map_err(|e| Failure(format!("{name}: {e}")))?;
        describe(&config, None)
    }
}

fn describe(config: &BoardConfig, option: Option<&str>) -> Result<Answer, Failure> {
    let channel = config.radio.as_ref().map(RadioConfig::read).transpose();
    let channel = channel.map_err(|e| Failure(e.to_string()))?;
    let identity = Identity::from_secret(config.key);
    let line = |role: &Role| match role {
        Role::Listen => "listen".to_owned(),
        Role::Dial(key) => key.to_string(),
    };
    let clock = match (&config.clock_source, config.checkpoint) {
        (Some(node), _) => format!("the hello of {node}"),
        (None, Some(_)) => "block headers that pass".to_owned(),
        (None, None) => "none: it takes no payment".to_owned(),
    };
    let lines_of: Vec<String> = config.lines.iter().map(line).collect();
    let issuers: Vec<String> = config.issuers.iter().map(ToString::to_string).collect();
    let json = json!({
        "node_id": identity.node_id().to_string(),
        "public_key": identity.public_key().to_string(),
        "network": config.network.name(),
        "mode": config.mode.name(),
        "lines": lines_of,
        "baud": config.baud,
        "issuers": issuers,
        "tariff": config.tariff,
        "clock": clock,
        "cashier": config.cashier.map(|node| node.to_string()),
        "radio": channel.as_ref().map(radio::words),
        "keepalive_ms": config.keepalive_ms,
        "future_skew": config.future_skew,
        "option": option,
    });
    let mut rows = vec![
        ("node_id", identity.node_id().to_string()),
        ("public_key", identity.public_key().to_string()),
        ("network", config.network.name().to_owned()),
        ("mode", config.mode.name().to_owned()),
        ("baud", config.baud.to_string()),
    ];
    rows.extend(lines_of.into_iter().map(|line| ("line", line)));
    rows.extend(issuers.into_iter().map(|issuer| ("issuer", issuer)));
    rows.push(("clock", clock));
    rows.extend(config.cashier.map(|node| ("cashier", node.to_string())));
    rows.extend(channel.as_ref().map(|channel| ("radio", radio::words(channel))));
    rows.extend(option.map(|option| ("qemu", option.to_owned())));
    Answer::yes(json, lines(rows))
}

/// Bytes at an address, in Intel HEX.
fn ihex(address: u32, bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut record = |address: u16, kind: u8, data: &[u8]| {
        let [high, low] = address.to_be_bytes();
        let mut record = vec![data.len() as u8, high, low, kind];
        record.extend(data);
        let sum = record.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        record.push(sum.wrapping_neg());
        out += &format!(":{}\n", hex::encode_upper(record));
    };
    let mut page = None;
    for (n, data) in bytes.chunks(16).enumerate() {
        // An address of 16 bits within a page of 64 KiB; no record crosses one as long as
        // the address is a multiple of 16.
        let at = address.wrapping_add(16 * n as u32);
        let [a, b, c, d] = at.to_be_bytes();
        if page != Some([a, b]) {
            page = Some([a, b]);
            record(0, 4, &[a, b]);
        }
        record(u16::from_be_bytes([c, d]), 0, data);
    }
    record(0, 1, &[]);
    out
}

/// The bytes of an Intel HEX file that this tool has written, whatever their address.
fn from_ihex(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for line in std::str::from_utf8(text).ok()?.lines() {
        let record = hex::decode(line.strip_prefix(':')?).ok()?;
        let (&[len, _, _, kind], rest) = record.split_first_chunk()?;
        let (_, data) = rest.split_last()?;
        let sum = record.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        if sum != 0 || data.len() != usize::from(len) {
            return None;
        }
        if kind == 0 {
            out.extend(data);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_hex_is_that_of_the_specification() {
        // The example of the format's description (Wikipedia, "Intel HEX").
        let bytes = hex::decode("214601360121470136007EFE09D21901").unwrap();
        let text = ihex(0x0100, &bytes);
        let rows: Vec<&str> = text.lines().collect();
        assert_eq!(
            rows,
            [":020000040000FA", ":10010000214601360121470136007EFE09D2190140", ":00000001FF"]
        );
        assert_eq!(from_ihex(text.as_bytes()).unwrap(), bytes);
        let damaged = text.replace("2146", "2147");
        assert_eq!(from_ihex(damaged.as_bytes()), None);
        // A page of 64 KiB ends within it.
        let text = ihex(0x0001_fff0, &[7; 40]);
        assert!(text.contains(":020000040001F9") && text.contains(":020000040002F8"), "{text}");
        assert_eq!(from_ihex(text.as_bytes()).unwrap(), [7; 40]);
    }
}
