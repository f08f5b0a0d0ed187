//! Nodes that find each other on a LAN: daemons in network namespaces of their own, which a bridge
//! in another one joins. That takes root and `ip` (iproute2); without, the tests say so and pass.

mod program;

use blvm_mesh::lan::beacon::{Beacon, LEN};
use blvm_mesh::lan::{GROUP, PORT};
use blvm_mesh_core::id::Network;
use program::daemon::{Daemon, text};
use program::program;
use serde_json::{Value, json};
use std::net::{SocketAddrV6, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(240);
/// Looks for neighbours, and often.
const LOOKING: [&str; 4] = ["--set", "lan.enabled=true", "--set", "lan.interval_ms=500"];
/// In the environment of this program where it is the liar.
const LIAR: &str = "LAN_TEST_LIAR";

fn ip(arguments: &str) -> bool {
    let run = Command::new("ip").args(arguments.split(' ')).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Hosts on LANs. They are gone when it is dropped.
struct Hosts {
    name: String,
    count: usize,
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for n in 0..=self.count {
            ip(&format!("netns del {}", self.host(n)));
        }
    }
}

impl Hosts {
    /// So many hosts, and host 0, which has the bridges; `None` where none can be made.
    fn new(test: &str, count: usize) -> Option<Self> {
        let name = format!("blvm-lan-{}-{test}", std::process::id());
        let mut hosts = Self { name, count: 0 };
        for n in 0..=count {
            hosts.count = n;
            if !ip(&format!("netns add {}", hosts.host(n))) {
                println!("skipped: network namespaces take root, and `ip` of iproute2");
                return None;
            }
            assert!(ip(&format!("-n {} link set lo up", hosts.host(n))));
        }
        Some(hosts)
    }

    fn host(&self, n: usize) -> String {
        format!("{}-{n}", self.name)
    }

    /// Joins hosts by a LAN with this name, on which each has an interface of that name.
    fn lan(&self, name: &str, members: &[usize]) {
        let bridge = self.host(0);
        assert!(ip(&format!("-n {bridge} link add {name} type bridge mcast_snooping 0")));
        assert!(ip(&format!("-n {bridge} link set {name} up")));
        for n in members {
            let (host, port) = (self.host(*n), format!("{name}{n}"));
            let pair = format!("type veth peer name {port} netns {bridge}");
            assert!(ip(&format!("link add {name} netns {host} {pair}")));
            assert!(ip(&format!("-n {bridge} link set {port} master {name}")));
            assert!(ip(&format!("-n {bridge} link set {port} up")));
            assert!(ip(&format!("-n {host} link set {name} up")));
        }
    }

    fn run(&self, n: usize, what: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(n)]).arg(what.get_program());
        for (variable, value) in what.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        command
    }

    fn start(&self, n: usize, dir: &Path, options: &[&str]) -> Daemon {
        let command = self.run(n, &program());
        Daemon::start_by(command, &dir.join(n.to_string()), &[], options)
    }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn up(node: &mut Daemon) -> Vec<Value> {
    let peers = node.call("getpeers", json!({})).unwrap();
    peers.as_array().unwrap().iter().filter(|peer| peer["state"] == "up").cloned().collect()
}

fn key(node: &Daemon) -> String {
    text(&node.ready["public_key"]).to_owned()
}

fn has_link(node: &mut Daemon, other: &str) -> bool {
    up(node).iter().any(|peer| peer["public_key"] == other)
}

