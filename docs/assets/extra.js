// a name that the theme leaves out
document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
// what scrolls can be reached with the keyboard; the theme wraps its tables when the page has loaded
const reach = (boxes) => { for (const box of document.querySelectorAll(boxes)) box.tabIndex = 0; };
reach(".md-typeset p:has(> img[src$='.svg'])");
addEventListener("load", () => setTimeout(() => reach(".md-typeset__scrollwrap"), 100));
