//! Radios: a LoRa modem, what it is set to, and where it stands.
//!
//! | written | meaning |
//! |---|---|
//! | `lora+rnode:///dev/ttyUSB0?region=EU868` | an RNode at a serial device, on the region's usual channel |
//! | `lora+meshcore:///dev/ttyACM0?region=US915&sf=9` | a MeshCore KISS modem, with another spreading factor |
//! | `lora+rnode+tcp://HOST:PORT?region=...` | a modem that a TCP server passes on |
//!
//! Behind the region may stand `frequency`, `bandwidth` (both in hertz), `sf` (7 to 12), `cr` (5 to 8: 4/5
//! to 4/8), `power` (dBm at the modem, also `txpower`), `gain` (of the antenna, in dBi), `duty` (percent
//! of the time, if less than the region's), `key` (a file with the channel's passphrase) and `baud`.

use super::{AddressError, BAUD_RANGE, DEFAULT_BAUD, HostPort, SerialLine, short};
use crate::radio::{BANDWIDTHS_HZ, Dialect, Limits, Parameters, Region, Unlawful};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Gain of an antenna of which nothing is said: about a dipole's, in dBi.
const USUAL_GAIN_DBI: i8 = 2;
/// Power where a region's law sets no bounds, in dBm: what every chip can do.
const USUAL_POWER_DBM: u8 = 17;
/// Most that a modem can be set to, in dBm.
const MAX_POWER_DBM: u8 = 30;
/// What chips can be tuned to, in hertz.
const FREQUENCIES_HZ: std::ops::RangeInclusive<u32> = 137_000_000..=1_020_000_000;

/// A radio: its modem, and what that is set to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoraAddress {
    /// What the modem's firmware speaks.
    pub dialect: Dialect,
    /// Where the modem is.
    pub line: SerialLine,
    /// Whose law counts.
    pub region: Region,
    /// What it is set to, which that law allows.
    pub parameters: Parameters,
    /// Gain of its antenna, in dBi.
    pub gain_dbi: i8,
    /// How much of an hour it may send, in thousandths; at most what the law allows.
    pub duty_permille: u16,
    /// The file with the channel's passphrase, if it has one of its own.
    pub key_file: Option<PathBuf>,
}

/// What a radio is set to, and whose law counts for it: what stands behind the question mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadioSettings {
    /// Whose law counts.
    pub region: Region,
    /// What it is set to, which that law allows.
    pub parameters: Parameters,
    /// Gain of its antenna, in dBi.
    pub gain_dbi: i8,
    /// How much of an hour it may send, in thousandths; at most what the law allows.
    pub duty_permille: u16,
    /// The file with the channel's passphrase, if it has one of its own.
    pub key_file: Option<PathBuf>,
}

/// Why text is not a radio.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoraError {
    /// It has another form.
    #[error(
        "\"{0}\" is not a radio: write lora+rnode:///dev/ttyUSB0?region=EU868, lora+meshcore:///dev/... or, \
         for a modem behind a TCP server, lora+rnode+tcp://HOST:PORT?region=..."
    )]
    Form(String),
    /// A setting is there that no radio has, or is there twice.
    #[error(
        "{key} {what}; a radio has region, frequency, bandwidth, sf, cr, power, gain, duty, key and baud"
    )]
    Key {
        /// The setting.
        key: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The value of a setting is none.
    #[error("{key}={value}: {allowed}")]
    Value {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        allowed: String,
    },
    /// The region is missing.
    #[error(
        "the region is missing: add ?region=EU868, or another of {}: it says where and how much a \
         radio may send without a licence",
        regions()
    )]
    NoRegion,
    /// A region without a usual channel.
    #[error("region=OTHER needs frequency=HERTZ: there is no usual channel")]
    NoFrequency,
    /// The law of the region does not allow it.
    #[error(transparent)]
    Unlawful(#[from] Unlawful),
    /// It stands where a neighbour is named.
    #[error(
        "neighbours on a radio channel are found, not named: put the radio into mesh.listen_addr, \
         without a public key"
    )]
    Dialed,
}

