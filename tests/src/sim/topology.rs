//! Topologies: shapes drawn by rule, and measured ones, read from
//! `$MESH_SHARED/topologies` or `../shared`.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A topology: how many nodes, and which of them are linked.
#[derive(Debug, Clone)]
pub struct Topology {
    /// Name of the shape, or of the file without its ending.
    pub name: String,
    /// Number of nodes.
    pub nodes: usize,
    /// Pairs of nodes, the smaller first, each once, with the quality of the link
    /// each way: the part of the packets that arrive, 0 to 1.
    pub links: BTreeMap<(usize, usize), [f64; 2]>,
    /// Where each node is, in units in which neighbours are about 1 apart.
    pub positions: Vec<(f64, f64)>,
    /// Whether the positions are the topology's own; else they are on a circle.
    pub placed: bool,
    /// What the nodes are called; by their numbers, if empty.
    pub names: Vec<String>,
}

/// Names that [`Topology::shape`] knows.
pub const SHAPES: [&str; 8] =
    ["line", "ring", "grid", "tree", "star", "random", "geometric", "moving"];

/// Where shared test data is.
fn shared() -> PathBuf {
    match std::env::var_os("MESH_SHARED") {
        Some(dir) => dir.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"),
    }
}

/// Every measured topology there is, by name; empty, with a message, where there
/// is none.
pub fn all() -> Vec<Topology> {
    let dir = shared().join("topologies");
    let Ok(entries) = std::fs::read_dir(&dir) else {
        println!("SKIPPED: no topologies in {}", dir.display());
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "json"));
    paths.sort();
    paths.iter().map(|p| Topology::read(p).expect("a topology")).collect()
}

impl Topology {
    fn new(name: &str, nodes: usize, links: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let whole = |(a, b): (usize, usize)| ((a.min(b), a.max(b)), [1.0; 2]);
        let links = links.into_iter().filter(|(a, b)| a != b).map(whole).collect();
        let mut topology = Self {
            name: name.to_owned(),
            nodes,
            links,
            positions: Vec::new(),
            placed: matches!(name, "line" | "ring" | "grid" | "geometric" | "moving"),
            names: Vec::new(),
        };
        topology.positions = topology.circle();
        topology
    }

    /// A shape with so many nodes; `None` if the name is not one of [`SHAPES`].
    pub fn shape(name: &str, nodes: usize, rng: &mut Rng) -> Option<Self> {
        let row = 1..nodes;
        let links: Vec<(usize, usize)> = match name {
            "line" => row.map(|n| (n - 1, n)).collect(),
            "ring" => (0..nodes).map(|n| (n, (n + 1) % nodes)).collect(),
            "tree" => row.map(|n| ((n - 1) / 3, n)).collect(),
            "star" => row.map(|n| (0, n)).collect(),
            "grid" => {
                let wide = nodes.isqrt().max(1);
                let right = (0..nodes).filter(|n| (n + 1) % wide != 0).map(|n| (n, n + 1));
                let down = (0..nodes).map(|n| (n, n + wide));
                right.chain(down).filter(|(_, b)| *b < nodes).collect()
            }
            "random" => {
                // A tree, so that it is connected, and as many links again.
                let tree: Vec<_> = row.map(|n| (rng.index(n), n)).collect();
                let more = (0..nodes).map(|_| (rng.index(nodes), rng.index(nodes)));
                tree.into_iter().chain(more).collect()
            }
            "geometric" | "moving" => return Some(Self::geometric(name, nodes, rng)),
            _ => return None,
        };
        let mut topology = Self::new(name, nodes, links);
        match name {
            "grid" => {
                let wide = nodes.isqrt().max(1);
                let at = |n: usize| ((n % wide) as f64, (n / wide) as f64);
                topology.positions = (0..nodes).map(at).collect();
            }
            "line" => topology.positions = (0..nodes).map(|n| (n as f64, 0.0)).collect(),
            _ => {}
        }
        Some(topology)
    }

