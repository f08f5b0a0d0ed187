//! Messages to the server and from it (PostgreSQL's frontend/backend protocol, version 3.0). Values are
//! always bound to parameters. What a server may send is bounded in bytes, rows and time.

use super::error::shown;
use super::socket::Duplex;
use super::{ExportError, Target};
use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::{
    DataRowBody, ErrorResponseBody, Header, Message, ParameterStatusBody,
};
use postgres_protocol::message::frontend;

/// Longest message that is read, in bytes. The longest that are needed are errors.
const MOST_MESSAGE: i32 = 64 * 1024;
/// Most rows and statements in the answer to one exchange.
const MOST_ROWS: usize = 16;
const MOST_RESULTS: usize = 1_024;
/// Longest tag of a command, and longest version, that are kept.
const MOST_TAG: usize = 64;

/// A value for a parameter of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// None.
    Null,
    /// As PostgreSQL writes it: for `numeric`, `text`, and others by a cast.
    Text(String),
    /// `bytea`.
    Bytes(&'a [u8]),
    /// `bigint`, or `timestamptz` in microseconds since 2000.
    Long(i64),
    /// `smallint`.
    Short(i16),
}

impl Value<'_> {
    /// The code of its format in the protocol.
    fn format(&self) -> i16 {
        match self {
            Self::Null | Self::Text(_) => 0,
            Self::Bytes(_) | Self::Long(_) | Self::Short(_) => 1,
        }
    }

    fn write(&self, out: &mut BytesMut) -> IsNull {
        match self {
            Self::Null => return IsNull::Yes,
            Self::Text(text) => out.extend_from_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Long(number) => out.extend_from_slice(&number.to_be_bytes()),
            Self::Short(number) => out.extend_from_slice(&number.to_be_bytes()),
        }
        IsNull::No
    }
}

/// What a statement gave: its columns as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// `INSERT 0 1`, `COMMIT`, ...
    pub(super) tag: String,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Answered {
    /// The only row, if there is one.
    pub(super) fn row(&self) -> Option<&[Option<String>]> {
        self.rows.first().map(Vec::as_slice)
    }
}

/// A conversation with a server.
pub(super) struct Session<S> {
    stream: S,
    target: Target,
    input: BytesMut,
    output: BytesMut,
    /// What the server calls its version.
    version: String,
    doing: &'static str,
}

impl<S: Duplex> Session<S> {
    /// Nothing has been said yet.
    pub(super) fn new(stream: S, target: Target) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self { stream, target, input, output, version: String::new(), doing: "" }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    pub(super) fn stream(&self) -> &S {
        &self.stream
    }

    /// What the server calls its version.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// A step begins, named as it goes on.
    pub(super) fn begin(&mut self, doing: &'static str) {
        self.doing = doing;
        self.stream.begin();
    }

    /// Queues a message.
    pub(super) fn queue(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>,
    ) -> Result<(), ExportError> {
        write(&mut self.output).map_err(|e| ExportError::Answer(e.to_string()))
    }

    /// Sends what is queued.
    pub(super) fn send(&mut self) -> Result<(), ExportError> {
        let sent = self.stream.write_all(&self.output).and_then(|()| self.stream.flush());
        self.output.clear();
        sent.map_err(|e| self.stream.fault(e, self.doing))
    }

