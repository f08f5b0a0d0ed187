//! `ledger.export`: which database, as whom, and whether TLS is needed.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// PostgreSQL's port.
const PORT: u16 = 5432;
/// What is written as %XX in a name.
const RESERVED: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'/').add(b':').add(b'?').add(b'@');
/// The same in an option.
const RESERVED_IN_OPTION: &AsciiSet = &CONTROLS.add(b' ').add(b'#').add(b'%').add(b'&').add(b'?');

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who logs in.
    pub user: String,
    /// Where the server is.
    pub place: Place,
    /// Name of the database.
    pub database: String,
    /// Whether the connection must be in TLS, with a certificate of that host.
    pub tls: bool,
}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A TCP port.
    Tcp {
        /// Name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket: `.s.PGSQL.` and the port, in this directory.
    Unix {
        /// The directory.
        directory: PathBuf,
        /// The number in its name.
        port: u16,
    },
}

impl Target {
    /// Whether everything, and the password's proof, can be read on the way by others.
    pub fn is_plain(&self) -> bool {
        match &self.place {
            Place::Unix { .. } => false,
            Place::Tcp { host, .. } => !self.tls && !is_loopback(host),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encode = |text| utf8_percent_encode(text, RESERVED);
        let (user, database) = (encode(&self.user), encode(&self.database));
        match &self.place {
            Place::Unix { directory, port } => {
                let directory = directory.to_string_lossy();
                let directory = utf8_percent_encode(&directory, RESERVED_IN_OPTION);
                write!(f, "postgres://{user}@/{database}?host={directory}&port={port}")
            }
            Place::Tcp { host, port } => {
                let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
                let mode = if self.tls { "verify-full" } else { "disable" };
                write!(f, "postgres://{user}@{open}{host}{close}:{port}/{database}?sslmode={mode}")
            }
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str = "is not postgres://USER@HOST:PORT/DATABASE, as in \
                            postgres://mesh@db.example.org:5432/mesh, or \
                            postgres://mesh@/mesh?host=/var/run/postgresql";
        let rest = ["postgres://", "postgresql://"].iter().find_map(|s| text.strip_prefix(s));
        // A password may be in it: it is not repeated.
        let rest = rest.ok_or(FORM)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, at) = authority.rsplit_once('@').ok_or("names no user: USER@HOST")?;
        if user.contains(':') {
            return Err(WITHOUT_PASSWORD.into());
        }
        let (host, port) = split_port(at).ok_or(FORM)?;
        let mut given = Given { host: decoded(host)?, port, ..Given::default() };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(FORM)?;
            given.option(name, decoded(value)?)?;
        }
        let (user, database) = (decoded(user)?, decoded(database)?);
        if user.is_empty() || database.is_empty() || database.contains('/') {
            return Err(FORM.into());
        }
        let (place, tls) = given.place()?;
        Ok(Self { user, place, database, tls })
    }
}

const WITHOUT_PASSWORD: &str = "is to be without a password: put that in a file that only the \
                                node's user reads, which ledger.password_file names";

/// What is said of a server.
#[derive(Default)]
struct Given {
    host: String,
    port: Option<u16>,
    tls: Option<bool>,
}

impl Given {
    fn option(&mut self, name: &str, value: String) -> Result<(), String> {
        match (name, value.as_str()) {
            ("host", _) if self.host.is_empty() => self.host = value,
            ("host", _) => return Err("names two hosts".into()),
            ("port", _) => {
                let port = value.parse().map_err(|_| format!("\"{value}\" is no port"))?;
                self.port = Some(port);
            }
            ("sslmode", "disable") => self.tls = Some(false),
            ("sslmode", "require" | "verify-full") => self.tls = Some(true),
            ("sslmode", _) => {
                return Err(format!(
                    "sslmode \"{value}\" is not disable, require or verify-full; the latter two are \
                     the same here, and check certificate and name"
                ));
            }
            ("password" | "passfile", _) => return Err(WITHOUT_PASSWORD.into()),
            _ => return Err(format!("{name} is not an option; host, port and sslmode are")),
        }
        Ok(())
    }

