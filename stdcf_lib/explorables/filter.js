// A filter in your hands: atoms and coefficients to drag, and at once the filter, the nearest separable one, and their answers.

const DIRECTIONS = 72, SIZE = 20, STEPS = 24; // of the curve; of the probe, pixels; frames of the answer

/** Cosine and sine at every tap, for gratings of every direction; `dilation` spreads the taps in time. */
function waves({ wavelength, speed, dilation }, { T, H, X }) {
  const k = (2 * Math.PI) / wavelength, cosine = new Float64Array(DIRECTIONS * T * H * X), sine = new Float64Array(cosine.length);
  for (let d = 0, i = 0; d < DIRECTIONS; d++) {
    const across = k * Math.cos(radians((360 * d) / DIRECTIONS)), up = k * Math.sin(radians((360 * d) / DIRECTIONS));
    for (let t = 0; t < T; t++) for (let y = 0; y < H; y++) for (let x = 0; x < X; x++, i++) {
      const phase = across * x - up * y - k * speed * dilation * t;
      cosine[i] = Math.cos(phase); sine[i] = Math.sin(phase);
    }
  }
  return { cosine, sine };
}
/** Amplitude of the answer to gratings that swing between −1 and 1, for each direction. */
function tuning({ values }, { cosine, sine }) {
  const out = new Float64Array(DIRECTIONS);
  for (let d = 0, i = 0; d < DIRECTIONS; d++) {
    let re = 0, im = 0;
    for (let j = 0; j < values.length; j++, i++) { re += values[j] * cosine[i]; im += values[j] * sine[i]; }
    out[d] = Math.hypot(re, im);
  }
  return out;
}
/** The nearest filter that is one picture times one rhythm, and the share of energy that it keeps. */
function separable({ values, T, H, X }) {
  const area = H * X, gram = new Float64Array(T * T), out = new Float64Array(values.length);
  for (let a = 0; a < T; a++) for (let b = 0; b < T; b++) for (let i = 0; i < area; i++) gram[a * T + b] += values[a * area + i] * values[b * area + i];
  const { values: energies, vectors: [rhythm] } = eigen(gram, T), total = energies.reduce((p, v) => p + v, 0);
  for (let i = 0; i < area; i++) {
    let along = 0;
    for (let t = 0; t < T; t++) along += rhythm[t] * values[t * area + i];
    for (let t = 0; t < T; t++) out[t * area + i] = rhythm[t] * along;
  }
  return { filter: { values: out, T, H, X }, energy: total > 0 ? energies[0] / total : 1 };
}
/** How many singular values of α are more than 1/1000 of the largest, and the table of rank one nearest to it. */
function rank(alpha) {
  const M = alpha.length, N = alpha[0].length, gram = new Float64Array(N * N);
  for (const row of alpha) for (let a = 0; a < N; a++) for (let b = 0; b < N; b++) gram[a * N + b] += row[a] * row[b];
  const { values, vectors } = eigen(gram, N);
  const nearest = alpha.map((row) => { const along = row.reduce((p, v, n) => p + v * vectors[0][n], 0); return Array.from(vectors[0], (v) => four(v * along)); });
  return { rank: values[0] > 0 ? Math.min(M, values.filter((v) => v > 1e-6 * values[0]).length) : 0, nearest };
}
/** The probe, [frames][SIZE][SIZE] flat: a drifting grating, or a moving bar of 3 × 15 pixels. */
function probe({ kind, wavelength, speed, direction }, frames) {
  const out = new Float64Array(frames * SIZE * SIZE), c = Math.cos(radians(direction)), s = Math.sin(radians(direction)), half = (SIZE - 1) / 2;
  const inside = (length, d) => Math.max(0, Math.min(1, length / 2 + 0.5 - Math.abs(d)));
  for (let t = 0, i = 0; t < frames; t++) for (let y = 0; y < SIZE; y++) for (let x = 0; x < SIZE; x++, i++) {
    const along = (x - half) * c + (half - y) * s - speed * (t - (frames - 1) / 2), across = (half - y) * c - (x - half) * s;
    out[i] = kind === "bar" ? inside(3, along) * inside(15, across) : 0.5 + 0.5 * Math.cos((2 * Math.PI * along) / wavelength);
  }
  return out;
}
/** One frame of the answer to a clip of SIZE², a valid cross-correlation as conv3d's; `dilation` is of the filter, in time. */
function answer({ values, T, H, X }, clip, t, dilation) {
  const rows = SIZE - H + 1, columns = SIZE - X + 1, out = new Float64Array(rows * columns);
  for (let y = 0, o = 0; y < rows; y++) for (let x = 0; x < columns; x++, o++) out[o] = at({ values, T, H, X }, clip, t, y, x, dilation);
  return { out, rows, columns };
}
function at({ values, T, H, X }, clip, t, y, x, dilation) {
  let sum = 0;
  for (let a = 0, i = 0; a < T; a++) for (let b = 0; b < H; b++) {
    let j = ((t + a * dilation) * SIZE + y + b) * SIZE + x;
    for (let c = 0; c < X; c++) sum += values[i++] * clip[j++];
  }
  return sum;
}
/** The amplitudes ahead and backwards in words: they are a grating's, whatever the probe is. */
const said = (kind, ahead, back) => (kind === "bar" ? `a grating: ${fixed(ahead)}, back ${fixed(back)}` : `${fixed(ahead)} ahead, ${fixed(back)} backwards`);

