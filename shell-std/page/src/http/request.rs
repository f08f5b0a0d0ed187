//! What is asked over HTTP.

/// Most headers of a request; browsers send a dozen.
const MOST_HEADERS: usize = 64;

/// The head of a request. A body is not waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, and what else there is.
    pub method: String,
    /// The path, without query.
    pub path: String,
    headers: Vec<(String, String)>,
}

/// What the bytes of a connection are so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parsed {
    /// More of the request is to come.
    Incomplete,
    /// A whole head.
    Whole(Request),
    /// It is no request of HTTP/1.
    Bad,
}

impl Request {
    /// The values of the headers with this name that are text, in the order in which they came.
    pub fn all<'r>(&'r self, name: &str) -> impl Iterator<Item = &'r str> {
        let named = self.headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str())
    }

    /// The only header with this name; `None` also where there are several.
    pub fn only(&self, name: &str) -> Option<&str> {
        let mut all = self.all(name);
        let first = all.next()?;
        all.next().is_none().then_some(first)
    }
}

/// Reads the head of a request, as far as it has come.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Parsed::Incomplete,
        Err(_) => return Parsed::Bad,
    }
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    // A proxy names the whole address (RFC 9112, section 3.2.2).
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let path = match path.split_once("://") {
        Some((_, rest)) => rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/"),
        None => path,
    };
    let text = |header: &httparse::Header<'_>| {
        let value = std::str::from_utf8(header.value).ok()?;
        Some((header.name.to_owned(), value.to_owned()))
    };
    Parsed::Whole(Request {
        method: method.to_owned(),
        path: path.to_owned(),
        headers: request.headers.iter().filter_map(text).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Parsed::Whole(request) => request,
            other => panic!("{other:?}: {text}"),
        }
    }

    #[test]
    fn heads_are_read_and_what_is_none_is_told_apart() {
        let of = |text: &str| {
            let request = whole(text);
            (request.method, request.path)
        };
        let is = |method: &str, path: &str| (method.to_owned(), path.to_owned());
        assert_eq!(of("GET /a?x=1 HTTP/1.0\r\n\r\n"), is("GET", "/a"));
        assert_eq!(of("PUT http://b:1/a HTTP/1.1\r\n\r\n"), is("PUT", "/a"));
        assert_eq!(of("GET http://b HTTP/1.1\r\n\r\n"), is("GET", "/"));
        assert_eq!(parse(b"GET /a HTTP/1.1\r\n"), Parsed::Incomplete);
        for bad in ["\0\r\n\r\n", "GET /a HTTP/9\r\n\r\n", "GET  \r\n\r\n", "{\"a\": 1}\r\n\r\n"] {
            assert_eq!(parse(bad.as_bytes()), Parsed::Bad, "{bad}");
        }
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(MOST_HEADERS + 1));
        assert_eq!(parse(many.as_bytes()), Parsed::Bad);
    }

    #[test]
    fn headers_are_found_by_name_and_one_that_comes_twice_is_no_only_one() {
        let request = whole("GET / HTTP/1.1\r\nHOST: a\r\nx: 1\r\nX: 2\r\n\r\n");
        assert_eq!(request.only("host"), Some("a"));
        assert_eq!((request.only("x"), request.only("y")), (None, None));
        assert_eq!(request.all("x").collect::<Vec<_>>(), ["1", "2"]);
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
            prop_assert_eq!(parse(part.as_bytes()), Parsed::Incomplete);
            prop_assert!(matches!(parse(whole.as_bytes()), Parsed::Whole(_)));
        }
    }
}
