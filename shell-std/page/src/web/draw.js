// Draws the mesh on a canvas. Links of one look are one path, so that thousands cost little.

const LOADS = [[1e6, 4.4], [1e4, 3], [1, 2]];
const QUIET = 1.3;
const GOOD = 1.25 * 256;
const FAIR = 2 * 256;

/** Colours as the style sheet has them, light or dark. */
class Colours {
  constructor() {
    this.read();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.read());
  }

  read() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ["back", "card", "line", "ink", "soft", "own", "node", "far", "good", "fair",
      "poor", "flow", "known", "received", "sent", "relayed"]) {
      this[name] = style.getPropertyValue(`--${name}`).trim();
    }
    this.version = (this.version || 0) + 1;
  }
}
const colours = new Colours();

/** How a link looks: the name of its colour, its width and its dashes. */
function look(link) {
  if (link.state === "down") return { colour: "poor", width: QUIET, dash: [3, 5] };
  if (link.state === "connecting") return { colour: "fair", width: QUIET, dash: [2, 4] };
  if (link.kind === "route") return { colour: "known", width: 1, dash: [] };
  const colour = link.etx == null ? "node" : link.etx <= GOOD ? "good" : link.etx <= FAIR ? "fair" : "poor";
  const load = LOADS.find(([least]) => link.load >= least);
  return { colour, width: load ? load[1] : QUIET, dash: link.kind === "radio" ? [7, 4] : [] };
}

/** Links by their looks, the thin ones first. */
function grouped(links) {
  const groups = new Map();
  for (const link of links) {
    const pen = look(link);
    const key = `${pen.width} ${pen.colour} ${pen.dash}`;
    if (!groups.has(key)) groups.set(key, { pen, links: [] });
    groups.get(key).links.push(link);
  }
  return [...groups.values()].sort((one, other) => one.pen.width - other.pen.width);
}

function radius(node, zoom) {
  const size = node.role === "own" ? 9 : Math.min(4 + Math.sqrt(node.degree), 11);
  return size * Math.min(1.5, Math.max(0.45, Math.sqrt(zoom)));
}

