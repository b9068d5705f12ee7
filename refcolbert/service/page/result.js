// One result: its text colored by what it answered, and, when opened, how its score comes about.

import { element } from "./element.js";
import { fieldsOf } from "./filters.js";
import { heatmap } from "./heatmap.js";

const KIND = { text: "own", marker: "marker", expansion: "expansion" }; // classes for the parts of a score
const COLORS = 8; // as many as style.css has
const SHORT = 420; // characters of a text that are shown before it is opened
const LONGEST = 120, CLIP = 80; // characters of one word, and how many are shown of a longer one
const WINDOW = 210; // characters around words that answered, where a text is longer

/** The class that colors each of a query's words: they go round; markers and expansion share one. */
export function classesOf(words) {
  let own = 0;
  return words.map((word) => (word.kind === "text" ? `w${own++ % COLORS}` : "rest"));
}

export const number = (value, digits = 2) => value.toFixed(digits);

/** "[MASK] ×20" for many tokens of one kind. */
export const nameOf = (word) => (word.kind === "expansion" ? `${word.text} ×${word.rows.length}` : word.text);

export class Result {
  /** `service` explains it, `narrow` filters by a field, `spotlight` is called with the words under the pointer. */
  constructor(hit, { explain, narrow, spotlight }) {
    Object.assign(this, { hit, explain, narrow, spotlight, explanation: null, open: false });
    this.title = typeof hit.metadata.title === "string" && hit.metadata.title.trim() ? hit.metadata.title : null;
    this.heading = element("h2", { id: `result-${hit.rank}`, dir: "auto" });
    this.text = element("div", { class: "text", dir: "auto" });
    this.why = element("div", { class: "why", id: `why-${hit.rank}`, hidden: true });
    this.toggle = element("button", {
      type: "button", class: "toggle", "aria-expanded": "false", "aria-controls": `why-${hit.rank}`,
      "aria-label": `Why result ${hit.rank} matched`, on: { click: () => this.show(!this.open) },
    }, "Why?");
    this.article = element("article", { tabindex: "-1", "aria-labelledby": `result-${hit.rank}` },
      element("div", { class: "head" }, element("span", { class: "rank" }, String(hit.rank)), this.heading,
        element("span", { class: "score", title: meaningOf(hit.parts) }, number(hit.score)), this.toggle),
      this.text, this.#fields(), this.why);
    for (const event of ["pointerover", "click"]) this.article.addEventListener(event, (e) => this.#pointed(e));
    this.article.addEventListener("pointerleave", () => this.spotlight(null));
    this.#draw();
  }

  /** Color the words, now that it is known what they answered. */
  color(explanation) {
    this.explanation = explanation;
    this.article.dataset.explained = "yes";
    this.#draw();
    if (this.open) this.#drawWhy();
  }

  /** Open or close: the whole text, and how the score comes about. */
  show(open) {
    this.open = open;
    this.article.classList.toggle("open", open);
    this.toggle.setAttribute("aria-expanded", String(open));
    this.why.hidden = !open;
    this.#draw();
    if (open) this.#drawWhy();
  }

  /** Bring out what answered one query word, or nothing; by its whole row where the similarities are here. */
  light(word) {
    const found = this.explanation?.similarities;
    for (const mark of this.article.querySelectorAll("mark")) {
      mark.classList.toggle("on", word !== null && mark.dataset.words.split(" ").includes(String(word)));
    }
    for (const span of this.text.querySelectorAll("[data-rows]")) {
      const closeness = word === null || !found ? null : this.#closeness(word, span.dataset.rows.split(" "));
      span.classList.toggle("near", closeness !== null);
      if (closeness !== null) span.style.setProperty("--near", closeness.toFixed(3));
    }
  }

  /** What stands where the query's word `number` was answered: [text, similarity]; null before it is known. */
  answerTo(number) {
    if (!this.explanation) return null;
    const { segments } = this.explanation;
    const found = segments.flatMap((s) => s.answers.filter((a) => a.word === number).map((a) => [short(s.text || s.token), a.similarity]));
    return found.sort((one, other) => other[1] - one[1])[0] ?? null;
  }

  #closeness(word, columns) {
    const rows = this.explanation.words[word].rows;
    const best = rows.map((i) => Math.max(...columns.map((j) => this.explanation.similarities[i][j])));
    return Math.max(0, best.reduce((sum, value) => sum + value, 0) / rows.length);
  }

  #pointed(event) {
    const mark = event.target.closest("mark");
    if (mark && this.text.parentElement.contains(mark)) {
      this.spotlight(mark.dataset.words.split(" ").map(Number), this, Number(mark.dataset.segment));
    } else if (event.type === "pointerover") this.spotlight(null);
  }

