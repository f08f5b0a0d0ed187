//! Quotes, invoices and proofs.

use super::super::engine::Command;
use super::super::engine::reports::Priced;
use super::paying::shown;
use super::{Issue, Issued, Service};
use crate::covenant::Template;
use crate::rpc::RpcError;
use crate::rpc::types::{
    CovenantCost, HopInvoice, LightningProof, Proof, Quote, RequestHopInvoice, Role, Share,
    WriteInvoice, WrittenInvoice,
};
use blvm_mesh_core::id::{Network, NodeId};
use blvm_mesh_core::payment::bolt11::{Invoice, TERMS_PREFIX};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::packed::{self, IssuerHint, PackError};
use blvm_mesh_core::payment::proof::{INSTANT_SETTLEMENT, LIGHTNING};
use blvm_mesh_core::payment::terms::Terms;
use blvm_mesh_core::policy::mode::MeshMode;
use blvm_mesh_core::wire::datagram::head_len;
use secp256k1::Secp256k1;
use std::sync::Arc;

/// Time until an invoice expires where the request names none, in seconds.
const EXPIRY: u64 = 3600;

/// Room for a packed Lightning proof: an invoice has at most 7089 characters
/// (BOLT 11, QR codes), and most are a twentieth of that.
const MOST_PROOF: usize = 8192;

/// Typical size of a packed Lightning proof, in bytes.
const USUAL_PROOF: usize = 200;
/// Lowest fee rate that is mined and relayed, in satoshi per 1,000 virtual bytes.
const FEE_RATE: u64 = 1_000;

impl Service {
    pub(super) async fn quote(&self, destination: NodeId, bytes: u64) -> Result<Quote, RpcError> {
        self.ensure_accepted(destination).await?;
        let network = self.node.settings().config.network;
        let source = self.node.id();
        let Some(priced) = self.node.ask(|who| Command::Quote(destination, bytes, who)).await?
        else {
            return Err(self.no_paid_route(destination).await);
        };
        let Priced { quote, prices_msat, last_price_msat, next, min_packet, accepts, .. } = priced;
        let most_bytes = most_bytes(priced.hops.len(), min_packet);
        if bytes > most_bytes {
            let packets = bytes.div_ceil(most_bytes.max(1));
            return Err(RpcError::refused(format!(
                "the size is too large for this route: one packet carries {most_bytes} bytes of \
                 data beside a proof of payment (its largest packet has {min_packet} bytes); send \
                 {bytes} bytes in {packets} packets or more, each with a payment of its own"
            )));
        }
        let Some(quote) = quote else {
            return Err(RpcError::refused("no amount pays every node on the route"));
        };
        self.quoted.note(&quote.terms_hash, destination, bytes, &quote.hops);
        let current = self.node.current();
        let payment = &current.config.payment;
        let own: Vec<_> = payment.issuers.iter().map(|key| key.serialize()).collect();
        let checks = self.node.settings().config.mode != MeshMode::Open;
        let share = |node, role, price_msat, party| Share {
            node,
            role,
            price_msat,
            share_msat: quote.shares.get(party),
            issuers: match role {
                Role::Source => checks.then(|| own.clone()),
                _ if node == next.0 => next.1.clone(),
                _ => None,
            },
        };
        let mut shares = vec![share(source.hop(), Role::Source, 0, Party::Source)];
        for (place, (hop, price)) in (0..=u8::MAX).zip(quote.hops.iter().zip(prices_msat)) {
            shares.push(share(*hop, Role::Intermediate, price, Party::Intermediate(place)));
        }
        let party = Party::Destination;
        shares.push(share(destination.hop(), Role::Destination, last_price_msat, party));
        let per_hop = shown(self.price_per_hop(destination, bytes).await?);
        let mut quote = Quote {
            source,
            destination,
            hops: quote.hops.to_vec(),
            network,
            bytes,
            amount_msat: quote.amount_msat,
            terms_hash: quote.terms_hash,
            description: String::from_utf8_lossy(TERMS_PREFIX).into_owned()
                + &hex::encode(quote.terms_hash),
            shares,
            min_packet: quote.min_packet,
            most_bytes,
            covenant: None,
            accepts,
            per_hop,
        };
        // Known to be accepted by all, or not known.
        let covenants = match &quote.accepts {
            Some(accepts) => accepts.min_confirmations.map(u32::from),
            None => Some(0),
        };
        if let (Some(told), Network::Signet | Network::Regtest) = (covenants, network) {
            let min_confirmations = payment.min_confirmations.max(told);
            let fund_sat = Template::least_sat(&quote, FEE_RATE);
            quote.covenant = fund_sat.map(|fund_sat| CovenantCost { fund_sat, min_confirmations });
        }
        Ok(quote)
    }

