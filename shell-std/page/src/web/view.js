// What part of the mesh is seen, and what is chosen: by pointer, by touch and by keyboard.

const NEAREST = 6;
const FARTHEST = 0.03;
/** Longest pause of the drawing while only flows move, in milliseconds. */
const CALM = 45;

class View {
  constructor(mesh, canvas) {
    Object.assign(this, { mesh, canvas, zoom: 1, x: 0, y: 0, selected: null, hovered: null });
    this.layout = new Layout();
    this.drawing = new Drawing(canvas);
    this.fits = true;
    this.pointers = new Map();
    this.dirty = true;
    this.told = () => {};
    this.cost = { layout: 0, draw: 0, frames: 0, gap: 0, last: 0 };
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    this.listen();
    new ResizeObserver(() => { this.dirty = true; }).observe(canvas);
    requestAnimationFrame((time) => this.frame(time));
  }

  /** After the mesh has taken a snapshot in. */
  refresh(changed) {
    this.drawing.groups = grouped(this.mesh.links);
    const gone = (node) => (node && this.mesh.byKey.get(node.key)) || null;
    this.selected = gone(this.selected);
    this.hovered = gone(this.hovered);
    if (changed) {
      const first = !this.begun;
      this.begun = true;
      this.layout.set(this.mesh.nodes, this.mesh.links, first ? 1 : 0.3);
    } else {
      this.layout.set(this.mesh.nodes, this.mesh.links, 0);
    }
    this.dirty = true;
  }

  frame(time) {
    requestAnimationFrame((next) => this.frame(next));
    if (!this.canvas.offsetParent) return;
    const began = performance.now();
    const moved = this.layout.step();
    const placed = performance.now();
    this.dirty = this.drawing.fit() || this.dirty || moved || this.version !== colours.version;
    const flows = this.mesh.flows.some((flow) => !flow.idle) && !this.still.matches;
    if (!this.dirty && !(flows && time - this.cost.last > CALM)) return;
    if (this.fits) this.fit(0.2);
    this.version = colours.version;
    this.dirty = false;
    this.drawing.frame(this.mesh, this, this.still.matches ? 0 : time);
    const { cost } = this;
    const mean = (old, now) => (old === 0 ? now : old * 0.95 + now * 0.05);
    cost.draw = mean(cost.draw, performance.now() - placed);
    if (moved) {
      cost.layout = mean(cost.layout, placed - began);
      if (this.moved) cost.gap = mean(cost.gap, time - cost.last);
    }
    this.moved = moved;
    cost.last = time;
    cost.frames += 1;
  }

  /** Shows all of it; `by` is how much of the way the view goes, 0 to 1. */
  fit(by = 1) {
    const { nodes } = this.mesh;
    const { wide, high } = this.drawing;
    if (nodes.length === 0 || !wide) return;
    let [left, right, top, bottom] = [Infinity, -Infinity, Infinity, -Infinity];
    for (const { x, y } of nodes) {
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = Math.max(bottom, y);
    }
    const edge = nodes.length <= 45 ? 50 : 16;
    const zoom = Math.min((wide - 2 * edge) / Math.max(right - left, 1), (high - 2 * edge) / Math.max(bottom - top, 1), 2);
    const x = wide / 2 - (zoom * (left + right)) / 2;
    const y = high / 2 - (zoom * (top + bottom)) / 2;
    if (Math.abs(x - this.x) + Math.abs(y - this.y) > 0.3) this.dirty = true;
    const far = !this.placed || Math.abs(Math.log(zoom / this.zoom)) > 0.7;
    const part = far ? 1 : by;
    this.placed = true;
    this.zoom += (zoom - this.zoom) * part;
    this.x += (x - this.x) * part;
    this.y += (y - this.y) * part;
  }

  /** The same part of the mesh stays at a point of the canvas. */
  zoomBy(by, x = this.drawing.wide / 2, y = this.drawing.high / 2) {
    const zoom = Math.min(NEAREST, Math.max(FARTHEST, this.zoom * by));
    this.x = x - ((x - this.x) * zoom) / this.zoom;
    this.y = y - ((y - this.y) * zoom) / this.zoom;
    this.zoom = zoom;
    this.free();
  }

  pan(dx, dy) {
    this.x += dx;
    this.y += dy;
    this.free();
  }

  free() {
    this.fits = false;
    this.dirty = true;
  }

