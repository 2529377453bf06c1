"use strict";
(() => {
  const rows = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const openable = rows.map((_, i) => i).filter((i) => rows[i].pictures.length > 1);
  let current = -1;

  function open(index, reveal) {
    current = index;
    const { name, pictures } = rows[index];
    document.querySelector("#rows tr.current")?.classList.remove("current");
    document.querySelector(`#rows [data-open="${index}"]`)?.closest("tr").classList.add("current");
    viewer.show(name, `${openable.indexOf(index) + 1} of ${openable.length}`, pictures);
    links(pictures);
    if (reveal) {
      const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
      byId("viewer").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "start" });
      viewer.focus();
    }
  }

  // To the files themselves, where they lie as they did when the page was made.
  function links(pictures) {
    const found = pictures.filter(({ file }) => file !== null).map(({ label, file }) => {
      const link = document.createElement("a");
      link.href = file;
      link.target = "_blank";
      link.rel = "noopener";
      link.textContent = label;
      return link;
    });
    byId("files").replaceChildren(...(found.length ? ["Files: ", ...found] : []));
  }

  function turn(step) {
    const place = openable.indexOf(current) + step;
    open(openable[(place + openable.length) % openable.length], false);
  }

  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));

  // Arrow keys belong to whatever has the focus, if it makes something of them.
  const OWN_KEYS = "input, select, textarea, [role=slider], #scroller, .wide";
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && event.target.closest("[role=slider]")) event.target.blur();
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const modified = event.altKey || event.ctrlKey || event.metaKey || event.shiftKey;
    if (!step || modified || openable.length < 2 || event.target.closest(OWN_KEYS)) return;
    event.preventDefault();
    turn(step);
  });

  // ---- the tables: they show on which side there is more of them

  for (const sides of document.querySelectorAll(".sides")) {
    const wide = sides.firstElementChild;
    const look = () => {
      const left = wide.scrollWidth - wide.clientWidth - wide.scrollLeft;
      sides.classList.toggle("more-left", wide.scrollLeft > 1);
      sides.classList.toggle("more-right", left > 1);
    };
    wide.addEventListener("scroll", look, { passive: true });
    new ResizeObserver(look).observe(wide);
  }


  const body = document.querySelector("#rows tbody");
  const text = new Intl.Collator(undefined, { numeric: true });

  function sort(button) {
    const head = button.closest("th");
    const column = [...head.parentElement.children].indexOf(head);
    const up = head.getAttribute("aria-sort") !== "ascending";
    const numeric = button.dataset.kind === "number";
    const keyed = [...body.rows].map((row) => ({ row, key: row.cells[column].dataset.sort }));
    const value = (key) => (key === "inf" ? Infinity : key === "-inf" ? -Infinity : Number(key));
    keyed.sort((a, b) => {
      if (a.key === "" || b.key === "") return (a.key === "") - (b.key === ""); // empty ones last
      const [x, y] = [value(a.key), value(b.key)];
      const order = numeric ? (x < y ? -1 : x > y ? 1 : 0) : text.compare(a.key, b.key);
      return up ? order : -order;
    });
    body.append(...keyed.map(({ row }) => row));
    for (const other of head.parentElement.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    byId("sorted").textContent = `Sorted by ${button.innerText}, ${up ? "ascending" : "descending"}`;
  }

  for (const button of document.querySelectorAll("#rows thead button")) {
    button.addEventListener("click", () => sort(button));
  }
  document.addEventListener("click", (event) => {
    const index = event.target.closest("[data-open]")?.dataset.open;
    if (index !== undefined && openable.includes(Number(index))) open(Number(index), true);
  });

  // ---- thumbnails, when they come near the window

  function fill(image) {
    const { thumbnail } = rows[Number(image.dataset.thumbnail)];
    if (thumbnail) image.src = thumbnail;
  }

  const waiting = document.querySelectorAll("img[data-thumbnail]");
  const near = new IntersectionObserver(
    (entries) => {
      for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        near.unobserve(target);
        fill(target);
      }
    },
    { rootMargin: "400px" },
  );
  for (const image of waiting) near.observe(image);
  addEventListener("beforeprint", () => waiting.forEach(fill));

  if (openable.length) {
    byId("viewer").hidden = false;
    open(openable[0], false);
  }
})();
