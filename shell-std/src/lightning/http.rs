//! Questions to a Lightning node over HTTP. They block. Each has a connection of its own: one that
//! was kept could be dead without showing it, and then it is not known what became of a payment.

use super::error::shown;
use super::{Error, tls};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use ureq::http::{Request, Response};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{Connector, TcpConnector};
use ureq::{Agent, Body};

/// Longest answer that is read, in bytes. A payment in many parts, each tried often, has a few
/// hundred KiB.
const MAX_ANSWER: u64 = 4 << 20;
/// Longest file with a credential, in bytes.
const MAX_FILE: u64 = 64 * 1024;
const URL: &str = "lightning.url";

/// How the other end is told who asks: the header, its value, or why there is none.
type Credential = Box<dyn Fn() -> Result<(&'static str, String), Error> + Send + Sync>;

/// A Lightning node's HTTP interface.
pub(super) struct Http {
    url: String,
    certificate: Option<PathBuf>,
    /// The key of the configuration that names the credential.
    named: &'static str,
    credential: Credential,
    timeout: Duration,
}

/// What is sent along.
pub(super) enum Sent<'a> {
    /// Nothing: `GET`.
    Nothing,
    /// JSON: `POST`.
    Json(&'a Value),
    /// Names and values, as a form: `POST`.
    Form(&'a [(&'a str, &'a str)]),
}

/// A whole answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

impl Http {
    pub(super) fn new(
        url: &str,
        certificate: Option<&Path>,
        named: &'static str,
        credential: Credential,
        timeout: Duration,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        let certificate = certificate.map(Into::into);
        Self { url, certificate, named, credential, timeout }
    }

    /// Asks for an answer that is at hand.
    pub(super) fn ask(&self, path: &str, sent: &Sent<'_>) -> Result<Reply, Error> {
        self.ask_for(path, sent, self.timeout)
    }

    /// The same, which may take so long.
    pub(super) fn ask_for(
        &self,
        path: &str,
        sent: &Sent<'_>,
        timeout: Duration,
    ) -> Result<Reply, Error> {
        let mut response = self.call(path, sent, timeout)?;
        let status = response.status().as_u16();
        let read = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
        let body = read.map_err(|e| broken(&e))?;
        self.check(Reply { status, body })
    }

    /// Reads an answer of one JSON object a line, until `last` takes one.
    pub(super) fn stream<T>(
        &self,
        path: &str,
        sent: &Sent<'_>,
        timeout: Duration,
        mut last: impl FnMut(Reply) -> Option<Result<T, Error>>,
    ) -> Result<T, Error> {
        let mut response = self.call(path, sent, timeout)?;
        let status = response.status().as_u16();
        let mut lines = BufReader::new(response.body_mut().as_reader().take(MAX_ANSWER));
        loop {
            let mut body = Vec::new();
            lines.read_until(b'\n', &mut body).map_err(|e| broken(&ureq::Error::from(e)))?;
            if body.is_empty() {
                return Err(Error::Cut("it ended before the payment did".into()));
            }
            if body.trim_ascii().is_empty() {
                continue;
            }
            if let Some(result) = last(self.check(Reply { status, body })?) {
                return result;
            }
        }
    }

    fn call(
        &self,
        path: &str,
        sent: &Sent<'_>,
        timeout: Duration,
    ) -> Result<Response<Body>, Error> {
        let is_tls = self.url.starts_with("https:");
        let config = if is_tls { Some(tls::config(self.certificate.as_deref())?) } else { None };
        let is_up = Arc::new(AtomicBool::new(false));
        let connector = TcpConnector::default().chain(tls::Tls { config, is_up: is_up.clone() });
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            // Neither a proxy nor another address is to see the credentials.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(0)
            .timeout_global(Some(timeout))
            .build();
        let agent = Agent::with_parts(settings, connector, DefaultResolver::default());
        let (name, value) = (self.credential)()?;
        let (method, kind, body) = match sent {
            Sent::Nothing => ("GET", "", String::new()),
            Sent::Json(json) => ("POST", "application/json", json.to_string()),
            Sent::Form(fields) => ("POST", "application/x-www-form-urlencoded", form(fields)),
        };
        let wrong = |_| Error::file(self.named, Path::new(""), "is not fit for an HTTP header");
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(name, value);
        if !kind.is_empty() {
            request = request.header("Content-Type", kind);
        }
        let request = request.body(body).map_err(wrong)?;
        agent.run(request).map_err(|e| match is_up.load(Ordering::Acquire) {
            true => broken(&e),
            false => not_connected(&e),
        })
    }

    /// Refuses what is no answer of a Lightning node.
    fn check(&self, reply: Reply) -> Result<Reply, Error> {
        match reply.status {
            401 | 403 => {
                let said = String::from_utf8_lossy(&reply.body);
                Err(Error::Unauthorized(shown(&said), self.named))
            }
            300..=399 => Err(Error::Status(reply.status, URL)),
            _ => Ok(reply),
        }
    }
}

impl Reply {
    /// Reads what an answer with status 200 or 201 says; `error` reads what another says.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        error: impl FnOnce(&Value) -> Option<&str>,
    ) -> Result<T, Error> {
        if matches!(self.status, 200 | 201) {
            return serde_json::from_slice(&self.body).map_err(|e| Error::Answer(e.to_string()));
        }
        Err(self.error(error))
    }

    /// What an answer that is an error says.
    pub(super) fn error(&self, error: impl FnOnce(&Value) -> Option<&str>) -> Error {
        let said = serde_json::from_slice::<Value>(&self.body).ok();
        match said.as_ref().and_then(error) {
            Some(message) => Error::refused(message),
            None => Error::Status(self.status, URL),
        }
    }
}

/// Before the question was sent.
fn not_connected(error: &ureq::Error) -> Error {
    if let ureq::Error::Io(io) = error
        && let Some(tls) = io.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>())
    {
        return Error::Certificate(tls.to_string());
    }
    Error::Unreachable(error.to_string(), URL)
}

