(() => {
  // meanings: shown beside the word on pointing, tapping and focus; Escape puts them away
  const bubble = document.createElement("div");
  bubble.id = "tip";
  bubble.setAttribute("role", "tooltip");
  bubble.hidden = true;
  document.body.append(bubble);
  let at = null;
  const hide = () => {
    at?.removeAttribute("aria-describedby");
    at = null;
    bubble.hidden = true;
  };
  const show = (word) => {
    if (word.title) {
      word.dataset.tip = word.title;
      word.removeAttribute("title");
    }
    at = word;
    bubble.textContent = word.dataset.tip;
    bubble.hidden = false;
    word.setAttribute("aria-describedby", "tip");
    const place = word.getBoundingClientRect();
    const left = Math.min(place.left, innerWidth - bubble.offsetWidth - 8);
    const below = place.bottom + 6;
    const top = below + bubble.offsetHeight > innerHeight ? place.top - bubble.offsetHeight - 6 : below;
    bubble.style.left = `${Math.max(8, left)}px`;
    bubble.style.top = `${Math.max(8, top)}px`;
  };
  for (const kind of ["pointerover", "focusin", "click"]) {
    document.addEventListener(kind, (event) => {
      const word = event.target.closest?.(".tip");
      if (word) show(word);
      else if (kind !== "focusin" && !bubble.contains(event.target)) hide();
    });
  }
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
  addEventListener("scroll", hide, { passive: true, capture: true });
  // what is wider than the screen says so
  const looked = new ResizeObserver((entries) => {
    for (const { target } of entries) target.classList.toggle("wide", target.scrollWidth > target.clientWidth + 4);
  });
  for (const part of document.querySelectorAll(".scroll")) looked.observe(part);
  // a link to something folded unfolds it; some parts are unfolded for print
  const unfold = () => {
    const id = decodeURIComponent(location.hash.slice(1));
    for (let part = id && document.getElementById(id); part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
