// Puts the parts together, and what there is into its place.

const mesh = new Mesh();
const view = new View(mesh, $("canvas"));
const past = new History();
const log = new Log();
const tables = new Tables(mesh);
const charts = [
  new Chart($("traffic"), past, [["received", "received", 2], ["sent", "sent", 3], ["relayed", "relayed", 4]], true, rate),
  new Chart($("earnings"), past, [["earned", "relayed", 6], ["paid", "sent", 7]], false, sats),
];
let newest = null;
let rates = null;

function tiles({ totals, nodes, routes, peers, flows, about, left_out: out }) {
  const more = (name) => (out[name] || 0);
  const shown = [
    ...about.traffic.map((name, i) => [capital(name), rates ? rate(rates[i]) : "–"]),
    ["Earned", sats(totals.earned_msat)],
    ["Paid", sats(totals.paid_msat)],
    ["Refused", count(totals.refused)],
    about.node ? ["Neighbours up", `${count(peers.filter((p) => p.state === "up").length)} of ${count(peers.length + more("peers"))}`]
      : ["Nodes up", `${count(nodes.filter((n) => n.up).length)} of ${count(nodes.length + more("nodes"))}`],
    about.node ? ["Routes", count(routes.length + more("routes"))] : ["Links up", count(mesh.links.filter((l) => l.state === "up").length)],
    ["Flows", count(flows.length + more("flows"))],
  ];
  const list = $("tiles");
  if (list.children.length !== shown.length) {
    list.replaceChildren(...shown.map(() => el("div", {}, el("dt"), el("dd"))));
  }
  shown.forEach(([name, value], i) => {
    say(list.children[i].children[0], name);
    say(list.children[i].children[1], value);
  });
}

function about(snapshot) {
  const { title, facts, simulated, traffic } = snapshot.about;
  charts[0].lines.forEach((line, i) => { line[0] = traffic[i]; });
  say($("title"), title);
  document.title = `${title} – blvm-mesh`;
  say($("subtitle"), (simulated ? "Simulated. " : "") + [...facts.slice(0, 3).map((f) => `${f.name} ${f.value}`), `up for ${span(snapshot.about.uptime_ms)}`].join(" · "));
  const list = $("about");
  const text = JSON.stringify(facts);
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...facts.flatMap((f) => [el("dt", { textContent: f.name }), el("dd", { textContent: f.value })]));
}

function warnings(all) {
  $("warnings").hidden = all.length === 0;
  const text = JSON.stringify(all);
  const list = $("warning-list");
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...all.map((w) => el("li", {}, w.text, el("em", { textContent: w.remedy }))));
}

function counts(snapshot) {
  const out = Object.entries(snapshot.left_out).map(([name, n]) => `${count(n)} ${name}`);
  const missing = out.length ? ` Not shown: ${out.join(", ")}.` : "";
  const { layout, draw, frames, gap } = view.cost;
  const cost = frames ? ` Layout ${layout.toFixed(1)} ms, drawing ${draw.toFixed(1)} ms a frame${gap ? `, ${Math.round(1000 / gap)} frames a second while it moves` : ""}.` : "";
  say($("counts"), `${counted(mesh.nodes.length, "node")}, ${counted(mesh.links.length, "link")}, ${counted(mesh.flows.length, "flow")}.${missing}${cost}`);
}

function legends() {
  const lines = legend(mesh);
  const text = JSON.stringify(lines) + colours.version;
  const list = $("legend");
  if (list.told === text) return;
  list.told = text;
  list.replaceChildren(...lines.map(([name, pen]) => el("li", {}, swatch(pen), name)));
}