    /// Nodes strewn over a square, about nine in the range of each.
    fn geometric(name: &str, nodes: usize, rng: &mut Rng) -> Self {
        let side = (nodes as f64 * std::f64::consts::PI / 9.0).sqrt();
        let mut coordinate = || rng.below(1 << 20) as f64 / f64::from(1 << 20) * side;
        let positions: Vec<(f64, f64)> = (0..nodes).map(|_| (coordinate(), coordinate())).collect();
        let links = Self::in_range(&positions, 1.0);
        Self { positions, ..Self::new(name, nodes, links) }
    }

    /// Pairs that are at most `range` apart.
    pub fn in_range(positions: &[(f64, f64)], range: f64) -> Vec<(usize, usize)> {
        let cell = |v: f64| (v / range).floor() as i64;
        let mut cells: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
        for (n, (x, y)) in positions.iter().enumerate() {
            cells.entry((cell(*x), cell(*y))).or_default().push(n);
        }
        let mut links = Vec::new();
        for (n, (x, y)) in positions.iter().enumerate() {
            for (dx, dy) in (-1..=1).flat_map(|dx| (-1..=1).map(move |dy| (dx, dy))) {
                let near = cells.get(&(cell(*x) + dx, cell(*y) + dy));
                for m in near.into_iter().flatten().filter(|m| **m > n) {
                    let (dx, dy) = (positions[*m].0 - x, positions[*m].1 - y);
                    if dx * dx + dy * dy <= range * range {
                        links.push((n, *m));
                    }
                }
            }
        }
        links
    }

    /// What a node is called.
    pub fn label(&self, n: usize) -> String {
        self.names.get(n).cloned().unwrap_or_else(|| n.to_string())
    }

