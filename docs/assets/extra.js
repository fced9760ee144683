// a name that the theme leaves out
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
addEventListener("load", () => setTimeout(() => {
  for (const box of document.querySelectorAll(".md-typeset__scrollwrap")) box.tabIndex = 0;
}, 100));
