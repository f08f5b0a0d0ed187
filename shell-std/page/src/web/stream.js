// Server-sent events, read with `fetch`: an EventSource can show no token, and a cookie would be
// sent to every other port of this host.

const STALE = 40000;

class Stream {
  constructor(told, standing) {
    Object.assign(this, { told, standing, pause: 1000, token: this.take() });
    document.addEventListener("visibilitychange", () => this.look());
    addEventListener("hashchange", () => {
      const token = this.take();
      if (token !== this.token) this.enter(token);
    });
  }

  /** The token of the address, which is taken out of it, or of this tab. */
  take() {
    const given = /[#&]token=([0-9a-fA-F]+)/.exec(location.hash);
    if (given) {
      sessionStorage.setItem("token", given[1]);
      history.replaceState(null, "", location.pathname);
    }
    return sessionStorage.getItem("token") || "";
  }

  enter(token) {
    sessionStorage.setItem("token", token);
    this.token = token;
    this.close();
    this.look();
  }

  /** Listens while the page is seen. */
  look() {
    if (document.hidden) return this.close("Paused");
    if (!this.token) return this.standing("token", "Token needed");
    if (!this.open) this.listen();
    return undefined;
  }

  close(text) {
    clearTimeout(this.again);
    if (this.open) this.open.abort();
    this.open = null;
    if (text) this.standing("paused", text);
  }

  async listen() {
    const open = new AbortController();
    this.open = open;
    let stale = 0;
    const wait = () => {
      clearTimeout(stale);
      stale = setTimeout(() => open.abort(), STALE);
    };
    let text = "The node does not answer";
    try {
      wait();
      const answer = await fetch("events", {
        headers: { Authorization: `Bearer ${this.token}` }, signal: open.signal, cache: "no-store",
      });
      if (answer.status === 401) {
        this.open = null;
        sessionStorage.removeItem("token");
        this.token = "";
        return this.standing("token", "The token is wrong: has the node a new one?");
      }
      if (answer.ok) {
        this.pause = 1000;
        this.standing("live", "Live");
        await this.read(answer.body, wait);
        text = "Disconnected";
      } else {
        text = answer.status === 503 ? "Too many browsers look" : `The node answers ${answer.status}`;
      }
    } catch (error) {
      if (!open.signal.aborted) text = "The node cannot be reached";
    } finally {
      clearTimeout(stale);
    }
    if (this.open !== open) return undefined;
    this.open = null;
    this.standing("lost", `${text}; trying again`);
    this.again = setTimeout(() => this.look(), this.pause);
    this.pause = Math.min(this.pause * 2, 15000);
    return undefined;
  }

  async read(body, wait) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      wait();
      kept += value;
      const events = kept.split("\n\n");
      kept = events.pop();
      for (const event of events) {
        const [name, data] = event.split("\n");
        if (name.startsWith("event: ") && data) this.told(name.slice(7), JSON.parse(data.slice(6)));
      }
    }
  }
}