    /// Reads a file: `{"nodes": n, "links": [[a, b, quality, quality back], ..]}`; it may
    /// also have `"positions": [[x, y], ..]` in any unit and `"names": ["..", ..]`.
    ///
    /// # Errors
    /// The file cannot be read, or is no topology.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let bad = |what: &str| format!("{}: {what}", path.display());
        let nodes = json["nodes"].as_u64().ok_or_else(|| bad("no number of nodes"))? as usize;
        let list = json["links"].as_array().ok_or_else(|| bad("no list of links"))?;
        let mut topology = Self::new(&name, nodes, []);
        for link in list {
            let end = |i: usize| link[i].as_u64().map(|n| n as usize).filter(|n| *n < nodes);
            let (Some(a), Some(b)) = (end(0), end(1)) else { return Err(bad("a link to nowhere")) };
            let quality = |i: usize| link[i].as_f64().unwrap_or(1.0).clamp(0.0, 1.0);
            let (there, back) = (quality(2), quality(3));
            if a != b {
                let each = if a < b { [there, back] } else { [back, there] };
                topology.links.insert((a.min(b), a.max(b)), each);
            }
        }
        topology.placed = false;
        if let Some(list) = json["positions"].as_array() {
            let place = |at: &serde_json::Value| Some((at[0].as_f64()?, at[1].as_f64()?));
            let places: Option<Vec<_>> = list.iter().map(place).collect();
            let places = places.filter(|p| p.len() == nodes);
            topology.place(places.ok_or_else(|| bad("positions that are not one for each node"))?);
        }
        if let Some(list) = json["names"].as_array() {
            let names: Option<Vec<_>> = list.iter().map(|n| Some(n.as_str()?.to_owned())).collect();
            let names = names.filter(|n| n.len() == nodes);
            topology.names = names.ok_or_else(|| bad("names that are not one for each node"))?;
        }
        Ok(topology)
    }

    /// Takes measured positions, in units in which the longest link is 1.
    fn place(&mut self, positions: Vec<(f64, f64)>) {
        let far = |(a, b): &(usize, usize)| {
            (positions[*a].0 - positions[*b].0).hypot(positions[*a].1 - positions[*b].1)
        };
        let longest = self.links.keys().map(far).fold(0.0, f64::max);
        let unit = if longest > 0.0 { longest } else { 1.0 };
        self.positions = positions.iter().map(|(x, y)| (x / unit, y / unit)).collect();
        self.placed = true;
    }

    fn circle(&self) -> Vec<(f64, f64)> {
        let radius = self.nodes as f64 / std::f64::consts::TAU;
        let angle = |n: usize| n as f64 / self.nodes.max(1) as f64 * std::f64::consts::TAU;
        (0..self.nodes).map(|n| (radius * angle(n).cos(), radius * angle(n).sin())).collect()
    }

    /// The neighbours of each node.
    pub fn neighbours(&self) -> Vec<Vec<usize>> {
        let mut lists = vec![Vec::new(); self.nodes];
        for (a, b) in self.links.keys() {
            lists[*a].push(*b);
            lists[*b].push(*a);
        }
        lists
    }

    /// How many links each node is away from one; `None` where there is no way.
    pub fn distances(&self, from: usize) -> Vec<Option<usize>> {
        let (lists, mut distance) = (self.neighbours(), vec![None; self.nodes]);
        let mut todo = std::collections::VecDeque::from([(from, 0)]);
        while let Some((n, far)) = todo.pop_front() {
            if distance[n].is_none() {
                distance[n] = Some(far);
                todo.extend(lists[n].iter().map(|m| (*m, far + 1)));
            }
        }
        distance
    }

    /// For each node the number of the connected part that it is in.
    pub fn parts(&self) -> Vec<usize> {
        let (lists, mut part) = (self.neighbours(), vec![usize::MAX; self.nodes]);
        for start in 0..self.nodes {
            let mut todo = vec![start];
            while let Some(n) = todo.pop() {
                if part[n] == usize::MAX {
                    part[n] = start;
                    todo.extend(&lists[n]);
                }
            }
        }
        part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_have_their_links() {
        let shape = |name, nodes| Topology::shape(name, nodes, &mut Rng::new(1)).unwrap();
        let links = |name, nodes| shape(name, nodes).links.len();
        assert_eq!(["line", "ring", "tree", "star"].map(|s| links(s, 10)), [9, 10, 9, 9]);
        assert_eq!(links("grid", 49), 2 * 6 * 7);
        assert!(shape("random", 50).parts().iter().all(|p| *p == 0));
        let far = shape("line", 50).distances(10);
        assert_eq!((far[49], far[10], far[0]), (Some(39), Some(0), Some(10)));
        let spread = shape("geometric", 1000);
        let degree = 2 * spread.links.len() / 1000;
        assert!((7..=9).contains(&degree), "{degree}");
        for (a, b) in spread.links.keys() {
            let (a, b) = (spread.positions[*a], spread.positions[*b]);
            assert!((a.0 - b.0).hypot(a.1 - b.1) <= 1.0);
        }
        assert!(Topology::shape("knot", 3, &mut Rng::new(1)).is_none());
    }

    #[test]
    fn a_file_may_say_where_nodes_are_and_what_they_are_called() {
        let file = std::env::temp_dir().join(format!("blvm-mesh-topology-{}", std::process::id()));
        let read = |more: &str| {
            let text = format!("{{\"nodes\": 3, \"links\": [[0, 1], [1, 2, 0.5, 1]]{more}}}");
            std::fs::write(&file, text).unwrap();
            Topology::read(&file)
        };
        let plain = read("").unwrap();
        assert!(!plain.placed && plain.label(2) == "2");
        let map =
            read(", \"positions\": [[0, 0], [30, 40], [30, 60]], \"names\": [\"a\", \"b\", \"c\"]");
        let map = map.unwrap();
        assert!(map.placed && map.label(2) == "c");
        assert_eq!(map.positions, [(0.0, 0.0), (0.6, 0.8), (0.6, 1.2)]);
        for wrong in
            [", \"positions\": [[0, 0]]", ", \"positions\": [1, 2, 3]", ", \"names\": [1, 2, 3]"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let _ = std::fs::remove_file(&file);
    }
}
