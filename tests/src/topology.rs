//! Measured topologies, read from `$MESH_SHARED/topologies` or `../shared`.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// A topology: how many nodes, and which of them are linked.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Name of the file without its ending.
    pub name: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Pairs of nodes, the smaller first, each once.
    pub links: BTreeSet<(usize, usize)>,
}

fn shared() -> PathBuf {
    match std::env::var_os("MESH_SHARED") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    }
}

/// Every topology there is, by name; empty, with a message, where there is none.
pub fn all() -> Vec<Topology> {
    let dir = shared().join("topologies");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        println!("SKIPPED: no topologies in {}", dir.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths.iter().map(read).collect()
}

fn read(path: &PathBuf) -> Topology {
    let text = std::fs::read_to_string(path).expect("a readable file");
    let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let number = |v: &serde_json::Value| v.as_u64().expect("a number") as usize;
    let links = json["links"].as_array().expect("links").iter().map(|l| {
        let (a, b) = (number(&l[0]), number(&l[1]));
        (a.min(b), a.max(b))
    });
    let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
    let links = links.filter(|(a, b)| a != b).collect();
    Topology { name, nodes: number(&json["nodes"]), links }
}

impl Topology {
    /// For each node the number of the connected part that it is in.
    pub fn parts(&self) -> Vec<usize> {
        let mut part: Vec<usize> = (0..self.nodes).collect();
        loop {
            let before = part.clone();
            for (a, b) in &self.links {
                let least = part[*a].min(part[*b]);
                (part[*a], part[*b]) = (least, least);
            }
            if part == before {
                return part;
            }
        }
    }
}
