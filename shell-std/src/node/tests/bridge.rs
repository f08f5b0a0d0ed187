//! Bridged connections between two nodes, with programs in the places of Bitcoin nodes.

use super::*;
use crate::bridge::message;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};

/// The two programs' connections, and the nodes between them: a client's and a gateway's.
async fn bridged(bed: &Bed) -> ([TcpStream; 2], [Node; 2]) {
    let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let at = far.local_addr().unwrap();
    let gateway = bed.start_with(1, MeshMode::PaymentGated, &[], Disk::default(), |settings| {
        (settings.bridge.node, settings.bridge.connections) = (Some(at), 4);
    });
    let id = gateway.handle().id();
    let client =
        bed.start_with(2, MeshMode::PaymentGated, &[&gateway], Disk::default(), |settings| {
            (settings.bridge.listen, settings.bridge.gateways) = (vec![near], vec![id]);
        });
    linked(&client, &gateway).await;
    let mut near = TcpStream::connect(near).await.unwrap();
    near.write_all(&verack()).await.unwrap();
    let (mut far, _) = timely(far.accept()).await.unwrap();
    assert_eq!(read(&mut far).await.as_deref(), Some(&verack()[..]));
    ([near, far], [client, gateway])
}

fn verack() -> Vec<u8> {
    let mut out = Vec::new();
    message::write(Network::Regtest.magic(), "verack", &[], &mut out);
    out
}

async fn timely<T>(happens: impl Future<Output = T>) -> T {
    let late = async {
        smol::Timer::after(PATIENCE).await;
        panic!("nothing comes")
    };
    smol::future::or(happens, late).await
}

/// The next bytes; `None`: the connection was closed.
async fn read(tcp: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 100];
    let len = timely(tcp.read(&mut bytes)).await.unwrap_or(0);
    bytes.truncate(len);
    (len > 0).then_some(bytes)
}

#[test]
fn a_node_that_stops_ends_its_bridged_connections_at_both_ends() {
    Bed::run(async |bed| {
        for stops in [0, 1] {
            let (ends, nodes) = bridged(&bed).await;
            let mut nodes = Vec::from(nodes);
            nodes.remove(stops).stop().await;
            for mut end in ends {
                assert_eq!(read(&mut end).await, None);
            }
            nodes.remove(0).stop().await;
        }
    });
}

#[test]
fn what_was_said_before_a_close_arrives() {
    Bed::run(async |bed| {
        let ([mut near, mut far], nodes) = bridged(&bed).await;
        far.write_all(&verack().repeat(3)).await.unwrap();
        drop(far);
        let mut got = Vec::new();
        while let Some(more) = read(&mut near).await {
            got.extend(more);
        }
        assert_eq!(got, verack().repeat(3));
        for node in nodes {
            node.stop().await;
        }
    });
}
