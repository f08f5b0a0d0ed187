//! The methods that other modules call through the node. Parameters and answers are JSON.

use blvm_mesh::issuer::{DEFAULT_EXPIRY, Issuer, Order, unix_now};
use blvm_mesh::manager::MeshManager;
use blvm_mesh::rpc::target::Target;
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::mesh::Quote;
use blvm_mesh_core::payment::bolt11::Invoice;
use blvm_mesh_core::payment::packed::{self, IssuerHint};
use blvm_mesh_core::payment::proof::LIGHTNING;
use blvm_mesh_core::secp256k1::{PublicKey, Secp256k1};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::Arc;

/// Version of the methods, which the node tells those who ask.
pub const VERSION: u32 = 1;
/// The methods.
pub const METHODS: [&str; 7] = [
    "send_packet",
    "discover_route",
    "poll_local_deliveries",
    "quote_route_fee",
    "request_hop_invoice",
    "get_routing_stats",
    "get_node_id",
];
/// Most datagrams handed out at once.
const MOST_POLLED: usize = 1000;
/// Bytes of payload in one answer. What does not fit waits for the next call.
const MOST_POLLED_BYTES: usize = 4 * 1024 * 1024;
/// Room for a proof, in bytes.
const MOST_PROOF: usize = 1024;

