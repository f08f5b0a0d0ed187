//! A node that only the tests have. It serves one module connection at a time, and closes it upon
//! a request that it refuses, as blvm-node does.

use blvm_mesh_module::proto::{
    EventKind, MESH_PACKET_RECEIVED, Numbers, PEER_CONNECTED, Reader, Writer,
};
use blvm_mesh_module::wire;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::unix::{UnixListener, UnixStream};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// What a node does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It closes the connection upon the next frame for a peer.
    RefuseNextSend,
    /// It sends these bytes.
    Garbage(Vec<u8>),
    /// It closes the connection.
    Close,
}

/// Takes frames for a peer.
pub(crate) type Carry = Arc<dyn Fn(&str, Vec<u8>) -> bool + Send + Sync>;

#[derive(Default)]
pub(crate) struct State {
    pub(crate) connections: usize,
    pub(crate) registered: bool,
    pub(crate) published: Vec<u32>,
    pub(crate) log: Vec<String>,
    peers: Vec<String>,
    answers: HashMap<u64, Result<Vec<u8>, String>>,
    next_call: u64,
    refuse_next: bool,
    to_module: Option<smol::channel::Sender<Vec<u8>>>,
    carry: Option<Carry>,
}

#[derive(Clone)]
pub(crate) struct Node {
    socket: PathBuf,
    state: Arc<(Mutex<State>, Condvar)>,
    stop: smol::channel::Sender<()>,
}