fn regions() -> String {
    Region::ALL.map(|region| region.to_string()).join(", ")
}

impl LoraAddress {
    /// Whether text is to be read as a radio, be it a right one or not.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with("lora") && text.contains("://")
    }

    /// What the modem holds to beside its parameters.
    pub fn limits(&self) -> Limits {
        let listen_dbm = self.region.plan().listen_dbm;
        Limits { duty_permille: self.duty_permille, listen_dbm }
    }

    /// The modem's place without its settings, as messages name it.
    pub fn place(&self) -> String {
        match &self.line {
            SerialLine::Device { path, .. } => format!("lora+{}://{path}", self.dialect.name()),
            SerialLine::Tcp(at) => format!("lora+{}+tcp://{at}", self.dialect.name()),
        }
    }
}

/// The settings behind a question mark, as they are written.
#[derive(Default)]
struct Query<'q> {
    pairs: Vec<(&'q str, &'q str)>,
}

impl<'q> Query<'q> {
    fn parse(text: &'q str) -> Result<Self, LoraError> {
        const KEYS: [&str; 11] = [
            "region",
            "frequency",
            "bandwidth",
            "sf",
            "cr",
            "power",
            "txpower",
            "gain",
            "duty",
            "key",
            "baud",
        ];
        let mut query = Self::default();
        for pair in text.split('&') {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let wrong = |what| LoraError::Key { key: short(key), what };
            if !KEYS.contains(&key) {
                return Err(wrong("is not a setting of a radio"));
            }
            // Both names mean the same.
            let key = if key == "txpower" { "power" } else { key };
            if query.text(key).is_some() {
                return Err(wrong("is there twice"));
            }
            query.pairs.push((key, value));
        }
        Ok(query)
    }

    fn text(&self, key: &str) -> Option<&'q str> {
        self.pairs.iter().find(|(other, _)| *other == key).map(|(_, value)| *value)
    }

    /// The number of a setting, if it is there.
    fn number<T: FromStr>(
        &self,
        key: &'static str,
        is_allowed: impl Fn(&T) -> bool,
        allowed: impl FnOnce() -> String,
    ) -> Result<Option<T>, LoraError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let digits = value.strip_prefix('-').unwrap_or(value);
        let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number = value.parse().ok().filter(|number| is_plain && is_allowed(number));
        let wrong = || LoraError::Value { key, value: short(value), allowed: allowed() };
        number.map(Some).ok_or_else(wrong)
    }

    /// Percent, with at most one decimal, in thousandths.
    fn permille(&self, key: &'static str, most: u16) -> Result<Option<u16>, LoraError> {
        let Some(value) = self.text(key) else { return Ok(None) };
        let wrong = || {
            let allowed = format!("from 0.1 to {} percent of the time", percent(most));
            LoraError::Value { key, value: short(value), allowed }
        };
        let (whole, tenths) = value.split_once('.').unwrap_or((value, "0"));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(tenths) || tenths.len() != 1 {
            return Err(wrong());
        }
        let whole = whole.parse::<u16>().map_err(|_| wrong())?;
        let tenths = tenths.parse::<u16>().map_err(|_| wrong())?;
        let permille = whole.saturating_mul(10).saturating_add(tenths);
        if (1..=most).contains(&permille) { Ok(Some(permille)) } else { Err(wrong()) }
    }
}

fn percent(permille: u16) -> String {
    match permille % 10 {
        0 => (permille / 10).to_string(),
        tenths => format!("{}.{tenths}", permille / 10),
    }
}

impl FromStr for LoraAddress {
    type Err = LoraError;

