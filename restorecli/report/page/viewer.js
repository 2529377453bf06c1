"use strict";
// The picture that is compared: slider, difference and zoom. The page says which one, by `show`.
const viewer = (() => {
  const byId = (id) => document.getElementById(id);
  const [stage, scroller, frame, divider] = ["stage", "scroller", "frame", "divider"].map(byId);
  const images = { left: byId("img-left"), right: byId("img-right") };
  const choices = { left: byId("left"), right: byId("right") };
  const state = { name: "", pictures: [], cut: 50, zoom: 0, view: "slider", touched: 0 };
  const TALLEST = 0.74; // of the window, in the fitted view
  const LARGEST_FIT = 3; // small pictures are enlarged at most this much

  // Pictures are {label, scores, src, reduced}; what was chosen left and right stays, by its label,
  // unless the page wants a certain one on the right. One picture alone is shown without the line.
  function show(name, position, pictures, wanted) {
    const kept = ["left", "right"].map((side) => choices[side].selectedOptions[0]?.text);
    if (wanted !== undefined) kept[1] = wanted;
    if (kept[0] === kept[1]) kept.fill(undefined);
    for (const [i, side] of ["left", "right"].entries()) {
      choices[side].replaceChildren(...pictures.map((p, j) => new Option(p.label, j)));
      const same = pictures.findIndex((p) => p.label === kept[i]);
      choices[side].value = same < 0 ? Math.min(i, pictures.length - 1) : same;
    }
    byId("viewer").classList.toggle("alone", pictures.length < 2);
    Object.assign(state, { name, pictures });
    byId("viewer-name").textContent = name;
    byId("position").textContent = position;
    draw();
  }

  function chosen(side) {
    return state.pictures[Number(choices[side].value)];
  }

  function draw() {
    byId("trouble").textContent = "";
    for (const side of ["left", "right"]) {
      const picture = chosen(side);
      const image = images[side];
      image.alt = `${picture.label}: ${state.name}`;
      byId(`caption-${side}`).textContent =
        picture.label + (picture.scores ? ` · ${picture.scores}` : "");
      if (picture.src === null) {
        image.removeAttribute("src");
        trouble(picture);
      } else if (image.getAttribute("src") !== picture.src) {
        image.src = picture.src;
      }
    }
    if (chosen("left").reduced || chosen("right").reduced) {
      say("A reduced copy: browsers cannot show this file format.");
    }
    layout();
    viewer.changed();
  }

  function say(text) {
    byId("trouble").textContent = text;
  }

  function trouble(picture) {
    say(picture.why ?? `${picture.label}: this picture cannot be shown. Was it moved?`);
  }

  // ---- size, line and views

  function layout() {
    const { left, right } = images;
    const width = left.naturalWidth || right.naturalWidth || 3;
    const height = left.naturalHeight || right.naturalHeight || 2;
    const room = { width: stage.clientWidth, height: Math.max(220, viewer.tallest()) };
    const fit = Math.min(room.width / width, room.height / height, LARGEST_FIT);
    const scale = state.zoom ? state.zoom / devicePixelRatio : fit;
    frame.style.width = `${width * scale}px`;
    frame.style.height = `${height * scale}px`;
    stage.style.height = `${Math.min(room.height, height * scale)}px`;
    stage.classList.toggle("fit", !state.zoom);
    stage.classList.toggle("zoomed", Boolean(state.zoom));
    stage.classList.toggle("pixels", state.zoom > 1);
    stage.classList.toggle("difference", state.view === "difference");
    byId("gain-label").hidden = state.view !== "difference";
    const gain = byId("gain").value;
    stage.style.setProperty("--gain", gain);
    byId("gain-value").textContent = `×${gain}`;
    byId("tag-left").textContent =
      state.view === "difference" ? `Difference ×${gain}, black is equal` : chosen("left").label;
    byId("tag-right").textContent = chosen("right").label;
    const [a, b] = [left, right];
    if (a.naturalWidth && b.naturalWidth && (a.naturalWidth !== b.naturalWidth || a.naturalHeight !== b.naturalHeight)) {
      say(`The sizes differ: ${a.naturalWidth}×${a.naturalHeight} and ${b.naturalWidth}×${b.naturalHeight}; the right one is stretched.`);
    }
    cut(state.cut);
  }

  // The line stays where it is on screen while the picture moves below it. In the fitted view its
  // way is the picture's width, zoomed in it is the stage's.
  function track() {
    const outer = stage.getBoundingClientRect();
    const inner = frame.getBoundingClientRect();
    const start = Math.max(outer.left, inner.left);
    const end = Math.min(outer.right, inner.right);
    return { start, length: Math.max(1, end - start), outer, inner };
  }

  function cut(percent) {
    state.cut = Math.min(100, Math.max(0, percent));
    const { start, length, outer, inner } = track();
    const x = start + (length * state.cut) / 100;
    divider.style.left = `${x - outer.left}px`;
    images.right.style.clipPath = `inset(0 0 0 ${x - inner.left}px)`;
    const shown = Math.round(state.cut);
    divider.setAttribute("aria-valuenow", shown);
    divider.setAttribute(
      "aria-valuetext",
      `${shown} % ${chosen("left").label}, ${100 - shown} % ${chosen("right").label}`,
    );
  }

  function cutAt(clientX) {
    state.touched += 1;
    const { start, length } = track();
    cut(((clientX - start) / length) * 100);
  }

  const KEYS = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
  divider.addEventListener("keydown", (event) => {
    state.touched += 1;
    if (event.key === "Home") cut(0);
    else if (event.key === "End") cut(100);
    else if (event.key in KEYS) cut(state.cut + KEYS[event.key] * (event.shiftKey ? 10 : 1));
    else return;
    event.preventDefault();
  });

  function drag(element, begin, move) {
    let origin = null;
    element.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      origin = begin(event);
      if (origin !== null) element.setPointerCapture(event.pointerId);
    });
    element.addEventListener("pointermove", (event) => {
      if (origin !== null) move(event, origin);
    });
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, () => { origin = null; });
    }
  }

  drag(divider, () => true, (event) => cutAt(event.clientX));
  drag(
    scroller,
    (event) => {
      if (!state.zoom) {
        if (state.view === "slider") cutAt(event.clientX);
        return true;
      }
      if (event.pointerType === "touch") return null; // the browser scrolls
      event.preventDefault();
      return { x: event.clientX + scroller.scrollLeft, y: event.clientY + scroller.scrollTop };
    },
    (event, origin) => {
      if (!state.zoom) {
        if (state.view === "slider") cutAt(event.clientX);
      } else {
        scroller.scrollLeft = origin.x - event.clientX;
        scroller.scrollTop = origin.y - event.clientY;
      }
    },
  );
  scroller.addEventListener("scroll", () => cut(state.cut), { passive: true });

  function zoom(value) {
    const { scrollLeft, scrollTop, scrollWidth, scrollHeight, clientWidth, clientHeight } = scroller;
    const middle = [(scrollLeft + clientWidth / 2) / scrollWidth, (scrollTop + clientHeight / 2) / scrollHeight];
    state.zoom = value;
    layout();
    scroller.scrollLeft = middle[0] * scroller.scrollWidth - scroller.clientWidth / 2;
    scroller.scrollTop = middle[1] * scroller.scrollHeight - scroller.clientHeight / 2;
    cut(state.cut);
  }

  for (const radio of document.querySelectorAll("input[name=zoom]")) {
    radio.addEventListener("change", () => zoom(Number(radio.value)));
  }
  for (const radio of document.querySelectorAll("input[name=view]")) {
    radio.addEventListener("change", () => { state.view = radio.value; draw(); });
  }
  byId("gain").addEventListener("input", layout);
  for (const side of ["left", "right"]) {
    choices[side].addEventListener("change", draw);
    images[side].addEventListener("load", layout);
    images[side].addEventListener("error", () => trouble(chosen(side)));
  }
  new ResizeObserver(() => { if (state.pictures.length) layout(); }).observe(byId("viewer"));

  // The line comes in from the right: what was done is seen at once.
  function sweep() {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
    const start = performance.now();
    const touched = state.touched;
    const step = (now) => {
      const done = Math.min(1, (now - start) / 1100);
      if (state.touched !== touched) return;
      cut(100 - 50 * (1 - (1 - done) ** 3));
      if (done < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  return {
    show,
    sweep,
    focus: () => divider.focus({ preventScroll: true }),
    chosen: () => ({ left: chosen("left"), right: chosen("right"), view: state.view }),
    blend: (share) => { images.right.style.opacity = share; },
    changed: () => {},
    tallest: () => innerHeight * TALLEST, // pixels that the picture may have
  };
})();
