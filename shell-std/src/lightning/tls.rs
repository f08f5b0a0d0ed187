//! TLS to a Lightning node. LND signs its certificate itself, for itself: what is trusted is that
//! one certificate, which is a file of the operator's, and neither its names nor its dates matter.

use super::Error;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
    SignatureScheme, StreamOwned,
};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout, Transport,
    TransportAdapter,
};

const FILE: &str = "lightning.certificate_file";

/// What is trusted: the certificates of a file, or what the system trusts.
pub(super) fn config(certificate: Option<&Path>) -> Result<Arc<ClientConfig>, Error> {
    match certificate {
        Some(path) => pinned(path),
        None => {
            static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
            if let Some(config) = SYSTEM.get() {
                return Ok(config.clone());
            }
            let config = system()?;
            Ok(SYSTEM.get_or_init(|| config).clone())
        }
    }
}

fn system() -> Result<Arc<ClientConfig>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(Error::Certificate(
            "this system trusts nobody, as where ca-certificates is not installed".into(),
        ));
    }
    let builder = builder(&Arc::new(ring::default_provider()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn pinned(path: &Path) -> Result<Arc<ClientConfig>, Error> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|e| Error::file(FILE, path, e))?;
    if certificates.is_empty() {
        return Err(Error::file(FILE, path, "no certificate (PEM) is in it"));
    }
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates.iter().cloned());
    let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = Pinned {
        certificates,
        issued: issued.build().ok(),
        algorithms: provider.signature_verification_algorithms,
    };
    let builder = builder(&provider)?.dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(builder.with_no_client_auth()))
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, Error> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Certificate(e.to_string()))
}

/// Trusts these certificates, and such as they have signed.
#[derive(Debug)]
struct Pinned {
    certificates: Vec<CertificateDer<'static>>,
    issued: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|pinned| pinned == end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        match &self.issued {
            Some(issued) => issued.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
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
