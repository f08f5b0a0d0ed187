//! Files by which a node becomes the cashier of a board: `board-config` writes one, and the node
//! reads it at its start. It has the board's identity and its ticket key, in hex, on one line.

use crate::private_file::{self, PrivateFileError};
use blvm_mesh_core::config::Client;
use blvm_mesh_core::id::NodeId;
use std::path::{Path, PathBuf};

/// Why such a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It cannot be read or written.
    #[error(transparent)]
    File(#[from] PrivateFileError),
    /// It holds something else.
    #[error(
        "{path} does not hold a board's identity and ticket key; write it with `blvm-mesh \
         board-config --cashier PUBKEY --ticket-key FILE`",
        path = .0.display()
    )]
    Malformed(PathBuf),
    /// Another file is about the same board.
    #[error("{path} is about {node}, as is another file of flow.cashier_for", path = .path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The board.
        node: NodeId,
    },
}

/// Writes the file for the cashier of a board; it must not be there.
///
/// # Errors
/// [`ClientError::File`].
pub fn write(path: &Path, Client { node, ticket_key }: &Client) -> Result<(), ClientError> {
    let line = format!("{node} {}\n", hex::encode(ticket_key));
    Ok(private_file::create(path, line.as_bytes())?)
}

/// Reads these files.
///
/// # Errors
/// [`ClientError`].
pub fn load(paths: &[PathBuf]) -> Result<Vec<Client>, ClientError> {
    let mut clients: Vec<Client> = Vec::new();
    for path in paths {
        let bytes = private_file::read(path)?;
        let client = parse(&bytes).ok_or_else(|| ClientError::Malformed(path.clone()))?;
        if clients.iter().any(|other| other.node == client.node) {
            return Err(ClientError::Twice { path: path.clone(), node: client.node });
        }
        clients.push(client);
    }
    Ok(clients)
}

fn parse(bytes: &[u8]) -> Option<Client> {
    let mut words = std::str::from_utf8(bytes).ok()?.split_whitespace();
    let mut word = || -> Option<[u8; 32]> { hex::decode(words.next()?).ok()?.try_into().ok() };
    let client = Client { node: NodeId(word()?), ticket_key: word()? };
    words.next().is_none().then_some(client)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn client(n: u8) -> Client {
        Client { node: NodeId([n; 32]), ticket_key: [n + 100; 32] }
    }

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for n in [1, 2] {
            write(&at(&n.to_string()), &client(n)).unwrap();
        }
        assert_eq!(load(&[at("1"), at("2")]).unwrap(), [client(1), client(2)]);
        assert!(matches!(write(&at("1"), &client(1)), Err(ClientError::File(_))), "it is there");
        write(&at("again"), &client(1)).unwrap();
        assert!(matches!(load(&[at("1"), at("again")]), Err(ClientError::Twice { .. })));
        let node = NodeId([1; 32]);
        let other = ["", "aa bb", &format!("{node}"), &format!("{node} {node} {node}")]
            .map(|text| parse(text.as_bytes()));
        assert_eq!(other, [None, None, None, None]);
        assert_eq!(parse(&[0xff; 9]), None);
        private_file::create(&at("odd"), b"odd").unwrap();
        assert!(matches!(load(&[at("odd")]), Err(ClientError::Malformed(_))));
        std::fs::set_permissions(at("1"), std::fs::Permissions::from_mode(0o644)).unwrap();
        let open = load(&[at("1")]);
        assert!(matches!(open, Err(ClientError::File(PrivateFileError::TooOpen { .. }))));
    }
}
