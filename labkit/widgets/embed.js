// A picture comes into an element: HTML around, Bokeh inside, the player at work.

/** Return the document in the palette that is wanted: it is written in light colours, each has its dark partner. */
function themed(item, palettes, dark) {
  if (!dark) return item;
  const pairs = Object.entries(palettes.light).map(([role, colour]) => [colour, palettes.dark[role]]);
  const partner = Object.fromEntries(pairs);
  return JSON.parse(JSON.stringify(item).replace(/#[0-9A-F]{6}/g, (colour) => partner[colour] ?? colour));
}

/** Return a function that calls `send(values)` once nothing new has come for 150 ms, or at once if told so. */
function debounced(send) {
  let waiting = {}, timer = 0;
  const flush = () => {
    clearTimeout(timer);
    send(waiting);
    waiting = {};
  };
  return (values, now) => {
    Object.assign(waiting, values);
    clearTimeout(timer);
    if (now) flush();
    else timer = setTimeout(flush, 150);
  };
}

/** Show `picture` in `el`, dark or light. `heard` is told of the cursor (t, ns) and of the selection. */
async function show(el, picture, dark, heard = () => {}) {
  const palette = picture.palettes[dark ? "dark" : "light"];
  const root = document.createElement("div");
  root.className = "labkit";
  for (const [role, colour] of Object.entries(palette)) root.style.setProperty(`--${role}`, colour);
  root.innerHTML = picture.html; // written by labkit, every string of the trace escaped there
  const before = el.firstElementChild?.labkit;
  el.firstElementChild?.leave?.();
  el.replaceChildren(root);
  const { data } = picture;
  if (data.t.length) await perform(root, picture, palette, dark, heard);
  if (before?.data === data) root.labkit.seek(before.u); // the same picture in another theme stays where it was
  root.dataset.ready = "";
  return root;
}

/** Embed the document, paint the map, and start the player; `root.leave()` undoes it. */
async function perform(root, picture, palette, dark, heard) {
  const { data } = picture, slot = root.querySelector("[data-stage]");
  const views = await Bokeh.embed.embed_item(themed(picture.item, picture.palettes, dark), slot);
  const [view] = views.roots ?? [...views], doc = view.model.document;
  const stage = new Stage(doc, data);
  const paper = doc.get_model_by_name("mosaic");
  paper.data = { url: [mosaic(data.map, palette, data.width, data.height, 2)] };
  stage.rescale("events", 1);
  const player = new Player(root, stage, data, debounced(heard));
  const [memory, lanes] = view.child_views;
  const fit = () => {
    player.factor = memory.el.getBoundingClientRect().width / data.width || 1;
    stage.resize(player.factor);
    player.show();
  };
  const watch = new ResizeObserver(fit);
  watch.observe(memory.el);
  fit();
  point(player, memory.el, lanes.el, data);
  root.labkit = player;
  root.leave = () => {
    player.playing = false;
    watch.disconnect();
    views.clear();
    Bokeh.documents.splice(Bokeh.documents.indexOf(doc), 1);
  };
}

/** Pointing lights up, a click keeps the light on; a press on the lanes puts the cursor there. */
function point(player, memory, lanes, data) {
  const place = (el, event) => {
    const box = el.getBoundingClientRect(), factor = data.width / box.width;
    return [(event.clientX - box.left) * factor, (event.clientY - box.top) * factor];
  };
  const same = (a, b) => a === b || (a && b && a[0] === b[0] && a[1] === b[1]);
  memory.addEventListener("pointermove", (event) => {
    const units = player.stage.pick(...place(memory, event));
    if (!same(units ?? player.picked, player.lit)) player.light(units, false);
  });
  memory.addEventListener("pointerleave", () => player.lit === player.picked || player.light(null, false));
  memory.addEventListener("click", (event) => player.light(player.stage.pick(...place(memory, event)), true));
  const scrub = (event) => event.buttons && player.seek(player.stage.index(place(lanes, event)[0]));
  for (const name of ["pointerdown", "pointermove"]) lanes.addEventListener(name, scrub);
}
