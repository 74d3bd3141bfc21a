// The notebook's host: asks the kernel for BokehJS once per page, then shows whatever picture the model holds.

/** Load BokehJS from the kernel, as one binary message; two widgets on a page share it. */
function bokeh(model) {
  if (window.Bokeh?.version) return Promise.resolve();
  window.labkitBokeh ??= new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the kernel does not answer")), 30000);
    const arrived = (message, buffers) => {
      if (message.type !== "bokeh") return;
      clearTimeout(timer);
      model.off("msg:custom", arrived);
      const script = document.createElement("script");
      script.textContent = new TextDecoder().decode(buffers[0]);
      document.head.append(script);
      window.Bokeh ? resolve() : reject(new Error("BokehJS does not run here"));
    };
    model.on("msg:custom", arrived);
    model.send({ type: "bokeh" });
  });
  return window.labkitBokeh;
}

/** Return whether the page is dark: as JupyterLab says, else as the reader's system prefers. */
function isDark(theme) {
  const lab = document.body.dataset.jpThemeLight;
  if (theme !== "auto") return theme === "dark";
  return lab === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : lab === "false";
}

/** Keep JupyterLab from taking keys, or 'b' would insert a cell: it asks the focused element first, so each must say so. */
function keepKeys(el) {
  for (const control of [el, ...el.querySelectorAll("button, input, select, summary, [tabindex]")]) {
    control.dataset.lmSuppressShortcuts = "true";
  }
}

async function render({ model, el }) {
  let shown = "";
  const draw = async () => {
    try {
      await bokeh(model);
      shown = isDark(model.get("theme"));
      await show(el, model.get("item"), shown, (values) => {
        for (const [name, value] of Object.entries(values)) model.set(name, value);
        model.save_changes();
      });
      keepKeys(el);
      el.dataset.ready = "";
    } catch (error) {
      window.labkitBokeh = undefined;
      el.textContent = `The picture cannot be drawn: BokehJS did not load (${error.message}). Run the cell again.`;
    }
  };
  model.on("change:item", draw);
  const watch = new MutationObserver(() => isDark(model.get("theme")) === shown || draw());
  watch.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  await draw();
  return () => {
    watch.disconnect();
    el.firstElementChild?.leave?.();
    model.off("change:item", draw);
  };
}

export default { render };
