//! What a command came to, and how it is printed.

use crate::config::ConfigError;
use crate::identity::IdentityError;
use crate::issuer::IssuerError;
use crate::rpc::client::ClientError;
use crate::store::StoreError;
use serde::Serialize;
use serde_json::{Value, json};
use std::io::{self, Write};
use std::process::ExitCode;

/// What a command found out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// Whether it is a yes.
    pub yes: bool,
    /// Whether neither yes nor no can be said: exit code 3.
    pub unknown: bool,
    /// For programs.
    pub json: Value,
    /// For people; empty: nothing is printed.
    pub text: String,
}

/// Why a command gives no answer: exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub String);

macro_rules! failure_from {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self(error.to_string())
            }
        }
    )*};
}
failure_from!(ConfigError, IdentityError, IssuerError, StoreError, io::Error, serde_json::Error);

impl Answer {
    /// A yes.
    pub(crate) fn yes(json: impl Serialize, text: impl Into<String>) -> Result<Self, Failure> {
        Ok(Self { yes: true, unknown: false, json: serde_json::to_value(json)?, text: text.into() })
    }

    /// A negative result.
    pub(crate) fn no(json: impl Serialize, text: impl Into<String>) -> Result<Self, Failure> {
        Ok(Self {
            yes: false,
            unknown: false,
            json: serde_json::to_value(json)?,
            text: text.into(),
        })
    }

    /// Neither yes nor no: what was asked for is under way, and how it ends was not seen.
    pub(crate) fn unknown(json: impl Serialize, text: impl Into<String>) -> Result<Self, Failure> {
        Ok(Self { yes: false, unknown: true, json: serde_json::to_value(json)?, text: text.into() })
    }

    /// What is left to say after a command has printed by itself.
    pub(crate) fn printed(yes: bool) -> Self {
        Self { yes, unknown: false, json: Value::Null, text: String::new() }
    }

    /// A negative result that has nothing but its reason.
    pub(crate) fn negative(reason: &str) -> Result<Self, Failure> {
        Self::no(json!({"error": {"code": 1, "message": reason}}), format!("no: {reason}"))
    }

    /// A node's refusal is a negative result; a failure to answer is not.
    pub(crate) fn refused(error: ClientError) -> Result<Self, Failure> {
        let text = error.to_string();
        match error.is_refusal() {
            true => Self::negative(&text),
            false => Err(Failure(text)),
        }
    }
}

/// Prints it and gives the exit code.
pub(super) fn print(outcome: Result<Answer, Failure>, json: bool) -> ExitCode {
    let (code, written) = match outcome {
        Ok(Answer { yes, unknown, json: value, text }) => {
            let text = match (json, &value) {
                (true, Value::Null) => String::new(),
                (true, _) => written(&value),
                (false, _) => text,
            };
            let code = match (yes, unknown) {
                (true, _) => 0,
                (false, false) => 1,
                (false, true) => 3,
            };
            (code, write_line(&mut io::stdout().lock(), &text))
        }
        Err(Failure(message)) if json => {
            let value = json!({"error": {"code": 2, "message": message}});
            (2, write_line(&mut io::stdout().lock(), &written(&value)))
        }
        Err(Failure(message)) => {
            (2, write_line(&mut io::stderr().lock(), &format!("error: {message}")))
        }
    };
    match written {
        // Whoever closed the pipe has seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(2),
        _ => ExitCode::from(code),
    }
}

/// An answer is written for people too; an error is one line, so that it is one object of
/// those that `--follow` prints.
fn written(value: &Value) -> String {
    match value.get("error") {
        Some(_) => value.to_string(),
        None => format!("{value:#}"),
    }
}

/// Prints an error in the usage, or the help that was asked for.
pub(super) fn print_usage(error: &clap::Error, json: bool) -> ExitCode {
    if !json || !error.use_stderr() {
        let code = if error.use_stderr() { 2 } else { 0 };
        return match error.print() {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => ExitCode::from(2),
            _ => ExitCode::from(code),
        };
    }
    let text = error.to_string();
    let message = text.strip_prefix("error: ").unwrap_or(&text).trim();
    print(Err(Failure(message.to_owned())), true)
}

fn write_line(out: &mut impl Write, text: &str) -> io::Result<()> {
    let text = text.trim_end();
    if text.is_empty() {
        return Ok(());
    }
    writeln!(out, "{text}")?;
    out.flush()
}

/// Names and values, one a line, the values in one column.
pub(super) fn lines<V: ToString>(rows: impl IntoIterator<Item = (&'static str, V)>) -> String {
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| (name, value.to_string())).collect();
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let line = |(name, value): &(&str, String)| format!("{name:width$}  {value}\n");
    rows.iter().map(line).collect()
}

/// A table with a heading.
pub(super) fn table<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    let line = |cells: &[String; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    let heading = heading.map(str::to_owned);
    std::iter::once(&heading).chain(rows).map(line).collect()
}
