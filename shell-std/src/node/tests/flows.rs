//! Streams between nodes on loopback: for nothing, paid for at each relay, through TCP ports, and
//! over restarts.

use super::*;
use crate::flows::{FlowError, ForwardSpec, Stream};
use crate::issuer::Issuer;
use crate::rpc::types::GetLedger;
use crate::store::Store;
use crate::wallet::{Limits, RegtestWallet, Spending};
use blvm_mesh_core::mesh::FlowEnded;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use std::path::Path;

/// A node with a store, an issuer and a wallet of play money.
pub(super) struct Paying {
    pub(super) node: Node,
    pub(super) store: Arc<Store>,
}

pub(super) fn memory() -> Arc<Store> {
    let disk = redb::backends::InMemoryBackend::new;
    Arc::new(Store::with_backend(Path::new("memory"), disk).unwrap())
}

fn paying(bed: &Bed, key: u8, store: Arc<Store>, settings: &Settings) -> Paying {
    let limits = Limits {
        max_msat_per_payment: 1 << 40,
        max_msat_per_hour: 1 << 40,
        max_msat_per_day: 1 << 40,
        max_msat_per_destination_day: 1 << 40,
        ..Limits::default()
    };
    paying_within(bed, key, store, settings, limits)
}

/// One that may spend so much.
pub(super) fn paying_within(
    bed: &Bed,
    key: u8,
    store: Arc<Store>,
    settings: &Settings,
    limits: Limits,
) -> Paying {
    let spending = Arc::new(Spending::new(store.clone(), limits).unwrap());
    let wallet = Arc::new(RegtestWallet::on(Network::Regtest).unwrap());
    let issuer: Arc<dyn Issue> = Arc::new(Issuer::from_secret(secret(100 + key)));
    let remembered: Vec<_> = store.restore().unwrap().collect();
    let payer = Some(Payer { wallet, spending });
    let node = Node::start(
        settings,
        &secret(key),
        store.clone(),
        remembered.into_iter(),
        Some(issuer),
        payer,
        &bed.executor,
    );
    Paying { node: node.unwrap(), store }
}

/// A line of nodes of this mode, each of which dials the one before.
fn line(bed: &Bed, mode: MeshMode, count: u8) -> Vec<Paying> {
    line_with(bed, mode, count, |_| {})
}

/// The same, each configured further.
pub(super) fn line_with(
    bed: &Bed,
    mode: MeshMode,
    count: u8,
    mut change: impl FnMut(&mut Settings),
) -> Vec<Paying> {
    let mut nodes: Vec<Paying> = Vec::new();
    for key in 1..=count {
        let mut settings = settings(mode);
        change(&mut settings);
        settings.peers = nodes.last().map(|before| address(&before.node)).into_iter().collect();
        nodes.push(paying(bed, key, memory(), &settings));
    }
    nodes
}

pub(super) async fn ready(nodes: &[Paying]) {
    for pair in nodes.windows(2) {
        linked(&pair[1].node, &pair[0].node).await;
    }
}