    /// The next message that is not a notice.
    pub(super) fn receive(&mut self) -> Result<Message, ExportError> {
        loop {
            while let Some(message) = self.parse()? {
                match message {
                    Message::NoticeResponse(_) | Message::NotificationResponse(_) => {}
                    Message::ParameterStatus(status) => self.note(&status)?,
                    message => return Ok(message),
                }
            }
            let mut chunk = [0; 8 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ExportError::Cut("the server closed it".into())),
                Ok(n) => self.input.extend_from_slice(chunk.get(..n).unwrap_or_default()),
                Err(e) => return Err(self.stream.fault(e, self.doing)),
            }
        }
    }

    /// The next message, if it is whole. Its length is looked at before anything is reserved for it.
    fn parse(&mut self) -> Result<Option<Message>, ExportError> {
        match Header::parse(&self.input).map_err(broken)? {
            Some(header) if header.len() > MOST_MESSAGE => {
                let (tag, len) = (header.tag(), header.len());
                Err(ExportError::Protocol(format!("a message {tag:#04x} of {len} bytes")))
            }
            Some(_) => Message::parse(&mut self.input).map_err(broken),
            None => Ok(None),
        }
    }

    fn note(&mut self, status: &ParameterStatusBody) -> Result<(), ExportError> {
        if status.name().map_err(broken)? == "server_version" {
            let version = shown(status.value().map_err(broken)?.as_bytes());
            self.version = version.chars().take(MOST_TAG).collect();
        }
        Ok(())
    }

    /// What the server says is wrong.
    pub(super) fn error(&self, body: &ErrorResponseBody) -> ExportError {
        let (mut code, mut message) = (Vec::new(), Vec::new());
        let mut fields = body.fields();
        // What cannot be read is left out.
        while let Ok(Some(field)) = fields.next() {
            match field.type_() {
                b'C' => code = field.value_bytes().to_vec(),
                b'M' => message = field.value_bytes().to_vec(),
                _ => {}
            }
        }
        ExportError::server(&code, &message, &self.target)
    }

    /// Queues a statement with its values.
    pub(super) fn execute(&mut self, sql: &str, values: &[Value<'_>]) -> Result<(), ExportError> {
        self.queue(|out| frontend::parse("", sql, [], out))?;
        self.execute_again(values)
    }

    /// Queues the last statement with other values.
    pub(super) fn execute_again(&mut self, values: &[Value<'_>]) -> Result<(), ExportError> {
        self.queue(|out| {
            let formats = values.iter().map(Value::format);
            let write = |value: &Value<'_>, out: &mut BytesMut| Ok(value.write(out));
            // Results come as text.
            frontend::bind("", "", formats, values, write, [], out).map_err(|e| match e {
                frontend::BindError::Conversion(e) => std::io::Error::other(e),
                frontend::BindError::Serialization(e) => e,
            })?;
            frontend::execute("", 0, out)
        })
    }

    /// Sends the statements that are queued and waits for what they give, one answer for each. The first
    /// that fails ends them: the server then skips the others.
    pub(super) fn sync(&mut self) -> Result<Vec<Answered>, ExportError> {
        self.queue(|out| {
            frontend::sync(out);
            Ok(())
        })?;
        self.send()?;
        self.answers()
    }

    /// Sends statements without values, one behind the other, and waits until all are carried out.
    pub(super) fn script(&mut self, sql: &str) -> Result<(), ExportError> {
        self.queue(|out| frontend::query(sql, out))?;
        self.send()?;
        self.answers().map(|_| ())
    }

    fn answers(&mut self) -> Result<Vec<Answered>, ExportError> {
        let (mut results, mut rows, mut failed) = (Vec::new(), Vec::new(), None);
        let mut rows_in_all = 0;
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                // It closes the connection after some errors: they are what counts.
                Err(error) => return Err(failed.unwrap_or(error)),
            };
            match message {
                Message::ReadyForQuery(_) => return failed.map_or(Ok(results), Err),
                Message::ErrorResponse(body) => {
                    failed.get_or_insert(self.error(&body));
                }
                Message::DataRow(body) if rows_in_all < MOST_ROWS => {
                    rows_in_all += 1;
                    rows.push(columns(&body)?);
                }
                Message::CommandComplete(body) if results.len() < MOST_RESULTS => {
                    let tag = shown(body.tag().map_err(broken)?.as_bytes());
                    let tag = tag.chars().take(MOST_TAG).collect();
                    results.push(Answered { tag, rows: std::mem::take(&mut rows) });
                }
                Message::ParseComplete
                | Message::BindComplete
                | Message::NoData
                | Message::RowDescription(_)
                | Message::EmptyQueryResponse => {}
                Message::DataRow(_) | Message::CommandComplete(_) => {
                    return Err(ExportError::Protocol("it sends more than was asked for".into()));
                }
                _ => {
                    return Err(ExportError::Protocol("a message that answers nothing".into()));
                }
            }
        }
    }

    /// Says good-bye; nobody waits for an answer.
    pub(super) fn end(mut self) {
        self.begin("it was closed");
        let said = self.queue(|out| {
            frontend::terminate(out);
            Ok(())
        });
        let _ = said.and_then(|()| self.send());
    }
}

fn columns(body: &DataRowBody) -> Result<Vec<Option<String>>, ExportError> {
    let column = |range: Option<std::ops::Range<usize>>| {
        let bytes = range.and_then(|range| body.buffer().get(range));
        Ok(bytes.map(shown))
    };
    body.ranges().map(column).collect().map_err(broken)
}

fn broken(error: std::io::Error) -> ExportError {
    ExportError::Protocol(shown(error.to_string().as_bytes()))
}

/// What a server could send.
#[cfg(test)]
pub(super) mod fake {
    use super::*;
    use std::io::{self, Read, Write};

