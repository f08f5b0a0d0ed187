//! Counts what is refused by reason, and logs it without flooding the log.

use blvm_mesh_core::mesh::{MeshError, NetworkReason, PaymentReason, RoutingReason};
use std::collections::BTreeMap;

/// A short name for the kind of reason.
pub(crate) fn kind(reason: &MeshError) -> &'static str {
    use NetworkReason as N;
    use PaymentReason as P;
    use RoutingReason as R;
    match reason {
        MeshError::NetworkError(reason) => match reason {
            N::Malformed(_) => "malformed",
            N::TooLarge { .. } => "too-large",
            N::NoHello => "no-hello",
            N::OtherNetwork { .. } => "other-network",
            N::QuotaExceeded => "quota-exceeded",
            N::Congested => "congested",
            N::InboxFull => "inbox-full",
            N::TooManyNeighbours | N::TooManyParked => "no-room",
            _ => "link",
        },
        MeshError::PaymentVerificationFailed(reason) => match reason {
            P::Required => "payment-required",
            P::ModeRefused(_) | P::ModeTakesNone(_) => "mode",
            P::Lightning(_) => "lightning",
            P::Covenant(_) => "covenant",
            P::AmountTooSmall { .. } => "amount",
            P::SourceKey | P::SourceSignature => "source-signature",
            P::NoClock => "no-clock",
            P::StoreFailed => "store",
            _ => "proof",
        },
        MeshError::ReplayDetected(_) => "replay",
        MeshError::RoutingError(reason) => match reason {
            R::NoRoute => "no-route",
            R::NextHopGone => "next-hop-gone",
            R::TooLargeForHop { .. } => "too-large",
            R::Loop | R::Duplicate | R::HopLimit => "loop",
            R::KnownRequest => "known-request",
            R::Stopped(_) => "stopped",
            _ => "route",
        },
    }
}

/// Counts by kind.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    counts: BTreeMap<&'static str, u64>,
    /// Since the last report: how many, and one of the reasons.
    recent: BTreeMap<&'static str, (u64, MeshError)>,
}

impl Refusals {
    /// Counts one, and logs it if it is the first of its kind for a while.
    pub(crate) fn add(&mut self, from: &dyn std::fmt::Display, reason: MeshError) {
        let kind = kind(&reason);
        *self.counts.entry(kind).or_default() += 1;
        // Every flooded request comes by several ways: that is no news.
        if kind == "known-request" {
            return;
        }
        let (count, last) = self.recent.entry(kind).or_insert((0, reason));
        (*count, *last) = (*count + 1, reason);
        if *count == 1 {
            tracing::warn!(kind, %from, "refused: {reason}");
        } else {
            tracing::debug!(kind, %from, "refused: {reason}");
        }
    }

    /// Logs how many more there were since the last report.
    pub(crate) fn report(&mut self) {
        for (kind, (count, reason)) in std::mem::take(&mut self.recent) {
            if count > 1 {
                tracing::warn!(kind, "refused {} more, the last: {reason}", count - 1);
            }
        }
    }

    /// Counts since the start.
    pub(crate) fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }
}
