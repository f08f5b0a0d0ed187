//! Network interfaces on which neighbours can be found: those that are up, take multicast, are no
//! loopback or point-to-point link, and have a link-local IPv6 address.

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

/// Most interfaces that are used at once.
pub const MOST: usize = 16;

/// An interface, as the system knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, which is the scope of link-local addresses on it.
    pub index: u32,
    /// Its link-local address, the lowest if it has several.
    pub address: Ipv6Addr,
}

/// The name of an interface, or a pattern in which `*` stands for any characters, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/';
        match !text.is_empty() && text.len() < 64 && text.chars().all(plain) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("\"{text}\" is not the name of an interface, as in eth0 or wl*")),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
            return false;
        };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            match rest.find(part) {
                Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
                None => return false,
            }
        }
        true
    }
}

/// The interfaces that can be used now and match a pattern, or all that can if there is no pattern;
/// by name, and at most [`MOST`].
///
/// # Errors
/// Why the system does not tell.
pub fn usable(patterns: &[Pattern]) -> io::Result<Vec<Interface>> {
    let wanted =
        InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
    let refused = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT;
    let mut found = BTreeMap::<String, Interface>::new();
    for each in getifaddrs()? {
        let address = each.address.as_ref().and_then(|address| address.as_sockaddr_in6());
        let Some(address) = address.map(|address| SocketAddrV6::from(*address)) else { continue };
        let name = each.interface_name;
        let named = patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(&name));
        let local = address.ip().is_unicast_link_local() && address.scope_id() != 0;
        if !named || !local || !each.flags.contains(wanted) || each.flags.intersects(refused) {
            continue;
        }
        let (address, index) = (*address.ip(), address.scope_id());
        let new = Interface { name: name.clone(), index, address };
        let known = found.entry(name).or_insert_with(|| new.clone());
        if new.address < known.address {
            *known = new;
        }
    }
    Ok(found.into_values().take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns() {
        let meant = |pattern: &str, name: &str| pattern.parse::<Pattern>().unwrap().matches(name);
        for (pattern, name) in [
            ("eth0", "eth0"),
            ("eth*", "eth0"),
            ("eth*", "eth"),
            ("*", "wlan0"),
            ("*0", "wlan0"),
            ("e*p*s0", "enp3s0"),
            ("e*", "enp3s0"),
            ("a*a", "aa"),
        ] {
            assert!(meant(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("eth0", "eth01"), ("eth", "eth0"), ("*1", "eth0"), ("a*a", "a"), ("e*x*0", "enp3s0")]
        {
            assert!(!meant(pattern, name), "{pattern} {name}");
        }
        for bad in ["", "a b", "a/b", &"x".repeat(64)] {
            assert!(bad.parse::<Pattern>().unwrap_err().contains("eth0 or wl*"));
        }
    }

    #[test]
    fn a_loopback_is_never_usable() {
        let found = usable(&["lo".parse().unwrap()]).unwrap();
        assert_eq!(found, []);
    }
}
