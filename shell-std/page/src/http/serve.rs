//! The server: two methods, one answer, and a bound on everything.

use super::answer::{Answer, Body, Events};
use super::request::{Parsed, Request, parse};
use smol::future::or;
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::stream::StreamExt;
use smol::{Async, Executor};
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Longest head of a request, in bytes.
pub const MAX_REQUEST: usize = 8 * 1024;
/// How long a connection may take, with its request and the answer; of one that is sent events,
/// how long it may take none of them in.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted.
const PAUSE: Duration = Duration::from_millis(200);

/// What is served.
pub trait Site: Send + Sync + 'static {
    /// What the log calls it.
    const NAME: &'static str;
    /// What is said to whoever asks for something else.
    const HINT: &'static str;
    /// Connections at once; further ones are closed.
    const MOST_CONNECTIONS: usize;

    /// The answer to a request by `GET` or `HEAD`; of the latter's only the head is sent.
    fn answer(&self, request: &Request) -> impl Future<Output = Answer> + Send;
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
    pub async fn serve<S: Site>(self, site: Arc<S>, executor: &Executor<'static>) {
        let open = Arc::new(AtomicUsize::new(0));
        let mut failing = false;
        loop {
            let stream = match self.0.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        let what = S::NAME;
                        tracing::warn!(%error, "cannot accept connections for {what}; this is said once");
                    }
                    smol::Timer::after(PAUSE).await;
                    continue;
                }
            };
            if open.load(Ordering::Relaxed) >= S::MOST_CONNECTIONS {
                continue;
            }
            let place = Place::take(&open);
            let site = site.clone();
            let answer = async move {
                if let Err(error) = converse(&stream, &*site, PATIENCE).await {
                    tracing::debug!(%error, "a connection for {} ended", S::NAME);
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

/// What takes longer is given up.
async fn within<T>(patience: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        smol::Timer::after(patience).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    or(work, late).await
}

/// One request, one answer, and the end.
async fn converse<S: Site>(
    mut stream: &Async<TcpStream>,
    site: &S,
    patience: Duration,
) -> io::Result<()> {
    let begun = async {
        let (answer, whole) = match ask(stream, site).await? {
            Some(answered) => answered,
            None => return Ok(None),
        };
        begin(stream, answer, whole).await
    };
    if let Some(mut events) = within(patience, begun).await? {
        while let Some(event) = events.next().await {
            within(patience, stream.write_all(event.as_bytes())).await?;
        }
    }
    within(patience, stream.flush()).await?;
    stream.get_ref().shutdown(std::net::Shutdown::Write)
}

/// Reads the request. The answer, and whether its body was asked for; `None`: nobody asked.
async fn ask<S: Site>(
    mut stream: &Async<TcpStream>,
    site: &S,
) -> io::Result<Option<(Answer, bool)>> {
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    let request = loop {
        let read = stream.read(&mut chunk).await?;
        if read == 0 {
            return Ok(None);
        }
        head.extend_from_slice(chunk.get(..read).unwrap_or_default());
        match parse(&head) {
            Parsed::Incomplete if head.len() > MAX_REQUEST => {
                let status = "431 Request Header Fields Too Large";
                return Ok(Some((Answer::refused(status, S::HINT), true)));
            }
            Parsed::Incomplete => {}
            Parsed::Bad => {
                return Ok(Some((Answer::refused("400 Bad Request", S::HINT), true)));
            }
            Parsed::Whole(request) => break request,
        }
    };
    match request.method.as_str() {
        "GET" => Ok(Some((site.answer(&request).await, true))),
        "HEAD" => Ok(Some((site.answer(&request).await, false))),
        // RFC 9110, section 10.2.1.
        _ => {
            let refused = Answer::refused("405 Method Not Allowed", S::HINT);
            Ok(Some((refused.with("Allow", "GET, HEAD"), true)))
        }
    }
}

/// Sends the head, and a body that is a text. The events that are still to be sent.
async fn begin(
    mut stream: &Async<TcpStream>,
    answer: Answer,
    whole: bool,
) -> io::Result<Option<Events>> {
    let Answer { status, kind, headers, body } = answer;
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n");
    // Writing to memory cannot fail.
    if let Body::Text(text) = &body {
        let _ = write!(head, "Content-Length: {}\r\n", text.len());
    }
    for (name, value) in headers {
        let _ = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("Connection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    match body {
        Body::Text(text) if whole => stream.write_all(text.as_bytes()).await.map(|()| None),
        Body::Events(events) if whole => Ok(Some(events)),
        Body::Text(_) | Body::Events(_) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::sync::mpsc::{Receiver, TryRecvError, channel};

    struct Fixed;

    impl Site for Fixed {
        const NAME: &'static str = "a test";
        const HINT: &'static str = "ask for /a";
        const MOST_CONNECTIONS: usize = 16;

        async fn answer(&self, request: &Request) -> Answer {
            match request.path.as_str() {
                "/a" => Answer::found("text/plain", "found\n".into()),
                "/events" => {
                    let event: Arc<str> = "x".repeat(64 * 1024).into();
                    let body = Body::Events(Box::pin(smol::stream::repeat(event)));
                    Answer { body, ..Answer::found("text/event-stream", String::new()) }
                }
                _ => Answer::refused("404 Not Found", Self::HINT),
            }
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
            let got = say(at, b"GET /a HTTP/1.1\r\n\r\n");
            let (head, body) = got.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"), "{head}");
            assert!(head.contains("Content-Length: 6\r\n") && body == "found\n", "{got}");
            assert_eq!(say(at, b"HEAD /a HTTP/1.1\r\n\r\n"), format!("{head}\r\n\r\n"));
            assert!(say(at, b"HEAD /events HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
            let posted = say(at, b"POST /a HTTP/1.1\r\n\r\n");
            assert!(posted.starts_with("HTTP/1.1 405 ") && posted.contains("Allow: GET, HEAD"));
            let missing = say(at, b"GET / HTTP/1.1\r\n\r\n");
            assert!(missing.starts_with("HTTP/1.1 404 ") && missing.ends_with("ask for /a\n"));
            assert!(say(at, b"\x16\x03\x01\r\n\r\n").starts_with("HTTP/1.1 400 "));
        });
    }

    #[test]
    fn what_is_too_long_or_too_many_takes_nothing_from_others() {
        with_server(|at| {
            let long = format!("GET /a HTTP/1.1\r\nx: {}", "y".repeat(2 * MAX_REQUEST));
            assert!(say(at, long.as_bytes()).starts_with("HTTP/1.1 431 "));
            let silent: Vec<_> =
                (0..Fixed::MOST_CONNECTIONS).map(|_| TcpStream::connect(at).unwrap()).collect();
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
                say(at, b"GET /a HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200")
            });
            assert!(again, "places are not given back");
        });
    }

    /// Both ends of a connection, and why the server gave it up within a short patience. The client
    /// is told when it has.
    fn given_up(client: impl FnOnce(TcpStream, Receiver<()>) + Send + 'static) -> io::ErrorKind {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let at = listener.local_addr().unwrap();
        let (done, is_done) = channel();
        let thread = std::thread::spawn(move || client(TcpStream::connect(at).unwrap(), is_done));
        let stream = Async::new(listener.accept().unwrap().0).unwrap();
        let ended = smol::block_on(converse(&stream, &Fixed, Duration::from_millis(100)));
        drop((stream, done));
        thread.join().unwrap();
        ended.unwrap_err().kind()
    }

    #[test]
    fn who_is_slow_to_ask_or_to_read_is_given_up() {
        let long = Duration::from_secs(30);
        let silent = given_up(move |_stream, done| {
            let _ = done.recv_timeout(long);
        });
        assert_eq!(silent, io::ErrorKind::TimedOut);
        // Byte by byte, each of them in time, the whole of it not.
        let trickles = given_up(|mut stream, done| {
            while done.try_recv() == Err(TryRecvError::Empty) {
                let _ = stream.write_all(b"G");
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        assert_eq!(trickles, io::ErrorKind::TimedOut);
        // Events are sent until they are not read any more.
        let reads_nothing = given_up(move |mut stream, done| {
            stream.write_all(b"GET /events HTTP/1.1\r\n\r\n").unwrap();
            let _ = done.recv_timeout(long);
        });
        assert_eq!(reads_nothing, io::ErrorKind::TimedOut);
    }
}