impl Node {
    pub(crate) fn start(dir: &Path, version: &str) -> Self {
        let socket = dir.join("node.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let (stop, stopped) = smol::channel::bounded(1);
        let node = Self { socket, state, stop };
        let (served, version) = (node.clone(), version.to_owned());
        std::thread::spawn(move || {
            smol::block_on(smol::future::or(
                async {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        served.serve(stream, &version).await;
                    }
                },
                async {
                    let _ = stopped.recv().await;
                },
            ));
        });
        node
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn stop(&mut self) {
        self.stop.close();
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let done = work(&mut self.state.0.lock().unwrap());
        self.state.1.notify_all();
        done
    }

    /// Waits until the state is as wanted.
    pub(crate) fn until(&self, wanted: impl Fn(&State) -> bool) {
        let state = self.state.0.lock().unwrap();
        let waited = self.state.1.wait_timeout_while(state, crate::LONG, |state| !wanted(state));
        let (state, timeout) = waited.unwrap();
        assert!(!timeout.timed_out(), "the module said: {:#?}", state.log);
    }

    pub(crate) fn connections(&self) -> usize {
        self.with(|state| state.connections)
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.with(|state| match behaviour {
            Behaviour::RefuseNextSend => state.refuse_next = true,
            Behaviour::Garbage(bytes) => {
                let to = state.to_module.as_ref().unwrap();
                to.try_send(bytes).unwrap();
            }
            Behaviour::Close => drop(state.to_module.take()),
        });
    }

    /// From now on there is a connection with this peer.
    pub(crate) fn peer_connected(&self, peer: &str, carry: Carry) {
        self.with(|state| {
            state.peers.push(peer.into());
            state.carry = Some(carry);
        });
        let mut event = event(PEER_CONNECTED);
        event.text(peer).text("tcp").u64(0).u32(70016).u8(0);
        self.send(&event.0);
    }

    pub(crate) fn event_packet(&self, peer: &str, packet: &[u8]) {
        let mut event = event(MESH_PACKET_RECEIVED);
        event.bytes(packet).text(peer);
        self.send(&event.0);
    }

    /// What nobody takes is lost, as at the node.
    fn send(&self, message: &[u8]) {
        let frame = wire::frame(message).unwrap();
        self.with(|state| state.to_module.as_ref().map(|to| to.try_send(frame)));
    }

    /// Calls a method of the module, as another module does through the node.
    pub(crate) fn call(&self, method: &str, params: Vec<u8>) -> Result<Vec<u8>, String> {
        let correlation_id = self.with(|state| {
            state.next_call += 1;
            state.next_call
        });
        let mut call = Writer::of(4);
        call.u64(correlation_id).u32(2).text(method).bytes(&params).text("caller");
        let before = self.connections();
        self.send(&call.0);
        self.until(|state| {
            state.answers.contains_key(&correlation_id) || state.connections != before
        });
        let answer = self.with(|state| state.answers.remove(&correlation_id));
        answer.ok_or("the module connected again")?
    }

    async fn serve(&self, stream: UnixStream, version: &str) {
        let (mut reader, mut writer) = smol::io::split(stream);
        let (to_module, outgoing) = smol::channel::bounded::<Vec<u8>>(1000);
        self.with(|state| {
            (state.connections, state.registered) = (state.connections + 1, false);
            state.to_module = Some(to_module);
        });
        let reads = async {
            let mut len = [0; 4];
            while reader.read_exact(&mut len).await.is_ok() {
                let mut message = vec![0; u32::from_be_bytes(len) as usize];
                if reader.read_exact(&mut message).await.is_err() {
                    return;
                }
                if !self.take(&mut Reader(&message), version) {
                    return;
                }
            }
        };
        let writes = async {
            while let Ok(frame) = outgoing.recv().await {
                if writer.write_all(&frame).await.is_err() {
                    return;
                }
            }
        };
        smol::future::or(reads, writes).await;
        outgoing.close();
    }

    /// Takes a message of the module's; false: the node closes the connection.
    fn take(&self, from: &mut Reader<'_>, version: &str) -> bool {
        match from.u32().unwrap() {
            0 => {
                let (id, kind, payload) =
                    (from.u64().unwrap(), from.u32().unwrap(), from.u32().unwrap());
                let mut answer = Writer::of(1);
                answer.u64(id).u8(1).u8(1);
                if !self.answer((kind, payload), from, &mut answer, version) {
                    return false;
                }
                assert!(from.0.is_empty(), "a request has {} bytes too many", from.0.len());
                self.send(&answer.u8(0).0);
            }
            3 => {
                let level = from.u32().unwrap();
                let (module, line) = (from.text().unwrap(), from.text().unwrap());
                from.text().unwrap();
                from.u64().unwrap();
                assert!(level < 4 && module == "blvm-mesh", "{line}");
                self.with(|state| state.log.push(line));
            }
            5 => {
                let (id, success) = (from.u64().unwrap(), from.flag().unwrap());
                assert_eq!(from.flag().unwrap(), success);
                let answer = match success {
                    true => {
                        assert_eq!(from.u32().unwrap(), 2);
                        let bytes = from.bytes().unwrap().to_vec();
                        assert!(!from.flag().unwrap());
                        Ok(bytes)
                    }
                    false => {
                        assert!(from.flag().unwrap());
                        Err(from.text().unwrap())
                    }
                };
                self.with(|state| state.answers.insert(id, answer));
            }
            other => panic!("no module sends message {other}"),
        }
        true
    }

    /// Answers a request; false: the node refuses it.
    fn answer(
        &self,
        numbers: (u32, u32),
        from: &mut Reader<'_>,
        answer: &mut Writer,
        version: &str,
    ) -> bool {
        let earlier = u32::from(Numbers::of(version) == Some(Numbers::Old));
        let numbers = match numbers {
            (kind @ 40.., payload) => (kind + earlier, payload + earlier),
            early => early,
        };
        match numbers {
            (8, 0) => {
                let [id, name] = [(); 2].map(|()| from.text().unwrap());
                from.text().unwrap();
                assert_eq!((id.as_str(), name.as_str()), ("blvm-mesh", "blvm-mesh"));
                answer.u32(0).text(version);
            }
            (7, 8) => {
                let kinds = (0..from.u64().unwrap()).map(|_| from.u32().unwrap());
                assert_eq!(kinds.collect::<Vec<_>>(), [28, 29, 16]);
                answer.u32(8);
            }
            (43, 43) => {
                let methods = (0..from.u64().unwrap()).map(|_| from.text().unwrap()).count();
                assert_eq!((methods, from.u32().unwrap()), (7, 1));
                answer.u32(41 - earlier);
            }
            (13, 13) => {
                let peers = self.with(|state| {
                    state.registered = true;
                    state.peers.clone()
                });
                // Peers that come meanwhile are told before this older list is.
                std::thread::sleep(std::time::Duration::from_millis(100));
                answer.u32(13).count(peers.len());
                for peer in peers {
                    answer.text(&peer).text("tcp").u64(0).u32(70016).u64(0);
                }
            }
            (41, 41) => {
                let kind = EventKind(from.u32().unwrap(), from.u32().unwrap());
                from.0 = &[];
                self.with(|state| state.published.push(kind.1));
                answer.u32(39 - earlier);
            }
            (48, 48) => {
                let (peer, packet) = (from.text().unwrap(), from.bytes().unwrap().to_vec());
                let (refused, carry) = self.with(|state| {
                    let known = state.peers.contains(&peer);
                    let refused = std::mem::take(&mut state.refuse_next) || !known;
                    (refused, state.carry.clone())
                });
                let carried = !refused && carry.is_some_and(|carry| carry(&peer, packet));
                if !carried {
                    return false;
                }
                answer.u32(4).u8(1);
            }
            other => panic!("the module has no right to request {other:?}"),
        }
        true
    }
}

fn event(EventKind(kind, payload): EventKind) -> Writer {
    let mut event = Writer::of(2);
    event.u32(kind).u32(payload);
    event
}
