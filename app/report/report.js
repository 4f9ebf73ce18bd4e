"use strict";
/* Draws the report from the JSON in #data. Everything that comes from a run is
 * set as text (textContent), never as HTML. */
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs;
  const { colour, alpha, format, percent, PPO, average, points, themeChart, lineSets, evalSets, rampBar, drawHeat } = drawing;
  const charts = [];
  const hidden = new Set();
  let smooth = true;

  /* ---- small things ---- */

  const el = (tag, attributes = {}, ...children) => {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") node.className = value;
      else if (name === "text") node.textContent = value;
      else node.setAttribute(name, value);
    }
    node.append(...children.filter((c) => c !== null && c !== undefined));
    return node;
  };
  /* Texts of models: characters that are invisible or turn the reading direction are shown by their code. */
  const plain = (text) => text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g,
    (c) => "⟨U+" + c.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0") + "⟩");
  const body = document.getElementById("report");
  const section = (title, about) => {
    const s = el("section", {}, el("h2", { text: title }));
    if (about) s.append(el("p", { class: "soft small", text: about }));
    body.append(s);
    return s;
  };
  const swatch = (i) => {
    const s = el("span", { class: "swatch" });
    s.style.background = colour(i);
    return s;
  };
  const table = (head, rows, numbers = []) => {
    const side = (k) => (numbers.includes(k) ? { class: "number" } : {});
    const t = el("table", {}, el("thead", {}, el("tr", {}, ...head.map((h, k) => el("th", { ...side(k), text: h })))));
    t.append(el("tbody", {}, ...rows.map((r) => el("tr", {}, ...r.map((c, k) =>
      c instanceof Node ? el("td", side(k), c) : el("td", { ...side(k), text: c }))))));
    return el("div", { class: "scroll" }, t);
  };

  /* ---- figures at the top ---- */

  const flatten = (value, prefix, out) => {
    if (value !== null && typeof value === "object" && !Array.isArray(value))
      for (const [k, v] of Object.entries(value)) flatten(v, prefix ? prefix + "." + k : k, out);
    else out[prefix] = Array.isArray(value) ? JSON.stringify(value) : value;
    return out;
  };
  const curve = (run, stage, name) => {
    const s = run.stages.find((x) => x.stage === stage);
    return s && Object.hasOwn(s.metrics, name) ? s.metrics[name] : null;
  };
  const last = (c) => (c && c[1].length ? c[1][c[1].length - 1] : null);
  const evals = (run, name) => run.evals.filter((v) => v.name === name);
  /* For a run without summary.json: what its records say so far. */
  const figures = (run) => {
    if (run.summary) return flatten(run.summary, "", {});
    const rate = evals(run, data.names.pass_rate);
    const out = {};
    if (rate.length) { out["pass_rate, first"] = rate[0].value; out["pass_rate, last"] = rate[rate.length - 1].value; }
    out["reward, last step"] = last(curve(run, "ppo", data.names.reward));
    out["kl, last step"] = last(curve(run, "ppo", "objective/kl"));
    const reward = curve(run, "ppo", data.names.reward);
    out["ppo.steps"] = reward ? reward[0].length : 0;
    return out;
  };
  const HEADLINE = ["sft.pass_rate", "ppo.pass_rate", "best_of_pass_rate", "ppo.steps", "ppo.kl", "ppo.probs_diff_max",
    "ppo.first_minibatch_ratio_max_deviation", "reward.pair_accuracy", "eta", "seconds.total", "digest"];
  const LABELS = {
    "sft.pass_rate": "held-out pass rate before PPO", "ppo.pass_rate": "held-out pass rate after PPO", "best_of_pass_rate": "best of several from the start",
    "ppo.steps": "PPO steps", "ppo.kl": "KL from the reference, nats", "ppo.probs_diff_max": "sampler against learner, largest difference",
    "ppo.first_minibatch_ratio_max_deviation": "first minibatch's ratio, largest deviation from 1", "reward.pair_accuracy": "reward model, pairs right",
    "eta": "share of the machine's limit (eta)", "seconds.total": "seconds in all", "digest": "digest",
  };
  const label = (name) => (Object.hasOwn(LABELS, name) ? LABELS[name] : name);
  const cell = (text) => (text.length > 20 ? el("div", { class: "text", text }) : text);
  const figure = (name, v) => (/(^|[._])(pass_rate|pair_accuracy|eta)/.test(name) && typeof v === "number" ? percent(v) : format(v));

  const summarySection = () => {
    const all = runs.map(figures);
    const s = section("Summary", runs.some((r) => !r.summary) ? "A run without summary.json is not finished: its figures are the latest recorded." : "");
    if (runs.length === 1) {
      const names = runs[0].summary ? HEADLINE.filter((n) => Object.hasOwn(all[0], n)) : Object.keys(all[0]);
      s.append(el("div", { class: "cards" }, ...names.map((n) => {
        const text = figure(n, all[0][n]);
        return el("div", { class: "card" }, el("div", { class: "name", text: label(n), title: n }), el("div", { class: text.length > 14 ? "value long" : "value", text }));
      })));
    }
    const names = [...new Set([...HEADLINE, ...all.flatMap((f) => Object.keys(f))])].filter((n) => all.some((f) => Object.hasOwn(f, n)));
    const rows = names.map((n) => [label(n), ...all.map((f) => cell(figure(n, f[n])))]);
    const t = table(["", ...runs.map((r) => r.label)], rows, runs.map((_, i) => i + 1));
    if (runs.length > 1) s.append(el("div", { class: "card" }, t));
    else s.append(el("details", {}, el("summary", { text: "All figures" }), el("div", { class: "inside" }, t)));
  };

  /* ---- curves ---- */

  const makeChart = (place, datasets, options) => {
    const chart = drawing.makeChart(place, datasets, options);
    charts.push(chart);
    return chart;
  };

  const metricCard = (place, stage, name, title, options = {}) => {
    const sets = [];
    runs.forEach((run, i) => {
      const c = curve(run, stage, name);
      if (c) sets.push(...lineSets(i, runs.length > 1 ? run.label : title, c[0], c[1]));
    });
    if (!sets.length) return false;
    const card = el("div", { class: "card" }, el("h3", { text: title, title: name }));
    place.append(card);
    makeChart(card, sets, { label: title, ...options });
    return true;
  };

  /* Level lines of the pass-rate chart: what needs no PPO. */
  const BASELINES = [
    [data.names.best_of, "best of several samples from the start", [6, 5]],
    [data.names.continued, "supervised training continued instead of PPO", [2, 4]],
  ];

  const passCard = (place) => {
    const sets = [];
    runs.forEach((run, i) => {
      const c = colour(i), name = runs.length > 1 ? run.label + " " : "";
      const rate = evals(run, data.names.pass_rate).filter((v) => v.stage === "ppo");
      const start = evals(run, data.names.pass_rate).filter((v) => v.stage === "sft").slice(-1);
      if (start.length && !rate.some((v) => v.step === 0)) rate.unshift({ ...start[0], step: 0 });
      if (!rate.length) return;
      const x = rate.map((v) => v.step);
      sets.push(...evalSets(i, name + "held-out pass rate", rate));
      for (const [key, what, dash] of BASELINES) {
        const v = evals(run, key).slice(-1)[0];
        if (v) sets.push({ label: name + what, key, run: i, borderColor: c, borderDash: dash, borderWidth: 1.5, pointRadius: 0,
          data: points([0, Math.max(...x)], [v.value, v.value]) });
      }
    });
    if (!sets.length) return;
    const lines = BASELINES.filter(([key]) => sets.some((d) => d.key === key)).map(([, what, dash]) => (dash[0] > 2 ? "Dashed: " : "Dotted: ") + what + ".");
    const card = el("div", { class: "card" }, el("h3", { text: "Held-out pass rate" }), lines.length ? el("p", { class: "soft small", text: lines.join(" ") }) : null);
    place.append(card);
    makeChart(card, sets, { label: "Held-out pass rate against step", low: 0, high: 1, format: (v) => Math.round(1000 * v) / 10 + " %" });
  };

  /* Where nothing verifies a completion: what the stage eval measured by the learned reward model. */
  const byModelCards = (place) => {
    runs.forEach((run, i) => {
      const one = (name) => evals(run, name).slice(-1)[0];
      const show = (v, form) => form(v.value) + " [" + form(v.low) + ", " + form(v.high) + "]";
      const rows = [["start_model_score", "mean score of the start", format], ["end_model_score", "mean score after PPO", format], ["model_score_gain", "gain", format],
        ["win_rate_by_model", "pairs that PPO's completion wins", percent], ["best_of_model_score", "best of a group from the start", format]]
        .filter(([name]) => one(name)).map(([name, what, form]) => [what, show(one(name), form)]);
      if (!rows.length) return;
      const tokens = run.summary && run.summary.eval && run.summary.eval.by_model ? run.summary.eval.by_model.tokens : null;
      if (tokens) rows.push(["mean length, tokens: start, after PPO", tokens.map(format).join(", ")]);
      place.append(el("div", { class: "card" }, el("h3", {}, ...(runs.length > 1 ? [swatch(i), " " + run.label + ": "] : []), "Held-out prompts, by the reward model"),
        el("p", { class: "soft small", text: "The score that PPO optimised, on " + format(one("model_score_gain").n) + " held-out prompts; no judgement by people. 95 % intervals over prompts." }),
        table(["", "value [95 %]"], rows, [1])));
    });
  };

  /* A run that learns from a learned reward model and watches the verifier: what is optimised (proxy), what is meant (gold),
   * and how far the policy has gone, side by side, with the same steps; and the two against the distance (Gao et al. 2022,
   * "Scaling laws for reward model overoptimization", plot against the root of the divergence). */
  const PROXY = data.names.proxy, GOLD = data.names.gold, KL = "objective/kl";
  const learned = (run) => curve(run, "ppo", PROXY) && curve(run, "ppo", GOLD);

  const distanceCard = (place, name, title) => {
    const sets = [];
    runs.forEach((run, i) => {
      const y = learned(run) && curve(run, "ppo", name), kl = curve(run, "ppo", KL), c = colour(i);
      if (!y || !kl) return;
      const at = average(kl[1]), mean = average(y[1]);
      const line = at.map((v, k) => ({ x: v === null ? null : Math.sqrt(Math.max(0, v)), y: mean[k] })).filter((p) => p.x !== null && p.y !== null);
      line.sort((a, b) => a.x - b.x);
      sets.push({ label: runs.length > 1 ? run.label : title, run: i, data: line, borderColor: c, backgroundColor: c, borderWidth: 0, showLine: false, pointRadius: 2.5 });
    });
    if (!sets.length) return;
    const card = el("div", { class: "card" }, el("h3", { text: title }));
    place.append(card);
    makeChart(card, sets, { label: title });
  };

  const baselineRows = (run) => {
    const rate = (v) => percent(v.value) + (v.low === null || v.high === null ? "" : " [" + (100 * v.low).toFixed(1) + ", " + (100 * v.high).toFixed(1) + "]");
    const rows = [];
    const add = (what, v) => { if (v) rows.push([what, rate(v), format(v.n)]); };
    const pass = evals(run, data.names.pass_rate), ppo = pass.filter((v) => v.stage === "ppo");
    add("start, greedy", evals(run, "start_pass_rate").slice(-1)[0] || pass.filter((v) => v.stage === "sft").slice(-1)[0]);
    add("after PPO, greedy", evals(run, "end_pass_rate").slice(-1)[0] || ppo.slice(-1)[0]);
    if (ppo.length > 1) {
      const best = ppo.reduce((a, b) => (b.value > a.value ? b : a));
      add("highest during PPO (step " + best.step + ")", best);
    }
    for (const [key, what] of BASELINES) add(what, evals(run, key).slice(-1)[0]);
    return rows;
  };

  /* What the stage fit-reward measured, in words: also where it is no better than a rule that reads only the length. */
  const verdict = (r) => {
    const low = r.group_low ?? r.low, high = r.group_high ?? r.high;
    return "Held-out pair accuracy " + percent(r.pair_accuracy) + " [" + (100 * low).toFixed(1) + ", " + (100 * high).toFixed(1) + "] of " + format(r.n) +
      " pairs; chance 50 %, the rule \u201c" + r.length_rule + "\u201d " + percent(r.length_baseline) + ". In words: " + (r.verdict || "\u2013") + ".";
  };
  const rewardModelSection = () => {
    if (!runs.some((r) => r.summary && r.summary.reward && typeof r.summary.reward.pair_accuracy === "number")) return;
    const s = section("Reward model", "Measured on groups whose prompts it was not fitted to; the interval takes prompts as the independent units.");
    runs.forEach((run, i) => {
      const r = run.summary && run.summary.reward;
      if (!r || typeof r.pair_accuracy !== "number") return;
      const bins = (r.calibration || []).filter((b) => b.n > 0).map((b) => [Math.round(100 * b.from) + " to " + Math.round(100 * b.to) + " %", format(b.n), percent(b.predicted), percent(b.observed)]);
      const margins = (r.by_margin || []).filter((b) => b.n > 0).map((b) => [format(b.above) + " to " + format(b.to), format(b.n), percent(b.accuracy)]);
      s.append(el("div", { class: "card" }, ...(runs.length > 1 ? [swatch(i), el("strong", { text: " " + run.label })] : []), el("p", { class: "verdict", text: verdict(r) }),
        el("details", {}, el("summary", { text: "Calibration and accuracy by margin" }), el("div", { class: "inside" },
          table(["predicted that the first wins", "pairs", "mean predicted", "observed"], bins, [1, 2, 3]), margins.length ? table(["how much better", "pairs", "accuracy"], margins, [1, 2]) : null))));
    });
  };

  const learnedSection = () => {
    if (!runs.some(learned)) return;
    const s = section("Proxy and gold", "Proxy: mean score of the learned reward model, which PPO optimises. Gold: mean score of the verifier, which only watches. " +
      "Where the proxy still rises and gold falls, the policy has found what the model gets wrong.");
    const grid = el("div", { class: "charts" });
    s.append(grid);
    metricCard(grid, "ppo", PROXY, "Proxy: learned reward model");
    metricCard(grid, "ppo", GOLD, "Gold: verifier");
    metricCard(grid, "ppo", KL, "KL from the start, nats a completion");
    distanceCard(grid, PROXY, "Proxy against √KL");
    distanceCard(grid, GOLD, "Gold against √KL");
    runs.forEach((run, i) => {
      const rows = learned(run) ? baselineRows(run) : [];
      if (!rows.length) return;
      grid.append(el("div", { class: "card" }, el("h3", {}, ...(runs.length > 1 ? [swatch(i), " " + run.label + ": "] : []), "Held-out pass rate (gold) and baselines"),
        table(["", "pass rate [95 %]", "prompts"], rows, [1, 2])));
    });
  };

  const curveSections = () => {
    const ppo = runs.some((r) => r.stages.some((s) => s.stage === "ppo"));
    if (ppo || runs.some((r) => r.evals.length)) {
      const s = section("Reward and held-out pass rate", "Against the PPO step. Faint: each step; strong: mean over neighbouring steps.");
      const wide = el("div", { class: "charts wide" });
      s.append(wide);
      metricCard(wide, "ppo", data.names.reward, "Mean reward");
      passCard(wide);
      byModelCards(wide);
    }
    rewardModelSection();
    learnedSection();
    if (ppo) {
      const grid = el("div", { class: "charts" });
      section("The course of PPO").append(grid);
      for (const [name, title] of PPO) metricCard(grid, "ppo", name, title);
    }
    const shown = new Set([data.names.reward, ...PPO.map((p) => p[0])]);
    const stages = [...new Set(["ppo", ...runs.flatMap((r) => r.stages.map((s) => s.stage))])];
    for (const stage of stages) {
      const names = [...new Set(runs.flatMap((r) => r.stages.filter((s) => s.stage === stage).flatMap((s) => Object.keys(s.metrics))))]
        .filter((n) => !(stage === "ppo" && shown.has(n)) && n !== "timing/wall");
      if (!names.length) continue;
      const grid = el("div", { class: "charts inside" });
      const d = el("details", {}, el("summary", { text: stage + ": " + names.length + (stage === "ppo" ? " further metrics" : " metrics") }), grid);
      if (stage === "ppo") body.append(d);
      else section("Stage " + stage).append(d);
      const fill = () => { for (const n of names) metricCard(grid, stage, n, n); apply(); };
      d.addEventListener("toggle", fill, { once: true });
      if (stage !== "ppo" && names.length <= 6) d.open = true;
    }
  };

  /* ---- experts ---- */

  const relative = (load, layer) => load.counts.map((layers) => {
    const sum = layers[layer].reduce((a, b) => a + b, 0) || 1;
    return layers[layer].map((n) => (n * load.experts) / sum);
  });
  const expertSection = () => {
    const loads = runs.flatMap((run, i) => run.loads.map((load) => ({ run, i, load })));
    if (!loads.length) return;
    const s = section("Expert load", "How often each expert was chosen for completion tokens, relative to an even share.");
    for (const { run, i, load } of loads) {
      const card = el("div", { class: "card" });
      const choose = el("select", { "aria-label": "layer" }, ...Array.from({ length: load.layers }, (_, l) => el("option", { value: l, text: "layer " + (l + 1) })));
      const legend = el("span", { class: "soft small" });
      legend.append("0", rampBar(), "3 times the even share or more");
      card.append(el("div", { class: "row" }, swatch(i), el("strong", { text: (runs.length > 1 ? run.label + ", " : "") + load.stage }), choose, legend));
      const canvas = el("canvas", { class: "heat", role: "img", "aria-label": "expert load by step" });
      const note = el("p", { class: "soft small" });
      card.append(el("p", { class: "soft small", text: "Rows: experts 0 to " + (load.experts - 1) + "; columns: steps " + load.steps[0] + " to " + load.steps[load.steps.length - 1] + "." }), canvas, note);
      card.append(el("h3", { text: "Last of these steps, sorted" }));
      const bars = makeChart(card, [{ label: "share of an even load", run: i, data: [], backgroundColor: colour(i) }], { type: "bar", labels: [], zero: true, label: "expert load, sorted" });
      const draw = () => {
        const layer = Number(choose.value), row = load.counts[load.counts.length - 1][layer];
        const sum = row.reduce((a, b) => a + b, 0) || 1;
        const order = row.map((n, x) => [x, (n * load.experts) / sum]).sort((a, b) => b[1] - a[1] || a[0] - b[0]);
        drawHeat(canvas, relative(load, layer));
        bars.data.labels = order.map((o) => "expert " + o[0]);
        bars.data.datasets[0].data = order.map((o) => o[1]);
        bars.update();
        note.textContent = "Last of these steps: largest " + order[0][1].toFixed(2) + " times the even share, smallest " + order[order.length - 1][1].toFixed(2) +
          ", " + order.filter((o) => o[1] === 0).length + " of " + load.experts + " experts without a token.";
      };
      choose.addEventListener("change", draw);
      repaint.push(draw);
      s.append(card);
      draw();
    }
  };

  /* ---- groups ---- */

  const groupSection = () => {
    const any = runs.some((r) => r.groups.length);
    if (!any) return;
    const s = section("Best and worst groups", "By mean reward, from the first and the last step of each stage; candidates in order of reward.");
    runs.forEach((run, i) => {
      for (const g of run.groups) {
        const candidates = [...g.candidates].sort((a, b) => (b.reward ?? -Infinity) - (a.reward ?? -Infinity));
        const single = g.terms.length === 1;
        const head = ["#", "reward", ...(single ? [] : g.terms), "tokens", "finish", "text"];
        const numbers = head.map((_, k) => k).slice(0, head.length - 2);
        const rows = candidates.map((c) => [String(c.candidate), format(c.reward), ...(single ? [] : c.scores.map(format)), String(c.tokens), c.finish,
          el("div", { class: "text", text: plain(c.text) })]);
        const d = el("details", {}, el("summary", {}, ...(runs.length > 1 ? [swatch(i), " "] : []), el("span", { class: "tag " + g.why, text: g.why }),
          g.stage + " step " + g.step + ", mean " + format(g.mean) + ": ", el("span", { class: "soft", text: plain(g.prompt.slice(0, 110)) })));
        d.addEventListener("toggle", () => d.append(el("div", { class: "inside" }, el("div", { class: "prompt text", text: plain(g.prompt) }), table(head, rows, numbers),
          el("p", { class: "soft small", text: "Prompt " + g.prompt_index + ", slot " + g.slot + (g.scorer ? ", scored by " + g.scorer : "") }))), { once: true });
        s.append(d);
      }
    });
  };

  /* ---- events, configuration ---- */

  const eventSection = () => {
    if (!runs.some((r) => r.events.length)) return;
    const s = section("Events");
    runs.forEach((run, i) => {
      if (!run.events.length) return;
      const d = el("details", {}, el("summary", {}, ...(runs.length > 1 ? [swatch(i), " " + run.label + ": "] : []),
        run.events_total + (run.events_total === 1 ? " event" : " events") + (run.events.length < run.events_total ? ", the last " + run.events.length + " below" : "")));
      d.append(el("div", { class: "inside" }, table(["stage", "step", "kind", "subject", "what"], run.events.map((v) =>
        [v.stage, format(v.step), v.kind, format(v.subject), el("div", { class: "text", text: plain(v.body) })]), [1, 3])));
      if (run.events.length <= 12) d.open = true;
      s.append(d);
    });
  };
  const configSection = () => {
    const s = section("Configuration");
    runs.forEach((run, i) => {
      if (!run.config) return;
      s.append(el("details", {}, el("summary", {}, ...(runs.length > 1 ? [swatch(i), " "] : []), run.label + ": as used"),
        el("div", { class: "inside" }, el("pre", { text: run.config }),
          el("p", { class: "soft small", text: "Seed " + run.seed + "; kernels " + run.fingerprint + "; program " + run.program + "." }))));
    });
    for (const run of runs) {
      if (!run.checkpoints.length) continue;
      s.append(el("details", {}, el("summary", { text: run.label + ": checkpoints" }), el("div", { class: "inside" },
        table(["stage", "step", "path", "hash"], run.checkpoints.map((c) => [c.stage, format(c.step), c.path, c.hash]), [1]))));
    }
  };

  /* ---- legend, colours ---- */

  const repaint = [];
  const apply = () => {
    for (const chart of charts) {
      chart.data.datasets.forEach((d, k) => chart.setDatasetVisibility(k, !hidden.has(d.run) && !(d.smooth && !smooth)));
      for (const d of chart.data.datasets) if (d.raw) { d.borderColor = smooth ? alpha(colour(d.run), 0.3) : colour(d.run); d.quiet = smooth; }
      themeChart(chart);
      chart.update();
    }
  };
  const legend = () => {
    const row = el("div", { class: "legend" });
    if (runs.length > 1) {
      runs.forEach((run, i) => {
        const box = el("input", { type: "checkbox", checked: "" });
        box.addEventListener("change", () => { if (box.checked) hidden.delete(i); else hidden.add(i); apply(); });
        row.append(el("label", {}, box, swatch(i), el("span", { text: run.label })));
      });
    }
    const box = el("input", { type: "checkbox", checked: "" });
    box.addEventListener("change", () => { smooth = box.checked; apply(); });
    row.append(el("label", { class: "soft small" }, box, "mean over neighbouring steps"));
    body.append(row);
  };

  runs.forEach((r) => { r.label = r.name; });
  body.replaceChildren();
  const names = runs.map((r) => (r.run && r.run !== r.name ? r.run + " (" + r.name + ")" : r.name));
  body.append(el("header", {}, el("h1", { text: runs.length === 1 ? names[0] : runs.length + " runs" }), el("span", { class: "soft", text: "Tenfold report" })));
  legend();
  for (const run of runs)
    if (run.warning) body.append(el("p", { class: "warning", role: "note", text: (runs.length > 1 ? run.label + ": " : "") + run.warning }));
  summarySection();
  curveSections();
  expertSection();
  groupSection();
  eventSection();
  configSection();
  body.append(el("footer", { text: "Made by tenfold report. Texts of the model are shown as they are and may be wrong or offensive. Charts: Chart.js (MIT)." }));
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { repaint.forEach((f) => f()); apply(); });
})();
