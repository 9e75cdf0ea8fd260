// The page of the emulator. Everything that comes from signals is set as text, never as HTML.
"use strict";

const $ = (id) => document.getElementById(id);
const MOST_ROWS = 400;

const entries = new Map(); // number -> entry, those that are loaded
const rows = new Map(); // number -> <li>
const customers = new Map();
const runs = new Map();
let mostRows = MOST_ROWS;
let total = 0;
let server = null;
let resets = 0;
let opened = null; // the number of the entry in the dialog

// Marks that can't be seen, or turn the direction of reading, are shown as escapes.
const plain = (text) => text.replace(/[\p{Cc}\p{Cf}]/gu, (mark) =>
  "\n\t".includes(mark) ? mark : `\\u{${mark.codePointAt(0).toString(16)}}`);

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name === "on") element.addEventListener("click", value);
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined).map((child) =>
    child instanceof Node ? child : document.createTextNode(plain(String(child)))));
  return element;
}

const thousands = (value) => Number(value).toLocaleString("en");
const clock = (at) => new Date(at).toLocaleTimeString("en-GB");
const seconds = (value) => (value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(2)} s`);
const plural = (count, one, many) => `${thousands(count)} ${count === 1 ? one : many}`;

function money(text) {
  const value = Number(text);
  return value === 0 ? "0" : Math.abs(value) >= 1 ? value.toFixed(2) : String(Number(value.toPrecision(3)));
}

// Theme: the system's, until the button says otherwise.

const dark = matchMedia("(prefers-color-scheme: dark)");
function stored(name, value) {
  try {
    if (value !== undefined) localStorage.setItem(name, value);
    return localStorage.getItem(name);
  } catch {
    return null; // storage is switched off
  }
}
function paintTheme() {
  document.documentElement.dataset.theme = stored("theme") || (dark.matches ? "dark" : "light");
}
dark.addEventListener("change", paintTheme);
paintTheme();

// The ledger

function attemptLine(attempt) {
  const words = { repeat: "a repeat, not billed again", billed: "billed", held: "held" };
  const said = words[attempt.state] || attempt.message;
  return make("li", { class: attempt.state }, `${clock(attempt.at)} · ${attempt.status ?? "no answer"} · ${said}`);
}

function paintEntry(entry) {
  const [input, output, cache] = entry.tokens;
  const what = [entry.type, entry.credit].filter(Boolean).join(" ");
  const tokens = `${thousands(input)} / ${thousands(output)} / ${thousands(cache)}`;
  const price = entry.cost === null ? "" : `${money(entry.cost)} USD`;
  const button = make("button", { class: "entry", type: "button", "data-number": entry.id },
    make("span", { class: `state ${entry.state}` }, entry.state),
    make("span", { class: "faint" }, clock(entry.at)),
    make("span", { class: "customer", title: entry.customer ?? "" }, entry.customer ?? "no customer"),
    make("span", { class: "what", title: what }, what),
    make("span", { class: "model faint", title: entry.model ?? "" }, entry.model ?? "no model"),
    make("span", { class: "tokens number faint", title: "tokens: input / output / cache" }, tokens),
    make("span", { class: "number", title: entry.cost === null ? "" : `${entry.cost} USD` }, price));
  const item = make("li", {}, button);
  const under = make("ul", { class: "under" });
  const isPlain = entry.count === 1 && entry.state === "billed";
  if (!isPlain) {
    const shown = entry.count === 1 ? entry.attempts : entry.attempts.filter((each, at) => at > 0 || each.state !== "billed");
    under.append(...shown.map(attemptLine));
    if (entry.count > entry.attempts.length) {
      under.append(make("li", {}, `${plural(entry.count - entry.attempts.length, "more attempt", "more attempts")}`));
    }
    item.append(under);
  }
  return item;
}

function put(entry, isFresh) {
  const list = $("entries");
  entries.set(entry.id, entry);
  const item = paintEntry(entry);
  const before = rows.get(entry.id);
  rows.set(entry.id, item);
  if (before) {
    const hadFocus = before.contains(document.activeElement);
    before.replaceWith(item);
    if (hadFocus) item.querySelector("button").focus({ preventScroll: true });
    return;
  }
  if (isFresh) item.classList.add("fresh");
  let next = list.firstElementChild;
  while (next && Number(next.firstElementChild.dataset.number) > entry.id) next = next.nextElementSibling;
  list.insertBefore(item, next);
}

function trim() {
  const list = $("entries");
  while (rows.size > mostRows) {
    const last = list.lastElementChild;
    const number = Number(last.firstElementChild.dataset.number);
    last.remove();
    rows.delete(number);
    entries.delete(number);
  }
  $("older").hidden = rows.size >= total;
  $("shown").textContent = total ? `${thousands(rows.size)} of ${plural(total, "signal", "signals")}` : "";
  $("empty").hidden = total > 0;
}

// Around the ledger

function paintCustomer(customer) {
  const bars = customer.bars.map((bar) => {
    const part = Math.max(0, Math.min(1, bar.part));
    const fill = make("div", { class: `fill${bar.part <= 0 ? " empty" : part < 0.2 ? " low" : ""}` });
    fill.style.width = `${bar.part <= 0 ? 100 : part * 100}%`;
    const left = Math.abs(Number(bar.left)) >= 1 ? Number(bar.left).toLocaleString("en", { maximumFractionDigits: 2 }) : money(bar.left);
    return make("div", { class: "bar", title: `${bar.left} left` },
      make("span", { class: "faint" }, bar.name), make("span", { class: "number" }, left),
      make("div", { class: "track" }, fill));
  });
  return make("li", {}, make("strong", {}, customer.id), make("span", { class: "faint" }, `  ${customer.name ?? ""}`), ...bars);
}

function paintRun(run) {
  const steps = run.steps.map((step) => make("li", {}, make("span", {}, `${step.key}${step.complete ? " ✓" : ""}`),
    make("span", {}, `${thousands(step.tokens[0])} / ${thousands(step.tokens[1])} / ${thousands(step.tokens[2])}`)));
  const state = run.billed ? make("span", { class: "state billed" }, `billed ${money(run.cost)} USD`)
    : make("span", { class: "state held" }, "not complete");
  return make("li", {}, make("strong", {}, run.outcome ?? "run"), " ", state,
    make("div", { class: "faint" }, `${run.id} · ${run.customer} · ${plural(run.count, "step", "steps")}`),
    make("ul", { class: "steps" }, ...steps));
}

function repaint(id, known, fresh, paint, sorted) {
  if (!fresh.length) return;
  for (const each of fresh) known.set(each.id, each);
  const all = [...known.values()];
  if (sorted) all.sort((one, other) => (one.id < other.id ? -1 : 1));
  else all.reverse();
  $(id).replaceChildren(...all.slice(0, 50).map(paint));
}

function paintMistakes(mistakes) {
  $("mistakes-box").hidden = !mistakes.length;
  $("mistakes").replaceChildren(...mistakes.map((mistake) => make("li", {},
    make("strong", {}, mistake.what), mistake.count > 1 ? ` ${thousands(mistake.count)} times.` : "",
    make("div", { class: "faint" }, mistake.remedy),
    make("button", { type: "button", on: () => open(mistake.latest) }, "Show the signal"))));
}

const FAULTS = [
  ["Next: 503", { kind: "status", status: 503 }],
  ["Next: 429, wait 2 s", { kind: "status", status: 429, retryAfter: "2" }],
  ["Next: answer lost", { kind: "lost" }],
  ["Next: reset", { kind: "reset" }],
  ["Next: 3 s late", { kind: "latency", seconds: 3 }],
  ["Outage: 503 to all", { kind: "status", status: 503, probability: 1 }],
];

function paintFaults(faults) {
  const said = faults.map((fault) => {
    const kinds = fault.kinds.join(", ");
    return fault.probability === undefined ? `${kinds}: ${plural(fault.left, "request", "requests")} to come`
      : `${kinds}: ${Math.round(fault.probability * 100)} % of all requests`;
  });
  $("faults").textContent = said.join("; ");
  $("undo").disabled = !faults.length;
}

async function post(path, body) {
  const headers = body ? { "Content-Type": "application/json" } : {};
  const answer = await fetch(path, { method: "POST", headers, body: body && JSON.stringify(body) });
  if (!answer.ok) {
    const refused = await answer.json().catch(() => ({}));
    say(refused.error || `The emulator answered ${answer.status}.`);
  }
}

function say(text) {
  $("banner").firstElementChild.textContent = text;
  $("banner").hidden = false;
}

// One signal

async function open(number) {
  const answer = await fetch(`entry?number=${number}`);
  if (!answer.ok) return say("This signal is gone: the ledger was reset.");
  opened = number;
  paintDetail(await answer.json());
  if (!$("detail").open) $("detail").showModal();
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function paintDetail(entry) {
  $("detail-title").replaceChildren(make("span", { class: `state ${entry.state}` }, entry.state), ` ${entry.customer ?? ""} ${entry.type ?? ""}`);
  const span = Math.max(...entry.attempts.map((attempt) => attempt.after), 0);
  const line = make("div", { class: "timeline", role: "img", "aria-label": `${plural(entry.count, "attempt", "attempts")} over ${seconds(span)}` });
  for (const attempt of entry.attempts) {
    const dot = make("span", { class: `dot ${attempt.state}`, title: `${seconds(attempt.after)}: ${attempt.state}` });
    dot.style.left = span ? `${(attempt.after / span) * 100}%` : "0";
    line.append(dot);
  }
  const attempts = entry.attempts.map((attempt, at) => make("li", {},
    make("span", { class: "faint" }, at ? `+${seconds(attempt.after)}` : clock(attempt.at)),
    make("span", { class: `state ${attempt.state}` }, attempt.state),
    make("span", {}, attempt.status ?? "no answer"),
    make("span", { class: "faint" }, attempt.message),
    attempt.answer === null ? null : make("details", {}, make("summary", {}, "answer"), make("pre", { tabindex: "0" }, pretty(attempt.answer)))));
  const price = entry.price.map((step) => make("tr", {}, make("td", {}, step.label), make("td", { class: "faint" }, step.working), make("td", {}, step.result)));
  $("detail-body").replaceChildren(
    make("h3", {}, plural(entry.count, "attempt", "attempts")), line, make("ol", { class: "attempts" }, ...attempts),
    ...(price.length ? [make("h3", {}, "Price"), make("table", {}, make("tbody", {}, ...price))] : []),
    make("h3", {}, "Request"),
    make("div", { class: "faint" }, `${entry.request.line} · key ${entry.key ?? "none"} · ${entry.request.userAgent ?? "no user agent"}`),
    make("pre", { tabindex: "0" }, pretty(entry.request.body)));
}

// Live

function clear() {
  entries.clear();
  rows.clear();
  customers.clear();
  runs.clear();
  mostRows = MOST_ROWS;
  for (const id of ["entries", "customers", "runs"]) $(id).replaceChildren();
  if ($("detail").open) $("detail").close();
}

function take(news) {
  if (server !== null && news.server !== server) say(`The emulator was restarted at ${clock(Date.now())}: its ledger begins anew.`);
  else if (news.resets > resets && server !== null) say("The ledger was reset.");
  const isNew = server !== news.server || news.full;
  server = news.server;
  resets = news.resets;
  if (isNew) clear();
  total = news.total;
  for (const entry of [...news.entries].reverse()) {
    // An old entry that is not loaded stays so: it would stand where others are missing.
    const isOlder = rows.size && !rows.has(entry.id) && entry.id < Number($("entries").lastElementChild.firstElementChild.dataset.number);
    if (isNew || !isOlder) put(entry, !isNew);
  }
  trim();
  for (const [name, value] of Object.entries(news.counters)) {
    if ($(name)) $(name).textContent = name === "money" ? money(value) : thousands(value);
  }
  $("money").title = `${news.counters.money} USD`;
  repaint("customers", customers, [...news.customers].reverse(), paintCustomer, true);
  repaint("runs", runs, [...news.runs].reverse(), paintRun, false);
  $("runs-box").hidden = !runs.size;
  paintMistakes(news.mistakes);
  paintFaults(news.faults);
  $("paste").textContent = `export CLOCKNEXT_BASE_URL=${location.origin}\nexport CLOCKNEXT_API_KEY=${news.apiKey}\n`
    + `python3 -c 'from clocknext import ClockNext; cnk = ClockNext(); cnk.signals.wallet(customer_id="cus_123", model="gpt-4o", tokens={"input": 1200}); cnk.close()'`;
  document.title = `${thousands(news.counters.billed)} billed · ClockNext emulator`;
  if (opened !== null && $("detail").open && news.entries.some((entry) => entry.id === opened)) open(opened);
  performance.mark("painted");
}

function connect() {
  const source = new EventSource("events");
  let waiting = [];
  source.onopen = () => status("live", location.host);
  source.onerror = () => {
    status("lost", "not connected, trying again …");
    if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
  };
  source.onmessage = (message) => {
    waiting.push(message.data);
    if (waiting.length > 1) return;
    const paint = () => {
      const all = waiting;
      waiting = [];
      for (const each of all) take(JSON.parse(each));
    };
    if (document.hidden) setTimeout(paint, 0); // a hidden page gets no animation frames
    else requestAnimationFrame(paint);
  };
}

function status(state, text) {
  $("link").dataset.state = state;
  $("link").textContent = text;
}

$("theme").addEventListener("click", () => {
  stored("theme", document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  paintTheme();
});
$("banner").lastElementChild.addEventListener("click", () => { $("banner").hidden = true; });
$("undo").addEventListener("click", () => post("faults/undo"));
$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText($("paste").textContent);
    $("copy").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("paste")); // without leave to copy, select
  }
});
$("older").addEventListener("click", async () => {
  const last = Number($("entries").lastElementChild.firstElementChild.dataset.number);
  const answer = await fetch(`entries?before=${last}`);
  if (!answer.ok) return;
  const found = (await answer.json()).entries;
  mostRows += found.length;
  for (const entry of found) put(entry, false);
  trim();
});
$("entries").addEventListener("click", (event) => {
  const button = event.target.closest(".entry");
  if (button) open(Number(button.dataset.number));
});
$("detail").addEventListener("close", () => {
  const row = rows.get(opened);
  opened = null;
  if (row) row.querySelector("button").focus();
});
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (!step || $("detail").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const item = document.activeElement.closest("#entries > li");
  if (!item && document.activeElement !== document.body && document.activeElement.id !== "ledger") return;
  const next = item ? (step > 0 ? item.nextElementSibling : item.previousElementSibling) : $("entries").firstElementChild;
  if (next) {
    event.preventDefault();
    next.querySelector("button").focus();
  }
});
$("fault-buttons").append(...FAULTS.map(([name, fault]) => make("button", { type: "button", on: () => post("faults", fault) }, name)));
connect();