  #fields() {
    const { url } = this.hit.metadata;
    // Nothing but the web: a script would run in this page.
    const link = typeof url === "string" && /^https?:\/\//i.test(url) ? url : null;
    const fields = fieldsOf(this.hit.metadata).filter(([name]) => !["title", "passage_of"].includes(name) && (name !== "url" || !link));
    const shown = fields.slice(0, 12).map(([name, value]) => element("button", {
      type: "button", class: "field", title: `Only where ${name} is ${value}`,
      on: { click: () => this.narrow(name, "$eq", value) },
    }, element("span", { class: "name" }, name), ` ${String(value).slice(0, 80)}`));
    const { late, words } = this.hit.parts;
    const both = late !== null && words !== null;
    return element("div", { class: "fields" },
      both ? element("span", { class: "both" }, `late ${number(late)} · words ${number(words)}`) : null,
      link ? element("a", { class: "source", href: link, rel: "noopener noreferrer", target: "_blank" }, ...breakable(short(link))) : null,
      this.title ? element("span", { class: "id" }, `id ${this.hit.id}`) : null, ...shown);
  }

  #draw() {
    const whole = this.hit.text ?? "";
    const segments = this.explanation?.segments ?? [{ text: whole, token: "", rows: [], answers: [] }];
    const end = segments.findLastIndex((segment) => segment.text && segment.rows.length);
    const numbered = segments.map((s, place) => ({ ...s, place, unread: end >= 0 && place > end && /[\p{L}\p{N}]/u.test(s.text) ? "unread first" : "" }));
    const name = this.title ?? this.hit.id;
    const titled = whole.startsWith(name);
    const parts = withShared(numbered, this.explanation?.shared_words ?? []);
    const [title, body] = titled ? cut(parts, name.length) : [[], parts];
    const shown = this.open ? body : excerpt(body.flatMap(inWords), this.explanation?.words);
    this.heading.replaceChildren(...(titled ? this.#nodes(title) : breakable(name)));
    this.text.replaceChildren(...this.#nodes(shown));
    if (this.hit.text === null) this.text.append(element("em", {}, "No text: this document came as vectors."));
  }

  #nodes(segments) {
    const classes = this.explanation ? classesOf(this.explanation.words) : [];
    return segments.map(({ text, token, rows, answers, place, unread, shared }) => {
      if (token && !this.open) return "";
      const inside = shared ? [element("strong", { class: "shared" }, ...breakable(text))] : breakable(text);
      const near = rows.length ? { "data-rows": rows.join(" ") } : {};
      if (!answers.length) return element("span", { ...near, class: this.open ? unread : null }, ...inside);
      return element("mark", {
        ...near, class: classes[answers[0].word] + (token ? " token" : ""), "data-segment": String(place),
        "data-words": answers.map((a) => a.word).join(" "), style: { "--depth": depth(answers[0].similarity) },
      }, ...(text ? inside : [token]));
    });
  }

  #drawWhy() {
    if (!this.explanation) return void this.why.replaceChildren(element("p", { class: "dim" }, "…"));
    const { words, shared_words: shared } = this.explanation;
    const bm25 = this.hit.parts.words;
    this.why.replaceChildren(
      ...(words.length ? this.#similarities() : []), ...(bm25 === null ? [] : sharedWords(shared, bm25, this.hit.text)));
  }

  #similarities() {
    const { words, score } = this.explanation;
    const classes = classesOf(words);
    const sum = (kind) => words.filter((w) => w.kind === kind).reduce((total, w) => total + w.similarity, 0);
    const parts = [["text", "your words"], ["marker", "markers"], ["expansion", "expansion"]]
      .map(([kind, label]) => [kind, label, sum(kind)]).filter(([, , value]) => value !== 0);
    const bar = element("div", { class: "parts", "aria-hidden": "true" }, ...parts.map(([kind, , value]) =>
      element("span", { class: KIND[kind], style: { "--share": Math.max(value, 0) / Math.max(score, 1e-9) } })));
    const said = element("p", { class: "sum" },
      ...parts.flatMap(([kind, label, value], i) => [i ? " + " : "", element("span", { class: `key ${KIND[kind]}` }, `${label} ${number(value)}`)]),
      " = ", element("strong", {}, number(score)));
    const rows = words.map((word, i) => element("tr", {},
      element("th", { scope: "row" }, element("span", { class: `word ${classes[i]}` }, nameOf(word))),
      element("td", { dir: "auto" }, word.found.slice(0, 6).map(([text, n]) => (n > 1 && word.kind !== "text" ? `${short(text)} ×${n}` : short(text))).join(", "),
        word.found.length > 6 ? ` and ${word.found.length - 6} more` : ""),
      element("td", { class: "number" }, element("span", { class: `bar ${classes[i]}`, "aria-hidden": "true", style: { "--share": Math.max(0, word.similarity / word.rows.length) } })),
      element("td", { class: "number" }, number(word.similarity), word.rows.length > 1 ? element("small", {}, ` of ${word.rows.length}`) : "")));
    const table = element("table", {}, element("caption", { class: "hidden" }, "What each word of the question found here"),
      element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Asked"),
        element("th", { scope: "col" }, "Answered by"), element("th", { scope: "col", colspan: "2" }, "Similarity"))),
      element("tbody", {}, ...rows));
    return [said, bar, table, this.#heatmap()];
  }

  #heatmap() {
    const host = element("div", { class: "heat" });
    const draw = async () => {
      button.disabled = true;
      try {
        if (!this.explanation.similarities) this.explanation = await this.explain(this.hit.id, true);
        host.replaceChildren(heatmap(this.explanation));
      } catch (error) {
        button.disabled = false;
        if (error.name !== "AbortError") host.append(element("p", { class: "problem", role: "alert" }, error.message));
      }
    };
    const button = element("button", { type: "button", class: "draw", on: { click: draw } }, "All similarities");
    host.append(button);
    return host;
  }
}

