// Pan, zoom, selection and search for the graph, and the filter of the edge table.
// Everything from the model is written with textContent: nothing of it can become markup.
"use strict";
(() => {
  const blocks = JSON.parse(document.getElementById("blocks").textContent);
  const view = document.getElementById("view");
  const svg = document.getElementById("graph");
  const panel = document.getElementById("panel");
  const size = { w: Number(svg.dataset.width), h: Number(svg.dataset.height) };
  const nodes = new Map([...svg.querySelectorAll(".node")].map((n) => [n.dataset.block, n]));
  const paths = [...svg.querySelectorAll(".edges path")];
  const box = { x: 0, y: 0, scale: 1 }; // scale: pixels on the screen per pixel of the drawing
  const LIMITS = [0.03, 3];

  const apply = () => {
    const { clientWidth: w, clientHeight: h } = view;
    svg.setAttribute("viewBox", `${box.x} ${box.y} ${w / box.scale} ${h / box.scale}`);
  };
  const clamp = (s) => Math.min(LIMITS[1], Math.max(LIMITS[0], s));
  const centre = (x, y) => {
    box.x = x - view.clientWidth / box.scale / 2;
    box.y = y - view.clientHeight / box.scale / 2;
    apply();
  };
  const fit = () => {
    box.scale = clamp(Math.min(view.clientWidth / size.w, view.clientHeight / size.h, 1.2));
    centre(size.w / 2, size.h / 2);
  };
  const place = (name) => {
    const rect = nodes.get(name).querySelector("rect");
    const at = (key) => Number(rect.getAttribute(key));
    return [at("x") + at("width") / 2, at("y") + at("height") / 2];
  };
  const home = () => {
    const first = Object.keys(blocks)[0];
    const wide = view.clientWidth / size.w;
    box.scale = clamp(wide >= 0.55 ? Math.min(wide, 1) : 0.8);
    const [x] = first && wide < 0.55 ? place(first) : [size.w / 2];
    box.x = x - view.clientWidth / box.scale / 2;
    box.y = Math.min(0, size.h / 2 - view.clientHeight / box.scale / 2);
    apply();
  };
  const zoom = (factor, px, py) => {
    const next = clamp(box.scale * factor);
    box.x += px / box.scale - px / next;
    box.y += py / box.scale - py / next;
    box.scale = next;
    apply();
  };

  const make = (name, text, ...children) => {
    const element = document.createElement(name);
    if (text) element.textContent = text;
    element.append(...children);
    return element;
  };
  const link = (text, block) => {
    const a = make("a", text);
    a.href = "#graph-section";
    a.dataset.block = block;
    return a;
  };
  const opItem = ([kind, name, origins, rules, barrier, types]) => {
    const item = make("li", "", make("b", kind), ` ${types}`, make("br"), make("code", name));
    if (origins) item.append(make("br"), make("small", `from ${origins}`));
    if (rules) item.append(make("br"), make("small", `made by ${rules}`));
    if (barrier) item.append(make("br"), make("small", `barrier: ${barrier}`));
    return item;
  };
  const edgeItem = ([from, to, fromBlock, toBlock, code, text, figures]) => {
    const item = make("li", "", link(from, fromBlock), " → ", link(to, toBlock), make("br"));
    item.append(make("b", code), ` ${text}`);
    if (figures) item.append(make("br"), make("small", figures));
    return item;
  };
  const describe = (name) => {
    const b = blocks[name];
    const facts = [b.kind, b.flops, `${b.out} left behind`, b.time].filter(Boolean).join(" · ");
    panel.replaceChildren(make("h3", name), make("p", b.label), make("p", "", make("small", facts)));
    if (b.seed) panel.append(make("p", "", make("small", `grown from ${b.seed}`)));
    panel.append(make("h4", `Ops (${b.ops.length})`), make("ul", "", ...b.ops.map(opItem)));
    if (b.edges.length) {
      panel.append(make("h4", "Edges that were not fused"), make("ul", "", ...b.edges.map(edgeItem)));
    }
    panel.scrollTop = 0;
  };
  const select = (name, move) => {
    if (!nodes.has(name)) return;
    nodes.forEach((n, key) => n.classList.toggle("chosen", key === name));
    paths.forEach((p) => p.classList.toggle("near", p.dataset.from === name || p.dataset.to === name));
    describe(name);
    if (move) {
      box.scale = Math.max(box.scale, 0.7);
      centre(...place(name));
    }
  };
  const search = (text) => {
    const wanted = text.trim().toLowerCase();
    let first = null;
    nodes.forEach((node, name) => {
      const b = blocks[name];
      const words = [name, b.label, ...b.ops.flatMap((op) => op.slice(0, 3))].join(" ").toLowerCase();
      const hit = !wanted || words.includes(wanted);
      node.classList.toggle("dim", !hit);
      if (hit && wanted && !first) first = name;
    });
    if (first) select(first, true);
  };

  view.classList.add("live");
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const at = view.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey) {
      zoom(Math.exp(-event.deltaY / 300), event.clientX - at.left, event.clientY - at.top);
    } else {
      box.x += event.deltaX / box.scale;
      box.y += event.deltaY / box.scale;
      apply();
    }
  }, { passive: false });
  let grip = null;
  view.addEventListener("pointerdown", (event) => {
    grip = { x: event.clientX, y: event.clientY, moved: false };
  });
  view.addEventListener("pointermove", (event) => {
    if (!grip || !event.buttons) return;
    const [dx, dy] = [event.clientX - grip.x, event.clientY - grip.y];
    if (!grip.moved && Math.hypot(dx, dy) < 4) return;
    if (!grip.moved) view.setPointerCapture(event.pointerId);
    grip = { x: event.clientX, y: event.clientY, moved: true };
    view.classList.add("drag");
    box.x -= dx / box.scale;
    box.y -= dy / box.scale;
    apply();
  });
  view.addEventListener("pointerup", (event) => {
    const node = event.target.closest ? event.target.closest(".node") : null;
    if (grip && !grip.moved && node) select(node.dataset.block, false);
    grip = null;
    view.classList.remove("drag");
  });
  view.addEventListener("keydown", (event) => {
    const node = event.target.closest(".node");
    if (node && (event.key === "Enter" || event.key === " ")) {
      event.preventDefault();
      select(node.dataset.block, false);
    }
  });
  const acts = {
    in: () => zoom(1.3, view.clientWidth / 2, view.clientHeight / 2),
    out: () => zoom(1 / 1.3, view.clientWidth / 2, view.clientHeight / 2),
    fit,
    home,
  };
  document.querySelectorAll("[data-act]").forEach((b) => b.addEventListener("click", acts[b.dataset.act]));
  document.addEventListener("click", (event) => {
    const a = event.target.closest("a[data-block]");
    if (a) select(a.dataset.block, true);
  });
  document.getElementById("find").addEventListener("input", (event) => search(event.target.value));
  window.addEventListener("resize", apply);
  home();
  select(decodeURIComponent(location.hash.slice(1)), true); // report.html#b012_conv2d

  const table = document.getElementById("edge-table");
  if (!table) return;
  const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
  const filter = document.getElementById("edge-filter");
  const chosen = new Set();
  const update = () => {
    const wanted = filter.value.trim().toLowerCase();
    let shown = 0;
    rows.forEach(([row, text]) => {
      const hit = text.includes(wanted) && (!chosen.size || chosen.has(row.dataset.reason));
      row.hidden = !hit;
      shown += hit;
    });
    document.getElementById("edge-count").textContent = `${shown} of ${rows.length} edges`;
  };
  filter.addEventListener("input", update);
  document.querySelectorAll("button[data-reason]").forEach((chip) => chip.addEventListener("click", () => {
    const on = chip.classList.toggle("on");
    chosen[on ? "add" : "delete"](chip.dataset.reason);
    update();
  }));
  update();
})();
