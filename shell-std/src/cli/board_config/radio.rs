//! A board's radio channel, within the law of a region.

use super::super::Failure;
use super::kind::Kind;
use crate::address::RadioSettings;
use crate::radio::{ChannelKey, Dialect, Region};
use blvm_mesh_core::board::radio::{FREQUENCIES_HZ, POWERS_DBM, RadioConfig};
use blvm_mesh_core::id::Network;

/// The channel of a board with these settings; none for a board without a radio.
pub(super) fn of(
    board: Option<Kind>,
    settings: Option<&RadioSettings>,
    network: Network,
) -> Result<Option<RadioConfig>, Failure> {
    let Some(settings) = settings else {
        return match board {
            Some(board) if board.has_radio() => Err(Failure(format!(
                "{board} has a radio: add --radio region=EU868, or another of {}",
                Region::ALL.map(|region| region.to_string()).join(", ")
            ))),
            _ => Ok(None),
        };
    };
    if let Some(board) = board.filter(|board| !board.has_radio()) {
        return Err(Failure(format!("{board} has no radio: leave --radio out")));
    }
    let RadioSettings { region, parameters, duty_permille, key_file, .. } = settings;
    let most = *POWERS_DBM.end();
    let power_dbm = i8::try_from(parameters.power_dbm).ok().filter(|power| *power <= most);
    let Some(power_dbm) = power_dbm else {
        return Err(Failure(format!(
            "power={}: the chip sends up to {most} dBm",
            parameters.power_dbm
        )));
    };
    if !FREQUENCIES_HZ.contains(&parameters.frequency_hz) {
        return Err(Failure(format!(
            "frequency={}: the chip takes from {} to {} Hz",
            parameters.frequency_hz,
            FREQUENCIES_HZ.start(),
            FREQUENCIES_HZ.end()
        )));
    }
    let key = match key_file {
        Some(path) => ChannelKey::of_file(network, path).map_err(|e| Failure(e.to_string()))?,
        None => ChannelKey::public(network),
    };
    let plan = region.plan();
    Ok(Some(RadioConfig {
        key: key.bytes(),
        is_public: key_file.is_none(),
        frequency_hz: parameters.frequency_hz,
        power_dbm,
        // What it sends is what an RNode sends.
        modem: parameters.modem(Dialect::Rnode.preamble(parameters), *duty_permille),
        pause_ms: u16::try_from(plan.pause_ms).unwrap_or(u16::MAX),
        listen_dbm: plan.listen_dbm,
    }))
}

/// The channel as people read it.
pub(super) fn words(radio: &RadioConfig) -> String {
    let RadioConfig { is_public, frequency_hz, power_dbm, modem, .. } = radio;
    let (mhz, khz) = (f64::from(*frequency_hz) / 1e6, f64::from(modem.bandwidth) / 1e3);
    let (spreading, coding) = (modem.spreading, modem.coding + 4);
    let percent = f64::from(modem.duty_permille) / 10.0;
    let key = if *is_public { "the key that everybody knows" } else { "a key of its own" };
    format!(
        "{mhz} MHz, {khz} kHz, SF{spreading}, 4/{coding}, {power_dbm} dBm, {percent} % of the time, {key}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(board: Option<Kind>, settings: Option<&str>) -> Result<Option<RadioConfig>, String> {
        let settings = settings.map(|text| text.parse().unwrap());
        of(board, settings.as_ref(), Network::Regtest).map_err(|failure| failure.0)
    }

    #[test]
    fn a_board_with_a_radio_has_a_channel_that_its_chip_and_the_law_allow() {
        let rak = Some(Kind::Rak4631);
        let fails = |settings| with(rak, settings).unwrap_err();
        assert!(fails(None).contains("add --radio region=EU868, or another of EU868, EU433"));
        assert!(fails(Some("region=US915&power=23")).contains("up to 22 dBm"));
        let low = "region=OTHER&frequency=140000000";
        assert!(fails(Some(low)).contains("from 150000000 to 960000000 Hz"));
        assert!(with(Some(Kind::Mps2), Some("region=EU868")).unwrap_err().contains("no radio"));
        assert_eq!((with(None, None), with(Some(Kind::Nrf52840), None)), (Ok(None), Ok(None)));
        let korea = with(rak, Some("region=KR920")).unwrap().unwrap();
        assert_eq!((korea.pause_ms, korea.listen_dbm), (50, Some(-65)));
        // As an RNode has it: 24 ms, and at least 18 symbols.
        let europe = with(None, Some("region=EU868&sf=8")).unwrap().unwrap();
        assert_eq!((europe.modem.preamble, europe.modem.duty_permille), (24, 100));
        assert_eq!(europe.key, ChannelKey::public(Network::Regtest).bytes());
        let expected = "869.525 MHz, 250 kHz, SF8, 4/5, 17 dBm, 10 % of the time, the key that \
                        everybody knows";
        assert_eq!(words(&europe), expected);
        assert_eq!(RadioConfig::read(&europe.bytes()), Ok(europe));
    }

    #[test]
    fn a_key_of_its_own_is_read_from_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("channel.key");
        crate::private_file::create(&path, b"correct horse battery\n").unwrap();
        let settings = format!("region=EU868&key={}", path.display());
        let channel = with(Some(Kind::Rak4631), Some(&settings)).unwrap().unwrap();
        assert!(!channel.is_public && words(&channel).ends_with("a key of its own"));
        let missing = with(Some(Kind::Rak4631), Some("region=EU868&key=/no/such/file"));
        assert!(missing.is_err());
    }
}
