//! `decode`: a packet of the mesh, field by field.

use super::input::Input;
use super::{Answer, Failure};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::fee::Tariff;
use blvm_mesh_core::payment::lightning::LightningProof;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::proof::{ForAccounts, PaymentProof};
use blvm_mesh_core::policy::DetectedProtocol;
use blvm_mesh_core::policy::detect::{Scope, explain};
use blvm_mesh_core::signature;
use blvm_mesh_core::wire::accepted::{Accepted, FOR_ACCOUNTS, Issuers};
use blvm_mesh_core::wire::account::{Message, Ticket};
use blvm_mesh_core::wire::datagram::{Datagram, Form, Signed};
use blvm_mesh_core::wire::flow::{self, FlowError, OpenTerms};
use blvm_mesh_core::wire::hello::Hello;
use blvm_mesh_core::wire::route_error::RouteError;
use blvm_mesh_core::wire::route_reply::RouteReply;
use blvm_mesh_core::wire::route_request::{Hop, RouteRequest};
use blvm_mesh_core::wire::{Header, Kind, WireError};
use clap::Args;
use secp256k1::Secp256k1;
use serde_json::{Map, Value, json};

/// Show a packet of the mesh, field by field.
///
/// Exit code 1: it is not a packet, and why. Signatures are checked. No node needs to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh decode packet.bin
  echo 4d455348... | blvm-mesh decode --json")]
pub(super) struct Decode {
    #[command(flatten)]
    input: Input,
}

impl Decode {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let packet = self.input.read()?;
        match decode(&packet) {
            Ok(fields) => {
                let mut text = String::new();
                write_fields(&mut text, 0, &fields);
                Answer::yes(fields, text)
            }
            Err(e) => {
                let reason = e.to_string();
                let json = json!({"error": {"code": 1, "message": reason}});
                Answer::no(json, format!("not a packet: {reason}"))
            }
        }
    }
}

