//! The task that encrypts what goes out on a connection.

use super::super::Outlet;
use super::common::{IDLE, Idle, LinkEnd};
use crate::aead::Ring;
use crate::node::link::buffer::SMALL;
use crate::node::link::memory::Counted;
use blvm_mesh_core::link::transport::Sender;
use smol::Async;
use smol::io::AsyncWriteExt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

/// Bytes that are encrypted and written at once: one frame, and what the system sends as one
/// segment. The rest of a second one would wait for a timer where it paces what it sends (BBR): a
/// quarter of a relay's processor time.
const WRITE_BUFFER: usize = 60 * 1024;

/// Encrypts and writes what waits until the link ends.
pub(super) async fn run(
    stream: Arc<Async<TcpStream>>,
    mut sender: Sender<Ring>,
    outlet: Outlet,
) -> LinkEnd {
    let (egress, share) = (&outlet.egress, &outlet.share);
    let (mut out, mut frames) = (Vec::new(), Vec::new());
    let mut idle = Idle::new(IDLE);
    let mut memory = Counted::nothing(share.clone());
    loop {
        let is_ready = match out.len() > SMALL {
            false => Some(egress.ready().await),
            true => idle.wait(egress.ready()).await,
        };
        match is_ready {
            Some(true) => {}
            Some(false) => break,
            None => {
                out = Vec::new();
                memory.set(0);
                continue;
            }
        }
        if out.len() < WRITE_BUFFER && egress.waiting() > SMALL && memory.try_set(WRITE_BUFFER) {
            out = vec![0; WRITE_BUFFER];
        } else if out.is_empty() {
            out = vec![0; SMALL];
        }
        let room_again = egress.fill(&mut out, u16::MAX, &mut frames);
        let mut at = 0;
        for len in frames.iter().copied() {
            let Some(frame) = out.get_mut(at..at + len) else { break };
            if sender.seal_frame(frame).is_err() {
                // Cannot be: the builder keeps to the limits of a frame.
                return io::Error::from(io::ErrorKind::InvalidInput).into();
            }
            at += len;
        }
        if let Err(stopped) = outlet.report.room(room_again).await {
            return stopped.into();
        }
        let mut sealed = out.get(..at).unwrap_or_default();
        share.begin_write(at);
        while !sealed.is_empty() {
            match (&*stream).write(sealed).await {
                Ok(0) => return io::Error::from(io::ErrorKind::WriteZero).into(),
                Ok(n) => {
                    sealed = sealed.get(n..).unwrap_or_default();
                    share.note_written(n);
                }
                Err(error) => return error.into(),
            }
        }
    }
    let _ = stream.get_ref().shutdown(Shutdown::Write);
    LinkEnd::Finished
}
