// A scene: steps, keys, hover, sentence and table of a picture whose `Act` draws step `at` with row `row` chosen.

const WORDS = ["clock", "layer", "text", "function", "origin"];
const NARROW_BELOW = 1000;

/** Return the document in the palette that is wanted: it is written in light colours, each has its dark partner. */
function themed(item, palettes, dark) {
  if (!dark) return item;
  const pairs = Object.entries(palettes.light).map(([role, colour]) => [colour, palettes.dark[role]]);
  const partner = Object.fromEntries(pairs);
  return JSON.parse(JSON.stringify(item).replace(/#[0-9A-F]{6}/g, (colour) => partner[colour] ?? colour));
}

/** Show `picture` in `el`, dark or light. `heard` is told of the step or time (t) and of the chosen row (selection). */
async function show(el, picture, dark, heard = () => {}) {
  const palette = picture.palettes[dark ? "dark" : "light"];
  const root = document.createElement("div");
  root.className = "labkit scene";
  for (const [role, colour] of Object.entries(palette)) root.style.setProperty(`--${role}`, colour);
  root.innerHTML = picture.html; // written by labkit, every string of the trace escaped there
  const before = el.firstElementChild?.labkit;
  el.firstElementChild?.leave?.();
  el.replaceChildren(root);
  if (picture.data.n) {
    const scene = new Scene(root, picture, palette, dark, heard);
    if (before?.data === picture.data) Object.assign(scene, { at: before.at, row: before.row });
    root.labkit = scene;
    await scene.fit();
    root.leave = () => scene.leave();
  }
  root.dataset.ready = "";
  return root;
}

class Scene {
  constructor(root, picture, palette, dark, heard) {
    Object.assign(this, { root, picture, palette, dark, heard, data: picture.data, at: picture.data.poster, row: picture.data.row ?? 0 });
    Object.assign(this, { playing: false, speed: 1, shown: "", scale: "events", timer: 0, sizing: 0 });
    this.last = this.data.n - 1;
    this.$ = (name) => root.querySelector(`[data-${name}]`);
    this.bind();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(root);
  }

  leave() {
    this.pause();
    this.watch.disconnect();
    this.clear();
  }

  clear() {
    if (!this.doc) return;
    this.views.clear();
    Bokeh.documents.splice(Bokeh.documents.indexOf(this.doc), 1);
    this.doc = null;
  }

  /** Show the figure that fits the page, and write its words as large as the reader can use. */
  async fit() {
    const width = this.$("stage").getBoundingClientRect().width;
    if (!width) return;
    const which = width < NARROW_BELOW ? "narrow" : "wide";
    if (which !== this.which) await this.embed(which);
    if (!this.act) return;
    this.factor = this.$("stage").getBoundingClientRect().width / this.here.width;
    for (const source of this.sized) {
      const k = Math.max(this.factor, 0.84);
      source.data.px = Array.from(source.data.size, (size) => `${Math.round(size * k * 10) / 10}px`);
      source.change.emit();
    }
    this.show();
  }

  async embed(which) {
    this.which = which;
    const slot = this.$("stage"), mine = ++this.sizing, holder = document.createElement("div");
    slot.replaceChildren(holder);
    this.clear();
    this.act = null;
    const views = await Bokeh.embed.embed_item(themed(this.picture.item[which], this.picture.palettes, this.dark), holder);
    const [view] = views.roots ?? [...views];
    if (mine !== this.sizing) return void views.clear();
    Object.assign(this, { views, doc: view.model.document, here: this.data[which] });
    this.sized = [...this.doc.all_models].filter((model) => model.data?.px && model.data?.size);
    this.act = new Act(this);
  }

  bind() {
    for (const button of this.root.querySelectorAll("[data-do]")) button.onclick = () => this[button.dataset.do]();
    this.$("scrub").max = this.last;
    this.$("scrub").oninput = (event) => this.seek(Number(event.target.value));
    this.$("speed").onchange = (event) => (this.speed = Number(event.target.value));
    if (this.$("scale")) this.$("scale").onchange = (event) => ((this.scale = event.target.value), this.show());
    this.root.addEventListener("keydown", (event) => this.key(event));
    this.root.querySelector("details").addEventListener("toggle", () => this.tabulate());
    const stage = this.$("stage");
    stage.addEventListener("pointermove", (event) => this.hover(event));
    stage.addEventListener("pointerleave", () => (this.$("tip").hidden = true));
    stage.addEventListener("click", (event) => this.choose(this.hit(event)));
  }

  key(event) {
    const keys = { " ": "toggle", ArrowRight: "next", ArrowLeft: "back", Home: "first", End: "end", PageDown: "far", PageUp: "near" };
    if (this.data.rows) Object.assign(keys, { ArrowDown: "down", ArrowUp: "up" });
    const name = keys[event.key], where = event.target.tagName;
    const own = where === "SELECT" || (event.key === " " && (where === "BUTTON" || where === "SUMMARY"));
    if (!name || own || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    this[name]();
  }

  toggle() {
    if (this.playing) return this.pause();
    if (this.at >= this.last) this.at = 0;
    this.playing = true;
    this.show();
    this.tick();
  }

  /** Go on a step at a time: the whole of it takes some 12 seconds, and no step more than one. */
  tick() {
    const each = clamp(12000 / Math.max(this.last, 1), 30, 1000) / this.speed;
    this.timer = setTimeout(() => {
      this.at = Math.min(this.at + 1, this.last);
      if (this.at >= this.last) return this.pause();
      this.show();
      this.tick();
    }, each);
  }

  pause() {
    clearTimeout(this.timer);
    const was = this.playing;
    this.playing = false;
    if (was) this.show();
    if (was) this.heard({ t: this.data.t?.[this.at] ?? this.at });
  }

  seek(at, row = this.row) {
    clearTimeout(this.timer);
    this.playing = false;
    this.at = clamp(Math.round(at), 0, this.last);
    this.row = row;
    this.show();
    clearTimeout(this.telling);
    this.telling = setTimeout(() => this.heard({ t: this.data.t?.[this.at] ?? this.at, selection: this.data.rows ? [this.row] : [] }), 150);
  }

  next() { this.seek(this.at + 1); }
  back() { this.seek(this.at - 1); }
  first() { this.seek(0); }
  end() { this.seek(this.last); }
  far() { this.seek(this.at + Math.max(1, Math.round(this.last / 10))); }
  near() { this.seek(this.at - Math.max(1, Math.round(this.last / 10))); }
  down() { this.seek(this.at, Math.min(this.row + 1, this.data.who.length - 1)); }
  up() { this.seek(this.at, Math.max(this.row - 1, 0)); }

  show() {
    this.act?.draw(this.at, this.row);
    this.root.dataset.at = this.at;
    this.root.dataset.row = this.row;
    this.root.dataset.playing = this.playing;
    const scrub = this.$("scrub"), now = this.$("now");
    scrub.value = this.at;
    scrub.style.setProperty("--at", `${(100 * this.at) / Math.max(this.last, 1)}%`);
    scrub.setAttribute("aria-valuetext", `${this.told("clock", this.at)}: ${this.told("text", this.at)}`);
    this.$("play").textContent = this.playing ? "❚❚" : "▶";
    this.$("play").setAttribute("aria-label", this.playing ? "Pause" : "Play");
    now.setAttribute("aria-live", this.playing ? "off" : "polite");
    for (const name of WORDS) if (this.$(name).textContent !== this.told(name, this.at)) this.$(name).textContent = this.told(name, this.at);
    this.$("origin").className = `origin ${this.told("origin", this.at).split(" ")[0]}`;
    this.$("origin").hidden = !this.told("origin", this.at);
    this.$("count").textContent = `${this.at + 1} of ${this.last + 1}`;
    for (const [name, values] of Object.entries(this.data.meters ?? {})) {
      const meter = this.$(`meter="${name}"`), value = values[this.at];
      meter.textContent = value.toLocaleString("en");
      meter.classList.toggle("stopped", typeof value === "string");
    }
    this.root.querySelector("tr[aria-current]")?.removeAttribute("aria-current");
    this.root.querySelectorAll("tbody tr")[this.at]?.setAttribute("aria-current", "step");
  }

  told(name, at) {
    return this.data.told[name][at];
  }

  /** Fill the table twin when it is first opened; a click on a row goes there. */
  tabulate() {
    const body = this.root.querySelector("tbody");
    if (body.rows.length) return;
    for (let at = 0; at <= this.last; at++) {
      const row = body.insertRow();
      row.onclick = () => this.seek(at);
      for (const name of WORDS) row.insertCell().textContent = this.told(name, at);
    }
    this.show();
  }

  /** Return where in the picture a pointer is, in its own pixels. */
  place(event) {
    const box = this.$("stage").getBoundingClientRect();
    return [(event.clientX - box.left) / this.factor, (event.clientY - box.top) / this.factor];
  }

  /** Return the last place under the pointer that answers, -1 for none. */
  hit(event) {
    const hot = this.act?.hot ?? this.here?.hot;
    if (!hot) return -1;
    const [x, y] = this.place(event);
    for (let i = hot.left.length - 1; i >= 0; i--) {
      if (hot.left[i] <= x && x <= hot.right[i] && hot.top[i] <= y && y <= hot.bottom[i]) return i;
    }
    return -1;
  }

  choose(i) {
    if (i < 0) return;
    const hot = this.act.hot ?? this.here.hot;
    if (hot.step[i] >= 0 || hot.row[i] >= 0) this.seek(hot.step[i] >= 0 ? hot.step[i] : this.at, hot.row[i] >= 0 ? hot.row[i] : this.row);
  }

  hover(event) {
    const i = this.hit(event), tip = this.$("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.replaceChildren(...(this.act.hot ?? this.here.hot).tip[i].map((line) => {
      const row = document.createElement("div");
      row.textContent = line;
      return row;
    }));
    const box = this.root.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    tip.style.left = `${x + tip.offsetWidth + 24 > box.width ? Math.max(4, x - tip.offsetWidth - 14) : x + 14}px`;
    tip.style.top = `${y + 16}px`;
  }
}
