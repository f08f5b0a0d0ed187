//! The commands, registers and numbers of the chip, as its datasheet has them (Semtech, SX1261/2
//! datasheet DS.SX1261-2.W.APP, revision 2.1; sections are named), and what RNode's firmware sets them
//! to (`sx126x.cpp` in markqvist/RNode_Firmware).

use blvm_mesh_core::link::channel::lora::Modem;

/// Codes of commands (11.2).
pub(super) mod op {
    pub(in super::super) const CLEAR_IRQ_STATUS: u8 = 0x02;
    pub(in super::super) const CLEAR_DEVICE_ERRORS: u8 = 0x07;
    pub(in super::super) const SET_DIO_IRQ_PARAMS: u8 = 0x08;
    pub(in super::super) const WRITE_REGISTER: u8 = 0x0d;
    pub(in super::super) const WRITE_BUFFER: u8 = 0x0e;
    pub(in super::super) const GET_IRQ_STATUS: u8 = 0x12;
    pub(in super::super) const GET_RX_BUFFER_STATUS: u8 = 0x13;
    pub(in super::super) const GET_PACKET_STATUS: u8 = 0x14;
    pub(in super::super) const GET_RSSI_INST: u8 = 0x15;
    pub(in super::super) const GET_DEVICE_ERRORS: u8 = 0x17;
    pub(in super::super) const READ_REGISTER: u8 = 0x1d;
    pub(in super::super) const READ_BUFFER: u8 = 0x1e;
    pub(in super::super) const SET_STANDBY: u8 = 0x80;
    pub(in super::super) const SET_RX: u8 = 0x82;
    pub(in super::super) const SET_TX: u8 = 0x83;
    pub(in super::super) const SET_RF_FREQUENCY: u8 = 0x86;
    pub(in super::super) const CALIBRATE: u8 = 0x89;
    pub(in super::super) const SET_PACKET_TYPE: u8 = 0x8a;
    pub(in super::super) const SET_MODULATION_PARAMS: u8 = 0x8b;
    pub(in super::super) const SET_PACKET_PARAMS: u8 = 0x8c;
    pub(in super::super) const SET_TX_PARAMS: u8 = 0x8e;
    pub(in super::super) const SET_BUFFER_BASE_ADDRESS: u8 = 0x8f;
    pub(in super::super) const SET_RX_TX_FALLBACK_MODE: u8 = 0x93;
    pub(in super::super) const SET_PA_CONFIG: u8 = 0x95;
    pub(in super::super) const SET_REGULATOR_MODE: u8 = 0x96;
    pub(in super::super) const SET_DIO3_AS_TCXO_CTRL: u8 = 0x97;
    pub(in super::super) const CALIBRATE_IMAGE: u8 = 0x98;
    pub(in super::super) const SET_DIO2_AS_RF_SWITCH: u8 = 0x9d;
    pub(in super::super) const GET_STATUS: u8 = 0xc0;
}

/// Addresses of registers (12.1, and 15 for what the limitations of the chip ask for).
pub(super) mod register {
    pub(in super::super) const IQ_POLARITY: u16 = 0x0736;
    pub(in super::super) const SYNC_WORD: u16 = 0x0740;
    pub(in super::super) const TX_MODULATION: u16 = 0x0889;
    pub(in super::super) const RX_GAIN: u16 = 0x08ac;
    pub(in super::super) const TX_CLAMP: u16 = 0x08d8;
}

/// Bits of the interrupt register (13.3.1).
pub(super) mod irq {
    pub(in super::super) const TX_DONE: u16 = 1 << 0;
    pub(in super::super) const RX_DONE: u16 = 1 << 1;
    pub(in super::super) const PREAMBLE: u16 = 1 << 2;
    pub(in super::super) const HEADER_VALID: u16 = 1 << 4;
    pub(in super::super) const HEADER_ERROR: u16 = 1 << 5;
    pub(in super::super) const CRC_ERROR: u16 = 1 << 6;
    pub(in super::super) const TIMEOUT: u16 = 1 << 9;
    /// All of them.
    pub(in super::super) const ALL: u16 =
        TX_DONE | RX_DONE | PREAMBLE | HEADER_VALID | HEADER_ERROR | CRC_ERROR | TIMEOUT;
}

/// Modes in bits 6 to 4 of the status (13.5.1).
pub(super) const MODE_RX: u8 = 5;
pub(super) const MODE_TX: u8 = 6;

