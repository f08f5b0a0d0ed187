//! From the keys of section `lightning` to a backend.

use super::ConfigError;
use super::build::value;
use super::keys::Lightning;
use crate::lightning::{BackendSettings, LightningSettings, Timeouts};
use std::path::PathBuf;

/// Which keys a backend has, beside those of all.
const KEYS: [(&str, &[&str]); 5] = [
    ("lnd", &["lightning.url", "lightning.macaroon_file", "lightning.certificate_file"]),
    ("cln", &["lightning.socket"]),
    ("phoenixd", &["lightning.url", "lightning.password_file"]),
    ("lnbits", &["lightning.url", "lightning.api_key_file", "lightning.certificate_file"]),
    ("ldk", &["lightning.socket"]),
];

/// The operator's Lightning node. `inside` says where a path is.
pub(super) fn settings(
    file: Lightning,
    timeouts: Timeouts,
    inside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Option<LightningSettings>, ConfigError> {
    let Lightning { backend, url, socket, macaroon_file, certificate_file, .. } = file;
    let Lightning { password_file, api_key_file, timeout_ms, payment_timeout_ms, .. } = file;
    let given = [
        ("lightning.url", url.is_some()),
        ("lightning.socket", socket.is_some()),
        ("lightning.macaroon_file", macaroon_file.is_some()),
        ("lightning.certificate_file", certificate_file.is_some()),
        ("lightning.password_file", password_file.is_some()),
        ("lightning.api_key_file", api_key_file.is_some()),
    ];
    let Some(name) = backend.map(|backend| backend.0) else {
        let times = [
            ("lightning.timeout_ms", timeout_ms.is_some()),
            ("lightning.payment_timeout_ms", payment_timeout_ms.is_some()),
        ];
        return match given.into_iter().chain(times).find(|(_, given)| *given) {
            Some((key, _)) => Err(value(key, "means nothing without lightning.backend")),
            None => Ok(None),
        };
    };
    let own = KEYS.iter().find(|(of, _)| *of == name.as_str()).map_or(&[][..], |(_, keys)| *keys);
    if let Some((key, _)) = given.into_iter().find(|(key, given)| *given && !own.contains(key)) {
        let reason = format!("means nothing to backend \"{name}\", which has {}", own.join(", "));
        return Err(value(key, reason));
    }
    let needs = |key| value(key, format!("is needed by backend \"{name}\""));
    let path = |key, given: Option<PathBuf>| given.map(inside).ok_or_else(|| needs(key));
    let certificate = certificate_file.map(inside);
    let backend = match name.as_str() {
        "lnd" => BackendSettings::Lnd {
            url: address(url.unwrap_or_else(|| "https://127.0.0.1:8080".into()))?,
            macaroon: path("lightning.macaroon_file", macaroon_file)?,
            certificate,
        },
        "cln" => BackendSettings::Cln { socket: path("lightning.socket", socket)? },
        "ldk" => BackendSettings::Ldk { socket: path("lightning.socket", socket)? },
        "phoenixd" => BackendSettings::Phoenixd {
            url: address(url.unwrap_or_else(|| "http://127.0.0.1:9740".into()))?,
            password: path("lightning.password_file", password_file)?,
        },
        _ => BackendSettings::Lnbits {
            url: address(url.ok_or_else(|| needs("lightning.url"))?)?,
            api_key: path("lightning.api_key_file", api_key_file)?,
            certificate,
        },
    };
    Ok(Some(LightningSettings { backend, timeouts }))
}

/// Checks an address, and that no credential is in it.
fn address(url: String) -> Result<String, ConfigError> {
    const KEY: &str = "lightning.url";
    let parsed = url.parse::<ureq::http::Uri>().ok();
    let authority = parsed.as_ref().and_then(|uri| uri.authority());
    if authority.is_some_and(|a| a.as_str().contains('@')) {
        let reason = "is to be without credentials; they belong in a file, which \
                      lightning.password_file, api_key_file or macaroon_file names";
        return Err(value(KEY, reason));
    }
    let scheme = parsed.as_ref().and_then(|uri| uri.scheme_str());
    let query = parsed.as_ref().and_then(|uri| uri.query());
    if !matches!(scheme, Some("http" | "https")) || authority.is_none() || query.is_some() {
        let reason = "is not https://HOST:PORT or http://HOST:PORT, as in https://127.0.0.1:8080";
        return Err(value(KEY, reason));
    }
    Ok(url)
}
