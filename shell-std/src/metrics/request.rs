//! What is asked over HTTP.

use super::exposition::Form;

/// Most headers of a request; browsers send a dozen.
const MOST_HEADERS: usize = 64;

/// What is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// More of the request is to come.
    Incomplete,
    /// The numbers, in this form; `body`: not only what HTTP says of them (`HEAD`).
    Metrics { form: Form, body: bool },
    /// There is nothing at that place.
    NotFound,
    /// Only `GET` and `HEAD` are answered.
    MethodNotAllowed,
    /// It is no request of HTTP/1.
    Bad,
}

/// Reads the head of a request, as far as it has come. A body is not waited for.
pub(crate) fn parse(bytes: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Asked::Incomplete,
        Err(_) => return Asked::Bad,
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    // The query says nothing; a proxy names the whole address (RFC 9112, section 3.2.2).
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => path,
    };
    let body = match (path, method) {
        ("/metrics", "GET") => true,
        ("/metrics", "HEAD") => false,
        ("/metrics", _) => return Asked::MethodNotAllowed,
        _ => return Asked::NotFound,
    };
    let accepts = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("accept"));
    let open = accepts
        .filter_map(|header| std::str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .any(is_open_metrics);
    Asked::Metrics { form: if open { Form::OpenMetrics } else { Form::Text }, body }
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
    use proptest::prelude::*;

    fn asked(text: &str) -> Asked {
        parse(text.as_bytes())
    }

    const TEXT: Asked = Asked::Metrics { form: Form::Text, body: true };
    const OPEN: Asked = Asked::Metrics { form: Form::OpenMetrics, body: true };

    #[test]
    fn what_is_asked_is_told_apart() {
        assert_eq!(asked("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"), TEXT);
        assert_eq!(asked("GET /metrics?x=1 HTTP/1.0\r\n\r\n"), TEXT);
        assert_eq!(asked("GET http://a:1/metrics HTTP/1.1\r\n\r\n"), TEXT);
        let head = Asked::Metrics { form: Form::Text, body: false };
        assert_eq!(asked("HEAD /metrics HTTP/1.1\r\n\r\n"), head);
        assert_eq!(asked("POST /metrics HTTP/1.1\r\n\r\n"), Asked::MethodNotAllowed);
        assert_eq!(asked("GET / HTTP/1.1\r\n\r\n"), Asked::NotFound);
        assert_eq!(asked("GET http://a HTTP/1.1\r\n\r\n"), Asked::NotFound);
        assert_eq!(asked("GET /metrics HTTP/1.1\r\n"), Asked::Incomplete);
        for bad in [
            "\0\r\n\r\n",
            "GET /metrics HTTP/9\r\n\r\n",
            "GET  \r\n\r\n",
            "{\"jsonrpc\": 1}\r\n\r\n",
        ] {
            assert_eq!(asked(bad), Asked::Bad, "{bad}");
        }
    }

    #[test]
    fn open_metrics_is_written_for_who_reads_it() {
        let accept =
            |value: &str| asked(&format!("GET /metrics HTTP/1.1\r\nACCEPT: {value}\r\n\r\n"));
        let prometheus = "application/openmetrics-text;version=1.0.0;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;q=0.1";
        assert_eq!(accept(prometheus), OPEN);
        assert_eq!(accept("application/openmetrics-text"), OPEN);
        assert_eq!(accept("application/openmetrics-text; version=9.0.0"), TEXT);
        assert_eq!(accept("application/openmetrics-text;q=0"), TEXT);
        assert_eq!(accept("*/*"), TEXT);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }

        /// However it comes in parts, it is the same in the end, and not decided before.
        #[test]
        fn parts_are_waited_for(cut in 0usize..60, name in "[A-Za-z]{1,10}", value in "[ -~]{0,20}") {
            let whole = format!("GET /metrics HTTP/1.1\r\n{name}x: {value}\r\n\r\n");
            let part = whole.get(..cut.min(whole.len() - 1)).unwrap();
            prop_assert_eq!(asked(part), Asked::Incomplete);
            prop_assert_eq!(asked(&whole), TEXT);
        }
    }
}
