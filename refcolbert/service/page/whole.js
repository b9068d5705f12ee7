// Passages below the name of their document, and the whole document: all its passages in their order.

import { element } from "./element.js";
import { ask } from "./service.js";

const NUMBER = /(?:@|#page=)(\d+)$/; // at the end of a passage's id
const LEAST = 8; // characters that passages must share to overlap: fewer may be chance

/** The name of the document that a hit is a passage of; null for a whole document. */
export const documentOf = ({ metadata }) => (typeof metadata.passage_of === "string" ? metadata.passage_of : null);

/** The list item of a document's results. `narrow` filters by a field. */
export function card(results, narrow, signal) {
  const articles = results.map((result) => result.article);
  const name = documentOf(results[0].hit);
  if (name === null) return element("li", {}, ...articles);
  const found = results.map((result) => result.hit.id);
  const text = element("div", { class: "whole", tabindex: "0", role: "region", "aria-label": `All of ${name}`, dir: "auto", hidden: true });
  const show = async () => {
    text.hidden = !text.hidden;
    button.setAttribute("aria-expanded", String(!text.hidden));
    if (text.hidden) return;
    text.replaceChildren(...(await passages(name, found, signal).catch((error) => [element("p", { class: "problem" }, error.message)])));
    text.scrollTop = (text.querySelector('[data-found="0"]')?.offsetTop ?? 0) - 40;
  };
  const button = element("button", { type: "button", class: "toggle", "aria-expanded": "false", on: { click: show } }, "Whole document");
  const only = element("button", { type: "button", class: "field", title: "Search only in this document", on: { click: () => narrow("passage_of", "$eq", name) } }, name);
  return element("li", { class: "document" }, element("div", { class: "head" }, only, button), text, ...articles);
}

/** All passages of a document; those in `found` have their place there. */
async function passages(name, found, signal) {
  const { dim, limits } = await ask("info", undefined, signal);
  // Zeros are equally similar to all passages, so these come in the order in which they were added.
  const asked = { query: [Array(dim).fill(0)], where: { passage_of: name }, k: limits.k, exact: true };
  const { hits } = await ask("search", asked, signal);
  // A changed passage was added last. Its number says where it belongs in its text.
  const place = ({ id }) => Number(NUMBER.exec(id)?.[1] ?? 0);
  return [...Map.groupBy(hits, ({ id }) => id.replace(NUMBER, "")).values()].map((parts) => {
    const sorted = parts.toSorted((one, other) => place(one) - place(other));
    return element("p", {}, ...sorted.map((hit, i) =>
      element("span", { "data-found": found.includes(hit.id) && String(found.indexOf(hit.id)) }, i ? unrepeated(sorted[i - 1].text ?? "", hit) : hit.text ?? "")));
  });
}

/** The text of a passage, without its title and what the passage before it ends with. */
function unrepeated(before, { text, metadata: { title } }) {
  const own = title && text?.startsWith(title) ? text.slice(title.length).trimStart() : text ?? "";
  let n = Math.min(before.length, own.length);
  while (n >= LEAST && !before.endsWith(own.slice(0, n))) n--;
  return n < LEAST ? ` ${own}` : own.slice(n);
}