/// After it may have been.
fn broken(error: &ureq::Error) -> Error {
    match error {
        ureq::Error::Timeout(_) => Error::Timeout,
        ureq::Error::BodyExceedsLimit(most) => {
            Error::Answer(format!("it is longer than {most} bytes"))
        }
        other => Error::Cut(other.to_string()),
    }
}

/// Names and values as `application/x-www-form-urlencoded`.
fn form(fields: &[(&str, &str)]) -> String {
    let encode = |text: &str| {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect::<String>()
    };
    let pairs: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    pairs.join("&")
}

/// The content of a file with a credential; `key` of the configuration names it.
pub(super) fn credential(key: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let at = |e: std::io::Error| Error::file(key, path, e);
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(at)?.take(MAX_FILE).read_to_end(&mut bytes).map_err(at)?;
    Ok(bytes)
}

/// The same, of a text.
pub(super) fn text_credential(key: &'static str, path: &Path) -> Result<String, Error> {
    let text = String::from_utf8(credential(key, path)?);
    let text = text.map_err(|_| Error::file(key, path, "it is no text"))?;
    match text.trim() {
        "" => Err(Error::file(key, path, "it is empty")),
        text => Ok(text.to_owned()),
    }
}

/// 32 bytes in hex.
pub(super) fn hash(text: &str) -> Result<[u8; 32], Error> {
    let mut bytes = [0; 32];
    let wrong = |_| Error::Answer("64 hex digits are expected".into());
    hex::decode_to_slice(text, &mut bytes).map_err(wrong)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_has_no_byte_that_means_something() {
        let fields = [("description", "blvm-mesh:ab 1&c=é"), ("amountSat", "5")];
        let expected = "description=blvm-mesh%3Aab%201%26c%3D%C3%A9&amountSat=5";
        assert_eq!(form(&fields), expected);
    }
}
