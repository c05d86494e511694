// One voxel of the output, as the filter makes it and as atoms and coefficients make it.

/** The patch under the filter, both lists of products and their sum. `clip` is [T][H][W]. */
function voxel({ clip, psi, phi, alpha, t, y, x }) {
  const { values: filter, T, H, X } = assemble({ alpha, psi, phi });
  const patch = new Float64Array(filter.length), products = new Float64Array(filter.length);
  for (let a = 0, i = 0; a < T; a++) for (let b = 0; b < H; b++) for (let c = 0; c < X; c++, i++) {
    patch[i] = clip[t + a][y + b][x + c];
    products[i] = patch[i] * filter[i];
  }
  const M = psi.length, N = phi.length, answers = new Float64Array(M * N), terms = new Float64Array(M * N);
  for (let m = 0; m < M; m++) for (let n = 0; n < N; n++) {
    let sum = 0;
    for (let a = 0, i = 0; a < T; a++) for (let b = 0; b < H; b++) for (let c = 0; c < X; c++) sum += psi[m][b][c] * phi[n][a] * patch[i++];
    answers[m * N + n] = sum;
    terms[m * N + n] = alpha[m][n] * sum;
  }
  return { filter, patch, products, answers, terms, sum: products.reduce((p, v) => p + v, 0), other: terms.reduce((p, v) => p + v, 0) };
}

/** The whole output, [T'][H'][W'] flat, without padding. */
function output({ clip, psi, phi, alpha }) {
  const { values, T, H, X } = assemble({ alpha, psi, phi });
  const t1 = clip.length - T + 1, h1 = clip[0].length - H + 1, w1 = clip[0][0].length - X + 1, out = new Float64Array(t1 * h1 * w1);
  for (let t = 0, o = 0; t < t1; t++) for (let y = 0; y < h1; y++) for (let x = 0; x < w1; x++, o++) {
    let sum = 0;
    for (let a = 0, i = 0; a < T; a++) for (let b = 0; b < H; b++) { const row = clip[t + a][y + b]; for (let c = 0; c < X; c++) sum += values[i++] * row[x + c]; }
    out[o] = sum;
  }
  return { out, t1, h1, w1 };
}

export const arithmetic = { voxel, output };

