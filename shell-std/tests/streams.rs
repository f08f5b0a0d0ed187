//! A thousand connections on one flow, over three nodes as users run them.

mod program;

use program::daemon::{Daemon, text};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use std::net::SocketAddr;
use std::time::Duration;

const STREAMS: usize = 1_000;
/// Longest wait for one of them, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// Answers each connection with what it sends.
async fn echo(listener: TcpListener) {
    while let Ok((tcp, _)) = listener.accept().await {
        smol::spawn(async move { smol::io::copy(tcp.clone(), tcp).await }).detach();
    }
}

async fn say(tcp: &mut TcpStream, n: usize) {
    let sent: Vec<u8> = (0..2_000).map(|at| (n * 31 + at) as u8).collect();
    let mut back = vec![0; sent.len()];
    let both = async {
        tcp.write_all(&sent).await.unwrap();
        tcp.read_exact(&mut back).await.unwrap();
        true
    };
    let late = async {
        smol::Timer::after(PATIENCE).await;
        false
    };
    assert!(smol::future::or(both, late).await, "connection {n} stands still");
    assert!(back == sent, "connection {n} has other bytes");
}

#[test]
fn a_thousand_connections_share_a_flow() {
    // One for each connection at either end.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(maximum.is_none_or(|most| most >= 8_192), "`ulimit -Hn` must be 8192 at least");
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = ["--mode", "open"];
    let b = Daemon::start(&dir.path().join("b"), &[], &options);
    // A flow from behind a relay has a 128th of this memory, half of it for as many streams. It is
    // a bound: what is not used is not taken.
    let memory = ["--set", "flow.stream_memory_bytes=9000000000"];
    let mut c = Daemon::start(&dir.path().join("c"), &[&b], &[&options[..], &memory].concat());
    let mut a = Daemon::start(&dir.path().join("a"), &[&b], &options);
    smol::block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = listener.local_addr().unwrap().to_string();
        let _echo = smol::spawn(echo(listener));
        c.call("expose", json!({"name": "echo", "target": target})).unwrap();
        let node = text(&c.ready["public_key"]).to_owned();
        let forward = json!({"local": "0", "node": node, "service": "echo"});
        let forwarding = a.call("forward", forward).unwrap();
        let local: SocketAddr = text(&forwarding["local"]).parse().unwrap();
        let mut open = Vec::new();
        for n in 0..STREAMS {
            let mut tcp = TcpStream::connect(local).await.unwrap();
            // Each is answered before the next one comes, so that all are open at once.
            say(&mut tcp, n).await;
            open.push(tcp);
        }
        let flows = a.call("getflows", json!({})).unwrap();
        assert_eq!(flows["own"].as_array().unwrap().len(), 1, "{flows}");
        let pipes = a.call("getstats", json!({})).unwrap()["pipes"].clone();
        assert!(pipes["streams"].as_u64().unwrap() >= STREAMS as u64, "{pipes}");
        // And then all speak at the same time.
        let speak =
            |(n, mut tcp): (usize, TcpStream)| smol::spawn(async move { say(&mut tcp, n).await });
        let all: Vec<_> = (0..).zip(open).map(speak).collect();
        for one in all {
            one.await;
        }
    });
}