function detail(node) {
  const place = $("detail");
  place.hidden = !node;
  if (!node) return;
  const links = mesh.links.filter((l) => l.a === node || l.b === node);
  const facts = [
    ["Is", { own: "this node", neighbour: "neighbour", known: "known by a route", any: "node" }[node.role]],
    ["State", node.up ? "up" : "down"],
    ["Marked", node.mark],
    ["Key", node.key],
    ["Identity", node.id],
    ["Cost", node.cost == null ? null : etx(node.cost)],
    ["Next hop", node.next && mesh.name(node.next)],
    ["Earned", node.earned_msat == null ? null : sats(node.earned_msat)],
    ...links.slice(0, 12).map((l) => {
      const other = l.a === node ? l.b : l.a;
      const parts = [l.kind === "route" ? "on a route" : l.kind, l.state, l.etx == null ? "" : `${etx(l.etx)} transmissions`,
        l.load == null ? "" : rate(l.load), price(l.price)];
      return [`To ${mesh.name(other.key)}`, parts.filter(Boolean).join(", ")];
    }),
    ["More links", links.length > 12 ? count(links.length - 12) : null],
  ].filter(([, value]) => value);
  const text = JSON.stringify(facts);
  if (place.told === text) return;
  place.told = text;
  const list = el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", { textContent: name }), el("dd", { textContent: value })]));
  place.replaceChildren(el("h3", { textContent: node.role === "own" ? "This node" : mesh.name(node.key) }), list);
}

view.told = (node) => {
  detail(node);
  const said = node ? `${mesh.name(node.key)}, ${node.up ? "up" : "down"}, ${counted(node.degree, "link")}` : "nothing selected";
  say($("announce"), said);
};

function show(snapshot) {
  const before = newest;
  newest = snapshot;
  if (before) {
    const after = (snapshot.totals.at_ms - before.totals.at_ms) / 1000;
    const per = (name) => Math.max(0, snapshot.totals[name] - before.totals[name]) / after;
    if (after > 0) rates = [per("received"), per("sent"), per("relayed")];
  }
  view.refresh(mesh.take(snapshot));
  about(snapshot);
  warnings(snapshot.warnings);
  tiles(snapshot);
  tables.show(snapshot);
  charts.forEach((chart) => chart.draw());
  counts(snapshot);
  legends();
  detail(view.selected);
}

const stream = new Stream((name, data) => {
  if (name === "history") past.add(data);
  else if (name === "log") log.add(data);
  else if (name === "snapshot") show(data);
}, (standing, text) => {
  // What comes next begins anew.
  if (standing === "live") {
    past.clear();
    log.clear();
    [newest, rates] = [null, null];
  }
  $("status").className = standing;
  say($("status-text"), standing === "token" ? "Token needed" : text);
  $("enter").hidden = standing !== "token";
  if (standing === "token" && text !== "Token needed") say($("enter-text"), text);
});

function enter() {
  const token = $("token").value.trim().replace(/^.*token=/, "");
  if (token) stream.enter(token);
  $("token").value = "";
}
$("enter-button").addEventListener("click", enter);
$("token").addEventListener("keydown", (e) => { if (e.key === "Enter") enter(); });

function as(table) {
  $("graph").hidden = table;
  $("zoom").hidden = table;
  $("mesh-table").hidden = !table;
  $("as-graph").setAttribute("aria-pressed", String(!table));
  $("as-table").setAttribute("aria-pressed", String(table));
  if (newest) tables.show(newest);
  view.dirty = true;
}
$("as-graph").addEventListener("click", () => as(false));
$("as-table").addEventListener("click", () => as(true));
$("zoom-in").addEventListener("click", () => view.zoomBy(1.3));
$("zoom-out").addEventListener("click", () => view.zoomBy(1 / 1.3));
$("zoom-fit").addEventListener("click", () => view.whole());
$("find").addEventListener("input", () => {
  const wanted = $("find").value.trim().toLowerCase();
  const found = wanted && mesh.nodes.find((n) => n.key.startsWith(wanted) || n.name.toLowerCase().startsWith(wanted)
    || (n.id || "").startsWith(wanted));
  view.select(found || null, true);
});
for (const button of document.querySelectorAll("button.span")) {
  button.addEventListener("click", () => {
    for (const other of document.querySelectorAll("button.span")) {
      other.setAttribute("aria-pressed", String(other.dataset.span === button.dataset.span));
    }
    charts.forEach((chart) => { chart.span = button.dataset.span; chart.draw(); });
  });
}
stream.look();
