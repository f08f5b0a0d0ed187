//! Places the nodes of a topology that says nothing of where they are: a tree is drawn
//! from its middle outwards, and forces pull linked nodes together and push all apart
//! (Fruchterman and Reingold, "Graph drawing by force-directed placement", 1991).

use crate::sim::topology::Topology;
use std::collections::{BTreeMap, VecDeque};
use std::f64::consts::TAU;

type At = (f64, f64);

/// Rounds in which the forces act.
const ROUNDS: usize = 150;
/// Nodes of a part in which each pushes each; in larger ones only those near.
const ALL_PUSH: usize = 1200;
/// How far a node pushes in a larger part.
const NEAR: f64 = 4.0;

/// Where to draw each node: linked ones about 1 apart, parts beside each other.
pub(super) fn layout(topology: &Topology) -> Vec<At> {
    let (lists, part) = (topology.neighbours(), topology.parts());
    let mut parts: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    part.iter().enumerate().for_each(|(n, part)| parts.entry(*part).or_default().push(n));
    let mut parts: Vec<Vec<usize>> = parts.into_values().collect();
    parts.sort_by_key(|nodes| std::cmp::Reverse(nodes.len()));
    let mut at = vec![(0.0, 0.0); topology.nodes];
    for nodes in &parts {
        radial(nodes, &lists, &mut at);
        push_and_pull(nodes, &lists, &mut at);
    }
    in_rows(&parts, &mut at);
    at
}

/// A tree over one part, from the node with the most links outwards; each branch has as
/// much of the circle as it has leaves.
fn radial(nodes: &[usize], lists: &[Vec<usize>], at: &mut [At]) {
    let Some(root) = nodes.iter().copied().max_by_key(|n| (lists[*n].len(), usize::MAX - n)) else {
        return;
    };
    let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::from([(root, Vec::new())]);
    let (mut order, mut todo) = (Vec::new(), VecDeque::from([root]));
    while let Some(n) = todo.pop_front() {
        order.push(n);
        for m in &lists[n] {
            if !children.contains_key(m) {
                children.insert(*m, Vec::new());
                children.entry(n).or_default().push(*m);
                todo.push_back(*m);
            }
        }
    }
    let mut leaves: BTreeMap<usize, usize> = BTreeMap::new();
    for n in order.iter().rev() {
        let sum: usize = children[n].iter().map(|m| leaves[m]).sum();
        leaves.insert(*n, sum.max(1));
    }
    let mut wedges = VecDeque::from([(root, 0.0, TAU, 0.0)]);
    while let Some((n, from, wide, radius)) = wedges.pop_front() {
        let middle: f64 = from + wide / 2.0;
        at[n] = (radius * middle.cos(), radius * middle.sin());
        let mut start = from;
        for m in &children[&n] {
            let part = wide * leaves[m] as f64 / leaves[&n] as f64;
            wedges.push_back((*m, start, part, radius + 1.0));
            start += part;
        }
    }
}

/// Lets the forces act on one part.
fn push_and_pull(nodes: &[usize], lists: &[Vec<usize>], at: &mut [At]) {
    if nodes.len() < 3 {
        return;
    }
    for round in 0..ROUNDS {
        let mut force = vec![(0.0, 0.0); at.len()];
        let mut push = |a: usize, b: usize| {
            let (mut dx, mut dy) = (at[a].0 - at[b].0, at[a].1 - at[b].1);
            if dx == 0.0 && dy == 0.0 {
                (dx, dy) = (0.01, 0.01 * (a as f64 - b as f64).signum());
            }
            let squared = (dx * dx + dy * dy).max(1e-4);
            force[a].0 += dx / squared;
            force[a].1 += dy / squared;
            force[b].0 -= dx / squared;
            force[b].1 -= dy / squared;
        };
        if nodes.len() <= ALL_PUSH {
            for (i, a) in nodes.iter().enumerate() {
                nodes[i + 1..].iter().for_each(|b| push(*a, *b));
            }
        } else {
            let own: Vec<At> = nodes.iter().map(|n| at[*n]).collect();
            Topology::in_range(&own, NEAR).iter().for_each(|(a, b)| push(nodes[*a], nodes[*b]));
        }
        for a in nodes {
            for b in lists[*a].iter().filter(|b| *b > a) {
                let (dx, dy) = (at[*a].0 - at[*b].0, at[*a].1 - at[*b].1);
                let far = (dx * dx + dy * dy).sqrt();
                force[*a].0 -= dx * far;
                force[*a].1 -= dy * far;
                force[*b].0 += dx * far;
                force[*b].1 += dy * far;
            }
        }
        // Ever smaller steps, so that it comes to rest.
        let most = 0.5 * (1.0 - round as f64 / ROUNDS as f64);
        for n in nodes {
            let (x, y) = force[*n];
            let far = (x * x + y * y).sqrt().max(1e-9);
            let step = far.min(most) / far;
            at[*n].0 += x * step;
            at[*n].1 += y * step;
        }
    }
}

