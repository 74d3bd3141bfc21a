// Physical memory: each step brings out a part of the map, a zone, or an order in both states.

class Act {
  constructor(scene) {
    this.scene = scene;
    this.focus = new Table(scene.doc, "focus");
  }

  draw(at) {
    const boxes = this.scene.here.focus[at];
    const [left, top, right, bottom] = [0, 1, 2, 3].map((k) => boxes.map((box) => box[k]));
    this.focus.replace({ left, top, right, bottom });
    this.focus.flush();
  }
}