    pub(super) async fn hop_invoice(
        &self,
        request: RequestHopInvoice,
    ) -> Result<HopInvoice, RpcError> {
        if let Some(hop) = &request.hop {
            return self.invoice_of_hop(&request, hop).await;
        }
        let quote = self.quote(request.destination.0, request.bytes).await?;
        let Some(issuer) = self.issuer.clone() else {
            return Err(RpcError::refused(format!(
                "this node signs no invoices. Have an issuer that the route accepts write one \
                 for {} msat with description hash {} or description \"{}\", and pay it",
                quote.amount_msat,
                hex::encode(quote.terms_hash),
                quote.description
            )));
        };
        let amount = request.amount_msat.unwrap_or(quote.amount_msat);
        if amount < quote.amount_msat {
            return Err(RpcError::refused(format!(
                "{amount} msat are too few, the route asks for {} msat",
                quote.amount_msat
            )));
        }
        let expiry = request.expiry_s.unwrap_or(EXPIRY);
        let issued = self.issue_for_datagram(issuer, quote.terms_hash, amount, expiry).await?;
        Ok(HopInvoice {
            invoice: issued.invoice,
            preimage: issued.preimage,
            payment_hash: issued.payment_hash,
            issuer: issued.issuer.serialize(),
            expires_at: issued.expires_at,
            quote: Some(quote),
            purchase: None,
        })
    }

    /// Has an invoice written for what another node has quoted.
    pub(super) async fn write_invoice(
        &self,
        request: WriteInvoice,
    ) -> Result<WrittenInvoice, RpcError> {
        let Some(issuer) = self.issuer.clone() else {
            return Err(RpcError::refused(
                "this node has no Lightning node (lightning.backend) to write invoices",
            ));
        };
        let WriteInvoice { terms_hash, amount_msat, expiry_s } = request;
        let expiry = expiry_s.unwrap_or(EXPIRY);
        if amount_msat == 0 || expiry == 0 {
            return Err(RpcError::refused("an invoice needs an amount and time to be paid in"));
        }
        let issued = self.issue_for_datagram(issuer, terms_hash, amount_msat, expiry).await?;
        Ok(WrittenInvoice {
            invoice: issued.invoice,
            payment_hash: issued.payment_hash,
            issuer: issued.issuer.serialize(),
            expires_at: issued.expires_at,
        })
    }

    /// When this returns, the invoice counts here, over a restart too.
    async fn issue_for_datagram(
        &self,
        issuer: Arc<dyn Issue>,
        terms_hash: [u8; 32],
        amount_msat: u64,
        expiry_s: u64,
    ) -> Result<Issued, RpcError> {
        let issue = move || issuer.issue_for_datagram(terms_hash, amount_msat, expiry_s);
        let issued = smol::unblock(issue).await.map_err(RpcError::refused)?;
        let (hash, expires_at) = (issued.payment_hash, issued.expires_at);
        self.node.ask(|done| Command::InvoiceAsked(hash, expires_at, done)).await?;
        Ok(issued)
    }