/// Puts the parts side by side, the largest first, in rows as wide as the first.
fn in_rows(parts: &[Vec<usize>], at: &mut [At]) {
    let (mut x, mut y, mut high, mut wide) = (0.0, 0.0, 0.0, 0.0_f64);
    for nodes in parts {
        let bounds = |of: fn(&At) -> f64| {
            let all = nodes.iter().map(|n| of(&at[*n]));
            all.fold((f64::MAX, f64::MIN), |(least, most), v| (least.min(v), most.max(v)))
        };
        let ((left, right), (top, bottom)) = (bounds(|p| p.0), bounds(|p| p.1));
        if x > 0.0 && x + right - left > wide {
            (x, y, high) = (0.0, y + high + 1.0, 0.0);
        }
        for n in nodes {
            at[*n] = (at[*n].0 - left + x, at[*n].1 - top + y);
        }
        x += right - left + 1.0;
        (high, wide) = (f64::max(high, bottom - top), wide.max(x));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn shape(name: &str, nodes: usize) -> Topology {
        Topology::shape(name, nodes, &mut Rng::new(1)).unwrap()
    }

    fn far(at: &[At], a: usize, b: usize) -> f64 {
        (at[a].0 - at[b].0).hypot(at[a].1 - at[b].1)
    }

    /// Pairs of links that cross each other.
    fn crossings(topology: &Topology, at: &[At]) -> usize {
        let links: Vec<_> = topology.links.keys().copied().collect();
        let side = |a: usize, b: usize, c: usize| {
            (at[b].0 - at[a].0) * (at[c].1 - at[a].1) - (at[b].1 - at[a].1) * (at[c].0 - at[a].0)
        };
        let cross = |(a, b): (usize, usize), (c, d): (usize, usize)| {
            let ends = [a, b].iter().any(|n| [c, d].contains(n));
            !ends
                && (side(a, b, c) > 0.0) != (side(a, b, d) > 0.0)
                && (side(c, d, a) > 0.0) != (side(c, d, b) > 0.0)
        };
        (0..links.len())
            .map(|i| links[i + 1..].iter().filter(|l| cross(links[i], **l)).count())
            .sum()
    }

    #[test]
    fn a_tree_has_few_links_that_cross_where_a_circle_has_hundreds() {
        let tree = shape("tree", 100);
        let (ours, circle) = (crossings(&tree, &layout(&tree)), crossings(&tree, &tree.positions));
        assert!(ours <= 5 && circle > 500, "{ours}, on a circle {circle}");
    }

    #[test]
    fn linked_nodes_are_near_and_no_two_in_one_place() {
        for (name, nodes) in [("random", 200), ("star", 50), ("tree", 1500)] {
            let shape = shape(name, nodes);
            let at = layout(&shape);
            assert_eq!(at, layout(&shape), "{name}");
            let linked: f64 = shape.links.keys().map(|(a, b)| far(&at, *a, *b)).sum::<f64>()
                / shape.links.len() as f64;
            let any: f64 =
                (0..nodes).map(|n| far(&at, n, (n * 7 + nodes / 2) % nodes)).sum::<f64>()
                    / nodes as f64;
            assert!(linked < 0.8 * any, "{name}: {linked:.2} and {any:.2}");
            let crowded = Topology::in_range(&at, 0.02);
            assert!(crowded.is_empty(), "{name}: {crowded:?}");
        }
    }

    #[test]
    fn parts_lie_beside_each_other() {
        let mut two = shape("ring", 20);
        two.links.retain(|(a, b), _| (*a < 10) == (*b < 10));
        let at = layout(&two);
        let most = |nodes: std::ops::Range<usize>| nodes.map(|n| at[n].0).fold(f64::MIN, f64::max);
        let least = |nodes: std::ops::Range<usize>| nodes.map(|n| at[n].0).fold(f64::MAX, f64::min);
        let apart = most(0..10) < least(10..20) || most(10..20) < least(0..10);
        let above = |f: fn(f64, f64) -> f64, s: f64, n: std::ops::Range<usize>| {
            n.map(|n| at[n].1).fold(s, f)
        };
        let below = above(f64::max, f64::MIN, 0..10) < above(f64::min, f64::MAX, 10..20);
        assert!(apart || below, "{at:?}");
    }
}
