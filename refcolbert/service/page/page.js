// The search page: what is asked stands in the URL, results appear while typing, colors follow.

import { $, element } from "./element.js";
import { Filters } from "./filters.js";
import { Result, classesOf, nameOf, number, short } from "./result.js";
import { ask, keepToken } from "./service.js";
import { card, documentOf } from "./whole.js";

const PAUSE = 160; // milliseconds without a key before the question is sent
const AT_ONCE = 2; // explanations asked for at a time

let results = [];
let running = new AbortController(); // everything that the current question has under way
let timer = 0;
let settled = true; // whether the URL is one to come back to; the next question is then a new entry of the history
let pinned = null; // the query word that stays brought out

const filters = new Filters(() => search({ keep: true }));
const question = () => $("query").value.trim();
const modes = () => [...$("mode").querySelectorAll("input")];
const mode = () => modes().find((input) => input.checked);

// ---- asking

function later() {
  clearTimeout(timer);
  timer = setTimeout(search, PAUSE);
}

/** Ask what stands in the page. An answer that comes after the next question is dropped. */
async function search({ keep = false } = {}) {
  clearTimeout(timer);
  running.abort();
  const { signal } = (running = new AbortController());
  remember(keep);
  if (!question()) return clear();
  const asked = { query: question(), mode: mode().value, k: Number($("k").value), ...(filters.where ? { where: filters.where } : {}) };
  $("results").setAttribute("aria-busy", "true");
  try {
    const found = await ask("search", asked, signal);
    if (signal.aborted) return;
    show(found, asked, signal);
  } catch (error) {
    if (!signal.aborted) fail(error, signal);
  }
}

function show(found, asked, signal) {
  const explain = (id, matrix) => ask("explain", { query: asked.query, mode: asked.mode, id, matrix }, signal);
  const actions = { explain, narrow: (...condition) => filters.also(...condition), spotlight };
  const documents = [...Map.groupBy(found.hits, (hit) => documentOf(hit) ?? hit).values()].map((hits) => hits.map((hit) => new Result(hit, actions)));
  results = documents.flat();
  pinned = null;
  $("asked").hidden = true;
  $("welcome").hidden = true;
  $("problem").hidden = true;
  $("results").replaceChildren(...documents.map((own) => card(own, actions.narrow, signal)));
  $("results").removeAttribute("aria-busy");
  if (results.length) results[0].article.tabIndex = 0;
  else nothing(asked);
  found.hits.forEach((hit) => filters.learn(hit.metadata));
  const took = found.took_ms ? ` in ${Math.max(1, Math.round(found.took_ms.encode + found.took_ms.search))} ms` : "";
  const count = results.length === 1 ? "1 result" : `${results.length} results`;
  $("status").textContent = results.length ? `${count}${took}` : "No results";
  $("partial").textContent = found.partial ? `Incomplete: no answer from ${found.missing.join(", ")}` : "";
  const rest = [...results];
  for (let i = 0; i < AT_ONCE; i++) color(rest, explain, signal);
}

/** Explain the results one after another, the best first. */
async function color(rest, explain, signal) {
  for (let result = rest.shift(); result; result = rest.shift()) {
    try {
      const explanation = await explain(result.hit.id, false);
      if (signal.aborted) return;
      if (result === results[0] && explanation.words.length) drawWords(explanation.words);
      result.color(explanation);
      if (pinned !== null) result.light(pinned);
    } catch (error) {
      if (signal.aborted) return;
      result.text.append(element("p", { class: "problem" }, `Not explained: ${error.message}`));
    }
  }
}

function clear() {
  results = [];
  $("results").replaceChildren();
  $("results").removeAttribute("aria-busy");
  $("asked").hidden = true;
  $("problem").hidden = true;
  $("welcome").hidden = false;
  $("status").textContent = $("partial").textContent = "";
}

// ---- what is said instead of results

function notice(title, text, ...more) {
  $("problem").replaceChildren(element("h2", {}, title), element("p", {}, text), ...more);
  $("problem").hidden = false;
}

async function nothing(asked) {
  const info = asked.where ? null : await ask("info").catch(() => null);
  if (asked.where) notice("Nothing matches the filter", "Change the filter, or remove it.",
    element("button", { type: "button", on: { click: () => (filters.set(null), search({ keep: true })) } }, "Search without the filter"));
  else if (info?.documents === 0) empty();
  else notice("No results", asked.mode === "words" ? "No document has a word of the query." : "Try another query.");
}

function empty() {
  notice("This index is empty", "Add documents, and search them here:",
    element("pre", {}, "refcolbert add INDEX documents.jsonl"));
}

const TITLES = { 0: "No connection", 400: "This query is not valid", 503: "The service is busy" };

function fail(error, signal) {
  $("results").removeAttribute("aria-busy");
  $("status").textContent = $("partial").textContent = "";
  if (error.status === 401) return askForToken(error);
  const again = element("button", { type: "button", on: { click: () => search() } }, "Try again");
  const wait = error.status === 503 ? error.wait || 2 : 0;
  notice(TITLES[error.status] ?? "The search failed", error.message, error.status === 400 ? "" : again,
    wait ? element("p", { class: "dim" }, `It is tried again in ${wait} s.`) : "");
  if (wait) setTimeout(() => signal.aborted || search(), wait * 1000);
}

function askForToken(error) {
  const field = element("input", { type: "password", "aria-label": "Token", autocomplete: "off", required: true });
  const enter = (event) => {
    event.preventDefault();
    keepToken(field.value.trim());
    search();
    introduce();
  };
  notice("This service requires a token", error.message,
    element("form", { class: "secret", on: { submit: enter } }, field, element("button", {}, "Continue")));
}