  whole() {
    this.fits = true;
    this.fit();
    this.dirty = true;
  }

  select(node, show = false) {
    this.selected = node;
    if (node && show) {
      const { wide, high } = this.drawing;
      const [x, y] = [node.x * this.zoom + this.x, node.y * this.zoom + this.y];
      if (x < 40 || y < 40 || x > wide - 40 || y > high - 40) this.pan(wide / 2 - x, high / 2 - y);
    }
    this.dirty = true;
    this.told(node);
  }

  at(x, y) {
    let [best, near] = [null, 18 * 18];
    for (const node of this.mesh.nodes) {
      const far = (node.sx - x) ** 2 + (node.sy - y) ** 2;
      if (far < near) [best, near] = [node, far];
    }
    return best;
  }

  listen() {
    const on = (name, act) => this.canvas.addEventListener(name, act);
    on("pointerdown", (e) => this.down(e));
    on("pointermove", (e) => this.move(e));
    for (const name of ["pointerup", "pointercancel"]) on(name, (e) => this.up(e));
    on("pointerleave", () => { this.hovered = null; this.dirty = true; });
    on("wheel", (e) => {
      e.preventDefault();
      this.zoomBy(Math.exp(-Math.max(-300, Math.min(300, e.deltaY)) / 400), e.offsetX, e.offsetY);
    });
    on("keydown", (e) => this.key(e));
  }

  down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.pointers.set(e.pointerId, [e.offsetX, e.offsetY]);
    this.began = { x: e.offsetX, y: e.offsetY, moved: false };
    this.grabbed = this.pointers.size === 1 ? this.at(e.offsetX, e.offsetY) : null;
    this.canvas.classList.add("drags");
  }

  move(e) {
    const before = this.pointers.get(e.pointerId);
    if (!before) {
      const hovered = this.at(e.offsetX, e.offsetY);
      if (hovered !== this.hovered) [this.hovered, this.dirty] = [hovered, true];
      return;
    }
    const [x, y] = [e.offsetX, e.offsetY];
    if (this.pointers.size === 2) {
      const [other] = [...this.pointers].filter(([id]) => id !== e.pointerId).map(([, at]) => at);
      const far = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]) || 1;
      this.zoomBy(far([x, y]) / far(before), (x + other[0]) / 2, (y + other[1]) / 2);
      this.pan((x - before[0]) / 2, (y - before[1]) / 2);
      this.began.moved = true;
    } else {
      this.began.moved ||= Math.hypot(x - this.began.x, y - this.began.y) > 5;
      if (this.began.moved) this.drag(x - before[0], y - before[1]);
    }
    this.pointers.set(e.pointerId, [x, y]);
  }

  drag(dx, dy) {
    const node = this.grabbed;
    if (!node) return this.pan(dx, dy);
    node.held = true;
    node.x += dx / this.zoom;
    node.y += dy / this.zoom;
    this.layout.set(this.mesh.nodes, this.mesh.links, 0.2);
    return this.free();
  }

  up(e) {
    if (!this.pointers.delete(e.pointerId)) return;
    if (this.grabbed) this.grabbed.held = false;
    if (this.pointers.size === 0) {
      this.canvas.classList.remove("drags");
      if (this.began && !this.began.moved && e.type === "pointerup") this.select(this.at(e.offsetX, e.offsetY));
    }
    this.grabbed = null;
  }

  key(e) {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const step = e.shiftKey ? 160 : 50;
    const keys = {
      ArrowLeft: () => this.pan(step, 0),
      ArrowRight: () => this.pan(-step, 0),
      ArrowUp: () => this.pan(0, step),
      ArrowDown: () => this.pan(0, -step),
      "+": () => this.zoomBy(1.25),
      "=": () => this.zoomBy(1.25),
      "-": () => this.zoomBy(0.8),
      0: () => this.whole(),
      n: () => this.next(1),
      p: () => this.next(-1),
      Escape: () => this.select(null),
    };
    const act = keys[e.key] || keys[e.key.toLowerCase()];
    if (!act) return;
    e.preventDefault();
    act();
  }

  next(by) {
    const { nodes } = this.mesh;
    if (nodes.length === 0) return;
    const at = this.selected ? this.selected.index + by : by > 0 ? 0 : -1;
    this.select(nodes[(at + nodes.length) % nodes.length], true);
  }
}
