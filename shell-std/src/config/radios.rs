//! The radios of a node.

use super::ConfigError;
use super::build::value;
use super::keys::Timing as Given;
use crate::address::LoraAddress;
use blvm_mesh_core::config::Timing;
use blvm_mesh_core::link::channel::lora::MAX_FRAME;
use blvm_mesh_core::link::channel::timing_on_air;
use std::path::PathBuf;

/// Most radios of a node.
const MAX_RADIOS: usize = 16;

/// Times that suit radios, where none are given.
pub(super) fn suit(radios: &[LoraAddress], given: &Given, timing: &mut Timing) {
    let frame = |radio: &LoraAddress| {
        let preamble = radio.dialect.preamble(&radio.parameters);
        radio.parameters.modem(preamble, radio.duty_permille).airtime_of_frame(MAX_FRAME)
    };
    let Some(slowest) = radios.iter().map(frame).max() else { return };
    let on_air = timing_on_air(slowest, *timing);
    if given.hop_round_trip_ms.is_none() {
        timing.hop_round_trip = on_air.hop_round_trip;
    }
    if given.first_ring.is_none() {
        timing.first_ring = on_air.first_ring;
    }
    if given.route_lifetime_ms.is_none() {
        timing.route_lifetime = on_air.route_lifetime;
    }
}

/// Radios, each with the file of its channel's passphrase. `inside` says where a path is.
///
/// # Errors
/// There are too many, or there is a file for none.
pub(super) fn settings(
    mut radios: Vec<LoraAddress>,
    key_file: Option<PathBuf>,
    inside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Vec<LoraAddress>, ConfigError> {
    if radios.len() > MAX_RADIOS {
        return Err(value("mesh.listen_addr", format!("at most {MAX_RADIOS} radios are used")));
    }
    let key_file = key_file.map(inside);
    if radios.is_empty() && key_file.is_some() {
        let reason = "means nothing without a radio in mesh.listen_addr";
        return Err(value("mesh.radio_key_file", reason));
    }
    for radio in &mut radios {
        radio.key_file = radio.key_file.take().or(key_file.clone());
    }
    Ok(radios)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{RADIO, load};

    #[test]
    fn radios_are_listened_on_with_a_key_of_their_own_or_of_all() {
        let own = "lora+meshcore+tcp://h:1?region=US915&key=/k";
        let text = format!(
            "[mesh]\nlisten_addr = [\"{RADIO}\", \"{own}\"]\nradio_key_file = \"channel.key\"\n"
        );
        let s = load(&text, &[]).unwrap();
        assert_eq!((s.listen_addr, s.listen_lines.len(), s.radios.len()), (None, 0, 2));
        assert_eq!(s.radios[0].key_file, Some(s.data_dir.join("channel.key")));
        assert_eq!(s.radios[1], own.parse().unwrap());
        // A request and its answer take longer on the air, and are waited for as long.
        let usual = load("", &[]).unwrap().config.timing;
        assert!(s.config.timing.hop_round_trip > 20 * usual.hop_round_trip);
        assert_eq!((s.config.timing.first_ring, usual.first_ring), (3, 2));
        let given = "[timing]\nhop_round_trip_ms = 300\nfirst_ring = 1\nroute_lifetime_ms = 5\n";
        let s = load(&format!("{text}{given}"), &[]).unwrap().config.timing;
        assert_eq!((s.hop_round_trip, s.first_ring, s.route_lifetime), (300_000, 1, 5_000));
        let fails = |text: &str, expected: &str| {
            let error = load(text, &[]).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        fails("[mesh]\nradio_key_file = \"k\"\n", "means nothing without a radio");
        let both = format!("[mesh]\nlisten_addr = [\"{RADIO}\", \"serial:///dev/ttyUSB0\"]\n");
        fails(&both, "is used twice");
        fails("[mesh]\nlisten_addr = \"lora+rnode:///dev/x\"\n", "add ?region=EU868");
        let many: Vec<_> =
            (0..17).map(|n| format!("\"lora+rnode+tcp://h:{}?region=EU868\"", n + 1)).collect();
        fails(&format!("[mesh]\nlisten_addr = [{}]\n", many.join(", ")), "at most 16 radios");
    }
}
