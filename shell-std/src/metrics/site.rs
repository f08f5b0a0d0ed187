//! Where Prometheus asks for them.

use super::exposition::Form;
use blvm_mesh_page::http::{Answer, Request, Site};
use std::sync::Arc;

/// Where the numbers come from.
pub trait Scrape: Send + Sync + 'static {
    /// The numbers; `None`: the node is stopping.
    fn scrape(&self, form: Form) -> impl Future<Output = Option<String>> + Send;
}

/// The numbers at `/metrics`.
#[derive(Debug)]
pub struct Numbers<S>(pub Arc<S>);

impl<S: Scrape> Site for Numbers<S> {
    const NAME: &'static str = "metrics";
    const HINT: &'static str = "the numbers are at /metrics, by GET or HEAD";
    const MOST_CONNECTIONS: usize = 16;

    async fn answer(&self, request: &Request) -> Answer {
        if request.path != "/metrics" {
            return Answer::refused("404 Not Found", Self::HINT);
        }
        let form = form(request);
        match self.0.scrape(form).await {
            Some(text) => Answer::found(form.content_type(), text),
            None => Answer::refused("503 Service Unavailable", Self::HINT),
        }
    }
}

/// The form that is asked for.
fn form(request: &Request) -> Form {
    let mut kinds = request.all("accept").flat_map(|value| value.split(','));
    if kinds.any(is_open_metrics) { Form::OpenMetrics } else { Form::Text }
}

/// Whether a kind of the header `Accept` is OpenMetrics, in a version that is known here.
fn is_open_metrics(kind: &str) -> bool {
    let mut parts = kind.split(';').map(str::trim);
    let is_it =
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
    is_it
        && parts.all(|part| match part.split_once('=') {
            Some(("version", version)) => version == "1.0.0",
            Some(("q", weight)) => !weight.trim_matches(['0', '.']).is_empty(),
            _ => true,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_page::http::Listener;
    use smol::Executor;
    use smol::future::or;
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpStream};

    /// Tells which form was asked for.
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
            let serve = listener.serve(Arc::new(Numbers(Arc::new(Fixed))), &executor);
            let stopped = async {
                let _ = stopped.recv().await;
            };
            smol::block_on(executor.run(or(serve, stopped)));
        });
        test(at);
        drop(stop);
        thread.join().unwrap();
    }

    fn say(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).unwrap();
        write!(stream, "{request}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_numbers_are_in_one_place_in_the_form_that_is_asked_for() {
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;q=0.1";
        with_server(|at| {
            for (accept, form) in [
                (prometheus, Form::OpenMetrics),
                ("application/openmetrics-text", Form::OpenMetrics),
                ("application/openmetrics-text; version=9.0.0", Form::Text),
                ("application/openmetrics-text;q=0", Form::Text),
                ("*/*", Form::Text),
            ] {
                let got = say(at, &format!("GET /metrics HTTP/1.1\r\nACCEPT: {accept}"));
                let kind = form.content_type();
                assert!(got.contains(&format!("Content-Type: {kind}\r\n")), "{accept}: {got}");
                assert!(got.ends_with(&format!("\r\n\r\n{kind}\n")), "{accept}: {got}");
            }
            let missing = say(at, "GET / HTTP/1.1");
            assert!(missing.starts_with("HTTP/1.1 404 ") && missing.contains("at /metrics"));
        });
    }
}
