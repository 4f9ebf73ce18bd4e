// The labelling page: what is next, the answer, taking back. An answer is put into
// the browser's storage before it is sent, with a key of its own, and stays there
// until the server has said that it is kept: a lost connection, a reload or a
// double click makes no second label and loses none.
import { call, find, kept, make, newKey, Refused, session, setCsrf, theme } from "./common.js";
import { Question } from "./cards.js";
import { showPrompt, showText } from "./text.js";

const RETRY_MS = 2000;
const IDLE_MS = 120000; // without a key or a movement: no more visible time is counted
const PAGE = "1";

let campaign = null;  // {campaign, name}
let next = null;      // what the server said
let question = null;  // Question
let frozen = false;   // an answer is on its way
let last = null;      // the last answer's event, for undo
let visible = 0;
let since = null;
let active = Date.now();

const main = find("main");

// ---- time in sight ----

function clock() {
  const now = Date.now();
  const end = Math.min(now, active + IDLE_MS);
  if (since !== null && end > since) visible += end - since;
  since = document.visibilityState === "visible" ? now : null;
}
document.addEventListener("visibilitychange", clock);
for (const event of ["keydown", "pointermove", "scroll", "touchstart"]) {
  addEventListener(event, () => {
    if (Date.now() - active > IDLE_MS) clock();
    active = Date.now();
  }, { passive: true, capture: true });
}

// ---- messages ----

const note = (text) => { find("note").textContent = text; };

function offline(text) {
  find("offline").textContent = text || "";
  find("offline").hidden = !text;
}

function message(title, ...paragraphs) {
  question?.close();
  question = null;
  main.replaceChildren(make("div", { class: "message" }, make("h2", {}, title), ...paragraphs.map((p) => (typeof p === "string" ? make("p", {}, p) : p))));
}

// ---- drafts and what is to be sent ----

const draftName = () => "draft:" + next.ask.ask;

function saveDraft() {
  if (!question || frozen) return;
  clock();
  kept.set(draftName(), { state: question.state, reason: find("reason").value, correction: find("correction").value, visible });
}

const outbox = () => kept.get("outbox") || [];
let sending = null;

// Sends what waits, oldest first; resolves to the answer to the last one.
function flush() {
  sending ||= (async () => {
    let reply = null;
    for (let list = outbox(); list.length; list = outbox()) {
      try {
        reply = await call("POST", list[0].path, list[0].body);
        last = reply.event;
        offline("");
      } catch (why) {
        if (!(why instanceof Refused) || why.status >= 500 || why.status === 429) {
          offline("No connection: your answer is kept here and will be sent.");
          await new Promise((go) => {
            setTimeout(go, RETRY_MS);
            addEventListener("online", go, { once: true });
          });
          continue;
        }
        reply = { refused: why };
        if (why.status === 403) throw why; // the session is over: the answer waits for the next one
        note(why.status === 409 ? "That question was answered already (in another window?)." : "The server did not take that answer: " + why.message);
      }
      kept.set("outbox", outbox().filter((entry) => entry.body.key !== list[0].body.key));
      kept.set("draft:" + list[0].ask, null);
    }
    return reply;
  })().finally(() => { sending = null; });
  return sending;
}

// ---- drawing ----

function drawProgress() {
  const bar = find("bar");
  find("progress").hidden = !next || next.labels === undefined;
  if (!next) return;
  bar.max = Math.max(next.most || 1, 1);
  bar.value = next.state === "ask" ? next.answered : 0;
  find("count").textContent = (next.state === "ask" ? "question " + (next.answered + 1) + " of at most " + next.most + " · " : "") +
    next.labels + (next.labels === 1 ? " answer" : " answers") + " so far";
}

function action(id, text, key, run, extra = {}) {
  return make("button", { type: "button", id, onclick: run, ...extra }, text + " ", make("kbd", {}, key));
}

function updateNext() {
  if (!question) return;
  const button = find("next");
  const missing = question.firstUnseen();
  const ready = question.result() !== null;
  button.disabled = frozen || !ready || missing >= 0;
  find("hint").textContent = missing >= 0 ? "Scroll to the end of answer " + (missing + 1) + "."
    : ready ? "" : next.ask.kind === "best_worst" ? "Choose the best and the worst." : next.ask.kind === "duel" ? "Which one is better?" : "Tap the answers from best to worst.";
  saveDraft();
}