const meaningOf = ({ late, words }) =>
  words === null ? "Sum of the similarities" : late === null ? "BM25 of the shared words" : "Similarities and shared words, fused";

/** The words that query and document share, each with its part of BM25. */
function sharedWords(shared, bm25, text) {
  const said = element("p", { class: "sum" }, "shared words = ", element("strong", {}, number(bm25)));
  const rows = shared.map(({ text: word, score, spans }) => element("tr", {},
    element("th", { scope: "row" }, element("strong", { class: "shared" }, short(word))),
    element("td", { dir: "auto" }, countedSpellings(text, spans)),
    element("td", { class: "number" }, element("span", { class: "bar rest", "aria-hidden": "true", style: { "--share": score / bm25 } })),
    element("td", { class: "number" }, number(score))));
  if (!rows.length) return [said];
  return [said, element("table", {}, element("caption", { class: "hidden" }, "The words that query and document share"),
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "Asked"),
      element("th", { scope: "col" }, "In the text"), element("th", { scope: "col", colspan: "2" }, "BM25"))),
    element("tbody", {}, ...rows))];
}

/** "parse, parsing ×2": the spellings at these places of a text. */
function countedSpellings(text, spans) {
  const letters = [...(text ?? "")]; // places count code points
  const counts = new Map();
  for (const [start, end] of spans) {
    const spelling = letters.slice(start, end).join("");
    counts.set(spelling, (counts.get(spelling) ?? 0) + 1);
  }
  return [...counts].slice(0, 6).map(([spelling, n]) => (n > 1 ? `${short(spelling)} ×${n}` : short(spelling))).join(", ");
}

