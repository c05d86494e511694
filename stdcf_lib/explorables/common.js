// What the explorables share: colours, a canvas that follows its width, pointer, touch and keys, and the tie to Python.
// Python puts `const STYLE = …`, the colours of the house, and then this text in front of each module. No framework, no network.

// ---------------------------------------------------------------- colours
const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const mix = (a, b, share) => a.map((value, i) => value + share * (b[i] - value));

/** 256 colours through evenly spaced stops: as words of ImageData, as CSS, and whether text on them is white. */
function ramp(stops) {
  const words = new Uint32Array(256), css = [], dark = [];
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1), k = Math.min(Math.floor(place), stops.length - 2);
    const [r, g, b] = mix(stops[k], stops[k + 1], place - k).map(Math.round);
    words[i] = ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
    css.push(`rgb(${r},${g},${b})`);
    dark.push(0.299 * r + 0.587 * g + 0.114 * b < 120);
  }
  return { words, css, dark };
}
const SIGNED = ramp(STYLE.signed.map(channels)), GRAY = ramp([[0, 0, 0], [255, 255, 255]]);
const shade = (value, limit) => Math.max(0, Math.min(255, Math.round(127.5 + (127.5 * value) / limit)));

// ---------------------------------------------------------------- small things
const radians = (degrees) => (degrees * Math.PI) / 180;
const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-9);
const sub = (number) => String(number).replace(/\d/g, (digit) => String.fromCharCode(0x2080 + +digit));
const fixed = (value, digits = 2) => {
  const text = value.toFixed(digits);
  return (+text === 0 ? (0).toFixed(digits) : text).replace("-", "−");
};
const four = (value) => Math.round(value * 1e4) / 1e4 + 0;

/** Eigenvalues and eigenvectors (rows) of a symmetric n × n matrix, largest first, by Jacobi's rotations. */
function eigen(matrix, n) {
  const a = Float64Array.from(matrix), v = new Float64Array(n * n);
  for (let i = 0; i < n; i++) v[i * n + i] = 1;
  for (let sweep = 0; sweep < 30; sweep++) {
    let off = 0, all = 0;
    for (let i = 0; i < n; i++) for (let j = 0; j < n; j++) { all += a[i * n + j] ** 2; if (i !== j) off += a[i * n + j] ** 2; }
    if (off <= 1e-30 * all) break;
    for (let p = 0; p < n; p++) for (let q = p + 1; q < n; q++) {
      if (a[p * n + q] === 0) continue;
      const theta = (a[q * n + q] - a[p * n + p]) / (2 * a[p * n + q]);
      const t = (theta < 0 ? -1 : 1) / (Math.abs(theta) + Math.hypot(theta, 1)), c = 1 / Math.hypot(t, 1), s = t * c;
      for (let k = 0; k < n; k++) {
        const x = a[k * n + p], y = a[k * n + q];
        a[k * n + p] = c * x - s * y; a[k * n + q] = s * x + c * y;
      }
      for (let k = 0; k < n; k++) {
        const x = a[p * n + k], y = a[q * n + k];
        a[p * n + k] = c * x - s * y; a[q * n + k] = s * x + c * y;
      }
      for (let k = 0; k < n; k++) {
        const x = v[p * n + k], y = v[q * n + k];
        v[p * n + k] = c * x - s * y; v[q * n + k] = s * x + c * y;
      }
    }
  }
  const order = Array.from({ length: n }, (_, i) => i).sort((i, j) => a[j * n + j] - a[i * n + i]);
  return { values: order.map((i) => a[i * n + i]), vectors: order.map((i) => v.slice(i * n, i * n + n)) };
}

/** W[t, y, x] = Σ α[m][n] ψ[m][y][x] φ[n][t], flat. */
function assemble({ alpha, psi, phi }) {
  const T = phi[0].length, H = psi[0].length, X = psi[0][0].length, values = new Float64Array(T * H * X);
  psi.forEach((picture, m) => {
    for (let t = 0, i = 0; t < T; t++) {
      let weight = 0;
      for (let n = 0; n < phi.length; n++) weight += alpha[m][n] * phi[n][t];
      for (let y = 0; y < H; y++) for (let x = 0; x < X; x++) values[i++] += weight * picture[y][x];
    }
  });
  return { values, T, H, X };
}

