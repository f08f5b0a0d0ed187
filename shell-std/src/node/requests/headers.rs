//! Block headers given by the operator.

use super::super::engine::Command;
use super::Service;
use crate::rpc::RpcError;
use crate::rpc::types::{HEADER_LEN, MOST_HEADERS, RefusedHeader, SubmitHeader, SubmittedHeaders};
use bitcoin::consensus::deserialize;

impl Service {
    pub(super) async fn headers(
        &self,
        request: SubmitHeader,
    ) -> Result<SubmittedHeaders, RpcError> {
        let SubmitHeader { headers, height } = request;
        let (headers, rest) = headers.as_chunks::<HEADER_LEN>();
        let count = headers.len();
        if !rest.is_empty() || !(1..=MOST_HEADERS).contains(&count) {
            let text = format!("headers_hex: from 1 to {MOST_HEADERS} headers of 80 bytes");
            return Err(RpcError::invalid_params(text));
        }
        if u32::try_from(count).ok().and_then(|n| height.checked_add(n)).is_none() {
            return Err(RpcError::invalid_params("height: no block is as high as that"));
        }
        let given = headers.to_vec();
        let ask = |refused| Command::Headers { headers: given, height, refused };
        let refused = self.node.ask(ask).await?.map(|(place, reason)| RefusedHeader {
            place,
            // Fits: checked above.
            height: height.saturating_add(place as u32),
            hash: headers
                .get(place)
                .and_then(|header| deserialize::<bitcoin::block::Header>(header).ok())
                .map(|header| header.block_hash().to_string())
                .unwrap_or_default(),
            reason: reason.to_string(),
        });
        let accepted = refused.as_ref().map_or(count, |refused| refused.place);
        Ok(SubmittedHeaders { accepted, refused })
    }
}
