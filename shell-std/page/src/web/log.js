// The log: the last lines, by level and by what they say.

const LEVELS = ["error", "warn", "info", "debug", "trace"];
const MOST_LINES = 500;
const MOST_SHOWN = 200;

class Log {
  constructor() {
    this.clear();
    this.place = $("log");
    this.held = false;
    $("level").addEventListener("change", () => this.show());
    $("filter").addEventListener("input", () => this.show());
    $("hold").addEventListener("click", () => {
      this.held = !this.held;
      $("hold").setAttribute("aria-pressed", String(this.held));
      this.show();
    });
  }

  clear() {
    this.lines = [];
  }

  add(lines) {
    this.lines.push(...lines);
    this.lines.splice(0, this.lines.length - MOST_LINES);
    if (!this.held) this.show();
  }

  show() {
    const [least, wanted] = [Number($("level").value), $("filter").value.toLowerCase()];
    const fits = (line) => LEVELS.indexOf(line.level) <= least
      && (wanted === "" || `${line.from} ${line.text}`.toLowerCase().includes(wanted));
    const found = this.lines.filter(fits);
    const atEnd = this.place.scrollHeight - this.place.scrollTop - this.place.clientHeight < 30;
    this.place.replaceChildren(...found.slice(-MOST_SHOWN).map((line) => el("p", {},
      el("time", { textContent: clock(line.at_ms) }), " ",
      el("span", { className: line.level === "warn" ? "warn-line" : line.level, textContent: line.level.toUpperCase() }), " ",
      el("span", { className: "from", textContent: `${line.from}: ` }),
      line.text)));
    if (atEnd) this.place.scrollTop = this.place.scrollHeight;
    const more = found.length > MOST_SHOWN ? `, the last ${MOST_SHOWN} are shown` : "";
    say($("log-count"), `${count(found.length)} of the last ${count(this.lines.length)} lines${more}`);
  }
}
