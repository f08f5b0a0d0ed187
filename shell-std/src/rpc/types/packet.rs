//! What is asked and answered about datagrams: sending one, fetching those that
//! came in.

use crate::rpc::target::Target;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Parameters of `meshsendpacket`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "RawSendPacket")]
pub struct SendPacket {
    /// To whom: identity, public key or address.
    pub destination: Target,
    /// What is carried. As parameter `data_hex` or `data_base64`.
    #[serde(rename = "data_base64", with = "hexed::Base64")]
    pub data: Vec<u8>,
    /// Proof of payment.
    pub proof: Option<Proof>,
    /// Pay each node of the route by the node's own wallet, within its budget.
    pub pay: bool,
    /// The most that this may cost on the whole route; none: `flow.max_msat`.
    pub max_msat: Option<u64>,
    /// Send even what this node itself would refuse, to try a relay.
    pub unchecked: bool,
    /// How long to wait at most, once it is sent, for a relay's report that it was
    /// stopped, in milliseconds; see [`Outcome`].
    pub wait_ms: u64,
}

impl SendPacket {
    /// How long the node waits for what becomes of it, in milliseconds.
    pub fn waits_ms(&self) -> u64 {
        match (self.pay, self.wait_ms) {
            (true, 0) => 120_000,
            (_, given) => given,
        }
    }
}

/// Proof of payment: a paid invoice or a covenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "proof is either {invoice, preimage} or {covenant}")]
pub enum Proof {
    /// A Lightning payment.
    Lightning(LightningProof),
    /// A BIP 119 payment.
    Covenant(CovenantProof),
}

/// A BOLT 11 invoice and what its payer learnt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LightningProof {
    /// The invoice, `ln...`.
    pub invoice: String,
    /// Its preimage.
    #[serde(with = "hexed::Hex::<32>")]
    pub preimage: [u8; 32],
}

/// A covenant proof.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CovenantProof {
    /// The proof as encoded in a packet (docs/PROTOCOL.md).
    #[serde(with = "hexed::HexBytes")]
    pub covenant: Vec<u8>,
}

/// Answer of `meshsendpacket`. What this node itself refuses is an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sent {
    /// Number of the datagram, which names it in reports; it is no count.
    pub sequence: u64,
    /// Where it goes.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// Number of intermediate nodes.
    pub hops: u8,
    /// Bytes of payload.
    pub bytes: usize,
    /// Whether a proof of payment went with it.
    pub paid: bool,
    /// What became of it, as far as it was waited for.
    #[serde(default)]
    pub outcome: Outcome,
    /// Set where a relay reported that it stopped the datagram.
    pub stopped: Option<Stopped>,
    /// How often it was sent again within `wait_ms`, or will be. What is paid for is not paid
    /// for again.
    #[serde(default)]
    pub repeats: u8,
    /// Why it is sent again, where it is not known yet whether it was stopped then.
    #[serde(default)]
    pub repeating: Option<Stopped>,
    /// Where the node paid for it by itself: what it has paid, fees not counted. What was bought and
    /// not used serves the next.
    #[serde(default)]
    pub spent_msat: Option<u64>,
}

/// What is known of a datagram that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It is paid for, and its destination says that it has it.
    Delivered,
    /// The neighbour has it, and nobody refused it within the time that this takes. That is
    /// no receipt: its destination does not say that it came.
    Sent,
    /// A node on the route has refused it; see `stopped`.
    Refused,
    /// It was not waited for long enough, or the neighbour did not answer any more.
    #[default]
    Unknown,
}

/// A relay's report. It is not signed: take it as a hint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stopped {
    /// Who says so.
    #[serde(with = "hexed::Node")]
    pub reporter: NodeId,
    /// Why, as a sentence.
    pub cause: String,
}

/// Parameters of `meshpollreceived`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PollReceived {
    /// Most datagrams to hand out, at least 1.
    pub max: usize,
    /// How long to wait for the first where there is none, in milliseconds.
    pub wait_ms: u64,
    /// Whether the data is to come as `data_base64` instead of `data_hex`: it is shorter, and
    /// faster to read.
    pub base64: bool,
}

impl Default for PollReceived {
    fn default() -> Self {
        Self { max: 16, wait_ms: 0, base64: false }
    }
}

/// Answer of `meshpollreceived`: one datagram. It is handed out once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written", into = "Written")]
pub struct Received {
    /// Who sent it; proven only where it was paid for, or came over a flow.
    pub source: NodeId,
    /// Its number: drawn by its source, not counted.
    pub sequence: u64,
    /// What it was detected as.
    pub protocol: String,
    /// What this node earned with it.
    pub earned_msat: u64,
    /// The payload. As `data_hex` or `data_base64`.
    pub data: Vec<u8>,
    /// Whether it is written as base64.
    pub base64: bool,
}

// [`Received`] as it is written; what its comments say is in the schema.
/// A datagram that was sent to this node. It is handed out once.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Received")]
struct Written {
    /// Who sent it; proven only where it was paid for, or came over a flow.
    #[serde(with = "hexed::Node")]
    source: NodeId,
    /// Its number: drawn by its source, not counted.
    sequence: u64,
    /// What it was detected as.
    #[schemars(with = "schema::Protocol")]
    protocol: String,
    /// What this node earned with it.
    earned_msat: u64,
    #[serde(flatten)]
    data: Data,
}

#[derive(Serialize, Deserialize, JsonSchema)]
enum Data {
    /// The payload as hex.
    #[serde(rename = "data_hex", with = "hexed::HexBytes")]
    Hex(Vec<u8>),
    /// The payload as base64.
    #[serde(rename = "data_base64", with = "hexed::Base64")]
    Base64(Vec<u8>),
}