/// Serves the methods.
pub struct Api {
    /// The mesh.
    pub manager: Arc<MeshManager>,
    /// This node's public key.
    pub public_key: PublicKey,
    /// Its network.
    pub network: Network,
    /// Writes invoices on regtest, where one is configured.
    pub issuer: Option<Issuer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SendPacket {
    destination: Target,
    data_hex: String,
    #[serde(default)]
    proof_hex: Option<String>,
    #[serde(default)]
    invoice: Option<String>,
    #[serde(default)]
    preimage_hex: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DiscoverRoute {
    destination: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PollLocalDeliveries {
    #[serde(default = "sixteen")]
    max: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct QuoteRouteFee {
    destination: Target,
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestHopInvoice {
    destination: Target,
    bytes: u64,
    #[serde(default)]
    amount_msat: Option<u64>,
    #[serde(default)]
    expiry_s: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

fn sixteen() -> usize {
    16
}

impl Api {
    /// Answers a call.
    ///
    /// # Errors
    /// Why not, as a sentence for whoever called.
    pub async fn call(&self, method: &str, params: &[u8]) -> Result<Vec<u8>, String> {
        let answer = match method {
            "send_packet" => self.send(read(params)?).await?,
            "discover_route" => {
                let DiscoverRoute { destination } = read(params)?;
                let hops = self.manager.find_route(destination.0).await.map_err(text)?;
                json!({ "destination": destination.0.to_string(), "hops": hops })
            }
            "poll_local_deliveries" => self.poll(&read(params)?),
            "quote_route_fee" => {
                let QuoteRouteFee { destination, bytes } = read(params)?;
                quoted(&self.quote(destination.0, bytes).await?)
            }
            "request_hop_invoice" => self.invoice(read(params)?).await?,
            "get_routing_stats" => {
                let Nothing {} = read(params)?;
                serde_json::to_value(self.manager.routing_stats()).map_err(text)?
            }
            "get_node_id" => {
                let Nothing {} = read(params)?;
                json!({
                    "node_id": self.manager.id().to_string(),
                    "public_key": self.public_key.to_string(),
                    "network": self.network.name(),
                })
            }
            _ => {
                let methods = METHODS.join(", ");
                return Err(format!("there is no method \"{method}\"; there are {methods}"));
            }
        };
        serde_json::to_vec(&answer).map_err(text)
    }

    async fn send(&self, asked: SendPacket) -> Result<Value, String> {
        let SendPacket { destination, data_hex, proof_hex, invoice, preimage_hex } = asked;
        let data = hex::decode(data_hex).map_err(|e| format!("data_hex: {e}"))?;
        let proof = match (proof_hex, invoice, preimage_hex) {
            (None, None, None) => Vec::new(),
            (Some(proof), None, None) => {
                hex::decode(proof).map_err(|e| format!("proof_hex: {e}"))?
            }
            (None, Some(invoice), Some(preimage)) => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(preimage, &mut bytes)
                    .map_err(|e| format!("preimage_hex: {e}"))?;
                let quote = self.quote(destination.0, data.len() as u64).await?;
                proof_of(&invoice, &bytes, &quote.terms_hash)?
            }
            _ => return Err("give proof_hex, or invoice and preimage_hex, or none".into()),
        };
        let sent = self.manager.send_mesh_packet(destination.0, &data, &proof).await;
        let sent = sent.map_err(text)?;
        Ok(json!({ "sequence": sent.sequence, "hops": sent.hops }))
    }

    fn poll(&self, asked: &PollLocalDeliveries) -> Value {
        let (mut deliveries, mut bytes) = (Vec::new(), 0);
        while deliveries.len() < asked.max.min(MOST_POLLED) && bytes < MOST_POLLED_BYTES {
            let Some(got) = self.manager.poll_local_deliveries(1).pop() else { break };
            bytes += got.payload.len();
            deliveries.push(json!({
                "source": got.source.to_string(),
                "sequence": got.sequence,
                "protocol": got.protocol.name(),
                "earned_msat": got.earned_msat,
                "data_hex": hex::encode(&got.payload),
            }));
        }
        json!({ "deliveries": deliveries })
    }

    /// A quote for the route that is known, or else is searched for.
    async fn quote(&self, destination: NodeId, bytes: u64) -> Result<Quote, String> {
        if let Some(quote) = self.manager.quote_route_fee(&destination, bytes) {
            return Ok(quote);
        }
        self.manager.find_route(destination).await.map_err(text)?;
        let quote = self.manager.quote_route_fee(&destination, bytes);
        quote.ok_or_else(|| "the route was lost again; try once more".into())
    }

    async fn invoice(&self, asked: RequestHopInvoice) -> Result<Value, String> {
        let RequestHopInvoice { destination, bytes, amount_msat, expiry_s } = asked;
        let quote = self.quote(destination.0, bytes).await?;
        let (least, terms) = (quote.amount_msat, hex::encode(quote.terms_hash));
        let issuer = self.issuer.as_ref().ok_or_else(|| {
            format!(
                "this node signs no invoices. Have an issuer that the route accepts write one for \
                 {least} msat with description hash {terms} or description \"blvm-mesh:{terms}\", \
                 and pay it"
            )
        })?;
        let amount_msat = amount_msat.unwrap_or(least);
        if amount_msat < least {
            return Err(format!("{amount_msat} msat are too few, the route asks for {least} msat"));
        }
        let issued = issuer.invoice(&Order {
            network: self.network,
            terms_hash: quote.terms_hash,
            amount_msat,
            expiry_s: expiry_s.unwrap_or(DEFAULT_EXPIRY),
            timestamp: unix_now(),
            as_text: false,
        });
        let issued = issued.map_err(text)?;
        Ok(json!({
            "invoice": issued.invoice,
            "preimage_hex": issued.preimage.map(hex::encode),
            "payment_hash": hex::encode(issued.payment_hash),
            "issuer": issued.issuer.to_string(),
            "expires_at": issued.expires_at,
            "amount_msat": amount_msat,
            "quote": quoted(&quote),
        }))
    }
}

/// The proof that a packet carries.
fn proof_of(invoice: &str, preimage: &[u8; 32], terms: &[u8; 32]) -> Result<Vec<u8>, String> {
    let payee = Invoice::from_text(invoice).map_err(|e| format!("invoice: {e}"))?;
    let payee = payee.recover_payee(&Secp256k1::verification_only());
    let hint = IssuerHint::of(&payee.map_err(|e| format!("invoice: {e}"))?);
    let mut proof = vec![LIGHTNING; MOST_PROOF];
    let room = proof.get_mut(1..).unwrap_or_default();
    let len = packed::pack(invoice, preimage, terms, hint, room).map_err(text)?;
    proof.truncate(1 + len);
    Ok(proof)
}

fn quoted(quote: &Quote) -> Value {
    let terms = hex::encode(quote.terms_hash);
    json!({
        "hops": quote.hops.iter().map(|hop| hex::encode(hop.0)).collect::<Vec<_>>(),
        "amount_msat": quote.amount_msat,
        "terms_hash": terms,
        "description": format!("blvm-mesh:{terms}"),
        "min_packet": quote.min_packet,
        "shares": {
            "source": quote.shares.source,
            "intermediates": quote.shares.intermediates.as_slice(),
            "destination": quote.shares.destination,
        },
    })
}

/// Reads parameters; none at all are those of a method that needs none.
fn read<T: DeserializeOwned>(params: &[u8]) -> Result<T, String> {
    let params = if params.is_empty() { b"{}" } else { params };
    serde_json::from_slice(params).map_err(|e| format!("the parameters are not as expected: {e}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
