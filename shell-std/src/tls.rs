//! Whom a TLS client trusts: what the system does, or the certificates of one file. A server that
//! signs its certificate itself, as LND does and as Debian's PostgreSQL, is named by that file: then
//! neither names nor dates in it matter.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Why nobody can be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoTrust {
    /// The file with the certificate cannot be used.
    File(String),
    /// The system has none.
    System(String),
}

/// What is trusted: the certificates of a file, or what the system trusts.
pub(crate) fn config(certificate: Option<&Path>) -> Result<Arc<ClientConfig>, NoTrust> {
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

fn system() -> Result<Arc<ClientConfig>, NoTrust> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(NoTrust::System(
            "this system trusts nobody, as where ca-certificates is not installed".into(),
        ));
    }
    let builder = builder(&Arc::new(ring::default_provider()))?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}

fn pinned(path: &Path) -> Result<Arc<ClientConfig>, NoTrust> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|e| NoTrust::File(e.to_string()))?;
    if certificates.is_empty() {
        return Err(NoTrust::File("no certificate (PEM) is in it".into()));
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
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, NoTrust> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| NoTrust::System(e.to_string()))
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
