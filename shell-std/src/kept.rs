//! What an operator changes while the node runs, and what is kept of it over restarts: peers, bans,
//! trust and prices. They come on top of the configuration.

use crate::address::PeerAddress;
use crate::config::Settings;
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::fee::Tariff;
use secp256k1::PublicKey;
use std::collections::{BTreeMap, BTreeSet};

/// Most peers that are added at run time.
pub const MOST_PEERS: usize = 1_024;
/// Most nodes that are banned.
pub const MOST_BANS: usize = 65_536;

/// Most neighbours that are trusted besides peers.
pub const MOST_TRUSTED: usize = 1_024;

/// Prices that were set at run time, in millisatoshi; `None`: what the configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PricesSet {
    /// Price of a payment for relaying.
    pub base_msat: Option<u32>,
    /// Price of each started KiB of it.
    pub per_kib_msat: Option<u32>,
    /// Price of a payment for bytes of flows that end here.
    pub receive_base_msat: Option<u32>,
    /// Price of each started KiB of them.
    pub receive_per_kib_msat: Option<u32>,
}

impl PricesSet {
    /// Each with the key of the configuration that it takes the place of.
    pub fn by_key(&self) -> [(&'static str, Option<u32>); 4] {
        [
            ("tariff.base_msat", self.base_msat),
            ("tariff.per_kib_msat", self.per_kib_msat),
            ("tariff.receive_base_msat", self.receive_base_msat),
            ("tariff.receive_per_kib_msat", self.receive_per_kib_msat),
        ]
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and where one is not given what was set before.
    #[must_use]
    pub fn or(self, before: Self) -> Self {
        Self {
            base_msat: self.base_msat.or(before.base_msat),
            per_kib_msat: self.per_kib_msat.or(before.per_kib_msat),
            receive_base_msat: self.receive_base_msat.or(before.receive_base_msat),
            receive_per_kib_msat: self.receive_per_kib_msat.or(before.receive_per_kib_msat),
        }
    }
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Peers that were added. At most [`MOST_PEERS`].
    pub peers: BTreeMap<PublicKey, PeerAddress>,
    /// Nodes that get no link, with the time until then in seconds since 1970; `None`: for ever.
    /// At most [`MOST_BANS`].
    pub bans: BTreeMap<NodeId, Option<u64>>,
    /// Prices.
    pub prices: PricesSet,
    /// Strangers that relay what this node pays for. At most [`MOST_TRUSTED`].
    pub trusted: BTreeSet<NodeId>,
}

impl Kept {
    /// Puts it on top of what is configured. A peer that is configured too is reached where the
    /// configuration says.
    pub fn put_over(&self, settings: &mut Settings) {
        for peer in self.peers.values() {
            if !settings.peers.iter().any(|other| other.public_key == peer.public_key) {
                settings.peers.push(peer.clone());
            }
        }
        settings.banned.clone_from(&self.bans);
        settings.config.trusted.clone_from(&self.trusted);
        let put = |price: &mut Tariff, base: Option<u32>, per_kib: Option<u32>| {
            price.base_msat = base.unwrap_or(price.base_msat);
            price.per_kib_msat = per_kib.unwrap_or(price.per_kib_msat);
        };
        let PricesSet { base_msat, per_kib_msat, .. } = self.prices;
        put(&mut settings.config.payment.tariff, base_msat, per_kib_msat);
        let PricesSet { receive_base_msat, receive_per_kib_msat, .. } = self.prices;
        put(&mut settings.config.flows.receive, receive_base_msat, receive_per_kib_msat);
    }
}

/// Where it is kept. Both may block.
pub trait Keep: Send + Sync + 'static {
    /// What was kept.
    ///
    /// # Errors
    /// Why it cannot be read.
    fn kept(&self) -> Result<Kept, String>;

    /// Keeps this, and nothing else, durably.
    ///
    /// # Errors
    /// Why it cannot be written. What is kept then is either this or what was before.
    fn keep(&self, kept: &Kept) -> Result<(), String>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Sources;
    use secp256k1::{Secp256k1, SecretKey};

    #[test]
    fn it_comes_on_top_of_the_configuration() {
        let sources = Sources { home: Some("/nowhere".into()), ..Sources::default() };
        let base = sources.load().unwrap();
        let key = SecretKey::from_byte_array([7; 32]).unwrap().public_key(&Secp256k1::new());
        let peer = |at: &str| format!("{key}@{at}").parse::<PeerAddress>().unwrap();
        let mut kept = Kept::default();
        let over = |kept: &Kept, base: &Settings| {
            let mut settings = base.clone();
            kept.put_over(&mut settings);
            settings
        };
        assert_eq!(over(&kept, &base), base, "nothing is kept");
        kept.peers.insert(key, peer("a:1"));
        kept.bans.insert(NodeId([5; 32]), Some(9));
        kept.trusted.insert(NodeId([6; 32]));
        kept.prices =
            PricesSet { base_msat: Some(3), receive_per_kib_msat: Some(4), ..kept.prices };
        let settings = over(&kept, &base);
        assert_eq!(settings.peers, [peer("a:1")]);
        assert_eq!((&settings.banned, &settings.config.trusted), (&kept.bans, &kept.trusted));
        let tariff = base.config.payment.tariff;
        assert_eq!(settings.config.payment.tariff, Tariff { base_msat: 3, ..tariff });
        let receive = base.config.flows.receive;
        assert_eq!(settings.config.flows.receive, Tariff { per_kib_msat: 4, ..receive });
        // The configuration knows better where a peer is.
        let base = Settings { peers: vec![peer("b:2")], ..base };
        assert_eq!(over(&kept, &base).peers, [peer("b:2")]);
        let set = PricesSet { base_msat: Some(8), ..PricesSet::default() }.or(kept.prices);
        assert_eq!((set.base_msat, set.receive_per_kib_msat), (Some(8), Some(4)));
    }
}
