// Boxes, bands and words that come and go: each knows from which step it is there, and from which it is past.

class Act {
  constructor(scene) {
    this.tables = ["shapes", "bands", "words", "plates"].map((name) => new Table(scene.doc, name));
  }

  draw(at) {
    for (const table of this.tables) {
      const { t1, t4, ahead, now, past } = table.c;
      table.fill("alpha", (i) => (at < t1[i] ? ahead[i] : at < t4[i] ? now[i] : past[i]));
      if (table.c.soft) table.fill("soft", (i) => table.c.alpha[i] / 2); // the hatch, half as strong
      table.flush();
    }
  }
}
