//! Flows, services and forwards.

use super::super::engine::Command;
use super::Service;
use crate::flows::{self, Exposed, ForwardSpec, Forwarded, ServiceError, ServiceName, Services};
use crate::rpc::RpcError;
use crate::rpc::types::{
    Expose, ExposedService, Exposing, FlowList, Forward, ForwardedPort, Forwarding,
};
use std::net::SocketAddr;

impl From<ServiceError> for RpcError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Gone => Self::stopping(),
            other => Self::refused(other.to_string()),
        }
    }
}

/// An address of this host, as it is written.
fn address(what: &str, text: &str) -> Result<SocketAddr, RpcError> {
    flows::local(text).map_err(|e| RpcError::invalid_params(format!("{what}: {e}")))
}

fn exposed(services: &Services) -> Vec<ExposedService> {
    let (exposed, _) = services.list();
    let shown =
        |e: Exposed| ExposedService { name: e.name.to_string(), target: e.target.to_string() };
    exposed.into_iter().map(shown).collect()
}

fn forwards(services: &Services) -> Vec<ForwardedPort> {
    let (_, forwards) = services.list();
    let shown = |Forwarded { spec, max_msat }| {
        let ForwardSpec { local, node, service } = spec;
        ForwardedPort { local: local.to_string(), node, service: service.to_string(), max_msat }
    };
    forwards.into_iter().map(shown).collect()
}

impl Service {
    /// The services, and so many flows of each sort at most.
    pub(super) async fn flows(&self, most: usize) -> Result<FlowList, RpcError> {
        let list = self.node.ask(|who| Command::Flows(most, who)).await?;
        let (exposed, forwards) = (exposed(self.node.services()), forwards(self.node.services()));
        Ok(FlowList { exposed, forwards, ..list })
    }

    pub(super) fn expose(&self, request: Expose) -> Result<Exposing, RpcError> {
        let name: ServiceName =
            request.name.parse().map_err(|e| RpcError::invalid_params(format!("name: {e}")))?;
        match request.target {
            Some(target) => self.node.services().expose(name, address("target", &target)?)?,
            None => self.node.services().withdraw(&name)?,
        }
        Ok(Exposing { exposed: exposed(self.node.services()) })
    }

    pub(super) async fn forward(&self, request: Forward) -> Result<Forwarding, RpcError> {
        let local = address("local", &request.local)?;
        let local = match (request.node, request.service) {
            (None, None) => {
                self.node.services().unforward(local).await?;
                local
            }
            (Some(node), Some(service)) => {
                let service = service
                    .parse()
                    .map_err(|e| RpcError::invalid_params(format!("service: {e}")))?;
                let spec = ForwardSpec { local, node: node.0, service };
                let usual = self.node.current().services.max_msat;
                self.node.services().forward(spec, request.max_msat.unwrap_or(usual)).await?
            }
            _ => {
                let text = "give node and service together, or neither to end the forward";
                return Err(RpcError::invalid_params(text));
            }
        };
        let (local, forwards) = (local.to_string(), forwards(self.node.services()));
        Ok(Forwarding { local, forwards })
    }
}
