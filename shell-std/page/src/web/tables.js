// Tables that can be sorted. Rows and cells stay as long as what they show does, so that neither
// a selection nor the place of a reader is lost each second.

const MOST_ROWS = 200;

class Table {
  /** A column: title, what is shown, what is sorted by (default: the same), and a class. */
  constructor(place, label, columns, none) {
    Object.assign(this, { columns, none, by: 0, up: true, rows: new Map(), data: [], all: false });
    this.heads = columns.map(([title, , , kind], i) => {
      const button = el("button", { type: "button", textContent: title });
      button.addEventListener("click", () => this.sort(i));
      const head = el("th", { scope: "col", className: kind === "number" ? "number" : "" }, button);
      return head;
    });
    this.body = el("tbody");
    const table = el("table", {}, el("thead", {}, el("tr", {}, ...this.heads)), this.body);
    table.setAttribute("aria-label", label);
    this.frame = el("div", { className: "table", tabIndex: 0 }, table);
    this.frame.setAttribute("role", "region");
    this.frame.setAttribute("aria-label", `${label}, table`);
    this.empty = el("p", { className: "none", textContent: none });
    this.more = el("button", { type: "button", hidden: true });
    this.more.addEventListener("click", () => { this.all = true; this.show(this.data, this.keyOf); });
    place.append(this.frame, this.empty, this.more);
  }

  sort(by) {
    this.up = this.by === by ? !this.up : true;
    this.by = by;
    this.show(this.data, this.keyOf);
  }

