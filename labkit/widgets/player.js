// Play, pause, step and scrub; narration, meters and keys. All in the browser, on columns that never change.

const WORDS = ["clock", "layer", "text", "function", "origin"];

class Player {
  constructor(root, stage, data, heard) {
    Object.assign(this, { root, stage, data, heard, u: data.poster, playing: false, speed: 1 });
    Object.assign(this, { lit: null, picked: null, shown: -1 });
    this.last = data.t.length - 1;
    this.fresh = true;
    this.$ = (name) => root.querySelector(`[data-${name}]`);
    this.bind();
    this.show();
  }

  bind() {
    for (const button of this.root.querySelectorAll("[data-do]")) button.onclick = () => this[button.dataset.do]();
    this.$("scrub").oninput = (event) => this.seek(this.stage.index(Number(event.target.value)));
    this.$("speed").onchange = (event) => (this.speed = Number(event.target.value));
    this.$("scale").onchange = (event) => this.rescale(event.target.value);
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.querySelector("details")?.addEventListener("toggle", () => this.tabulate());
  }

  key(event) {
    const keys = { " ": "toggle", ArrowRight: "next", ArrowLeft: "back", Home: "first", End: "end" };
    const name = keys[event.key], where = event.target.tagName;
    const own = where === "SELECT" || (event.key === " " && (where === "BUTTON" || where === "SUMMARY"));
    if (!name || own || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this[name]();
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.fresh || this.u >= this.last) this.u = 0;
    this.playing = true;
    this.before = performance.now();
    requestAnimationFrame((now) => this.tick(now));
    this.show();
  }

  pause() {
    this.playing = false;
    this.show();
    this.heard({ t: this.stage.at(this.u) }, true);
  }

  /** Go on by as much of the scale as the time since the last frame: the whole of it takes 8 to 40 seconds. */
  tick(now) {
    if (!this.playing) return;
    const place = this.data.scales[this.stage.scale], whole = clamp(this.last * 0.22, 8, 40) * 1000;
    const step = ((place.at(-1) - place[0]) * Math.min(now - this.before, 100) * this.speed) / whole;
    this.before = now;
    this.u = this.stage.index(this.stage.x(this.u) + step);
    if (this.u >= this.last) return this.pause();
    this.show();
    requestAnimationFrame((later) => this.tick(later));
  }

  seek(u) {
    this.playing = false;
    this.u = clamp(u, 0, this.last);
    this.show();
    this.heard({ t: this.stage.at(this.u) }, false);
  }

  next() {
    this.seek(Math.floor(this.u) + 1);
  }

  back() {
    this.seek(Math.ceil(this.u) - 1);
  }

  first() {
    this.seek(0);
  }

  end() {
    this.seek(this.last);
  }

  rescale(scale) {
    this.stage.rescale(scale, this.factor ?? 1);
    this.show();
  }

  /** Bring out the units [first, last], for as long as they are pointed at or until another is chosen. */
  light(units, stay) {
    if (stay) {
      this.picked = units;
      const phyrs = units ? this.data.units.slice(units[0], units[1] + 1).map((unit) => unit.phyr) : [];
      this.heard({ selection: phyrs.filter((phyr) => phyr >= 0) }, true);
    }
    this.lit = units ?? this.picked;
    this.show();
  }

  show() {
    this.fresh &&= !this.playing && this.u === this.data.poster;
    const { stage, u, data } = this, at = Math.floor(u), x = stage.x(u);
    stage.draw(u, this.lit);
    const flying = data.units.findIndex((unit) => unit.times.serve <= u && u < unit.times.complete);
    stage.inspect(this.lit ?? [Math.max(flying, 0), 0], u);
    this.root.dataset.at = at;
    this.root.dataset.playing = this.playing;
    const scrub = this.$("scrub"), range = data.scales[stage.scale];
    [scrub.min, scrub.max] = [range[0], range.at(-1)];
    scrub.value = x;
    scrub.style.setProperty("--at", `${(100 * (x - range[0])) / (range.at(-1) - range[0] || 1)}%`);
    this.$("play").textContent = this.playing ? "❚❚" : "▶";
    this.$("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    if (at !== this.shown) this.tell(at);
  }

  /** Return one of WORDS for record `at`; a column that repeats itself names its words once. */
  told(name, at) {
    const column = this.data[name];
    if (name === "clock") return time(this.data.t[at]);
    return column.words ? column.words[column.at[at]] : column[at];
  }

  tell(at) {
    this.shown = at;
    const { data } = this;
    this.$("now").setAttribute("aria-live", this.playing ? "off" : "polite");
    for (const name of WORDS) this.$(name).textContent = this.told(name, at);
    this.$("origin").className = `origin ${this.told("origin", at).split(" ")[0]}`;
    this.$("count").textContent = `${at + 1} of ${this.last + 1}`;
    this.$("scrub").setAttribute("aria-valuetext", `${time(data.t[at])}: ${data.text[at]}`);
    for (const [name, values] of Object.entries(data.meters)) {
      const meter = this.$(`meter="${name}"`);
      if (meter) meter.textContent = values[at].toLocaleString("en");
    }
    this.root.querySelector("tr[aria-current]")?.removeAttribute("aria-current");
    this.root.querySelectorAll("tbody tr")[at]?.setAttribute("aria-current", "step");
  }

  /** Fill the table twin when it is first opened; a click on a row goes there. */
  tabulate() {
    const body = this.root.querySelector("tbody");
    if (body.rows.length) return;
    this.data.t.forEach((_, at) => {
      const row = body.insertRow();
      row.onclick = () => this.seek(at);
      for (const name of WORDS) row.insertCell().textContent = this.told(name, at);
    });
    this.shown = -1;
    this.show();
  }
}
