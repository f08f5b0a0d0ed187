//! The configuration of a board as it lies in its flash.

use blvm_mesh_core::board::radio::RadioConfig;
use blvm_mesh_core::board::{BoardConfig, MAX_LEN};

/// What is read is written the same.
pub fn target(data: &[u8]) -> bool {
    let Ok(config) = BoardConfig::read(data) else { return false };
    let mut out = [0; MAX_LEN];
    let len = config.write(&mut out).expect("there is room for any");
    assert_eq!(&out[..len], &data[..len]);
    assert_eq!(config.config().payment.issuers, config.issuers);
    if let Some(Ok(radio)) = config.radio.as_ref().map(RadioConfig::read) {
        assert_eq!(Some(radio.bytes()), config.radio);
        radio.suit(&mut config.config());
    }
    true
}
