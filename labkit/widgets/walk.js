// The walk: an address in bits, an entry in each table, and as much of pages, frames and phyrs as is found by now.

const TABLES = ["fields", "binary", "index", "fans", "tables", "visited", "slots", "slot_text", "entry_text", "chips", "chip_on",
  "chip_off", "pages", "frames", "phyrs", "found", "told", "gauges", "gauge_text", "names", "names_ahead"];

class Act {
  constructor(scene) {
    this.scene = scene;
    this.tables = Object.fromEntries(TABLES.map((name) => [name, new Table(scene.doc, name)]));
  }

  draw(at) {
    const { data, palette } = this.scene;
    this.colour = palette[`hue${data.hue[at]}`];
    this.address(at);
    this.levels(at);
    this.bits(at);
    this.flow(at);
    this.counters(at);
    for (const table of Object.values(this.tables)) table.flush();
  }

  /** Write the address: what is below a leaf belongs to the offset in it. */
  address(at) {
    const { index, offset, word } = this.scene.data, depth = word[at].length;
    const parts = [...index[at], offset[at]];
    this.tables.binary.fill("text", (i) => parts[i].toString(2).padStart(i < 4 ? 9 : 12, "0"));
    this.tables.index.fill("text", (i) => (i < depth ? `${parts[i]}` : i === 4 ? `+0x${parts[i].toString(16)}` : "in the leaf"));
    this.tables.fields.fill("hatch", (i) => (i < depth ? " " : "right_diagonal_line"));
  }

  /** Mark the entry in each table, what of the table was read so far, and lead from the entry to the table it names. */
  levels(at) {
    const { data, here, palette } = this.scene, { tables } = this, depth = data.word[at].length, places = here.tables;
    const y = (i, slot) => places[i][2] + ((places[i][3] - places[i][2]) * slot) / 512;
    const slot = data.index[at].map((n, i) => Math.min(y(i, n), places[i][3] - 3));
    const first = data.index[at].map((n, i) => y(i, data.index[this.since(at, i)][i]));
    tables.tables.fill("alpha", (i) => (i < depth ? 1 : 0.25));
    tables.slots.replace({ left: places.map((t) => t[0] - 3), right: places.map((t) => t[1] + 3), top: slot, bottom: slot.map((v) => v + 4),
      alpha: places.map((_, i) => (i < depth ? 1 : 0)), color: places.map((_, i) => (i < depth - 1 ? palette.grey : this.colour)) });
    tables.visited.replace({ left: places.map((t) => t[0]), right: places.map((t) => t[1]), top: first, bottom: slot.map((v) => v + 2),
      alpha: places.map((_, i) => (i < depth ? 0.35 : 0)), color: places.map((_, i) => (i < depth - 1 ? palette.grey : this.colour)) });
    const fan = (i) => (i + 1 < depth ? { xs: [places[i][1] + 3, places[i + 1][0], places[i + 1][0], places[i][1] + 3],
      ys: [slot[i], places[i + 1][2], places[i + 1][3], slot[i] + 4] } : { xs: [], ys: [] });
    const fans = places.map((_, i) => fan(i));
    tables.fans.replace({ xs: fans.map((f) => f.xs), ys: fans.map((f) => f.ys) });
    tables.slot_text.replace({ x: places.map((t) => t[0] + 4), y: slot.map((v, i) => (v - places[i][2] > 18 ? v - 9 : v + 15)),
      text: places.map((_, i) => (i < depth ? `[${data.index[at][i]}]` : "")) });
    const small = ["512 GiB", "1 GiB", "2 MiB", "4 KiB"];
    tables.entry_text.replace({ x: places.flatMap((t) => [t[0], t[0]]), y: places.flatMap((t) => [t[2] - 14, t[3] + 15]),
      text: places.flatMap((_, i) => [i < depth ? `an entry: ${small[i]}` : "not needed", i < depth ? data.word[at][i] || "not recorded" : ""]) });
  }

  /** Return the first step from which on the walk has been in the same table of level `i`. */
  since(at, i) {
    const { index } = this.scene.data;
    let first = at;
    while (first > 0 && index[at].slice(0, i).every((n, k) => index[first - 1][k] === n)) first--;
    return first;
  }

  bits(at) {
    const set = this.scene.data.bits[at];
    this.tables.chips.fill("alpha", (i) => (set[i] ? 1 : 0));
    this.tables.chip_on.fill("alpha", (i) => (set[i] ? 1 : 0));
    this.tables.chip_off.fill("alpha", (i) => (set[i] ? 0 : 1));
  }

  flow(at) {
    const { data } = this.scene;
    for (const name of ["pages", "frames", "phyrs"]) {
      const { c } = this.tables[name];
      const share = (i) => (c.t2[i] <= at ? 1 : c.t1[i] <= at ? data.done[at] : 0);
      this.tables[name].fill("bottom", (i) => c.top[i] + (c.whole[i] - c.top[i]) * share(i));
      this.tables[name].fill("alpha", (i) => (share(i) > 0 ? 1 : 0));
    }
    const half = (i) => this.tables.names.c.t4[i] <= at || (this.tables.names.c.unit[i] === data.phyr[at] && data.done[at] > 0.5);
    this.tables.names.fill("alpha", (i) => (half(i) ? 1 : 0));
    this.tables.names_ahead.fill("alpha", (i) => (half(i) ? 0 : 1));
    for (const name of ["found", "told"]) {
      const { c } = this.tables[name];
      this.tables[name].fill("alpha", (i) => (data.phyr[at] === c.unit[i] ? 0.62 : c.t1[i] <= at ? 0.34 : 0.07));
    }
  }

  counters(at) {
    const { data, here } = this.scene, { values, most, stopped } = data.counted;
    const share = (i) => values[i][at] / most[i >> 1];
    this.tables.gauges.fill("right", (i) => here.gauges[i][0] + (here.gauges[i][1] - here.gauges[i][0]) * share(i));
    const text = (i) => (i % 2 === 0 && i > 0 && stopped[at] >= 0 ? "−EFAULT" : values[i][at].toLocaleString("en"));
    this.tables.gauge_text.fill("text", text);
  }
}