export const arithmetic = { assemble, waves, tuning, separable, rank, probe, answer, said };

export function mount(el, state, { edited, released } = alone) {
  let joint, apart, table, wave, clip, curves, traces, top, frame = 0;
  const first = structuredClone(state), LIMIT = { alpha: Math.max(2, Math.ceil(largest(state.alpha.flat()))), psi: 1, phi: 1 };
  const slowed = () => state.speed / state.tempo; // τ times slower: pixels a frame of the slowed film
  const meet = () => { // the probe, and what depends on it alone
    const seen = { kind: state.probe, wavelength: state.wavelength, speed: slowed(), direction: state.direction, dilation: state.dilation };
    wave = waves(seen, { T: state.phi[0].length, H: state.psi[0].length, X: state.psi[0][0].length });
    clip = probe(seen, STEPS + state.dilation * (state.phi[0].length - 1));
  };
  const compute = () => {
    joint = assemble(state);
    apart = separable(joint);
    table = rank(state.alpha);
    const both = [joint, apart.filter], y = (SIZE - joint.H) >> 1, x = (SIZE - joint.X) >> 1;
    curves = both.map((filter) => tuning(filter, wave));
    traces = both.map((filter) => Float64Array.from({ length: STEPS }, (_, t) => at(filter, clip, t, y, x, state.dilation)));
    top = Math.max(0.5, ...curves[0], ...curves[1]);
  };
  const set = (name, value) => {
    if (state[name] === value) return;
    state[name] = value;
    edited(name, value);
    meet(); compute();
  };
  const part = (name, values) => { state[name] = values; edited(name, values); compute(); };

  function draw(s) {
    const M = state.psi.length, N = state.phi.length, { T, H, X } = joint;
    const handle = (name, path, called, x, y, w, h) => s.spot({
      x, y, w, h, name: called, path: `${name}${path}`, limit: LIMIT[name],
      get: () => path.reduce((value, k) => value[k], state[name]),
      set(value) { path.slice(0, -1).reduce((values, k) => values[k], state[name])[path.at(-1)] = value; edited(name, state[name]); compute(); },
    });
    // ---- what you hold: φ across, ψ down, α where they meet
    const atoms = (left, head, psiSide, wide, tall, gap, rhythm) => {
      const x0 = left + psiSide + 14, y0 = head + rhythm + 14, { g } = s;
      state.phi.forEach((atom, n) => {
        const x = x0 + n * (wide + gap), step = wide / T, middle = head + rhythm / 2;
        g.globalAlpha = 0.35; g.fillStyle = s.ink; g.fillRect(x, middle - 0.5, wide, 1); g.globalAlpha = 1;
        atom.forEach((value, t) => {
          g.fillStyle = STYLE.phi;
          const high = (value * (rhythm - 8)) / 2;
          g.fillRect(x + t * step + 3, Math.min(middle, middle - high), step - 6, Math.max(2, Math.abs(high)));
          handle("phi", [n, t], `φ${sub(n + 1)}, frame ${t + 1}`, x + t * step, head, step, rhythm);
        });
        s.box(x, head, wide, rhythm, STYLE.phi, 2.5);
        s.text(`φ${sub(n + 1)}`, x + wide / 2, head - 6, { align: "center", bold: true, colour: s.strong(STYLE.phi), size: 14 });
      });
      state.psi.forEach((atom, m) => {
        const side = Math.min(psiSide, tall), y = y0 + m * (tall + gap), x = left + psiSide - side, w = side / X, h = side / H;
        s.table(atom.flat(), H, X, x, y, w, h, { limit: 1, size: 99 });
        for (let r = 0; r < H; r++) for (let c = 0; c < X; c++) handle("psi", [m, r, c], `ψ${sub(m + 1)}, row ${r + 1}, column ${c + 1}`, x + c * w, y + r * h, w, h);
        s.box(x, y, side, side, STYLE.psi, 2.5);
        s.text(`ψ${sub(m + 1)}`, x - 6, y + side / 2, { align: "right", bold: true, colour: s.strong(STYLE.psi), size: 14, baseline: "middle" });
      });
    };
    const coefficients = (left, head, psiSide, wide, tall, gap, rhythm) => {
      const x0 = left + psiSide + 14, y0 = head + rhythm + 14, { g } = s;
      state.alpha.forEach((row, m) => row.forEach((value, n) => {
        const place = shade(value, LIMIT.alpha), x = x0 + n * (wide + gap), y = y0 + m * (tall + gap);
        g.fillStyle = SIGNED.css[place]; g.fillRect(x, y, wide, tall);
        s.text(fixed(value), x + wide / 2, y + tall / 2 + 1, { align: "center", baseline: "middle", bold: true, size: Math.min(20, wide / 3.6), colour: SIGNED.dark[place] ? "#fff" : "#000" });
        s.box(x, y, wide, tall, STYLE.alpha, 2.5);
        handle("alpha", [m, n], `α${sub(m + 1)}${sub(n + 1)}`, x, y, wide, tall);
      }));
    };
    // ---- a filter: its frames, and the slice through its middle row
    const limit = largest(joint.values);
    const film = (filter, left, y, side, gap, at) => {
      for (let t = 0; t < T; t++) s.image(filter.values, H, X, left + t * (side + gap), y, side, side, { limit, from: t * H * X });
      const slice = Float64Array.from({ length: T * X }, (_, i) => filter.values[(Math.floor(i / X) * H + (H >> 1)) * X + (i % X)]);
      s.image(slice, T, X, at, y, side, side, { limit });
    };
    // ---- the curve, and the direction of the probe
    const circles = (cx, cy, R) => {
      const { g } = s;
      g.strokeStyle = s.ink; g.lineWidth = 1; g.globalAlpha = 0.25;
      for (const share of [0.5, 1]) { g.beginPath(); g.arc(cx, cy, R * share, 0, 7); g.stroke(); }
      g.globalAlpha = 1;
    };
    const dial = (cx, cy, R) => {
      const { g } = s;
      curves.forEach((curve, k) => {
        g.beginPath();
        for (let d = 0; d <= DIRECTIONS; d++) {
          const angle = radians((360 * d) / DIRECTIONS), r = (curve[d % DIRECTIONS] / top) * R;
          g.lineTo(cx + r * Math.cos(angle), cy - r * Math.sin(angle));
        }
        g.strokeStyle = g.fillStyle = k ? STYLE.vermillion : STYLE.blue;
        g.globalAlpha = 0.15; if (!k) g.fill(); g.globalAlpha = 1;
        g.lineWidth = 2.5; g.setLineDash(k ? [6, 4] : []); g.stroke(); g.setLineDash([]);
      });
      const angle = radians(state.direction), x = cx + R * Math.cos(angle), y = cy - R * Math.sin(angle);
      g.strokeStyle = g.fillStyle = s.ink; g.lineWidth = 2;
      g.beginPath(); g.moveTo(cx, cy); g.lineTo(x, y); g.stroke();
      g.beginPath(); g.arc(x, y, 8, 0, 7); g.fill();
      s.spot({
        x: cx - R - 12, y: cy - R - 12, w: 2 * R + 24, h: 2 * R + 24, tell: () => `direction ${state.direction} degrees`,
        move(u, v) { set("direction", ((Math.round((Math.atan2(0.5 - v, u - 0.5) * 180) / Math.PI / 5) * 5) % 360 + 360) % 360); },
      });
    };
    // ---- the probe, and what both filters answer to it now
    const k = frame % STEPS, reach = state.dilation * (T - 1);
    const watch = (left, y, side, gap) => {
      s.image(clip, SIZE, SIZE, left, y, side, side, { map: GRAY, limit: 0.5, zero: 0.5, from: (k + (reach >> 1)) * SIZE * SIZE });
      [joint, apart.filter].forEach((filter, i) => {
        const { out, rows, columns } = answer(filter, clip, k, state.dilation);
        const mean = state.probe === "bar" ? 0 : filter.values.reduce((p, v) => p + v, 0) / 2;
        s.image(out, rows, columns, left + (i + 1) * (side + gap), y, side, side, { limit: top / (state.probe === "bar" ? 1 : 2), zero: mean });
        s.box(left + (i + 1) * (side + gap), y, side, side, i ? STYLE.vermillion : STYLE.blue, 2.5);
      });
    };
    const trace = (left, y, wide, high) => {
      const { g } = s, middle = y + high / 2, most = Math.max(0.3 * top, ...traces.map(largest));
      g.globalAlpha = 0.3; g.fillStyle = s.ink; g.fillRect(left, middle - 0.5, wide, 1); g.globalAlpha = 0.6; g.fillRect(left + (k / (STEPS - 1)) * wide - 1, y, 2, high); g.globalAlpha = 1;
      traces.forEach((values, i) => {
        const mean = state.probe === "bar" ? 0 : (i ? apart.filter : joint).values.reduce((p, v) => p + v, 0) / 2;
        g.beginPath();
        for (let t = 0; t < STEPS; t++) g.lineTo(left + (t / (STEPS - 1)) * wide, middle - ((values[t] - mean) / most) * (high / 2 - 2));
        g.strokeStyle = i ? STYLE.vermillion : STYLE.blue; g.lineWidth = 2.5; g.setLineDash(i ? [6, 4] : []); g.stroke(); g.setLineDash([]);
      });
    };
    const d = Math.round(state.direction / (360 / DIRECTIONS)) % DIRECTIONS, back = (d + DIRECTIONS / 2) % DIRECTIONS;
    const verdict = (i) => said(state.probe, curves[i][d], curves[i][back]);
    const blue = s.strong(STYLE.blue), red = s.strong(STYLE.vermillion), percent = `${Math.round(100 * apart.energy)}%`;
    const key = JSON.stringify([state.psi, state.phi]);
    if (!s.narrow) {
      const wide = Math.min(92, (404 - 122 - 8 * (N - 1)) / N), tall = Math.min(92, 340 / M - 8), place = [22, 46, 86, wide, tall, 8, 70];
      const left = 452, side = Math.min(72, (374 - 6 * (T - 1)) / T), slice = left + T * (side + 6) + 26, low = 24 + side + 32;
      const below = low + side + 44, R = 84, middle = [left + R + 10, below + R + 24, R], across = left + 2 * R + 54, eye = 82;
      s.still(key, () => {
        s.text("Drag any tap, pixel or coefficient", 0, 16, { bold: true, size: 15 });
        atoms(...place);
        s.text("α", 22 + 86 + 14 - 6, 46 + 74, { align: "right", bold: true, colour: s.strong(STYLE.alpha), size: 16 });
        s.text("x across, t down", slice + side / 2, 16, { align: "center", size: 12, faint: true });
        s.text("Answer to gratings", left, below, { bold: true, size: 15 });
        circles(...middle);
        s.text("The probe", across, below, { bold: true, size: 14 });
        s.text("joint", across + eye + 10, below, { bold: true, colour: blue, size: 14 });
        s.text("separable", across + 2 * (eye + 10), below, { bold: true, colour: red, size: 14 });
      });
      coefficients(...place);
      s.text(`Joint: W = Σ α ψ ⊗ φ, rank ${table.rank}`, left, 16, { bold: true, colour: blue, size: 15 });
      film(joint, left, 24, side, 6, slice);
      s.text(`The nearest separable filter keeps ${percent} of it`, left, low, { bold: true, colour: red, size: 15 });
      film(apart.filter, left, low + 8, side, 6, slice);
      dial(...middle);
      watch(across, below + 10, eye, 10);
      trace(across, below + eye + 20, 3 * eye + 20, 60);
      s.text(verdict(0), across, below + eye + 102, { colour: blue, bold: true });
      s.text(verdict(1), across, below + eye + 121, { colour: red, bold: true });
    } else {
      const wide = Math.min(80, (358 - 96 - 7 * (N - 1)) / N), tall = Math.min(66, 218 / M), place = [24, 38, 58, wide, tall, 7, 52];
      const top = 38 + 52 + 14 + M * (tall + 7) + 18, side = Math.min(50, (266 - 4 * (T - 1)) / T), slice = 358 - side, low = top + side + 25;
      const below = low + side + 28, R = 66, middle = [R + 10, below + R + 18, R], across = 2 * R + 38, eye = 56;
      s.still(key, () => {
        s.text("Drag any tap, pixel or coefficient", 0, 14, { bold: true, size: 14 });
        atoms(...place);
        s.text("x, t", slice + side / 2, top, { align: "center", size: 12, faint: true });
        s.text("Answer to gratings", 0, below, { bold: true, size: 14 });
        circles(...middle);
        ["probe", "joint", "separable"].forEach((name, i) => s.text(name, i === 2 ? 358 : across + i * (eye + 10), below, { bold: true, size: 12, align: i === 2 ? "right" : "left", colour: [s.ink, blue, red][i] }));
      });
      coefficients(...place);
      s.text(`Joint: W = Σ α ψ ⊗ φ, rank ${table.rank}`, 0, top, { bold: true, colour: blue, size: 14 });
      film(joint, 0, top + 7, side, 4, slice);
      s.text(`Nearest separable: keeps ${percent} of it`, 0, low, { bold: true, colour: red, size: 14 });
      film(apart.filter, 0, low + 7, side, 4, slice);
      dial(...middle);
      watch(across, below + 8, eye, 10);
      trace(across, below + eye + 16, 3 * eye + 20, 44);
      s.text(verdict(0), across, below + eye + 78, { colour: blue, bold: true, size: 12 });
      s.text(verdict(1), across, below + eye + 95, { colour: red, bold: true, size: 12 });
    }
  }
  const view = stage(el, {
    label: "A filter in your hands. Arrows choose a tap, a pixel or a coefficient, plus and minus change it, zero clears it, space stops the probe.",
    wide: () => [940, 470],
    narrow: () => [358, 442 + state.psi.length * (7 + Math.min(66, 218 / state.psi.length))], draw, released,
    tick() { frame += 1; },
  });
  meet(); compute();
  view.cellSlider(() => LIMIT[view.cell().path.match(/^[a-z]+/)[0]]);
  const slider = (name, label, min, max, step, show) => view.slider({ label, min, max, step, show, get: () => state[name], set: (value) => set(name, value) });
  slider("direction", "direction of the probe", 0, 355, 5, (value) => `${value}°`);
  slider("speed", "speed", 0, 3, 0.1, (value) => `${fixed(value, 1)} px/frame`);
  slider("wavelength", "wavelength", 4, 16, 0.5, (value) => `${fixed(value, 1)} px`);
  slider("tempo", "slow motion, τ times slower", 1, 3, 0.25, (value) => `τ = ${value}`);
  slider("dilation", "temporal dilation of the filter", 1, 3, 1, (value) => `${value}`);
  view.button("Turn the probe round", () => set("direction", (state.direction + 180) % 360));
  view.button("Make it separable", () => part("alpha", table.nearest));
  view.button(() => (state.probe === "bar" ? "Show a grating" : "Show a bar"), () => set("probe", state.probe === "bar" ? "grating" : "bar"));
  view.button("Start again", () => { for (const name of Object.keys(first)) if (["psi", "phi", "alpha"].includes(name)) part(name, structuredClone(first[name])); else set(name, first[name]); });
  view.button(() => (view.playing ? "Pause" : "Play"), () => view.play(!view.playing));
  view.start();
  view.choose((spot) => spot.path.startsWith("alpha"));
  view.play(!view.calm);
  return {
    state: () => state, stage: view, held: view.held, destroy: view.destroy,
    update(name, value) { state[name] = structuredClone(value); meet(); compute(); view.ask(); },
  };
}
export default live(mount);
