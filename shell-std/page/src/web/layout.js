// Forces that place the nodes: links pull, all nodes push each other apart, by a quadtree in which
// what is far counts as one (Barnes and Hut, 1986). Nothing is allocated for a step.

const PUSH = 75;
const LENGTH = 58;
const WIDE = 0.9;
const COOLING = 0.015;
const COLD = 0.004;
const DEEPEST = 30;

class Layout {
  constructor() {
    this.heat = 0;
    this.nodes = [];
    this.room(64);
    this.ends = new Uint32Array(0);
    this.stack = new Int32Array(512);
  }

  room(most) {
    const cells = 6 * most + 64;
    this.px = new Float32Array(most);
    this.py = new Float32Array(most);
    this.fx = new Float32Array(most);
    this.fy = new Float32Array(most);
    this.child = new Int32Array(4 * cells);
    this.mass = new Float32Array(cells);
    this.mx = new Float32Array(cells);
    this.my = new Float32Array(cells);
    this.size = new Float32Array(cells);
    this.cells = cells;
  }

  /** Lays these out from where they are; `heat` from 0 to 1 is how far they may go at first. */
  set(nodes, links, heat) {
    this.nodes = nodes;
    if (nodes.length > this.px.length) this.room(2 * nodes.length);
    if (this.ends.length < 2 * links.length) this.ends = new Uint32Array(4 * links.length);
    links.forEach((link, at) => {
      this.ends[2 * at] = link.a.index;
      this.ends[2 * at + 1] = link.b.index;
    });
    this.pairs = links.length;
    this.heat = Math.max(this.heat, heat);
  }

  /** One step; false if all is at rest. */
  step() {
    if (this.heat < COLD || this.nodes.length === 0) return false;
    this.heat *= 1 - COOLING;
    const { nodes, px, py, fx, fy, heat } = this;
    const n = nodes.length;
    for (let i = 0; i < n; i += 1) {
      px[i] = nodes[i].x;
      py[i] = nodes[i].y;
      // A weak pull to the middle keeps parts together that nothing joins.
      fx[i] = -0.01 * heat * px[i];
      fy[i] = -0.01 * heat * py[i];
    }
    this.grow(n);
    for (let i = 0; i < n; i += 1) this.push(i);
    this.pull();
    for (let i = 0; i < n; i += 1) {
      const node = nodes[i];
      if (node.held || node.place) continue;
      node.vx = (node.vx + fx[i]) * 0.6;
      node.vy = (node.vy + fy[i]) * 0.6;
      const fast = Math.hypot(node.vx, node.vy);
      const most = fast > 40 ? 40 / fast : 1;
      node.x += node.vx * most;
      node.y += node.vy * most;
    }
    return true;
  }

  /** The tree: a child is -1 where there is nothing, -2 - i where node i is, else another cell. */
  grow(n) {
    const { px, py, child, size } = this;
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < n; i += 1) {
      left = Math.min(left, px[i]);
      right = Math.max(right, px[i]);
      top = Math.min(top, py[i]);
      bottom = Math.max(bottom, py[i]);
    }
    const side = Math.max(right - left, bottom - top, 1);
    let used = 1;
    child.fill(-1, 0, 4);
    size[0] = side;
    this.mass.fill(0, 0, this.cells);
    this.mx.fill(0, 0, this.cells);
    this.my.fill(0, 0, this.cells);
    for (let i = 0; i < n; i += 1) {
      let [cell, half, x, y] = [0, side / 2, left, top];
      for (let depth = 0; ; depth += 1) {
        this.weigh(cell, i);
        const [east, south] = [px[i] >= x + half, py[i] >= y + half];
        const at = 4 * cell + (east ? 1 : 0) + (south ? 2 : 0);
        const there = child[at];
        if (there === -1) {
          child[at] = -2 - i;
          break;
        }
        if (there < -1) {
          // Nodes in one place stay one, as the cell has their weight.
          if (depth >= DEEPEST || used >= this.cells) break;
          child.fill(-1, 4 * used, 4 * used + 4);
          size[used] = half;
          const [mx, my] = [x + (east ? half : 0) + half / 2, y + (south ? half : 0) + half / 2];
          const other = -2 - there;
          child[4 * used + (px[other] >= mx ? 1 : 0) + (py[other] >= my ? 2 : 0)] = there;
          this.weigh(used, other);
          child[at] = used;
          used += 1;
        }
        cell = child[at];
        if (east) x += half;
        if (south) y += half;
        half /= 2;
      }
    }
  }

  weigh(cell, i) {
    this.mass[cell] += 1;
    this.mx[cell] += this.px[i];
    this.my[cell] += this.py[i];
  }

  push(i) {
    const { px, py, child, mass, mx, my, size, stack } = this;
    const strength = PUSH * this.heat;
    let [x, y] = [0, 0];
    let top = 1;
    stack[0] = 0;
    while (top > 0) {
      top -= 1;
      const it = stack[top];
      let [dx, dy, weight] = [0, 0, 1];
      if (it < -1) {
        const j = -2 - it;
        if (j === i) continue;
        dx = px[i] - px[j];
        dy = py[i] - py[j];
      } else {
        weight = mass[it];
        dx = px[i] - mx[it] / weight;
        dy = py[i] - my[it] / weight;
        if (size[it] * size[it] > WIDE * WIDE * (dx * dx + dy * dy)) {
          for (let c = 4 * it; c < 4 * it + 4; c += 1) {
            if (child[c] !== -1 && top < stack.length) {
              stack[top] = child[c];
              top += 1;
            }
          }
          continue;
        }
      }
      if (dx === 0 && dy === 0) [dx, dy] = [0.01 * ((i % 7) - 3), 0.01 * ((i % 5) - 2)];
      const squared = Math.max(dx * dx + dy * dy, 16);
      x += (dx * weight) / squared;
      y += (dy * weight) / squared;
    }
    this.fx[i] += x * strength;
    this.fy[i] += y * strength;
  }

  pull() {
    const { nodes, px, py, fx, fy, ends, heat } = this;
    for (let at = 0; at < this.pairs; at += 1) {
      const [i, j] = [ends[2 * at], ends[2 * at + 1]];
      const [dx, dy] = [px[j] - px[i], py[j] - py[i]];
      const far = Math.sqrt(dx * dx + dy * dy) || 1;
      // The link of a node that has only one is stiff, so that hubs are not torn.
      const stiff = heat / Math.min(nodes[i].degree, nodes[j].degree);
      const by = ((far - LENGTH) / far) * stiff;
      const share = nodes[i].degree / (nodes[i].degree + nodes[j].degree);
      fx[j] -= dx * by * share;
      fy[j] -= dy * by * share;
      fx[i] += dx * by * (1 - share);
      fy[i] += dy * by * (1 - share);
    }
  }
}
