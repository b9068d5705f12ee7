// Metadata filters: conditions that people put together, and the JSON that the service takes.

import { $, element } from "./element.js";

const SIGNS = { $eq: "=", $ne: "≠", $gte: "≥", $lte: "≤", $gt: ">", $lt: "<", $contains: "contains", $exists: "exists" };
const scalar = (value) => value === null || ["string", "number", "boolean"].includes(typeof value);

/** The conditions [{field, operator, value}] that a filter amounts to, or null where it says more than those can. */
export function conditionsOf(where) {
  if (where === null || typeof where !== "object" || Array.isArray(where)) return null;
  const out = [];
  for (const [field, wanted] of Object.entries(where)) {
    if (field === "$and" && Array.isArray(wanted)) {
      const parts = wanted.map(conditionsOf);
      if (parts.includes(null)) return null;
      out.push(...parts.flat());
    } else if (field.startsWith("$")) return null;
    else if (scalar(wanted)) out.push({ field, operator: "$eq", value: wanted });
    else if (Array.isArray(wanted) || !Object.entries(wanted).every(([o, v]) => o in SIGNS && scalar(v))) return null;
    else for (const [operator, value] of Object.entries(wanted)) out.push({ field, operator, value });
  }
  return out;
}

/** The filter that holds all conditions; null for none. */
export function whereOf(conditions) {
  if (!conditions.length) return null;
  const parts = conditions.map(({ field, operator, value }) => ({
    [field]: operator === "$eq" ? value : { [operator]: value },
  }));
  const once = new Set(conditions.map((c) => c.field)).size === conditions.length;
  return once ? Object.assign({}, ...parts) : { $and: parts };
}

/** The filter bar: holds the filter, offers what results showed, and calls `changed` when people change it. */
export class Filters {
  constructor(changed) {
    this.changed = changed;
    this.where = null; // what is sent
    this.seen = new Map(); // field -> values that results held
    $("filter").addEventListener("click", () => this.#show($("conditions-form").hidden));
    $("add").addEventListener("click", () => this.#add());
    for (const id of ["field", "value"]) $(id).addEventListener("keydown", (event) => {
      if (event.key === "Enter") (event.preventDefault(), this.#add());
    });
    $("field").addEventListener("input", () => this.#offer());
    $("operator").addEventListener("change", () => ($("value").disabled = $("operator").value === "$exists"));
    $("where").addEventListener("input", () => this.#edit());
  }

  /** Take a filter from outside: the URL, a click on a result's metadata. */
  set(where) {
    this.where = where;
    $("where").value = where ? JSON.stringify(where) : "";
    $("where-problem").textContent = "";
    this.#draw();
  }

  /** Filter by one more condition. */
  also(field, operator, value) {
    const conditions = this.where ? conditionsOf(this.where) : [];
    const wanted = { [field]: operator === "$eq" ? value : { [operator]: value } };
    const same = conditions?.some((c) => c.field === field && c.operator === operator && c.value === value);
    if (same) return;
    this.set(conditions ? whereOf([...conditions, { field, operator, value }]) : { $and: [this.where, wanted] });
    this.changed();
  }

  /** Remember what metadata there is, to offer it. */
  learn(metadata) {
    for (const [field, value] of fieldsOf(metadata)) {
      if (!this.seen.has(field)) this.seen.set(field, new Set());
      if (this.seen.get(field).size < 200) this.seen.get(field).add(value);
    }
    $("fields").replaceChildren(...[...this.seen.keys()].sort().map((field) => element("option", { value: field })));
    this.#offer();
  }

  #offer() {
    const values = [...(this.seen.get($("field").value) ?? [])].map(String).sort();
    $("values").replaceChildren(...values.map((value) => element("option", { value })));
  }

  #show(open) {
    $("conditions-form").hidden = !open;
    $("filter").setAttribute("aria-expanded", String(open));
    if (open) $("field").focus();
  }

  #add() {
    const field = $("field").value.trim();
    if (!field) return void $("field").focus();
    const operator = $("operator").value;
    this.also(field, operator, operator === "$exists" ? true : this.#read(field, $("value").value.trim()));
    $("value").value = "";
    $("field").value = "";
    $("field").focus();
  }

  /** What was typed, as the kind of value that the field holds: text where it was seen to hold text. */
  #read(field, typed) {
    const kinds = new Set([...(this.seen.get(field) ?? [])].map((value) => typeof value));
    if (kinds.has("string") && kinds.size === 1) return typed;
    if (["true", "false", "null"].includes(typed)) return JSON.parse(typed);
    return typed !== "" && Number.isFinite(Number(typed)) ? Number(typed) : typed;
  }

  #edit() {
    const typed = $("where").value.trim();
    try {
      const where = typed ? JSON.parse(typed) : null;
      if (where !== null && (typeof where !== "object" || Array.isArray(where))) throw new SyntaxError("not an object");
      this.where = where;
      $("where-problem").textContent = "";
      this.#draw();
      this.changed();
    } catch (error) {
      $("where-problem").textContent = `Not a JSON object yet: ${error.message}`;
    }
  }

  #draw() {
    const conditions = this.where ? conditionsOf(this.where) : [];
    const drop = (rest, label) => element("button", {
      type: "button", class: "condition", "aria-label": `Remove the filter ${label}`,
      on: { click: () => (this.set(rest), this.changed(), $("filter").focus()) },
    }, label, element("span", { "aria-hidden": "true" }, " ×"));
    const shown = conditions
      ? conditions.map((c, i) => drop(whereOf(conditions.toSpliced(i, 1)), labelOf(c)))
      : [drop(null, JSON.stringify(this.where))];
    $("conditions").replaceChildren(...shown.map((button) => element("li", {}, button)));
  }
}

/** The fields of metadata as paths, with their plain values; a list gives each of its plain elements. */
export function fieldsOf(metadata, prefix = "") {
  return Object.entries(metadata).flatMap(([name, value]) => {
    if (scalar(value)) return [[prefix + name, value]];
    if (Array.isArray(value)) return value.filter(scalar).map((one) => [prefix + name, one]);
    return fieldsOf(value, `${prefix}${name}.`);
  });
}

function labelOf({ field, operator, value }) {
  return operator === "$exists" ? `${field} ${value ? "exists" : "is missing"}` : `${field} ${SIGNS[operator]} ${value}`;
}
