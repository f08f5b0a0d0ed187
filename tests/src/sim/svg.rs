//! The mesh, drawn: how much each link carried, who received, who is dishonest.
//!
//! What says much is dark, also without colour: links by width and lightness of one hue,
//! adversaries by their shape. Nodes are where they are if the topology knows, else where forces
//! put them.

use super::World;
use super::layout::layout;
use super::plan::Plan;
use crate::sim::topology::Topology;
use std::collections::BTreeMap;
use std::fmt::Write;

/// Width of the drawing, its edge, and the height of its title and of its legend.
const WIDE: f64 = 1000.0;
const EDGE: f64 = 40.0;
const TITLE: f64 = 60.0;
const LEGEND: f64 = 80.0;
/// Letters of the command in a line below the title.
const COLUMNS: usize = 140;
/// Nodes whose names are all written; of more only the largest hubs' and the adversaries'.
const NAMED: usize = 80;
/// Names that are written in a larger mesh.
const SOME: usize = 24;
/// From nothing carried to the most: ColorBrewer's sequential "Blues", which print in grey.
const LINK: [(f64, [f64; 3]); 3] =
    [(0.0, [198.0, 208.0, 219.0]), (0.5, [66.0, 146.0, 198.0]), (1.0, [8.0, 48.0, 107.0])];
const NODE: &str = "#fdae6b";
const INK: &str = "#222222";

/// A colour and a width of a link that carried this part of what the busiest did.
fn pen(part: f64, thin: f64) -> (String, f64) {
    let at = LINK.windows(2).find(|w| part <= w[1].0).unwrap_or(&LINK[1..]);
    let [(from, a), (to, b)] = [at[0], at[1]];
    let t = ((part - from) / (to - from)).clamp(0.0, 1.0);
    let [r, g, b] = [0, 1, 2].map(|i| (a[i] + t * (b[i] - a[i])).round() as u8);
    (format!("#{r:02x}{g:02x}{b:02x}"), thin * (0.5 + 4.0 * part))
}

/// A number of bytes for people.
fn bytes(n: f64) -> String {
    match n {
        1e6.. => format!("{:.1} MB", n / 1e6),
        1e3.. => format!("{:.1} kB", n / 1e3),
        _ => format!("{n:.0} B"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// What is drawn where.
struct Drawing {
    out: String,
    /// Radius of a node to which nothing was delivered.
    small: f64,
    /// Width of a link that carried little.
    thin: f64,
    /// Most bytes on a link, most payloads at a node.
    most: (f64, f64),
}

impl Drawing {
    fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], carried: f64, title: &str) {
        let (colour, width) = pen((carried / self.most.0).sqrt(), self.thin);
        let title = match title {
            "" => String::new(),
            title => format!("<title>{}</title>", escaped(title)),
        };
        let _ = writeln!(
            self.out,
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{colour}\" stroke-width=\"{width:.2}\">{title}</line>"
        );
    }

    fn radius(&self, delivered: f64) -> f64 {
        self.small * (1.0 + 1.5 * (delivered / self.most.1).sqrt())
    }

    fn node(&mut self, (x, y): (f64, f64), delivered: f64, honest: bool, off: bool, title: &str) {
        let r = self.radius(delivered);
        let stroke = (self.small / 4.0).clamp(0.5, 1.2);
        let (fill, dash) = match (honest, off) {
            (_, true) => ("white", " stroke-dasharray=\"2 1.5\""),
            (true, _) => (NODE, ""),
            (false, _) => ("black", ""),
        };
        let shape = match honest {
            true => format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\""),
            false => {
                let r = 1.4 * r;
                format!(
                    "<path d=\"M{x:.1} {:.1}L{:.1} {y:.1}L{x:.1} {:.1}L{:.1} {y:.1}Z\"",
                    y - r,
                    x + r,
                    y + r,
                    x - r
                )
            }
        };
        let close = if honest { "circle" } else { "path" };
        let _ = writeln!(
            self.out,
            "{shape} fill=\"{fill}\" stroke=\"{INK}\" stroke-width=\"{stroke:.1}\"{dash}>\
             <title>{}</title></{close}>",
            escaped(title)
        );
    }

    /// A text with a white edge, so that it can be read upon lines.
    fn text(&mut self, (x, y): (f64, f64), size: f64, text: &str) {
        let text = escaped(text);
        let at = format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size:.0}\"");
        let _ = writeln!(
            self.out,
            "{at} stroke=\"white\" stroke-width=\"{:.1}\" stroke-linejoin=\"round\">{text}</text>\n\
             {at} fill=\"{INK}\">{text}</text>",
            size / 4.0
        );
    }
}

