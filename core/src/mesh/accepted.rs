//! Which payments a route accepts: what this node adds to a search for it.

use super::Mesh;
use crate::config::MeshMode;
use crate::tables::Memory;
#[cfg(feature = "alloc")]
use crate::wire::accepted::FOR_ACCOUNTS;
use crate::wire::accepted::{Accepted, Issuers, issuer_id};

#[cfg(feature = "alloc")]
mod told;
#[cfg(feature = "alloc")]
pub(super) use told::Told;

impl<M: Memory> Mesh<M> {
    fn own_issuers(&self) -> Issuers {
        #[allow(unused_mut)]
        let mut issuers: Issuers = self.config.payment.issuers.iter().map(issuer_id).collect();
        // Where there are as many as fit, nobody learns it. Boards take none.
        #[cfg(feature = "alloc")]
        let _ = issuers.push(FOR_ACCOUNTS);
        issuers
    }

    /// Payments that this node accepts for what it carries.
    #[inline(never)]
    pub(super) fn own_accepted(&self) -> Accepted {
        let rules = &self.config.payment;
        match self.config.mode {
            MeshMode::Open => Accepted::ANY,
            MeshMode::BitcoinOnly => Accepted::NOTHING,
            MeshMode::PaymentGated => Accepted {
                min_confirmations: match rules.covenants_active && !rules.payout_script.is_empty() {
                    true => rules.min_confirmations.clamp(1, u8::MAX.into()) as u8,
                    false => 0,
                },
                issuers: Some(self.own_issuers()),
            },
        }
    }
}
