//! Several places where one TCP server may be.

use super::{AddressError, HostPort};
use std::fmt;
use std::str::FromStr;

/// Most places of one peer.
pub const MOST_PLACES: usize = 8;

/// Where a TCP server is: 1 to [`MOST_PLACES`] different places, of which one is enough. Written
/// with `/` between them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPorts(Vec<HostPort>);

impl HostPorts {
    /// These places, in the order in which they are tried at first.
    ///
    /// # Errors
    /// [`AddressError`]: there is none, there are too many, or one is there twice.
    pub fn new(places: Vec<HostPort>) -> Result<Self, AddressError> {
        if places.is_empty() {
            return Err(AddressError::HostPort(String::new()));
        }
        if places.len() > MOST_PLACES {
            return Err(AddressError::TooMany(places.len()));
        }
        for (at, place) in places.iter().enumerate() {
            if places.iter().take(at).any(|other| other == place) {
                return Err(AddressError::Twice(place.to_string()));
            }
        }
        Ok(Self(places))
    }

    /// The places.
    pub fn as_slice(&self) -> &[HostPort] {
        &self.0
    }

    /// Each place once, beginning with the one of this number; numbers go on at the first.
    pub fn turn(&self, first: usize) -> impl Iterator<Item = (usize, &HostPort)> {
        let all = self.0.iter().enumerate();
        all.clone().chain(all).skip(first % self.0.len()).take(self.0.len())
    }
}

impl From<HostPort> for HostPorts {
    fn from(place: HostPort) -> Self {
        Self(vec![place])
    }
}

impl FromStr for HostPorts {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        // Not more than are counted are kept.
        let places = text.split('/').take(MOST_PLACES + 1).map(str::parse);
        let places = places.collect::<Result<Vec<_>, _>>()?;
        match places.len() > MOST_PLACES {
            true => Err(AddressError::TooMany(text.split('/').count())),
            false => Self::new(places),
        }
    }
}

impl fmt::Display for HostPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, place) in self.0.iter().enumerate() {
            f.write_str(if at > 0 { "/" } else { "" })?;
            place.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<HostPorts, AddressError> {
        text.parse()
    }

    #[test]
    fn one_to_eight_different_places() {
        let eight = "a:1/b:2/[::1]:3/10.0.0.1:4/a:5/a:6/a:7/a:8";
        let places = of(eight).unwrap();
        assert_eq!((places.as_slice().len(), places.to_string()), (8, eight.to_owned()));
        assert_eq!(of(&format!("{eight}/a:9/a:10")), Err(AddressError::TooMany(10)));
        assert_eq!(of("a:1/b:2/a:1"), Err(AddressError::Twice("a:1".into())));
        for (text, part) in [("", ""), ("a:1/", ""), ("/a:1", ""), ("a:1//b:2", ""), ("a:1/b", "b")]
        {
            assert_eq!(of(text), Err(AddressError::HostPort(part.into())), "{text}");
        }
        assert!(HostPorts::new(Vec::new()).is_err());
    }

    #[test]
    fn a_turn_begins_anywhere_and_has_each_once() {
        let places = of("a:1/b:2/c:3").unwrap();
        let turn = |first| places.turn(first).map(|(at, _)| at).collect::<Vec<_>>();
        assert_eq!([turn(0), turn(2), turn(4)], [[0, 1, 2], [2, 0, 1], [1, 2, 0]]);
        let named: Vec<_> = places.turn(1).map(|(_, at)| at.to_string()).collect();
        assert_eq!(named, ["b:2", "c:3", "a:1"]);
    }
}
