"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const choices = JSON.parse(byId("choices").textContent);
  const tasks = new Map(choices.tasks.map((task) => [task.id, task]));
  const main = byId("main");
  const BUSY_MS = 300; // between two questions to the server while something happens
  const IDLE_MS = 1200;
  const state = { version: 0, photos: [], current: null, shown: "", coming: [], sending: null };

  // ---- talking with the server

  async function ask(method, address, body) {
    const options = { method, headers: {} };
    if (body !== undefined) {
      options.headers["Content-Type"] = "application/json";
      options.body = JSON.stringify(body);
    }
    let answer;
    try {
      answer = await fetch(address, options);
    } catch {
      ended(true);
      return null;
    }
    if (!answer.ok) complain((await sentence(answer.text())) || "That did not work.");
    await look();
    return answer.ok;
  }

  async function sentence(text) {
    const words = await text;
    try {
      return JSON.parse(words).error;
    } catch {
      return words;
    }
  }

  // One short question after the other, not an open stream: browsers keep six connections to a
  // server for all tabs together, and each stream would hold one.
  let timer = 0;
  let asking = null;
  function look() {
    asking ??= question().finally(() => { asking = null; });
    return asking;
  }

  async function question() {
    clearTimeout(timer);
    try {
      const answer = await fetch(`state?since=${state.version}`);
      if (answer.status === 200) take(await answer.json());
      ended(false);
    } catch {
      ended(true);
    }
    const busy = state.coming.length || runs().some(isOpen);
    timer = setTimeout(look, busy && !document.hidden ? BUSY_MS : IDLE_MS);
  }

  function ended(is) {
    byId("gone").hidden = !is;
  }

  // ---- photographs on their way

  function wish() {
    const task = document.querySelector("input[name=task]:checked").value;
    if (!tasks.get(task).models.length) return { task, model: "", then: "", strength: 1 };
    return {
      task,
      model: byId("model").value,
      then: byId("then").value,
      strength: Number(byId("strength").value) / 100,
    };
  }

  function add(files) {
    const wanted = wish();
    for (const file of files) {
      if (file.size > choices.fileBytes) {
        complain(`${file.name} has ${mega(file.size)}; the limit is ${mega(choices.fileBytes)}.`);
      } else if (state.photos.length + state.coming.length >= choices.photos) {
        complain(`${file.name} has no room: there are ${choices.photos} photographs, which is the limit.`);
        break;
      } else {
        state.coming.push({ file, wish: wanted, share: 0 });
      }
    }
    draw();
    send();
  }

  function send() {
    if (state.sending || !state.coming.length) return;
    const coming = (state.sending = state.coming[0]);
    const request = (coming.request = new XMLHttpRequest()); // fetch does not tell how far it is
    const words = new URLSearchParams({ name: coming.file.name, ...coming.wish });
    request.open("POST", `photos?${words}`);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.addEventListener("progress", (event) => {
      coming.share = event.loaded / Math.max(1, event.total);
      drawComing();
    });
    request.addEventListener("loadend", async () => {
      const { status, responseText } = request;
      if (status >= 400) complain(await sentence(responseText));
      else if (status === 0 && !coming.dropped) complain(`${coming.file.name} did not arrive.`);
      else if (status === 201) say(`${coming.file.name} is here.`);
      state.coming = state.coming.filter((other) => other !== coming);
      state.sending = null;
      await look();
      draw();
      send();
    });
    request.send(coming.file);
  }

  function giveUp(coming) {
    coming.dropped = true;
    state.coming = state.coming.filter((other) => other !== coming);
    coming.request?.abort();
    draw();
  }

  async function filesOf(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
    return (await Promise.all(entries.map(within))).flat();
  }

  async function within(entry) {
    if (entry.isFile) return [await new Promise((done, fail) => entry.file(done, fail))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const some = await new Promise((done, fail) => reader.readEntries(done, fail));
      if (!some.length) break;
      found.push(...some);
    }
    return (await Promise.all(found.map(within))).flat().filter((file) => !file.name.startsWith("."));
  }

  byId("files").addEventListener("change", (event) => {
    add([...event.target.files]);
    event.target.value = "";
  });
  let over = 0;
  const veil = (on) => {
    byId("veil").hidden = !on;
    document.body.classList.toggle("over", on);
  };
  addEventListener("dragenter", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    over += 1;
    veil(true);
  });
  addEventListener("dragleave", () => {
    over = Math.max(0, over - 1);
    if (!over) veil(false);
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", async (event) => {
    event.preventDefault();
    over = 0;
    veil(false);
    if (event.dataTransfer) add(await filesOf(event.dataTransfer));
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) add(files);
  });
  addEventListener("beforeunload", (event) => {
    if (state.coming.length) event.preventDefault(); // what is on its way would be lost
  });

  // ---- what to do with them

  function offer() {
    const task = tasks.get(wish().task);
    document.querySelector(".more").hidden = !task.models.length;
    const kept = byId("model").value;
    byId("model").replaceChildren(...task.models.map(({ id }) => new Option(id, id)));
    if (task.models.some(({ id }) => id === kept)) byId("model").value = kept;
    const second = byId("then").value;
    const others = choices.tasks.filter(({ id, models }) => id !== task.id && models.length);
    byId("then").replaceChildren(new Option("nothing more", ""), ...others.map(({ id, label }) => new Option(label, id)));
    if (others.some(({ id }) => id === second)) byId("then").value = second;
    explain();
  }

  function explain() {
    const { task: id, model, then, strength } = wish();
    const task = tasks.get(id);
    const experimental = task.models.find((one) => one.id === model)?.experimental;
    const words = [task.help];
    if (task.models.length && then) words.push(`Then it ${tasks.get(then).help[0].toLowerCase()}${tasks.get(then).help.slice(1)}`);
    if (experimental) words.push(`The network is experimental: ${experimental}`);
    byId("task-help").textContent = words.join(" ");
    byId("strength-value").textContent = `${Math.round(strength * 100)} %`;
    drawAgain();
  }

  for (const radio of document.querySelectorAll("input[name=task]")) {
    radio.addEventListener("change", offer);
  }
  for (const id of ["model", "then"]) byId(id).addEventListener("change", explain);
  byId("strength").addEventListener("input", explain);
  byId("wish").addEventListener("submit", (event) => {
    event.preventDefault();
    if (state.current) again(state.current, wish());
  });

  function again(id, wanted) {
    state.wanted = id; // its newest result is shown when it is there
    ask("POST", `photos/${id}/runs`, wanted);
  }

  function drawAgain() {
    const photo = currentPhoto();
    const button = byId("again");
    button.hidden = !photo;
    if (!photo) return;
    const wanted = wish();
    const same = photo.runs.filter((run) => isSame(run, wanted) && (isOpen(run) || run.state === "done"));
    button.disabled = same.length > 0;
    button.textContent = same.some(isOpen) ? "This is under way" : same.length ? "This is done" : "Do this to the picture shown";
  }

  // ---- the picture

  const isOpen = (run) => run.state === "waiting" || run.state === "working";
  const isSame = (run, wanted) => run.tasks[0] === wanted.task && (run.tasks[1] ?? "") === wanted.then
    && (run.models[0] ?? "") === wanted.model && Math.abs(run.strength - wanted.strength) < 0.001;
  const runs = () => state.photos.flatMap((photo) => photo.runs);
  const currentPhoto = () => state.photos.find((photo) => photo.id === state.current);

  function title(run) {
    const done = run.tasks.map((id) => tasks.get(id).result);
    const words = [done.map((one, place) => (place ? one[0].toLowerCase() + one.slice(1) : one)).join(", ")];
    if (run.strength < 1) words.push(`${Math.round(run.strength * 100)} %`);
    if (run.models[0] !== tasks.get(run.tasks[0]).models[0]?.id) words.push(run.models[0]); // not the default
    return words.join(" · ");
  }

  function picturesOf(photo) {
    const done = photo.runs.filter((run) => run.shown);
    return [
      { label: "Original", scores: "", src: photo.shown ? `photos/${photo.id}/picture` : null, reduced: photo.reduced, why: "It is shown when its turn has come." },
      ...done.map((run) => ({
        label: title(run), scores: "", src: `runs/${run.id}/picture`, reduced: run.reduced, run,
      })),
    ];
  }

  function open(id, reveal) {
    state.current = id;
    draw();
    if (!reveal) return;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    byId("viewer").scrollIntoView({ behavior: calm ? "auto" : "smooth", block: "nearest" });
  }

  function drawViewer() {
    const photo = currentPhoto();
    byId("viewer").hidden = !photo;
    if (!photo) {
      state.shown = "";
      return;
    }
    const pictures = picturesOf(photo);
    const place = state.photos.indexOf(photo);
    const key = JSON.stringify([photo.id, place, state.photos.length, pictures.map(({ src }) => src)]);
    if (key !== state.shown) {
      const [before] = state.shown ? JSON.parse(state.shown) : [];
      const grew = pictures.length > 1 && pictures.at(-1).src !== state.newest?.[photo.id];
      state.newest = { ...state.newest, [photo.id]: pictures.at(-1).src };
      state.shown = key;
      const position = `${place + 1} of ${state.photos.length}`;
      viewer.show(photo.name, position, pictures, grew ? pictures.at(-1).label : undefined);
      if (grew && before === photo.id) viewer.sweep();
      for (const id of ["previous", "next"]) byId(id).disabled = state.photos.length < 2;
    }
    drawFinding();
    drawDoing(photo);
  }

  const scan = document.createElement("div");
  scan.className = "scan";
  scan.hidden = true;
  byId("stage").append(scan);
  const doing = document.createElement("p");
  doing.className = "doing";
  byId("stage").append(doing);

  function drawDoing(photo) {
    const run = photo.runs.find((one) => one.state === "working") ?? photo.runs.find(isOpen);
    const alone = !photo.runs.some((one) => one.shown);
    scan.hidden = !(run && run.state === "working" && run.models.length && alone);
    scan.style.setProperty("--done", run?.share ?? 0);
    doing.textContent = run ? `${title(run)}: ${progress(run)}` : "";
  }

  viewer.changed = () => {
    const { left, right, view } = viewer.chosen();
    const can = view === "slider" && !left.run && right.run?.strength === 1 && right.run.tasks.length === 1;
    byId("mix").hidden = byId("mix-keep").hidden = !can;
    if (state.mixed !== right.src) {
      state.mixed = right.src;
      byId("mix-share").value = 100;
    }
    byId("get").hidden = !right.run;
    if (right.run) byId("get").href = `runs/${right.run.id}/file`;
    drawFinding();
    mix();
  };

  // What a check has found, as long as it has not been done.
  function advice(photo) {
    const found = photo?.runs.findLast((run) => run.finding)?.finding;
    if (!found) return null;
    const task = tasks.get(found.task);
    const wanted = task && { task: task.id, model: task.models[0].id, then: "", strength: 1 };
    if (wanted && photo.runs.some((run) => isSame(run, wanted) && run.state !== "failed")) return null;
    return { ...found, wanted, button: task && `Make it: ${task.result[0].toLowerCase()}${task.result.slice(1)}` };
  }

  function drawFinding() {
    const found = advice(currentPhoto());
    const alone = !viewer.chosen().right.run;
    put(byId("finding"), found && alone ? found.sentence : "");
    byId("mend").hidden = !(found?.wanted && alone);
    put(byId("mend"), found?.button ?? "");
    byId("below").hidden = alone && !found;
  }

  byId("mend").addEventListener("click", () => again(state.current, advice(currentPhoto()).wanted));
  byId("mend-all").addEventListener("click", async () => {
    for (const photo of state.photos) {
      const wanted = advice(photo)?.wanted;
      if (wanted) await ask("POST", `photos/${photo.id}/runs`, wanted);
    }
  });

  function mix() {
    const { right } = viewer.chosen();
    const share = byId("mix").hidden ? 1 : Number(byId("mix-share").value) / 100;
    viewer.blend(share); // over the original: what --strength makes, but for rounding
    byId("mix-value").textContent = `${Math.round(share * 100)} %`;
    byId("mix-keep").disabled = !right.run || share === 1 ||
      currentPhoto()?.runs.some((run) => isSame(run, mixed(share)) && (isOpen(run) || run.state === "done"));
  }

  function mixed(strength) {
    const { tasks: [task], models: [model] } = viewer.chosen().right.run;
    return { task, model, then: "", strength };
  }

  byId("mix-share").addEventListener("input", mix);
  byId("mix-keep").addEventListener("click", () => {
    again(state.current, mixed(Number(byId("mix-share").value) / 100));
    byId("mix-keep").disabled = true;
  });

  function turn(step) {
    const place = state.photos.findIndex((photo) => photo.id === state.current) + step;
    open(state.photos[(place + state.photos.length) % state.photos.length].id, false);
  }
  byId("previous").addEventListener("click", () => turn(-1));
  byId("next").addEventListener("click", () => turn(1));

  // ---- the list

  function progress(run) {
    if (run.state === "waiting") return "waiting for its turn";
    if (run.state === "working") {
      if (!run.models.length) return "looking at it";
      const left = run.share > 0.1 ? (run.elapsed * (1 - run.share)) / run.share : 0;
      const time = left >= 2 ? `, ${seconds(left)} left` : "";
      return `${Math.round(run.share * 100)} %${time}`;
    }
    if (run.finding) return run.finding.sentence;
    if (run.state === "done") return `done in ${seconds(run.elapsed)}`;
    return run.state === "failed" ? run.error : "cancelled";
  }

  const seconds = (s) => (s < 90 ? `${s < 10 ? s.toFixed(1) : Math.round(s)} s` : `${Math.round(s / 60)} min`);
  const mega = (bytes) => (bytes < 1e6 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);

  function make(name, properties = {}, ...children) {
    const element = document.createElement(name);
    Object.assign(element, properties);
    element.append(...children);
    return element;
  }

  // Elements stay while what they show changes, so that the keyboard's place is kept.
  function keyed(parent, wanted, create, update) {
    const there = new Map([...parent.children].map((child) => [child.dataset.key, child]));
    const had = parent.contains(document.activeElement);
    for (const [key, child] of there) if (!wanted.some((one) => one.key === key)) child.remove();
    for (const [place, one] of wanted.entries()) {
      let child = there.get(one.key);
      if (!child) {
        child = create(one);
        child.dataset.key = one.key;
      }
      if (parent.children[place] !== child) parent.insertBefore(child, parent.children[place] ?? null);
      update(child, one);
    }
    if (had && !parent.contains(document.activeElement)) (parent.querySelector("button, a") ?? byId("files")).focus();
  }

  function put(element, text) {
    if (element.textContent !== text) element.textContent = text;
  }

  function createPhoto({ key }) {
    const head = make("div", { className: "photo-head" },
      make("button", { type: "button", className: "photo-open" },
        make("img", { className: "photo-picture", alt: "", width: 72, height: 54 }),
        make("span", {}, make("span", { className: "photo-name" }), make("span", { className: "photo-facts" }))),
      make("button", { type: "button", className: "round", textContent: "×" }));
    head.querySelector(".photo-open").addEventListener("click", () => open(key, true));
    head.querySelector(".round").addEventListener("click", () => ask("DELETE", `photos/${key}`));
    return make("li", { className: "photo" }, head, make("ul", { className: "runs" }));
  }

  function updatePhoto(child, { key, photo }) {
    child.classList.toggle("current", key === state.current);
    child.querySelector(".photo-open").setAttribute("aria-current", key === state.current);
    const image = child.querySelector(".photo-picture");
    if (photo.thumbnail && !image.hasAttribute("src")) image.src = `photos/${key}/thumbnail`;
    put(child.querySelector(".photo-name"), photo.name);
    const size = photo.width ? `${photo.width} × ${photo.height}, ` : "";
    put(child.querySelector(".photo-facts"), size + mega(photo.bytes));
    const remove = child.querySelector(".round");
    remove.ariaLabel = `Remove ${photo.name}`;
    remove.title = "Remove it from here; results stay in their folder";
    const wanted = photo.runs.map((run) => ({ key: run.id, run, photo }));
    keyed(child.querySelector(".runs"), wanted, createRun, updateRun);
  }

  function createRun({ key }) {
    const stop = make("button", { type: "button", className: "run-act stop", textContent: "Cancel" });
    stop.addEventListener("click", () => ask("POST", `runs/${key}/cancel`));
    return make("li", { className: "run" },
      make("span", { className: "run-words" }, make("b"), make("span", { className: "run-state" })),
      make("span", {}, stop,
        make("a", { className: "run-act get", href: `runs/${key}/file`, textContent: "Download", download: "" })),
      make("progress", { className: "run-bar", max: 1 }),
      make("p", { className: "run-notes" }));
  }

  function updateRun(child, { run, photo }) {
    child.className = `run ${run.state}`;
    const name = title(run);
    put(child.querySelector("b"), `${name} `);
    put(child.querySelector(".run-state"), progress(run));
    const bar = child.querySelector("progress");
    bar.hidden = run.state !== "working";
    bar.value = run.share;
    bar.ariaLabel = `${name}: ${photo.name}`;
    const [stop, get] = [child.querySelector(".stop"), child.querySelector(".get")];
    stop.hidden = !isOpen(run);
    stop.ariaLabel = `Cancel ${name} of ${photo.name}`;
    get.hidden = !run.file;
    get.ariaLabel = `Download ${run.file ?? name}`;
    put(child.querySelector(".run-notes"), run.notes.join("; "));
  }

  function createComing({ coming }) {
    const drop = make("button", { type: "button", className: "run-act", textContent: "Cancel" });
    drop.ariaLabel = `Do not add ${coming.file.name}`;
    drop.addEventListener("click", () => giveUp(coming));
    return make("li", { className: "photo" }, make("div", { className: "run" },
      make("span", { className: "run-words" },
        make("b", { textContent: `${coming.file.name} ` }), make("span", { className: "run-state" })),
      drop,
      make("progress", { className: "run-bar", max: 1, ariaLabel: `Adding ${coming.file.name}` })));
  }

  function updateComing(child, { coming }) {
    child.querySelector("progress").value = coming.share;
    put(child.querySelector(".run-state"), coming === state.sending ? "is being read" : "comes next");
  }

  let number = 0;
  function drawComing() {
    const photos = state.photos.map((photo) => ({ key: photo.id, photo }));
    const coming = state.coming.map((one) => ({ key: (one.key ??= `coming-${(number += 1)}`), coming: one }));
    keyed(byId("photos"), [...photos, ...coming],
      (one) => (one.photo ? createPhoto(one) : createComing(one)),
      (child, one) => (one.photo ? updatePhoto(child, one) : updateComing(child, one)));
  }

  function draw() {
    const all = runs();
    const some = state.photos.length + state.coming.length > 0;
    main.classList.toggle("new", !some);
    byId("album").hidden = !some;
    drawComing();
    drawViewer();
    drawAgain();
    const count = (...states) => all.filter((run) => states.includes(run.state)).length;
    const [open, done, failed] = [count("waiting", "working"), count("done"), count("failed")];
    const words = [[open, "to do"], [done, "done"], [failed, "failed"]].filter(([n]) => n);
    put(byId("tally"), words.map(([n, what]) => `${n} ${what}`).join(", "));
    const files = all.filter((run) => run.file).length;
    byId("download-all").hidden = files < 2;
    put(byId("download-all"), `Download all ${files}`);
    const found = state.photos.filter((photo) => advice(photo)?.wanted).length;
    byId("mend-all").hidden = found < 2;
    put(byId("mend-all"), `Do what was found to ${found}`);
    byId("cancel-all").hidden = open < 2;
    byId("clear").hidden = state.photos.filter(isSettled).length < 2;
    document.title = open ? `${done} of ${open + done} · restore` : "restore";
  }

  const isSettled = (photo) => !photo.runs.some(isOpen);
  byId("cancel-all").addEventListener("click", () => ask("POST", "cancel"));
  byId("clear").addEventListener("click", async () => {
    await Promise.all(state.photos.filter(isSettled).map(({ id }) => fetch(`photos/${id}`, { method: "DELETE" })));
    await look();
    byId("files").focus();
  });

  function take({ version, photos }) {
    const before = new Map(runs().map((run) => [run.id, run.state]));
    const known = new Set(state.photos.map(({ id }) => id));
    Object.assign(state, { version, photos });
    for (const photo of photos) {
      for (const run of photo.runs) {
        if (!before.has(run.id) || before.get(run.id) === run.state || isOpen(run)) continue;
        say(`${photo.name}, ${title(run)}: ${progress(run)}.`);
        if (run.state === "failed") complain(`${photo.name}: ${run.error}`);
      }
    }
    const fresh = photos.filter(({ id }) => !known.has(id));
    if (!currentPhoto()) state.current = (fresh[0] ?? photos[0])?.id ?? null;
    draw();
  }

  // ---- words

  function say(text) {
    byId("said").textContent = text;
  }

  function complain(text) {
    const close = make("button", { type: "button", className: "round", textContent: "×", ariaLabel: "Close" });
    const line = make("p", {}, make("span", { textContent: text }), close);
    close.addEventListener("click", () => line.remove());
    byId("troubles").append(line);
    while (byId("troubles").children.length > 4) byId("troubles").firstChild.remove();
  }

  // The picture is as tall as leaves room for what stands above and below it.
  viewer.tallest = () => {
    const wide = matchMedia("(min-width: 940px)").matches;
    return innerHeight - (wide ? byId("viewer").offsetHeight - byId("stage").offsetHeight + 82 : 230);
  };
  document.querySelector(".more").open = matchMedia("(min-width: 601px)").matches;
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
  offer();
  look();
})();
