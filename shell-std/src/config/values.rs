//! What the values of keys are read into, where it is more than text, a number or a flag.

use crate::address::{
    AddressError, LoraAddress, LoraError, PeerAddress, SerialLine, parse_public_key,
};
use crate::flows::{Exposed, ForwardSpec, SpecError};
use crate::lan;
use crate::rpc::target::{Target, TargetError};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::policy::mode::MeshMode;
use secp256k1::PublicKey;
use serde::Deserialize;
use std::fmt;
use std::net::{Ipv6Addr, SocketAddr};

/// Names of Lightning backends.
const BACKENDS: [&str; 5] = ["lnd", "cln", "phoenixd", "lnbits", "ldk"];

/// A time in milliseconds.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub(super) struct Millis(u32);

impl From<Millis> for u64 {
    fn from(span: Millis) -> Self {
        span.0.into()
    }
}

/// Reads a key's text into what it stands for.
macro_rules! text_value {
    ($name:ident($inner:ty), $parse:expr) => {
        #[derive(Debug, Clone, Deserialize)]
        #[serde(try_from = "String")]
        pub(super) struct $name(pub(super) $inner);

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$inner, String> = $parse;
                parse(&text).map(Self)
            }
        }
    };
}

text_value!(Mode(MeshMode), parse_mode);
text_value!(Backend(String), parse_backend);
text_value!(Export(crate::export::Target), |text| {
    text.parse().map_err(|e: String| format!("the database {e}"))
});
text_value!(NetworkName(Network), parse_network);
text_value!(SignetMagic([u8; 4]), parse_signet_challenge);
text_value!(Issuer(PublicKey), parse_issuer);
text_value!(Port(SocketAddr), |text| crate::flows::local(text));
text_value!(Gateway(NodeId), |text| {
    text.parse().map(|target: Target| target.0).map_err(|e: TargetError| e.to_string())
});
text_value!(InterfaceName(lan::interfaces::Pattern), |text| text.parse());
text_value!(Group(Ipv6Addr), parse_group);
text_value!(Owing((PublicKey, u64)), parse_owing);
text_value!(Announced((NodeId, u32)), parse_announced);
text_value!(ExposedPort(Exposed), |text| text.parse().map_err(|e: SpecError| e.to_string()));
text_value!(ForwardedTo(ForwardSpec), |text| text.parse().map_err(|e: SpecError| e.to_string()));

/// Scope 2 is the link (RFC 4291, section 2.7): no router passes it on.
fn parse_group(text: &str) -> Result<Ipv6Addr, String> {
    let group = text.parse::<Ipv6Addr>().ok();
    let local = |group: &Ipv6Addr| group.segments()[0] & 0xff0f == 0xff02;
    let wrong = || {
        format!("\"{text}\" is not an IPv6 multicast group of link-local scope, as {}", lan::GROUP)
    };
    group.filter(local).ok_or_else(wrong)
}

fn parse_owing(text: &str) -> Result<(PublicKey, u64), String> {
    let form = || format!("\"{text}\" is not PUBKEY=BYTES: a neighbour's public key, and a number");
    let (key, bytes) = text.split_once('=').ok_or_else(form)?;
    let key = parse_public_key(key).ok_or_else(form)?;
    Ok((key, bytes.parse().map_err(|_| form())?))
}

fn parse_announced(text: &str) -> Result<(NodeId, u32), String> {
    let form = || format!("\"{text}\" is not NODE@HEIGHT: a public key or identity, and a height");
    let (node, height) = text.rsplit_once('@').ok_or_else(form)?;
    let node: Target = node.parse().map_err(|e: TargetError| e.to_string())?;
    Ok((node.0, height.parse().map_err(|_| form())?))
}

/// The mode with this name.
///
/// # Errors
/// The modes that there are.
pub fn parse_mode(text: &str) -> Result<MeshMode, String> {
    let found = MeshMode::ALL.into_iter().find(|m| m.name() == text);
    let allowed = MeshMode::ALL.map(MeshMode::name).join(", ");
    found.ok_or_else(|| format!("unknown mode \"{text}\"; allowed are {allowed}"))
}

fn parse_backend(text: &str) -> Result<String, String> {
    let allowed = BACKENDS.join(", ");
    match BACKENDS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("unknown backend \"{text}\"; allowed are {allowed}")),
    }
}

