//! Where which radio may send, how strongly and how much of the time.
//!
//! Each plan is the stricter reading of what its source says of devices that need no licence. A plan
//! without a sub-band for a frequency does not say that nobody may use it, but that this program does not
//! know under which terms: [`Region::Other`] leaves that to the operator.

use super::modem::Dialect;
use super::parameters::Parameters;
use std::fmt;
use std::str::FromStr;

/// A region with one law for LoRa radios.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Region {
    /// Europe and whoever follows ETSI EN 300 220, 863 to 870 MHz.
    Eu868,
    /// The same, 433 MHz.
    Eu433,
    /// The United States and Canada, 902 to 928 MHz.
    Us915,
    /// Australia, 915 to 928 MHz.
    Au915,
    /// Countries of Asia whose 923 MHz band LoRaWAN's AS923-1 describes.
    As923,
    /// India, 865 to 867 MHz.
    In865,
    /// South Korea, 920.9 to 923.3 MHz.
    Kr920,
    /// Japan, 920.5 to 923.5 MHz.
    Jp920,
    /// Any other, or a licence: the operator answers for everything.
    Other,
}

/// What a power is measured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerAs {
    /// Effective radiated power: against a dipole, which has a gain of 2.15 dBi.
    Erp,
    /// Effective isotropic radiated power.
    Eirp,
    /// At the antenna connector, with antennas of up to so many dBi.
    Conducted(u8),
}

/// Part of a band with terms of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubBand {
    /// Its edges, in hertz.
    pub edges_hz: (u32, u32),
    /// How much of an hour a radio may send, in thousandths.
    pub duty_permille: u16,
    /// Most power, in dBm.
    pub power_dbm: u8,
    /// What that is measured as.
    pub power_as: PowerAs,
}

/// What the law of a region says, and the channel that nodes there use if they are told of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Its name, as it is written.
    pub name: &'static str,
    /// Where it counts.
    pub place: &'static str,
    /// Its sub-bands. None: nothing is checked.
    pub sub_bands: &'static [SubBand],
    /// Smallest and largest bandwidth, in hertz.
    pub bandwidth_hz: (u32, u32),
    /// Longest time of a frame on the air, in milliseconds, where there is one.
    pub longest_frame_ms: Option<u32>,
    /// Shortest pause behind a frame, in milliseconds.
    pub pause_ms: u32,
    /// From this power on the channel counts as taken, in dBm, where a radio must listen first.
    pub listen_dbm: Option<i8>,
    /// The usual channel.
    pub usual: Parameters,
    /// Where all that stands.
    pub source: &'static str,
}

/// Why parameters are not within the law of a region.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unlawful {
    /// The channel is not within a sub-band.
    #[error(
        "{low} to {high} Hz is not within one sub-band of {region}: {bands}; \
         region=OTHER checks nothing, if you may send there all the same"
    )]
    Frequency {
        /// Lower edge of the channel, in hertz.
        low: u32,
        /// Its upper edge.
        high: u32,
        /// The region.
        region: Region,
        /// Its sub-bands, in words.
        bands: String,
    },
    /// The bandwidth is too small or too large.
    #[error("{region} wants a bandwidth of {} to {} Hz", .allowed.0, .allowed.1)]
    Bandwidth {
        /// The region.
        region: Region,
        /// Smallest and largest.
        allowed: (u32, u32),
    },
    /// The power is too high.
    #[error(
        "{region} allows {allowed_dbm} dBm here at the modem with an antenna of {gain_dbi} dBi, \
         not {power_dbm} dBm"
    )]
    Power {
        /// The region.
        region: Region,
        /// The power that was chosen.
        power_dbm: u8,
        /// Most power at the antenna connector.
        allowed_dbm: i16,
        /// The antenna's gain.
        gain_dbi: i8,
    },
    /// The longest frame is on the air for too long.
    #[error(
        "a frame of 255 bytes takes {frame_ms} ms, and {region} allows {allowed_ms} ms: choose a smaller \
         spreading factor or more bandwidth"
    )]
    Dwell {
        /// The region.
        region: Region,
        /// What it takes.
        frame_ms: u32,
        /// What is allowed.
        allowed_ms: u32,
    },
}

const fn erp(edges_hz: (u32, u32), duty_permille: u16, power_dbm: u8) -> SubBand {
    SubBand { edges_hz, duty_permille, power_dbm, power_as: PowerAs::Erp }
}

const fn eirp(edges_hz: (u32, u32), duty_permille: u16, power_dbm: u8) -> SubBand {
    SubBand { edges_hz, duty_permille, power_dbm, power_as: PowerAs::Eirp }
}

