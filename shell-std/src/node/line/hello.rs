//! Hellos on a line: it takes smaller packets than the node's other links, and a silence
//! is longer.

use super::LineLimits;
use blvm_mesh_core::time::{MILLISECOND, Micros};
use blvm_mesh_core::wire::hello::{Hello, MAX_LEN};
use blvm_mesh_core::wire::{Header, Kind};

/// Tells when the neighbour was spoken to.
#[derive(Debug, Default)]
pub(super) struct Greetings {
    spoke: Option<Micros>,
    /// Whether the last hello told a time, and the quality that it told.
    said: Option<(bool, u16)>,
}

/// What to do with a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// It is no hello.
    Other,
    /// A hello that would break no silence of this line, and has no news.
    NotNow,
    /// This is to be sent in its place.
    Say(Vec<u8>),
}

impl Greetings {
    /// Whether anything was sent.
    pub(super) fn have_spoken(&self) -> bool {
        self.spoke.is_some()
    }

    /// A packet was sent.
    pub(super) fn spoke(&mut self, now: Micros) {
        self.spoke = Some(now);
    }

    /// Whether a packet is a hello, and what to say.
    pub(super) fn greeting(&mut self, now: Micros, packet: &[u8], limits: &LineLimits) -> Greeting {
        let Some(mut hello) = parse(packet) else { return Greeting::Other };
        let says = Some((hello.unix > 0, hello.quality));
        let spoke = self.spoke.is_some_and(|spoke| now < spoke.saturating_add(limits.keepalive));
        if spoke && says == self.said {
            return Greeting::NotNow;
        }
        self.said = says;
        hello.max_packet = hello.max_packet.min(limits.datagram.max_packet);
        hello.keepalive_ms = (limits.keepalive / MILLISECOND) as u32;
        let mut bytes = [0; MAX_LEN];
        let written = hello.write(&mut bytes).ok().and_then(|len| bytes.get(..len));
        written.map_or(Greeting::Other, |bytes| Greeting::Say(bytes.to_vec()))
    }
}

fn parse(packet: &[u8]) -> Option<Hello> {
    let (header, body) = Header::parse(packet).ok()?;
    if header.kind != Kind::Hello {
        return None;
    }
    Hello::parse(header, body).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::config::Config;
    use blvm_mesh_core::id::Network;
    use blvm_mesh_core::mesh::{Action, HostMesh, Input};
    use blvm_mesh_core::time::SECOND;

    /// The hello that the state machine writes.
    fn hello_of_the_node(config: Config) -> Vec<u8> {
        let key = bitcoin::secp256k1::SecretKey::from_slice(&[1; 32]).unwrap();
        let mut mesh = HostMesh::new(config, key, [2; 32]);
        let (link, peer) = (blvm_mesh_core::id::LinkId(1), blvm_mesh_core::id::NodeId([3; 32]));
        mesh.handle(0, Input::PeerConnected { link, peer, dialed: true }).unwrap();
        loop {
            match mesh.poll() {
                Action::Forward { packet, .. } => return packet.head.to_vec(),
                Action::Wait { .. } => panic!("no hello"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_neighbour_learns_what_the_line_bears_and_silences_are_those_of_the_line() {
        let mut config = Config::host(Network::Signet);
        config.timing.keepalive = 250 * MILLISECOND;
        let line = "serial:///dev/x?baud=115200".parse().unwrap();
        let limits = LineLimits::new(&line, &config, 8 << 20);
        let packet = hello_of_the_node(config);
        let mut greetings = Greetings::default();
        let Greeting::Say(said) = greetings.greeting(0, &packet, &limits) else { panic!() };
        let (before, after) = (parse(&packet).unwrap(), parse(&said).unwrap());
        assert_eq!((before.max_packet, before.keepalive_ms), (4_202_496, 250));
        assert_eq!((after.max_packet, after.keepalive_ms), (172_800, 7_500));
        let same = Hello { max_packet: 4_202_496, keepalive_ms: 250, ..after };
        assert_eq!(same, before);

        greetings.spoke(SECOND);
        let before = parse(&packet).unwrap();
        assert_eq!(greetings.greeting(8 * SECOND, &packet, &limits), Greeting::NotNow);
        let due = greetings.greeting(SECOND + limits.keepalive, &packet, &limits);
        assert!(matches!(due, Greeting::Say(_)));
        // News does not wait.
        let news = Hello { quality: 300, ..before };
        let mut packet = vec![0; MAX_LEN];
        let len = news.write(&mut packet).unwrap();
        let said = greetings.greeting(SECOND, &packet[..len], &limits);
        assert!(matches!(said, Greeting::Say(_)));
        assert_eq!(greetings.greeting(SECOND, &packet[..len], &limits), Greeting::NotNow);
        for other in [&[][..], &[7; 60], &packet[..packet.len() - 1]] {
            assert_eq!(greetings.greeting(0, other, &limits), Greeting::Other);
        }
    }
}
