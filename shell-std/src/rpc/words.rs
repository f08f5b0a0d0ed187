//! What the state machine says, in the words of who uses a node.

use crate::date::time;
use blvm_mesh_core::mesh::error::{MeshError, PaymentReason, RoutingReason};
use blvm_mesh_core::payment::lightning::LightningError;
use blvm_mesh_core::payment::replay::ReplayError;

/// Why this node refuses what its own user sends, and what he can do.
pub(crate) fn for_the_sender(reason: &MeshError) -> String {
    use LightningError as L;
    match reason {
        MeshError::PaymentVerificationFailed(PaymentReason::Lightning(L::NoIssuers)) => {
            "your own node has no issuer; restart it with --issuer KEY, or send --unchecked".into()
        }
        MeshError::PaymentVerificationFailed(PaymentReason::Lightning(
            L::UnknownIssuer | L::SelfIssued,
        )) => "your own node does not accept the issuer of this invoice; restart it with --issuer \
               KEY for that one too, or send --unchecked"
            .into(),
        MeshError::PaymentVerificationFailed(PaymentReason::Required) => {
            "payment is required and there is no proof; see `blvm-mesh quote`, or send --unchecked \
             to let the route decide"
                .into()
        }
        MeshError::RoutingError(RoutingReason::NoRoute) => {
            "no route to the destination was found; is it running, and is a neighbour up \
             (`blvm-mesh peers`)?"
                .into()
        }
        MeshError::RoutingError(RoutingReason::TooLargeForHop { size, max }) => format!(
            "the size is too large for this route: the packet has {size} bytes with its header, \
             the route carries {max} bytes at most"
        ),
        MeshError::PaymentVerificationFailed(PaymentReason::Lightning(e)) => with_dates(e),
        MeshError::ReplayDetected(ReplayError::Forgotten { floor }) => {
            format!("payments that expire up to {} are no longer accepted here", time(*floor))
        }
        reason => reason.to_string(),
    }
}

/// Why a Lightning proof is refused, with dates beside the seconds.
pub(crate) fn with_dates(e: &LightningError) -> String {
    match e {
        LightningError::Expired { expires_at, now } => {
            format!("the invoice expired at {}, now is {}", time(*expires_at), time(*now))
        }
        LightningError::NotYetValid { timestamp, now } => {
            format!(
                "the invoice is dated in the future: {}, now is {}",
                time(*timestamp),
                time(*now)
            )
        }
        e => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_sender_can_do_is_said() {
        let said = |e: LightningError| {
            for_the_sender(&MeshError::PaymentVerificationFailed(PaymentReason::Lightning(e)))
        };
        assert_eq!(
            said(LightningError::NoIssuers),
            "your own node has no issuer; restart it with --issuer KEY, or send --unchecked"
        );
        let expired = LightningError::Expired { expires_at: 1_750_000_000, now: 1_750_000_001 };
        assert_eq!(
            said(expired),
            "the invoice expired at 2025-06-15T15:06:40Z (1750000000), now is \
             2025-06-15T15:06:41Z (1750000001)"
        );
        let large = RoutingReason::TooLargeForHop { size: 5_001, max: 5_000 };
        let text = for_the_sender(&MeshError::RoutingError(large));
        assert!(text.contains("5001 bytes") && text.contains("5000 bytes at most"), "{text}");
        assert!(for_the_sender(&RoutingReason::NoRoute.into()).contains("blvm-mesh peers"));
    }
}
