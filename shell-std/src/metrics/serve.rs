//! The HTTP server: one place, two methods, and a bound on everything.

use super::exposition::Form;
use super::request::{Asked, parse};
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, Executor};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest head of a request, in bytes.
const MAX_REQUEST: usize = 8 * 1024;
/// Connections at once; further ones are closed.
const MOST_CONNECTIONS: usize = 16;
/// How long a connection may take, with its request, the numbers and the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// Where the numbers come from.
pub trait Scrape: Send + Sync + 'static {
    /// The numbers; `None`: the node is stopping.
    fn scrape(&self, form: Form) -> impl Future<Output = Option<String>> + Send;
}

/// A socket that was opened early, so that a node that cannot listen does not start.
#[derive(Debug)]
pub struct Listener(Async<TcpListener>);

impl Listener {
    /// Listens there.
    ///
    /// # Errors
    /// The system's.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        Async::<TcpListener>::bind(address).map(Self)
    }

    /// Where it listens, with the actual port.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().local_addr()
    }

    /// Answers until the future is dropped, each connection in a task of its own.
    pub async fn serve<S: Scrape>(self, source: Arc<S>, executor: &Executor<'static>) {
        let open = Arc::new(AtomicUsize::new(0));
        let mut failing = false;
        loop {
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "cannot accept connections for metrics; this is said once");
                    }
                    smol::Timer::after(PAUSE).await;
                    continue;
                }
            };
            if open.load(Ordering::Relaxed) >= MOST_CONNECTIONS {
                continue;
            }
            let place = Place::take(&open);
            let source = source.clone();
            let answer = async move {
                let late = async {
                    smol::Timer::after(PATIENCE).await;
                    Err(io::ErrorKind::TimedOut.into())
                };
                if let Err(error) = or(converse(&stream, &*source), late).await {
                    tracing::debug!(%error, "a connection for metrics ended");
                }
                drop(place);
            };
            executor.spawn(answer).detach();
        }
    }
}

/// A connection's place among those that may be open.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One request, one answer, and the end.
async fn converse<S: Scrape>(mut stream: &Async<TcpStream>, source: &S) -> io::Result<()> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    let asked = loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        head.extend_from_slice(chunk.get(..read).unwrap_or_default());
        match parse(&head) {
            Asked::Incomplete if head.len() > MAX_REQUEST => {
                return answer(stream, "431 Request Header Fields Too Large", None).await;
            }
            Asked::Incomplete => {}
            asked => break asked,
        }
    };
    match asked {
        Asked::Metrics { form, body } => {
            let Some(text) = source.scrape(form).await else {
                return answer(stream, "503 Service Unavailable", None).await;
            };
            answer(stream, "200 OK", Some((form, &text, body))).await
        }
        Asked::NotFound => answer(stream, "404 Not Found", None).await,
        Asked::MethodNotAllowed => answer(stream, "405 Method Not Allowed", None).await,
        Asked::Bad | Asked::Incomplete => answer(stream, "400 Bad Request", None).await,
    }
}

async fn answer(
    mut stream: &Async<TcpStream>,
    status: &str,
    metrics: Option<(Form, &str, bool)>,
) -> io::Result<()> {
    let said = format!("{status}\nthe numbers are at /metrics, by GET or HEAD\n");
    let (kind, text, body) = match metrics {
        Some((form, text, body)) => (form.content_type(), text, body),
        None => ("text/plain; charset=utf-8", said.as_str(), true),
    };
    // RFC 9110, section 10.2.1.
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         {allow}Connection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(head.as_bytes()).await?;
    if body {
        stream.write_all(text.as_bytes()).await?;
    }
    stream.flush().await?;
    stream.get_ref().shutdown(std::net::Shutdown::Write)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    struct Fixed;

    impl Scrape for Fixed {
        async fn scrape(&self, form: Form) -> Option<String> {
            Some(format!("{}\n", form.content_type()))
        }
    }

    /// Runs a server on a thread for as long as the test lasts.
    fn with_server(test: impl FnOnce(SocketAddr)) {
        let listener = Listener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let at = listener.address().unwrap();
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            let serve = listener.serve(Arc::new(Fixed), &executor);
            let stopped = async {
                let _ = stopped.recv().await;
            };
            smol::block_on(executor.run(or(serve, stopped)));
        });
        test(at);
        drop(stop);
        thread.join().unwrap();
    }

    fn say(at: SocketAddr, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = String::new();
        // A server that has seen enough may reset what is still said.
        let _ = stream.read_to_string(&mut answer);
        answer
    }

    #[test]
    fn get_and_head_are_answered_and_nothing_else() {
        with_server(|at| {
            let got = say(at, b"GET /metrics HTTP/1.1\r\n\r\n");
            assert!(got.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
            let (head, body) = got.split_once("\r\n\r\n").unwrap();
            assert_eq!(body, format!("{}\n", Form::Text.content_type()));
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            let headed = say(at, b"HEAD /metrics HTTP/1.1\r\n\r\n");
            assert_eq!(headed, format!("{head}\r\n\r\n"));
            let posted = say(at, b"POST /metrics HTTP/1.1\r\n\r\n");
            assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("Allow: GET, HEAD"));
            assert!(say(at, b"GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
            assert!(say(at, b"\x16\x03\x01\r\n\r\n").starts_with("HTTP/1.1 400 "));
        });
    }

    #[test]
    fn what_is_too_long_or_too_many_takes_nothing_from_others() {
        with_server(|at| {
            let long = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(2 * MAX_REQUEST));
            assert!(say(at, long.as_bytes()).starts_with("HTTP/1.1 431 "));
            let silent: Vec<_> =
                (0..MOST_CONNECTIONS).map(|_| TcpStream::connect(at).unwrap()).collect();
            // All places are taken: another one is closed at once, once those are accepted.
            let mut closed = false;
            for _ in 0..200 {
                let mut another = TcpStream::connect(at).unwrap();
                another.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                closed |= matches!(another.read(&mut [0; 1]), Ok(0));
                if closed {
                    break;
                }
            }
            assert!(closed, "there is no bound");
            drop(silent);
            let again = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(10));
                say(at, b"GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200")
            });
            assert!(again, "places are not given back");
        });
    }
}