/// The sync word of private networks: RNode's, and that of MeshCore.
pub(super) const SYNC_WORD: [u8; 2] = [0x14, 0x24];
/// RxGain for the most sensitivity (9.6).
pub(super) const BOOSTED: u8 = 0x96;
/// Oscillator of the modes of standby.
pub(super) const STANDBY_RC: u8 = 0;
pub(super) const STANDBY_XOSC: u8 = 1;
/// Standby with the crystal after a frame, so that it is listened again at once.
pub(super) const FALLBACK_XOSC: u8 = 0x30;
/// A supply of 1.8 V for the oscillator, and 10 ms in steps of 15.625 us until it runs (13.3.6).
pub(super) const TCXO_1V8: [u8; 4] = [0x02, 0, 0x02, 0x80];
/// All blocks are calibrated (13.1.12).
pub(super) const ALL_BLOCKS: u8 = 0x7f;
/// The amplifier of an SX1262 at its full range (13.1.14).
pub(super) const PA_CONFIG: [u8; 4] = [0x04, 0x07, 0x00, 0x01];
/// Ramp of 200 us (13.4.4).
pub(super) const RAMP: u8 = 0x04;
/// Continuous reception (13.1.5).
pub(super) const CONTINUOUS: [u8; 3] = [0xff; 3];

/// The chip's number of a frequency in hertz (13.4.1).
pub(super) fn frequency(hz: u32) -> [u8; 4] {
    let steps = (u64::from(hz) << 25) / 32_000_000;
    (steps as u32).to_be_bytes()
}

/// The band that is calibrated against images (9.2.1), for a frequency in hertz.
pub(super) fn image_band(hz: u32) -> [u8; 2] {
    match hz {
        900_000_000.. => [0xe1, 0xe9],
        850_000_000.. => [0xd7, 0xdb],
        770_000_000.. => [0xc1, 0xc5],
        460_000_000.. => [0x75, 0x81],
        _ => [0x6b, 0x6f],
    }
}

/// What SetModulationParams has for a modem (13.4.5).
pub(super) fn modulation(modem: &Modem) -> [u8; 4] {
    let bandwidth = match modem.bandwidth {
        7_800 => 0x00,
        10_400 => 0x08,
        15_600 => 0x01,
        20_800 => 0x09,
        31_250 => 0x02,
        41_700 => 0x0a,
        62_500 => 0x03,
        125_000 => 0x04,
        250_000 => 0x05,
        _ => 0x06,
    };
    [modem.spreading as u8, bandwidth, modem.coding as u8, low_data_rate(modem).into()]
}

/// Whether low data rate optimisation is on: as RNode's firmware decides it, in whole kilohertz and
/// milliseconds (`handleLowDataRate`), since both ends must have the same.
pub(super) fn low_data_rate(modem: &Modem) -> bool {
    (1u32 << modem.spreading.min(12)) / (modem.bandwidth / 1_000).max(1) > 16
}

/// What SetPacketParams has for a frame of so many bytes: explicit header, CRC, IQ as it is (13.4.6).
pub(super) fn packet(modem: &Modem, len: u8) -> [u8; 6] {
    let [high, low] = (modem.preamble as u16).to_be_bytes();
    [high, low, 0x00, len, 0x01, 0x00]
}

/// A time in microseconds in the chip's steps of 15.625 us, for SetTx.
pub(super) fn timeout(time: u64) -> [u8; 3] {
    let steps = (time.saturating_mul(64) / 1_000).clamp(1, 0xff_fffe) as u32;
    let [_, a, b, c] = steps.to_be_bytes();
    [a, b, c]
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::link::channel::lora::BANDWIDTHS_HZ;
    use std::vec::Vec;

    #[test]
    fn numbers_of_the_datasheet() {
        // 13.4.1: f = steps * 32 MHz / 2^25.
        assert_eq!(frequency(868_000_000), [0x36, 0x40, 0x00, 0x00]);
        assert_eq!(frequency(915_000_000), [0x39, 0x30, 0x00, 0x00]);
        // 15.625 us, a second, and no more than the longest.
        assert_eq!((timeout(15), timeout(16)), ([0, 0, 1], [0, 0, 1]));
        assert_eq!(timeout(1_000_000), [0x00, 0xfa, 0x00]);
        assert_eq!(timeout(u64::MAX), [0xff, 0xff, 0xfe]);
        // Table 9-2.
        let bands = [433_000_000, 470_000_000, 780_000_000, 868_000_000, 915_000_000];
        let codes = bands.map(|hz| image_band(hz)[0]);
        assert_eq!(codes, [0x6b, 0x75, 0xc1, 0xd7, 0xe1]);
    }

    #[test]
    fn low_data_rate_is_where_rnode_has_it() {
        let on =
            |spreading, bandwidth| low_data_rate(&Modem { spreading, bandwidth, ..Modem::SHORT });
        // A symbol of 16.384 ms counts as 16, as docs/RADIO.md says of them.
        assert!(!on(11, 125_000) && !on(12, 250_000) && !on(10, 62_500) && !on(9, 31_250));
        assert!(on(12, 125_000) && on(11, 62_500) && on(10, 31_250) && on(7, 7_800));
        let codes: Vec<u8> = BANDWIDTHS_HZ
            .map(|bandwidth| modulation(&Modem { bandwidth, ..Modem::SHORT })[1])
            .into();
        assert_eq!(codes, [0, 8, 1, 9, 2, 10, 3, 4, 5, 6]);
    }
}