    /// A server that says this, whatever it is told, and ends.
    pub(in crate::export) struct Says<'a>(pub(in crate::export) &'a [u8]);

    impl Read for Says<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Says<'_> {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Duplex for Says<'_> {}

    /// A whole conversation with a server that says this. Says whether it let us in.
    pub(in crate::export) fn talk(said: &[u8], password: Option<&[u8]>, is_tls: bool) -> bool {
        let target = "postgres://m@h/d".parse().expect("it is one");
        let mut session = Session::new(Says(said), target);
        match crate::export::login::log_in(&mut session, password, is_tls) {
            Ok(()) => {
                let _ = session.execute("SELECT $1", &[Value::Long(1)]);
                while let Ok(answers) = session.sync() {
                    assert!(answers.len() <= MOST_RESULTS);
                    let rows: usize = answers.iter().map(|answer| answer.rows.len()).sum();
                    assert!(rows <= MOST_ROWS);
                }
                assert!(session.input.len() <= MOST_MESSAGE as usize + 8 * 1024 + 5);
                true
            }
            Err(error) => {
                assert!(!error.to_string().chars().any(char::is_control), "{error}");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A message of a server.
    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &len.to_be_bytes(), body].concat()
    }

    fn session(said: &[u8]) -> Session<fake::Says<'_>> {
        Session::new(fake::Says(said), "postgres://m@h/d".parse().unwrap())
    }

    const READY: &[u8] = b"Z\0\0\0\x05I";

    #[test]
    fn a_length_is_looked_at_before_anything_is_reserved() {
        let huge = [
            &b"E\x7f\xff\xff\xffmore"[..],
            b"D\x00\x01\x00\x01",
            b"E\xff\xff\xff\xff",
            b"Z\0\0\0\x03I",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"\x16\x03\x01\x02\0\x01",
            b"SSH-2.0-OpenSSH_9.2p1\r\n",
        ];
        for said in huge {
            let mut session = session(said);
            let error = session.sync().unwrap_err();
            assert!(matches!(error, ExportError::Protocol(_)), "{error}");
            assert!(session.input.capacity() < 64 * 1024, "{said:?}");
        }
    }

    #[test]
    fn answers_come_by_statement_and_the_first_error_counts() {
        let row = message(b'D', b"\0\x02\0\0\0\x017\xff\xff\xff\xff");
        let tag = |tag: &str| message(b'C', format!("{tag}\0").as_bytes());
        let notice = message(b'N', b"MQuiet\0\0");
        let said = [notice, tag("BEGIN"), row, tag("SELECT 1")].concat();
        let answers = session(&[&said[..], READY].concat()).sync().unwrap();
        let expected =
            Answered { tag: "SELECT 1".into(), rows: vec![vec![Some("7".into()), None]] };
        assert_eq!(answers[1], expected);
        assert_eq!((answers.len(), answers[0].tag.as_str()), (2, "BEGIN"));
        let fails = [
            &message(b'E', b"SERROR\0C42501\0Mpermission denied\0\0")[..],
            &message(b'E', b"SERROR\0CXX000\0Msecond\0\0"),
        ]
        .concat();
        // With the end of the exchange, and with a connection that is closed instead.
        for said in [[&fails[..], READY].concat(), fails] {
            let error = session(&said).sync().unwrap_err().to_string();
            assert!(error.contains("permission denied (42501)"), "{error}");
        }
    }

    #[test]
    fn what_a_server_sends_without_end_is_bounded() {
        let row = message(b'D', b"\0\x01\0\0\0\x017");
        let done = message(b'C', b"SELECT 1\0");
        for rows in [row.repeat(MOST_ROWS + 1), [&row[..], &done].concat().repeat(MOST_ROWS + 1)] {
            let rows = session(&rows).sync().unwrap_err();
            assert!(matches!(rows, ExportError::Protocol(_)), "{rows}");
        }
        let done = session(&message(b'C', b"X\0").repeat(MOST_RESULTS + 1)).sync().unwrap_err();
        assert!(matches!(done, ExportError::Protocol(_)), "{done}");
    }

    const BODIES: &[&[u8]] = &[
        b"\0\0\0\0",
        b"\0\0\0\x03",
        b"\0\0\0\x05salt",
        b"\0\0\0\x0aSCRAM-SHA-256\0\0",
        b"\0\0\0\x0br=x,s=AAAA,i=1",
        b"\0\0\0\x0cv=AAAA",
        b"I",
        b"COMMIT\0",
        b"SFATAL\0C28000\0Mno\x1b\0\0",
        b"server_version\x0015\0",
    ];

    /// Messages as a server sends them, and such as it does not.
    fn any_message() -> impl Strategy<Value = Vec<u8>> {
        let tag = prop::sample::select(&b"RSKZEDCTNA123nIGHWs\0"[..]);
        let body = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            prop::sample::select(BODIES).prop_map(<[u8]>::to_vec),
        ];
        (tag, body).prop_map(|(tag, body)| message(tag, &body))
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_server_do_harm(
            said in prop::collection::vec(any::<u8>(), 0..200), password: bool, tls: bool,
        ) {
            fake::talk(&said, password.then_some(b"secret"), tls);
        }

        #[test]
        fn no_messages_of_a_server_do_harm(
            said in prop::collection::vec(any_message(), 0..12), cut: usize, password: bool, tls: bool,
        ) {
            let mut said = said.concat();
            said.truncate(said.len() - cut % 4.min(said.len() + 1));
            let is_in = fake::talk(&said, password.then_some(b"secret"), tls);
            // Nobody here knows the password; in TLS it may be asked for itself.
            prop_assert!(!is_in || !password || tls);
        }
    }
}