// ---------------------------------------------------------------- the stage
const LOOK = `
.stdcf{position:relative;max-width:940px;margin:0 auto;font:14px/1.4 system-ui,sans-serif;color:inherit}
.stdcf canvas{display:block;margin:0 auto;touch-action:pan-y;outline-offset:3px}
.stdcf canvas:focus-visible{outline:2px solid ${STYLE.blue}}
.stdcf .controls{display:flex;flex-wrap:wrap;gap:4px 20px;align-items:center;margin:8px auto 4px;max-width:900px}
.stdcf label{display:grid;grid-template-columns:1fr auto;flex:1 1 240px;gap:0 8px;max-width:100%}
.stdcf label input{grid-column:1/3;width:100%;height:28px;margin:0;accent-color:${STYLE.blue};touch-action:pan-y}
.stdcf label span+span{font-variant-numeric:tabular-nums}
.stdcf button{font:inherit;color:inherit;background:transparent;border:1px solid color-mix(in srgb,currentColor 45%,transparent);
  border-radius:18px;min-height:36px;min-width:44px;padding:2px 14px;cursor:pointer}
.stdcf button:hover{background:color-mix(in srgb,currentColor 10%,transparent)}
.stdcf button:focus-visible{outline:2px solid ${STYLE.blue};outline-offset:2px}
.stdcf [role=status]{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@media (pointer:coarse){.stdcf label input{height:40px}.stdcf button{min-height:44px}}`;
const FONT = "system-ui, sans-serif", MARGIN = 4, BELOW = 720; // pixels of width under which the narrow arrangement is drawn

/**
 * A canvas with controls below it. `draw(stage)` paints the whole picture in the units of `wide` or `narrow` ([width, height]),
 * and names, as it goes, the spots that can be held. What stands still while the rest moves goes into `stage.still(key, paint)`,
 * first of all: it is painted once for each key, and copied.
 * A cell {x, y, w, h, name, get, set, limit} is dragged sideways (by mouse also up), or chosen by arrows and changed by + and −;
 * A pad {x, y, w, h, move(u, v), hover} is told where it is touched, from 0 to 1.
 */