/** The segments, cut where words begin and end that query and document share. */
function withShared(segments, words) {
  const spans = words.flatMap((word) => word.spans).sort(([one], [other]) => one - other);
  if (!spans.length) return segments;
  let at = 0; // in code points, as the spans
  return segments.flatMap((segment) => {
    const letters = [...segment.text], start = at;
    at += letters.length;
    const inside = spans.filter(([first, end]) => first < at && end > start);
    if (segment.token || !inside.length) return [segment];
    const cuts = [...new Set([start, at, ...inside.flat()])].filter((c) => c >= start && c <= at).sort((one, other) => one - other);
    return cuts.slice(1).map((end, i) => ({
      ...segment, text: letters.slice(cuts[i] - start, end - start).join(""),
      shared: inside.some(([first, last]) => first <= cuts[i] && end <= last),
      unread: segment.unread && (i ? "unread" : segment.unread),
    }));
  });
}

/** A similarity as the depth of a color: squared, for those of matches lie close together. */
const depth = (similarity) => (Math.min(Math.max(similarity, 0), 1) ** 2).toFixed(3);

/** A word; of an endless one its beginning. */
export const short = (word) => (word.length <= LONGEST ? word : `${[...word].slice(0, CLIP).join("")}…`);

/** A text that may break after the signs inside of names. */
function breakable(text) {
  return text.split(/(?<=[._/:-])(?=\w)/).flatMap((part, i) => (i ? [element("wbr"), part] : [part]));
}

/** The segments before and from the character at `place`; the one that lies across it is cut in two. */
function cut(segments, place) {
  const before = [], after = [];
  let at = 0;
  for (const segment of segments) {
    const end = at + segment.text.length;
    if (segment.token) after.push(segment);
    else if (end <= place) before.push(segment);
    else if (at >= place) after.push(segment);
    else {
      before.push({ ...segment, text: segment.text.slice(0, place - at) });
      after.push({ ...segment, text: segment.text.slice(place - at) });
    }
    at = end;
  }
  const first = after.findIndex((segment) => segment.text);
  if (first >= 0) after[first] = { ...after[first], text: after[first].text.replace(/^[\s:]+/, "") };
  return [before, after];
}

/** A segment without a vector word by word: it may be the whole text. Words are shortened. */
function inWords(segment) {
  const texts = segment.rows.length ? [segment.text] : segment.text.split(/(?<=\s)/);
  return texts.map((text) => ({ ...segment, text: short(text) }));
}

/** A long text's beginning, or the places where most of the query's own words were answered. */
function excerpt(segments, words) {
  const length = segments.reduce((sum, segment) => sum + segment.text.length, 0);
  if (length <= SHORT) return segments;
  if (!words) return shortened(segments, SHORT);
  const windows = [];
  while (windows.length < 2) {
    const next = bestWindow(segments, words, windows);
    if (!next) break;
    windows.push(next);
  }
  if (!windows.length) return shortened(segments, SHORT);
  windows.sort((one, other) => one.first - other.first);
  const gap = { text: " … ", token: "", rows: [], answers: [] };
  const out = [];
  let last = -1;
  for (const { first, end } of windows) {
    if (first > last + 1) out.push(gap);
    out.push(...segments.slice(first, end));
    last = end - 1;
  }
  return last < segments.length - 1 ? [...out, gap] : out;
}

/** The window whose words answered most, outside the windows that are taken; null if none answered anything. */
function bestWindow(segments, words, taken) {
  const free = (i) => !taken.some(({ first, end }) => i >= first && i < end);
  const worth = segments.map((s) => Math.max(s.shared ? 1 : 0, ...s.answers.filter((a) => words[a.word].kind === "text").map((a) => a.similarity ** 2)));
  let best = null;
  for (let start = 0; start < segments.length; start++) {
    if (!worth[start] || !free(start)) continue;
    let first = start, room = 40; // some words before the first that answered
    while (first > 0 && free(first - 1) && (room -= segments[first - 1].text.length) > 0) first--;
    let end = start, total = 0;
    for (let left = WINDOW; end < segments.length && free(end) && (left > 0 || end === start); end++) {
      left -= segments[end].text.length;
      total += worth[end];
    }
    if (!best || total > best.total) best = { first, end, total };
  }
  return best;
}

function shortened(segments, length) {
  const [before] = cut(segments, length);
  return [...before, { text: "…", token: "", rows: [], answers: [] }];
}
