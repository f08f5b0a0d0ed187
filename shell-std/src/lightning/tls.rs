//! TLS to a Lightning node.

use super::Error;
use crate::tls::{self, NoTrust};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

const FILE: &str = "lightning.certificate_file";

/// What is trusted: the certificates of a file, or what the system trusts.
pub(super) fn config(certificate: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    tls::config(certificate).map_err(|error| match error {
        NoTrust::File(reason) => Error::file(FILE, certificate.unwrap_or(Path::new("")), reason),
        NoTrust::System(reason) => Error::Certificate(reason),
    })
}

/// Puts TLS around a connection where `config` is there, and notes that the connection is up.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Option<Arc<ClientConfig>>,
    pub(super) is_up: Arc<AtomicBool>,
}

impl<In: Transport> Connector<In> for Tls {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        let out = match &self.config {
            None => Either::A(transport),
            Some(config) => {
                let host = details.uri.host().unwrap_or_default();
                let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
                let name = ServerName::try_from(host)
                    .map_err(|_| ureq::Error::Tls("the host's name cannot be in a certificate"))?;
                let mut conn =
                    ClientConnection::new(config.clone(), name).map_err(std::io::Error::other)?;
                let now = details.current_time.clone();
                let mut sock = TransportAdapter::new(transport.boxed(), now);
                sock.set_timeout(details.timeout);
                conn.complete_io(&mut sock)?;
                let settings = details.config;
                let buffers =
                    LazyBuffers::new(settings.input_buffer_size(), settings.output_buffer_size());
                Either::B(TlsTransport { buffers, stream: StreamOwned::new(conn, sock) })
            }
        };
        self.is_up.store(true, Ordering::Release);
        Ok(Some(out))
    }
}

/// A connection inside TLS.
pub(super) struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl std::fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TlsTransport")
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        self.stream.write_all(output)?;
        Ok(self.stream.flush()?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}
