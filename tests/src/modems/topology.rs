//! Who hears whom, and how strongly.

use std::fmt;
use std::str::FromStr;

/// Path loss of modems that hear each other well: 17 dBm arrive as -83 dBm.
const NEAR_DB: f64 = 100.0;

/// What is lost on the way from one modem to another.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Topology {
    /// Every modem hears every other: 100 dB are lost.
    #[default]
    All,
    /// Each modem hears the one before it and the one after it.
    Line,
    /// What is listed, in both directions; all others hear nothing of each other.
    Listed(Vec<Path>),
}

/// A way between two modems.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Path {
    /// One end.
    pub from: usize,
    /// The other end.
    pub to: usize,
    /// Whether only `to` hears `from`.
    pub one_way: bool,
    /// Path loss in dB, 0 to 300.
    pub loss_db: f64,
}

/// Why a topology cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTopology(String);

impl fmt::Display for BadTopology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(part) = self;
        write!(
            f,
            "cannot read {part:?}: expected `all`, `line`, or paths such as `0-1,1-2:110,2>0:125` \
             (modem-modem:dB, `>` for one way)"
        )
    }
}

impl std::error::Error for BadTopology {}

impl FromStr for Path {
    type Err = BadTopology;

    fn from_str(text: &str) -> Result<Self, BadTopology> {
        let bad = || BadTopology(text.to_owned());
        let (ends, loss) = text.split_once(':').map_or((text, None), |(e, l)| (e, Some(l)));
        let (one_way, ends) = match ends.split_once('-') {
            Some(ends) => (false, ends),
            None => (true, ends.split_once('>').ok_or_else(bad)?),
        };
        let from = ends.0.parse().map_err(|_| bad())?;
        let to = ends.1.parse().map_err(|_| bad())?;
        let loss_db = loss.map_or(Ok(NEAR_DB), str::parse).map_err(|_| bad())?;
        let fits = from != to && (0.0..=300.0).contains(&loss_db);
        fits.then_some(Self { from, to, one_way, loss_db }).ok_or_else(bad)
    }
}

impl FromStr for Topology {
    type Err = BadTopology;

    fn from_str(text: &str) -> Result<Self, BadTopology> {
        match text {
            "all" => Ok(Self::All),
            "line" => Ok(Self::Line),
            paths => Ok(Self::Listed(paths.split(',').map(str::parse).collect::<Result<_, _>>()?)),
        }
    }
}

/// Path loss in dB between any two of some modems; `None` where nothing arrives.
#[derive(Debug, Clone)]
pub struct PathLoss(Vec<Vec<Option<f64>>>);

impl PathLoss {
    /// The losses of a topology with so many modems. Paths of others are not taken.
    pub fn new(topology: &Topology, modems: usize) -> Self {
        let mut new = Self(vec![vec![None; modems]; modems]);
        let near = |from, to| Path { from, to, one_way: false, loss_db: NEAR_DB };
        match topology {
            Topology::All => {
                for from in 0..modems {
                    (0..from).for_each(|to| new.set(near(from, to)));
                }
            }
            Topology::Line => (1..modems).for_each(|to| new.set(near(to - 1, to))),
            Topology::Listed(paths) => paths.iter().for_each(|path| new.set(*path)),
        }
        new
    }

    /// Changes what is lost on a way.
    pub fn set(&mut self, path: Path) {
        self.put(path.from, path.to, Some(path.loss_db));
        if !path.one_way {
            self.put(path.to, path.from, Some(path.loss_db));
        }
    }

    /// Lets nothing through between two modems any more.
    pub fn cut(&mut self, one: usize, other: usize) {
        self.put(one, other, None);
        self.put(other, one, None);
    }

    fn put(&mut self, from: usize, to: usize, loss_db: Option<f64>) {
        if let Some(place) = self.0.get_mut(from).and_then(|row| row.get_mut(to)) {
            *place = loss_db;
        }
    }

    /// What is lost from one modem to another.
    pub fn between(&self, from: usize, to: usize) -> Option<f64> {
        *self.0.get(from)?.get(to)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_or_refused() {
        assert_eq!("all".parse(), Ok(Topology::All));
        assert_eq!("line".parse(), Ok(Topology::Line));
        let listed: Topology = "0-1,2>0:125.5".parse().expect("a topology");
        let loss = PathLoss::new(&listed, 3);
        assert_eq!(loss.between(0, 1), Some(NEAR_DB));
        assert_eq!(loss.between(1, 0), Some(NEAR_DB));
        assert_eq!(loss.between(2, 0), Some(125.5));
        assert_eq!(loss.between(0, 2), None);
        assert_eq!(loss.between(1, 2), None);
        for bad in ["", "ring", "0-0", "0-1:x", "0-1:-3", "0-1:301", "0-1:NaN", "0-", "-1"] {
            assert!(bad.parse::<Topology>().is_err(), "{bad:?} was read");
        }
    }

    #[test]
    fn a_line_is_no_ring() {
        let line = PathLoss::new(&Topology::Line, 3);
        assert!(line.between(0, 1).is_some() && line.between(2, 1).is_some());
        assert!(line.between(0, 2).is_none() && line.between(1, 1).is_none());
        assert!(line.between(3, 0).is_none());
    }
}