export function mount(el, state, { edited, released } = alone) {
  let whole, now, clip, most, edition = 0;
  const prepare = () => {
    edition += 1;
    whole = output(state);
    clip = Float64Array.from(state.clip.flat(2));
    most = { whole: largest(whole.out), filter: largest(assemble(state).values), alpha: largest(state.alpha.flat()) };
    // One scale for all places, so that a quiet place looks quiet.
    most.product = most.filter * largest(clip);
    most.answer = 0;
    for (let t = 0; t < whole.t1; t++) for (let y = 0; y < whole.h1; y += 2) for (let x = 0; x < whole.w1; x += 2) {
      most.answer = Math.max(most.answer, largest(voxel({ ...state, t, y, x }).answers));
    }
    compute();
  };
  const compute = () => { now = voxel(state); };
  const go = (name, value, top) => {
    const to = Math.max(0, Math.min(top - 1, value));
    if (to !== state[name]) { state[name] = to; edited(name, to); compute(); }
  };
  const place = (dt, dy, dx) => { go("t", state.t + dt, whole.t1); go("y", state.y + dy, whole.h1); go("x", state.x + dx, whole.w1); };
  const sentence = () => `frame ${state.t}, row ${state.y}, column ${state.x}: ${now.products.length} products and ${now.terms.length} products, both ${fixed(now.sum, 3)}`;

  function draw(s) {
    const { t, y, x } = state, kt = state.phi[0].length, kh = state.psi[0].length, kw = state.psi[0][0].length;
    const H = state.clip[0].length, X = state.clip[0][0].length, M = state.psi.length, N = state.phi.length;
    const mark = STYLE.vermillion;

    // ---- the clip, and the output
    const pad = (side, left, top) => s.spot({
      x: left, y: top, w: side, h: (side * H) / X, hover: true, tell: sentence,
      move(u, v) { go("x", Math.floor(u * X - (kw - 1) / 2), whole.w1); go("y", Math.floor(v * H - (kh - 1) / 2), whole.h1); },
    });
    const frame = (k, left, top, side) => {
      s.image(clip, H, X, left, top, side, (side * H) / X, { map: GRAY, limit: 0.5, zero: 0.5, from: k * H * X });
      s.box(left, top, side, (side * H) / X, "rgba(127,127,127,.6)", 1);
      pad(side, left, top);
    };
    const covered = (left, top, side) => s.box(left + (x * side) / X, top + (y * side) / X, (kw * side) / X, (kh * side) / X, mark, 2.5);
    const answer = (left, top, side) => {
      const cell = side / whole.w1;
      s.image(whole.out, whole.h1, whole.w1, left, top, side, cell * whole.h1, { limit: most.whole, from: t * whole.h1 * whole.w1 });
      s.spot({
        x: left, y: top, w: side, h: cell * whole.h1, hover: true, tell: sentence,
        move(u, v) { go("x", Math.floor(u * whole.w1), whole.w1); go("y", Math.floor(v * whole.h1), whole.h1); },
      });
    };
    const here = (left, top, side) => {
      const cell = side / whole.w1;
      s.box(left + x * cell - 1, top + y * cell - 1, cell + 2, cell + 2, "#000", 4);
      s.box(left + x * cell - 1, top + y * cell - 1, cell + 2, cell + 2, mark, 2.5);
    };
    const strip = (values, left, top, cell, high, gap, options) => {
      for (let k = 0; k < kt; k++) s.table(values, kh, kw, left + k * (kw * cell + gap), top, cell, high, { from: k * kh * kw, ...options });
    };
    // Three tables side by side: what does not move of them, and then the numbers that do.
    const table = (k, values, limit, left, top, cell, high, gap, head) =>
      s.table(values, M, N, left + head + k * (N * cell + gap), top, cell, high, { limit, size: s.narrow ? 11 : 12 });
    const tables = (left, top, cell, high, gap, head) => {
      const wide = N * cell;
      ["ψ⊗φ on patch", "× α", "= products"].forEach((title, k) => {
        const x0 = left + head + k * (wide + gap);
        s.text(title, x0, top - head - 6, { size: s.narrow ? 12 : 13, bold: k === 1, colour: k === 1 ? s.strong(STYLE.alpha) : s.ink });
        for (let n = 0; n < N; n++) {
          const side = Math.min(cell - 6, 30), from = x0 + n * cell + (cell - side) / 2;
          s.image(state.phi[n], 1, kt, from, top - head + 2, side, head - 10, { limit: 1 });
          s.box(from, top - head + 2, side, head - 10, STYLE.phi, 2);
        }
      });
      table(1, state.alpha.flat(), most.alpha, left, top, cell, high, gap, head);
      s.box(left + head + wide + gap - 1, top - 1, wide + 2, M * high + 2, STYLE.alpha, 2.5);
      for (let m = 0; m < M; m++) {
        const side = Math.min(head - 6, high - 4), from = top + m * high + (high - side) / 2;
        s.image(state.psi[m].flat(), kh, kw, left, from, side, side, { limit: 1 });
        s.box(left, from, side, side, STYLE.psi, 2);
      }
    };
    const numbers = (...place) => {
      table(0, now.answers, most.answer, ...place);
      table(2, now.terms, most.answer * most.alpha, ...place);
    };
    // ---- both sums as walks: each product is a step to the left or right
    const walks = (left, top, wide, high) => {
      let low = 0, up = 0;
      for (const list of [now.products, now.terms]) { let at = 0; for (const step of list) { at += step; low = Math.min(low, at); up = Math.max(up, at); } }
      const span = Math.max(up - low, 0.5 * most.whole), middle = (low + up) / 2;
      const px = (value) => left + wide * (0.5 + (0.9 * (value - middle)) / span);
      s.g.globalAlpha = 0.35; s.g.fillStyle = s.ink; s.g.fillRect(px(0) - 0.5, top, 1, 2 * high + 16); s.g.globalAlpha = 1;
      [[now.products, s.ink], [now.terms, STYLE.alpha]].forEach(([list, colour], k) => {
        const down = high / list.length;
        let at = 0, y0 = top + k * (high + 16);
        s.g.strokeStyle = colour; s.g.lineWidth = 2.5; s.g.beginPath(); s.g.moveTo(px(0), y0);
        for (const step of list) { at += step; s.g.lineTo(px(at), y0); y0 += down; s.g.lineTo(px(at), y0); }
        s.g.stroke();
        s.g.fillStyle = colour; s.g.beginPath(); s.g.arc(px(at), y0, 5, 0, 7); s.g.fill();
      });
      s.g.setLineDash([4, 4]); s.g.strokeStyle = mark; s.g.lineWidth = 2;
      s.g.beginPath(); s.g.moveTo(px(now.sum), top); s.g.lineTo(px(now.sum), top + 2 * high + 20); s.g.stroke(); s.g.setLineDash([]);
      const right = px(now.sum) > left + wide / 2;
      s.text("0", px(0) + (px(now.sum) > px(0) ? -8 : 4), top + 2 * high + 14, { faint: true });
      s.text(fixed(now.sum, 3), px(now.sum) + (right ? -8 : 8), top + high + 12, { align: right ? "right" : "left", bold: true, size: 16, colour: s.strong(STYLE.vermillion) });
    };
    const count = now.products.length, terms = now.terms.length;
    const key = `${t} ${edition}`;
    if (!s.narrow) {
      const right = Math.max(kt * 156 + 34, 510), top = 216, cell = Math.min(46, (440 - 12 * (kt - 1)) / (kt * kw)), high = Math.min(26, 80 / kh), lane = kh * high + 24;
      const x0 = 500, head = 34, wide = Math.min(44, (440 - head - 28) / (3 * N)), tall = Math.min(40, 215 / M), place = [x0, top + 54, wide, tall, 14, head];
      s.still(key, () => {
        for (let k = 0; k < kt; k++) {
          s.text(`clip, frame ${t + k}`, k * 156, 14);
          frame(t + k, k * 156, 22, 146);
        }
        s.text("→", right - 30, 104, { size: 22 });
        s.text(`output, frame ${t}`, right, 14);
        answer(right, 22, 146);
        s.text("this voxel: one number,", right + 172, 100);
        s.text("made in two ways", right + 172, 118);
        s.text(`By the filter: ${count} products`, 0, top - 12, { bold: true, size: 15 });
        ["the patch", "× W", "= products"].forEach((name, k) => s.text(name, 0, top + 10 + k * lane));
        strip(now.filter, 0, top + 16 + lane, cell, high, 12, { limit: most.filter });
        s.text(`By atoms and coefficients: ${terms} products`, x0, top - 12, { bold: true, size: 15 });
        tables(...place);
        s.text("ψ", x0 + 6, top + 44, { colour: s.strong(STYLE.psi), bold: true });
        s.text("Each product is one step to the left or to the right. Both walks end at the same place.", 0, 548, { faint: true });
        s.text(`${count} steps`, 0, 588, { bold: true });
        s.text(`${terms} steps`, 0, 646, { bold: true, colour: s.strong(STYLE.alpha) });
      });
      for (let k = 0; k < kt; k++) covered(k * 156, 22, 146);
      here(right, 22, 146);
      s.text(fixed(now.sum, 3), right + 172, 74, { size: 32, bold: true, colour: s.strong(STYLE.vermillion) });
      patches(s, now.patch, 0, top + 16, cell, high, 12);
      strip(now.products, 0, top + 16 + 2 * lane, cell, high, 12, { limit: most.product });
      numbers(...place);
      walks(150, 562, 760, 42);
    } else {
      const middle = t + (kt >> 1), top = 226, gap = 8, cell = (358 - gap * (kt - 1)) / (kt * kw), high = Math.min(22, 66 / kh), lane = kh * high + 20;
      const below = top + 3 * lane + 30, head = 28, wide = (358 - head - 16) / (3 * N), tall = Math.min(25, 130 / M), foot = below + 48 + M * tall + 24;
      const place = [0, below + 48, wide, tall, 8, head];
      s.still(key, () => {
        s.text(`clip, frame ${middle}`, 0, 13);
        frame(middle, 0, 20, 172);
        s.text(`output, frame ${t}`, 186, 13);
        answer(186, 20, 172);
        s.text(`By the filter: ${count} products`, 0, top - 10, { bold: true, size: 14 });
        ["the patch", "× W", "= products"].forEach((name, k) => s.text(name, 0, top + 8 + k * lane, { size: 12 }));
        strip(now.filter, 0, top + 13 + lane, cell, high, gap, { limit: most.filter, size: 11 });
        s.text(`By atoms and coefficients: ${terms} products`, 0, below - 8, { bold: true, size: 14 });
        tables(...place);
        s.text(`Two walks, of ${count} and ${terms} steps, one end:`, 0, foot, { size: 12, faint: true });
      });
      covered(0, 20, 172);
      here(186, 20, 172);
      patches(s, now.patch, 0, top + 13, cell, high, gap);
      strip(now.products, 0, top + 13 + 2 * lane, cell, high, gap, { limit: most.product, size: 11 });
      numbers(...place);
      walks(0, foot + 10, 358, 34);
    }
    function patches(stage, values, left, top, cell, high, gap) {
      for (let k = 0; k < kt; k++) {
        const x0 = left + k * (kw * cell + gap);
        stage.table(values, kh, kw, x0, top, cell, high, { from: k * kh * kw, map: GRAY01, limit: 1, size: stage.narrow ? 11 : 12 });
        stage.box(x0, top, kw * cell, kh * high, "rgba(127,127,127,.6)", 1);
      }
    }
  }
  // Brightness runs from 0 to 1, where tables run over −1 … 1.
  const GRAY01 = ramp([[0, 0, 0], [0, 0, 0], [255, 255, 255]]);

  const view = stage(el, {
    label: "One voxel, two sums. Arrows move the voxel, page up and page down the frame, space plays the clip.",
    wide: () => [940, 690], narrow: () => [358, 822], draw, released,
    tick: () => go("t", (state.t + 1) % whole.t1, whole.t1),
    key(name, arrow) {
      const frame = { PageUp: 1, PageDown: -1 }[name];
      if (!arrow && !frame) return false;
      place(frame ?? 0, arrow?.[1] ?? 0, arrow?.[0] ?? 0);
      view.say(sentence());
      return true;
    },
  });
  prepare();
  view.slider({ label: "t, frame", min: 0, max: whole.t1 - 1, get: () => state.t, set: (value) => go("t", value, whole.t1) });
  view.button(() => (view.playing ? "Pause" : "Play the clip"), () => view.play(!view.playing));
  view.start();
  return {
    state: () => state, stage: view, held: view.held, destroy: view.destroy,
    update(name, value) { state[name] = structuredClone(value); if (["t", "y", "x"].includes(name)) compute(); else prepare(); view.ask(); },
  };
}
export default live(mount);
