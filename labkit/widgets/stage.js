// What stands on the page at one instant. Time is the index of a record, with a fraction between two of them.

/** Columns by name, and writing into them so that Bokeh repaints only what changed. */
class Table {
  constructor(doc, name) {
    this.source = doc.get_model_by_name(name);
    this.c = this.source.data;
    this.dirty = false;
  }

  get length() {
    return this.source.get_length() ?? 0;
  }

  /** Set a column to what `value(i)` says. */
  fill(column, value) {
    const old = this.c[column], n = this.length;
    const out = Array.isArray(old) ? old : Array.from(old);
    for (let i = 0; i < n; i++) {
      const next = value(i);
      if (next !== out[i]) {
        out[i] = next;
        this.dirty = true;
      }
    }
    this.c[column] = out;
  }

  replace(columns) {
    Object.assign(this.c, columns);
    this.dirty = true;
  }

  flush() {
    if (this.dirty) this.source.change.emit();
    this.dirty = false;
  }
}

/** Return whether shape `i` belongs to the units `lit`, or nothing is pointed at. */
const out = (c, i, lit) => lit === null || (c.unit[i] <= lit[1] && lit[0] <= c.upto[i]);
const DOTS = 500; // no more of them on the page, or nearly so
const ease = (s) => s * s * s * (s * (6 * s - 15) + 10);
const clamp = (x, lo, hi) => Math.max(lo, Math.min(hi, x));

class Stage {
  constructor(doc, data) {
    this.data = data;
    this.scale = "events";
    const names = [...Object.keys(data.fade), "labels", "pins", "filled", "dots", "ahead", "past", "label_ahead", "label_past",
      "cursor", "ticks", "inspector"];
    this.tables = Object.fromEntries(names.map((name) => [name, new Table(doc, name)]));
    this.sized = doc.all_models ? [...doc.all_models].filter((m) => m.data?.px && m.data?.size) : [];
  }

  /** Show record `u`, with units `lit` = [first, last] brought out, or null. */
  draw(u, lit) {
    for (const [name, table] of Object.entries(this.data.fade)) this.fade(this.tables[name], table, u, lit);
    for (const name of ["labels", "pins"]) {
      const { c } = this.tables[name];
      this.tables[name].fill("alpha", (i) => (c.t1[i] <= u && u < c.t4[i] && out(c, i, lit) ? 1 : 0));
    }
    this.progress(u);
    this.travel(u);
    this.lanes(u, lit);
    for (const table of Object.values(this.tables)) table.flush();
  }

  fade(table, alphas, u, lit) {
    const { c } = table;
    const state = (i) => (u >= c.t4[i] ? 4 : u >= c.t3[i] ? 3 : u >= c.t2[i] ? 2 : u >= c.t1[i] ? 1 : 0);
    const weight = (i) => (lit === null || c.unit[i] < 0 ? 1 : out(c, i, lit) ? 2 : 0.4);
    table.fill("alpha", (i) => Math.min(1, alphas[state(i)] * weight(i)));
    table.fill("edge", (i) => (state(i) % 4 ? 1 : 0));
  }

  /** Fill the blocks of a request as its bytes move. */
  progress(u) {
    const { c } = this.tables.filled, done = (i) => clamp((u - c.t2[i]) / (c.t3[i] - c.t2[i]), 0, 1);
    const whole = this.tables.disk.c.bottom;
    this.tables.filled.fill("bottom", (i) => c.top[i] + (whole[i] - c.top[i]) * done(i));
    this.tables.filled.fill("alpha", (i) => (u >= c.t4[i] ? 0.3 : done(i) > 0 ? 1 : 0));
  }

  /** Let dots run along the ribbons whose bytes are on their way: to memory for a read, from it for a write. */
  travel(u) {
    const { c, length } = this.tables.ribbons, xs = [], ys = [], flying = [];
    for (let i = 0; i < length; i++) if (c.leg[i] > 0 && c.t2[i] <= u && u < c.t3[i]) flying.push(i);
    for (const i of flying) {
      const rows = clamp(Math.floor((c.a1[i] - c.a0[i] + c.b1[i] - c.b0[i]) / 18), 1, 6);
      const many = clamp(Math.abs(c.x1[i] - c.x0[i]) >> 4, 1, Math.ceil(DOTS / flying.length));
      const phase = (this.data.write ? 1 : -1) * u * 2.2 + i * 0.61;
      for (let k = 0; k < many; k++) {
        for (let row = 0; row < rows; row++) {
          const s = (((k + phase + (row % 2) / 2) % many) + many) % many / many, e = ease(s), lane = (row + 0.5) / rows;
          xs.push(c.x0[i] + (c.x1[i] - c.x0[i]) * s);
          const a = c.a0[i] + (c.a1[i] - c.a0[i]) * lane, b = c.b0[i] + (c.b1[i] - c.b0[i]) * lane;
          ys.push(a + (b - a) * e);
        }
      }
    }
    if (xs.length || this.tables.dots.c.x.length) this.tables.dots.replace({ x: xs, y: ys });
  }

