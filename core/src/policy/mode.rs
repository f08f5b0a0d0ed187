//! The policy engine: protocol and mode give free, paid or refused.

use super::cost::{Class, FreeCost, OwnNetwork};
use super::detect::{self, Classified, Scope};
use super::protocol::DetectedProtocol;
use super::reason::Unrecognised;
use crate::id::Network;
pub use crate::mode::{MeshMode, UnknownMode};

/// What becomes of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RoutingPolicy {
    /// Forwarded without payment, within the free lane's quota.
    Free,
    /// Forwarded with an accepted proof of payment only.
    PaymentRequired,
    /// Not forwarded.
    Refused,
}

/// Settings of a [`RoutingPolicyEngine`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PolicyConfig {
    /// What the node lets through.
    pub mode: MeshMode,
    /// The node's own network, with its magic and the difficulty from which on headers
    /// and blocks may use the whole free allowance.
    pub own: OwnNetwork,
    /// True if only Bitcoin messages of the own network are recognised; false
    /// if those of all five networks are. On regtest work costs nothing, so a
    /// node that does not serve it loses nothing with true.
    pub own_network_only: bool,
    /// True if blvm-node's private TLV also counts as Stratum V2. It has no
    /// structure to check, and so carries anything for free.
    pub private_stratum_tlv: bool,
}

impl PolicyConfig {
    /// The usual settings: messages of any network, no private TLV.
    pub fn new(mode: MeshMode, network: Network) -> Self {
        Self {
            mode,
            own: OwnNetwork::new(network),
            own_network_only: false,
            private_stratum_tlv: false,
        }
    }
}

/// Decides what goes free, pays or is refused. Holds no state: the same bytes
/// always get the same answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoutingPolicyEngine {
    config: PolicyConfig,
}

impl RoutingPolicyEngine {
    /// An engine with these settings.
    pub const fn new(config: PolicyConfig) -> Self {
        Self { config }
    }

    /// The settings.
    pub const fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// Protocol of a payload that stands here in clear.
    pub fn detect_protocol(&self, payload: &[u8]) -> DetectedProtocol {
        self.explain(payload).unwrap_or(DetectedProtocol::Unknown)
    }

    /// As [`detect_protocol`](Self::detect_protocol), with the reason why a
    /// payload is `Unknown` as its error.
    ///
    /// # Errors
    /// [`Unrecognised`]: the first rule that is broken, and its offset.
    pub fn explain(&self, payload: &[u8]) -> Result<DetectedProtocol, Unrecognised> {
        self.classify(payload).map(|found| found.protocol)
    }

    /// As [`explain`](Self::explain), with the classes of the payload's bytes, which
    /// tell what the free lane's allowances are charged where the payload goes free.
    /// In mode open the operator gave the whole allowance to everything: all bytes
    /// are worked.
    ///
    /// # Errors
    /// As [`explain`](Self::explain).
    pub fn classify(&self, payload: &[u8]) -> Result<Classified, Unrecognised> {
        let mut found = self.look(payload)?;
        if self.config.mode == MeshMode::Open {
            found.cost = FreeCost::of(Class::Worked, payload.len());
        }
        Ok(found)
    }

    /// As [`classify`](Self::classify), with `Unknown` in place of a reason.
    pub fn classified(&self, payload: &[u8]) -> Classified {
        self.classify(payload).unwrap_or_else(|_| self.unread(payload.len()))
    }

    /// A payload that is of no known protocol, or is not looked at.
    pub const fn unread(&self, bytes: usize) -> Classified {
        let class = match self.config.mode {
            MeshMode::Open => Class::Worked,
            _ => Class::Plain,
        };
        Classified::of(DetectedProtocol::Unknown, class, bytes)
    }

    fn look(&self, payload: &[u8]) -> Result<Classified, Unrecognised> {
        let scope = Scope {
            own: self.config.own,
            own_network_only: self.config.own_network_only,
            private_stratum_tlv: self.config.private_stratum_tlv,
        };
        detect::classify(payload, scope)
    }

    /// Whether a payload of this protocol goes free, must pay or is refused, by the node's mode.
    pub const fn determine_policy(&self, protocol: DetectedProtocol) -> RoutingPolicy {
        use DetectedProtocol as P;
        match (protocol, self.config.mode) {
            (P::BitcoinP2P, _) | (_, MeshMode::Open) => RoutingPolicy::Free,
            (P::CommonsGovernance | P::StratumV2, MeshMode::PaymentGated) => RoutingPolicy::Free,
            (P::MeshPacket | P::Unknown, MeshMode::PaymentGated) => RoutingPolicy::PaymentRequired,
            (_, MeshMode::BitcoinOnly) => RoutingPolicy::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn the_table_is_that_of_the_design() {
        use DetectedProtocol::*;
        use RoutingPolicy::*;
        let table = [
            (BitcoinP2P, [Free, Free, Free]),
            (CommonsGovernance, [Refused, Free, Free]),
            (StratumV2, [Refused, Free, Free]),
            (MeshPacket, [Refused, PaymentRequired, Free]),
            (Unknown, [Refused, PaymentRequired, Free]),
        ];
        for (protocol, row) in table {
            for (mode, policy) in MeshMode::ALL.into_iter().zip(row) {
                let engine = RoutingPolicyEngine::new(PolicyConfig::new(mode, Network::Signet));
                assert_eq!(engine.determine_policy(protocol), policy, "{protocol:?} {mode}");
            }
        }
    }

    #[test]
    fn modes_are_named_as_in_the_configuration_file() {
        let names = MeshMode::ALL.map(|mode| mode.to_string());
        assert_eq!(names, ["bitcoin_only", "payment_gated", "open"]);
        for mode in MeshMode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for text in ["", "Open", "bitcoin-only", " open"] {
            assert_eq!(text.parse::<MeshMode>(), Err(UnknownMode));
        }
    }
}
