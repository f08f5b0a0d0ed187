//! Packets of every kind: read and written again they are the same bytes.

use crate::packets::edit::refix;
use blvm_mesh_core::wire::datagram::{Datagram, Emit, head_len};
use blvm_mesh_core::wire::flow::{self, FLOW_ERROR_LEN, FlowError, OpenTerms};
use blvm_mesh_core::wire::header::{HEADER_LEN, Header, Kind, lower_hop_limit};
use blvm_mesh_core::wire::hello::{self, Hello};
use blvm_mesh_core::wire::route_error::{self, RouteError};
use blvm_mesh_core::wire::route_reply::{self, RouteReply};
use blvm_mesh_core::wire::route_request::{self, RouteRequest};
use blvm_mesh_core::wire::{WireError, checksum};

/// A packet as it is, and with the length and check that it should have.
pub fn target(data: &[u8]) -> bool {
    let mut fixed = data.to_vec();
    refix(&mut fixed);
    let taken = packet(data);
    packet(&fixed) | taken
}

fn packet(bytes: &[u8]) -> bool {
    let (header, body) = match Header::parse(bytes) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return false;
        }
    };
    lowered(bytes, header);
    let again = match header.kind {
        Kind::Datagram => Datagram::parse(header, body).map(|d| datagram(&d, bytes.len())),
        Kind::Hello => {
            Hello::parse(header, body).map(|p| written(hello::MAX_LEN, |out| p.write(out)))
        }
        Kind::RouteRequest => RouteRequest::parse(header, body)
            .map(|p| written(route_request::MAX_LEN, |out| p.write(out))),
        Kind::RouteReply => RouteReply::parse(header, body).map(|p| {
            let other = RouteReply { hop_limit: !p.hop_limit, ..p.clone() };
            assert_eq!(other.sighash(), p.sighash(), "the hop limit is not signed");
            written(route_reply::MAX_LEN, |out| p.write(out))
        }),
        Kind::RouteError => RouteError::parse(header, body)
            .map(|p| written(route_error::MAX_LEN, |out| p.write(out))),
        Kind::Open => Datagram::parse(header, body).map(|d| {
            let terms = d.signed.map(|s| OpenTerms::parse(s.proof));
            if let Some(Ok(terms)) = terms {
                assert_eq!(d.signed.map(|s| s.proof), Some(&terms.bytes()[..]));
            }
            datagram(&d, bytes.len())
        }),
        Kind::FlowError => FlowError::parse(header, body).map(|error| {
            written(FLOW_ERROR_LEN, |out| error.write(header.sequence, header.hop_limit, out))
        }),
        Kind::Opened | Kind::Data | Kind::Close => flow::check_body(header, body).map(|()| {
            let Header { kind, sequence, hop_limit, .. } = header;
            written(bytes.len(), |out| flow::write(kind, sequence, hop_limit, body, out))
        }),
        Kind::KeepAlive | Kind::Ack => return true,
    };
    let Ok(again) = again else { return false };
    // A hello has no use for the hop limit and the sequence: they are not kept.
    let mut expected = bytes.to_vec();
    if header.kind == Kind::Hello {
        expected[7..16].fill(0);
        refix(&mut expected);
    }
    assert_eq!(again, expected);
    true
}

fn written(most: usize, write: impl Fn(&mut [u8]) -> Result<usize, WireError>) -> Vec<u8> {
    let mut out = vec![0; most];
    let len = write(&mut out).expect("what was read can be written");
    let short = write(&mut out[..len - 1]);
    assert_eq!(short, Err(WireError::NoRoom { need: len }));
    let mut out = vec![0; most];
    let again = write(&mut out);
    assert_eq!(again, Ok(len));
    out.truncate(len);
    out
}

fn datagram(d: &Datagram<'_>, len: usize) -> Vec<u8> {
    let emit = Emit {
        hop_limit: d.hop_limit,
        sequence: d.sequence,
        source: d.source,
        destination: d.destination,
        proof: d.signed.map(|s| (s.public_key, s.proof)),
        form: d.form,
    };
    let head = head_len(d.hops().len(), d.signed.map_or(0, |s| s.proof.len()));
    assert_eq!(d.payload_range(len), head..len);
    let mut signed = None;
    let mut out = written(head, |out| {
        emit.write(&d.route(), d.payload, out, |_| d.signed.expect("a proof").signature.to_owned())
    });
    let sign = |hash: &[u8; 32]| {
        signed = Some(*hash);
        [0; 64]
    };
    emit.write(&d.route(), d.payload, &mut vec![0; head], sign).expect("as before");
    assert_eq!(d.sighash(), signed);
    out.extend_from_slice(d.payload);
    out
}

/// A relay lowers the hop limit: nothing else changes, and the check is right.
fn lowered(bytes: &[u8], header: Header) {
    let mut less = bytes.to_vec();
    if !lower_hop_limit(&mut less) {
        assert_eq!((header.hop_limit, &less[..]), (0, bytes));
        return;
    }
    let (after, body) = Header::parse(&less).expect("the check is corrected");
    assert_eq!(after, Header { hop_limit: header.hop_limit - 1, ..header });
    assert_eq!(body, &bytes[HEADER_LEN..]);
    let mut sum = checksum::Sum::default();
    sum.add(&less[..20]);
    sum.add(&[0; 4]);
    sum.add(body);
    assert_eq!(sum.check().to_le_bytes(), less[20..24]);
}