  show(data, keyOf) {
    Object.assign(this, { data, keyOf });
    this.frame.hidden = data.length === 0;
    this.empty.hidden = data.length > 0;
    this.heads.forEach((head, i) => {
      if (i === this.by) head.setAttribute("aria-sort", this.up ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const [, shown, value] = this.columns[this.by];
    const of = value || shown;
    const order = (a, b) => {
      const [x, y] = [of(a), of(b)];
      const way = x == null ? 1 : y == null ? -1 : x < y ? -1 : x > y ? 1 : 0;
      return this.up || x == null || y == null ? way : -way;
    };
    const sorted = [...data].sort(order);
    const most = this.all ? sorted.length : MOST_ROWS;
    this.more.hidden = sorted.length <= most;
    say(this.more, `Show all ${count(sorted.length)}`);
    const left = this.rows;
    this.rows = new Map();
    let before = null;
    for (const item of sorted.slice(0, most)) {
      const key = keyOf(item);
      if (this.rows.has(key)) continue;
      const row = left.get(key) || this.row();
      left.delete(key);
      this.rows.set(key, row);
      this.fill(row, item);
      const here = before ? before.nextSibling : this.body.firstChild;
      if (here !== row) this.body.insertBefore(row, here);
      before = row;
    }
    for (const row of left.values()) row.remove();
  }

  row() {
    return el("tr", {}, ...this.columns.map(([, , , kind]) => el("td", { className: kind || "" })));
  }

  fill(row, item) {
    this.columns.forEach(([, shown], i) => {
      const text = shown(item);
      const cell = row.cells[i];
      if (cell.shown === text) return;
      cell.shown = text;
      if (this.columns[i][4]) cell.replaceChildren(this.columns[i][4](item, text));
      else cell.textContent = text == null ? "" : text;
    });
  }
}

const state = (item, text) => el("span", { className: `state ${text}`, textContent: text });

/** All tables of the page, and what each shows of a snapshot. */
class Tables {
  constructor(mesh) {
    this.mesh = mesh;
    const name = (key) => mesh.name(key);
    const way = (keys) => keys.map(name).join(" → ");
    this.nodes = new Table($("nodes-table"), "Nodes", [
      ["Node", (n) => n.name || n.key],
      ["Is", (n) => n.mark || { own: "this node", neighbour: "neighbour", known: "known by a route", any: "node" }[n.role]],
      ["State", (n) => (n.up ? "up" : "down"), null, "", state],
      ["Links", (n) => n.degree, null, "number"],
      ["Cost", (n) => etx(n.cost), (n) => n.cost, "number"],
      ["Next hop", (n) => (n.next ? name(n.next) : "")],
      ["Earned", (n) => (n.earned_msat == null ? "" : sats(n.earned_msat)), (n) => n.earned_msat, "number"],
    ], "No node is known.");
    this.links = new Table($("links-table"), "Links", [
      ["From", (l) => name(l.a.key)],
      ["To", (l) => name(l.b.key)],
      ["Kind", (l) => (l.kind === "route" ? "on a route" : l.kind)],
      ["State", (l) => l.state, null, "", state],
      ["Transmissions", (l) => etx(l.etx), (l) => l.etx, "number"],
      ["Load", (l) => (l.load == null ? "" : rate(l.load)), (l) => l.load, "number"],
      ["Carried", (l) => (l.bytes == null ? "" : bytes(l.bytes)), (l) => l.bytes, "number"],
      ["Price", (l) => price(l.price), (l) => l.price && l.price.base_msat, "number"],
    ], "No link is known.");
    const etxOf = (key) => { const l = this.linkTo(key); return l ? l.etx : null; };
    this.peers = new Table($("peers-table"), "Neighbours", [
      ["Node", (p) => name(p.key)],
      ["State", (p) => p.state, null, "", state],
      ["Address", (p) => p.address],
      ["Since", (p) => span(p.since_ms), (p) => p.since_ms, "number"],
      ["Received", (p) => bytes(p.received), (p) => p.received, "number"],
      ["Sent", (p) => bytes(p.sent), (p) => p.sent, "number"],
      ["Transmissions", (p) => etx(etxOf(p.key)), (p) => etxOf(p.key), "number"],
      ["Price", (p) => price((this.linkTo(p.key) || {}).price), null, "number"],
      ["Mode", (p) => p.mode],
      ["Refused", (p) => count(p.refused), (p) => p.refused, "number"],
      ["Last error", (p) => p.last_error, null, "long"],
    ], "There is no neighbour, and none is configured.");
    this.routes = new Table($("routes-table"), "Routes", [
      ["To", (r) => name(r.to)],
      ["Next hop", (r) => name(r.hops[0] || r.to)],
      ["Over", (r) => way(r.hops), null, "long"],
      ["Hops", (r) => r.hops.length, null, "number"],
      ["Cost", (r) => etx(r.cost), (r) => r.cost, "number"],
      ["Largest packet", (r) => bytes(r.max_packet), (r) => r.max_packet, "number"],
      ["Renewed in", (r) => span(r.expires_in_ms), (r) => r.expires_in_ms, "number"],
    ], "No route is known: one is looked for when something is sent.");
    this.flows = new Table($("flows-table"), "Flows", [
      ["Flow", (f) => f.number.slice(0, 8)],
      ["Sort", (f) => f.sort],
      ["Way", (f) => f.path.map(name).join(f.whole ? " → " : " … "), null, "long"],
      ["State", (f) => (f.up ? "up" : "down"), null, "", state],
      ["Carried", (f) => (f.bytes == null ? "" : bytes(f.bytes)), (f) => f.bytes, "number"],
      ["Paid", (f) => (f.paid_msat == null ? (f.paid ? "paid" : "free") : sats(f.paid_msat)), (f) => f.paid_msat, "number"],
      ["Idle", (f) => span(f.idle_ms), (f) => f.idle_ms, "number"],
    ], "There is no flow.");
    this.refused = new Table($("refused-table"), "Refused packets", [
      ["Reason", (r) => r.reason, null, "long"],
      ["Packets", (r) => count(r.count), (r) => r.count, "number"],
      ["Share", (r) => `${Math.round(100 * r.share)} %`, (r) => r.share, "", bar],
    ], "Nothing was refused.");
    [this.refused.by, this.refused.up] = [1, false];
    this.radios = new Table($("radios-table"), "Radios", [
      ["Radio", (r) => r.name, null, "long"],
      ["State", (r) => r.state, null, "", state],
      ["Channel", (r) => `${(r.frequency_hz / 1e6).toFixed(3)} MHz, ${r.bandwidth_hz / 1e3} kHz, SF${r.spreading_factor}`],
      ["Channel taken", (r) => `${(r.load_permille / 10).toFixed(1)} %`, (r) => r.load_permille, "number"],
      ["Air time of the hour", (r) => `${span(r.airtime_hour_ms)} of ${span(r.airtime_limit_ms)}`, (r) => r.airtime_hour_ms, "number"],
      ["Heard", (r) => (r.rssi_dbm == null ? "" : `${r.rssi_dbm} dBm`), (r) => r.rssi_dbm, "number"],
      ["Neighbours", (r) => r.neighbours, null, "number"],
      ["Error", (r) => r.error, null, "long"],
    ], "There is no radio.");
  }

  linkTo(key) {
    const { own } = this.mesh;
    return own && this.mesh.byEnds.get(own < key ? `${own} ${key}` : `${key} ${own}`);
  }

  show(snapshot) {
    if (!$("mesh-table").hidden) {
      this.nodes.show(this.mesh.nodes, (n) => n.key);
      this.links.show(this.mesh.links, (l) => l.ends);
    }
    this.peers.show(snapshot.peers, (p) => `${p.key} ${p.address}`);
    this.routes.show(snapshot.routes, (r) => `${r.to} ${r.hops}`);
    this.flows.show(snapshot.flows, (f) => `${f.number} ${f.sort}`);
    const all = Object.values(snapshot.refused).reduce((sum, n) => sum + n, 0);
    const reasons = Object.entries(snapshot.refused).filter(([, n]) => n > 0)
      .map(([reason, n]) => ({ reason, count: n, share: n / all }));
    this.refused.show(reasons, (r) => r.reason);
    this.radios.show(snapshot.radios, (r) => r.name);
    $("radios").hidden = snapshot.radios.length === 0;
    $("peers").hidden = snapshot.about.node == null;
    $("routes").hidden = snapshot.about.node == null;
  }
}

function bar(item, text) {
  const made = el("span", { className: "share", title: text });
  made.style.width = `${Math.max(1, Math.round(item.share * 100))}px`;
  const said = el("span", { className: "unseen", textContent: text });
  return el("span", {}, made, said);
}
