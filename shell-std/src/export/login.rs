//! Who this node is: the start of a session. A password is shown by SCRAM-SHA-256, which tells it to
//! nobody and shows that the server knows it too, and itself only inside TLS.

use super::session::Session;
use super::socket::Duplex;
use super::{ExportError, ExportSettings};
use crate::private_file;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;

/// The key that names the password.
const FILE: &str = "ledger.password_file";

/// The password, read anew each time: it may be another now.
pub(super) fn password(settings: &ExportSettings) -> Result<Option<Vec<u8>>, ExportError> {
    let Some(path) = &settings.password else { return Ok(None) };
    let wrong = |reason: String| ExportError::File { key: FILE, reason };
    let bytes = private_file::read(path).map_err(|e| wrong(e.to_string()))?;
    let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.contains(&0) {
        let reason = format!("{}: its first line is no password", path.display());
        return Err(wrong(reason));
    }
    Ok(Some(line.to_vec()))
}

/// Logs in. With a password, the server must show that it knows it, or be the one that TLS names.
pub(super) fn log_in<S: Duplex>(
    session: &mut Session<S>,
    password: Option<&[u8]>,
    is_tls: bool,
) -> Result<(), ExportError> {
    session.begin("it let us in");
    let (user, database) = (session.target().user.clone(), session.target().database.clone());
    let parameters = [
        ("user", user.as_str()),
        ("database", database.as_str()),
        ("application_name", "blvm-mesh"),
        ("client_encoding", "UTF8"),
    ];
    session.queue(|out| frontend::startup_message(parameters, out))?;
    session.send()?;
    let wanted = || password.ok_or_else(|| ExportError::NoPassword(user.clone()));
    let impostor =
        |e: std::io::Error| ExportError::Impostor(e.to_string().escape_debug().collect());
    let (mut scram, mut was_shown) = (None, false);
    loop {
        match session.receive()? {
            Message::AuthenticationOk if password.is_none() || was_shown => break,
            Message::AuthenticationOk if scram.is_some() => {
                return Err(ExportError::Impostor("it left out its part of SCRAM".into()));
            }
            Message::AuthenticationOk => return Err(ExportError::PasswordNotAsked(user)),
            Message::AuthenticationCleartextPassword if is_tls => {
                let password = wanted()?;
                session.queue(|out| frontend::password_message(password, out))?;
                was_shown = true;
            }
            Message::AuthenticationCleartextPassword => {
                return Err(ExportError::WeakLogin("in the clear, without TLS"));
            }
            Message::AuthenticationMd5Password(_) => return Err(ExportError::WeakLogin("MD5")),
            Message::AuthenticationSasl(body) if scram.is_none() => {
                has_scram(&body)?;
                let begun = ScramSha256::new(wanted()?, ChannelBinding::unsupported());
                let message = begun.message();
                session
                    .queue(|out| frontend::sasl_initial_response(SCRAM_SHA_256, message, out))?;
                scram = Some(begun);
            }
            Message::AuthenticationSaslContinue(body) => {
                let scram = scram.as_mut().ok_or_else(out_of_order)?;
                scram.update(body.data()).map_err(impostor)?;
                session.queue(|out| frontend::sasl_response(scram.message(), out))?;
            }
            Message::AuthenticationSaslFinal(body) => {
                let scram = scram.as_mut().ok_or_else(out_of_order)?;
                scram.finish(body.data()).map_err(impostor)?;
                was_shown = true;
                continue;
            }
            Message::ErrorResponse(body) => return Err(session.error(&body)),
            Message::AuthenticationGss
            | Message::AuthenticationSspi
            | Message::AuthenticationKerberosV5
            | Message::AuthenticationScmCredential => {
                return Err(ExportError::WeakLogin("not a password at all"));
            }
            _ => return Err(out_of_order()),
        }
        session.send()?;
    }
    loop {
        match session.receive()? {
            Message::ReadyForQuery(_) => return Ok(()),
            Message::BackendKeyData(_) => {}
            Message::ErrorResponse(body) => return Err(session.error(&body)),
            _ => return Err(out_of_order()),
        }
    }
}

fn has_scram(body: &AuthenticationSaslBody) -> Result<(), ExportError> {
    let mut mechanisms = body.mechanisms();
    while let Ok(Some(mechanism)) = mechanisms.next() {
        if mechanism == SCRAM_SHA_256 {
            return Ok(());
        }
    }
    Err(ExportError::WeakLogin("SASL without SCRAM-SHA-256"))
}

fn out_of_order() -> ExportError {
    ExportError::Protocol("a message that does not belong to the login".into())
}

#[cfg(test)]
mod tests {
    use super::super::session::fake::Says;
    use super::*;

    fn told(said: &[u8], password: Option<&[u8]>, is_tls: bool) -> Result<(), ExportError> {
        let target = "postgres://m@h/d".parse().unwrap();
        log_in(&mut Session::new(Says(said), target), password, is_tls)
    }

    #[test]
    fn a_server_that_knows_no_password_gets_none_and_lets_nobody_in() {
        const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I";
        const PLAIN: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
        const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
        const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let other = b"R\0\0\0\x0a\0\0\0\x0aX\0\0";
        let secret = Some(&b"secret"[..]);
        assert_eq!(told(OK, None, false), Ok(()));
        assert_eq!(told(&[PLAIN, OK].concat(), secret, true), Ok(()));
        let refused = |said: &[&[u8]], password| told(&said.concat(), password, false).unwrap_err();
        assert_eq!(refused(&[OK], secret), ExportError::PasswordNotAsked("m".into()));
        for weak in [PLAIN, MD5, &other[..11]] {
            assert!(matches!(refused(&[weak, OK], secret), ExportError::WeakLogin(_)));
        }
        assert_eq!(refused(&[SCRAM], None), ExportError::NoPassword("m".into()));
        // It skips what would show that it knows it.
        assert!(matches!(refused(&[SCRAM, OK], secret), ExportError::Impostor(_)));
        let guess = b"R\0\0\0\x17\0\0\0\x0br=x,s=AAAA,i=4096";
        assert!(matches!(refused(&[SCRAM, guess], secret), ExportError::Impostor(_)));
        let last = b"R\0\0\0\x0e\0\0\0\x0cv=AAAA";
        assert!(matches!(refused(&[SCRAM, last], secret), ExportError::Impostor(_)));
        assert!(matches!(refused(&[last], secret), ExportError::Protocol(_)));
    }
}
