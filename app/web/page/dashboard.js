// The dashboard: which view is shown, what is known of the runs, what has changed.
// The address holds the view and what it shows, so that a link leads there again.
import { call, find, make, Refused, session, theme } from "./common.js";
import { empty, fill, nameOf, progressOf, query, since, stateOf, swatch, colour, percent, format, heads } from "./dashkit.js";
import { curvesView } from "./curves.js";
import { stepsView } from "./steps.js";
import { searchView } from "./finder.js";
import { labelsView } from "./statistics.js";

const main = find("main");
const runs = new Map(); // id → row of /api/runs
let campaigns = [];
let view = null;
let where = new URLSearchParams(location.search);

const app = {
  main,
  // newest first
  runs: () => [...runs.values()].sort((a, b) => (b.time || 0) - (a.time || 0) || a.run.localeCompare(b.run)),
  run: (id) => runs.get(id),
  campaigns: () => campaigns,
  get: (name) => where.get(name),
  // The runs that the address names; else the newest with its sister seeds.
  chosen() {
    const named = where.getAll("run").filter((id) => runs.has(id));
    if (named.length || where.has("run")) return named;
    const first = app.runs().find((r) => r.state === "running") || app.runs()[0];
    return first ? app.runs().filter((r) => r.group === first.group).map((r) => r.run).slice(0, 8).reverse() : [];
  },
  address: (values) => "/dashboard?" + new URLSearchParams(Object.entries(values).flatMap(([name, v]) => (Array.isArray(v) ? v : [v]).filter((x) => x !== undefined && x !== null).map((x) => [name, x]))),
  // Another address without another view: what is shown follows by itself.
  note(values) {
    history.replaceState(null, "", app.address(values));
    where = new URLSearchParams(location.search);
    nav();
  },
  go(values) {
    history.pushState(null, "", app.address(values));
    show();
  },
};

// ---- the list of runs ----

const runsView = {
  name: "Runs",
  open(into) {
    this.into = make("div");
    into.replaceChildren(this.into);
    this.draw();
  },
  draw() {
    const chosen = app.chosen();
    const groups = new Map();
    for (const r of app.runs()) groups.set(r.group, [...(groups.get(r.group) || []), r]);
    const rows = [...groups.values()].flatMap((list) => list.map((r, i) => runRow(r, list, i, chosen)));
    const focus = document.activeElement?.id;
    this.into.replaceChildren(
      make("section", { class: "panel", "aria-labelledby": "runs-title" }, make("h2", { id: "runs-title" }, "Runs"),
        rows.length ? make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Runs" }, make("table", {},
          heads("Overlay", "Run", "State", "Progress", "#Seed", "#Reward", "#Held-out pass rate", "Started", "Digest"), make("tbody", {}, ...rows)))
          : empty("No run in this folder yet. Start one with ", make("code", {}, "tenfold run configs/smoke.yaml --out DIR/NAME"), "; it appears here by itself."),
        rows.length ? make("p", {}, make("a", { id: "to-curves", href: app.address({ view: "curves", run: chosen }) }, "Curves of " + chosen.length + (chosen.length === 1 ? " run" : " runs"))) : null),
      make("section", { class: "panel", "aria-labelledby": "campaigns-title" }, make("h2", { id: "campaigns-title" }, "Campaigns"),
        campaigns.length ? make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Campaigns" }, make("table", {},
          heads("Name", "State", "#Prompts", "#Answers", "#Accuracy so far", "Statistics"), make("tbody", {}, ...campaigns.map((c) => make("tr", {}, make("th", { scope: "row" }, c.name),
            make("td", {}, c.state), make("td", { class: "number" }, format(c.items)), make("td", { class: "number" }, format(c.labels)), make("td", { class: "number" }, percent(c.accuracy)),
            make("td", {}, make("a", { id: "labels-" + c.campaign, href: app.address({ view: "labels", campaign: c.campaign }) }, "Labels of " + c.name)))))))
          : empty("None. ", make("code", {}, "tenfold label new"), " makes one.")));
    if (focus) find(focus)?.focus();
  },
  changed() { this.draw(); },
};

function runRow(r, list, i, chosen) {
  const toggle = () => {
    const next = app.chosen().includes(r.run) ? app.chosen().filter((x) => x !== r.run) : [...app.chosen(), r.run];
    app.note({ view: "runs", run: next.length ? next : [""] });
    runsView.draw();
  };
  const at = chosen.indexOf(r.run);
  return make("tr", {},
    make("td", {}, make("label", {}, make("input", { type: "checkbox", id: "show-" + r.run, checked: at >= 0, "aria-label": "Overlay " + nameOf(r), onchange: toggle }), " ", at >= 0 ? swatch(colour(at)) : null)),
    make("th", { scope: "row" }, make("a", { id: "to-" + r.run, href: app.address({ view: "curves", run: r.run }) }, nameOf(r)), r.name !== nameOf(r) ? make("span", { class: "soft small" }, " " + r.name) : null,
      list.length > 1 && i === 0 ? make("div", { class: "small" }, make("a", { id: "seeds-" + r.group, href: app.address({ view: "curves", run: list.map((x) => x.run).reverse() }) }, list.length + " seeds of one configuration")) : null,
      r.warning ? make("div", { class: "small" }, "⚠ " + r.warning) : null),
    make("td", {}, stateOf(r), r.why ? make("div", { class: "small soft" }, r.why) : null),
    make("td", {}, progressOf(r), progressBar(r)),
    make("td", { class: "number" }, r.seed === undefined ? "–" : String(r.seed)), make("td", { class: "number" }, format(r.reward)), make("td", { class: "number" }, percent(r.pass_rate)),
    make("td", {}, since(r.time)), make("td", { title: r.digest || "" }, r.digest ? make("code", {}, r.digest.slice(0, 8)) : "–"));
}

