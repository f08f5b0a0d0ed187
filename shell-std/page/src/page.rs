//! The page at a port of this host.

use crate::document::Document;
use crate::http::{Answer, Body, Listener, Request, Site};
use crate::hub::{Hub, Source};
use crate::log::Lines;
use crate::token::Token;
use smol::Executor;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// A page that is about to be served.
#[derive(Debug)]
pub struct Page {
    listener: Listener,
    token: Token,
    lines: Arc<Lines>,
}

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum NotLocal {
    /// Other hosts would reach it.
    #[error(
        "{0} can be reached by other hosts; the page is for a browser on this host: use \
         127.0.0.1:PORT or [::1]:PORT, and from elsewhere a tunnel (ssh -L)"
    )]
    Anywhere(SocketAddr),
    /// It cannot be listened on.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
}

impl Page {
    /// Opens the port. With the `lines` the page shows a log.
    ///
    /// # Errors
    /// [`NotLocal`].
    pub fn open(at: SocketAddr, token: Token, lines: Arc<Lines>) -> Result<Self, NotLocal> {
        if !at.ip().is_loopback() {
            return Err(NotLocal::Anywhere(at));
        }
        let listener = Listener::bind(at).map_err(|error| NotLocal::Listen(at, error))?;
        Ok(Self { listener, token, lines })
    }

    /// Where it is, with the actual port.
    ///
    /// # Errors
    /// The system's.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.address()
    }

    /// What to open in a browser. The token is in the fragment, which no browser sends to anybody.
    pub fn url(at: SocketAddr, token: &Token) -> String {
        format!("http://{at}/#token={}", token.reveal())
    }

    /// Serves it until the future is dropped; once the source ends, nothing more is shown.
    pub async fn serve<S: Source>(self, source: Arc<S>, executor: &Executor<'static>) {
        let hub = Hub::new(self.lines);
        let site = Behind { token: self.token, hub: hub.clone(), document: Document::new() };
        let serve = self.listener.serve(Arc::new(site), executor);
        let run = async {
            hub.run(&*source).await;
            std::future::pending().await
        };
        smol::future::or(serve, run).await;
    }
}

/// The page behind its token. The document itself has nothing of the node, and needs none.
struct Behind {
    token: Token,
    hub: Arc<Hub>,
    document: Document,
}

impl Site for Behind {
    const NAME: &'static str = "the page";
    const HINT: &'static str = "the page is at /; `blvm-mesh page` prints its address";
    // A few tabs that load beside those that look.
    const MOST_CONNECTIONS: usize = 24;

    async fn answer(&self, request: &Request) -> Answer {
        let answer = match request.path.as_str() {
            // What a browser was led to by another's name (DNS rebinding) is not answered at all.
            _ if !request.only("host").is_some_and(is_here) => {
                let text = "ask by localhost or by a loopback address";
                Answer::refused("421 Misdirected Request", text)
            }
            "/" => self.document.answer(),
            "/events" => self.events(request),
            _ => Answer::refused("404 Not Found", Self::HINT),
        };
        // Nothing of it is kept, framed, guessed at or told to others.
        answer
            .with("Cache-Control", "no-store")
            .with("X-Content-Type-Options", "nosniff")
            .with("X-Frame-Options", "DENY")
            .with("Referrer-Policy", "no-referrer")
            .with("Cross-Origin-Resource-Policy", "same-origin")
            .with("Cross-Origin-Opener-Policy", "same-origin")
    }
}

impl Behind {
    fn events(&self, request: &Request) -> Answer {
        let given = request.only("authorization").and_then(|value| value.strip_prefix("Bearer "));
        if !given.is_some_and(|given| self.token.is(given)) {
            let text = "the token is missing or wrong; `blvm-mesh page` prints an address with it";
            return Answer::refused("401 Unauthorized", text).with("WWW-Authenticate", "Bearer");
        }
        match self.hub.view() {
            Some(events) => {
                let body = Body::Events(Box::pin(events));
                Answer { body, ..Answer::found("text/event-stream", String::new()) }
            }
            None => {
                let text = "as many browsers look as may, or the node is stopping; close one";
                Answer::refused("503 Service Unavailable", text).with("Retry-After", "5")
            }
        }
    }
}