pub(super) async fn stop(nodes: Vec<Paying>) {
    for node in nodes {
        node.node.stop().await;
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len as u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}

/// Sends back what comes, in reverse order.
async fn reverse(mut stream: Stream) {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all.reverse();
    stream.write_all(&all).await.unwrap();
    stream.close().await.unwrap();
    stream.arrived().await.unwrap();
}

async fn ask(stream: &mut Stream, data: &[u8]) -> Vec<u8> {
    let mut back = Vec::new();
    let (mut reads, mut writes) = (stream.clone(), stream.clone());
    let write = async {
        writes.write_all(data).await?;
        writes.close().await
    };
    smol::future::try_zip(write, reads.read_to_end(&mut back)).await.unwrap();
    back
}

#[test]
fn streams_cross_a_relay_for_nothing_or_for_money() {
    for mode in [MeshMode::Open, MeshMode::PaymentGated] {
        Bed::run(async |bed| {
            let nodes = line(&bed, mode, 3);
            ready(&nodes).await;
            let listener = nodes[2].node.handle().flows().listen().unwrap();
            let server = bed.executor.spawn(async move {
                let flow = listener.accept().await.unwrap();
                while let Some(stream) = flow.accept_stream().await {
                    smol::spawn(reverse(stream)).detach();
                }
            });
            let flows = nodes[0].node.handle().flows();
            let to = nodes[2].node.handle().id();
            let flow = flows.open(to, 1 << 40).await.unwrap();
            assert_eq!(flow.peer(), to);
            let data = bytes(3_000_000);
            // The first is not read from for a while, and holds up nobody.
            let mut held = flow.open_stream().await.unwrap();
            held.write_all(&data[..100_000]).await.unwrap();
            let asked = (0..5).map(|n| {
                let (flow, data) = (flow.clone(), data[n..500_000 * (n + 1)].to_vec());
                bed.executor.spawn(async move {
                    let mut stream = flow.open_stream().await.unwrap();
                    let mut back = ask(&mut stream, &data).await;
                    back.reverse();
                    assert!(back == data);
                })
            });
            for asked in asked.collect::<Vec<_>>() {
                asked.await;
            }
            assert_eq!(ask(&mut held, &data[100_000..100_001]).await.len(), 100_001);
            let own = flows.list().await.unwrap();
            assert_eq!((own.len(), own[0].opened, own[0].up), (1, true, true));
            let paid = own[0].paid_msat;
            assert_eq!(paid > 0, mode == MeshMode::PaymentGated);
            drop((flow, held));
            until("the flow is closed at both ends", async || {
                let there = nodes[2].node.handle().flows().list().await.unwrap();
                flows.list().await.unwrap().is_empty() && there.is_empty()
            })
            .await;
            server.await;
            // What one has paid is what the others have earned.
            let ledger = |n: usize| nodes[n].store.ledger(&GetLedger::default()).unwrap();
            until("all is in the ledgers", async || ledger(0).bought.amount_msat == paid).await;
            assert_eq!(ledger(1).sold.amount_msat, paid);
            assert_eq!(ledger(2).sold.amount_msat, 0);
            stop(nodes).await;
        });
    }
}

/// Answers connections with what they send, until there is no more.
async fn echo(listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        smol::spawn(async move { smol::io::copy(tcp.clone(), tcp).await }).detach();
    }
}

async fn through(at: SocketAddr, data: &[u8]) -> std::io::Result<Vec<u8>> {
    let tcp = TcpStream::connect(at).await?;
    let (mut reads, mut writes) = (tcp.clone(), tcp);
    let mut back = Vec::new();
    let write = async {
        writes.write_all(data).await?;
        writes.close().await
    };
    smol::future::try_zip(write, reads.read_to_end(&mut back)).await?;
    Ok(back)
}

fn forward(to: &Node, name: &str) -> ForwardSpec {
    format!("0={}:{name}", to.handle().id()).parse().unwrap()
}