    /// The place, and whether TLS is needed there: by default wherever others may listen.
    fn place(self) -> Result<(Place, bool), String> {
        let (host, port) = (self.host, self.port.unwrap_or(PORT));
        if host.is_empty() {
            return Err("names no host: HOST:PORT, or ?host=/var/run/postgresql".into());
        }
        if host.starts_with('/') {
            return match self.tls {
                Some(true) => Err("a Unix socket has no TLS: leave sslmode out".into()),
                _ => Ok((Place::Unix { directory: host.into(), port }, false)),
            };
        }
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        if !host.chars().all(is_fit) {
            return Err("names a host that cannot be one".into());
        }
        let tls = self.tls.unwrap_or(!is_loopback(&host));
        Ok((Place::Tcp { host, port }, tls))
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "has a name that is no text".to_owned();
    let text = percent_decode_str(text).decode_utf8().map_err(|_| wrong())?;
    match text.contains('\0') {
        true => Err(wrong()),
        false => Ok(text.into_owned()),
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT`.
fn split_port(at: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match at.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => at.split_at(at.find(':').unwrap_or(at.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => Some((host, Some(port.parse().ok()?))),
        None => rest.is_empty().then_some((host, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_database_is_named_as_elsewhere_and_tls_is_the_rule() {
        let tcp = |host: &str, port| Place::Tcp { host: host.into(), port };
        let unix = |port| Place::Unix { directory: "/var/run/postgresql".into(), port };
        let good = [
            ("postgres://m@db.example.org/mesh", tcp("db.example.org", 5432), true),
            ("postgresql://m@db:7/mesh?sslmode=disable", tcp("db", 7), false),
            ("postgres://m@db/mesh?sslmode=require&port=9", tcp("db", 9), true),
            ("postgres://m@127.0.0.1/mesh", tcp("127.0.0.1", 5432), false),
            ("postgres://m@[::1]:6/mesh", tcp("::1", 6), false),
            ("postgres://m@localhost/mesh?sslmode=verify-full", tcp("localhost", 5432), true),
            ("postgres://m@/mesh?host=/var/run/postgresql", unix(5432), false),
            ("postgres://m@%2Fvar%2Frun%2Fpostgresql:8/mesh", unix(8), false),
        ];
        for (text, place, tls) in good {
            let target: Target = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
            let expected = Target { user: "m".into(), place, database: "mesh".into(), tls };
            assert_eq!(target, expected, "{text}");
        }
        let plain = |text: &str| text.parse::<Target>().unwrap().is_plain();
        assert!(plain("postgres://m@db/mesh?sslmode=disable"));
        assert!(!plain("postgres://m@db/mesh") && !plain("postgres://m@[::1]/mesh"));
        let odd: Target = "postgres://a%40b%3a@h/d%2ebé%20".parse().unwrap();
        assert_eq!((odd.user.as_str(), odd.database.as_str()), ("a@b:", "d.bé "));
    }

    #[test]
    fn what_is_wrong_is_said_and_no_password_is_repeated() {
        let bad = [
            ("mysql://m@h/d", "is not postgres://"),
            ("postgres://h/d", "names no user"),
            ("postgres://m:hunter2@h/d", "ledger.password_file"),
            ("postgres://m@h/d?password=hunter2", "ledger.password_file"),
            ("postgres://m@h", "is not postgres://"),
            ("postgres://@h/d", "is not postgres://"),
            ("postgres://m@/d", "names no host"),
            ("postgres://m@h/d?host=/run", "two hosts"),
            ("postgres://m@h:99999/d", "is not postgres://"),
            ("postgres://m@h/d?port=x", "is no port"),
            ("postgres://m@h/d?sslmode=prefer", "sslmode \"prefer\""),
            ("postgres://m@/d?host=/run&sslmode=require", "has no TLS"),
            ("postgres://m@h/d?options=-c", "options is not an option"),
            ("postgres://m%00@h/d", "no text"),
            ("postgres://m@h/d/e", "is not postgres://"),
        ];
        for (text, expected) in bad {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn a_target_is_read_as_it_is_shown(
            user in "[^\0]{1,12}", database in "[^\0/]{1,12}", port: u16, tls: bool, unix: bool,
        ) {
            let place = match unix {
                true => Place::Unix { directory: "/run/a b".into(), port },
                false => Place::Tcp { host: "db.example.org".into(), port },
            };
            let target = Target { user, place, database, tls: tls && !unix };
            prop_assert_eq!(target.to_string().parse(), Ok(target));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "(postgres://)?.{0,40}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert_eq!(target.to_string().parse(), Ok(target));
            }
        }
    }
}