const fn usual(frequency_hz: u32, bandwidth_hz: u32, power_dbm: u8) -> Parameters {
    Parameters { frequency_hz, bandwidth_hz, spreading: 7, coding: 5, power_dbm }
}

/// ETSI EN 300 220-2 V3.2.1, table B.1, bands K to Q; ERC Recommendation 70-03, annex 1. The usual channel
/// fills the only band with a tenth of the time and 500 mW.
const EU868: Plan = Plan {
    name: "EU868",
    place: "Europe and countries with its rules",
    sub_bands: &[
        erp((863_000_000, 865_000_000), 1, 14),
        erp((865_000_000, 868_000_000), 10, 14),
        erp((868_000_000, 868_600_000), 10, 14),
        erp((868_700_000, 869_200_000), 1, 14),
        erp((869_400_000, 869_650_000), 100, 27),
        erp((869_700_000, 870_000_000), 10, 14),
    ],
    bandwidth_hz: (7_800, 500_000),
    longest_frame_ms: None,
    pause_ms: 0,
    listen_dbm: None,
    usual: usual(869_525_000, 250_000, 17),
    source: "ETSI EN 300 220-2 V3.2.1, table B.1; ERC Recommendation 70-03, annex 1",
};

/// ETSI EN 300 220-2 V3.2.1, table B.1, band H; ERC Recommendation 70-03, annex 1.
const EU433: Plan = Plan {
    name: "EU433",
    place: "Europe and countries with its rules, 433 MHz",
    sub_bands: &[erp((433_050_000, 434_790_000), 100, 10)],
    usual: usual(434_400_000, 250_000, 10),
    ..EU868
};

/// 47 CFR 15.247: digital modulation of at least 500 kHz, (a)(2); 1 W and antennas of up to 6 dBi, (b)(3)
/// and (b)(4); 8 dBm in any 3 kHz, (e), which 1 W over 500 kHz keeps. Less bandwidth wants hopping, which
/// a channel that all listen to does not do. ISED RSS-247 says the same. The usual channel is in the gap
/// between LoRaWAN's channels up and down.
const US915: Plan = Plan {
    name: "US915",
    place: "United States, Canada",
    sub_bands: &[SubBand {
        edges_hz: (902_000_000, 928_000_000),
        duty_permille: 1_000,
        power_dbm: 30,
        power_as: PowerAs::Conducted(6),
    }],
    bandwidth_hz: (500_000, 500_000),
    longest_frame_ms: None,
    pause_ms: 0,
    listen_dbm: None,
    usual: usual(918_000_000, 500_000, 20),
    source: "47 CFR 15.247; ISED RSS-247",
};

/// ACMA, Low Interference Potential Devices Class Licence, digital modulation transmitters: 1 W EIRP, at
/// least 500 kHz, 25 mW in any 3 kHz.
const AU915: Plan = Plan {
    name: "AU915",
    place: "Australia",
    sub_bands: &[eirp((915_000_000, 928_000_000), 1_000, 30)],
    source: "ACMA Radiocommunications (Low Interference Potential Devices) Class Licence",
    ..US915
};

/// LoRa Alliance RP002-1.0.4, section 2.10 (AS923): 16 dBm EIRP, 1 % of the time, frames of up to 400 ms.
/// The sub-band is the part that its countries have in common.
const AS923: Plan = Plan {
    name: "AS923",
    place: "countries of Asia with LoRaWAN's AS923-1 (ask your regulator)",
    sub_bands: &[eirp((923_000_000, 923_500_000), 10, 16)],
    bandwidth_hz: (125_000, 250_000),
    longest_frame_ms: Some(400),
    pause_ms: 0,
    listen_dbm: None,
    usual: usual(923_250_000, 250_000, 13),
    source: "LoRa Alliance RP002-1.0.4, AS923",
};

/// G.S.R. 853(E) of 2021, table II, at its strictest: 25 mW ERP, 1 % of the time, 200 kHz.
const IN865: Plan = Plan {
    name: "IN865",
    place: "India",
    sub_bands: &[erp((865_000_000, 867_000_000), 10, 14)],
    bandwidth_hz: (7_800, 200_000),
    usual: usual(866_200_000, 125_000, 14),
    source: "India, G.S.R. 853(E) of 2021, table II",
    ..EU868
};

