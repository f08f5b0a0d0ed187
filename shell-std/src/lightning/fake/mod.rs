//! Lightning nodes for tests: one model of what a node does with money, spoken in the words of each
//! backend ([`shapes`]), with faults on the way.
//!
//! `tls.cert` is as LND makes its own: it signs itself, says that it may sign others, and lives for
//! a short time; its key is in `tls.key` for everybody to see. `other.cert` is of another node.

pub(super) mod shapes;

use super::{BackendSettings, LightningSettings, Timeouts};
use crate::issuer::{Issuer, Order, preimage, unix_now};
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::id::Network;
use lightning_invoice::Bolt11Invoice;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secp256k1::{PublicKey, Secp256k1, SecretKey};
use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The backends, by name.
pub(crate) const KINDS: [&str; 5] = ["lnd", "cln", "phoenixd", "lnbits", "ldk"];

/// What is expected of whoever asks.
pub(crate) const SECRET: &str = "0201036c6e6402f801030a10";

/// What happens between the node and whoever asks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// No answer comes, though the call is carried out.
    Silent,
    /// The connection is cut after the call was carried out.
    CutAfter,
    /// The connection is cut before the call was carried out.
    CutBefore,
    /// A proxy before it says that the node is away.
    Proxy,
    /// The credential has expired, in the words of the backend.
    Expired,
    /// Half of the answer comes.
    Truncated,
    /// The answer never ends.
    Endless,
    /// The answer comes twice.
    Twice,
    /// The answer is something else.
    Nonsense,
}

/// What the node does when it is to pay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conduct {
    /// It pays.
    Pays,
    /// It finds no way.
    Fails,
    /// It refuses to begin.
    Refuses,
    /// It holds the payment for so many look-ups, and then pays.
    Holds(u32),
    /// It holds the payment for so many look-ups, and then it fails.
    HoldsAndFails(u32),
}

/// A payment at the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    Paid([u8; 32]),
    Failed,
    /// For so many look-ups; then it is what comes next.
    Held(u32, Option<[u8; 32]>),
}

/// What the node has done.
pub(crate) struct Model {
    pub(crate) issuer: Issuer,
    pub(crate) conduct: Conduct,
    /// A fault of each call whose name begins like this.
    pub(crate) fault: (&'static str, Fault),
    /// The names of the calls, in order: a method, or a verb and a path.
    pub(crate) calls: Vec<String>,
    pub(crate) made: HashMap<[u8; 32], Made>,
    pub(crate) invoices: HashMap<[u8; 32], bool>,
    /// How often it was told to pay.
    pub(crate) told_to_pay: usize,
    pub(crate) network: Network,
}

impl Model {
    pub(crate) fn key(&self) -> PublicKey {
        *self.issuer.public_key()
    }

    /// Is told to pay an invoice; gives what to say, `None`: it refuses.
    fn pay(&mut self, invoice: &str) -> ([u8; 32], Option<Made>) {
        self.told_to_pay += 1;
        let invoice: Bolt11Invoice = invoice.parse().unwrap();
        let hash = invoice.payment_hash().to_byte_array();
        if self.made.get(&hash).is_some_and(|made| *made != Made::Failed) {
            return (hash, None);
        }
        let preimage = preimage(&invoice.payment_secret().0);
        let made = match self.conduct {
            Conduct::Pays => Made::Paid(preimage),
            Conduct::Fails => Made::Failed,
            Conduct::Refuses => return (hash, None),
            Conduct::Holds(times) => Made::Held(times, Some(preimage)),
            Conduct::HoldsAndFails(times) => Made::Held(times, None),
        };
        self.made.insert(hash, made);
        (hash, Some(made))
    }

    fn look_up(&mut self, hash: &[u8; 32]) -> Option<Made> {
        let made = self.made.get_mut(hash)?;
        *made = match *made {
            Made::Held(0, Some(preimage)) => Made::Paid(preimage),
            Made::Held(0, None) => Made::Failed,
            Made::Held(times, then) => Made::Held(times - 1, then),
            ended => ended,
        };
        Some(*made)
    }

    fn invoice(&mut self, text: &str, amount_msat: u64, expiry_s: u64) -> (String, [u8; 32]) {
        let mut terms_hash = [0; 32];
        let hex = text.strip_prefix("blvm-mesh:").unwrap_or_default();
        // The text by which the node's key is learnt is none of these.
        let _ = hex::decode_to_slice(hex, &mut terms_hash);
        let order = Order {
            network: Network::Regtest,
            terms_hash,
            amount_msat,
            expiry_s,
            timestamp: unix_now(),
            as_text: true,
        };
        let issued = self.issuer.invoice(&order).unwrap();
        self.invoices.insert(issued.payment_hash, false);
        (issued.invoice, issued.payment_hash)
    }
}

/// A question.
pub(crate) struct Request {
    /// A method, or a verb and a path.
    pub(crate) name: String,
    /// What it shows to be let in.
    pub(crate) credential: String,
    /// JSON, or the fields of a form.
    pub(crate) body: Value,
}

/// An answer, and whether more may follow.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
    /// Of a stream that goes on.
    pub(crate) is_open: bool,
}

