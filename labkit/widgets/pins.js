// Pins over time: bars fill up to the cursor, the chosen row says who holds it, and wrong bytes are spelled out.

const TABLES = ["ticks", "lives", "ahead", "past", "label_ahead", "label_past", "marks", "mark_names", "chosen", "counts", "cursor"];

class Act {
  constructor(scene) {
    this.scene = scene;
    this.tables = Object.fromEntries(TABLES.map((name) => [name, new Table(scene.doc, name)]));
    const { ahead, lives } = this.tables;
    this.bars = { begin: Array.from(ahead.c.begin), end: Array.from(ahead.c.end), label: ahead.c.label, row: Array.from(ahead.c.row) };
    this.lived = { begin: Array.from(lives.c.begin), end: Array.from(lives.c.end) };
    const stage = scene.$("stage");
    stage.onpointerdown = stage.onpointermove = (event) => event.buttons && this.press(event);
  }

  get place() {
    return this.scene.here.scales[this.scene.scale];
  }

  /** Lay time out: `events` gives each record one step, `time` is true. */
  rescale() {
    const { here, scale, factor } = this.scene, { tables, place, bars } = this, last = place.length - 1;
    this.laid = `${scale} ${factor}`;
    const x = (at) => place[Math.min(at, last)];
    this.left = bars.begin.map(x);
    this.right = bars.end.map((at, i) => Math.max(x(at), this.left[i] + 3));
    tables.lives.replace({ left: this.lived.begin.map(x), right: this.lived.end.map(x) });
    tables.ahead.replace({ left: this.left, right: this.right });
    tables.past.replace({ left: this.left, right: this.left.slice() });
    this.fits = Array.from(bars.label, (text, i) => this.right[i] - this.left[i] > text.length * 6.2 * Math.max(1, 0.84 / factor) + 12);
    for (const table of [tables.label_ahead, tables.label_past]) table.replace({ x: this.left });
    const marks = Array.from(tables.marks.c.at, x);
    tables.marks.replace({ x: marks });
    tables.mark_names.replace({ x: marks.map((at) => clamp(at, here.edges[0] + 20, here.edges[1] - 20)) });
    const ticks = here.ticks[scale].filter(([at], i, all) => !i || at - all[i - 1][0] > 55 / Math.max(factor, 0.7));
    tables.ticks.replace({ x: ticks.map(([at]) => at), text: ticks.map(([, text]) => text), alpha: ticks.map(() => 1),
      size: ticks.map(() => 10), px: ticks.map(() => `${10 * Math.max(factor, 0.84)}px`) });
    this.hot = this.answers(marks);
  }

  /** Return the places that answer when they are pointed at: rows, bars, marks. */
  answers(marks) {
    const { here, data } = this.scene, hot = { left: [], top: [], right: [], bottom: [], tip: [], step: [], row: [] };
    const add = (box, tip, step, row) => [...box, tip, step, row].forEach((value, k) => Object.values(hot)[k].push(value));
    here.rows.forEach(([top, bottom, address, size], row) => add([0, top, here.edges[0] - 4, bottom], [address, size], -1, row));
    this.left.forEach((left, i) => add([left, this.tables.ahead.c.top[i], this.right[i], this.tables.ahead.c.bottom[i]],
      data.tips[i], -1, this.bars.row[i]));
    marks.forEach((x, i) => add([x - 5, here.top - 10, x + 5, here.rows.at(-1)[1]], here.marks.tip[i], here.marks.at[i], -1));
    return hot;
  }

  /** Put the cursor where time was pressed, and choose the row. */
  press(event) {
    const { scene } = this, [x, y] = scene.place(event), [left, right] = scene.here.edges;
    if (x < left - 4 || x > right + 8) return;
    const near = (best, at) => (Math.abs(this.place[at] - x) < Math.abs(this.place[best] - x) ? at : best);
    const row = scene.here.rows.findIndex(([top, bottom]) => top <= y && y <= bottom);
    scene.seek(this.place.map((_, at) => at).reduce(near, 0), row < 0 ? scene.row : row);
  }

  draw(at, row) {
    const { scene, tables } = this, { here, data } = scene;
    if (this.laid !== `${scene.scale} ${scene.factor}`) this.rescale();
    const x = this.place[at];
    tables.past.fill("right", (i) => Math.max(this.left[i], Math.min(x, this.right[i])));
    tables.past.fill("alpha", (i) => (this.bars.begin[i] > at ? 0 : this.bars.end[i] <= at ? 0.62 : 1));
    tables.label_ahead.fill("alpha", (i) => (this.fits[i] && this.bars.begin[i] > at ? 1 : 0));
    tables.label_past.fill("alpha", (i) => (this.fits[i] && this.bars.begin[i] <= at ? 1 : 0));
    const hatched = tables.past.c.hatch; // a plain bar needs nothing behind its name
    tables.label_past.fill("cover", (i) => (hatched[i] !== " " && tables.label_past.c.alpha[i] ? 1 : 0));
    tables.marks.fill("alpha", (i) => (tables.marks.c.at[i] <= at ? 1 : 0.35));
    tables.mark_names.fill("alpha", (i) => (tables.marks.c.at[i] <= at ? 1 : 0.55));
    const [top, bottom] = here.rows[row];
    tables.chosen.replace({ left: [2], right: [here.width - 2], top: [top], bottom: [bottom] });
    const told = data.who.map((who) => who.at.findLastIndex((from) => from <= at));
    tables.counts.fill("text", (i) => data.who[Math.floor(i / 3)].counts[told[Math.floor(i / 3)]]?.[i % 3] ?? "");
    tables.cursor.replace({ x: [x], text: [time(data.t[at])] });
    tables.ticks.fill("alpha", (i) => (Math.abs(tables.ticks.c.x[i] - x) < 20 ? 0 : 1));
    for (const table of Object.values(tables)) table.flush();
    this.say(data.who[row], told[row]);
    this.spell(data.wrong.findLast((wrong) => wrong.at <= at));
  }

  say(who, k) {
    const line = this.scene.$("who");
    line.hidden = false;
    line.setAttribute("aria-live", this.scene.playing ? "off" : "polite");
    line.style.setProperty("--key", this.scene.palette[who.hue[k] >= 0 ? `hue${who.hue[k]}` : "hair"]);
    if (line.textContent !== who.text[k]) line.textContent = who.text[k];
  }

  /** Spell out the bytes that should be there and those that are; what differs is marked. */
  spell(wrong) {
    const block = this.scene.$("bytes");
    block.hidden = !wrong;
    if (!wrong || block.dataset.at === `${wrong.at}`) return;
    block.dataset.at = wrong.at;
    const line = (name, hex, other) => {
      const label = document.createElement("span"), code = document.createElement("code");
      label.textContent = name;
      const bytes = (text) => text.replace(/\s/g, "").match(/..?/g) ?? [], there = bytes(other);
      bytes(hex).forEach((byte, i) => {
        const piece = byte === there[i] ? document.createTextNode(byte) : document.createElement("mark");
        piece.textContent = byte;
        code.append(...(i ? [" ", piece] : [piece]));
      });
      return [label, code];
    };
    const head = document.createElement("span");
    head.style.gridColumn = "1 / -1";
    head.textContent = wrong.text;
    block.replaceChildren(head, ...line("should be", wrong.expected, wrong.found), ...line("is", wrong.found, wrong.expected));
  }
}