    fn from_str(text: &str) -> Result<Self, LoraError> {
        let wrong = || LoraError::Form(short(text));
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let kind = scheme.strip_prefix("lora+").ok_or_else(wrong)?;
        let (kind, is_tcp) = match kind.strip_suffix("+tcp") {
            Some(kind) => (kind, true),
            None => (kind, false),
        };
        let mut dialects = Dialect::ALL.into_iter();
        let dialect = dialects.find(|dialect| dialect.name() == kind).ok_or_else(wrong)?;
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Query::parse(query)?),
            None => (rest, Query::default()),
        };
        let bauds =
            || format!("from {} to {} bits per second", BAUD_RANGE.start(), BAUD_RANGE.end());
        let baud = query.number("baud", |baud| BAUD_RANGE.contains(baud), bauds)?;
        let line = match is_tcp {
            true if baud.is_some() => {
                let what = "means nothing for a modem behind a TCP server";
                return Err(LoraError::Key { key: "baud".into(), what });
            }
            true => SerialLine::Tcp(place.parse::<HostPort>().map_err(|_| wrong())?),
            // The rules for devices are those of serial lines.
            false => match format!("serial://{place}").parse() {
                Ok(SerialLine::Device { path, .. }) => {
                    SerialLine::Device { path, baud: baud.unwrap_or(DEFAULT_BAUD) }
                }
                _ => return Err(wrong()),
            },
        };
        let RadioSettings { region, parameters, gain_dbi, duty_permille, key_file } =
            RadioSettings::of(&query)?;
        Ok(Self { dialect, line, region, parameters, gain_dbi, duty_permille, key_file })
    }
}

/// As in `region=EU868&sf=8`, of a radio that has no modem with a serial line.
impl FromStr for RadioSettings {
    type Err = LoraError;

    fn from_str(text: &str) -> Result<Self, LoraError> {
        let query = Query::parse(text)?;
        match query.text("baud") {
            None => Self::of(&query),
            Some(_) => {
                let what = "means nothing for a radio without a modem";
                Err(LoraError::Key { key: "baud".into(), what })
            }
        }
    }
}

impl RadioSettings {
    fn of(query: &Query<'_>) -> Result<Self, LoraError> {
        let region = query.text("region").ok_or(LoraError::NoRegion)?;
        let region: Region = region.parse().map_err(|allowed| LoraError::Value {
            key: "region",
            value: short(region),
            allowed,
        })?;
        let usual = region.plan().usual;
        let frequency = query.number(
            "frequency",
            |hz| FREQUENCIES_HZ.contains(hz),
            || "in hertz, as in 869525000".into(),
        )?;
        if frequency.is_none() && region == Region::Other {
            return Err(LoraError::NoFrequency);
        }
        let bandwidths =
            || format!("in hertz, one of {}", BANDWIDTHS_HZ.map(|b| b.to_string()).join(", "));
        let bandwidth = query.number("bandwidth", |hz| BANDWIDTHS_HZ.contains(hz), bandwidths)?;
        let within = |range: std::ops::RangeInclusive<i8>| {
            move || format!("from {} to {}", range.start(), range.end())
        };
        let spreading = query.number("sf", |sf| (7..=12).contains(sf), within(7..=12))?;
        let coding =
            query.number("cr", |cr| (5..=8).contains(cr), || "5 to 8, for 4/5 to 4/8".into())?;
        let gain = query.number("gain", |gain| (-20..=30).contains(gain), within(-20..=30))?;
        let gain_dbi = gain.unwrap_or(USUAL_GAIN_DBI);
        let dbm = || format!("from 0 to {MAX_POWER_DBM} dBm at the modem");
        let power = query.number("power", |dbm| *dbm <= MAX_POWER_DBM, dbm)?;
        let mut parameters = Parameters {
            frequency_hz: frequency.unwrap_or(usual.frequency_hz),
            bandwidth_hz: bandwidth.unwrap_or(usual.bandwidth_hz),
            spreading: spreading.unwrap_or(usual.spreading),
            coding: coding.unwrap_or(usual.coding),
            power_dbm: 0,
        };
        parameters.power_dbm = power.unwrap_or_else(|| usual_power(region, &parameters, gain_dbi));
        let lawful = region.check(&parameters, gain_dbi)?;
        let duty_permille = query.permille("duty", lawful)?.unwrap_or(lawful);
        let key_file = match query.text("key") {
            None => None,
            Some(path) if path.starts_with('/') && !path.contains(char::is_control) => {
                Some(path.into())
            }
            Some(path) => {
                let allowed = "the whole path of a file".into();
                return Err(LoraError::Value { key: "key", value: short(path), allowed });
            }
        };
        Ok(Self { region, parameters, gain_dbi, duty_permille, key_file })
    }
}