    /// The proof as a packet carries it. With `unchecked`, errors in it are left to the nodes on
    /// the route.
    pub(super) async fn encode_proof(
        &self,
        destination: NodeId,
        bytes: usize,
        proof: &Proof,
        unchecked: bool,
    ) -> Result<Vec<u8>, RpcError> {
        let mut out = vec![0; MOST_PROOF];
        let (kind, len) = match proof {
            Proof::Covenant(proof) => {
                let mut out = vec![INSTANT_SETTLEMENT];
                out.extend(&proof.covenant);
                return Ok(out);
            }
            Proof::Lightning(proof) => {
                let terms_hash = self.terms_hash(destination, bytes as u64).await?;
                let room = out.get_mut(1..).unwrap_or_default();
                let hint = issuer_hint(&proof.invoice)?;
                let packed = match terms_hash {
                    Some(hash) => packed::pack(&proof.invoice, &proof.preimage, &hash, hint, room),
                    None => Err(PackError::OtherTerms),
                };
                if let (Err(PackError::OtherTerms), false) = (&packed, unchecked) {
                    let hops = self.route(destination).await?.map(|route| route.hops);
                    let hops = hops.unwrap_or_default();
                    let text = self.quoted.explain(&proof.invoice, destination, bytes, &hops);
                    return Err(RpcError::refused(text));
                }
                // A proof that commits to something else can be sent as well; it is refused where
                // it is checked.
                let packed = match packed {
                    Err(PackError::OtherTerms | PackError::PreimageMismatch) => {
                        packed::pack_whole(&proof.invoice, &proof.preimage, hint, room)
                    }
                    packed => packed,
                };
                (LIGHTNING, packed.map_err(|e| RpcError::refused(format!("the proof: {e}")))?)
            }
        };
        if let Some(first) = out.first_mut() {
            *first = kind;
        }
        out.truncate(1 + len);
        Ok(out)
    }

    /// An invoice and its preimage as a proof for these terms; `None` if it is for others.
    pub(super) fn pack(
        proof: &LightningProof,
        terms_hash: &[u8; 32],
    ) -> Result<Option<Vec<u8>>, RpcError> {
        let (mut out, hint) = (vec![LIGHTNING; MOST_PROOF], issuer_hint(&proof.invoice)?);
        let room = out.get_mut(1..).unwrap_or_default();
        match packed::pack(&proof.invoice, &proof.preimage, terms_hash, hint, room) {
            Ok(len) => out.truncate(1 + len),
            Err(PackError::OtherTerms) => return Ok(None),
            Err(e) => return Err(RpcError::refused(format!("the proof: {e}"))),
        }
        Ok(Some(out))
    }

    /// Hash of the terms for sending so much by the route known now.
    async fn terms_hash(
        &self,
        destination: NodeId,
        bytes: u64,
    ) -> Result<Option<[u8; 32]>, RpcError> {
        self.ensure_paid_route(destination).await?;
        let (source, network) = (self.node.id(), self.node.settings().config.network);
        let route = self.route(destination).await?;
        Ok(route.map(|route| {
            let hops = &route.hops;
            Terms { network, source, destination, hops, quota: bytes }.hash()
        }))
    }

    /// Searches for a route and for what it accepts, if either is not known. A route that gave no
    /// answer is still a route.
    pub(super) async fn ensure_accepted(&self, destination: NodeId) -> Result<(), RpcError> {
        let known = self.node.ask(|who| Command::Accepts(destination, who)).await?;
        if known.is_some()
            || self.node.find_accepted(destination).await?
            || self.route(destination).await?.is_some()
        {
            return Ok(());
        }
        Err(RpcError::no_route(destination))
    }
}

/// Largest payload on a route of so many hops beside a Lightning proof, in bytes.
fn most_bytes(hops: usize, min_packet: u32) -> u64 {
    u64::from(min_packet).saturating_sub(head_len(hops, USUAL_PROOF) as u64)
}

/// Who signed it: the key recovered from the invoice's signature.
fn issuer_hint(invoice: &str) -> Result<IssuerHint, RpcError> {
    let wrong = |e: &dyn std::fmt::Display| RpcError::refused(format!("the invoice: {e}"));
    let invoice = Invoice::from_text(invoice).map_err(|e| wrong(&e))?;
    let secp = Secp256k1::verification_only();
    let key = invoice.recover_payee(&secp).map_err(|e| wrong(&e))?;
    Ok(IssuerHint::of(&key))
}