/// The network with this name.
///
/// # Errors
/// The networks that there are.
pub fn parse_network(text: &str) -> Result<Network, String> {
    let found = Network::ALL.into_iter().find(|n| n.name() == text);
    let allowed = Network::ALL.map(Network::name).join(", ");
    found.ok_or_else(|| format!("unknown network \"{text}\"; allowed are {allowed}"))
}

/// The first bytes of messages of the signet with this challenge, a script in hex.
///
/// # Errors
/// Why it is no challenge.
pub fn parse_signet_challenge(text: &str) -> Result<[u8; 4], String> {
    // Bitcoin Core, MAX_SCRIPT_SIZE.
    match hex::decode(text) {
        Ok(script) if (1..=10_000).contains(&script.len()) => Ok(Network::signet_magic(&script)),
        _ => Err(format!("\"{text}\" is not a script of 1 to 10,000 bytes in hex")),
    }
}

/// Where to be reached: one text, or a list of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) struct Listen {
    pub(super) tcp: Option<SocketAddr>,
    pub(super) lines: Vec<SerialLine>,
    pub(super) radios: Vec<LoraAddress>,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines.iter().map(ToString::to_string);
        let radios = self.radios.iter().map(ToString::to_string);
        let lines = lines.chain(radios);
        let all: Vec<_> = self.tcp.iter().map(ToString::to_string).chain(lines).collect();
        f.write_str(&all.join(", "))
    }
}

impl TryFrom<toml::Value> for Listen {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let texts = match value {
            toml::Value::String(text) => vec![toml::Value::String(text)],
            toml::Value::Array(texts) => texts,
            _ => return Err("an address to listen on is text, or a list of texts".into()),
        };
        let mut listen = Self::default();
        for text in &texts {
            let text = text.as_str().ok_or("an address to listen on is text")?;
            if SerialLine::is_meant(text) {
                listen.lines.push(text.parse().map_err(|e: AddressError| e.to_string())?);
            } else if LoraAddress::is_meant(text) {
                listen.radios.push(text.parse().map_err(|e: LoraError| e.to_string())?);
            } else if !text.is_empty() {
                let wrong = |_| {
                    format!(
                        "\"{text}\" is not IP:PORT, as in 0.0.0.0:8338 or [::]:8338; leave it \
                         empty (\"\") not to listen at all"
                    )
                };
                if listen.tcp.replace(text.parse().map_err(wrong)?).is_some() {
                    return Err(format!("\"{text}\" is a second IP:PORT; only one is listened on"));
                }
            }
        }
        Ok(listen)
    }
}

fn parse_issuer(text: &str) -> Result<PublicKey, String> {
    let wrong = || {
        format!(
            "\"{text}\" is not a compressed public key (66 hex digits, beginning with 02 or \
             03); a Lightning node shows its own as its node id"
        )
    };
    parse_public_key(text).ok_or_else(wrong)
}

/// A peer as `PUBKEY@HOST:PORT`, or in the host node's spelling as
/// `{ address = "HOST:PORT", node_id_hex = "PUBKEY" }`.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) struct Peer(pub(super) PeerAddress);

impl TryFrom<toml::Value> for Peer {
    type Error = String;

    fn try_from(value: toml::Value) -> Result<Self, String> {
        let table = match value {
            toml::Value::String(text) => {
                return text.parse().map(Self).map_err(|e: AddressError| e.to_string());
            }
            toml::Value::Table(table) => table,
            _ => return Err("a peer is written as \"PUBKEY@HOST:PORT\"".into()),
        };
        let text = |key: &str| table.get(key).and_then(|v| v.as_str());
        let (Some(address), Some(key), 2) = (text("address"), text("node_id_hex"), table.len())
        else {
            return Err("a peer in this spelling has exactly the keys address and node_id_hex, \
                 both text"
                .into());
        };
        if key.len() == 64 {
            return Err(format!(
                "node_id_hex \"{key}\" is an identity; a link needs the public key (66 hex \
                 digits), which the other node prints with `blvm-mesh id`"
            ));
        }
        PeerAddress::from_parts(key, address).map(Self).map_err(|e| e.to_string())
    }
}

/// A key of the host node's module that has no meaning here.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "toml::Value")]
pub(super) enum NotUsed {}

impl TryFrom<toml::Value> for NotUsed {
    type Error = &'static str;

    fn try_from(_: toml::Value) -> Result<Self, Self::Error> {
        Err("packets are not counted by the minute here: free traffic is limited in bytes, \
             set limits.free_rate (bytes per second) and limits.free_burst (bytes) instead")
    }
}
