//! A Bitcoin node for tests: HTTP on loopback, answers as the test says.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// Nothing: the connection stays open.
    Never,
    /// This.
    Body { status: u16, body: String },
}

impl Reply {
    pub(crate) fn result(result: Value) -> Self {
        Self::status(200, json!({"result": result, "error": null, "id": "x"}).to_string())
    }

    /// As Bitcoin Core answers to version 1.0 of JSON-RPC.
    pub(crate) fn error(code: i64, message: &str) -> Self {
        let error = json!({"code": code, "message": message});
        Self::status(500, json!({"result": null, "error": error, "id": "x"}).to_string())
    }

    pub(crate) fn status(status: u16, body: impl Into<String>) -> Self {
        Self::Body { status, body: body.into() }
    }
}

/// A running fake; its threads end with the process.
#[derive(Clone)]
pub(crate) struct Fake {
    at: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Seen {
    method: String,
    authorization: Option<String>,
}

type Answers = Arc<dyn Fn(&str, &Value) -> Reply + Send + Sync>;

impl Fake {
    /// Answers every request by its method and parameters.
    pub(crate) fn start(answers: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let fake = Self { at: listener.local_addr().unwrap(), seen: Arc::default() };
        let (seen, answers) = (fake.seen.clone(), Arc::new(answers) as Answers);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answers) = (seen.clone(), answers.clone());
                std::thread::spawn(move || {
                    let _ = converse(stream, &seen, &answers);
                });
            }
        });
        fake
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    /// The methods that were asked for, in order.
    pub(crate) fn methods(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|seen| seen.method.clone()).collect()
    }

    /// What the last request said to be let in.
    pub(crate) fn authorization(&self) -> Option<String> {
        self.seen.lock().unwrap().last()?.authorization.clone()
    }
}

fn converse(stream: TcpStream, seen: &Mutex<Vec<Seen>>, answers: &Answers) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut out = stream;
    loop {
        let (mut length, mut authorization) = (0, None);
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
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.parse().unwrap();
                }
                Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                    authorization = Some(value.to_owned());
                }
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body).unwrap();
        let method = request["method"].as_str().unwrap().to_owned();
        let reply = answers(&method, &request["params"]);
        seen.lock().unwrap().push(Seen { method, authorization });
        if let Reply::Body { status, body } = reply {
            let length = body.len();
            write!(out, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}")?;
        }
    }
}
