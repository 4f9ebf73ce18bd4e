// The owner's page: campaigns with their state, people with their invitations, what
// is to be settled. Refreshes by itself when somebody answers.
import { call, find, make, Refused, session, theme } from "./common.js";

const note = (text) => { find("note").textContent = text; };
const main = find("main");
let invitation = null; // the last link made: it is shown once

async function act(path, body, said) {
  try {
    const reply = await call("POST", path, body);
    note(said);
    return reply;
  } catch (why) {
    note(why.message);
    return null;
  } finally {
    await load();
  }
}

const number = (x) => make("td", { class: "number" }, x);
const percent = (x) => (x === null || x === undefined ? "–" : (100 * x).toFixed(0) + " %");

function campaignRow(c) {
  const to = c.state === "open" ? "paused" : "open";
  return make("tr", {},
    make("th", { scope: "row" }, c.name), make("td", {}, c.state), number(String(c.items)), number(String(c.labels)), number(String(c.estimate.questions)),
    number(c.estimate.hours.toFixed(1)), number(percent(c.estimate.accuracy)), number(percent(c.accuracy)), number(c.missing === null ? "–" : c.missing.toFixed(0)), number("v" + c.guidelines),
    make("td", {}, make("button", { type: "button", onclick: () => act("/api/owner/campaigns/" + c.campaign + "/state", { state: to }, c.name + " is " + to) }, to === "open" ? "Open" : "Pause"), " ",
      make("button", { type: "button", onclick: () => editGuidelines(c) }, "Guidelines"), " ",
      make("button", { type: "button", onclick: () => showDisputes(c) }, "Disagreements")));
}

const heads = (...names) => make("thead", {}, make("tr", {}, ...names.map((n) => make("th", { scope: "col", class: n.startsWith("#") ? "number" : "" }, n.replace("#", "")))));

function personRow(p) {
  const button = (action, text, sure, danger) => make("button", { type: "button", class: danger ? "danger" : "", onclick: async () => {
    if (sure && !confirm(sure)) return;
    const reply = await act("/api/owner/people/" + p.person + "/" + action, {}, p.name + ": " + text);
    if (reply?.url) showInvitation(p.name, reply.url);
  } }, text);
  const buttons = [];
  if (p.state === "active") buttons.push(button("pause", "Pause"));
  if (p.state === "paused") buttons.push(button("resume", "Resume"));
  if (p.state === "active" || p.state === "paused") buttons.push(button("revoke", "Revoke", "End all sessions of " + p.name + "?"));
  if (p.state !== "erased" && p.state !== "imported") buttons.push(button("renew", "New link"));
  buttons.push(p.excluded ? button("include", "Include") : button("exclude", "Exclude", "No label of " + (p.name || "this person") + " will count. Go on?"));
  if (p.state !== "erased" && p.state !== "imported") buttons.push(button("erase", "Erase", "Erase the name, the link and all written words of " + p.name + "? The labels stay, anonymous.", true));
  return make("tr", {}, make("th", { scope: "row" }, p.name || "(erased " + p.person + ")"), make("td", {}, (p.name === "owner" && p.state === "imported" ? "you" : p.state) + (p.excluded ? ", excluded" : "")),
    number(String(p.labels)), number(p.hours.toFixed(2)), number(percent(p.gold)), number(percent(p.weight) + (p.flagged ? ", flagged" : "")), make("td", {}, ...buttons.flatMap((b) => [b, " "])));
}

function showInvitation(name, url) {
  invitation = { name, url };
  load();
}

function inviteForm(campaigns) {
  const name = make("input", { id: "invite-name", maxlength: "100" });
  const languages = make("input", { id: "invite-languages", maxlength: "100", placeholder: "all" });
  const boxes = campaigns.map((c) => [make("input", { type: "checkbox", value: String(c.campaign), checked: true, id: "in-" + c.campaign }), c.name]);
  return make("form", { class: "row", onsubmit: async (event) => {
    event.preventDefault();
    const reply = await act("/api/owner/people", { name: name.value.trim(), languages: languages.value.trim(), campaigns: boxes.filter((b) => b[0].checked).map((b) => Number(b[0].value)) }, "");
    if (reply) showInvitation(reply.name, reply.url);
  } },
    make("label", {}, "Name ", name), make("label", {}, "Languages ", languages), ...boxes.map((b) => make("label", {}, b[0], " " + b[1])),
    make("button", { class: "primary" }, "Invite"));
}