/// The power where none is chosen: the usual one, or what is allowed there.
fn usual_power(region: Region, parameters: &Parameters, gain_dbi: i8) -> u8 {
    let Some(band) = region.sub_band(parameters) else { return USUAL_POWER_DBM };
    let allowed = u8::try_from(Region::most_power(band, gain_dbi).max(0)).unwrap_or(MAX_POWER_DBM);
    region.plan().usual.power_dbm.min(allowed)
}

impl fmt::Display for LoraAddress {
    /// With the region, and what differs from what is usual there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { region, parameters, gain_dbi, .. } = self;
        write!(f, "{}?region={region}", self.place())?;
        let usual = region.plan().usual;
        let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = parameters;
        if *frequency_hz != usual.frequency_hz || *region == Region::Other {
            write!(f, "&frequency={frequency_hz}")?;
        }
        let others = [
            ("bandwidth", bandwidth_hz, &usual.bandwidth_hz),
            ("sf", &(*spreading).into(), &usual.spreading.into()),
            ("cr", &(*coding).into(), &usual.coding.into()),
            ("power", &(*power_dbm).into(), &usual_power(*region, parameters, *gain_dbi).into()),
        ];
        for (key, value, usual) in others {
            if value != usual {
                write!(f, "&{key}={value}")?;
            }
        }
        if *gain_dbi != USUAL_GAIN_DBI {
            write!(f, "&gain={gain_dbi}")?;
        }
        if region.check(parameters, *gain_dbi) != Ok(self.duty_permille) {
            write!(f, "&duty={}", percent(self.duty_permille))?;
        }
        if let Some(path) = &self.key_file {
            write!(f, "&key={}", path.display())?;
        }
        match &self.line {
            SerialLine::Device { baud, .. } if *baud != DEFAULT_BAUD => write!(f, "&baud={baud}"),
            _ => Ok(()),
        }
    }
}