function drawAsk() {
  const ask = next.ask;
  const draft = kept.get(draftName());
  clock();
  visible = draft?.visible || 0;
  const prompt = make("div", { class: "text" });
  showPrompt(prompt, ask.prompt, ask.format, ask.language);
  const area = make("div", { id: "answers" });
  main.replaceChildren(
    make("section", { class: "prompt", "aria-label": "Prompt", tabindex: "0" }, make("h2", {}, "Prompt"), prompt),
    make("h2", { class: "question" }, ask.question, next.qualification ? make("span", { class: "tag" }, "practice") : null),
    area,
    make("div", { id: "after", role: "status" }),
    make("details", { id: "write" }, make("summary", {}, "Write a reason, or a better answer ", make("kbd", {}, "W")),
      make("p", {}, make("label", { for: "reason" }, "Why (optional)")), make("p", {}, make("textarea", { id: "reason", rows: "2", maxlength: "4000" })),
      make("p", {}, make("label", { for: "correction" }, "How the answer should have been (optional)")), make("p", {}, make("textarea", { id: "correction", rows: "5", maxlength: "100000" }))),
    make("div", { class: "actions", role: "group", "aria-label": "Answer" },
      action("tie", ask.kind === "order" ? "Same as last" : "Tie", "T", tie), action("all-bad", "All bad", "B", () => other("all_bad")),
      action("skip", "Skip", "S", () => other("skip")), action("cannot", "Cannot rank", "C", () => other("cannot_rank")),
      action("flag-it", "Flag", "F", openFlag), action("undo", "Undo", "U", undo),
      make("span", { id: "hint", role: "status" }), action("next", "Next", "Enter", submit, { class: "primary", disabled: true })));
  find("reason").value = draft?.reason || "";
  find("correction").value = draft?.correction || "";
  find("write").open = Boolean(draft?.reason || draft?.correction);
  for (const id of ["reason", "correction"]) find(id).addEventListener("input", saveDraft);
  question?.close();
  question = new Question(ask, area, draft?.state, updateNext);
  frozen = false;
  updateNext();
  scrollTo(0, 0);
  document.activeElement?.blur();
}

function drawGuidelines() {
  const text = make("div", { class: "text" });
  showText(text, next.text, "");
  message("Guidelines, version " + next.version,
    next.warning ? make("p", { class: "warning", role: "note" }, next.warning) : null,
    text,
    make("p", {},
      make("button", { type: "button", class: "primary", id: "accept", onclick: () => member({ accept: next.version }) }, "I have read them ", make("kbd", {}, "Enter")), " ",
      make("button", { type: "button", class: "quiet", onclick: () => member({ opt_out: true }) }, "I do not want to see such content: leave")));
}

function draw() {
  drawProgress();
  const state = next.state;
  if (state === "ask") drawAsk();
  else if (state === "guidelines") drawGuidelines();
  else if (state === "finished") message("All done", "There is nothing left for you here. Thank you!", undoLine());
  else if (state === "failed") message("Thank you", "The practice round asked for other answers than yours too often, so this campaign ends here for you.");
  else if (state === "opted_out") message("You have left this campaign", make("p", {}, make("button", { type: "button", onclick: () => member({ opt_out: false }) }, "Come back")));
  else if (state === "paused") message("Paused", "The owner has paused your work. Your answers are kept.");
  else message("Closed", "This campaign takes no answers now. Yours are kept.", undoLine());
}

const undoLine = () => make("p", {}, make("button", { type: "button", onclick: undo }, "Undo my last answer ", make("kbd", {}, "U")));

async function load() {
  for (;;) {
    try {
      next = await call("GET", "/api/campaigns/" + campaign.campaign + "/next");
      offline("");
      draw();
      return;
    } catch (why) {
      if (why instanceof Refused && why.status < 500) {
        message("That is not possible", why.message);
        return;
      }
      offline("No connection: trying again.");
      await new Promise((go) => setTimeout(go, RETRY_MS));
    }
  }
}

