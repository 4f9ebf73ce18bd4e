// The curves of the chosen runs, growing while they go on. Runs that differ in
// nothing but the seed can be drawn as their mean with a band.
import { make } from "./common.js";
import { colour, alpha, empty, format, nameOf, options, percent, progressOf, query, stateOf, swatch } from "./dashkit.js";

const { average, points, lineSets, evalSets, makeChart, themeChart, drawHeat, rampBar } = drawing;
// Two-sided 95 % quantiles of Student's t, by degrees of freedom from 1; beyond them the normal one.
const T95 = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06,
  2.056, 2.052, 2.048, 2.045, 2.042];
const PASS = "pass_rate"; // not a metric of each step: an evaluation with its interval
const FIRST = [["objective/scores", "Reward, mean score"], ["reward/model", "Proxy: learned reward model"], ["reward/verifier", "Gold: verifier"], [PASS, "Held-out pass rate"]];
const LATER = [["load/max", "Expert load, largest share of an even one"]];
const SHOWN = ["objective/kl", "policy/entropy_avg", "policy/clipfrac_avg", "response_length/mean", "perf/throughput"];
const CARDS = [...FIRST, ...drawing.PPO.filter(([name]) => SHOWN.includes(name)), ...LATER];
const TITLES = new Map([...FIRST, ...drawing.PPO, ...LATER]);
const RATES = /(^|[_/])(pass_rate|clip_ratio|clipfrac_avg)$/;

// id of the folder → what is known of its curves, stage by stage; kept when the view is left.
const known = new Map();
const key = (run, stage) => run + "\n" + stage;

async function load(run, stage) {
  let have = known.get(key(run, stage)) || { next: 0, metrics: {}, evals: [] };
  let got = await query("/api/runs/curves", { run, stage, from: have.next });
  if (have.id && have.id !== got.id) { // another run is in the folder
    have = { next: 0, metrics: {}, evals: [] };
    got = await query("/api/runs/curves", { run, stage });
  }
  for (const [name, [x, y]] of Object.entries(got.metrics)) {
    const old = have.metrics[name] || (have.metrics[name] = [[], []]);
    x.forEach((step, i) => {
      if (old[0].length && step <= old[0][old[0].length - 1]) return; // asked for twice at once
      old[0].push(step);
      old[1].push(y[i]);
    });
  }
  known.set(key(run, stage), { ...have, id: got.id, next: Math.max(have.next, got.next), evals: got.evals });
}

// Mean over runs at the steps that all of them have, and the band: the range of the runs, or the t-interval of the mean.
function meanSets(i, label, curves, band, smooth) {
  const by = curves.map(([x, y]) => new Map(x.map((step, k) => [step, y[k]])));
  const x = curves[0][0].filter((step) => by.every((m) => m.has(step) && m.get(step) !== null));
  const of = (f) => {
    const y = x.map((step) => f(by.map((m) => m.get(step))));
    return smooth && y.length >= 30 ? average(y) : y;
  };
  const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
  const half = (v) => (T95[v.length - 2] || 1.96) * Math.sqrt(v.reduce((a, b) => a + (b - mean(v)) ** 2, 0) / (v.length - 1) / v.length);
  const sets = [], c = colour(i), base = { run: i, pointRadius: x.length < 3 ? 3 : 0, tension: 0, borderColor: c, backgroundColor: c };
  if (band !== "none") {
    const low = of(band === "t" ? (v) => mean(v) - half(v) : (v) => Math.min(...v)), high = of(band === "t" ? (v) => mean(v) + half(v) : (v) => Math.max(...v));
    sets.push({ ...base, label, data: points(x, low), borderWidth: 0, pointRadius: 0, quiet: true }, { ...base, label, data: points(x, high), borderWidth: 0, pointRadius: 0, quiet: true,
      fill: "-1", backgroundColor: alpha(c, 0.18) });
  }
  for (const [cx, cy] of curves) sets.push({ ...base, label, data: points(cx, smooth && cy.length >= 30 ? average(cy) : cy), borderWidth: 1, borderColor: alpha(c, 0.35), quiet: true });
  sets.push({ ...base, label: label + ", mean of " + curves.length, data: points(x, of(mean)), borderWidth: 2.5,
    end: x.length ? { x: x[x.length - 1], y: mean(by.map((m) => m.get(x[x.length - 1]))) } : null });
  return sets;
}

