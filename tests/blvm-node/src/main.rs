//! Starts the published blvm-node, as far as the tests of the module need it: the crate is a
//! library without a program. `node CONFIG DATA_DIR P2P_ADDR RPC_ADDR`, on regtest.

use blvm_node::ProtocolVersion;
use blvm_node::config::NodeConfig;
use blvm_node::node::Node;
use std::error::Error;
use std::path::Path;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [config, data_dir, p2p, rpc] = &args[..] else {
        return Err("give CONFIG DATA_DIR P2P_ADDR RPC_ADDR".into());
    };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let config = NodeConfig::from_toml_file(Path::new(config))?;
    std::fs::create_dir_all(data_dir)?;
    let storage = config.storage.clone();
    let (p2p, rpc) = (p2p.parse()?, rpc.parse()?);
    let version = Some(ProtocolVersion::Regtest);
    let node = Node::with_storage_config(data_dir, p2p, rpc, version, storage.as_ref())?;
    let mut node = node.with_config(config.clone())?.with_modules_from_config(&config)?;
    node.start().await?;
    Ok(())
}