  lanes(u, lit) {
    const { past, cursor, ticks, label_ahead: before, label_past: after } = this.tables;
    const { c } = past, x = this.x(u), dim = (i) => (lit === null || this.whose(c.request[i], lit) ? 1 : 0.35);
    past.fill("right", (i) => Math.max(c.left[i], Math.min(x, this.right[i])));
    past.fill("alpha", (i) => (c.begin[i] <= u ? dim(i) : 0));
    before.fill("alpha", (i) => (this.fits[i] && c.begin[i] > u ? 1 : 0));
    after.fill("alpha", (i) => (this.fits[i] && c.begin[i] <= u ? 1 : 0));
    ticks.fill("alpha", (i) => (Math.abs(ticks.c.x[i] - x) < 64 ? 0 : 1));
    cursor.replace({ x: [x], text: [time(this.at(u))] });
  }

  /** Return whether request `k` belongs to the units from lit[0] to lit[1]. */
  whose(k, lit) {
    return this.data.units.slice(lit[0], lit[1] + 1).some((unit) => unit.request === k);
  }

  /** Lay the lanes out anew: `events` gives each record one step, `time` is true. */
  rescale(scale, factor) {
    this.scale = scale;
    const place = this.data.scales[scale], { ahead, past, label_ahead: before, label_past: after, ticks } = this.tables;
    const { begin, end, label, top, bottom } = ahead.c;
    const left = Array.from(begin, (at) => place[at]);
    this.right = Array.from(end, (at, i) => Math.max(place[at], left[i] + 2));
    this.fits = Array.from(label, (text, i) => bottom[i] - top[i] > 12 && this.right[i] - left[i] > text.length * 5.4 + 8);
    ahead.replace({ left, right: this.right });
    past.replace({ left, right: left.slice() });
    for (const table of [before, after]) table.replace({ x: left });
    const marks = this.data.ticks[scale];
    ticks.replace({ x: marks.map(([x]) => x), text: marks.map(([, text]) => text), size: marks.map(() => 10),
      px: marks.map(() => `${10 * factor}px`), alpha: marks.map(() => 1) });
  }

  /** Write every text `factor` times as large as on the full page. */
  resize(factor) {
    for (const source of this.sized) {
      source.data.px = Array.from(source.data.size, (size) => `${Math.round(size * Math.max(factor, 0.76) * 10) / 10}px`);
      source.change.emit();
    }
    this.rescale(this.scale, factor);
  }

  /** Return the x of record `u`, its inverse, and its time in ns. */
  x(u) {
    return mix(this.data.scales[this.scale], u);
  }

  index(x) {
    const place = this.data.scales[this.scale];
    let lo = 0, hi = place.length - 1;
    while (lo < hi) {
      const mid = (lo + hi + 1) >> 1;
      if (place[mid] <= x) lo = mid;
      else hi = mid - 1;
    }
    return lo + 1 < place.length ? lo + clamp((x - place[lo]) / (place[lo + 1] - place[lo]), 0, 0.999) : lo;
  }

  at(u) {
    return Math.round(mix(this.data.t, u));
  }

  /** Return [first, last] of the units drawn at (x, y), null for none. */
  pick(x, y) {
    for (const name of ["user", "memory", "bus", "disk"]) {
      const { c, length } = this.tables[name];
      for (let i = 0; i < length; i++) {
        if (c.left[i] <= x && x <= c.right[i] && c.top[i] <= y && y <= c.bottom[i]) return [c.unit[i], c.upto[i]];
      }
    }
    const { c, length } = this.tables.ribbons;
    for (let i = 0; i < length; i++) {
      const s = (x - c.x0[i]) / (c.x1[i] - c.x0[i]);
      if (s < 0 || s > 1) continue;
      const e = ease(s);
      if (c.a0[i] + (c.b0[i] - c.a0[i]) * e <= y && y <= c.a1[i] + (c.b1[i] - c.a1[i]) * e) return [c.unit[i], c.upto[i]];
    }
    return null;
  }

  /** Say in the inspector what the first of some units is, and how far it has come. */
  inspect([k, last], u) {
    const unit = this.data.units[k], { inspector } = this.tables, more = last > k ? ` and ${last - k} more` : "";
    const rows = unit ? [unit.title + more, `${unit.size}, ${progress(unit, u)}`, ...unit.rows.flat()] : [];
    const text = Array.from(inspector.c.text, (_, i) => rows[i] ?? "");
    if (text.some((word, i) => word !== inspector.c.text[i])) inspector.replace({ text });
    inspector.flush();
  }
}

const STATES = [["unpin", "unpinned"], ["complete", "arrived"], ["serve", "in flight"], ["issue", "with the device"],
  ["map", "mapped"], ["pin", "pinned"]];

function progress(unit, u) {
  return STATES.find(([name]) => u >= unit.times[name])?.[1] ?? "not pinned yet";
}

function mix(values, u) {
  const i = clamp(Math.floor(u), 0, values.length - 1);
  return i + 1 < values.length ? values[i] + (values[i + 1] - values[i]) * (u - i) : values[i];
}

function time(ns) {
  const [size, unit] = ns >= 1e9 ? [1e9, "s"] : ns >= 1e6 ? [1e6, "ms"] : ns >= 1e3 ? [1e3, "µs"] : [1, "ns"];
  return `${size === 1 ? ns : (ns / size).toFixed(2)} ${unit}`;
}
