//! JSON-RPC 2.0 over a Unix socket: one object on a line, one line in answer, bounded in length, in
//! time and in connections.

use crate::service::{Refusal, Service};
use serde::Deserialize;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// The longest request, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// The most connections at a time.
const MAX_CONNECTIONS: usize = 64;
/// How long a connection may be silent, or not take its answer.
const IDLE: Duration = Duration::from_secs(60);

const NOT_JSON: i64 = -32_700;
const NO_REQUEST: i64 = -32_600;

#[derive(Deserialize)]
struct Request {
    jsonrpc: String,
    #[serde(default)]
    id: Value,
    method: String,
    #[serde(default)]
    params: Value,
}

/// What carries calls out.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Carries a call out, or says why not.
    fn call(&self, method: &str, params: Value) -> Result<Value, Refusal>;
}

impl Serve for Service {
    fn call(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        Self::call(self, method, params)
    }
}

/// Opens the socket for this user alone. What is there is of a process that has ended: the data
/// directory's lock is held.
///
/// # Errors
/// The system's, or that something else is there.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, Error> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(Error::new(ErrorKind::AlreadyExists, "something else is there")),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600))?;
    Ok(listener)
}

/// Serves whoever connects. `stop` is told when that is asked for.
pub(crate) fn serve(listener: &UnixListener, service: &Arc<dyn Serve>, stop: &SyncSender<()>) {
    let places = Arc::new(());
    for stream in listener.incoming() {
        let Ok(mut stream) = stream else {
            // As when there are no descriptors left for a while.
            std::thread::sleep(Duration::from_millis(100));
            continue;
        };
        // This holds one.
        if Arc::strong_count(&places) > MAX_CONNECTIONS {
            let refusal =
                Refusal::unable(format!("there are {MAX_CONNECTIONS} connections already"));
            let _ = writeln!(stream, "{}", answer(&Value::Null, Err(refusal)));
            continue;
        }
        let (service, stop, place) = (service.clone(), stop.clone(), places.clone());
        let served = std::thread::Builder::new().name("rpc".into()).spawn(move || {
            let _place = place;
            let _ = converse(stream, &*service, &stop);
        });
        drop(served);
    }
}

fn converse(stream: UnixStream, service: &dyn Serve, stop: &SyncSender<()>) -> Result<(), Error> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let refusal =
                Refusal { code: NO_REQUEST, message: format!("longer than {MAX_LINE} bytes") };
            return writeln!(writer, "{}", answer(&Value::Null, Err(refusal)));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Request { id, method, params, .. } = match parse(&line) {
            Ok(request) => request,
            Err(refusal) => {
                writeln!(writer, "{}", answer(&Value::Null, Err(refusal)))?;
                continue;
            }
        };
        if method == "stop" {
            writeln!(writer, "{}", answer(&id, Ok(json!({}))))?;
            let _ = stop.try_send(());
            return Ok(());
        }
        writeln!(writer, "{}", answer(&id, service.call(&method, params)))?;
    }
}

fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let value: Value = serde_json::from_slice(line)
        .map_err(|e| Refusal { code: NOT_JSON, message: e.to_string() })?;
    let wrong = |message: String| Refusal { code: NO_REQUEST, message };
    let request: Request = serde_json::from_value(value).map_err(|e| wrong(e.to_string()))?;
    if request.jsonrpc != "2.0" {
        return Err(wrong("jsonrpc is not \"2.0\"".into()));
    }
    if request.id.is_object() || request.id.is_array() {
        return Err(wrong("id is no text and no number".into()));
    }
    Ok(request)
}

fn answer(id: &Value, outcome: Result<Value, Refusal>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(Refusal { code, message }) => {
            json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::sync::mpsc::{Receiver, sync_channel};

    struct Echo;

    impl Serve for Echo {
        fn call(&self, method: &str, params: Value) -> Result<Value, Refusal> {
            match method {
                "echo" => Ok(params),
                _ => Err(Refusal::unable("no")),
            }
        }
    }

    fn start(dir: &Path) -> (std::path::PathBuf, Receiver<()>) {
        let path = dir.join("rpc.sock");
        let listener = listen(&path).unwrap();
        let (stop, stopped) = sync_channel(1);
        std::thread::spawn(move || serve(&listener, &(Arc::new(Echo) as _), &stop));
        (path, stopped)
    }

    fn ask(stream: &mut BufReader<UnixStream>, text: &str) -> Value {
        stream.get_mut().write_all(text.as_bytes()).unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn connect(path: &Path) -> BufReader<UnixStream> {
        BufReader::new(UnixStream::connect(path).unwrap())
    }

    #[test]
    fn it_answers_line_by_line_and_refuses_what_is_no_request() {
        let dir = tempfile::tempdir().unwrap();
        let (path, stopped) = start(dir.path());
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        let mut stream = connect(&path);
        let good = json!({"jsonrpc": "2.0", "id": 7, "method": "echo", "params": {"a": 1}});
        let answer = ask(&mut stream, &format!("\n{good}\n"));
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}));
        for (text, code) in [
            ("{", NOT_JSON),
            ("[1]", NO_REQUEST),
            (r#"{"jsonrpc": "1.0", "id": 1, "method": "echo"}"#, NO_REQUEST),
            (r#"{"jsonrpc": "2.0", "id": {}, "method": "echo"}"#, NO_REQUEST),
            (r#"{"jsonrpc": "2.0", "id": 1, "method": "x"}"#, 1),
        ] {
            assert_eq!(ask(&mut stream, &format!("{text}\n"))["error"]["code"], code, "{text}");
        }
        assert!(stopped.try_recv().is_err());
        let stop = r#"{"jsonrpc": "2.0", "id": 1, "method": "stop"}"#;
        assert_eq!(ask(&mut stream, &format!("{stop}\n"))["result"], json!({}));
        stopped.recv().unwrap();
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _stopped) = start(dir.path());
        let mut stream = connect(&path);
        let answer = ask(&mut stream, &" ".repeat(usize::try_from(MAX_LINE).unwrap()));
        assert_eq!(answer["error"]["code"], NO_REQUEST);
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn there_is_room_for_so_many_and_again_when_they_leave() {
        let dir = tempfile::tempdir().unwrap();
        let (path, _stopped) = start(dir.path());
        let call = "{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"echo\"}\n";
        let mut here: Vec<_> = (0..MAX_CONNECTIONS).map(|_| connect(&path)).collect();
        for stream in &mut here {
            assert_eq!(ask(stream, call)["id"], 1);
        }
        let mut line = String::new();
        connect(&path).read_line(&mut line).unwrap();
        assert!(line.contains("connections already"), "{line}");
        drop(here);
        // Their threads notice in their own time.
        while {
            line.clear();
            let mut stream = connect(&path);
            let _ = stream.get_mut().write_all(call.as_bytes());
            stream.read_line(&mut line).unwrap();
            line.contains("connections already")
        } {}
    }

    #[test]
    fn only_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rpc.sock");
        drop(listen(&path).unwrap());
        drop(listen(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(listen(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}
