//! What an operator has changed at run time.
//!
//! | table | key | value |
//! |---|---|---|
//! | `peers` | compressed public key | address |
//! | `bans` | node | until when, in seconds since 1970; 0: for ever |
//! | `trusted` | node | nothing |
//! | `prices` | key of the configuration | msat |

use super::Store;
use crate::address::PeerAddress;
use crate::kept::{Keep, Kept, MOST_BANS, MOST_PEERS, MOST_TRUSTED, PricesSet};
use blvm_mesh_core::id::NodeId;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

const PEERS: TableDefinition<'_, [u8; 33], &str> = TableDefinition::new("peers");
const BANS: TableDefinition<'_, [u8; 32], u64> = TableDefinition::new("bans");
const TRUSTED: TableDefinition<'_, [u8; 32], ()> = TableDefinition::new("trusted");
const PRICES: TableDefinition<'_, &str, u32> = TableDefinition::new("prices");

/// Makes the tables where they are not there.
pub(super) fn prepare(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(PEERS)?;
    tx.open_table(BANS)?;
    tx.open_table(TRUSTED)?;
    tx.open_table(PRICES)?;
    Ok(())
}

impl Keep for Store {
    fn kept(&self) -> Result<Kept, String> {
        let read = self.read(|tx| {
            let mut addresses = Vec::new();
            for row in tx.open_table(PEERS)?.iter()?.take(MOST_PEERS) {
                addresses.push(row?.1.value().to_owned());
            }
            let mut kept = Kept::default();
            for row in tx.open_table(BANS)?.iter()?.take(MOST_BANS) {
                let (node, until) = row?;
                let until = Some(until.value()).filter(|until| *until > 0);
                kept.bans.insert(NodeId(node.value()), until);
            }
            for row in tx.open_table(TRUSTED)?.iter()?.take(MOST_TRUSTED) {
                kept.trusted.insert(NodeId(row?.0.value()));
            }
            let prices = tx.open_table(PRICES)?;
            let price = |key| Ok::<_, redb::Error>(prices.get(key)?.map(|v| v.value()));
            kept.prices = PricesSet {
                base_msat: price("tariff.base_msat")?,
                per_kib_msat: price("tariff.per_kib_msat")?,
                receive_base_msat: price("tariff.receive_base_msat")?,
                receive_per_kib_msat: price("tariff.receive_per_kib_msat")?,
            };
            Ok((kept, addresses))
        });
        let (mut kept, addresses) = read.map_err(|e| e.to_string())?;
        for text in addresses {
            let peer: PeerAddress = text.parse().map_err(|e| format!("{text}: {e}"))?;
            kept.peers.insert(peer.public_key, peer);
        }
        Ok(kept)
    }

    fn keep(&self, kept: &Kept) -> Result<(), String> {
        let written = self.write_again(|tx| {
            let mut peers = tx.open_table(PEERS)?;
            peers.retain(|_, _| false)?;
            for (key, peer) in &kept.peers {
                peers.insert(key.serialize(), peer.to_string().as_str())?;
            }
            let mut bans = tx.open_table(BANS)?;
            bans.retain(|_, _| false)?;
            for (node, until) in &kept.bans {
                bans.insert(node.0, until.unwrap_or(0))?;
            }
            let mut trusted = tx.open_table(TRUSTED)?;
            trusted.retain(|_, ()| false)?;
            for node in &kept.trusted {
                trusted.insert(node.0, ())?;
            }
            let mut prices = tx.open_table(PRICES)?;
            prices.retain(|_, _| false)?;
            for (key, price) in kept.prices.by_key() {
                if let Some(price) = price {
                    prices.insert(key, price)?;
                }
            }
            Ok(())
        });
        written.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::STORE_FILE;
    use super::super::tests::CACHE;
    use super::*;
    use secp256k1::{Secp256k1, SecretKey};

    #[test]
    fn what_was_changed_is_there_after_a_restart_and_what_was_taken_back_is_not() {
        // One as every version has written it, and several.
        const PLACES: [&str; 3] = ["host1:1", "[::1]:2", "10.0.0.3:3/host3:3"];
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join(STORE_FILE), CACHE).unwrap();
        assert_eq!(open().kept().unwrap(), Kept::default());
        let mut kept = Kept::default();
        for n in 1..4 {
            let key = SecretKey::from_byte_array([n; 32]).unwrap().public_key(&Secp256k1::new());
            kept.peers.insert(key, format!("{key}@{}", PLACES[n as usize - 1]).parse().unwrap());
            kept.trusted.insert(NodeId([n; 32]));
            kept.bans.insert(NodeId([n; 32]), (n > 1).then_some(u64::from(n)));
        }
        kept.prices = PricesSet {
            base_msat: Some(0),
            per_kib_msat: None,
            receive_base_msat: Some(u32::MAX),
            receive_per_kib_msat: Some(7),
        };
        open().keep(&kept).unwrap();
        assert_eq!(open().kept().unwrap(), kept);
        kept.peers.pop_first();
        kept.bans.pop_last();
        kept.trusted.pop_first();
        kept.prices = PricesSet::default();
        open().keep(&kept).unwrap();
        assert_eq!(open().kept().unwrap(), kept);
    }
}