async function member(change) {
  try {
    await call("POST", "/api/campaigns/" + campaign.campaign + "/member", change);
  } catch (why) {
    note(why.message);
  }
  await load();
}

// ---- answering ----

async function send(outcome, ranks, strength, reason) {
  if (frozen || !question) return;
  clock();
  frozen = true;
  const ask = next.ask;
  const body = { key: newKey(), outcome, ranks: ranks || [], strength: strength || 0, visible_ms: Math.round(visible), guidelines: next.guidelines, page: PAGE };
  const why = reason || find("reason").value.trim();
  const correction = find("correction").value.trim();
  if (why) body.reason = why;
  if (correction) body.correction = correction;
  kept.set("outbox", [...outbox(), { path: "/api/asks/" + ask.ask + "/answer", ask: ask.ask, body }]);
  updateNext();
  note("");
  let reply;
  try {
    reply = await flush();
  } catch (refused) {
    message("Signed out", "Open your link again. Your last answer is kept in this browser and will be sent then.");
    return;
  }
  if (reply && (reply.tests || reply.expected_best !== undefined)) drawAfter(reply);
  else await load();
}

// What may be seen only after the answer.
function drawAfter(reply) {
  const area = find("after");
  const lines = [];
  (reply.tests || []).forEach((test, i) => {
    if (test !== null) lines.push(make("li", {}, "Answer " + (i + 1) + ": ", make("code", {}, test)));
  });
  area.replaceChildren(make("div", { class: "message full" },
    reply.expected_best === undefined ? null : make("p", {}, "The guidelines expect answer " + (reply.expected_best + 1) + " before answer " + (reply.expected_worst + 1) + "."),
    lines.length ? make("h2", {}, "Tests of the answers") : null, lines.length ? make("ul", {}, ...lines) : null,
    make("p", {}, make("button", { type: "button", class: "primary", id: "go-on", onclick: load }, "Go on ", make("kbd", {}, "Enter")))));
  find("go-on").scrollIntoView({ block: "nearest" });
}

function submit() {
  if (!question || frozen || find("next").disabled) return;
  const r = question.result();
  if (r.tie) send("tie", new Array(question.n).fill(1));
  else send("ranked", r.ranks, r.strength);
}

function tie() {
  if (!question || frozen) return;
  if (question.ask.kind === "order" && question.state.order.length) question.join();
  else if (question.ask.kind === "duel") question.scale(0);
  else if (question.allSeen()) send("tie", new Array(question.n).fill(1));
  else updateNext();
  if (question?.ask.kind === "order" && question.state.join) note("The next answer you tap is as good as the last one.");
}

function other(outcome) {
  if (!question || frozen) return;
  if (outcome === "all_bad" && !question.allSeen()) note("Look at all answers first: answer " + (question.firstUnseen() + 1) + " goes on below.");
  else send(outcome);
}

function openFlag() {
  if (!question || frozen) return;
  find("flag-reason").value = "";
  find("flag").showModal();
  find("flag-reason").focus();
}

find("flag-send").addEventListener("click", () => {
  const reason = find("flag-reason").value.trim();
  if (!reason) {
    find("flag-reason").focus();
    return;
  }
  find("flag").close();
  send("flag", null, 0, reason);
});

async function takeBack(event) {
  try {
    await call("POST", "/api/events/" + event + "/undo", { key: newKey() });
    note("Taken back. It is asked again.");
  } catch (why) {
    note(why.message);
  }
  last = null;
  await load();
}

async function undo() {
  if (frozen && !find("go-on")) return;
  if (question && !frozen && question.stepBack()) return;
  if (last === null) {
    const { labels } = await call("GET", "/api/campaigns/" + campaign.campaign + "/history");
    if (!labels.length) {
      note("There is nothing to take back.");
      return;
    }
    last = labels[0].event;
  }
  await takeBack(last);
}

// ---- dialogs ----

