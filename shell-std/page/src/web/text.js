// Numbers as people read them, and elements. What comes from others becomes text, never HTML.

const $ = (id) => document.getElementById(id);

/** An element with properties and children; a child that is no element is text. */
function el(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Says something else only where it is something else: so a selection and a reader stay. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const count = (n) => whole.format(n);
const counted = (n, name) => `${count(n)} ${name}${n === 1 ? "" : "s"}`;

function scaled(n, step, units) {
  let unit = 0;
  while (Math.abs(n) >= step && unit < units.length - 1) {
    n /= step;
    unit += 1;
  }
  return `${Math.abs(n) >= 1000 ? whole.format(n) : short.format(n)} ${units[unit]}`;
}
const bytes = (n) => scaled(n, 1000, ["B", "kB", "MB", "GB", "TB", "PB"]);
const rate = (n) => `${bytes(n)}/s`;
const sats = (msat) => (Math.abs(msat) < 1000 ? `${count(msat)} msat`
  : scaled(msat / 1000, 1000, ["sat", "k sat", "M sat", "G sat"]));
const capital = (text) => text.slice(0, 1).toUpperCase() + text.slice(1);
const price = (p) => (p ? `${count(p.base_msat)} + ${count(p.per_kib_msat)}/KiB msat` : "");
const etx = (n) => (n == null ? "" : (n / 256).toFixed(2));

function span(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor(s / 60) % 60} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor(s / 3600) % 24} h`;
}

function clock(ms) {
  const at = new Date(ms);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((n) => String(n).padStart(2, "0")).join(":");
}