// ---- the question, word by word

function drawWords(words) {
  const classes = classesOf(words);
  const chip = (word, i) => element("button", {
    type: "button", class: `word ${classes[i]}`, "aria-pressed": "false", "data-word": String(i), dir: "auto",
    on: {
      pointerenter: () => light(i), pointerleave: () => light(pinned), focus: () => light(i), blur: () => light(pinned),
      click: () => { pinned = pinned === i ? null : i; light(i); press(); },
    },
  }, nameOf(word));
  const own = (wanted) => words.flatMap((word, i) => ((word.kind === "text") === wanted ? [element("li", {}, chip(word, i))] : []));
  $("words").replaceChildren(...own(true), ...own(false));
  $("asked").hidden = false;
  caption(null);
}

function press() {
  for (const chip of $("words").querySelectorAll("button")) {
    chip.setAttribute("aria-pressed", String(Number(chip.dataset.word) === pinned));
  }
}

/** Bring out a query word everywhere, and say what answered it. */
function light(word) {
  $("results").classList.toggle("lit", word !== null);
  for (const result of results) result.light(word);
  if (word === null) return caption(null);
  const found = results.map((result) => [result.hit.rank, result.answerTo(word)]).filter(([, answer]) => answer);
  const shown = found.slice(0, 5).map(([rank, [text, similarity]]) => `${rank}. ${text} ${number(similarity)}`);
  const name = $("words").querySelector(`[data-word="${word}"]`)?.textContent;
  caption(`${name} → ${shown.join("   ")}`);
}

/** The pointer is on a word that answered these query words, or has left. */
function spotlight(words, result, place) {
  for (const chip of $("words").querySelectorAll("button")) {
    chip.classList.toggle("on", words?.includes(Number(chip.dataset.word)) ?? false);
  }
  if (words === null) return void (pinned === null && caption(null));
  const segment = result.explanation.segments[place];
  const asked = segment.answers.map((a) => `${nameOf(result.explanation.words[a.word])} ${number(a.similarity)}`);
  caption(`${short(segment.text || segment.token)} answers ${asked.join(", ")}`);
}

function caption(text) {
  $("caption").textContent = text ?? "Choose a word to see what answered it.";
  $("caption").classList.toggle("dim", text === null);
}

// ---- the URL

function remember(keep) {
  const parameters = new URLSearchParams();
  if (question()) parameters.set("q", question());
  if (!mode().defaultChecked) parameters.set("mode", mode().value);
  if ($("k").value !== "10") parameters.set("k", $("k").value);
  if (filters.where) parameters.set("where", JSON.stringify(filters.where));
  const url = parameters.size ? `?${parameters}` : location.pathname;
  const here = location.search || location.pathname;
  if (url !== here) history[settled || keep ? "pushState" : "replaceState"](null, "", url);
  settled = keep;
  document.title = question() ? `${question()} · refcolbert` : "refcolbert";
}

function restore() {
  const parameters = new URLSearchParams(location.search);
  $("query").value = parameters.get("q") ?? "";
  for (const input of modes()) input.checked = input.defaultChecked;
  for (const input of modes()) if (input.value === parameters.get("mode")) input.checked = true;
  const k = parameters.get("k") ?? "10";
  $("k").value = [...$("k").options].some((option) => option.value === k) ? k : "10";
  try {
    filters.set(JSON.parse(parameters.get("where") ?? "null"));
  } catch {
    filters.set(null);
  }
  search();
}

// ---- keys

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const writing = event.target.matches("input:not([type=radio]), textarea, select");
  const at = results.findIndex((result) => result.article === event.target);
  const inQuery = event.target === $("query");
  if (event.key === "/" && !writing) go(event, $("query"));
  else if (event.key === "Escape" && !inQuery && !writing) go(event, $("query"));
  else if (event.key === "ArrowDown" && (inQuery || at >= 0)) go(event, results[Math.min(at + 1, results.length - 1)]?.article);
  else if (event.key === "ArrowUp" && at >= 0) go(event, at ? results[at - 1].article : $("query"));
  else if (event.key === "Enter" && at >= 0) (event.preventDefault(), results[at].show(!results[at].open));
}

function go(event, target) {
  if (!target) return;
  event.preventDefault();
  for (const { article } of results) if (target !== $("query")) article.tabIndex = article === target ? 0 : -1;
  target.focus();
  if (target === $("query")) target.select();
}

// ---- beginning

/** Say what is searched. */
async function introduce() {
  const info = await ask("info").catch(() => null); // a search will say what is wrong
  if (!info) return;
  const count = (value, name) => `${value.toLocaleString("en")} ${name}${value === 1 ? "" : "s"}`;
  $("about").textContent = [info.path, count(info.documents, "document"), count(info.tokens, "token vector")].join(" · ");
  $("mode").hidden = info.words === null && mode().defaultChecked;
  if (info.documents === 0) (($("welcome").hidden = true), empty());
}

$("query").addEventListener("input", (event) => event.isComposing || later());
$("query").addEventListener("compositionend", later);
$("query").addEventListener("change", () => (settled = true)); // left, or Enter
$("search").addEventListener("submit", (event) => (event.preventDefault(), search({ keep: true })));
$("mode").addEventListener("change", () => search({ keep: true }));
$("k").addEventListener("change", () => search({ keep: true }));
document.addEventListener("keydown", onKey);
window.addEventListener("popstate", restore);
restore();
introduce();
if (!question()) $("query").focus();