/// Fields in the order of the packet.
fn decode(packet: &[u8]) -> Result<Map<String, Value>, WireError> {
    let (header, body) = Header::parse(packet)?;
    let mut fields = Fields::default();
    fields.put("kind", header.kind.name());
    fields.put("version", blvm_mesh_core::wire::header::VERSION);
    fields.put("flags", header.flags);
    fields.put("hop_limit", header.hop_limit);
    fields.put("sequence", header.sequence);
    fields.put("length", body.len());
    match header.kind {
        Kind::Datagram => {
            let datagram = Datagram::parse(header, body)?;
            signed(&mut fields, &datagram);
            match datagram.form {
                Form::Account => account_message(&mut fields, &Message::parse(datagram.payload)?),
                _ => payload(&mut fields, &datagram),
            }
        }
        Kind::RouteRequest => {
            let r = RouteRequest::parse(header, body)?;
            fields.put("source", r.source.to_string());
            fields.put("destination", r.destination.to_string());
            fields.put("min_packet", r.min_packet);
            fields.put("quality", r.quality);
            fields.accepted(&r.accepted);
            fields.put("hops", priced(&r.hops));
        }
        Kind::RouteReply => {
            let r = RouteReply::parse(header, body)?;
            let secp = Secp256k1::verification_only();
            let signed = signature::verify(&secp, &r.public_key, &r.sighash(), &r.signature);
            fields.put("source", r.source.to_string());
            fields.put("destination", r.destination().to_string());
            fields.put("min_packet", r.min_packet);
            fields.put("quality", r.quality);
            fields.put("tariff", tariff(&r.tariff));
            fields.accepted(&r.accepted);
            fields.put("public_key", hex::encode(r.public_key));
            fields.put("signature", hex::encode(r.signature));
            fields.put("signature_valid", signed);
            fields.put("hops", priced(&r.hops));
        }
        Kind::RouteError => {
            let r = RouteError::parse(header, body)?;
            fields.ends(&r.source, &r.destination);
            fields.put("reporter", r.reporter.to_string());
            fields.put("next", r.next.to_string());
            fields.put("cause", r.cause.to_string());
            fields.put("hops", r.hops.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        Kind::FlowError => {
            let e = FlowError::parse(header, body)?;
            fields.put("reporter", e.reporter.to_string());
            fields.put("cause", e.cause.to_string());
        }
        Kind::Open => {
            let open = Datagram::parse(header, body)?;
            signed(&mut fields, &open);
            terms(&mut fields, &open)?;
        }
        Kind::Opened | Kind::Data | Kind::Close => {
            flow::check_body(header, body)?;
            fields.put("body", hex::encode(body));
        }
        Kind::Hello => {
            let h = Hello::parse(header, body)?;
            fields.put("yours_is_missing", h.missing);
            fields.put("network", h.network.name());
            fields.put("mode", h.mode.name());
            fields.put("quality", h.quality);
            fields.put("max_packet", h.max_packet);
            fields.put("tariff", tariff(&h.tariff));
            fields.put("keepalive_ms", h.keepalive_ms);
            fields.put("unix", h.unix);
            fields.put("issuers", h.issuers.iter().map(hex::encode).collect::<Vec<_>>());
        }
        Kind::KeepAlive => {}
        Kind::Ack => {
            fields.put(
                "note",
                "the number is reserved for flows that are not sealed; nothing is defined yet",
            );
            fields.put("body", hex::encode(body));
        }
    }
    Ok(fields.0)
}

/// What every packet in the form of a datagram has.
fn signed(fields: &mut Fields, d: &Datagram<'_>) {
    fields.ends(&d.source, &d.destination);
    fields.put("hops", d.hops().map(|h| h.to_string()).collect::<Vec<_>>());
    if let (Some(Signed { public_key, signature, proof }), Some(hash)) = (d.signed, d.sighash()) {
        let secp = Secp256k1::verification_only();
        fields.put("public_key", hex::encode(public_key));
        fields.put("key_is_sources", NodeId::from_compressed(public_key) == d.source);
        fields.put("signature", hex::encode(signature));
        fields.put("signature_valid", signature::verify(&secp, public_key, &hash, signature));
        if d.form == Form::Plain {
            fields.put("proof", proof_fields(proof));
        }
    }
}

fn payload(fields: &mut Fields, d: &Datagram<'_>) {
    let (protocol, reason) = match explain(d.payload, Scope::default()) {
        Ok(protocol) => (protocol.name(), None),
        Err(why) => (DetectedProtocol::Unknown.name(), Some(why.to_string())),
    };
    fields.put("payload_bytes", d.payload.len());
    fields.put("payload_protocol", protocol);
    if let Some(reason) = reason {
        fields.put("payload_reason", reason);
    }
    fields.put("payload", hex::encode(d.payload));
}

/// The terms of an Open.
fn terms(fields: &mut Fields, open: &Datagram<'_>) -> Result<(), WireError> {
    let terms = OpenTerms::parse(open.signed.map_or(&[], |signed| signed.proof))?;
    let number = flow::number(&open.source, &open.destination, &terms.random);
    fields.put("random", hex::encode(terms.random));
    fields.put("number_is_flows", number == open.sequence);
    fields.put("open_number", terms.open_number);
    fields.put("max_bytes", terms.max_bytes);
    fields.put("idle_s", terms.idle_s);
    fields.put("max_packet", terms.max_packet);
    fields.put("act_one", hex::encode(terms.act));
    Ok(())
}

fn account_message(fields: &mut Fields, message: &Message<'_>) {
    match message {
        Message::InvoiceRequest(m) => {
            fields.put("message", "InvoiceRequest");
            fields.put("bytes", m.bytes);
            fields.put("amount_msat", m.amount_msat);
            fields.put("open_number", m.open_number);
            fields.put("public_key", hex::encode(m.public_key));
            fields.put("signature", hex::encode(m.signature));
        }
        Message::Invoice(m) => {
            fields.put("message", "Invoice");
            fields.put("request", m.request);
            fields.put("ticket", ticket_fields(&m.ticket));
            fields.put("invoice", String::from_utf8_lossy(m.invoice));
            fields.put("public_key", hex::encode(m.public_key));
            fields.put("signature", hex::encode(m.signature));
        }
        Message::Pay(m) => {
            fields.put("message", "Pay");
            fields.put("ticket", ticket_fields(&m.ticket));
            fields.put("preimage", hex::encode(m.preimage));
        }
        Message::Balance(m) => {
            fields.put("message", "Balance");
            fields.put("answers", m.answers);
            fields.put("bought", m.bought);
            fields.put("drawn", m.drawn);
        }
        Message::Referral(m) => {
            fields.put("message", "Referral");
            fields.put("request", m.request);
            fields.put("ticket", ticket_fields(&m.ticket));
            fields.put("cashier", m.cashier.to_string());
            fields.put("public_key", hex::encode(m.public_key));
            fields.put("signature", hex::encode(m.signature));
        }
        Message::TicketRequest(m) => {
            fields.put("message", "TicketRequest");
            fields.put("node", m.node.to_string());
            fields.put("ticket", ticket_fields(&m.ticket));
        }
    }
}

fn ticket_fields(ticket: &Ticket) -> Value {
    json!({
        "run": ticket.run,
        "issued": ticket.issued,
        "bytes": ticket.bytes,
        "amount_msat": ticket.amount_msat,
        "open_number": ticket.open_number,
        "mac": hex::encode(ticket.mac),
    })
}

fn proof_fields(proof: &[u8]) -> Value {
    let mut fields = Fields::default();
    fields.put("bytes", proof.len());
    let proof = match ForAccounts::split(proof) {
        Ok((Some(accounts), proof)) => {
            fields.put("for_accounts", true);
            fields.put("receives", accounts.receives);
            fields.put("open_number", accounts.open_number);
            proof
        }
        _ => proof,
    };
    match PaymentProof::parse(proof) {
        Ok(PaymentProof::Lightning(LightningProof::Packed(bytes))) => {
            fields.put("method", "lightning");
            match PackedProof::parse(bytes) {
                Ok(packed) => {
                    fields.put("issuer_hint", hex::encode(packed.issuer().0));
                    fields.put("preimage", hex::encode(packed.preimage()));
                }
                Err(e) => fields.put("error", e.to_string()),
            }
        }
        Ok(PaymentProof::Lightning(LightningProof::Text { invoice, preimage, .. })) => {
            fields.put("method", "lightning");
            fields.put("invoice", invoice);
            fields.put("preimage", hex::encode(preimage));
        }
        Ok(PaymentProof::InstantSettlement(p)) => {
            fields.put("method", "covenant");
            fields.put("output_index", p.output_index);
            fields.put("template", hex::encode(p.template));
            fields.put("funding", hex::encode(p.funding));
            // As blocks are usually written.
            let shown: Vec<u8> = p.block_hash.iter().rev().copied().collect();
            fields.put("block_hash", hex::encode(shown));
            fields.put("position", p.position);
            fields.put("siblings", hex::encode(p.siblings));
        }
        Err(e) => fields.put("error", e.to_string()),
    }
    fields.put("raw", hex::encode(proof));
    Value::Object(fields.0)
}

fn priced(hops: &[Hop]) -> Vec<Value> {
    let hop = |h: &Hop| json!({"node": h.node.to_string(), "tariff": tariff(&h.tariff)});
    hops.iter().map(hop).collect()
}

fn tariff(t: &Tariff) -> Value {
    json!({"base_msat": t.base_msat, "per_kib_msat": t.per_kib_msat})
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.into(), value.into());
    }

    /// What is accepted as payment, where the packet collects it; `issuers` is null for any.
    fn accepted(&mut self, accepted: &Option<Accepted>) {
        let Some(told) = accepted else { return };
        let Accepted { min_confirmations, issuers } = told;
        let names = |issuers: &Issuers| {
            let others = issuers.iter().filter(|id| **id != FOR_ACCOUNTS);
            others.map(hex::encode).collect::<Vec<_>>()
        };
        let (issuers, accounts) = (issuers.as_ref().map(names), told.for_accounts());
        let covenants = (*min_confirmations > 0).then_some(min_confirmations);
        let accepted =
            json!({"min_confirmations": covenants, "issuers": issuers, "accounts": accounts});
        self.put("accepted", accepted);
    }

    fn ends(&mut self, source: &NodeId, destination: &NodeId) {
        self.put("source", source.to_string());
        self.put("destination", destination.to_string());
    }
}

fn write_fields(text: &mut String, depth: usize, fields: &Map<String, Value>) {
    let indent = "  ".repeat(depth);
    for (name, value) in fields {
        match value {
            Value::Object(inner) => {
                text.push_str(&format!("{indent}{name}:\n"));
                write_fields(text, depth + 1, inner);
            }
            Value::Array(items) => {
                text.push_str(&format!("{indent}{name}: {}\n", items.len()));
                for item in items {
                    let item = match item {
                        Value::String(item) => item.clone(),
                        other => other.to_string(),
                    };
                    text.push_str(&format!("{indent}  {item}\n"));
                }
            }
            Value::String(value) => text.push_str(&format!("{indent}{name}: {value}\n")),
            other => text.push_str(&format!("{indent}{name}: {other}\n")),
        }
    }
}