/// Draws a world at its end. A link is the wider and darker the more it carried, a node the
/// larger the more was delivered to it; adversaries are black diamonds.
pub fn draw(world: &World, topology: &Topology, plan: &Plan) -> String {
    let at = match topology.placed || world.radio.is_some() {
        true => topology.positions.clone(),
        false => layout(topology),
    };
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let least = at.iter().map(of).fold(f64::MAX, f64::min);
        let most = at.iter().map(of).fold(f64::MIN, f64::max);
        (least, (most - least).max(1e-9))
    };
    let ((x0, width), (y0, height)) = (bounds(|p| p.0), bounds(|p| p.1));
    let scale = (WIDE - 2.0 * EDGE) / width.max(height);
    // In the middle, where it is higher than wide.
    let left = (WIDE - width * scale) / 2.0;
    let place = |n: usize| ((at[n].0 - x0) * scale + left, (at[n].1 - y0) * scale + TITLE + EDGE);
    let mut load: BTreeMap<(usize, usize), u64> = topology.links.keys().map(|l| (*l, 0)).collect();
    for conn in &world.conns {
        let [a, b] = conn.ends;
        *load.entry((a.min(b), a.max(b))).or_insert(0) += conn.bytes;
    }
    let delivered = |n: usize| world.account.delivered[n] as f64;
    let most = (
        load.values().copied().max().unwrap_or(0).max(1) as f64,
        (0..at.len()).map(delivered).fold(1.0, f64::max),
    );
    let small = (110.0 / (at.len() as f64).sqrt()).clamp(1.8, 7.0);
    let thin = (15.0 / (topology.links.len().max(1) as f64).sqrt()).clamp(0.4, 1.6);
    let foot = TITLE + height * scale + 2.0 * EDGE;
    let mut d = Drawing { out: String::new(), small, thin, most };
    let _ = writeln!(
        d.out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDE} {:.0}\" \
         font-family=\"DejaVu Sans, Arial, sans-serif\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>",
        foot + LEGEND
    );
    let seconds = world.now / blvm_mesh_core::time::SECOND;
    let (nodes, links) = (at.len(), topology.links.len());
    let name = &topology.name;
    d.text((EDGE, 26.0), 18.0, &format!("{name}: {nodes} nodes, {links} links, {seconds} s"));
    let (mut line, mut y) = (String::new(), 46.0);
    for word in plan.command().split(' ').chain([""]) {
        if word.is_empty() || line.len() + word.len() > COLUMNS {
            d.text((EDGE, y), 11.0, &std::mem::take(&mut line));
            y += 14.0;
        }
        line += word;
        line += " ";
    }
    // Busy links are drawn over quiet ones.
    let mut order: Vec<_> = load.into_iter().collect();
    order.sort_by_key(|(_, bytes)| *bytes);
    for ((a, b), carried) in order {
        let ((x1, y1), (x2, y2)) = (place(a), place(b));
        let title = format!("{} - {}: {carried} bytes", topology.label(a), topology.label(b));
        d.line([x1, y1, x2, y2], carried as f64, &title);
    }
    for n in 0..nodes {
        let title = format!(
            "{}: {} delivered, {} msat earned",
            topology.label(n),
            world.account.delivered[n],
            world.account.earned[n]
        );
        let node = &world.nodes[n];
        d.node(place(n), delivered(n), node.honest, node.off, &title);
    }
    let size = if nodes <= NAMED { (2.2 * small).max(9.0) } else { 10.0 };
    for n in named(world, topology) {
        let (x, y) = place(n);
        let r = d.radius(delivered(n)) * if world.nodes[n].honest { 1.0 } else { 1.4 };
        d.text((x + r + 1.5, y + size * 0.35), size, &topology.label(n));
    }
    legend(&mut d, foot, world.nodes.iter().any(|n| n.off));
    d.out + "</svg>\n"
}

