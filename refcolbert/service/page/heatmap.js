// All similarities of a query's tokens with a document's: a drawing to point at or walk through, and a table.

import { element } from "./element.js";

const CELL = 16, HEAD = 92; // pixels: a token's row or column, the document tokens' names
const WIDEST = 16000; // what every browser draws on
const LABELED = 9; // narrower columns go without names
const TABLE = 600; // document tokens beyond which the table shows only those that answered

export function heatmap(explanation) {
  const { similarities, matches, document_tokens: tokens } = explanation;
  const names = matches.map((match) => match.query_token);
  const scale = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(1, Math.min(CELL, Math.floor(WIDEST / scale / tokens.length)));
  const low = Math.min(0, ...similarities.map((row) => Math.min(...row)));
  const canvas = element("canvas", {
    tabindex: "0", role: "img",
    "aria-label": `Similarities of ${names.length} query tokens with ${tokens.length} document tokens. Arrow keys read them one by one.`,
  });
  const read = element("p", { class: "read", role: "status" }, "Point at a cell, or walk with the arrow keys.");
  let at = null;

  const draw = () => paint(canvas, { similarities, matches, tokens, width, scale, low, at });
  const go = (i, j) => {
    at = { i: Math.min(Math.max(i, 0), names.length - 1), j: Math.min(Math.max(j, 0), tokens.length - 1) };
    const best = matches[at.i].document_row === at.j ? ", its best match" : "";
    read.textContent = `${names[at.i]} × ${tokens[at.j]}: ${similarities[at.i][at.j].toFixed(3)}${best}`;
    draw();
  };
  canvas.addEventListener("pointermove", (event) => {
    const i = Math.floor((event.offsetY - HEAD) / CELL), j = Math.floor(event.offsetX / width);
    if (i >= 0 && i < names.length && j < tokens.length) go(i, j);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    at ? go(at.i + step[0], at.j + step[1]) : go(0, matches[0].document_row);
    const frame = canvas.parentElement, left = at.j * width;
    frame.scrollLeft = Math.min(Math.max(frame.scrollLeft, left - frame.clientWidth + 160), left);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

  const labels = element("div", { class: "names", "aria-hidden": "true" }, ...names.map((name) => element("span", {}, name)));
  const frame = element("div", { class: "frame" }, labels, canvas);
  const button = element("button", { type: "button", on: { click: () => {
    const asTable = frame.isConnected;
    (asTable ? frame : figure.querySelector(".table")).replaceWith(asTable ? table(explanation) : frame);
    read.hidden = asTable;
    button.textContent = asTable ? "As a drawing" : "As a table";
  } } }, "As a table");
  const key = element("span", { class: "ramp", "aria-hidden": "true" });
  const figure = element("figure", {}, frame, read, element("figcaption", {}, (Math.round(10 * low) / 10 || 0).toFixed(1), key, "1.0 · framed: the best match of each query token ", button));
  requestAnimationFrame(draw); // colors are those of where it stands
  return figure;
}

function paint(canvas, { similarities, matches, tokens, width, scale, low, at }) {
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(name).trim();
  const ramp = [color("--heat-0"), color("--heat-1"), color("--heat-2")].map(rgb);
  const [wide, high] = [tokens.length * width, HEAD + matches.length * CELL];
  canvas.width = wide * scale;
  canvas.height = high * scale;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${high}px`;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const gap = width > 4 ? 1 : 0;
  similarities.forEach((row, i) => row.forEach((value, j) => {
    pen.fillStyle = mixed(ramp, (value - low) / (1 - low));
    pen.fillRect(j * width, HEAD + i * CELL, width - gap, CELL - 1);
  }));
  pen.strokeStyle = color("--text");
  pen.lineWidth = 1.5;
  matches.forEach((match, i) => pen.strokeRect(match.document_row * width, HEAD + i * CELL - 0.25, width - gap, CELL - 0.5));
  if (at) {
    pen.strokeStyle = color("--accent");
    pen.lineWidth = 2.5;
    pen.strokeRect(at.j * width - 1, HEAD + at.i * CELL - 1, width + 1, CELL + 1);
  }
  if (width >= LABELED) name(pen, tokens, width, at, color);
}

function name(pen, tokens, width, at, color) {
  pen.font = "11px system-ui, sans-serif";
  pen.textBaseline = "middle";
  tokens.forEach((token, j) => {
    pen.save();
    pen.fillStyle = at?.j === j ? color("--accent") : color("--dim");
    pen.translate(j * width + width / 2, HEAD - 5);
    pen.rotate(-Math.PI / 2);
    pen.fillText([...token].length > 14 ? `${[...token].slice(0, 13).join("")}…` : token, 0, 0);
    pen.restore();
  });
}

function table({ similarities, matches, document_tokens: tokens }) {
  const answered = new Set(matches.map((match) => match.document_row));
  const rows = [...tokens.keys()].filter((j) => tokens.length <= TABLE || answered.has(j));
  const head = element("tr", {}, element("th", { scope: "col" }, "document"),
    ...matches.map((match) => element("th", { scope: "col" }, match.query_token)));
  const body = rows.map((j) => element("tr", {}, element("th", { scope: "row" }, tokens[j]),
    ...matches.map((match, i) => element("td", { class: match.document_row === j ? "best" : null }, similarities[i][j].toFixed(2)))));
  const said = rows.length < tokens.length ? "Similarities of the document tokens that answered" : "Similarities";
  return element("div", { class: "table", tabindex: "0", role: "region", "aria-label": said },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
}

const rgb = (text) => text.match(/\d+/g).map(Number);

/** The color at `place`, 0 to 1, on a ramp of three. */
function mixed(ramp, place) {
  const at = Math.min(Math.max(place, 0), 1) * 2, from = Math.min(Math.floor(at), 1);
  return `rgb(${ramp[from].map((value, c) => Math.round(value + (ramp[from + 1][c] - value) * (at - from))).join(" ")})`;
}
