//! What is done to emulated modems while they run: faults, and their ends.

use super::firmware::{BadWord, Parameter, Version};
use super::topology::{BadTopology, Path};
use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

/// How many bytes of garbage are taken at most.
pub const MOST_GARBAGE: usize = 65_536;

/// One order. Modems are counted from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Order {
    /// Pulls a modem out: its terminal hangs up, or its connection ends and its port is closed.
    Pull(usize),
    /// Puts it back, after which it starts anew.
    Plug(usize),
    /// Presses its reset button.
    Reset(usize),
    /// Sends its host so many random bytes.
    Garbage(usize, usize),
    /// Makes it say another version.
    Firmware(usize, Version),
    /// Takes no new value of a parameter any more.
    Refuse(usize, Parameter),
    /// Takes them again.
    Accept(usize, Parameter),
    /// It receives nothing any more (true), or again.
    Deaf(usize, bool),
    /// What it sends arrives nowhere any more (true), or again.
    Mute(usize, bool),
    /// So many of a million frames are lost from now on.
    Lose(u32),
    /// What is lost between two modems is this from now on.
    Path(Path),
    /// Two modems hear nothing of each other from now on.
    Cut(usize, usize),
}

/// Why an order is not carried out.
#[derive(Debug)]
pub enum OrderError {
    /// It is none.
    Unknown(String),
    /// A number is expected, or a smaller one.
    Number(String),
    /// A word is none of those expected.
    Word(BadWord),
    /// A path cannot be read.
    Path(BadTopology),
    /// There is no modem of that number.
    NoModem(usize),
    /// The modem's port cannot be opened.
    Port(std::io::Error),
    /// The emulator has ended.
    Ended,
}

impl fmt::Display for OrderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(line) => write!(
                f,
                "{line:?} is no order. Orders: pull N, plug N, reset N, garbage N BYTES, firmware N \
                 VERSION, refuse N PARAMETER, accept N PARAMETER, deaf N, hear N, mute N, unmute N, \
                 lose PERCENT, path N-N:DB, cut N N"
            ),
            Self::Number(word) => write!(f, "{word:?} is not a number that fits here"),
            Self::Word(error) => error.fmt(f),
            Self::Path(error) => error.fmt(f),
            Self::NoModem(modem) => write!(f, "there is no modem {modem}; they are counted from 0"),
            Self::Port(error) => write!(f, "the modem's port cannot be opened: {error}"),
            Self::Ended => write!(f, "the emulator has ended"),
        }
    }
}

impl std::error::Error for OrderError {}

fn number(word: &str) -> Result<usize, OrderError> {
    word.parse().map_err(|_: ParseIntError| OrderError::Number(word.to_owned()))
}

/// A percentage as millionths.
///
/// # Errors
/// If the text is no number from 0 to 100.
pub(super) fn percent_as_ppm(text: &str) -> Result<u32, OrderError> {
    let percent: f64 = text.parse().map_err(|_| OrderError::Number(text.to_owned()))?;
    match (0.0..=100.0).contains(&percent) {
        true => Ok((percent * 10_000.0).round() as u32),
        false => Err(OrderError::Number(text.to_owned())),
    }
}

impl FromStr for Order {
    type Err = OrderError;

    fn from_str(line: &str) -> Result<Self, OrderError> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Ok(match words[..] {
            ["pull", modem] => Self::Pull(number(modem)?),
            ["plug", modem] => Self::Plug(number(modem)?),
            ["reset", modem] => Self::Reset(number(modem)?),
            ["garbage", modem, bytes] => {
                let count = number(bytes)?;
                if count > MOST_GARBAGE {
                    return Err(OrderError::Number(bytes.to_owned()));
                }
                Self::Garbage(number(modem)?, count)
            }
            ["firmware", modem, version] => {
                Self::Firmware(number(modem)?, version.parse().map_err(OrderError::Word)?)
            }
            ["refuse", modem, parameter] => {
                Self::Refuse(number(modem)?, parameter.parse().map_err(OrderError::Word)?)
            }
            ["accept", modem, parameter] => {
                Self::Accept(number(modem)?, parameter.parse().map_err(OrderError::Word)?)
            }
            ["deaf", modem] => Self::Deaf(number(modem)?, true),
            ["hear", modem] => Self::Deaf(number(modem)?, false),
            ["mute", modem] => Self::Mute(number(modem)?, true),
            ["unmute", modem] => Self::Mute(number(modem)?, false),
            ["lose", percent] => Self::Lose(percent_as_ppm(percent)?),
            ["path", path] => Self::Path(path.parse().map_err(OrderError::Path)?),
            ["cut", one, other] => Self::Cut(number(one)?, number(other)?),
            _ => return Err(OrderError::Unknown(line.to_owned())),
        })
    }
}

impl Order {
    /// The modems that it names.
    pub fn modems(&self) -> Vec<usize> {
        match self {
            Self::Lose(_) => vec![],
            Self::Path(path) => vec![path.from, path.to],
            Self::Cut(one, other) => vec![*one, *other],
            Self::Pull(modem)
            | Self::Plug(modem)
            | Self::Reset(modem)
            | Self::Garbage(modem, _)
            | Self::Firmware(modem, _)
            | Self::Refuse(modem, _)
            | Self::Accept(modem, _)
            | Self::Deaf(modem, _)
            | Self::Mute(modem, _) => vec![*modem],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_are_read() {
        let read = |line: &str| line.parse::<Order>().expect("an order");
        assert_eq!(read(" pull 1\n"), Order::Pull(1));
        assert_eq!(read("garbage 0 100"), Order::Garbage(0, 100));
        assert_eq!(read("firmware 0 1.51"), Order::Firmware(0, Version(1, 51)));
        assert_eq!(read("refuse 2 sf"), Order::Refuse(2, Parameter::Spreading));
        assert_eq!(read("hear 2"), Order::Deaf(2, false));
        assert_eq!(read("lose 12.5"), Order::Lose(125_000));
        let path = Path { from: 0, to: 2, one_way: true, loss_db: 120.0 };
        assert_eq!(read("path 0>2:120"), Order::Path(path));
    }

    #[test]
    fn what_is_no_order_says_what_is_wrong() {
        for (line, said) in [
            ("", "is no order"),
            ("pull", "is no order"),
            ("pull x", "not a number"),
            ("garbage 0 65537", "not a number that fits"),
            ("lose 101", "not a number that fits"),
            ("lose NaN", "not a number that fits"),
            ("refuse 0 colour", "frequency, bandwidth"),
            ("firmware 0 x", "versions such as"),
            ("path 0-0", "modem-modem:dB"),
        ] {
            let error = line.parse::<Order>().expect_err("no order").to_string();
            assert!(error.contains(said), "{line:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "[a-z0-9 .:>-]{0,40}") {
            if let Ok(order) = line.parse::<Order>() {
                prop_assert!(order.modems().len() <= 2);
            }
        }
    }
}