impl Answer {
    fn new(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string(), is_open: false }
    }
}

/// A running Lightning node; its threads end with the process.
pub(crate) struct Fake {
    pub(crate) kind: &'static str,
    pub(crate) model: Arc<Mutex<Model>>,
    pub(crate) settings: LightningSettings,
    pub(crate) dir: tempfile::TempDir,
}

/// Short, as nothing here takes long.
pub(crate) const TIMEOUTS: Timeouts = Timeouts {
    answer: Duration::from_millis(2_000),
    payment: Duration::from_millis(1_000),
    grace: Duration::from_millis(1_000),
};

impl Fake {
    pub(crate) fn start(kind: &'static str) -> Self {
        let model = Arc::new(Mutex::new(Model {
            issuer: Issuer::from_secret(SecretKey::from_byte_array([9; 32]).unwrap()),
            conduct: Conduct::Pays,
            fault: ("", Fault::None),
            calls: Vec::new(),
            made: HashMap::new(),
            invoices: HashMap::new(),
            told_to_pay: 0,
            network: Network::Regtest,
        }));
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let credential = |name: &str| file(name, format!("{SECRET}\n").as_bytes());
        let backend = match kind {
            "lnd" => BackendSettings::Lnd {
                url: format!("https://{}", serve_http(kind, &model, true)),
                macaroon: file("macaroon", &hex::decode(SECRET).unwrap()),
                certificate: Some(file("tls.cert", include_bytes!("tls.cert"))),
            },
            "cln" => BackendSettings::Cln { socket: serve_unix(kind, dir.path(), &model) },
            "ldk" => BackendSettings::Ldk { socket: serve_unix(kind, dir.path(), &model) },
            "phoenixd" => BackendSettings::Phoenixd {
                url: format!("http://{}", serve_http(kind, &model, false)),
                password: file(
                    "phoenix.conf",
                    format!("chain=regtest\nhttp-password={SECRET}\n").as_bytes(),
                ),
            },
            _ => BackendSettings::Lnbits {
                url: format!("http://{}/", serve_http(kind, &model, false)),
                api_key: credential("lnbits.key"),
                certificate: None,
            },
        };
        let settings = LightningSettings { backend, timeouts: TIMEOUTS };
        Self { kind, model, settings, dir }
    }

    pub(crate) fn with<T>(&self, look: impl FnOnce(&mut Model) -> T) -> T {
        look(&mut self.model.lock().unwrap())
    }

    /// The beginning of the name of the call that pays.
    pub(crate) fn pays_by(&self) -> &'static str {
        match self.kind {
            "lnd" => "POST /v2/router/send",
            "cln" => "xpay",
            "ldk" => "pay",
            "phoenixd" => "POST /payinvoice",
            _ => "POST /api/v1/payments",
        }
    }

    /// The beginning of the name of the call that looks a payment up.
    pub(crate) fn looks_up_by(&self) -> &'static str {
        match self.kind {
            "lnd" => "GET /v2/router/track/",
            "cln" => "listpays",
            "ldk" => "lookup",
            "phoenixd" => "GET /payments/outgoingbyhash/",
            _ => "GET /api/v1/payments/",
        }
    }
}

/// The identity of another node.
pub(crate) fn stranger() -> PublicKey {
    SecretKey::from_byte_array([8; 32]).unwrap().public_key(&Secp256k1::new())
}

fn serve_http(kind: &'static str, model: &Arc<Mutex<Model>>, is_tls: bool) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (at, model) = (listener.local_addr().unwrap(), model.clone());
    let config = is_tls.then(|| Arc::new(tls()));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (model, config) = (model.clone(), config.clone());
            std::thread::spawn(move || {
                let raw = stream.try_clone().unwrap();
                let _ = match config {
                    Some(config) => {
                        let conn = rustls::ServerConnection::new(config).unwrap();
                        converse(kind, rustls::StreamOwned::new(conn, stream), &model)
                    }
                    None => converse(kind, stream, &model),
                };
                let _ = raw.shutdown(Shutdown::Both);
            });
        }
    });
    at
}

fn tls() -> rustls::ServerConfig {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls.cert")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    builder.with_single_cert(vec![certificate], key).unwrap()
}

