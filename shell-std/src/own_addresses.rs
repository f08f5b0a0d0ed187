//! Where other machines reach this one.

use crate::address::{HostPort, MOST_PLACES};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Why no address can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAddress {
    /// There is no port.
    #[error("this node listens on no TCP address (mesh.listen_addr)")]
    NotListening,
    /// The port is chosen at the start.
    #[error("which port it takes is known once the node runs: start it first")]
    AnyPort,
    /// Only this host reaches the port.
    #[error("this node listens on {0}, which only this host reaches: listen on 0.0.0.0 or [::]")]
    Loopback(SocketAddr),
    /// The machine has none of the kind that is listened on.
    #[error("this node listens on {0}, and this machine has no address there that others reach")]
    NoNetwork(SocketAddr),
    /// The system does not tell its addresses.
    #[error("the system does not tell its addresses: {0}")]
    System(#[from] io::Error),
}

/// Where a node that listens there is reached; at most [`MOST_PLACES`]. Where it listens everywhere,
/// these are the addresses of this machine, those of the Internet first.
///
/// # Errors
/// [`NoAddress`].
pub(crate) fn reachable(listen: Option<SocketAddr>) -> Result<Vec<HostPort>, NoAddress> {
    let listen = listen.ok_or(NoAddress::NotListening)?;
    let machine = match listen.ip().is_unspecified() {
        true => of_machine()?,
        false => Vec::new(),
    };
    choose(listen, machine)
}

fn of_machine() -> io::Result<Vec<IpAddr>> {
    let of = |each: InterfaceAddress| {
        let address = each.address?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    Ok(getifaddrs()?.filter_map(of).collect())
}

fn choose(listen: SocketAddr, machine: Vec<IpAddr>) -> Result<Vec<HostPort>, NoAddress> {
    if listen.port() == 0 {
        return Err(NoAddress::AnyPort);
    }
    if listen.ip().to_canonical().is_loopback() {
        return Err(NoAddress::Loopback(listen));
    }
    let mut found = match listen.ip() {
        ip if !ip.is_unspecified() => vec![ip],
        // A port on [::] takes connections over IPv4 as well.
        ip => machine.into_iter().filter(|other| other.is_ipv4() || ip.is_ipv6()).collect(),
    };
    found.retain(|ip| !is_local(*ip));
    found.sort_by_key(|ip| (is_private(*ip), *ip));
    found.dedup();
    found.truncate(MOST_PLACES);
    match found.is_empty() {
        true => Err(NoAddress::NoNetwork(listen)),
        false => Ok(found.into_iter().map(|ip| place(ip, listen.port())).collect()),
    }
}

fn place(ip: IpAddr, port: u16) -> HostPort {
    HostPort { host: ip.to_string(), port }
}

/// Whether an address has a meaning on one host or one wire only.
fn is_local(ip: IpAddr) -> bool {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local
}

/// Whether an address is of a private network (RFC 1918, 4193 and 6598), and not of the Internet.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(listen: &str, machine: &[&str]) -> Result<Vec<String>, NoAddress> {
        let machine = machine.iter().map(|ip| ip.parse().unwrap()).collect();
        let places = choose(listen.parse().unwrap(), machine)?;
        Ok(places.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn wildcards_become_the_addresses_of_the_machine() {
        let machine = [
            "127.0.0.1",
            "::1",
            "fe80::1",
            "169.254.3.4",
            "10.0.0.2",
            "fd00::2",
            "2001:db8::2",
            "192.0.2.2",
        ];
        assert_eq!(chosen("0.0.0.0:7", &machine).unwrap(), ["192.0.2.2:7", "10.0.0.2:7"]);
        let all = ["192.0.2.2:7", "[2001:db8::2]:7", "10.0.0.2:7", "[fd00::2]:7"];
        assert_eq!(chosen("[::]:7", &machine).unwrap(), all);
        assert_eq!(chosen("10.9.9.9:7", &machine).unwrap(), ["10.9.9.9:7"]);
        let many: Vec<_> = (0..20).map(|n| format!("10.0.0.{n}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        assert_eq!(chosen("0.0.0.0:7", &many).unwrap().len(), MOST_PLACES);
        assert_eq!(chosen("0.0.0.0:7", &["10.0.0.2", "10.0.0.3", "10.0.0.2"]).unwrap().len(), 2);
    }

    #[test]
    fn what_others_do_not_reach_is_none() {
        let error = |listen: &str, machine: &[&str]| chosen(listen, machine).unwrap_err();
        assert!(matches!(error("127.0.0.1:7", &["10.0.0.2"]), NoAddress::Loopback(_)));
        assert!(matches!(error("[::ffff:127.0.0.1]:7", &[]), NoAddress::Loopback(_)));
        assert!(matches!(
            error("0.0.0.0:7", &["127.0.0.1", "2001:db8::1"]),
            NoAddress::NoNetwork(_)
        ));
        assert!(matches!(error("[fe80::1]:7", &[]), NoAddress::NoNetwork(_)));
        assert!(matches!(error("0.0.0.0:0", &["10.0.0.2"]), NoAddress::AnyPort));
        assert!(matches!(reachable(None), Err(NoAddress::NotListening)));
    }

    #[test]
    fn private_networks_are_told_from_the_internet() {
        let private = |ip: &str| is_private(ip.parse().unwrap());
        assert!(
            ["10.1.2.3", "192.168.0.1", "172.16.0.1", "100.64.0.1", "fd00::1"]
                .map(private)
                .iter()
                .all(|p| *p)
        );
        assert!(!private("100.128.0.1") && !private("8.8.8.8") && !private("2001:db8::1"));
    }
}