async function openHistory() {
  const { labels } = await call("GET", "/api/campaigns/" + campaign.campaign + "/history");
  const words = { ranked: "ranked", tie: "tie", all_bad: "all bad", skip: "skipped", cannot_rank: "cannot rank", flag: "flagged" };
  find("history-list").replaceChildren(...labels.map((l) => make("li", {},
    new Date(l.time * 1000).toLocaleString() + ": " + words[l.outcome] + " – ", make("q", {}, l.prompt), " ",
    make("button", { type: "button", "aria-label": "Take this answer back", onclick: () => { find("history").close(); takeBack(l.event); } }, "Undo"))));
  find("history").showModal();
}

async function openGuidelines() {
  const g = await call("GET", "/api/campaigns/" + campaign.campaign + "/guidelines");
  find("guidelines-title").textContent = "Guidelines, version " + g.version;
  showText(find("guidelines-text"), g.text, "");
  find("guidelines").showModal();
}

// ---- keys ----

const keys = {
  t: tie, b: () => other("all_bad"), s: () => other("skip"), c: () => other("cannot_rank"), f: openFlag, u: undo,
  d: () => question?.toggleDifference(), h: openHistory, g: openGuidelines,
  w: () => {
    if (!find("write")) return;
    find("write").open = true;
    find("reason").focus();
  },
};

addEventListener("keydown", (event) => {
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (document.querySelector("dialog[open]")) return;
  if (target.matches("textarea, select, input:not([type=radio])")) {
    if (event.key === "Escape") target.blur();
    return;
  }
  const digit = /^(?:Digit|Numpad)(\d)$/.exec(event.code);
  if (event.key === "?") find("help").showModal();
  else if (event.key === "Enter") {
    if (target.matches("button, summary")) return;
    if (find("go-on")) find("go-on").click();
    else if (find("accept")) find("accept").click();
    else submit();
  } else if (digit && question && !frozen) {
    const i = (Number(digit[1]) + 9) % 10;
    if (event.shiftKey) question.worst(i);
    else question.best(i);
  } else if (event.key === "ArrowLeft" && question?.ask.kind === "duel" && !frozen) question.move(-1);
  else if (event.key === "ArrowRight" && question?.ask.kind === "duel" && !frozen) question.move(1);
  else if (!event.shiftKey && campaign && keys[event.key.toLowerCase()]) keys[event.key.toLowerCase()]();
  else return;
  event.preventDefault();
});

find("show-help").addEventListener("click", () => find("help").showModal());
find("show-history").addEventListener("click", openHistory);
find("show-guidelines").addEventListener("click", openGuidelines);
find("opt-out").addEventListener("click", () => { find("guidelines").close(); member({ opt_out: true }); });
find("logout").addEventListener("click", async () => {
  await call("POST", "/api/logout", {});
  setCsrf("");
  message("Signed out", "Open your link again to go on.");
});
theme(find("theme"));

// ---- start ----

async function enter(chosen) {
  campaign = chosen;
  last = null;
  kept.set("campaign", chosen.campaign);
  find("campaign").textContent = chosen.name;
  document.title = chosen.name + " – Tenfold labels";
  await load();
}

async function start() {
  const s = await session();
  if (s.role === "none") {
    message("Sign in", s.why || "Open the link that you were given.");
    return;
  }
  for (const id of ["show-history", "show-guidelines", "logout"]) find(id).hidden = false;
  if (s.role === "owner") find("campaign").after(make("a", { href: "/owner" }, "Owner’s page"));
  if (!s.campaigns.length) {
    message("Nothing to do", s.role === "owner" ? "Make a campaign with: tenfold label new" : "You are in no campaign yet.");
    return;
  }
  const choose = find("choose");
  choose.replaceChildren(...s.campaigns.map((c) => make("option", { value: String(c.campaign) }, c.name)));
  choose.hidden = s.campaigns.length < 2;
  choose.addEventListener("change", () => enter(s.campaigns.find((c) => String(c.campaign) === choose.value)));
  const first = s.campaigns.find((c) => c.campaign === kept.get("campaign")) || s.campaigns.find((c) => c.state === "open") || s.campaigns[0];
  choose.value = String(first.campaign);
  if (outbox().length) await flush();
  await enter(first);
}

start().catch((why) => {
  offline("No connection: trying again.");
  setTimeout(() => location.reload(), RETRY_MS * 2);
});
