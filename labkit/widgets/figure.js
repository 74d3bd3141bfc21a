// The page of a figure: when all is drawn, the picture stands in it as the text of an SVG.

{
  const idle = () => Bokeh.documents.length > 0 && Bokeh.documents.every((doc) => doc.is_idle);
  while (!idle()) await new Promise((go) => setTimeout(go, 50));
  const view = [...Bokeh.index.roots].find((root) => root.model.type !== "Notifications");
  const text = document.createElement("pre");
  text.id = "figure";
  text.textContent = view.export("svg").ctx.get_serialized_svg(true);
  document.body.replaceChildren(text);
}