impl From<Received> for Written {
    fn from(received: Received) -> Self {
        let Received { source, sequence, protocol, earned_msat, data, base64 } = received;
        let data = if base64 { Data::Base64(data) } else { Data::Hex(data) };
        Self { source, sequence, protocol, earned_msat, data }
    }
}

impl From<Written> for Received {
    fn from(written: Written) -> Self {
        let Written { source, sequence, protocol, earned_msat, data } = written;
        let (data, base64) = match data {
            Data::Hex(data) => (data, false),
            Data::Base64(data) => (data, true),
        };
        Self { source, sequence, protocol, earned_msat, data, base64 }
    }
}

// [`SendPacket`] as it is written: the data in one of two spellings.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawSendPacket {
    /// To whom: identity, public key or address.
    #[serde(alias = "target")]
    destination: Target,
    /// What is carried, as hex; either this or `data_base64`.
    #[schemars(with = "Option<hexed::HexBytes>")]
    data_hex: Option<String>,
    /// What is carried, as base64; either this or `data_hex`.
    #[schemars(with = "Option<hexed::Base64>")]
    data_base64: Option<String>,
    /// Proof of payment; not for what goes free.
    #[serde(default)]
    proof: Option<Proof>,
    /// Have the node pay for it by itself, each node of the route for itself: it goes over a flow,
    /// and its destination must take such (`flow.inbox`). What goes free is not paid for.
    #[serde(default)]
    pay: bool,
    /// The most that this may cost on the whole route, fees not counted; none: `flow.max_msat`.
    #[serde(default)]
    max_msat: Option<u64>,
    /// Send even what this node itself would refuse, to try a relay.
    #[serde(default)]
    unchecked: bool,
    /// How long to wait at most, once it is sent, for what becomes of it, in milliseconds. With `pay`
    /// that counts from the start, and 0 stands for 120,000.
    #[serde(default)]
    wait_ms: u64,
}

impl TryFrom<RawSendPacket> for SendPacket {
    type Error = String;

    fn try_from(raw: RawSendPacket) -> Result<Self, String> {
        let data = match (raw.data_hex, raw.data_base64) {
            (Some(hex), None) => hex::decode(hex).map_err(|e| format!("data_hex: {e}"))?,
            (None, Some(b)) => hexed::from_base64(&b).map_err(|e| format!("data_base64: {e}"))?,
            _ => return Err("give the data as either data_hex or data_base64".into()),
        };
        let RawSendPacket { destination, proof, pay, max_msat, unchecked, wait_ms, .. } = raw;
        match (pay, max_msat) {
            (true, _) if proof.is_some() || unchecked => {
                return Err("pay goes neither with a proof nor with unchecked".into());
            }
            (false, Some(_)) => return Err("max_msat is for pay".into()),
            _ => {}
        }
        Ok(Self { destination, data, proof, pay, max_msat, unchecked, wait_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json, to_value};

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    fn send(value: serde_json::Value) -> Result<SendPacket, String> {
        from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn data_is_read_in_both_spellings_and_written_in_the_shorter() {
        let hex = send(json!({"destination": KEY, "data_hex": "00ff"})).unwrap();
        assert_eq!(hex.data, [0, 255]);
        assert_eq!(send(json!({"target": KEY, "data_base64": "AP8="})), Ok(hex.clone()));
        let written = to_value(&hex).unwrap();
        assert_eq!(written["data_base64"], "AP8=");
        assert_eq!(send(written), Ok(hex));
        for base64 in [false, true] {
            let (source, protocol, data) = (NodeId([1; 32]), "Unknown".into(), vec![0, 255]);
            let got = Received { source, sequence: 1, protocol, earned_msat: 0, data, base64 };
            let written = to_value(&got).unwrap();
            let key = if base64 { ("data_base64", "AP8=") } else { ("data_hex", "00ff") };
            assert_eq!(written[key.0], key.1);
            assert_eq!(from_value::<Received>(written).unwrap(), got);
        }
    }

    #[test]
    fn faults_in_parameters_are_named() {
        let faults = [
            (json!({"destination": KEY}), "either data_hex or data_base64"),
            (json!({"destination": KEY, "data_hex": "0", "data_base64": ""}), "either"),
            (json!({"destination": KEY, "data_hex": "0"}), "data_hex: "),
            (json!({"destination": KEY, "data_base64": "*"}), "data_base64: "),
            (json!({"destination": KEY, "data_hex": "", "fee": 1}), "unknown field `fee`"),
            (json!({"destination": "me", "data_hex": ""}), "is not a destination"),
            (json!({"data_hex": ""}), "missing field `destination`"),
            (json!({"destination": KEY, "data_hex": "", "max_msat": 1}), "max_msat is for pay"),
            (
                json!({"destination": KEY, "data_hex": "", "pay": true, "unchecked": true}),
                "neither with a proof",
            ),
            (
                json!({"destination": KEY, "data_hex": "", "proof": {"invoice": "x"}}),
                "{invoice, preimage}",
            ),
        ];
        for (params, expected) in faults {
            let error = send(params).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn proofs_are_told_apart() {
        let preimage = "01".repeat(32);
        let lightning: Proof = from_value(json!({"invoice": "ln", "preimage": preimage})).unwrap();
        assert_eq!(
            lightning,
            Proof::Lightning(LightningProof { invoice: "ln".into(), preimage: [1; 32] })
        );
        let covenant: Proof = from_value(json!({"covenant": "0203"})).unwrap();
        assert_eq!(covenant, Proof::Covenant(CovenantProof { covenant: vec![2, 3] }));
    }
}
