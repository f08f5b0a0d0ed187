//! `page`: what to open in a browser.

use super::global::Global;
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::PageAddress;
use clap::Args;

/// Print the address of the running node's page, to be opened in a browser on the same host.
///
/// The page is off unless page.listen is set. The token in the address lets in whoever has it:
/// it is the content of page.token_file.
#[derive(Debug, Args)]
#[command(name = "page", after_help = "Example:\n  blvm-mesh page")]
pub(super) struct PageCommand {}

impl PageCommand {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let page: PageAddress = match global.ask(&Request::GetPage) {
            Ok(page) => page,
            Err(e) => return e.answer(),
        };
        let text = format!("{}\n", page.url);
        Answer::yes(&page, text)
    }
}
