// Rank, made visible: α unfolded as a sum of coloured outer products, one a middle channel, and what is left out.

/** α [C_out][C_in][K_u][K_t] as rows (input channel, ψ) and columns (output channel, φ), flat. */
function unfold(alpha) {
  const C_out = alpha.length, C_in = alpha[0].length, K_u = alpha[0][0].length, K_t = alpha[0][0][0].length;
  const rows = C_in * K_u, columns = C_out * K_t, values = new Float64Array(rows * columns);
  for (let o = 0; o < C_out; o++) for (let c = 0; c < C_in; c++) for (let i = 0; i < K_u; i++) for (let j = 0; j < K_t; j++) {
    values[(c * K_u + i) * columns + o * K_t + j] = alpha[o][c][i][j];
  }
  return { values, rows, columns, K_u, K_t };
}
/** Singular values, all of them, and the factors m [k][rows], n [k][columns] that share each evenly: α = Σ_k m_k n_k. */
function factors({ values, rows, columns }) {
  const turned = columns > rows, few = turned ? rows : columns, many = turned ? columns : rows;
  const get = turned ? (i, j) => values[j * columns + i] : (i, j) => values[i * columns + j]; // many × few
  const gram = new Float64Array(few * few);
  for (let a = 0; a < few; a++) for (let b = a; b < few; b++) {
    let sum = 0;
    for (let i = 0; i < many; i++) sum += get(i, a) * get(i, b);
    gram[a * few + b] = gram[b * few + a] = sum;
  }
  const { vectors } = eigen(gram, few), strengths = [], m = [], n = [];
  for (const right of vectors) {
    const left = Float64Array.from({ length: many }, (_, i) => { let sum = 0; for (let j = 0; j < few; j++) sum += get(i, j) * right[j]; return sum; });
    const strength = Math.hypot(...left), peak = left.reduce((p, v) => (Math.abs(v) > Math.abs(p) ? v : p), 0), sign = peak < 0 ? -1 : 1;
    const root = Math.sqrt(strength);
    const long = left.map((v) => (root > 1e-12 ? (sign * v) / root : 0)), short = Float64Array.from(right, (v) => sign * v * root);
    strengths.push(strength);
    m.push(turned ? short : long);
    n.push(turned ? long : short);
  }
  return { strengths, m, n };
}
/** m H and H⁻¹ n: H turns each pair of neighbouring middle channels by `gauge` radians, and stretches the first by e^gauge. */
function gauged(m, n, gauge) {
  m = m.map((v) => v.slice()); n = n.map((v) => v.slice());
  const c = Math.cos(gauge), s = Math.sin(gauge), turn = (list, k) => list[k].forEach((x, i) => {
    const y = list[k + 1][i];
    list[k][i] = c * x - s * y; list[k + 1][i] = s * x + c * y;
  });
  for (let k = 0; k + 1 < m.length; k++) { turn(m, k); turn(n, k); }
  m[0] = m[0].map((v) => v * Math.exp(gauge));
  n[0] = n[0].map((v) => v * Math.exp(-gauge));
  return { m, n };
}
const outer = (left, right) => { const out = new Float64Array(left.length * right.length); left.forEach((a, i) => right.forEach((b, j) => { out[i * right.length + j] = a * b; })); return out; };

export const arithmetic = { unfold, factors, gauged, outer };

const HUES = [210, 25, 150, 320, 50, 265, 180, 0, 95];
/** The colour of a middle channel, and a ramp from its dark through the neutral grey to its light. */
const hues = HUES.map((hue) => {
  const at = (light) => [0, 8, 4].map((k) => { const p = (k + hue / 30) % 12; return 255 * (light - 0.75 * Math.min(light, 1 - light) * Math.max(-1, Math.min(p - 3, 9 - p, 1))); });
  const neutral = channels(STYLE.signed[(STYLE.signed.length - 1) / 2]), vivid = at(0.48);
  return { css: `rgb(${vivid.map(Math.round)})`, map: ramp([at(0.12), mix(at(0.3), neutral, 0.25), neutral, mix(at(0.62), neutral, 0.15), at(0.88)]) };
});