/// MSIT notice 2024-22 and LoRa Alliance RP002-1.0.4, section 2.13 (KR920): listening first at -65 dBm,
/// frames of up to 4 s, 50 ms between them, 10 mW EIRP below 922 MHz and 25 mW above.
const KR920: Plan = Plan {
    name: "KR920",
    place: "South Korea",
    sub_bands: &[
        eirp((920_900_000, 921_900_000), 1_000, 10),
        eirp((922_100_000, 923_300_000), 1_000, 14),
    ],
    bandwidth_hz: (125_000, 200_000),
    longest_frame_ms: Some(4_000),
    pause_ms: 50,
    listen_dbm: Some(-65),
    usual: usual(922_900_000, 125_000, 11),
    source: "MSIT notice 2024-22; LoRa Alliance RP002-1.0.4, KR920",
};

/// ARIB STD-T108 v1.5: listening first at -80 dBm, frames of up to 4 s, 50 ms between them, 20 mW and
/// antennas of up to 3 dBi, channels of 200 kHz.
const JP920: Plan = Plan {
    name: "JP920",
    place: "Japan (the modem needs a type approval)",
    sub_bands: &[SubBand {
        edges_hz: (920_500_000, 923_500_000),
        duty_permille: 1_000,
        power_dbm: 13,
        power_as: PowerAs::Conducted(3),
    }],
    bandwidth_hz: (125_000, 200_000),
    longest_frame_ms: Some(4_000),
    pause_ms: 50,
    listen_dbm: Some(-80),
    usual: usual(922_400_000, 125_000, 13),
    source: "ARIB STD-T108 v1.5",
};

/// Nothing is checked. The usual channel must be given.
const OTHER: Plan = Plan {
    name: "OTHER",
    place: "anywhere else, or with a licence: nothing is checked",
    sub_bands: &[],
    source: "the operator",
    ..EU868
};

impl Region {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Eu868,
        Self::Eu433,
        Self::Us915,
        Self::Au915,
        Self::As923,
        Self::In865,
        Self::Kr920,
        Self::Jp920,
        Self::Other,
    ];

    /// What its law says.
    pub const fn plan(self) -> &'static Plan {
        match self {
            Self::Eu868 => &EU868,
            Self::Eu433 => &EU433,
            Self::Us915 => &US915,
            Self::Au915 => &AU915,
            Self::As923 => &AS923,
            Self::In865 => &IN865,
            Self::Kr920 => &KR920,
            Self::Jp920 => &JP920,
            Self::Other => &OTHER,
        }
    }

    /// The sub-band that a channel is within, if its law knows one.
    pub fn sub_band(self, parameters: &Parameters) -> Option<&'static SubBand> {
        let (low, high) = edges(parameters);
        let mut bands = self.plan().sub_bands.iter();
        bands.find(|band| band.edges_hz.0 <= low && high <= band.edges_hz.1)
    }

    /// Most power at the antenna connector within a sub-band, in dBm, with an antenna of so many dBi.
    pub fn most_power(band: &SubBand, gain_dbi: i8) -> i16 {
        let (power, gain) = (i16::from(band.power_dbm), i16::from(gain_dbi));
        match band.power_as {
            // A dipole's 2.15 dBi, rounded so that the power is rather too low.
            PowerAs::Erp => power + 2 - gain,
            PowerAs::Eirp => power - gain,
            PowerAs::Conducted(most) => power - (gain - i16::from(most)).max(0),
        }
    }

    /// How much of an hour a radio may send, in thousandths, if its law allows these parameters.
    ///
    /// # Errors
    /// [`Unlawful`]: what is too much.
    pub fn check(self, parameters: &Parameters, gain_dbi: i8) -> Result<u16, Unlawful> {
        let plan = self.plan();
        if plan.sub_bands.is_empty() {
            return Ok(1_000);
        }
        let (least, most) = plan.bandwidth_hz;
        if !(least..=most).contains(&parameters.bandwidth_hz) {
            return Err(Unlawful::Bandwidth { region: self, allowed: plan.bandwidth_hz });
        }
        let Some(band) = self.sub_band(parameters) else {
            let (low, high) = edges(parameters);
            let mhz = |hz: u32| format!("{:.3}", f64::from(hz) / 1e6);
            let words = |band: &SubBand| {
                format!("{} to {} MHz", mhz(band.edges_hz.0), mhz(band.edges_hz.1))
            };
            let bands: Vec<_> = plan.sub_bands.iter().map(words).collect();
            let bands = bands.join(", ");
            return Err(Unlawful::Frequency { low, high, region: self, bands });
        };
        let allowed_dbm = Self::most_power(band, gain_dbi);
        let power_dbm = parameters.power_dbm;
        if i16::from(power_dbm) > allowed_dbm {
            return Err(Unlawful::Power { region: self, power_dbm, allowed_dbm, gain_dbi });
        }
        let preambles = Dialect::ALL.map(|dialect| dialect.preamble(parameters));
        let preamble = preambles.into_iter().max().unwrap_or_default();
        let frame = parameters.modem(preamble, 1_000).airtime(255) / 1_000;
        let frame_ms = u32::try_from(frame).unwrap_or(u32::MAX);
        if let Some(allowed_ms) = plan.longest_frame_ms
            && frame_ms > allowed_ms
        {
            return Err(Unlawful::Dwell { region: self, frame_ms, allowed_ms });
        }
        Ok(band.duty_permille)
    }
}

