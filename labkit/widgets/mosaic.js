// Physical memory as an image, painted once: a tile for each pageblock, a cell for each frame.

const KINDS = ["free", "anon", "file", "slab", "pagetable", "nopage"];
const OPEN_RIGHT = 8, OPEN_DOWN = 16; // no gap to the neighbour: both belong to one block
const COLUMNS = 32;

/** Return the picture of `map` (cell, tiles of [left, top], codes) as a data URL, `zoom` device pixels to a pixel. */
function mosaic(map, palette, width, height, zoom) {
  const canvas = document.createElement("canvas");
  canvas.width = width * zoom;
  canvas.height = height * zoom;
  const ctx = canvas.getContext("2d");
  const cell = map.cell * zoom, gap = map.cell >= 2 ? Math.max(1, Math.round(cell / 8)) : 0;
  map.tiles.forEach(([left, top], tile) => {
    for (let i = 0; i < 512; i++) {
      const code = map.codes.charCodeAt(tile * 512 + i) - 64;
      const x = Math.round(left * zoom + (i % COLUMNS) * cell), y = Math.round(top * zoom + Math.floor(i / COLUMNS) * cell);
      const w = code & OPEN_RIGHT ? cell : cell - gap, h = code & OPEN_DOWN ? cell : cell - gap;
      ctx.fillStyle = palette[KINDS[code & 7]];
      ctx.fillRect(x, y, w, h);
      if (cell >= 8) texture(ctx, code & 7, i, x, y, w, h, palette);
    }
  });
  return canvas.toDataURL();
}

/** Say the kind a second time, without colour: page cache has a stroke, slab a dot, page tables a bar. */
function texture(ctx, kind, i, x, y, w, h, palette) {
  const px = (a, b, c, d) => ctx.fillRect(Math.round(x + a * w), Math.round(y + b * h), c, d);
  ctx.fillStyle = palette.mark;
  ctx.globalAlpha = 0.42;
  const s = Math.max(1, Math.round(w / 10));
  if (kind === 2) for (let k = 3; k < 7; k++) px(k / 10, 1 - k / 10, s, s);
  if (kind === 3) px(0.42, 0.42, 2 * s, 2 * s);
  if (kind === 4) px(0.25, 0.45, w / 2, s);
  if (kind === 5) for (let k = 0; k < 10; k++) px(k / 10, 1 - k / 10, s, s);
  ctx.globalAlpha = 1;
}
