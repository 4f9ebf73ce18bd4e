// Search over the prompts and completions of a run: the newest first, a page at a time.
import { make } from "./common.js";
import { empty, fill, format, options, query, runOptions } from "./dashkit.js";
import { plain } from "./text.js";

// The text with what was looked for marked.
function marked(text, words) {
  const out = [], low = text.toLowerCase(), want = words.toLowerCase();
  for (let at = 0; ;) {
    const hit = low.length === text.length ? low.indexOf(want, at) : -1; // a letter whose small form is longer: without marks
    out.push(...plain(text.slice(at, hit < 0 ? undefined : hit)));
    if (hit < 0) return out;
    out.push(make("mark", {}, ...plain(text.slice(hit, hit + want.length))));
    at = hit + want.length;
  }
}

export const searchView = {
  name: "Search",
  open(into, app) {
    this.app = app;
    const run = app.chosen().slice(-1)[0];
    if (!run) {
      into.replaceChildren(make("section", { class: "panel" }, empty("No run in this folder yet.")));
      return;
    }
    this.run = make("select", { id: "search-run" }, ...runOptions(app.runs(), run));
    this.words = make("input", { id: "search-words", type: "search", maxlength: "150", size: "36", required: true });
    this.words.value = app.get("q") || "";
    this.in = make("select", { id: "search-in" }, ...options([["completions", "completions"], ["prompts", "prompts"]], app.get("in") || "completions"));
    this.hits = make("ul", { class: "hits" });
    this.end = make("div", {});
    const warning = app.run(run)?.warning;
    into.replaceChildren(warning ? make("p", { class: "warning", role: "note" }, warning) : "", make("section", { class: "panel", "aria-label": "Search" },
      make("form", { class: "controls", role: "search", onsubmit: (event) => { event.preventDefault(); this.search(); } },
        make("label", {}, "Run", this.run), make("label", {}, "Look for", this.words), make("label", {}, "in", this.in), make("button", { class: "primary" }, "Search")),
      make("p", { class: "soft small" }, "The words as they stand, letters A to Z in either case; the newest first."), this.hits, this.end));
    this.words.focus();
    if (this.words.value) this.search();
  },
  search() {
    this.app.note({ view: "search", run: this.run.value, q: this.words.value, in: this.in.value });
    this.hits.replaceChildren();
    this.page(0, this.words.value, this.run.value, this.in.value);
  },
  page(before, q, run, where) {
    fill(this.end, () => query("/api/runs/search", { run, q, in: where, before: before || null }), (got) => {
      this.hits.append(...got.hits.map((h) => this.hit(h, q, run)));
      const n = this.hits.children.length;
      const said = make("p", { role: "status", id: "search-said" }, n ? n + (n === 1 ? " place" : " places") + (got.next ? " so far." : "; everything was looked through.") : got.next ? "Nothing yet; older steps are left." : "Nothing found.");
      return [said, got.next ? make("button", { type: "button", id: "search-more", onclick: () => this.page(got.next, q, run, where) }, "Older ones") : null];
    });
  },
  hit(h, q, run) {
    const prompt = h.candidate < 0;
    return make("li", {},
      make("a", { href: this.app.address({ view: "steps", run, stage: h.stage, step: h.step, slot: h.slot, candidate: prompt ? null : h.candidate }) },
        h.stage + " step " + h.step + ", group " + h.slot + (prompt ? "" : ", candidate " + h.candidate)),
      make("span", { class: "soft small" }, " reward " + format(h.reward)),
      make("div", { class: "raw soft" }, ...(prompt ? marked(h.prompt, q) : plain(h.prompt))), prompt ? null : make("div", { class: "raw" }, ...marked(h.text, q)));
  },
};
