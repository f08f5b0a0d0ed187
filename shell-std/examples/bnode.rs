use blvm_mesh::{config::*, identity::PeerAddress, node::*};
use blvm_mesh_core::payment::ledger::Record;
use std::sync::Arc;
use std::time::Duration;
struct No;
impl Commit for No {
    type Error = String;
    fn commit(&mut self, _: &[(u64, Record)]) -> Result<(), String> {
        Ok(())
    }
}
// bnode KEY LISTEN MODE THREADS PEERKEY@addr... [bench DEST SIZE SECS WINDOW PROTO]
fn main() {
    let a: Vec<String> = std::env::args().skip(1).collect();
    let key = |n: u8| bitcoin::secp256k1::SecretKey::from_slice(&[n; 32]).unwrap();
    let pk = |n: u8| key(n).public_key(&bitcoin::secp256k1::Secp256k1::new());
    let me: u8 = a[0].parse().unwrap();
    let mut s = Sources {
        file: None,
        overrides: vec![],
        xdg_data_home: None,
        home: Some("/tmp/nonexist".into()),
    }
    .load()
    .unwrap();
    s.config.mode = parse_mode(&a[2]).unwrap();
    s.config.network = blvm_mesh_core::id::Network::Regtest;
    s.config.free_rate = 1 << 40;
    s.config.free_burst = 1 << 40;
    s.listen_addr = Some(a[1].parse().unwrap());
    s.shell.bench_sink = true;
    let threads: usize = a[3].parse().unwrap();
    let mut i = 4;
    while i < a.len() && a[i] != "bench" {
        let (k, ad) = a[i].split_once('@').unwrap();
        let (h, p) = ad.rsplit_once(':').unwrap();
        s.peers.push(PeerAddress {
            public_key: pk(k.parse().unwrap()),
            host: h.into(),
            port: p.parse().unwrap(),
        });
        i += 1;
    }
    let ex: Arc<smol::Executor<'static>> = Arc::new(smol::Executor::new());
    let ex2 = ex.clone();
    blvm_mesh::node::runtime::run(&ex, threads, async move {
        let node =
            Node::start(&s, &key(me), No, std::iter::empty::<Result<Record, String>>(), &ex2)
                .unwrap();
        if i < a.len() {
            let dest = blvm_mesh_core::id::NodeId::from_public_key(&pk(a[i + 1].parse().unwrap()));
            let h = node.handle();
            for _ in 0..100 {
                if h.find_route(dest).await.unwrap() {
                    break;
                }
                smol::Timer::after(Duration::from_millis(50)).await;
            }
            let proto = if a[i + 5] == "bitcoin" {
                blvm_mesh::bench::Protocol::Bitcoin
            } else {
                blvm_mesh::bench::Protocol::Raw
            };
            let o = h
                .bench(
                    dest,
                    proto,
                    a[i + 2].parse().unwrap(),
                    Duration::from_secs_f64(a[i + 3].parse().unwrap()),
                    a[i + 4].parse().unwrap(),
                )
                .await
                .unwrap()
                .unwrap();
            println!(
                "{:.0} Mbit/s {:.0} p/s loss {:.4} p50 {} p90 {} p99 {} sent {} stopped {} refused {} {:?}",
                o.goodput_mbit(),
                o.packets_per_second(),
                o.loss(),
                o.rtt_p50_us,
                o.rtt_p90_us,
                o.rtt_p99_us,
                o.sent,
                o.stopped,
                o.refused,
                o.reason
            );
            node.stop().await;
        } else {
            std::future::pending::<()>().await
        }
    });
}