/// What a command prints.
fn said(dir: &Path, n: usize, arguments: &[&str]) -> String {
    let data_dir = dir.join(n.to_string());
    let output = program().args(arguments).arg("--data-dir").arg(data_dir).output().unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn nodes_on_a_lan_find_each_other_and_show_their_keys() {
    let Some(hosts) = Hosts::new("find", 3) else { return };
    let dir = tempfile::tempdir().unwrap();
    hosts.lan("lan", &[1, 2, 3]);
    let (mut a, mut b) =
        (hosts.start(1, dir.path(), &LOOKING), hosts.start(2, dir.path(), &LOOKING));
    // Off, as it is by itself.
    let mut off = hosts.start(3, dir.path(), &[]);
    let keys = [key(&a), key(&b)];
    until("they find each other", || has_link(&mut a, &keys[1]) && has_link(&mut b, &keys[0]));
    let (of_a, of_b) = (up(&mut a), up(&mut b));
    assert_eq!((of_a.len(), of_b.len()), (1, 1), "one link: {of_a:?} {of_b:?}");
    assert_eq!(of_a[0]["dialed"], keys[0] < keys[1], "the smaller key dials");
    for peer in [&of_a[0], &of_b[0]] {
        assert_eq!((&peer["lan"], &peer["trusted"]), (&json!(true), &json!(false)));
        assert!(text(&peer["address"]).starts_with("[fe80::"), "{peer}");
    }
    for command in ["peers", "getinfo"] {
        let said = said(dir.path(), 1, &[command]);
        assert!(said.contains("on a LAN") && said.contains(&keys[1]), "{said}");
    }
    let stats = a.call("getstats", json!({})).unwrap();
    assert_eq!(
        (&stats["lan"][0]["name"], &stats["lan"][0]["error"]),
        (&json!("lan"), &json!(null))
    );
    assert!(up(&mut off).is_empty());
    assert_eq!(off.call("getstats", json!({})).unwrap()["lan"], json!([]));

    // An interface that goes away is left, and used again when it is back.
    assert!(ip(&format!("-n {} link set lan down", hosts.host(1))));
    until("the interface is left", || {
        a.call("getstats", json!({})).unwrap()["lan"] == json!([]) && up(&mut a).is_empty()
    });
    assert!(ip(&format!("-n {} link set lan up", hosts.host(1))));
    until("they find each other again", || has_link(&mut a, &keys[1]));
}

#[test]
fn what_is_paid_for_goes_by_a_neighbour_on_a_lan_once_it_is_trusted() {
    let Some(hosts) = Hosts::new("trust", 3) else { return };
    let dir = tempfile::tempdir().unwrap();
    hosts.lan("left", &[1, 2]);
    hosts.lan("right", &[2, 3]);
    let options = [&LOOKING[..], &["--set", "issuer_key=issuer.key"]].concat();
    let [mut a, mut b, mut c] = [1, 2, 3].map(|n| hosts.start(n, dir.path(), &options));
    until("they find each other", || up(&mut b).len() == 2);
    let (to, relay) = (text(&c.ready["node_id"]).to_owned(), key(&b));
    let relay_id = text(&b.ready["node_id"]).to_owned();
    until("a route", || a.call("findroute", json!({"destination": to})).is_ok());

    // What is free goes.
    let verack = "fabfb5da76657261636b000000000000000000005df6e0e2";
    let free = json!({"destination": to, "data_hex": verack, "wait_ms": 10_000});
    a.call("meshsendpacket", free).unwrap();
    let got = c.call("meshpollreceived", json!({"wait_ms": 60_000})).unwrap();
    assert_eq!(got[0]["data_hex"], verack);

    // What is paid for does not, and says what to do.
    let refused = a.call("meshquoteroute", json!({"destination": to, "bytes": 9})).unwrap_err();
    let remedy = format!("`peer trust {relay_id}`");
    assert!(refused.to_string().contains(&remedy), "{refused}");
    let data = hex::encode("a paid one");
    let paid = json!({
        "destination": to, "data_hex": data, "pay": true, "max_msat": 10_000_000, "wait_ms": 60_000,
    });
    let refused = a.call("meshsendpacket", paid.clone()).unwrap_err();
    assert!(refused.to_string().contains("peer trust"), "{refused}");
    let ledger = a.call("getledger", json!({})).unwrap();
    assert_eq!(ledger["purchases"], json!([]), "{ledger}");

    assert!(said(dir.path(), 1, &["peer", "trust", &relay]).contains("relays what this node pays"));
    a.call("meshquoteroute", json!({"destination": to, "bytes": 9})).unwrap();
    let sent = a.call("meshsendpacket", paid).unwrap();
    assert_eq!((&sent["outcome"], &sent["hops"]), (&json!("delivered"), &json!(1)), "{sent}");
    let got = c.call("meshpollreceived", json!({"wait_ms": 60_000})).unwrap();
    assert_eq!(got[0]["data_hex"], data);
    let sold = b.call("getledger", json!({})).unwrap();
    assert!(sold["sales"].as_array().is_some_and(|sales| !sales.is_empty()), "{sold}");

    // It is kept, and can be taken back.
    drop(a);
    let mut a = hosts.start(1, dir.path(), &options);
    until("it is found again", || has_link(&mut a, &relay));
    assert!(up(&mut a).iter().any(|peer| peer["public_key"] == *relay && peer["trusted"] == true));
    assert!(said(dir.path(), 1, &["peer", "list"]).contains(&relay_id));
    assert!(said(dir.path(), 1, &["peer", "distrust", &relay]).contains("free only"));
    assert!(up(&mut a).iter().all(|peer| peer["trusted"] == false));
}

/// Who floods the LAN with beacons of ever new keys.
struct Liar(Child);

impl Drop for Liar {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test, but what the liar runs in its namespace.
#[test]
#[ignore = "what a program does that the test below starts"]
fn liar() {
    let Some(interface) = std::env::var_os(LIAR) else { return };
    let index = Path::new("/sys/class/net").join(interface).join("ifindex");
    let index: u32 = std::fs::read_to_string(index).unwrap().trim().parse().unwrap();
    let group = SocketAddrV6::new(GROUP, PORT, 0, index);
    let socket = UdpSocket::bind("[::]:0").unwrap();
    for number in 0u64.. {
        let mut key = [2; 33];
        key[1..9].copy_from_slice(&(number << 40 | number).to_be_bytes());
        let network = Network::Regtest;
        let bytes: [u8; LEN] = Beacon { network, listens: true, port: 9, key }.bytes();
        // Until its address is there.
        let _ = socket.send_to(&bytes, group);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_liar_with_ever_new_keys_crowds_nobody_out() {
    let Some(hosts) = Hosts::new("liar", 3) else { return };
    let dir = tempfile::tempdir().unwrap();
    hosts.lan("lan", &[1, 2, 3]);
    let this = Command::new(std::env::current_exe().unwrap());
    let mut liar = hosts.run(3, &this);
    liar.args(["--ignored", "--exact", "liar"]).env(LIAR, "lan").stdout(Stdio::null());
    let _liar = Liar(liar.spawn().unwrap());
    let mut a = hosts.start(1, dir.path(), &LOOKING);
    let lan = |a: &mut Daemon| a.call("getstats", json!({})).unwrap()["lan"][0].clone();
    until("the flood is there", || lan(&mut a)["beacons"].as_u64().unwrap_or(0) > 500);
    let candidates = lan(&mut a)["candidates"].as_u64().unwrap();
    assert!((1..=4).contains(&candidates), "{candidates}");
    let mut b = hosts.start(2, dir.path(), &LOOKING);
    let (key_a, key_b) = (key(&a), key(&b));
    until("the honest one is found", || has_link(&mut a, &key_b) && has_link(&mut b, &key_a));
}