impl From<LoraError> for AddressError {
    fn from(error: LoraError) -> Self {
        Self::Radio(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn radio(text: &str) -> Result<LoraAddress, LoraError> {
        text.parse()
    }

    #[test]
    fn the_region_alone_is_enough() {
        let short = radio("lora+rnode:///dev/ttyUSB0?region=EU868").unwrap();
        assert_eq!((short.dialect, short.parameters), (Dialect::Rnode, Region::Eu868.plan().usual));
        assert_eq!((short.duty_permille, short.gain_dbi), (100, 2));
        assert_eq!(short.to_string(), "lora+rnode:///dev/ttyUSB0?region=EU868");
        let long = "lora+meshcore:///dev/serial/by-id/usb-x?region=EU868&frequency=868100000\
                    &bandwidth=125000&sf=9&cr=8&power=10&gain=5&duty=0.5&key=/etc/channel.key&baud=9600";
        let all = radio(long).unwrap();
        assert_eq!(all.to_string(), long);
        assert_eq!((all.duty_permille, all.key_file.clone()), (5, Some("/etc/channel.key".into())));
        assert_eq!(
            all.line,
            SerialLine::Device { path: "/dev/serial/by-id/usb-x".into(), baud: 9600 }
        );
        let tcp = radio("lora+rnode+tcp://[::1]:7633?region=us915&txpower=22").unwrap();
        assert_eq!(tcp.to_string(), "lora+rnode+tcp://[::1]:7633?region=US915&power=22");
        let other = radio("lora+rnode:///dev/x?region=OTHER&frequency=434000000&power=30").unwrap();
        assert_eq!((other.duty_permille, other.parameters.power_dbm), (1_000, 30));
        // The usual power is lower where less is allowed.
        let weak =
            radio("lora+rnode:///dev/x?region=EU868&frequency=868300000&bandwidth=125000").unwrap();
        assert_eq!((weak.parameters.power_dbm, weak.duty_permille), (14, 10));
    }

    #[test]
    fn settings_stand_alone_too() {
        let settings: RadioSettings = "region=EU868&sf=9&key=/k".parse().unwrap();
        let address = radio("lora+rnode:///dev/x?region=EU868&sf=9&key=/k").unwrap();
        assert_eq!(
            (settings.parameters, settings.key_file),
            (address.parameters, address.key_file)
        );
        let fails = |text: &str| text.parse::<RadioSettings>().unwrap_err().to_string();
        assert!(fails("region=EU868&baud=9600").contains("baud means nothing"));
        assert!(fails("").contains("is not a setting") && fails("sf=9").contains("add ?region"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let says = |text: &str, expected: &str| {
            let error = radio(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        };
        says("lora:///dev/x?region=EU868", "write lora+rnode:///dev/ttyUSB0?region=EU868");
        says("lora+wifi:///dev/x?region=EU868", "lora+meshcore");
        says("lora+rnode://dev/x?region=EU868", "is not a radio");
        says("lora+rnode+tcp://host?region=EU868", "HOST:PORT");
        says("lora+rnode:///dev/x", "add ?region=EU868, or another of EU868, EU433, US915");
        says("lora+rnode:///dev/x?region=EU", "there is no region \"EU\"");
        says("lora+rnode:///dev/x?region=OTHER", "needs frequency=HERTZ");
        says("lora+rnode:///dev/x?region=EU868&sf=13", "sf=13: from 7 to 12");
        says("lora+rnode:///dev/x?region=EU868&sf=+8", "sf=+8");
        says("lora+rnode:///dev/x?region=EU868&bandwidth=250", "one of 7800");
        says("lora+rnode:///dev/x?region=EU868&colour=red", "colour is not a setting");
        says("lora+rnode:///dev/x?region=EU868&power=3&txpower=4", "twice");
        says("lora+rnode:///dev/x?region=EU868&duty=20", "from 0.1 to 10 percent");
        says("lora+rnode:///dev/x?region=EU868&duty=0.05", "from 0.1 to 10 percent");
        says("lora+rnode:///dev/x?region=EU868&power=28", "EU868 allows 27 dBm");
        says("lora+rnode:///dev/x?region=EU868&frequency=915000000", "863.000 to 865.000 MHz");
        says("lora+rnode:///dev/x?region=EU868&key=channel.key", "the whole path");
        says("lora+rnode+tcp://h:1?region=EU868&baud=9600", "baud means nothing");
        says("lora+rnode:///dev/x?region=US915&bandwidth=125000", "500000 to 500000");
    }

    proptest! {
        #[test]
        fn any_text(
            text: String,
            query in "(region=(EU868|OTHER|IN865)|frequency=[0-9]{1,10}|sf=[0-9]{1,2}|power=[0-9]{1,2}|&|duty=[0-9.]{1,4}|gain=-?[0-9]{1,2}){0,9}",
        ) {
            for text in [text.clone(), format!("lora+rnode://{text}"), format!("lora+rnode:///dev/x?{query}"),
                format!("lora+meshcore:///dev/x?region=EU868&{query}&{text}")] {
                if let Ok(radio) = text.parse::<LoraAddress>() {
                    prop_assert_eq!(radio.to_string().parse(), Ok(radio));
                }
            }
        }
    }
}
