// The step browser: the groups of a step, a group's candidates with scores, rank,
// advantage, and their tokens with log-probability and chosen experts.
import { find, make } from "./common.js";
import { alpha, colour, empty, fill, format, options, query, runOptions } from "./dashkit.js";
import { plain } from "./text.js";

const TOKENS_AT_ONCE = 4000; // of a group; more are fetched when they are asked for
const FAR = 8;               // nats: the strongest colour
// How strong a token of this log-probability is coloured: from 0 where the policy was sure.
const strength = (logprob) => 0.65 * Math.sqrt(Math.min(1, Math.max(0, -logprob) / FAR));
const HEAT = "#d55e00", COLD = "#0072b2";
// The same of log π − log π_ref, of either sign: warm where the policy has come to like the token more.
const FURTHER = 2; // nats: the strongest colour
const shift = (d) => alpha(d < 0 ? COLD : HEAT, 0.65 * Math.sqrt(Math.min(1, Math.abs(d) / FURTHER)));

const short = (v) => (v === null ? "–" : String(Number(v.toPrecision(3))));
const fixed = (v, digits = 3) => (v === null || v === undefined ? "–" : v.toFixed(digits));

export const stepsView = {
  name: "Steps",
  colours: "logprob", order: "rank",

  open(into, app) {
    this.app = app;
    this.into = into;
    const run = app.run(app.chosen().slice(-1)[0]), stages = run ? run.stages.filter((s) => s.last_step >= 0) : [];
    if (!stages.length) {
      into.replaceChildren(make("section", { class: "panel" }, this.runChoice(run), empty(run ? "This run has not recorded a group yet; its first step appears here by itself." : "No run in this folder yet.")));
      return;
    }
    const number = (name, otherwise) => { const v = Number(app.get(name)); return app.get(name) !== null && Number.isInteger(v) && v >= 0 ? v : otherwise; };
    const stage = stages.find((s) => s.stage === app.get("stage")) || stages.find((s) => s.stage === "ppo") || stages[stages.length - 1];
    this.at = { run: run.run, stage: stage.stage, step: number("step", stage.last_step), slot: number("slot", null), candidate: number("candidate", null) };
    this.list = make("div", {});
    this.group = make("section", { class: "panel", "aria-label": "Group", id: "group" });
    this.newer = make("span", { class: "soft small", role: "status" });
    into.replaceChildren(this.controls(run, stages), run.warning ? make("p", { class: "warning", role: "note" }, run.warning) : "", make("div", { class: "browser" }, make("section", { class: "panel", "aria-label": "Groups" }, this.list), this.group));
    this.sayNewer();
    this.legend();
    this.load();
  },

  runChoice(run) {
    const select = make("select", { id: "steps-run", onchange: () => this.app.go({ view: "steps", run: select.value }) }, ...runOptions(this.app.runs(), run?.run));
    return this.app.runs().length ? make("div", { class: "controls" }, make("label", {}, "Run", select)) : null;
  },
  controls(run, stages) {
    const stage = make("select", { id: "steps-stage", onchange: () => this.app.go({ view: "steps", run: run.run, stage: stage.value }) }, ...options(stages.map((s) => [s.stage, s.stage]), this.at.stage));
    this.input = make("input", { type: "number", id: "steps-step", min: "0", value: String(this.at.step), onchange: () => this.to(Number(this.input.value)) });
    const go = (by, text, name) => make("button", { type: "button", "aria-label": name, onclick: () => this.to(this.at.step + by) }, text);
    this.follow = make("input", { type: "checkbox", id: "follow" });
    const pick = (id, list, now, then) => {
      const s = make("select", { id, onchange: () => then(s.value) }, ...options(list, now));
      return s;
    };
    return make("section", { class: "panel controls", "aria-label": "Which step" }, this.runChoice(run), make("label", {}, "Stage", stage),
      make("div", { class: "controls" }, make("label", {}, "Step", this.input), go(-1, "◀", "Previous step"), go(1, "▶", "Next step"), make("button", { type: "button", onclick: () => this.to(this.last()) }, "Newest")),
      make("label", {}, this.follow, "follow"), this.newer,
      make("label", {}, "Order", pick("order", [["rank", "by rank"], ["candidate", "by number"]], this.order, (v) => { this.order = v; this.drawGroup(); })),
      make("label", {}, "Colour", pick("colours", [["logprob", "log-probability"], ["reference", "change against the reference"], ["experts", "first expert, layer 1"], ["none", "none"]], this.colours, (v) => { this.colours = v; this.paint(); this.legend(); })), (this.key_ = make("span", { class: "soft small" })));
  },
  legend() {
    const bar = make("span", { class: "scale-of" });
    bar.style.background = "linear-gradient(90deg, " + [0, 1, 2, 4, FAR].map((p) => alpha(HEAT, strength(-p)) + " " + (100 * p) / FAR + "%").join() + ")";
    const apart = make("span", { class: "scale-of" });
    apart.style.background = "linear-gradient(90deg, " + [-FURTHER, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, FURTHER].map((d) => shift(d) + " " + (50 + (50 * d) / FURTHER) + "%").join() + ")";
    this.key_.replaceChildren(...(this.colours === "logprob" ? ["log π 0", bar, "−" + FAR + " and less"] : this.colours === "reference" ? ["log π − log π_ref −" + FURTHER, apart, "+" + FURTHER] : this.colours === "experts" ? ["the same colour: the same expert, or one 8, 16 … further"] : []));
  },

  last() { return this.app.run(this.at.run)?.stages.find((s) => s.stage === this.at.stage)?.last_step ?? 0; },
  sayNewer() { this.newer.textContent = "of 0 to " + this.last(); },
  to(step) {
    if (!Number.isInteger(step)) return;
    step = Math.max(0, Math.min(this.last(), step));
    this.at = { ...this.at, step, candidate: null };
    this.input.value = String(step);
    this.load();
  },
  changed(id) {
    if (!this.at || id !== this.at.run || !this.list?.isConnected) {
      if (id === this.app.chosen().slice(-1)[0] && !this.list?.isConnected) this.open(this.into, this.app);
      return;
    }
    this.sayNewer();
    if (this.follow.checked && this.at.step !== this.last()) this.to(this.last());
  },
  address() {
    const { run, stage, step, slot, candidate } = this.at;
    this.app.note({ view: "steps", run, stage, step, slot, candidate });
  },

  async load() {
    const { run, stage, step } = this.at;
    const worked = await fill(this.list, () => query("/api/runs/step", { run, stage, step }), (got) => {
      this.slots = got.groups.map((g) => g.slot);
      return got.groups.length ? make("ol", { class: "groups", "aria-label": "Groups of the step" }, ...got.groups.map((g) => make("li", {}, make("button", { type: "button", id: "slot-" + g.slot, onclick: () => this.open_(g.slot) },
        make("span", { class: "small soft" }, "group " + g.slot + ": reward " + short(g.reward) + ", " + short(g.lowest) + " to " + short(g.highest)),
        make("span", { class: "line" }, ...plain(g.prompt)))))) : empty("No group in this step.");
    }, () => this.load());
    if (!worked || !this.slots.length) {
      this.group.replaceChildren();
      return;
    }
    await this.open_(this.slots.includes(this.at.slot) ? this.at.slot : this.slots[0], true);
  },

  async open_(slot, keep) {
    this.at.slot = slot;
    if (!keep) this.at.candidate = null;
    this.address();
    for (const b of this.list.querySelectorAll("button")) b.setAttribute("aria-current", String(b.id === "slot-" + slot));
    find("slot-" + slot)?.scrollIntoView({ block: "nearest" });
    const { run, stage, step } = this.at;
    await fill(this.group, () => query("/api/runs/group", { run, stage, step, slot }), (g) => {
      this.got = g;
      this.tokens = new Map();
      return [this.head(g), (this.candidates = make("div", {})), (this.about = make("p", { class: "about", role: "status" }, this.aboutAll(g)))];
    }, () => this.open_(slot, keep));
    if (!this.candidates?.isConnected || this.got.slot !== slot) return;
    this.drawGroup();
    if (this.got.candidates.reduce((n, c) => n + c.tokens, 0) <= TOKENS_AT_ONCE) this.loadTokens(this.got);
    if (this.at.candidate !== null) find("candidate-" + this.at.candidate)?.scrollIntoView({ block: "center" });
  },

  head(g) {
    const gae = g.advantage === "gae";
    return make("div", {}, make("h2", { id: "group-title" }, "Step " + g.step + ", group " + g.slot + ", prompt " + g.prompt_index),
      make("div", { class: "raw prompt-text", tabindex: "0", role: "region", "aria-label": "Prompt" }, ...plain(g.prompt)),
      make("p", { class: "soft small" }, "Sampled by policy version " + g.policy_version + (g.scorer ? ", scored by " + g.scorer : "") + ". Advantage: of the reward, after ppo.eos_rule, against this group" +
        (gae ? " (this run learned by GAE; the critic's values are not in the record)" : " by ppo.advantage " + g.advantage) + ", without the KL term. Log-probabilities are those of the policy when it sampled."),
      g.candidates.reduce((n, c) => n + c.tokens, 0) > TOKENS_AT_ONCE ? make("p", {}, make("button", { type: "button", onclick: () => this.loadTokens(g) }, "Tokens with their log-probabilities")) : null);
  },

  drawGroup() {
    const g = this.got;
    if (!g || !this.candidates?.isConnected) return;
    const first = g.rankings.find((r) => r.source === "reward") || g.rankings[0];
    const rank = (c, r = first) => r?.ranks[c.candidate] ?? null;
    const list = [...g.candidates].sort((a, b) => (this.order === "rank" ? (rank(a) ?? 99) - (rank(b) ?? 99) : 0) || a.candidate - b.candidate);
    this.candidates.replaceChildren(...list.map((c) => {
      const figure = (name, value, title) => make("li", { title }, make("span", { class: "soft" }, name), " ", make("span", {}, value));
      const others = g.rankings.filter((r) => r !== first).map((r) => figure("rank by " + r.source, String(rank(c, r) ?? "–"), r.version));
      return make("article", { class: "candidate" + (c.candidate === this.at.candidate ? " found" : ""), id: "candidate-" + c.candidate, "aria-label": "Candidate " + c.candidate },
        make("h3", {}, (rank(c) === null ? "" : "Rank " + rank(c) + ": ") + "candidate " + c.candidate),
        make("ul", { class: "figures" }, figure("reward", format(c.reward)), figure("advantage", fixed(c.advantage)),
          ...(g.terms.length > 1 || g.terms[0] !== "reward" ? g.terms.map((t, k) => figure(t, format(c.scores[k]), "raw score of this term")) : []),
          figure("log π", fixed(c.logprob, 2), "sum over its tokens, nats"),
          ...(c.against === null ? [] : [figure("log π/π_ref", fixed(c.against, 2), "sum over its tokens, nats: their mean over candidates is objective/kl")]),
          figure("tokens", String(c.tokens)), figure("ended by", { end: "end token", stop: "stop text", length: "length limit" }[c.finish]), ...others),
        make("div", { class: "raw", id: "text-" + c.candidate }, ...(c.text === "" ? [make("span", { class: "soft" }, "(empty)")] : plain(c.text))));
    }));
    for (const c of g.candidates) if (this.tokens.has(c.candidate)) this.showTokens(c.candidate);
  },

  aboutAll(g) {
    return g.candidates.some((c) => c.tokens) ? "Point at a token, or go to a text and use ← →: its probability" + (g.layers ? " and its experts" : "") + "." : "";
  },

  // ---- tokens ----

  async loadTokens(g) {
    const { run, stage, step } = this.at, left = g.candidates.map((c) => c.candidate);
    const one = async () => {
      for (let c; (c = left.shift()) !== undefined && this.got === g;) {
        const got = await query("/api/runs/tokens", { run, stage, step, slot: g.slot, candidate: c }).catch(() => null);
        if (!got || this.got !== g) continue;
        this.tokens.set(c, got);
        this.showTokens(c);
      }
    };
    await Promise.all([one(), one(), one()]);
  },

  showTokens(c) {
    const t = this.tokens.get(c), into = find("text-" + c);
    if (!t || !into || !t.ids.length) return;
    into.tabIndex = 0;
    into.setAttribute("role", "group");
    into.setAttribute("aria-label", "Tokens of candidate " + c + "; left and right tell them one by one");
    into.replaceChildren(...t.ids.map((id, i) => make("span", { class: "token" }, ...(t.texts[i] === null ? ["[" + id + "] "] : plain(t.texts[i])))));
    const move = (i) => {
      this.candidates.querySelector(".now")?.classList.remove("now");
      into.children[i].classList.add("now");
      into.dataset.at = String(i);
      this.about.textContent = "Candidate " + c + ", " + this.tell(t, i);
    };
    into.onmouseover = into.onclick = (event) => {
      const token = event.target.closest(".token");
      if (token) move([...into.children].indexOf(token));
    };
    into.onkeydown = (event) => {
      const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!by) return;
      event.preventDefault();
      const now = into.dataset.at === undefined ? (by > 0 ? -1 : t.ids.length) : Number(into.dataset.at);
      move(Math.max(0, Math.min(t.ids.length - 1, now + by)));
    };
    this.colourTokens(c);
  },

  tell(t, i) {
    const k = t.experts_per_token, row = t.layers * k;
    const experts = Array.from({ length: t.layers }, (_, l) => "layer " + (l + 1) + ": " + t.experts.slice(i * row + l * k, i * row + (l + 1) * k).join(" ")).join("; ");
    const p = t.logprobs[i];
    return "token " + (i + 1) + " of " + t.ids.length + ", id " + t.ids[i] + (p === null ? "" : ", log π " + fixed(p) + ", π " + format(Math.exp(p))) + (t.against.length && t.against[i] !== null ? ", log π − log π_ref " + fixed(t.against[i]) : "") + (experts ? "; experts, strongest first: " + experts : "") + ".";
  },

  colourTokens(c) {
    const t = this.tokens.get(c), spans = find("text-" + c)?.children;
    if (!t || !spans || spans.length !== t.ids.length) return;
    for (let i = 0; i < spans.length; i++) {
      const p = t.logprobs[i], row = t.layers * t.experts_per_token;
      spans[i].style.backgroundColor = this.colours === "logprob" && p !== null ? alpha(HEAT, strength(p))
        : this.colours === "reference" && t.against.length && t.against[i] !== null ? shift(t.against[i])
        : this.colours === "experts" && row ? alpha(colour(t.experts[i * row]), 0.4) : "";
    }
  },
  paint() { for (const c of this.tokens?.keys() || []) this.colourTokens(c); },

  key(k) {
    if (!this.slots?.length || !this.list.isConnected) return false;
    const i = this.slots.indexOf(this.at.slot);
    if (k === "j" && i + 1 < this.slots.length) this.open_(this.slots[i + 1]);
    else if (k === "k" && i > 0) this.open_(this.slots[i - 1]);
    else if (k === "n") this.to(this.at.step + 1);
    else if (k === "p") this.to(this.at.step - 1);
    else return false;
    return true;
  },
};
