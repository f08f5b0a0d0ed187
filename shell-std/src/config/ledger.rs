//! Where the ledger is booked besides.

use super::ConfigError;
use super::build::value;
use super::keys::Ledger;
use crate::export::{ExportSettings, Place};
use std::path::PathBuf;
use std::time::Duration;

/// The database, if there is one. `inside` says where a path is.
pub(super) fn export(
    file: Ledger,
    step: Duration,
    inside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<Option<ExportSettings>, ConfigError> {
    let Ledger { export, password_file, certificate_file, timeout_ms } = file;
    let Some(target) = export.map(|export| export.0) else {
        let stray = [
            ("ledger.password_file", password_file.is_some()),
            ("ledger.certificate_file", certificate_file.is_some()),
            ("ledger.timeout_ms", timeout_ms.is_some()),
        ];
        return match stray.into_iter().find(|(_, given)| *given) {
            Some((key, _)) => Err(value(key, "means nothing without ledger.export")),
            None => Ok(None),
        };
    };
    if certificate_file.is_some() && !target.tls {
        let reason = match target.place {
            Place::Unix { .. } => "means nothing to a Unix socket",
            Place::Tcp { .. } => "needs sslmode=verify-full in ledger.export",
        };
        return Err(value("ledger.certificate_file", reason));
    }
    let (password, certificate) = (password_file.map(inside), certificate_file.map(inside));
    Ok(Some(ExportSettings { target, password, certificate, step }))
}