#[test]
fn a_tcp_port_is_reached_through_the_mesh() {
    Bed::run(async |bed| {
        let nodes = line(&bed, MeshMode::PaymentGated, 3);
        ready(&nodes).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap();
        let _echo = bed.executor.spawn(echo(listener));
        let (a, c) = (nodes[0].node.handle().services(), nodes[2].node.handle().services());
        c.expose("echo".parse().unwrap(), target).unwrap();
        assert!(c.expose("echo".parse().unwrap(), ([127, 0, 0, 1], 9).into()).is_err());
        let at = a.forward(forward(&nodes[2].node, "echo"), 1 << 40).await.unwrap();
        assert!(
            a.forward(ForwardSpec { local: at, ..forward(&nodes[2].node, "x") }, 1).await.is_err()
        );
        let data = bytes(700_000);
        let all = (0..4).map(|_| {
            let data = data.clone();
            bed.executor.spawn(async move { assert!(through(at, &data).await.unwrap() == data) })
        });
        for one in all.collect::<Vec<_>>() {
            one.await;
        }
        assert_eq!(nodes[0].node.handle().flows().list().await.unwrap().len(), 1, "one is shared");
        // Whoever asks for what is not there is told, and so is whoever may not pay.
        let nothing = a.forward(forward(&nodes[2].node, "nothing"), 1 << 40).await.unwrap();
        assert!(through(nothing, b"x").await.unwrap_or_default().is_empty());
        let poor = a.forward(forward(&nodes[2].node, "echo"), 1_000).await.unwrap();
        assert!(through(poor, b"x").await.unwrap_or_default().is_empty());
        let (exposed, forwards) = (c.list().0, a.list().1);
        assert_eq!((exposed.len(), forwards.len()), (1, 3));
        a.unforward(at).await.unwrap();
        assert!(TcpStream::connect(at).await.is_err());
        c.withdraw(&"echo".parse().unwrap()).unwrap();
        assert!(c.withdraw(&"echo".parse().unwrap()).is_err());
        stop(nodes).await;
    });
}

#[test]
fn nobody_there_no_money_and_nobody_listening_are_told_apart() {
    Bed::run(async |bed| {
        let nodes = line(&bed, MeshMode::PaymentGated, 3);
        ready(&nodes).await;
        let flows = nodes[0].node.handle().flows();
        let (to, me) = (nodes[2].node.handle().id(), nodes[0].node.handle().id());
        // Before anything is bought, that is of use to the next one.
        let poor = flows.open(to, 1_000).await.unwrap_err();
        assert_eq!(poor, FlowError::Ended(FlowEnded::Budget));
        let refused = flows.open(to, 1 << 40).await.unwrap_err();
        assert!(refused.to_string().contains("takes no flows"), "{refused}");
        assert!(matches!(flows.open(me, 1).await, Err(FlowError::Refused(_))));
        stop(nodes).await;
    });
}

#[test]
fn a_restarted_relay_interrupts_no_stream() {
    Bed::run(async |bed| {
        let mut nodes = line(&bed, MeshMode::PaymentGated, 3);
        ready(&nodes).await;
        let listener = nodes[2].node.handle().flows().listen().unwrap();
        let server = bed.executor.spawn(async move {
            let flow = listener.accept().await.unwrap();
            reverse(flow.accept_stream().await.unwrap()).await;
        });
        let flows = nodes[0].node.handle().flows().clone();
        let flow = flows.open(nodes[2].node.handle().id(), 1 << 40).await.unwrap();
        let mut stream = flow.open_stream().await.unwrap();
        let data = bytes(2_000_000);
        stream.write_all(&data[..1_000_000]).await.unwrap();
        // The relay goes and comes back at the same address with what is on its disk.
        let relay = nodes.remove(1);
        let at = relay.node.handle().listen_addr().unwrap();
        relay.node.stop().await;
        let mut settings = settings(MeshMode::PaymentGated);
        settings.peers = vec![address(&nodes[0].node)];
        settings.listen_addr = Some(at);
        nodes.insert(1, paying(&bed, 2, relay.store, &settings));
        let stuck = async {
            smol::Timer::after(PATIENCE).await;
            let look = |engine: &mut engine::Engine| {
                format!("{:?}", engine.mesh.own_flows().collect::<Vec<_>>())
            };
            for node in [&nodes[0].node, &nodes[2].node] {
                println!("{}", node.handle().job(look).await.unwrap());
            }
            panic!("the stream is stuck");
        };
        let mut back = smol::future::or(ask(&mut stream, &data[1_000_000..]), stuck).await;
        back.reverse();
        assert!(back == data);
        server.await;
        stop(nodes).await;
    });
}