export function mount(el, state, { edited, released } = alone) {
  let flat, all, made, terms, sum, rest, limit, here = [0, 0];
  const first = structuredClone(state.alpha), LIMIT = Math.max(1, Math.ceil(largest(state.alpha.flat(3))));
  const compute = () => {
    flat = unfold(state.alpha);
    all = factors(flat);
    combine();
  };
  const combine = () => {
    const count = Math.min(state.middle, all.m.length);
    made = gauged(all.m.slice(0, count), all.n.slice(0, count), state.gauge);
    terms = made.m.map((left, k) => outer(left, made.n[k]));
    sum = new Float64Array(flat.values.length);
    for (const term of terms) for (let i = 0; i < sum.length; i++) sum[i] += term[i];
    rest = flat.values.map((value, i) => value - sum[i]);
    limit = largest(flat.values);
  };
  const set = (name, value) => { if (state[name] !== value) { state[name] = value; edited(name, value); combine(); } };
  const energy = () => {
    const squares = all.strengths.map((v) => v * v), total = squares.reduce((p, v) => p + v, 0);
    return total > 0 ? squares.slice(0, state.middle).reduce((p, v) => p + v, 0) / total : 1;
  };
  const whole = () => all.strengths.filter((v) => v > 1e-3 * all.strengths[0]).length;

  function draw(s) {
    const { rows, columns, K_u, K_t } = flat, g = s.g, count = terms.length, [row, column] = here, i = row * columns + column;
    const matrix = (values, x, y, w, h, options = {}) => {
      s.image(values, rows, columns, x, y, w * columns, h * rows, { limit, ...options });
      g.fillStyle = s.paper;
      for (let r = K_u; r < rows; r += K_u) g.fillRect(x, y + r * h - 1, w * columns, 2);
      for (let c = K_t; c < columns; c += K_t) g.fillRect(x + c * w - 1, y, 2, h * rows);
      cross(x, y, w, h);
    };
    const cross = (x, y, w, h) => {
      s.box(x + column * w, y + row * h, w, h, s.paper, 3.5);
      s.box(x + column * w, y + row * h, w, h, s.ink, 1.5);
    };
    const pad = (x, y, w, h) => s.spot({
      x, y, w: w * columns, h: h * rows, hover: true, tell: sentence,
      move(u, v) { here = [Math.floor(v * rows), Math.floor(u * columns)]; choose(); },
    });
    const handles = (x, y, w, h) => {
      for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) {
        const place = [Math.floor(c / K_t), Math.floor(r / K_u), r % K_u, c % K_t];
        s.spot({
          x: x + c * w, y: y + r * h, w, h, row: r, column: c, limit: LIMIT,
          name: `α, channel ${place[1] + 1} → ${place[0] + 1}, ψ${sub(place[2] + 1)} φ${sub(place[3] + 1)}`,
          get: () => state.alpha[place[0]][place[1]][place[2]][place[3]],
          set(value) { here = [r, c]; state.alpha[place[0]][place[1]][place[2]][place[3]] = value; edited("alpha", state.alpha); compute(); },
          over: true,
        });
      }
    };
    const tall = (values, x, y, w, h, hue) => s.image(values, rows, 1, x, y, w, h * rows, { limit: largest(values), map: hue.map });
    const flatRow = (values, x, y, w, h, hue) => s.image(values, 1, columns, x, y, w * columns, h, { limit: largest(values), map: hue.map });
    const share = energy(), rank = whole();
    const headline = count >= rank ? `C″ = ${state.middle}: m·n is all of α` : `C″ = ${state.middle}: m·n keeps ${Math.round(100 * share)}% of ‖α‖²`;
    // One scale a factor: the gauge shows as weight that moves from m to n.
    const mostM = largest(made.m.map((v) => largest(v))), mostN = largest(made.n.map((v) => largest(v)));
    const bars = (x, y, w, h) => {
      const step = w / all.strengths.length, most = all.strengths[0] || 1;
      all.strengths.forEach((value, k) => {
        const high = Math.max(1.5, (value / most) * h);
        g.fillStyle = k < count ? hues[k % hues.length].css : "rgba(127,127,127,.55)";
        g.fillRect(x + k * step + 2, y + h - high, step - 4, high);
      });
      s.spot({ x, y, w, h: h + 22, tell: sentence, move(u) { set("middle", 1 + Math.floor(u * all.strengths.length)); } });
    };
    const term = (k, x, y, w, h, strip) => {
      const hue = hues[k % hues.length];
      s.image(made.m[k], rows, 1, x, y + strip + 3, strip, h * rows, { limit: mostM, map: hue.map });
      s.image(made.n[k], 1, columns, x + strip + 3, y, w * columns, strip, { limit: mostN, map: hue.map });
      s.image(terms[k], rows, columns, x + strip + 3, y + strip + 3, w * columns, h * rows, { limit, map: hue.map });
      cross(x + strip + 3, y + strip + 3, w, h);
      s.text(fixed(terms[k][i]), x + strip + 3 + (w * columns) / 2, y + strip + 19 + h * rows, { align: "center", size: s.narrow ? 12 : 13, bold: true });
    };
    if (!s.narrow) {
      const w = Math.min(17, 153 / columns), h = Math.min(15, 225 / rows), top = 136, strip = Math.min(12, 110 / count), X = [14, 336, 530], wide = w * columns, low = top + h * rows;
      s.text(headline, 0, 22, { bold: true, size: 22 });
      s.text(`α, unfolded: ${rows} × ${columns}, rank ${rank}`, 0, 50, { faint: true });
      s.text("rows: input channel and ψ", 0, 70, { colour: s.strong(STYLE.psi), bold: true });
      s.text("columns: output channel and φ", 0, 90, { colour: s.strong(STYLE.phi), bold: true });
      s.text("α", X[0] + wide / 2, top - 10, { align: "center", bold: true, size: 16, colour: s.strong(STYLE.alpha) });
      matrix(flat.values, X[0], top, w, h);
      s.box(X[0] - 2, top - 2, wide + 4, h * rows + 4, STYLE.alpha, 2.5);
      handles(X[0], top, w, h);
      s.text("=", X[0] + wide + 18, top + h * rows / 2, { size: 22, align: "center" });
      for (let k = 0; k < count; k++) {
        const hue = hues[k % hues.length];
        s.image(made.m[k], rows, 1, X[1] - 10 - (count - k) * strip, top, strip - 1, h * rows, { limit: mostM, map: hue.map });
        s.image(made.n[k], 1, columns, X[1], top - 8 - (count - k) * strip, wide, strip - 1, { limit: mostN, map: hue.map });
      }
      s.text("m", X[1] - 10 - (count * strip) / 2, top - 10, { align: "center", bold: true, size: 16 });
      s.text("n", X[1] + wide + 8, top - 6 - (count * strip) / 2, { bold: true, size: 16, baseline: "middle" });
      matrix(sum, X[1], top, w, h);
      pad(X[1], top, w, h);
      s.text("+", X[2] - 20, top + h * rows / 2, { size: 22, align: "center" });
      s.text("left out", X[2] + wide / 2, top - 10, { align: "center", bold: true, size: 16 });
      matrix(rest, X[2], top, w, h);
      pad(X[2], top, w, h);
      [[flat.values, X[0]], [sum, X[1]], [rest, X[2]]].forEach(([values, x], k) => s.text(fixed(values[i]), x + wide / 2, low + 22, { align: "center", bold: true, size: 15 }));
      s.text("=", X[0] + wide + 18, low + 22, { align: "center", size: 15 });
      s.text("+", X[2] - 20, low + 22, { align: "center", size: 15 });
      s.text("Singular values", 716, 50, { bold: true });
      s.text(`in colour: kept. Error ${fixed(Math.sqrt(Math.max(0, 1 - share)))}`, 716, 70);
      bars(716, 90, 224, low - 90);
      s.text("drag here, too", 828, low + 18, { align: "center", faint: true, size: 12 });
      s.text(`m·n is a sum of ${count} outer product${count > 1 ? "s" : ""}, one a middle channel:`, 0, low + 60, { bold: true, size: 15 });
      const pitch = Math.min(190, 940 / count), tw = Math.min(14, (pitch - 27) / columns), th = Math.min(8.4, 126 / rows);
      for (let k = 0; k < count; k++) { term(k, k * pitch, low + 74, tw, th, 8); if (k) s.text("+", k * pitch - 8, low + 90 + (th * rows) / 2, { align: "center" }); }
    } else {
      const w = Math.min(11, 99 / columns), h = Math.min(11, 165 / rows), top = 84, X = [4, 128, 254], wide = w * columns, low = top + h * rows;
      s.text(headline, 0, 18, { bold: true, size: 18 });
      s.text(`α: ${rows} × ${columns}, rank ${rank}; error ${fixed(Math.sqrt(Math.max(0, 1 - share)))}`, 0, 38, { size: 13, faint: true });
      s.text("rows: ψ", 0, 57, { size: 12, bold: true, colour: s.strong(STYLE.psi) });
      s.text("columns: φ", 60, 57, { size: 12, bold: true, colour: s.strong(STYLE.phi) });
      [["α", flat.values], ["m·n", sum], ["left out", rest]].forEach(([name, values], k) => {
        s.text(name, X[k] + wide / 2, top - 8, { align: "center", bold: true, size: 14, colour: k ? s.ink : s.strong(STYLE.alpha) });
        matrix(values, X[k], top, w, h);
        s.text(fixed(values[i]), X[k] + wide / 2, low + 18, { align: "center", bold: true });
        if (k) { s.text(k === 1 ? "=" : "+", X[k] - 14, top + (h * rows) / 2, { align: "center", size: 18 }); pad(X[k], top, w, h); }
      });
      s.box(X[0] - 2, top - 2, wide + 4, h * rows + 4, STYLE.alpha, 2.5);
      handles(X[0], top, w, h);
      s.text("Singular values: in colour those kept", 0, low + 46, { bold: true });
      bars(0, low + 54, 358, 60);
      s.text(`m·n, a table for each middle channel:`, 0, low + 140, { bold: true });
      const each = Math.min(5, count), pitch = 358 / each, tw = Math.min(10, (pitch - 17) / columns), th = Math.min(4.6, 69 / rows);
      for (let k = 0; k < count; k++) term(k, (k % each) * pitch, low + 150 + Math.floor(k / each) * 104, tw, th, 6);
    }
  }
  const sentence = () => {
    const i = here[0] * flat.columns + here[1];
    return `row ${here[0] + 1}, column ${here[1] + 1}: α ${fixed(flat.values[i])} is ${terms.map((term) => fixed(term[i])).join(" + ")}, and ${fixed(rest[i])} left out`;
  };
  const choose = () => view.choose((spot) => spot.row === here[0] && spot.column === here[1]);
  const view = stage(el, {
    label: "Rank, made visible. Arrows choose a coefficient, plus and minus change it, zero clears it.",
    wide: () => [940, 600], narrow: () => [358, 84 + Math.min(165, 11 * flat.rows) + 150 + 104 * Math.ceil(Math.min(9, flat.columns, flat.rows) / 5)], draw, released,
    chosen(spot) { here = [spot.row, spot.column]; view.say(sentence()); },
  });
  compute();
  const most = all.strengths.length;
  view.slider({ label: "C″, middle channels", min: 1, max: most, get: () => Math.min(most, state.middle), set: (value) => set("middle", value) });
  view.slider({ label: "gauge: moves m and n, leaves m·n", min: -1.5, max: 1.5, step: 0.01, get: () => state.gauge, set: (value) => set("gauge", value), show: (value) => fixed(value) });
  view.cellSlider(() => LIMIT);
  view.button("Make α what m·n is", () => {
    const { columns, K_u, K_t } = flat;
    state.alpha = state.alpha.map((inputs, o) => inputs.map((block, c) => block.map((row, i) => row.map((_, j) => four(sum[(c * K_u + i) * columns + o * K_t + j])))));
    edited("alpha", state.alpha); compute();
  });
  view.button("Start again", () => { state.alpha = structuredClone(first); edited("alpha", state.alpha); compute(); set("gauge", 0); });
  view.start();
  return {
    state: () => state, stage: view, held: view.held, destroy: view.destroy,
    update(name, value) { state[name] = structuredClone(value); if (name === "alpha") compute(); else combine(); view.ask(); },
  };
}
export default live(mount);