/// The nodes whose names are written.
fn named(world: &World, topology: &Topology) -> Vec<usize> {
    let mut all: Vec<usize> = (0..topology.nodes).collect();
    if all.len() > NAMED {
        let lists = topology.neighbours();
        all.sort_by_key(|n| (world.nodes[*n].honest, std::cmp::Reverse(lists[*n].len()), *n));
        all.truncate(SOME);
    }
    all
}

fn legend(d: &mut Drawing, top: f64, off: bool) {
    let row = top + 40.0;
    d.text((EDGE, top + 14.0), 13.0, "Link: bytes carried, both ways");
    for (i, part) in [0.0, 0.1, 0.4, 1.0].into_iter().enumerate() {
        let (x, carried) = (EDGE + 110.0 * i as f64, part * d.most.0);
        d.line([x, row, x + 34.0, row], carried, "");
        d.text((x + 40.0, row + 4.0), 12.0, &bytes(carried));
    }
    d.text((EDGE + 470.0, top + 14.0), 13.0, "Node: payloads delivered to it");
    for (i, part) in [0.0, 1.0].into_iter().enumerate() {
        let (x, delivered) = (EDGE + 480.0 + 70.0 * i as f64, (part * d.most.1).round());
        d.node((x, row), delivered, true, false, "");
        let r = d.radius(delivered);
        d.text((x + r + 5.0, row + 4.0), 12.0, &format!("{delivered}"));
    }
    let x = EDGE + 640.0;
    d.node((x, row), 0.0, false, false, "");
    d.text((x + 15.0, row + 4.0), 12.0, "dishonest");
    if off {
        d.node((x + 120.0, row), 0.0, true, true, "");
        d.text((x + 130.0, row + 4.0), 12.0, "switched off");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(plan: &Plan) -> String {
        let life = plan.live(&mut |_| {}, None).expect("a world");
        draw(&life.world, &life.topology, plan)
    }

    #[test]
    fn a_drawing_says_what_it_shows_and_names_whom() {
        let plan = Plan { adversaries: 2, duration: 2_000_000, ..Plan::calm(4, 30, "tree") };
        let text = drawn(&plan);
        for words in ["30 nodes, 29 links", "bytes carried", "delivered to it", ">dishonest<"] {
            assert!(text.contains(words), "{words}");
        }
        for n in 0..30 {
            assert!(text.contains(&format!(">{n}</text>")), "{n} has no name");
        }
        assert!(!text.contains("NaN") && !text.contains("inf"));
        // One of each pair of adversaries at least, and the one in the legend.
        assert!(text.matches("<path").count() >= 2);
        let many = drawn(&Plan { duration: 100_000, ..Plan::calm(4, 200, "random") });
        let names = many.matches("</text>").count() / 2;
        assert!((20..60).contains(&names), "{names} texts");
    }

    /// As bright as the eye has it (ITU-R BT.601): what is printed without colour.
    #[test]
    fn links_are_told_apart_in_print() {
        let grey = |part: f64| {
            let (colour, _) = pen(part, 1.0);
            let byte = |i: usize| f64::from(u8::from_str_radix(&colour[i..i + 2], 16).unwrap());
            0.299 * byte(1) + 0.587 * byte(3) + 0.114 * byte(5)
        };
        let greys: Vec<f64> = (0..=10).map(|i| grey(f64::from(i) / 10.0)).collect();
        assert!(greys.windows(2).all(|w| w[0] > w[1] + 5.0), "{greys:?}");
        assert!(greys[0] < 230.0, "seen on white: {greys:?}");
    }

    #[test]
    fn names_of_a_file_may_say_anything() {
        assert_eq!(escaped("<a & \"b\">"), "&lt;a &amp; &quot;b&quot;&gt;");
    }
}
