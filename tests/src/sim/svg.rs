//! The mesh, drawn: how much each link carried, who received, who lies.

use super::World;
use crate::topology::Topology;
use std::fmt::Write;

/// Width of the drawing.
const WIDE: f64 = 1000.0;

/// Draws a world at its end. A link is the thicker and redder the more it
/// carried, a node the larger the more was delivered to it; liars are black.
pub fn draw(world: &World, topology: &Topology) -> String {
    let at = &topology.positions;
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let least = at.iter().map(of).fold(f64::MAX, f64::min);
        let most = at.iter().map(of).fold(f64::MIN, f64::max);
        (least, (most - least).max(1e-9))
    };
    let ((x0, width), (y0, height)) = (bounds(|p| p.0), bounds(|p| p.1));
    let scale = (WIDE - 60.0) / width.max(height);
    let place = |n: usize| ((at[n].0 - x0) * scale + 30.0, (at[n].1 - y0) * scale + 30.0);
    let mut load = std::collections::BTreeMap::new();
    for conn in &world.conns {
        let [a, b] = conn.ends;
        *load.entry((a.min(b), a.max(b))).or_insert(0u64) += conn.bytes;
    }
    let most = load.values().copied().max().unwrap_or(1).max(1) as f64;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDE} {:.0}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        height * scale + 60.0
    );
    for ((a, b), bytes) in &load {
        let part = (*bytes as f64 / most).sqrt();
        let ((x1, y1), (x2, y2)) = (place(*a), place(*b));
        let red = (200.0 * part) as u8;
        let _ = writeln!(
            out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"rgb({red},{0},{0})\" stroke-width=\"{1:.1}\">\
             <title>{a} - {b}: {bytes} bytes</title></line>",
            160 - (160.0 * part) as u8,
            0.5 + 4.0 * part
        );
    }
    for n in 0..at.len() {
        let ((x, y), delivered) = (place(n), world.account.delivered[n]);
        let fill = if world.nodes[n].honest { "#2a6fb0" } else { "black" };
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{:.1}\" fill=\"{fill}\">\
             <title>node {n}: {delivered} delivered, {} msat earned</title></circle>",
            3.0 + (delivered as f64).sqrt().min(9.0),
            world.account.earned[n]
        );
    }
    out + "</svg>\n"
}