function progressBar(r) {
  if (!r.steps || r.state === "finished") return null;
  const fill = make("span");
  fill.style.width = Math.min(100, 100 * r.step / r.steps) + "%";
  return make("span", { class: "bar-of", "aria-hidden": "true" }, fill);
}

// ---- views ----

const VIEWS = { runs: runsView, curves: curvesView, steps: stepsView, search: searchView, labels: labelsView };

function nav() {
  const now = VIEWS[where.get("view")] ? where.get("view") : "runs";
  find("views").replaceChildren(...Object.entries(VIEWS).map(([id, v], i) => {
    const keep = id === "runs" || id === "curves" ? where.getAll("run") : app.chosen().slice(-1);
    return make("a", { href: app.address({ view: id, run: keep }), "aria-current": id === now ? "page" : null, "aria-keyshortcuts": String(i + 1) }, v.name);
  }));
  return now;
}

function show() {
  where = new URLSearchParams(location.search);
  const now = nav();
  view?.close?.();
  view = VIEWS[now];
  document.title = "Tenfold: " + view.name.toLowerCase();
  view.open(main, app);
}

// Links within the dashboard change the view, not the page.
document.addEventListener("click", (event) => {
  const a = event.target.closest?.("a[href^='/dashboard?']");
  if (!a || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  history.pushState(null, "", a.getAttribute("href"));
  show();
  scrollTo(0, 0);
  find("views").querySelector("[aria-current]")?.focus({ preventScroll: true });
});
addEventListener("popstate", show);

const KEYS = [["1 – 5", "runs, curves, steps, search, labels"], ["/", "search"], ["j, k", "next and previous group (steps)"], ["n, p", "next and previous step (steps)"],
  ["← →", "token by token, where a text has the focus (steps)"], ["?", "this list"]];
function help() {
  if (document.querySelector("dialog[open]")) return;
  const box = make("dialog", { "aria-labelledby": "keys-title", onclose: () => box.remove() }, make("h2", { id: "keys-title" }, "Keys"),
    make("table", {}, make("tbody", {}, ...KEYS.map(([k, what]) => make("tr", {}, make("th", { scope: "row" }, make("kbd", {}, k)), make("td", {}, what))))),
    make("form", { method: "dialog" }, make("button", {}, "Close")));
  main.parentNode.append(box);
  box.showModal();
}
find("keys").addEventListener("click", help);
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]") || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const ids = Object.keys(VIEWS), i = "12345".indexOf(event.key);
  if (event.key === "?") help();
  else if (event.key === "/") app.go({ view: "search", run: app.chosen().slice(-1) });
  else if (i >= 0 && event.key) app.go({ view: ids[i], run: i < 2 ? where.getAll("run") : app.chosen().slice(-1) });
  else if (!view?.key?.(event.key)) return;
  event.preventDefault();
});

// ---- what changes ----

async function refresh(id) {
  const answer = await query("/api/runs", { run: id });
  if (!id) runs.clear();
  else if (!answer.runs.length) runs.delete(id);
  for (const r of answer.runs) {
    runs.set(r.run, r);
    if (r.state === "between") setTimeout(() => changed(r.run), 6000); // whether it goes on: nothing else would tell that it does not
  }
}

// One question a run at a time: what changes meanwhile is asked for once more.
const asking = new Map();
async function changed(id) {
  if (asking.has(id)) {
    asking.set(id, true);
    return;
  }
  do {
    asking.set(id, false);
    try {
      await refresh(id);
      await view?.changed?.(id);
      find("note").textContent = "";
    } catch (why) {
      find("note").textContent = why instanceof Refused ? why.message : "No connection to the server; trying again.";
    }
    await new Promise((done) => setTimeout(done, 300));
  } while (asking.get(id));
  asking.delete(id);
}

async function loadCampaigns() {
  campaigns = (await call("GET", "/api/owner/campaigns")).campaigns;
}

function listen() {
  const stream = new EventSource("/api/owner/events");
  let lost = false, waiting = false;
  stream.addEventListener("run", (event) => changed(JSON.parse(event.data).run));
  stream.addEventListener("label", () => {
    if (waiting) return;
    waiting = true;
    setTimeout(async () => {
      waiting = false;
      await loadCampaigns().catch(() => {});
      view?.labelled?.();
    }, 2000); // answers come one by one: not a question for each
  });
  stream.addEventListener("error", () => {
    lost = true;
    find("note").textContent = "No connection to the server; trying again.";
  });
  stream.addEventListener("open", async () => {
    if (!lost) return;
    lost = false;
    await refresh().catch(() => {});
    for (const id of app.chosen()) changed(id);
    find("note").textContent = "";
  });
}

theme(find("theme"));
find("theme").addEventListener("click", () => view?.themed?.());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view?.themed?.());
session().then(async (s) => {
  if (s.role !== "owner") {
    main.replaceChildren(make("section", { class: "message full" }, make("h2", {}, "For the owner"), make("p", {}, "Open the link that tenfold web printed when it started.")));
    return;
  }
  if (!await fill(main, () => Promise.all([refresh(), loadCampaigns()]), () => [])) return;
  show();
  listen();
}).catch((why) => { find("note").textContent = why instanceof Refused ? why.message : "No connection to the server."; });