fn serve_unix(kind: &'static str, dir: &Path, model: &Arc<Mutex<Model>>) -> PathBuf {
    let path = dir.join("lightning-rpc");
    let end: &[u8] = if kind == "cln" { b"\n\n" } else { b"\n" };
    let listener = UnixListener::bind(&path).unwrap();
    let model = model.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let model = model.clone();
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let mut text = Vec::new();
                while !text.ends_with(end) {
                    if reader.read_until(b'\n', &mut text).unwrap_or(0) == 0 {
                        return;
                    }
                }
                let request: Value = serde_json::from_slice(&text).unwrap();
                let name = request["method"].as_str().unwrap().to_owned();
                let body = request["params"].clone();
                let request = Request { name, credential: String::new(), body };
                let _ = answer(kind, &request, &model, stream);
            });
        }
    });
    path
}

fn converse(
    kind: &'static str,
    stream: impl Read + Write,
    model: &Mutex<Model>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut credential, mut kind_of) = (0, String::new(), String::new());
    let mut name = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        match line.split_once(": ") {
            Some((header, value)) => match header.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "content-type" => kind_of = value.into(),
                "grpc-metadata-macaroon" | "authorization" | "x-api-key" => {
                    credential = value.into();
                }
                _ => {}
            },
            None => name = line.rsplit_once(' ').unwrap().0.to_owned(),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body = match kind_of.as_str() {
        "application/json" => serde_json::from_slice(&body).unwrap(),
        "application/x-www-form-urlencoded" => fields(std::str::from_utf8(&body).unwrap()),
        _ => Value::Null,
    };
    answer(kind, &Request { name, credential, body }, model, reader.into_inner())
}

/// The fields of a form.
fn fields(text: &str) -> Value {
    let decode = |text: &str| {
        let mut parts = text.split('%');
        let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
        for part in parts {
            bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
            bytes.extend(&part.as_bytes()[2..]);
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(name, value)| (decode(name), Value::from(decode(value)))).collect()
}

fn answer(
    kind: &'static str,
    request: &Request,
    model: &Mutex<Model>,
    mut out: impl Write,
) -> std::io::Result<()> {
    let (fault, answer) = {
        let mut model = model.lock().unwrap();
        model.calls.push(request.name.clone());
        let (of, fault) = model.fault;
        let is_meant =
            of.is_empty() || request.name.starts_with(of) && !request.name.contains("fee-reserve");
        let fault = if is_meant { fault } else { Fault::None };
        let answer = match fault {
            Fault::CutBefore => return Ok(()),
            Fault::Proxy => Answer {
                status: 502,
                body: "<html><h1>502 Bad Gateway</h1></html>".into(),
                is_open: false,
            },
            Fault::Expired => shapes::expired(kind),
            _ => shapes::answer(kind, request, &mut model),
        };
        (fault, answer)
    };
    let Answer { status, mut body, mut is_open } = answer;
    let pause = || std::thread::sleep(Duration::from_secs(30));
    match fault {
        Fault::CutAfter => return Ok(()),
        Fault::Silent => {
            pause();
            return Ok(());
        }
        Fault::Truncated => body.truncate(body.len() / 2),
        Fault::Nonsense => body = "\"hello\"".into(),
        Fault::Twice => body = format!("{body}\n{body}"),
        _ => {}
    }
    match kind {
        "cln" | "ldk" => write!(out, "{body}")?,
        // As gRPC's gateway: chunks of lines, or one answer.
        "lnd" if request.name.contains("/v2/router/") => {
            write!(out, "HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            if !body.is_empty() {
                write!(out, "{:x}\r\n{body}\n\r\n", body.len() + 1)?;
            }
        }
        _ => {
            let length = match fault {
                Fault::Endless => 1 << 40,
                Fault::Truncated => body.len() * 2 + 1,
                _ => body.len(),
            };
            write!(out, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
    }
    if fault == Fault::Endless {
        is_open = false;
        let spaces = " ".repeat(64 * 1024);
        // Whoever asked has a bound.
        for _ in 0..1_024 {
            match request.name.contains("/v2/router/") {
                true => write!(out, "10000\r\n{spaces}\r\n")?,
                false => write!(out, "{spaces}")?,
            }
        }
    }
    match (kind, fault) {
        ("cln" | "ldk", Fault::Truncated) => {}
        ("cln", _) => write!(out, "\n\n")?,
        ("ldk", _) => writeln!(out)?,
        ("lnd", Fault::None | Fault::Twice) if !is_open => write!(out, "0\r\n\r\n")?,
        _ => {}
    }
    out.flush()?;
    if is_open {
        pause();
    }
    Ok(())
}

/// The SHA-256 of a preimage.
pub(crate) fn hash_of(preimage: &[u8; 32]) -> [u8; 32] {
    sha256::Hash::hash(preimage).to_byte_array()
}
