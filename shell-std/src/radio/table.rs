//! How long frames are on the air: a table for people who choose.

use super::parameters::Parameters;

/// One setting of a modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Spreading factor.
    pub spreading: u8,
    /// Bandwidth in hertz.
    pub bandwidth_hz: u32,
    /// Bits per second.
    pub bits_per_second: u32,
    /// Time on the air of frames of so many bytes, in microseconds.
    pub airtime_us: [u64; 3],
    /// How many of the longest of them fit into an hour's share.
    pub frames_per_hour: u64,
}

/// Bytes of the frames in the table: a search, a small packet, the largest packet that fits.
const BYTES: [usize; 3] = [50, 100, 235];

/// All usual settings with a coding rate and a share of the time in thousandths, and a preamble of 18
/// symbols.
pub fn rows(coding: u8, duty_permille: u16) -> Vec<Row> {
    let bandwidths = [62_500, 125_000, 250_000, 500_000];
    let all = (7..=12).flat_map(|spreading| bandwidths.map(|hz| (spreading, hz)));
    let row = |(spreading, bandwidth_hz)| {
        let parameters =
            Parameters { frequency_hz: 0, bandwidth_hz, spreading, coding, power_dbm: 0 };
        let modem = parameters.modem(18, duty_permille);
        let airtime_us = BYTES.map(|bytes| modem.airtime_of_frame(bytes));
        let share_us = 3_600_000_000 * u64::from(duty_permille) / 1_000;
        let [.., longest] = airtime_us;
        Row {
            spreading,
            bandwidth_hz,
            bits_per_second: parameters.bits_per_second(),
            airtime_us,
            frames_per_hour: share_us / longest.max(1),
        }
    };
    all.map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slower_settings_take_longer_and_an_hour_holds_its_share() {
        let rows = rows(5, 100);
        assert_eq!(rows.len(), 24);
        for row in &rows {
            assert!(row.airtime_us.is_sorted());
            let [.., longest] = row.airtime_us;
            assert!(row.frames_per_hour * longest <= 360_000_000);
            assert!((row.frames_per_hour + 1) * longest > 360_000_000);
        }
        let of = |sf, hz| *rows.iter().find(|r| (r.spreading, r.bandwidth_hz) == (sf, hz)).unwrap();
        assert!(of(7, 250_000).airtime_us[2] < 250_000);
        assert!(of(12, 125_000).airtime_us[2] > 8_000_000);
    }
}
