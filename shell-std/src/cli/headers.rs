//! `headers`: block headers for a node that asks no Bitcoin node.

use super::global::Global;
use super::input::{Format, Input};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{HEADER_LEN, MOST_HEADERS, RefusedHeader, SubmitHeader, SubmittedHeaders};
use clap::Args;
use serde::Serialize;
use std::io::IsTerminal;
use std::path::PathBuf;

/// Give the running node block headers, so that it accepts covenants funded in these blocks.
///
/// For a node without a Bitcoin node to ask (chain.rpc_url). Headers are 80 bytes, one behind
/// the other, or hex, one a line; each follows the one before. Their work is checked, not
/// whether they are the best chain: give those of a node that you trust. The node forgets them
/// when it stops. Exit code 1: one was refused, and which.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  bitcoin-cli getblockheader $HASH false | blvm-mesh headers --height 200000
  blvm-mesh headers --height 0 headers.bin")]
pub(super) struct Headers {
    /// File with the headers; `-` or none: standard input.
    file: Option<PathBuf>,
    /// Height of the first.
    #[arg(long, value_name = "N")]
    height: u32,
    /// How they are written.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Serialize)]
struct Given {
    accepted: usize,
    refused: Option<RefusedHeader>,
}

impl Headers {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let bytes = Input { file: self.file, format: self.format }.read()?;
        let (headers, rest) = bytes.as_chunks::<HEADER_LEN>();
        if headers.is_empty() || !rest.is_empty() {
            let text = format!(
                "{} bytes are not whole block headers of {HEADER_LEN} bytes each; see --format",
                bytes.len()
            );
            return Err(Failure(text));
        }
        let mut client = match global.client() {
            Ok(client) => client,
            Err(e) => return e.answer(),
        };
        let shows = headers.len() > MOST_HEADERS && std::io::stderr().is_terminal();
        let mut given = Given { accepted: 0, refused: None };
        for some in headers.chunks(MOST_HEADERS) {
            let height =
                u32::try_from(given.accepted).ok().and_then(|n| self.height.checked_add(n));
            let height = height.ok_or_else(|| Failure("no block is as high as that".into()))?;
            let request = SubmitHeader { headers: some.concat(), height };
            let answer: SubmittedHeaders = match client.call(&Request::SubmitHeader(request)) {
                Ok(answer) => answer,
                Err(e) => return Answer::refused(e),
            };
            let before = given.accepted;
            given.accepted += answer.accepted;
            if let Some(refused) = answer.refused {
                given.refused = Some(RefusedHeader { place: before + refused.place, ..refused });
                break;
            }
            if shows {
                eprintln!("{} of {} headers", given.accepted, headers.len());
            }
        }
        match &given.refused {
            None => {
                let text = format!("accepted {} headers", given.accepted);
                Answer::yes(&given, text)
            }
            Some(RefusedHeader { place, height, hash, reason }) => {
                let text = format!(
                    "no: header {} (height {height}, block {hash}): {reason}\n{} before it were \
                     accepted",
                    place + 1,
                    given.accepted
                );
                Answer::no(&given, text)
            }
        }
    }
}
