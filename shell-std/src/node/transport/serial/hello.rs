//! Hellos on a line: it takes smaller packets than the node's other links, and answers
//! take longer.

use super::limits::LineLimits;
use blvm_mesh_core::time::MILLISECOND;
use blvm_mesh_core::wire::hello::{Hello, MAX_LEN};
use blvm_mesh_core::wire::{Header, Kind};

/// The hello that is to be sent in place of this packet, if it is one.
pub(super) fn for_line(packet: &[u8], limits: &LineLimits) -> Option<Vec<u8>> {
    let mut hello = parse(packet)?;
    hello.max_packet = hello.max_packet.min(limits.datagram.max_packet);
    hello.keepalive_ms = (limits.keepalive / MILLISECOND) as u32;
    let mut bytes = [0; MAX_LEN];
    let len = hello.write(&mut bytes).ok()?;
    bytes.get(..len).map(<[u8]>::to_vec)
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
    use blvm_mesh_core::id::{Network, Standing};
    use blvm_mesh_core::mesh::{Action, HostMesh, Input};

    /// The hello that the state machine writes.
    fn hello_of_the_node(config: Config) -> Vec<u8> {
        let key = secp256k1::SecretKey::from_byte_array([1; 32]).unwrap();
        let mut mesh = HostMesh::new(config, key, [2; 32]);
        let (link, peer) = (blvm_mesh_core::id::LinkId(1), blvm_mesh_core::id::NodeId([3; 32]));
        mesh.handle(0, Input::PeerConnected { link, peer, dialed: true, standing: Standing::Own })
            .unwrap();
        loop {
            match mesh.poll() {
                Action::Forward { packet, .. } => return packet.head.to_vec(),
                Action::Wait { .. } => panic!("no hello"),
                _ => {}
            }
        }
    }

    #[test]
    fn a_neighbour_learns_what_the_line_bears_and_how_soon_it_answers() {
        let mut config = Config::host(Network::Signet);
        config.timing.keepalive = 250 * MILLISECOND;
        let line = "serial:///dev/x?baud=115200".parse().unwrap();
        let limits = LineLimits::new(&line, &config, 8 << 20);
        let packet = hello_of_the_node(config);
        let said = for_line(&packet, &limits).unwrap();
        let (before, after) = (parse(&packet).unwrap(), parse(&said).unwrap());
        assert_eq!((before.max_packet, before.keepalive_ms), (4_202_496, 250));
        assert_eq!((after.max_packet, after.keepalive_ms), (172_800, 7_500));
        let same = Hello { max_packet: 4_202_496, keepalive_ms: 250, ..after };
        assert_eq!(same, before);
        for other in [&[][..], &[7; 60], &packet[..packet.len() - 1]] {
            assert_eq!(for_line(other, &limits), None);
        }
    }
}
