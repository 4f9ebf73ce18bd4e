"use strict";
/* What the report and the dashboard share: how a curve is drawn, in which colour,
 * how a number is written, which metrics have a chart. One global, `drawing`,
 * because the report is one file with scripts inside. Needs Chart.js before it.
 * Everything that comes from a run is set as text, never as HTML. */
const drawing = (() => {
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8b6bd1", "#7f7f7f"];
  const colour = (i) => COLOURS[i % COLOURS.length];
  const alpha = (hex, a) => hex + Math.round(255 * a).toString(16).padStart(2, "0");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const format = (v) => {
    if (v === null || v === undefined) return "–";
    if (typeof v !== "number") return String(v);
    if (Number.isInteger(v) && Math.abs(v) < 1e15) return v.toLocaleString("en-US");
    const a = Math.abs(v);
    if (a !== 0 && (a < 1e-3 || a >= 1e7)) return v.toExponential(2);
    return String(Number(v.toPrecision(4)));
  };
  /* step: between the marks of an axis, which have to differ */
  const percent = (v, step = 0.001) => (v === null || v === undefined ? "–" : (100 * v).toFixed(Math.max(1, Math.ceil(-Math.log10(100 * step) - 1e-9))) + " %");
  const dark = () => {
    const scheme = getComputedStyle(document.documentElement).colorScheme;
    return scheme === "dark" || (scheme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  };

  /* [metric, title] of the charts of PPO; others are shown below them by their names. */
  const PPO = [
    ["objective/kl", "KL from the reference, nats a completion"],
    ["objective/entropy", "Entropy, nats a completion"],
    ["policy/entropy_avg", "Entropy, nats a token"],
    ["policy/clipfrac_avg", "Clip fraction"],
    ["policy/approxkl_avg", "Approximate KL of the update"],
    ["response_length/mean", "Completion length, tokens"],
    ["perf/throughput", "Tokens per second"],
    ["objective/rlhf_reward", "Reward with the KL term"],
    ["loss/policy_avg", "Policy loss"],
    ["loss/value_avg", "Value loss"],
    ["critic/vf_explained_var", "Explained variance of the critic"],
    ["objective/kl_coef", "KL coefficient"],
    ["actor/grad_norm", "Gradient norm"],
    ["training/rollout_probs_diff_max", "Sampler against learner: largest difference of log-probabilities"],
  ];

  /* Mean over neighbouring steps, by running sums: a curve may have 10,000. A level stretch stays level: no rounding on the axis. */
  const average = (y) => {
    const n = y.length, half = Math.max(1, Math.floor(n / 40));
    const sum = new Float64Array(n + 1), count = new Int32Array(n + 1), turns = new Int32Array(n + 1); /* turns: values unlike the one before */
    let last = null;
    y.forEach((v, i) => {
      sum[i + 1] = sum[i] + (v === null ? 0 : v);
      count[i + 1] = count[i] + (v !== null);
      turns[i + 1] = turns[i] + (v !== null && last !== null && v !== last);
      if (v !== null) last = v;
    });
    return y.map((_, i) => {
      const a = Math.max(0, i - half), b = Math.min(n, i + half + 1);
      if (count[a] === count[b]) return null;
      let first = a;
      while (y[first] === null) first++;
      return turns[first + 1] === turns[b] ? y[first] : (sum[b] - sum[a]) / (count[b] - count[a]);
    });
  };
  const points = (x, y) => x.map((v, i) => ({ x: v, y: y[i] }));

  /* A canvas in `place` and its chart. options: label, type ("bar"), labels, format, zero, low, high. */
  const makeChart = (place, datasets, options = {}) => {
    const canvas = document.createElement("canvas"), plot = document.createElement("div");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", options.label || "");
    plot.className = "plot";
    plot.append(canvas);
    place.append(plot);
    const axis = () => ({ grid: { color: css("--line") }, ticks: { color: css("--soft"), maxTicksLimit: 7 }, border: { display: false } });
    const chart = new Chart(canvas, {
      type: options.type || "line",
      data: { datasets, labels: options.labels },
      options: {
        animation: false, maintainAspectRatio: false, responsive: true, parsing: options.type ? undefined : false, normalized: true, spanGaps: true,
        interaction: { mode: "nearest", axis: "x", intersect: false },
        plugins: { legend: { display: false }, decimation: { enabled: true, algorithm: "min-max" }, tooltip: {
          filter: (item) => !item.dataset.quiet,
          callbacks: { label: (item) => item.dataset.label + ": " + (options.format || format)(item.parsed.y) } } },
        scales: {
          x: { ...axis(), type: options.type ? "category" : "linear" },
          y: { ...axis(), beginAtZero: Boolean(options.zero), suggestedMin: options.low, suggestedMax: options.high },
        },
      },
    });
    if (options.format) chart.options.scales.y.ticks.callback = (v, i, ticks) => options.format(v, ticks.length > 1 ? ticks[1].value - ticks[0].value : undefined);
    if (options.type) { chart.options.scales.y.ticks.precision = 0; chart.options.scales.x.ticks.display = false; chart.options.scales.x.grid.display = false; }
    return chart;
  };
  /* The colours of the page, which may have changed, on the chart's axes. */
  const themeChart = (chart) => {
    for (const name of ["x", "y"]) {
      chart.options.scales[name].grid.color = css("--line");
      chart.options.scales[name].ticks.color = css("--soft");
    }
  };

  /* The curve of run i: long ones faint, with their mean over neighbouring steps. */
  const lineSets = (i, label, x, y) => {
    const c = colour(i), base = { label, run: i, pointRadius: x.length < 3 ? 3 : 0, borderColor: c, backgroundColor: c, tension: 0 };
    if (y.length < 30) return [{ ...base, data: points(x, y), borderWidth: 2 }];
    return [
      { ...base, data: points(x, y), borderWidth: 1, borderColor: alpha(c, 0.3), raw: true, quiet: true },
      { ...base, data: points(x, average(y)), borderWidth: 2, smooth: true },
    ];
  };
  /* Held-out measurements [{step, value, low, high}] with their band. */
  const evalSets = (i, label, rate) => {
    const c = colour(i), x = rate.map((v) => v.step), sets = [];
    if (rate.some((v) => v.low !== null && v.high !== null)) {
      const band = { label: label + " 95 % interval", run: i, borderWidth: 0, pointRadius: 0, quiet: true };
      sets.push({ ...band, data: points(x, rate.map((v) => v.low)) });
      sets.push({ ...band, data: points(x, rate.map((v) => v.high)), fill: "-1", backgroundColor: alpha(c, 0.15) });
    }
    sets.push({ label, run: i, data: points(x, rate.map((v) => v.value)), borderColor: c, backgroundColor: c, borderWidth: 2, pointRadius: 3.5 });
    return sets;
  };

  /* Expert load relative to an even share: 0 pale, 1 middle, 3 and more strong. */
  const ramp = (v) => {
    const t = Math.min(1, v / 3), from = dark() ? [30, 36, 42] : [240, 244, 247], to = dark() ? [120, 200, 255] : [0, 70, 130];
    return from.map((f, k) => Math.round(f + (to[k] - f) * Math.sqrt(t)));
  };
  const rampBar = () => {
    const bar = document.createElement("span");
    bar.className = "ramp";
    bar.style.background = "linear-gradient(90deg, rgb(" + ramp(0) + "), rgb(" + ramp(0.75) + "), rgb(" + ramp(3) + "))";
    return bar;
  };
  /* columns: one array of relative loads for each step; rows are experts. */
  const drawHeat = (canvas, columns) => {
    const w = columns.length, h = columns[0].length, context = canvas.getContext("2d");
    canvas.width = w;
    canvas.height = h;
    const image = context.createImageData(w, h);
    columns.forEach((column, x) => column.forEach((v, y) => image.data.set([...ramp(v), 255], 4 * (y * w + x))));
    context.putImageData(image, 0, 0);
  };

  return { colour, alpha, css, format, percent, PPO, average, points, makeChart, themeChart, lineSets, evalSets, ramp, rampBar, drawHeat };
})();
