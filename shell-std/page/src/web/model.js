// The mesh as it is drawn: each snapshot is worked into what is here, so that nodes keep their places.

/** Pixels of the drawing for a unit of places that are given. */
const PLACE = 70;

class Mesh {
  constructor() {
    this.nodes = [];
    this.links = [];
    this.flows = [];
    this.byKey = new Map();
    this.byEnds = new Map();
    this.atMs = 0;
    this.own = null;
  }

  name(key) {
    const node = this.byKey.get(key);
    return (node && node.name) || key.slice(0, 8);
  }

  /** Takes a snapshot in. True if nodes or links have come or gone. */
  take(snapshot) {
    const after = (snapshot.totals.at_ms - this.atMs) / 1000;
    const changed = this.takeNodes(snapshot.nodes) | this.takeLinks(snapshot.links, after);
    this.atMs = snapshot.totals.at_ms;
    this.own = snapshot.about.node;
    this.takeFlows(snapshot.flows);
    if (changed) this.put();
    return Boolean(changed);
  }

  takeNodes(told) {
    const before = this.byKey;
    this.byKey = new Map();
    let changed = before.size !== told.length;
    this.nodes = told.map((t, index) => {
      const known = before.get(t.key);
      const node = known || { x: NaN, y: NaN, vx: 0, vy: 0, held: false };
      changed ||= !known;
      Object.assign(node, t, { index, degree: 0 });
      if (t.place && !node.held) [node.x, node.y] = [t.place[0] * PLACE, t.place[1] * PLACE];
      this.byKey.set(t.key, node);
      return node;
    });
    return changed;
  }

  takeLinks(told, after) {
    const before = this.byEnds;
    this.byEnds = new Map();
    let changed = false;
    this.links = [];
    for (const t of told) {
      const [a, b] = [this.byKey.get(t.a), this.byKey.get(t.b)];
      if (!a || !b || a === b) continue;
      const ends = t.a < t.b ? `${t.a} ${t.b}` : `${t.b} ${t.a}`;
      if (this.byEnds.has(ends)) continue;
      const known = before.get(ends);
      changed ||= !known;
      const more = known && t.bytes != null && known.bytes != null ? t.bytes - known.bytes : null;
      const load = more == null || after <= 0 ? null : Math.max(0, more) / after;
      const link = { ...t, a, b, ends, load };
      this.byEnds.set(ends, link);
      this.links.push(link);
      a.degree += 1;
      b.degree += 1;
    }
    return changed || before.size !== this.byEnds.size;
  }

  /** The parts of flows that go along links which are shown. */
  takeFlows(told) {
    this.flows = told.filter((flow) => flow.up && flow.whole).map((flow) => {
      const steps = [];
      for (let at = 1; at < flow.path.length; at += 1) {
        const [a, b] = [this.byKey.get(flow.path[at - 1]), this.byKey.get(flow.path[at])];
        if (a && b) steps.push([a, b]);
      }
      return { steps, idle: flow.idle_ms > 5000 };
    }).filter((flow) => flow.steps.length > 0);
  }

  /** A place for each node that has none: beside one that is linked to it. */
  put() {
    let left = this.nodes.filter((node) => Number.isNaN(node.x));
    if (left.length === 0) return;
    const near = new Map();
    for (const { a, b } of this.links) {
      for (const [node, other] of [[a, b], [b, a]]) {
        if (!near.has(node)) near.set(node, []);
        near.get(node).push(other);
      }
    }
    // From placed ones outwards; a part without any begins with its first node.
    const todo = this.nodes.filter((node) => !Number.isNaN(node.x));
    let started = todo.length;
    for (let next = 0; left.length > 0;) {
      if (next >= todo.length) {
        left = left.filter((node) => Number.isNaN(node.x));
        if (left.length === 0) break;
        const turn = started * 2.4;
        const far = 60 * Math.sqrt(started);
        [left[0].x, left[0].y] = [far * Math.cos(turn), far * Math.sin(turn)];
        started += 1;
        todo.push(left[0]);
      }
      const from = todo[next];
      next += 1;
      let turn = from.index * 0.7;
      for (const node of near.get(from) || []) {
        if (!Number.isNaN(node.x)) continue;
        turn += 2.4;
        [node.x, node.y] = [from.x + 40 * Math.cos(turn), from.y + 40 * Math.sin(turn)];
        todo.push(node);
      }
    }
  }
}
