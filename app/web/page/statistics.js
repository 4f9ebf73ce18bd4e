// What the labels of a campaign are worth: how many an hour, how far people agree,
// what sways them, and what reward models make of them.
import { make } from "./common.js";
import { empty, fill, format, interval, nameOf, options, percent, query, since, table } from "./dashkit.js";

const { makeChart, themeChart, evalSets } = drawing;
const two = (v) => (v === null || v === undefined ? "–" : v.toFixed(2));
const OUTCOMES = { ranked: "ranked", tie: "tie", all_bad: "all bad", skip: "skipped", cannot_rank: "cannot rank", flag: "flagged" };
const ARMS = [["reward_label_accuracy_uniform", "uniform duels (unbiased)"], ["reward_label_accuracy_gain", "duels by information"], ["reward_label_accuracy_quads", "quads"]];

export const labelsView = {
  name: "Labels",
  open(into, app) {
    this.app = app;
    const list = app.campaigns();
    if (!list.length) {
      into.replaceChildren(make("section", { class: "panel" }, empty("No campaign in this folder. ", make("code", {}, "tenfold label new"), " makes one.")));
      this.campaign = null;
      return;
    }
    this.campaign = list.find((c) => String(c.campaign) === app.get("campaign")) || list[0];
    const choose = make("select", { id: "campaign", onchange: () => app.go({ view: "labels", campaign: choose.value }) }, ...options(list.map((c) => [c.campaign, c.name]), this.campaign.campaign));
    this.people = make("div", {});
    this.models = make("section", { class: "panel", "aria-labelledby": "models-title" });
    into.replaceChildren(make("section", { class: "panel controls", "aria-label": "Campaign" }, make("label", {}, "Campaign", choose)), this.people, this.models);
    return this.load();
  },
  close() {
    this.bars?.destroy();
    this.live?.destroy();
    this.bars = this.live = null;
  },
  async load() {
    const c = this.campaign;
    await fill(this.people, () => query("/api/owner/campaigns/" + c.campaign + "/statistics", {}), (got) => {
      this.got = got;
      return this.drawPeople(got);
    }, () => this.load());
    if (this.got) this.drawHours(this.got);
    await this.drawModels();
  },

  drawPeople(s) {
    const a = s.agreement, rows = [["Raw agreement", interval(a.raw)], ["Cohen's κ, mean over pairs of people", interval(a.cohen, two)], ["Fleiss' κ", interval(a.fleiss, two)], ["Krippendorff's α, ordinal", interval(a.alpha, two)]];
    const sway = [["Left wins (duels)", interval(s.left), format(s.left.n), "50 %"], ["The longer text wins", interval(s.length), format(s.length.n), "–"],
      ...s.places.map((p, k) => ["Best lies at place " + (k + 1) + " (quads)", interval(p), format(p.n), "25 %"]).filter((_, k) => s.places[k].n)];
    this.hours = make("section", { class: "panel", "aria-label": "Answers an hour" });
    return [make("div", { class: "charts two" }, this.hours,
      make("section", { class: "panel", "aria-labelledby": "answers-title" }, make("h2", { id: "answers-title" }, "Answers"),
        table("Answers by outcome", ["", "#answers"], [...Object.entries(s.outcomes).map(([o, n]) => [OUTCOMES[o] || o, format(n)]),
          ["median time in sight", s.median_seconds === null ? "–" : s.median_seconds.toFixed(1) + " s"], ["gold items right", s.gold.n ? percent(s.gold.value) + " of " + s.gold.n : "–"]])),
      make("section", { class: "panel", "aria-labelledby": "agree-title" }, make("h2", { id: "agree-title" }, "Agreement"),
        a.units ? table("Agreement", ["", "#value [95 %]"], rows) : empty("No pair was judged by two people yet."),
        make("p", { class: "latest" }, a.units ? format(a.units) + " pairs of answers that at least two people judged, " + format(a.ratings) + " judgements by " + a.raters + " people. Intervals: bootstrap over prompts. " +
          (a.ceiling === null ? "" : "One of two equal people is right " + percent(a.ceiling) + " of the time at this agreement: promise no reward model more.") : "")),
      make("section", { class: "panel", "aria-labelledby": "sway-title" }, make("h2", { id: "sway-title" }, "What should not matter"),
        s.answers ? table("What should not matter", ["", "#share [95 %]", "#of", "#fair"], sway) : empty("No answer yet."),
        make("p", { class: "latest" }, "Wilson's intervals. Where people like longer texts for good reasons, the longer ones win more often.")))];
  },

  drawHours(s) {
    if (!this.hours?.isConnected) return;
    this.bars?.destroy();
    this.hours.replaceChildren(make("h2", {}, "Answers an hour"));
    if (!s.hours.length) {
      this.hours.append(empty("No answer yet."));
      return;
    }
    const have = new Map(s.hours), newest = s.hours[0][0], oldest = Math.max(s.hours[s.hours.length - 1][0], newest - 167);
    const list = Array.from({ length: newest - oldest + 1 }, (_, i) => oldest + i), n = list.map((h) => have.get(h) || 0);
    this.bars = makeChart(this.hours, [{ label: "answers", data: n, backgroundColor: drawing.colour(0) }], { type: "bar", labels: list.map((h) => since(3600 * h)), zero: true, label: "Answers an hour" });
    this.hours.append(make("p", { class: "latest" }, "Latest hour with answers, from " + since(3600 * newest) + ": " + n[n.length - 1] + ". In all " + format(s.hours.reduce((sum, h) => sum + h[1], 0)) + " in " + format(s.hours.length) + (s.hours.length === 1 ? " hour" : " hours") + " with answers."));
  },

  // Runs that learned from labels of this campaign, or of all.
  async drawModels() {
    const runs = this.app.runs().filter((r) => r.campaign !== undefined && (r.campaign === "" || r.campaign === this.campaign.name));
    await fill(this.models, () => Promise.all(runs.map(async (r) => [r, (await query("/api/runs/curves", { run: r.run, names: "none" })).evals])), (all) => {
      const title = make("h2", { id: "models-title" }, "Reward models from these labels");
      const rows = all.map(([r, evals]) => {
        const last = (name) => evals.filter((v) => v.name === name).slice(-1)[0];
        const arm = (name) => { const v = last(name); return v ? interval(v) + " of " + v.n : "–"; };
        const v = last(ARMS[0][0]) || last(ARMS[1][0]) || last(ARMS[2][0]);
        return [make("a", { href: this.app.address({ view: "curves", run: r.run, stage: "fit-reward" }) }, nameOf(r)), v ? v.stage + " step " + v.step : "–", ...ARMS.map(([name]) => arm(name)),
          r.labels ? r.labels.event + " of " + this.got.last_event : "–"];
      });
      const live = all.map(([r, evals]) => [r, evals.filter((v) => v.name === ARMS[0][0] && v.stage === "ppo")]).filter(([, list]) => list.length > 1);
      const place = live.length ? make("div", {}, make("h3", {}, "Accuracy on the uniform arm, refits of live runs")) : null;
      this.live?.destroy();
      this.live = place ? makeChart(place, live.flatMap(([r, list], i) => evalSets(i, nameOf(r), list)), { label: "Accuracy on the uniform arm by step", format: percent }) : null;
      return [title, rows.length ? table("Reward models", ["Run", "Measured", ...ARMS.map(([, text]) => "#" + text), "#Labels up to event"], rows) : empty("No run here learned from them. ", make("code", {}, "tenfold fit-reward --labels"), " does."),
        rows.length ? make("p", { class: "latest" }, "Share of people's answers about held-out prompts that the model puts the same way round, 95 % intervals. Duels drawn uniformly are the unbiased measure; the others were picked because they tell much.") : null, place];
    });
  },

  labelled() { if (this.people?.isConnected && this.campaign) this.load(); },
  changed() { if (this.models?.isConnected && this.campaign && this.got) return this.drawModels(); },
  themed() {
    for (const c of [this.bars, this.live].filter(Boolean)) {
      themeChart(c);
      c.update("none");
    }
  },
};
