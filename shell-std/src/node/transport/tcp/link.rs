//! A TCP connection that carries a link: one task decrypts what comes in, one encrypts what
//! goes out.

use super::super::{Accepted, Limits, Neighbour, Ways};
use super::handshake::Connection;
use super::{read, write};
use crate::address;
use blvm_mesh_core::id::Standing;
use smol::channel::Receiver;
use std::convert::Infallible;
use std::sync::Arc;

/// What connections need of the node.
pub(super) struct Carrier {
    pub(super) ways: Ways,
    pub(super) limits: Limits,
}

impl Carrier {
    /// Carries a link over a connection until it ends: then what is returned is closed.
    pub(super) fn carry(self: &Arc<Self>, connection: Connection) -> Receiver<Infallible> {
        let (up, ended) = smol::channel::bounded(1);
        let carrier = self.clone();
        // It ends with the engine at the latest.
        let link = async move {
            carrier.link(connection).await;
            drop(up);
        };
        self.ways.executor.spawn(link).detach();
        ended
    }

    async fn link(&self, connection: Connection) {
        let Connection { stream, sender, receiver, address, remote, dialed, found } = connection;
        let standing = match dialed && !found {
            true => Standing::Own,
            false => Standing::Stranger { prefix: address::prefix(address.ip()) },
        };
        let (address, limits) = (address.to_string(), self.limits);
        let neighbour =
            Neighbour { public_key: remote, address, dialed, standing, limits, medium: None };
        let Ok(Some(accepted)) = self.ways.engine.offer(neighbour).await else { return };
        let Accepted { inlet, outlet, ended } = accepted;
        let stream = Arc::new(stream);
        let report = inlet.report.clone();
        let read = read::run(stream.clone(), receiver, inlet, self.ways.clock);
        let _reader = self.ways.executor.spawn(async move {
            let reason = read.await.to_string();
            let _ = report.down(reason).await;
        });
        let (report, write) = (outlet.report.clone(), write::run(stream, sender, outlet));
        let _writer = self.ways.executor.spawn(async move {
            let reason = write.await.to_string();
            let _ = report.down(reason).await;
        });
        ended.wait().await;
    }
}