export const curvesView = {
  name: "Curves",
  mean: false, band: "range", smooth: true, stage: "ppo", extra: [],

  async open(into, app) {
    this.app = app;
    this.charts = new Map();
    this.waiting = false;
    this.stage = app.get("stage") || "ppo";
    this.list = make("ul", { class: "runlist" });
    this.grid = make("div", { class: "charts" });
    this.more = make("div", {});
    this.experts = make("section", { class: "panel", "aria-label": "Expert load" });
    this.said = make("p", { class: "soft small", id: "curves-said", role: "status" });
    into.replaceChildren(make("section", { class: "panel", "aria-label": "What is shown" }, this.controls(), this.list, this.said), this.grid, this.more, this.experts);
    this.drawList();
    await this.all();
  },
  close() {
    for (const c of this.charts.values()) c.chart?.destroy();
    this.charts.clear();
  },

  controls() {
    const radio = (value, text) => make("label", {}, make("input", { type: "radio", name: "overlay", value, id: "overlay-" + value, checked: this.mean === (value === "mean"), onchange: () => {
      this.mean = value === "mean";
      this.band_.disabled = !this.mean;
      this.drawList();
      this.draw();
    } }), text);
    this.band_ = make("select", { id: "band", disabled: !this.mean, onchange: () => { this.band = this.band_.value; this.draw(); } },
      ...options([["range", "lowest to highest seed"], ["t", "95 % t-interval of the mean"], ["none", "no band"]], this.band));
    this.stage_ = make("select", { id: "stage", onchange: () => {
      this.stage = this.stage_.value;
      this.close();
      this.grid.replaceChildren();
      this.app.note({ view: "curves", run: this.app.chosen(), stage: this.stage });
      this.all();
    } });
    return make("div", { class: "controls" },
      make("fieldset", { class: "controls" }, make("legend", {}, "Seeds of one configuration"), radio("each", "each run"), radio("mean", "mean")),
      make("label", {}, "Band", this.band_),
      make("label", {}, make("input", { type: "checkbox", id: "smooth", checked: this.smooth, onchange: (e) => { this.smooth = e.target.checked; this.draw(); } }), "mean over neighbouring steps"),
      make("label", {}, "Stage", this.stage_));
  },

  // The runs that are drawn, with their colours: one each, or one for the seeds of a configuration.
  shown() {
    const list = this.app.chosen().map((id) => this.app.run(id)).filter(Boolean), groups = [];
    list.forEach((r) => {
      if (!groups.includes(r.group)) groups.push(r.group);
    });
    return list.map((r, i) => ({ run: r, at: this.mean ? groups.indexOf(r.group) : i }));
  },

  drawList() {
    const shown = this.shown(), focus = document.activeElement?.id;
    this.list.replaceChildren(...this.app.runs().map((r) => {
      const at = shown.find((s) => s.run.run === r.run);
      const box = make("input", { type: "checkbox", id: "draw-" + r.run, checked: Boolean(at), onchange: () => {
        const chosen = this.app.chosen(), next = at ? chosen.filter((x) => x !== r.run) : [...chosen, r.run];
        this.app.note({ view: "curves", run: next.length ? next : [""], stage: this.stage === "ppo" ? null : this.stage });
        this.drawList();
        this.all();
      } });
      return make("li", {}, make("label", {}, box, swatch(at ? colour(at.at) : "transparent"), make("span", {}, nameOf(r) + " ", make("span", { class: "soft small" }, "seed " + r.seed + ", " + progressOf(r) + " "), stateOf(r))));
    }));
    if (focus?.startsWith("draw-")) document.getElementById(focus)?.focus();
    const stages = [...new Set(["ppo", this.stage, ...shown.flatMap((s) => s.run.stages.filter((x) => x.last_metric >= 0).map((x) => x.stage))])];
    this.stage_.replaceChildren(...options(stages.map((s) => [s, s]), this.stage));
  },

  async all() {
    const shown = this.shown();
    this.said.textContent = "";
    if (!this.app.runs().length) this.said.textContent = "No run in this folder yet; one that starts appears here by itself.";
    else if (!shown.length) this.said.textContent = "No run is chosen.";
    const results = await Promise.allSettled(shown.map((s) => load(s.run.run, this.stage)));
    const bad = results.find((r) => r.status === "rejected");
    if (bad) this.said.textContent = bad.reason.message;
    this.draw();
    this.drawExperts();
  },

  async changed(id) {
    this.drawList();
    if (!this.shown().some((s) => s.run.run === id)) return;
    await load(id, this.stage);
    this.draw();
    if (id === this.expertRun && !this.expertsLater) this.expertsLater = setTimeout(() => { this.expertsLater = null; this.drawExperts(); }, this.expertsWait || 0);
  },

  cards(shown) {
    const names = [...new Set(shown.flatMap((s) => Object.keys(known.get(key(s.run.run, this.stage))?.metrics || {})))].filter((n) => n !== "timing/wall");
    if (this.stage !== "ppo") return [[PASS, TITLES.get(PASS)], ...names.map((n) => [n, TITLES.get(n) || n])];
    const rest = names.filter((n) => !CARDS.some((c) => c[0] === n)).sort();
    this.offer(rest);
    return [...CARDS, ...this.extra.filter((n) => rest.includes(n)).map((n) => [n, TITLES.get(n) || n])];
  },

  // What has no chart of its own can get one.
  offer(rest) {
    const left = rest.filter((n) => !this.extra.includes(n)), now = left.join();
    if (this.more.dataset.names === now) return;
    this.more.dataset.names = now;
    const choose = make("select", { id: "more-metrics" }, ...options(left.map((n) => [n, TITLES.get(n) || n]), ""));
    this.more.replaceChildren(left.length ? make("div", { class: "panel controls" }, make("label", {}, left.length + " further metrics", choose),
      make("button", { type: "button", onclick: () => { this.extra.push(choose.value); this.draw(); } }, "Show")) : "");
  },

  sets(shown, name) {
    const label = (s) => nameOf(s.run) + (this.mean ? "" : ", seed " + s.run.seed);
    if (name === PASS) return shown.flatMap((s) => {
      const rate = (known.get(key(s.run.run, this.stage))?.evals || []).filter((v) => v.name === PASS && v.stage === this.stage);
      return rate.length ? evalSets(s.at, label(s), rate) : [];
    });
    const with_ = shown.map((s) => [s, known.get(key(s.run.run, this.stage))?.metrics[name]]).filter(([, c]) => c && c[0].length);
    if (!this.mean) return with_.flatMap(([s, c]) => lineSets(s.at, label(s), c[0], c[1]).filter((d) => this.smooth || !d.smooth)
      .map((d) => (d.raw && !this.smooth ? { ...d, borderColor: colour(s.at), quiet: false, borderWidth: 1.5 } : d)));
    return [...new Set(with_.map(([s]) => s.at))].flatMap((at) => {
      const list = with_.filter(([s]) => s.at === at);
      return list.length > 1 ? meanSets(at, nameOf(list[0][0].run) + " …", list.map(([, c]) => c), this.band, this.smooth) : lineSets(at, label(list[0][0]), ...list[0][1]);
    });
  },

  // What the curves say last, as it was measured, in words: also for those who cannot see the picture.
  latest(sets) {
    return sets.filter((d) => d.data.length && (d.raw || !(d.quiet || d.smooth))).map((d) => {
      const p = d.end || d.data[d.data.length - 1];
      return make("span", {}, swatch(d.backgroundColor), " " + d.label + ": " + d.show(p.y) + " at step " + p.x);
    });
  },

  draw() {
    if (!this.grid.isConnected) return;
    const shown = this.shown();
    let any = false;
    for (const [name, title] of this.cards(shown)) {
      let card = this.charts.get(name);
      if (!card) {
        card = { box: make("section", { class: "panel", hidden: true, "aria-label": title, "data-metric": name }, make("h2", { title: name }, title)), latest: make("p", { class: "latest" }) };
        this.charts.set(name, card);
        this.grid.append(card.box);
      }
      const sets = this.sets(shown, name), form = RATES.test(name) ? percent : format;
      for (const d of sets) d.show = form;
      card.box.hidden = !sets.length;
      any ||= sets.length > 0;
      if (!sets.length) continue;
      if (!card.chart) {
        card.chart = makeChart(card.box, sets, { label: title + " against the step", format: form });
        card.box.append(card.latest);
      } else {
        card.chart.data.datasets = sets;
        card.chart.update("none");
      }
      card.latest.replaceChildren(...this.latest(sets));
    }
    if (!any && shown.length && !this.said.textContent) this.said.textContent = "Nothing is measured in the stage " + this.stage + " yet; curves appear here by themselves.";
    else if (any && this.said.textContent.startsWith("Nothing is measured")) this.said.textContent = "";
    if (this.mean && any) this.said.textContent = this.band === "none" ? "Strong: mean over the seeds at the steps that all have. Faint: each seed." :
      "Strong: mean over the seeds at the steps that all have; band: " + (this.band === "t" ? "95 % interval of that mean by Student's t, the seeds as the sample" : "from the lowest to the highest seed") + ". Faint: each seed.";
    else if (!this.mean && this.said.textContent.startsWith("Strong")) this.said.textContent = "";
  },

  async drawExperts() {
    const shown = this.shown(), run = shown.find((s) => s.run.run === this.expertRun) || shown[0];
    this.expertRun = run?.run.run;
    this.experts.hidden = true;
    if (!run) return;
    const layer = this.layer || 0, began = performance.now();
    const got = await query("/api/runs/experts", { run: run.run.run, stage: this.stage, layer }).catch(() => null);
    this.expertsWait = Math.max(500, 20 * (performance.now() - began)); // the longer the run, the longer the reading takes, the less often
    if (!got || !this.experts.isConnected) return;
    this.experts.hidden = false;
    this.experts.replaceChildren(make("h2", {}, "Expert load"));
    if (!got.rows.length) {
      this.experts.append(empty("No load by expert is recorded for this stage."));
      return;
    }
    const columns = got.steps.map((_, x) => got.rows.map((row) => row[x] ?? 0)), last = columns[columns.length - 1];
    const canvas = make("canvas", { class: "heat", role: "img", "aria-label": "Load of each expert by step" });
    const which = make("select", { "aria-label": "Run", onchange: () => { this.expertRun = which.value; this.drawExperts(); } }, ...options(shown.map((s) => [s.run.run, nameOf(s.run)]), this.expertRun));
    const layers = make("select", { "aria-label": "Layer", onchange: () => { this.layer = Number(layers.value); this.drawExperts(); } },
      ...options(Array.from({ length: got.layers }, (_, l) => [l, "layer " + (l + 1)]), layer));
    const most = last.indexOf(Math.max(...last));
    this.experts.append(make("div", { class: "controls" }, which, layers, make("span", { class: "soft small" }, "0", rampBar(), "3 times the even share or more")),
      make("p", { class: "soft small" }, "Rows: experts 0 to " + (got.rows.length - 1) + "; columns: steps " + got.steps[0] + " to " + got.steps[got.steps.length - 1] + "."), canvas,
      make("p", { class: "latest" }, "Step " + got.steps[got.steps.length - 1] + ": expert " + most + " has " + format(last[most]) + " times the even share; " + last.filter((v) => v === 0).length + " of " + last.length + " experts have no token."));
    drawHeat(canvas, columns);
  },

  themed() {
    for (const c of this.charts.values()) {
      if (!c.chart) continue;
      themeChart(c.chart);
      c.chart.update("none");
    }
    this.drawExperts();
  },
};