/// Edges of a channel, in hertz.
fn edges(parameters: &Parameters) -> (u32, u32) {
    let half = parameters.bandwidth_hz / 2;
    let Parameters { frequency_hz, .. } = parameters;
    (frequency_hz.saturating_sub(half), frequency_hz.saturating_add(half))
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.plan().name)
    }
}

impl FromStr for Region {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let same = |region: &Region| region.plan().name.eq_ignore_ascii_case(text);
        Self::ALL.into_iter().find(same).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("there is no region \"{text}\"; there are {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(region: Region) -> Parameters {
        region.plan().usual
    }

    #[test]
    fn usual_channels_are_lawful_with_a_usual_antenna_and_names_are_read() {
        for region in Region::ALL {
            let duty = region.check(&at(region), 2).unwrap();
            assert!(duty > 0 && duty <= 1_000);
            assert_eq!(region.to_string().to_lowercase().parse(), Ok(region));
            for band in region.plan().sub_bands {
                assert!(band.edges_hz.0 < band.edges_hz.1 && band.duty_permille > 0);
            }
        }
        assert!("EU".parse::<Region>().unwrap_err().contains("EU868, EU433"));
    }

    #[test]
    fn european_sub_bands_have_their_own_terms() {
        let on = |frequency_hz, bandwidth_hz, power_dbm| {
            let p = Parameters { frequency_hz, bandwidth_hz, power_dbm, ..at(Region::Eu868) };
            Region::Eu868.check(&p, 2)
        };
        assert_eq!(on(869_525_000, 250_000, 27), Ok(100));
        assert_eq!(on(868_100_000, 125_000, 14), Ok(10));
        assert_eq!(on(864_000_000, 125_000, 14), Ok(1));
        let error = on(868_100_000, 125_000, 15).unwrap_err();
        assert!(matches!(error, Unlawful::Power { allowed_dbm: 14, .. }), "{error}");
        // Its lower edge is below 869.4 MHz.
        let error = on(869_500_000, 250_000, 10).unwrap_err();
        assert!(error.to_string().contains("869.400 to 869.650 MHz"), "{error}");
        assert!(matches!(on(869_525_000, 500_000, 10), Err(Unlawful::Frequency { .. })));
        let p = Parameters { power_dbm: 27, ..at(Region::Eu868) };
        assert_eq!(Region::Eu868.check(&p, 8).unwrap_err().to_string(), {
            "EU868 allows 21 dBm here at the modem with an antenna of 8 dBi, not 27 dBm"
        });
    }

    #[test]
    fn bandwidth_and_time_on_the_air_are_bounded_where_the_law_says_so() {
        let narrow = Parameters { bandwidth_hz: 250_000, ..at(Region::Us915) };
        let error = Region::Us915.check(&narrow, 2).unwrap_err();
        assert!(matches!(error, Unlawful::Bandwidth { allowed: (500_000, 500_000), .. }));
        let slow = Parameters { spreading: 9, ..at(Region::As923) };
        let error = Region::As923.check(&slow, 2).unwrap_err();
        assert!(matches!(error, Unlawful::Dwell { allowed_ms: 400, .. }), "{error}");
        let anything = Parameters { frequency_hz: 1, power_dbm: 30, ..slow };
        assert_eq!(Region::Other.check(&anything, 30), Ok(1_000));
        // 47 CFR 15.247 (b)(4): a dB less for each beyond 6 dBi.
        let band = Region::Us915.plan().sub_bands.first().unwrap();
        assert_eq!([2, 6, 9].map(|gain| Region::most_power(band, gain)), [30, 30, 27]);
    }

    proptest! {
        #[test]
        fn any_parameters(
            region in prop::sample::select(Region::ALL.to_vec()),
            frequency_hz: u32, bandwidth_hz: u32, spreading: u8, coding: u8, power_dbm: u8, gain: i8,
        ) {
            let spreading = spreading % 8 + 5;
            let p = Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm };
            if region.check(&p, gain).is_ok() && region != Region::Other {
                prop_assert!(region.sub_band(&p).is_some());
            }
        }
    }
}
