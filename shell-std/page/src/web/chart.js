// What was carried and earned over time, on a canvas, with its values as text below.

const SPANS = { seconds: 300e3, minutes: 86400e3 };
const KEPT = { seconds: 300, minutes: 1440 };

/** The samples as they are sent: when, how long, and six counts. */
class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.seconds = [];
    this.minutes = [];
  }

  add(more) {
    for (const span of ["seconds", "minutes"]) {
      this[span].push(...more[span]);
      this[span].splice(0, this[span].length - KEPT[span]);
    }
  }
}

class Chart {
  /** `lines`: name, colour, place in a sample; `perSecond`: whether counts are divided by time. */
  constructor(place, history, lines, perSecond, written) {
    Object.assign(this, { history, lines, perSecond, written, span: "seconds", at: null });
    this.canvas = el("canvas", { role: "img" });
    this.values = lines.map(([, colour]) => {
      const item = el("li");
      item.style.setProperty("--of", `var(--${colour})`);
      return item;
    });
    const list = el("ul", {}, ...this.values);
    place.append(el("div", { className: "chart" }, this.canvas, list));
    this.pen = this.canvas.getContext("2d");
    this.canvas.addEventListener("pointermove", (e) => { this.at = e.offsetX; this.draw(); });
    this.canvas.addEventListener("pointerleave", () => { this.at = null; this.draw(); });
    new ResizeObserver(() => this.draw()).observe(this.canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => setTimeout(() => this.draw()));
  }

  value(sample, place) {
    return this.perSecond ? (sample[place] * 1000) / Math.max(sample[1], 1) : sample[place];
  }

  draw() {
    const { canvas, pen } = this;
    const [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    if (!wide) return;
    const fine = Math.min(devicePixelRatio || 1, 2);
    [canvas.width, canvas.height] = [wide * fine, high * fine];
    pen.setTransform(fine, 0, 0, fine, 0, 0);
    const samples = this.history[this.span];
    const now = samples.length ? samples[samples.length - 1][0] : Date.now();
    // A simulated world may go faster: then the same number of samples takes more of its time.
    const spread = samples.length > 1 ? ((now - samples[0][0]) / (samples.length - 1)) * KEPT[this.span] : 0;
    const long = spread > 1.2 * SPANS[this.span] ? spread : SPANS[this.span];
    const most = Math.max(0, ...samples.flatMap((s) => this.lines.map(([, , place]) => this.value(s, place))));
    const top = this.round(most);
    const [left, right, above, below] = [4, wide - 4, 18, high - 20];
    const x = (ms) => right - ((now - ms) / long) * (right - left);
    const y = (value) => below - (value / top) * (below - above);
    this.grid(left, right, above, below, long);
    const chosen = this.choose(samples, x);
    for (const [, colour, place] of this.lines) {
      pen.strokeStyle = colours[colour];
      pen.lineWidth = 1.8;
      pen.lineJoin = "round";
      pen.beginPath();
      samples.forEach((s, i) => pen[i ? "lineTo" : "moveTo"](x(s[0]), y(this.value(s, place))));
      if (samples.length === 1) pen.lineTo(x(samples[0][0]) - 2, y(this.value(samples[0], place)));
      pen.stroke();
    }
    if (chosen && this.at != null) {
      pen.strokeStyle = colours.soft;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(x(chosen[0]), above);
      pen.lineTo(x(chosen[0]), below);
      pen.stroke();
    }
    this.scale(left, above, below, top);
    this.tell(chosen, samples);
  }

  /** The least of 1, 2 and 5 times a power of ten that is not less. */
  round(most) {
    if (most <= 0) return 1000;
    const power = 10 ** Math.floor(Math.log10(most));
    return Math.max(2, [1, 2, 5, 10].map((n) => n * power).find((n) => n >= most * 0.999));
  }

  grid(left, right, above, below, long) {
    const { pen } = this;
    pen.font = "11px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    pen.fillStyle = colours.soft;
    pen.strokeStyle = colours.line;
    pen.lineWidth = 1;
    for (const part of [0, 0.5, 1]) {
      const y = Math.round(below - part * (below - above)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, y);
      pen.lineTo(right, y);
      pen.stroke();
    }
    pen.textAlign = "left";
    pen.fillText(`${span(long).replace(/ 0 (s|min|h)$/, "")} ago`, left, below + 15);
    pen.textAlign = "right";
    pen.fillText("now", right, below + 15);
    pen.textAlign = "left";
  }

  /** What the lines of the grid are, readable over what is drawn. */
  scale(left, above, below, top) {
    const { pen } = this;
    pen.strokeStyle = colours.card;
    pen.fillStyle = colours.ink;
    pen.lineWidth = 4;
    for (const part of [0.5, 1]) {
      const at = [this.written(top * part), left, below - part * (below - above) - 4];
      pen.strokeText(...at);
      pen.fillText(...at);
    }
  }

  choose(samples, x) {
    if (this.at == null || samples.length === 0) return samples[samples.length - 1];
    let best = samples[0];
    for (const s of samples) {
      if (Math.abs(x(s[0]) - this.at) < Math.abs(x(best[0]) - this.at)) best = s;
    }
    return best;
  }

  tell(chosen, samples) {
    this.lines.forEach(([name, , place], i) => {
      const sum = samples.reduce((all, s) => all + s[place], 0);
      const value = chosen ? this.written(this.value(chosen, place)) : "–";
      const when = this.at != null && chosen ? ` at ${clock(chosen[0])}` : "";
      const unit = this.perSecond ? bytes(sum) : sats(sum);
      say(this.values[i], `${name} ${value}${when}, ${unit} in all`);
    });
    const label = this.values.map((item) => item.textContent).join("; ");
    this.canvas.setAttribute("aria-label", `Over time: ${label}`);
  }
}