/// Whether a `Host` names this host: `localhost` or a loopback address, with any port, as a tunnel
/// has one of its own.
fn is_here(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if port.is_empty() || port.starts_with(':') => name,
            _ => return false,
        },
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Totals;
    use crate::hub::MOST_VIEWERS;
    use crate::snapshot::Snapshot;
    use smol::future::or;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    struct Empty;

    impl Source for Empty {
        async fn totals(&self) -> Option<Totals> {
            Some(Totals::default())
        }

        async fn snapshot(&self) -> Option<Snapshot> {
            Some(Snapshot::default())
        }
    }

    /// Serves a page on a thread for as long as the test lasts.
    fn with_page(test: impl FnOnce(SocketAddr, &Token)) {
        let token = Token::new().unwrap();
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let page = Page::open(local, token.clone(), Arc::default()).unwrap();
        let at = page.address().unwrap();
        let executor = Arc::new(Executor::new());
        let (stop, stopped) = smol::channel::bounded::<()>(1);
        let thread = std::thread::spawn(move || {
            let serve = page.serve(Arc::new(Empty), &executor);
            let stopped = async {
                let _ = stopped.recv().await;
            };
            smol::block_on(executor.run(or(serve, stopped)));
        });
        test(at, &token);
        drop(stop);
        thread.join().unwrap();
    }

    fn ask(at: SocketAddr, path: &str, headers: &str) -> TcpStream {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\n{headers}\r\n").unwrap();
        stream
    }

    fn whole(at: SocketAddr, path: &str, headers: &str) -> String {
        let (mut answer, mut stream) = (Vec::new(), ask(at, path, headers));
        let mut chunk = [0; 4096];
        // Events go on and on.
        while !answer.windows(6).any(|part| part == b"event:") {
            match stream.read(&mut chunk).unwrap() {
                0 => break,
                read => answer.extend_from_slice(&chunk[..read]),
            }
        }
        String::from_utf8(answer).unwrap()
    }

    const HOST: &str = "Host: localhost:1\r\n";

    fn bearer(token: &Token) -> String {
        format!("{HOST}Authorization: Bearer {}\r\n", token.reveal())
    }

    #[test]
    fn only_this_host_is_listened_on() {
        let anywhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let refused = Page::open(anywhere, Token::new().unwrap(), Arc::default()).unwrap_err();
        assert!(refused.to_string().contains("ssh -L"), "{refused}");
    }

    #[test]
    fn a_host_is_here_or_it_is_not() {
        for here in ["localhost", "LocalHost:99", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:9"] {
            assert!(is_here(here), "{here}");
        }
        for elsewhere in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.nip.io:80",
            "10.0.0.1",
            "[::1",
            "[::1]x",
            "[::2]:1",
            "::1",
            "evil.example:localhost",
            "0.0.0.0",
        ] {
            assert!(!is_here(elsewhere), "{elsewhere}");
        }
    }

    #[test]
    fn the_document_needs_no_token_and_is_strict_about_what_it_loads() {
        with_page(|at, token| {
            let page = whole(at, "/", HOST);
            let (head, body) = page.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
            assert!(!page.contains(token.reveal()));
            let policy = head.lines().find_map(|l| l.strip_prefix("Content-Security-Policy: "));
            let policy = policy.unwrap();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
            let nonce = policy.split_once("'nonce-").unwrap().1.split_once('\'').unwrap().0;
            assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2, "style and script");
            assert!(!whole(at, "/", HOST).contains(nonce), "each answer has its own");
            for (name, value) in [("Cache-Control", "no-store"), ("X-Frame-Options", "DENY")] {
                assert!(head.contains(&format!("{name}: {value}")), "{head}");
            }
            assert!(whole(at, "/x", HOST).starts_with("HTTP/1.1 404 "));
        });
    }

    #[test]
    fn another_name_for_this_host_is_not_answered() {
        with_page(|at, token| {
            let right = format!("Authorization: Bearer {}\r\n", token.reveal());
            for host in ["", "Host: evil.example\r\n", "Host: localhost\r\nHost: evil.example\r\n"]
            {
                for path in ["/", "/events"] {
                    let answer = whole(at, path, &format!("{host}{right}"));
                    assert!(answer.starts_with("HTTP/1.1 421 "), "{host}{path}: {answer}");
                }
            }
        });
    }

    #[test]
    fn without_the_token_there_is_nothing() {
        with_page(|at, token| {
            let other = Token::new().unwrap();
            let wrong = [
                HOST.to_owned(),
                bearer(&other),
                bearer(token).replace("Bearer", "Basic"),
                format!("{HOST}Cookie: token={}\r\n", token.reveal()),
                format!("{}Authorization: Bearer x\r\n", bearer(token)),
            ];
            for headers in wrong {
                let answer = whole(at, "/events", &headers);
                assert!(answer.starts_with("HTTP/1.1 401 "), "{headers}: {answer}");
                assert!(!answer.contains("event:"), "{answer}");
            }
            let query = format!("/events?token={}", token.reveal());
            assert!(whole(at, &query, HOST).starts_with("HTTP/1.1 401 "), "it would be logged");
        });
    }

    #[test]
    fn events_come_in_their_form_and_to_so_many_at_once() {
        with_page(|at, token| {
            let mut all: Vec<_> = (0..MOST_VIEWERS)
                .map(|_| BufReader::new(ask(at, "/events", &bearer(token))))
                .collect();
            for viewer in &mut all {
                let mut lines = viewer.by_ref().lines().map(Result::unwrap);
                assert_eq!(lines.next().unwrap(), "HTTP/1.1 200 OK");
                assert!(lines.any(|line| line == "Content-Type: text/event-stream"));
                assert!(lines.any(|line| line == "event: snapshot"));
                let data = lines.next().unwrap();
                let data = data.strip_prefix("data: ").unwrap();
                assert!(
                    serde_json::from_str::<serde_json::Value>(data).unwrap()["totals"].is_object()
                );
                assert_eq!(lines.next().unwrap(), "");
            }
            let full = whole(at, "/events", &bearer(token));
            assert!(full.starts_with("HTTP/1.1 503 ") && full.contains("Retry-After: 5"), "{full}");
            drop(all);
            let again = (0..200).any(|_| {
                std::thread::sleep(Duration::from_millis(20));
                let mut status = String::new();
                let mut stream = BufReader::new(ask(at, "/events", &bearer(token)));
                stream.read_line(&mut status).unwrap();
                status.starts_with("HTTP/1.1 200")
            });
            assert!(again, "places are not given back");
        });
    }
}