async function editGuidelines(c) {
  const g = await call("GET", "/api/owner/campaigns/" + c.campaign + "/guidelines");
  const text = make("textarea", { rows: "16", id: "guidelines-edit" });
  text.value = g.text;
  const box = make("dialog", { "aria-labelledby": "edit-title" }, make("h2", { id: "edit-title" }, "Guidelines of " + c.name + ", version " + g.version),
    make("p", {}, make("label", { for: "guidelines-edit" }, "Everybody reads the new version before the next question.")), text,
    make("p", {}, make("button", { type: "button", onclick: () => box.remove() }, "Cancel"), " ",
      make("button", { type: "button", class: "primary", onclick: async () => {
        const reply = await act("/api/owner/campaigns/" + c.campaign + "/guidelines", { text: text.value }, "New guidelines are out");
        if (reply) box.remove();
      } }, "Save as version " + (g.version + 1))));
  main.parentNode.append(box);
  box.showModal();
}

async function showDisputes(c) {
  const d = await call("GET", "/api/owner/campaigns/" + c.campaign + "/disagreements");
  const box = make("dialog", { "aria-labelledby": "disputes-title" }, make("h2", { id: "disputes-title" }, "Disagreements in " + c.name),
    d.pairs.length ? make("ol", {}, ...d.pairs.map((p) => make("li", {}, make("q", {}, p.prompt), " " + p.first + " for one, " + p.second + " for the other ",
      make("button", { type: "button", onclick: async () => {
        await act("/api/owner/campaigns/" + c.campaign + "/adjudicate", { item: p.item, a: p.a, b: p.b }, "It waits for you on the labelling page");
        box.remove();
      } }, "Settle it")))) : make("p", {}, "Nobody disagrees with anybody here."),
    make("p", {}, make("button", { type: "button", onclick: () => box.remove() }, "Close")));
  main.parentNode.append(box);
  box.showModal();
}

async function load() {
  const [campaigns, people] = await Promise.all([call("GET", "/api/owner/campaigns"), call("GET", "/api/owner/people")]);
  main.replaceChildren(
    make("section", { class: "message full" }, make("h2", {}, "Campaigns"),
      campaigns.campaigns.length ? make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "Campaigns" }, make("table", {},
        heads("Name", "State", "#Prompts", "#Answers", "#At most", "#Hours", "#Expected accuracy", "#Accuracy so far", "#Answers missing", "#Guidelines", "Actions"),
        make("tbody", {}, ...campaigns.campaigns.map(campaignRow)))) : make("p", {}, "None yet. Make one with: ", make("code", {}, "tenfold label new"))),
    make("section", { class: "message full" }, make("h2", {}, "People"),
      invitation ? make("div", { role: "status" }, make("p", {}, "The link of " + invitation.name + ", shown once:"), make("p", { class: "secret", id: "invitation" }, invitation.url)) : "",
      inviteForm(campaigns.campaigns),
      people.people.length ? make("div", { class: "wide", tabindex: "0", role: "group", "aria-label": "People" }, make("table", {}, heads("Name", "State", "#Answers", "#Hours", "#Gold right", "#Trusted", "Actions"),
        make("tbody", {}, ...people.people.map(personRow)))) : "",
      make("p", {}, make("a", { href: "/api/owner/hours.csv", download: "hours.csv" }, "Hours and counts (CSV)"))));
}

theme(find("theme"));
session().then(async (s) => {
  if (s.role !== "owner") {
    main.replaceChildren(make("section", { class: "message full" }, make("h2", {}, "For the owner"), make("p", {}, "Open the link that tenfold web printed when it started.")));
    return;
  }
  await load();
  let waiting = false;
  new EventSource("/api/owner/events").addEventListener("label", () => {
    if (waiting || document.querySelector("dialog[open]") || document.activeElement?.tagName === "INPUT") return;
    waiting = true;
    setTimeout(() => {
      waiting = false;
      load().catch(() => {});
    }, 1000);
  });
}).catch((why) => note(why instanceof Refused ? why.message : "No connection."));