class Drawing {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.groups = [];
  }

  /** Takes the canvas's size; true if it is another. */
  fit() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const fine = Math.min(devicePixelRatio || 1, 2);
    const [w, h] = [Math.round(wide * fine), Math.round(high * fine)];
    if (this.canvas.width === w && this.canvas.height === h) return false;
    [this.canvas.width, this.canvas.height] = [w, h];
    [this.wide, this.high, this.fine] = [wide, high, fine];
    return true;
  }

  frame(mesh, view, time) {
    const { pen } = this;
    const { zoom } = view;
    pen.setTransform(this.fine, 0, 0, this.fine, 0, 0);
    pen.clearRect(0, 0, this.wide, this.high);
    for (const node of mesh.nodes) {
      node.sx = node.x * zoom + view.x;
      node.sy = node.y * zoom + view.y;
    }
    const thin = Math.min(1, Math.max(0.5, zoom));
    // Of a thousand links that cross, the nodes are to be seen through them.
    pen.globalAlpha = mesh.links.length > 600 && zoom < 1 ? 0.55 : 1;
    for (const group of this.groups) {
      pen.strokeStyle = colours[group.pen.colour];
      pen.lineWidth = group.pen.width * thin;
      pen.setLineDash(group.pen.dash);
      pen.beginPath();
      for (const { a, b } of group.links) {
        pen.moveTo(a.sx, a.sy);
        pen.lineTo(b.sx, b.sy);
      }
      pen.stroke();
    }
    pen.globalAlpha = 1;
    this.flows(mesh.flows, time);
    this.nodes(mesh.nodes, zoom);
    this.chosen(view, zoom);
    this.names(mesh, view);
  }

  flows(flows, time) {
    const { pen } = this;
    pen.strokeStyle = colours.flow;
    pen.lineWidth = 2.6;
    pen.setLineDash([3, 9]);
    pen.lineCap = "round";
    for (const moving of [true, false]) {
      pen.lineDashOffset = moving ? -(time / 40) % 12 : 0;
      pen.beginPath();
      for (const flow of flows) {
        if (flow.idle === moving) continue;
        for (const [a, b] of flow.steps) {
          pen.moveTo(a.sx, a.sy);
          pen.lineTo(b.sx, b.sy);
        }
      }
      pen.stroke();
    }
    pen.lineCap = "butt";
    pen.lineDashOffset = 0;
    pen.setLineDash([]);
  }

  nodes(nodes, zoom) {
    const { pen } = this;
    const sorts = [
      ["far", (node) => node.up && !node.mark && node.role === "known"],
      ["node", (node) => node.up && !node.mark && (node.role === "neighbour" || node.role === "any")],
      ["own", (node) => node.up && !node.mark && node.role === "own"],
    ];
    pen.lineWidth = 1.5;
    pen.strokeStyle = colours.back;
    for (const [colour, is] of sorts) {
      pen.fillStyle = colours[colour];
      pen.beginPath();
      for (const node of nodes) {
        if (!is(node) || !this.inside(node)) continue;
        const r = radius(node, zoom);
        pen.moveTo(node.sx + r, node.sy);
        pen.arc(node.sx, node.sy, r, 0, 7);
      }
      pen.stroke();
      pen.fill();
    }
    // Who is not there is hollow; who is marked, a diamond: to be told apart without colour.
    for (const node of nodes) {
      if (node.up && !node.mark) continue;
      const r = radius(node, zoom) * (node.mark ? 1.4 : 1);
      pen.beginPath();
      if (node.mark) {
        pen.moveTo(node.sx, node.sy - r);
        pen.lineTo(node.sx + r, node.sy);
        pen.lineTo(node.sx, node.sy + r);
        pen.lineTo(node.sx - r, node.sy);
        pen.closePath();
      } else {
        pen.arc(node.sx, node.sy, r, 0, 7);
      }
      pen.fillStyle = node.up ? colours.ink : colours.back;
      pen.strokeStyle = node.up ? colours.back : colours.poor;
      pen.lineWidth = node.up ? 1.5 : 2;
      pen.fill();
      pen.stroke();
    }
  }

  chosen(view, zoom) {
    const { pen } = this;
    for (const [node, wide] of [[view.hovered, 1.5], [view.selected, 3]]) {
      if (!node) continue;
      pen.strokeStyle = colours.ink;
      pen.lineWidth = wide;
      pen.beginPath();
      pen.arc(node.sx, node.sy, radius(node, zoom) + 4, 0, 7);
      pen.stroke();
    }
  }

  inside(node) {
    return node.sx > -20 && node.sy > -20 && node.sx < this.wide + 20 && node.sy < this.high + 20;
  }

  /** Names where there is room for them: of all if they are few, else of those that matter. */
  names(mesh, view) {
    const { pen } = this;
    const seen = mesh.nodes.filter((node) => this.inside(node));
    const all = seen.length <= 45;
    pen.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 3.5;
    const rank = (node) => (node === view.selected || node === view.hovered ? 0
      : { own: 1, neighbour: 2 }[node.role] || 3);
    const wanted = seen.filter((node) => all || rank(node) < 3).sort((a, b) => rank(a) - rank(b));
    const taken = [];
    for (const node of wanted.slice(0, 120)) {
      const text = node.role === "own" ? "this node" : mesh.name(node.key);
      const [far, long] = [radius(node, view.zoom) + 4, pen.measureText(text).width];
      const fits = node.sx + far + long < this.wide;
      const at = [fits ? node.sx + far : node.sx - far - long, node.sy];
      // A name that would lie over another is left out.
      const box = [at[0], at[1] - 8, at[0] + long, at[1] + 8];
      if (rank(node) > 0 && taken.some((t) => box[0] < t[2] && t[0] < box[2] && box[1] < t[3] && t[1] < box[3])) continue;
      taken.push(box);
      pen.strokeStyle = colours.back;
      pen.strokeText(text, ...at);
      pen.fillStyle = colours.ink;
      pen.fillText(text, ...at);
    }
  }
}

/** What the lines and shapes mean, for what there is in this mesh. */
function legend(mesh) {
  const up = { state: "up", kind: "tcp", etx: null, load: 0 };
  const has = (is) => mesh.links.some(is);
  const lines = [
    ["nearly nothing lost", { ...up, etx: 256 }, has((l) => l.state === "up" && l.etx <= GOOD && l.etx != null)],
    ["up to 2 transmissions", { ...up, etx: FAIR }, has((l) => l.state === "up" && l.etx > GOOD && l.etx <= FAIR)],
    ["more", { ...up, etx: FAIR + 1 }, has((l) => l.state === "up" && l.etx > FAIR)],
    ["quality unknown", up, has((l) => l.state === "up" && l.etx == null && l.kind !== "route")],
    ["radio", { ...up, kind: "radio" }, has((l) => l.kind === "radio")],
    ["the wider, the more it carries", { ...up, load: 1e6 }, has((l) => l.load > 0)],
    ["on a route, seen by others", { ...up, kind: "route" }, has((l) => l.kind === "route")],
    ["connecting", { ...up, state: "connecting" }, has((l) => l.state === "connecting")],
    ["down", { ...up, state: "down" }, has((l) => l.state === "down")],
    ["flow", null, mesh.flows.length > 0],
  ];
  return lines.filter(([, , is]) => is).map(([text, link]) => [text, link ? look(link) : { colour: "flow", width: 2.6, dash: [3, 6] }]);
}

function swatch(pen) {
  const canvas = el("canvas", { width: 68, height: 24 });
  const to = canvas.getContext("2d");
  to.scale(2, 2);
  to.strokeStyle = colours[pen.colour];
  to.lineWidth = pen.width;
  to.setLineDash(pen.dash);
  to.beginPath();
  to.moveTo(0, 6);
  to.lineTo(34, 6);
  to.stroke();
  canvas.setAttribute("aria-hidden", "true");
  return canvas;
}
