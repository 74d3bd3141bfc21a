// The stand-alone page: the picture is in the page, and so is everything that draws it.

const picture = JSON.parse(document.getElementById("picture").textContent);
const wish = document.documentElement.dataset.theme, night = matchMedia("(prefers-color-scheme: dark)");
const draw = () => {
  const dark = wish === "auto" ? night.matches : wish === "dark";
  document.body.style.background = picture.palettes[dark ? "dark" : "light"].paper;
  return show(document.getElementById("explorer"), picture, dark);
};
if (wish === "auto") night.addEventListener("change", draw);
await draw();