function stage(el, { label, wide, narrow, draw, key, tick, chosen: onchoice = () => {}, released = () => {} }) {
  const root = document.createElement("div"), canvas = document.createElement("canvas"), screen = canvas.getContext("2d");
  const controls = document.createElement("div"), status = document.createElement("div"), look = document.createElement("style");
  const scratch = document.createElement("canvas"), pixels = scratch.getContext("2d", { willReadFrequently: true }), images = new Map();
  const below = document.createElement("canvas").getContext("2d"), kept = { key: "", spots: [] };
  let g = screen;
  look.textContent = LOOK;
  root.className = "stdcf";
  root.dataset.lmSuppressShortcuts = "true"; // JupyterLab would take arrows and letters as its own
  controls.className = "controls";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", label);
  status.setAttribute("role", "status");
  root.append(look, canvas, controls, status);
  el.replaceChildren(root);

  let asked = 0, spent = 0, scale = 1, width = 0, spots = [], held = null, chosen = 0, seen = true, timer = 0, late = 0, cellControl = null, wish = null;
  const followers = [];
  const s = {
    get g() { return g; }, canvas, narrow: false, ink: "#000", spots: () => spots, held: () => held,
    ask() { asked ||= requestAnimationFrame(paint); },
    say(text) { status.textContent = text; },
    spot(spot) { spots.push(spot); },
    text(text, x, y, { align = "left", size = 13, bold = false, colour = s.ink, faint = false, baseline = "alphabetic" } = {}) {
      g.font = `${bold ? "600 " : ""}${size}px ${FONT}`;
      g.textAlign = align; g.textBaseline = baseline; g.fillStyle = colour; g.globalAlpha = faint ? 0.7 : 1;
      g.fillText(text, x, y);
      g.globalAlpha = 1;
    },
    /** A colour made dark, or light, enough for text. */
    strong(hex) { const end = s.paper === "#fff" ? [0, 0, 0] : [255, 255, 255]; return `rgb(${mix(channels(hex), end, 0.3).map(Math.round)})`; },
    box(x, y, w, h, colour, line = 2) { g.strokeStyle = colour; g.lineWidth = line; g.strokeRect(x, y, w, h); },
    still(key, paint) {
      const now = [key, s.ink, canvas.width, canvas.height].join();
      if (kept.key !== now) {
        const others = spots;
        [below.canvas.width, below.canvas.height] = [canvas.width, canvas.height]; // which clears it
        below.setTransform(screen.getTransform());
        [g, spots] = [below, []];
        paint();
        Object.assign(kept, { key: now, spots });
        [g, spots] = [screen, others];
      }
      spots.push(...kept.spots);
      g.save(); g.resetTransform(); g.drawImage(below.canvas, 0, 0); g.restore();
    },
    /** Values, row by row, as colours: `map` over −limit … limit. */
    image(values, rows, columns, x, y, w, h, { limit = 1, zero = 0, from = 0, map = SIGNED } = {}) {
      if (rows * columns <= 100) { // quicker than pixels; each cell reaches under the next, so that no seam shows
        for (let r = 0, i = from; r < rows; r++) for (let c = 0; c < columns; c++, i++) {
          const left = (c * w) / columns, top = (r * h) / rows;
          g.fillStyle = map.css[shade(values[i] - zero, limit)];
          g.fillRect(x + left, y + top, Math.min(w / columns + 1, w - left), Math.min(h / rows + 1, h - top));
        }
        return;
      }
      const size = `${rows},${columns}`;
      if (!images.has(size)) images.set(size, pixels.createImageData(columns, rows));
      const data = images.get(size), words = new Uint32Array(data.data.buffer);
      for (let i = 0; i < rows * columns; i++) words[i] = map.words[shade(values[from + i] - zero, limit)];
      if (scratch.width < columns || scratch.height < rows) { scratch.width = Math.max(columns, scratch.width); scratch.height = Math.max(rows, scratch.height); }
      pixels.putImageData(data, 0, 0);
      g.imageSmoothingEnabled = false;
      g.drawImage(scratch, 0, 0, columns, rows, x, y, w, h);
    },
    /** The same, with thin gaps and the numbers in the cells where there is room. */
    table(values, rows, columns, x, y, w, h, { limit = largest(values), from = 0, map = SIGNED, size = 12, digits = 2 } = {}) {
      s.image(values, rows, columns, x, y, rows && w * columns, h * rows, { limit, from, map });
      g.fillStyle = s.paper;
      for (let r = 1; r < rows; r++) g.fillRect(x, y + r * h - 0.5, w * columns, 1);
      for (let c = 1; c < columns; c++) g.fillRect(x + c * w - 0.5, y, 1, h * rows);
      if (w < 2.6 * size) return;
      g.font = `${size}px ${FONT}`; g.textAlign = "center"; g.textBaseline = "middle";
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
        const value = values[from + r * columns + c];
        g.fillStyle = map.dark[shade(value, limit)] ? "#fff" : "#000";
        g.fillText(fixed(value, digits), x + (c + 0.5) * w, y + (r + 0.5) * h + 1);
      }
    },
    slider({ label: name, min, max, step = 1, get, set, show = (value) => value }) {
      const row = document.createElement("label"), title = document.createElement("span"), shown = document.createElement("span");
      shown.ariaHidden = "true"; // as the slider says it itself
      const input = document.createElement("input");
      Object.assign(input, { type: "range", min, max, step });
      row.append(title, shown, input);
      controls.append(row);
      const write = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // a needless write costs a layout
      const follow = () => {
        write(title, typeof name === "function" ? name() : name);
        if (+input.value !== get()) input.value = get();
        const text = String(show(get()));
        if (shown.textContent !== text) input.setAttribute("aria-valuetext", text);
        write(shown, text);
      };
      // A drag holds the view as a drag on the picture does.
      input.addEventListener("pointerdown", () => { held = { control: true }; });
      for (const end of ["pointerup", "pointercancel", "change"]) input.addEventListener(end, release);
      input.addEventListener("input", () => { set(+input.value); s.ask(); });
      followers.push(follow);
      return { input, row };
    },
    button(name, action) {
      const button = document.createElement("button"), follow = () => {
        const text = typeof name === "function" ? name() : name;
        if (button.textContent !== text) button.textContent = text;
      };
      button.type = "button";
      button.addEventListener("click", () => { action(); s.ask(); released(); });
      followers.push(follow);
      controls.append(button);
      return button;
    },
    /** A slider for the cell that was chosen last: a finger is wider than a pixel. */
    cellSlider(limit) {
      cellControl = s.slider({
        label: () => { const most = String(limit()); if (cellControl.input.max !== most) Object.assign(cellControl.input, { min: `-${most}`, max: most }); return cell().name; }, min: -1, max: 1, step: 0.01, show: (value) => fixed(value),
        get: () => cell().get(), set: (value) => cell().set(four(value)),
      });
    },
    cell: () => cell(),
    choose(test) { wish = test; s.ask(); },
    get playing() { return timer !== 0; },
    play(on) {
      clearInterval(timer);
      timer = on ? setInterval(() => { if (seen && !document.hidden) { tick(); s.ask(); } }, 125) : 0;
      s.ask();
    },
    calm: matchMedia("(prefers-reduced-motion: reduce)").matches,
    destroy() {
      clearInterval(timer); clearTimeout(late); cancelAnimationFrame(asked);
      resized.disconnect(); visible.disconnect(); themed.disconnect(); scheme.removeEventListener("change", s.ask);
      el.replaceChildren();
    },
  };
  const cell = () => (spots[chosen]?.get ? spots[chosen] : spots.find((spot) => spot.get));

  function follow() { clearTimeout(late); late = 0; followers.forEach((one) => one()); }
  function paint() {
    asked = 0;
    if (!root.isConnected) return; // in JupyterLab it comes into the page later, and the ResizeObserver tells
    width = el.clientWidth || 640;
    s.narrow = width < BELOW;
    const [w, h] = (s.narrow ? narrow() : wide()).map((side) => side + 2 * MARGIN), began = performance.now();
    // Where a picture takes long, it is drawn coarser while it is held, and sharp again on release.
    const ratio = Math.min(held && spent > 6 ? 1 : 2, window.devicePixelRatio || 1);
    scale = Math.min(s.narrow ? 1.4 : 1, width / w);
    const size = [Math.round(w * scale * ratio), Math.round(h * scale * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
      canvas.style.width = `${w * scale}px`; canvas.style.height = `${h * scale}px`;
    }
    s.ink = getComputedStyle(root).color;
    s.paper = lightness(s.ink) > 0.5 ? "#111" : "#fff";
    g.setTransform(size[0] / w, 0, 0, size[1] / h, 0, 0);
    g.clearRect(0, 0, w, h);
    g.translate(MARGIN, MARGIN);
    g.lineWidth = 1;
    spots = [];
    draw(s);
    if (wish) { chosen = Math.max(0, spots.findIndex((spot) => spot.get && wish(spot))); wish = null; }
    const focus = spots[chosen];
    if (focus?.get && (held?.spot === chosen || root.getRootNode().activeElement === canvas || cellControl?.input.matches(":focus"))) {
      s.box(focus.x - 1, focus.y - 1, focus.w + 2, focus.h + 2, s.paper, 5);
      s.box(focus.x - 1, focus.y - 1, focus.w + 2, focus.h + 2, s.ink, 2);
    }
    // The picture comes first: while it is held, sliders and their numbers, which cost a layout, follow ten times a second.
    if (held && !held.control) late ||= setTimeout(follow, 100);
    else follow();
    spent = 0.7 * spent + 0.3 * (performance.now() - began);
  }

  const at = (e) => { const b = canvas.getBoundingClientRect(); return [(e.clientX - b.left) / scale - MARGIN, (e.clientY - b.top) / scale - MARGIN]; };
  const find = ([x, y]) => spots.findLastIndex((o) => x >= o.x && x < o.x + o.w && y >= o.y && y < o.y + o.h);
  const touchPad = (pad, [x, y]) => { pad.move(Math.max(0, Math.min(0.9999, (x - pad.x) / pad.w)), Math.max(0, Math.min(0.9999, (y - pad.y) / pad.h))); s.ask(); };
  const change = (spot, value) => { spot.set(four(Math.max(-spot.limit, Math.min(spot.limit, value)))); s.ask(); };
  const tell = () => { const spot = spots[chosen]; if (spot) s.say(spot.get ? `${spot.name}: ${fixed(spot.get())}` : spot.tell?.() ?? ""); };

  canvas.addEventListener("pointerdown", (e) => {
    const place = at(e), i = find(place);
    if (i < 0) return;
    const spot = spots[i];
    if (spot.get) { chosen = i; onchoice(spot); }
    held = { spot: i, place, value: spot.get?.(), touch: e.pointerType === "touch" };
    canvas.setPointerCapture(e.pointerId);
    if (spot.move) touchPad(spot, place);
    s.ask();
  });
  canvas.addEventListener("pointermove", (e) => {
    const place = at(e), spot = spots[held ? held.spot : find(place)];
    if (!held) canvas.style.cursor = spot ? (spot.move ? "crosshair" : "ew-resize") : "default";
    if (!held && spot?.over) { chosen = find(place); onchoice(spot); s.ask(); }
    if (spot?.move) { if (held || (spot.hover && e.pointerType === "mouse")) touchPad(spot, place); }
    else if (held && spot?.get) {
      const moved = place[0] - held.place[0] - (held.touch ? 0 : place[1] - held.place[1]);
      change(spot, held.value + (moved / 100) * spot.limit);
    }
  });
  function release() { if (held) { held = null; tell(); s.ask(); released(); } }
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(end, release);
  // A vertical swipe over cells scrolls the page; on a pad a finger moves both ways.
  canvas.addEventListener("touchstart", (e) => { if (spots[find(at(e.touches[0]))]?.move) e.preventDefault(); }, { passive: false });
  canvas.addEventListener("focus", s.ask);
  canvas.addEventListener("blur", s.ask);
  canvas.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    const spot = cell(), arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const step = { "+": 0.1, "=": 0.1, "-": -0.1 }[e.key];
    if (key?.(e.key, arrow)) { s.ask(); released(); }
    else if (e.key === " " && tick) s.play(!s.playing);
    else if (spot && arrow) { chosen = next(spot, arrow); onchoice(spots[chosen]); }
    else if (spot && step) change(spot, spot.get() + step * spot.limit);
    else if (spot && e.key === "0") change(spot, 0);
    else return;
    e.preventDefault();
    if (cell()) tell();
    s.ask();
  });
  root.addEventListener("keydown", (e) => { if (e.key !== "Tab" && e.key !== "Escape") e.stopPropagation(); });
  /** The nearest cell that way, sideways steps counted double. */
  function next(from, [dx, dy]) {
    let best = spots.indexOf(from), least = Infinity;
    spots.forEach((spot, i) => {
      if (!spot.get) return;
      const x = spot.x + spot.w / 2 - from.x - from.w / 2, y = spot.y + spot.h / 2 - from.y - from.h / 2;
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 1 && along + 2 * across < least) { least = along + 2 * across; best = i; }
    });
    return best;
  }

  const resized = new ResizeObserver(() => { if (el.clientWidth !== width) s.ask(); });
  const visible = new IntersectionObserver(([entry]) => { seen = entry.isIntersecting; });
  const themed = new MutationObserver(s.ask), scheme = matchMedia("(prefers-color-scheme: dark)");
  for (const node of [document.documentElement, document.body]) themed.observe(node, { attributes: true });
  scheme.addEventListener("change", s.ask);
  resized.observe(el);
  visible.observe(root);
  s.start = () => { paint(); return s; };
  return s;
}
const lightness = (css) => { const [r, g, b] = css.match(/[\d.]+/g).map(Number); return (0.299 * r + 0.587 * g + 0.114 * b) / 255; };

// ---------------------------------------------------------------- the tie to Python
/**
 * What anywidget asks for, from `mount(el, state, {edited, released})`, which returns {update(name, value), held(), destroy()}.
 * The page sends at most one message a frame; what Python changes during a drag counts after it.
 */
const live = (mount) => ({
  render({ model, el }) {
    const names = model.get("_names"), state = Object.fromEntries(names.map((name) => [name, model.get(name)]));
    let due = 0;
    const follow = (name) => { if (!view.held()) view.update(name, model.get(name)); };
    const view = mount(el, structuredClone(state), {
      edited(name, value) {
        model.set(name, structuredClone(value));
        due ||= requestAnimationFrame(() => { due = 0; model.save_changes(); });
      },
      released: () => names.forEach(follow),
    });
    const handlers = names.map((name) => [`change:${name}`, () => follow(name)]);
    for (const [event, handler] of handlers) model.on(event, handler);
    return () => { for (const [event, handler] of handlers) model.off(event, handler); view.destroy(); };
  },
});
const alone = { edited() {}, released() {} };
