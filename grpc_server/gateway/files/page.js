// The page of the prediction server. All text that a model or a caller supplies is put in as text;
// nothing here makes HTML of it. The token lives in this variable and nowhere else.
let token = "";
let model = null;

const MIN_ROWS = 1000; // below it, chance alone moves the index
const SMALLEST_SHARE = 1e-4; // as the server's own index has it
const MAX_CLASSES = 20;
const MAX_OPTIONS = 500; // more categories are typed, with suggestions
const MISSING = "FEATURE_KIND_MISSING";
const EMPTY = "(empty text)";
const KIND_NAMES = {
  FEATURE_KIND_NUMERIC: "number", FEATURE_KIND_BOOLEAN: "true or false",
  FEATURE_KIND_CATEGORICAL_TEXT: "category", FEATURE_KIND_CATEGORICAL_INTEGER: "category of whole numbers",
  FEATURE_KIND_DATE: "date", FEATURE_KIND_TIME: "time of day",
};
const byId = id => document.getElementById(id);

/** Make an element with attributes and children; a child that is text stays text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make an element of a drawing. */
function draw(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Make text of others harmless beside ours: it may turn the direction of letters. */
const isolate = text => make("bdi", {}, text);
const show = number => Number.isFinite(number) ? String(Number(number.toPrecision(5))) : String(number);
const asTime = text => text ? new Date(text).toLocaleString() : "an unknown time";

/** Ask the server; the token goes along if there is one. */
async function ask(path, body) {
  const headers = { Accept: "application/json" };
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const options = { method: body === undefined ? "GET" : "POST", headers, credentials: "omit" };
  if (body !== undefined) options.body = JSON.stringify(body);
  return fetch(path, { ...options, redirect: "error" });
}

/** Return what a refusal says, as a sentence and by field. */
async function readRefusal(reply) {
  const text = await reply.text();
  let status = {};
  try { status = JSON.parse(text); } catch { /* not the server's own: a proxy's page */ }
  const details = Array.isArray(status.details) ? status.details : [];
  const violations = details.flatMap(one => one.field_violations ?? []);
  return { message: String(status.message ?? status.error ?? `The server answered ${reply.status}.`), violations };
}

function warn(...lines) {
  byId("warnings").replaceChildren(...lines.map(line => make("li", {}, isolate(line))));
  byId("warnings").hidden = !lines.length;
}

async function load() {
  let reply;
  try {
    reply = await ask("/v1/model");
  } catch {
    return fail("The server cannot be reached.");
  }
  byId("access").hidden = reply.status !== 401 && reply.status !== 403;
  if (!reply.ok) {
    const { message } = await readRefusal(reply);
    return fail(reply.status === 501 ? "The server does not describe its model (--no-describe)." : message);
  }
  model = await reply.json();
  warn(...listWarnings());
  showModel();
  showForm();
  byId("content").hidden = false;
  await showDrift(true);
}

function fail(message) {
  byId("content").hidden = true;
  byId("since").textContent = "No model is shown.";
  warn(message);
  if (!byId("access").hidden) byId("token").focus();
}

function listWarnings() {
  const lines = [];
  if (model.refusal) lines.push(`Version ${model.wanted_version ?? "?"} does not answer: ${model.refusal}`);
  else if (model.wanted_version && model.wanted_version !== model.model_version)
    lines.push(`Version ${model.wanted_version} is being loaded.`);
  if (model.canary?.model_version) lines.push(`Canary ${model.canary.model_version} answers a share of the calls.`);
  return lines;
}

function showModel() {
  const name = model.registered_model || "A model without a registry";
  byId("name").replaceChildren(isolate(name), ", version ", isolate(model.model_version));
  document.title = `${name}, version ${model.model_version}`;
  byId("since").replaceChildren(isolate(model.model),
    `, answers since ${asTime(model.load_time)}; trained ${asTime(model.create_time)}`);
  const rows = Object.entries(model.metrics ?? {}).sort().filter(([key]) => key !== "threshold")
    .map(([key, value]) => [nameMetric(key), show(Number(value))]);
  if (model.threshold !== undefined) rows.push(["decision threshold", show(Number(model.threshold))]);
  rows.push(["calibration", model.calibration.replace("CALIBRATION_", "").toLowerCase()]);
  for (const member of model.members ?? []) rows.push([`member ${member.model}`, show(Number(member.weight))]);
  byId("numbers").replaceChildren(tabulate(["Name", "Value"], rows));
  byId("columns").replaceChildren(tabulate(["Feature", "Kind", "Gaps", "Values"], model.features.map(one => [
    one.name, KIND_NAMES[one.kind] ?? one.kind, one.nullable ? "may be missing" : "never",
    one.categories.length ? one.categories.slice(0, MAX_OPTIONS).map(text => text || EMPTY).join(", ") : one.format,
  ])));
}

/** Return a metric's name as people write it: `holdout_log_loss` is "log loss on the hold-out". */
function nameMetric(key) {
  const words = key.replace(/^holdout_|^cv_best_/, "").replaceAll("_", " ")
    .replace("roc auc", "ROC AUC").replace("brier", "Brier").replace(/^f1$/, "F1");
  if (key.startsWith("holdout_")) return `${words} on the hold-out`;
  return key.startsWith("cv_best_") ? `${words} on the folds` : words;
}

/** Make a table; cells that are too long scroll within themselves. */
function tabulate(titles, rows) {
  const head = make("tr", {}, ...titles.map(title => make("th", { scope: "col" }, title)));
  const body = rows.map(cells => make("tr", {}, ...cells.map(
    cell => make("td", {}, make("div", { class: "cell", dir: "auto" }, String(cell))))));
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}

function showForm() {
  byId("fields").replaceChildren(...model.features.map(makeField));
}

function makeField(feature, position) {
  const id = `field-${position}`;
  const control = makeControl(feature, id);
  control.setAttribute("aria-describedby", `${id}-hint ${id}-error`);
  const hint = [KIND_NAMES[feature.kind] ?? feature.kind];
  if (feature.format) hint.push(`such as ${writeExample(feature.format)}, or ISO 8601`);
  if (feature.nullable && control.tagName === "INPUT") hint.push("empty: missing");
  return make("div", { class: "field" },
    make("label", { for: id, dir: "auto" }, feature.name),
    control,
    ...(control.list === undefined || !control.hasAttribute("list") ? [] : [makeSuggestions(feature, id)]),
    make("span", { id: `${id}-hint`, class: "hint" }, hint.join("; ")),
    make("span", { id: `${id}-error`, class: "error" }));
}

function makeControl(feature, id) {
  const values = feature.kind === "FEATURE_KIND_BOOLEAN" ? ["false", "true"] : feature.categories;
  if (values.length && values.length <= MAX_OPTIONS) return makeSelect(feature, id, values);
  const control = make("input", { id, type: "text", autocomplete: "off", spellcheck: "false" });
  if (values.length) control.setAttribute("list", `${id}-list`);
  if (feature.kind === "FEATURE_KIND_NUMERIC") control.setAttribute("inputmode", "decimal");
  return control;
}

/** The value of an option is its position: two categories may look the same to a browser. */
function makeSelect(feature, id, values) {
  const options = values.map((value, position) => make("option", { value: position }, value || EMPTY));
  if (feature.nullable) options.unshift(make("option", { value: MISSING }, "(missing)"));
  const select = make("select", { id }, ...options);
  select.value = "0";
  return select;
}

function makeSuggestions(feature, id) {
  return make("datalist", { id: `${id}-list` },
    ...feature.categories.slice(0, 5000).map(value => make("option", { value })));
}

/** Return the value that a control holds, or throw the sentence that says what is wrong with it. */
function readControl(feature, control) {
  const { kind } = feature;
  if (control.tagName === "SELECT") {
    if (control.value === MISSING) return null;
    const position = Number(control.value);
    if (kind === "FEATURE_KIND_BOOLEAN") return position === 1;
    return kind === "FEATURE_KIND_CATEGORICAL_INTEGER" ? Number(feature.categories[position]) : feature.categories[position];
  }
  const text = control.value;
  if (text.trim() === "" && feature.nullable) return null;
  if (kind !== "FEATURE_KIND_NUMERIC" && kind !== "FEATURE_KIND_CATEGORICAL_INTEGER") return text;
  if (text.trim() === "" || !Number.isFinite(Number(text))) throw `Enter a number, such as 1.5, not ${JSON.stringify(text)}.`;
  return Number(text);
}

/** Return the instance, or null if a field does not fit; the first such field gets the focus. */
function readInstance() {
  const pairs = [];
  let first = null;
  model.features.forEach((feature, position) => {
    const control = byId(`field-${position}`);
    markField(position, "");
    try {
      pairs.push([feature.name, readControl(feature, control)]);
    } catch (sentence) {
      markField(position, String(sentence));
      first ??= control;
    }
  });
  first?.focus();
  return first ? null : Object.fromEntries(pairs);
}

function markField(position, sentence) {
  const control = byId(`field-${position}`);
  control.setAttribute("aria-invalid", sentence ? "true" : "false");
  byId(`field-${position}-error`).textContent = sentence;
}

async function predict(event) {
  event.preventDefault();
  const record = readInstance();
  if (record === null) return showError("Some fields do not fit.", []);
  const button = event.target.querySelector("button.main");
  button.disabled = true;
  const start = performance.now();
  try {
    const reply = await ask("/v1/predict", { record, explain_top_k: byId("explain").checked ? 10 : 0 });
    if (reply.ok) return showAnswer(await reply.json(), performance.now() - start, reply.headers.get("x-request-id"));
    byId("access").hidden = reply.status !== 401 && reply.status !== 403;
    const { message, violations } = await readRefusal(reply);
    showError(message, violations);
  } catch {
    showError("The server cannot be reached.", []);
  } finally {
    button.disabled = false;
  }
}

/** Show a refusal; what concerns a field stands at the field too. */
function showError(message, violations) {
  let first = null;
  for (const { field, description } of violations) {
    const position = model.features.findIndex(one => field === `record[${JSON.stringify(one.name)}]`);
    if (position < 0) continue;
    markField(position, description);
    first ??= byId(`field-${position}`);
  }
  const lines = violations.map(({ field, description }) => make("li", {}, isolate(field), ": ", isolate(description)));
  byId("answer").replaceChildren(make("p", { class: "error", role: "alert" }, isolate(message)), make("ul", {}, ...lines));
  first?.focus();
}

function showAnswer(answer, milliseconds, requestId) {
  const pairs = model.classes.map((name, position) => [name, Number(answer.probabilities[position])]);
  pairs.sort((a, b) => b[1] - a[1]);
  const parts = [
    make("p", { class: "label", dir: "auto" }, answer.label),
    make("p", { class: "hint" }, "Version ", isolate(answer.model_version), `, ${Math.round(milliseconds)} ms`,
      ...(requestId ? [", request ", isolate(requestId)] : [])),
    make("h3", {}, "Probabilities"),
    tabulateBars(pairs.slice(0, MAX_CLASSES), 1, false),
  ];
  if (pairs.length > MAX_CLASSES) parts.push(make("p", { class: "hint" }, `${pairs.length - MAX_CLASSES} more classes are less likely.`));
  if (answer.explanation) parts.push(...showExplanation(answer.explanation));
  byId("answer").replaceChildren(...parts);
}

function showExplanation(explanation) {
  const pairs = explanation.contributions.map(one => [one.feature, Number(one.value)]);
  const largest = Math.max(...pairs.map(pair => Math.abs(pair[1])), Number.MIN_VALUE);
  return [
    make("h3", {}, "Contributions to the score of ", isolate(explanation.label)),
    tabulateBars(pairs, largest, true),
    make("p", { class: "hint" }, `Score ${show(Number(explanation.score))}, of which ${show(Number(explanation.base))} without any feature.`),
  ];
}

/** Make a table of names, bars and numbers; with signs, zero is in the middle. */
function tabulateBars(pairs, largest, hasSigns) {
  const rows = pairs.map(([name, value]) => make("tr", {},
    make("th", { scope: "row" }, make("div", { class: "cell", dir: "auto" }, name)),
    make("td", {}, drawBar(value / largest, hasSigns)),
    make("td", { class: "number" }, show(value))));
  return make("table", { class: "bars" }, make("tbody", {}, ...rows));
}

function drawBar(share, hasSigns) {
  const zero = hasSigns ? 50 : 0;
  const width = Math.min(1, Math.abs(share)) * (hasSigns ? 50 : 100);
  const bar = draw("rect", { x: share < 0 ? zero - width : zero, y: 1, width, height: 8, class: share < 0 ? "less" : "more" });
  const axis = draw("line", { x1: zero, x2: zero, y1: 0, y2: 10, class: "axis" });
  return draw("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, bar, axis);
}

/** Yield the samples of a page of Prometheus' text format whose names are wanted. */
function* readSamples(page, names) {
  const unescapeLabel = text => text.replace(/\\(["\\n])/g, (_, one) => one === "n" ? "\n" : one);
  for (const line of page.split("\n")) {
    const open = line.indexOf("{");
    if (open < 0 || !names.has(line.slice(0, open))) continue;
    const labels = {};
    const pattern = /([a-z_]+)="((?:[^"\\]|\\.)*)",?/gy;
    pattern.lastIndex = open + 1;
    let end = open + 1;
    for (let found; (found = pattern.exec(line)); end = pattern.lastIndex) labels[found[1]] = unescapeLabel(found[2]);
    yield { name: line.slice(0, open), labels, value: Number(line.slice(end + 1)) };
  }
}

const DRIFT_NAMES = new Set(["prediction_feature_bin_total", "prediction_feature_reference_ratio",
  "prediction_score_bin_total", "prediction_score_reference_ratio", "prediction_drift_rows_total"]);

/** Return the rows that were looked at and, by feature, the counts and the reference of each bin. */
function collectDrift(page) {
  const drift = { rows: 0, features: new Map() };
  for (const { name, labels, value } of readSamples(page, DRIFT_NAMES)) {
    if (labels.model_version !== model.model_version) continue;
    if (name === "prediction_drift_rows_total") { drift.rows = value; continue; }
    const key = name.includes("score") ? "\u0000score" : labels.feature;
    if (!drift.features.has(key)) drift.features.set(key, new Map());
    const bins = drift.features.get(key);
    if (!bins.has(labels.bin)) bins.set(labels.bin, { count: 0, share: 0 });
    bins.get(labels.bin)[name.endsWith("_ratio") ? "share" : "count"] = value;
  }
  return drift;
}

function indexStability(bins) {
  const total = bins.reduce((sum, bin) => sum + bin.count, 0);
  if (!total) return null;
  return bins.reduce((sum, bin) => {
    const p = Math.max(bin.count / total, SMALLEST_SHARE), q = Math.max(bin.share, SMALLEST_SHARE);
    return sum + (p - q) * Math.log(p / q);
  }, 0);
}

async function showDrift(mayFill) {
  const note = text => { byId("drift-note").textContent = text; byId("charts").replaceChildren(); };
  let reply;
  try {
    reply = await ask("/metrics");
  } catch {
    return note("The server cannot be reached.");
  }
  if (!reply.ok) return note("Drift is read from /metrics, which this token may not see: it needs the scope metrics.");
  const drift = collectDrift(await reply.text());
  if (mayFill) fillForm(drift);
  if (!drift.features.size) return note("The server counts no drift: its model has no reference, or --drift-features is 0.");
  note(`${drift.rows} rows of this version were looked at. ` + (drift.rows < MIN_ROWS
    ? `Below ${MIN_ROWS}, chance alone moves the index.` : "An index below 0.1 is little drift, above 0.25 much.")
    + " Bars are the callers' rows, the line is what the model learned from.");
  const charts = [...drift.features].map(([name, bins]) => ({ name, bins, index: indexStability([...bins.values()]) }));
  charts.sort((a, b) => (b.name === "\u0000score") - (a.name === "\u0000score") || (b.index ?? 0) - (a.index ?? 0));
  byId("charts").replaceChildren(...charts.map(drawDrift));
}

function drawDrift({ name, bins, index }) {
  const values = [...bins.values()];
  const total = values.reduce((sum, bin) => sum + bin.count, 0);
  const shares = values.map(bin => [total ? bin.count / total : 0, bin.share]);
  const top = Math.max(...shares.flat(), 1e-9), width = 100 / shares.length;
  const bars = shares.map(([now], i) => draw("rect", { x: i * width + 0.1 * width, y: 50 - 48 * now / top, width: 0.8 * width, height: 48 * now / top, class: "now" }));
  const steps = shares.map(([, share], i) => `${i ? "L" : "M"}${i * width} ${50 - 48 * share / top}H${(i + 1) * width}`).join("");
  const title = name === "\u0000score" ? "Score" : name;
  const text = index === null ? "no rows yet" : `index ${index.toFixed(3)}`;
  const picture = draw("svg", { viewBox: "0 0 100 51", preserveAspectRatio: "none", role: "img" }, ...bars,
    draw("path", { d: steps, class: "reference" }), draw("line", { x1: 0, x2: 100, y1: 50, y2: 50, class: "axis" }));
  const detail = `${title}: ${text}; ` + [...bins].map(([bin], i) => `${bin}: ${show(100 * shares[i][0])} %, learned ${show(100 * shares[i][1])} %`).join("; ").slice(0, 2000);
  picture.setAttribute("aria-label", detail);
  picture.prepend(draw("title", {}, detail)); // for the mouse
  return make("figure", {}, make("h3", { dir: "auto" }, title), picture,
    make("figcaption", {}, `${text}; ${values.length} bins`));
}

/** Fill the form with typical values: the middle bin of a number, the most frequent category. */
function fillForm(drift) {
  model.features.forEach((feature, position) => {
    const control = byId(`field-${position}`);
    const bins = [...(drift.features.get(feature.name) ?? new Map())].filter(([bin]) => bin !== "missing");
    if (control.tagName === "SELECT") return fillSelect(feature, control, bins);
    if (feature.kind === "FEATURE_KIND_DATE") control.value = writeDate(feature.format);
    else if (feature.kind === "FEATURE_KIND_TIME") control.value = "12:00:00";
    else if (feature.kind === "FEATURE_KIND_NUMERIC") control.value = findMiddle(bins);
    else control.value = feature.categories[0] ?? "";
  });
}

function fillSelect(feature, control, bins) {
  const known = bins.filter(([bin]) => bin !== "other").sort((a, b) => b[1].share - a[1].share);
  const values = feature.kind === "FEATURE_KIND_BOOLEAN" ? ["false", "true"] : feature.categories;
  const position = known.length ? values.indexOf(known[0][0]) : 0;
  control.value = String(Math.max(0, position));
}

/** A bin is named by its upper edge; the last one may have none. */
function findMiddle(bins) {
  const edges = bins.map(([bin, { share }]) => [Number(bin), share]).filter(([edge]) => Number.isFinite(edge));
  let left = edges.reduce((sum, [, share]) => sum + share, 0) / 2;
  for (const [edge, share] of edges) if ((left -= share) <= 0) return String(edge);
  return "0";
}

/** Return today in a column's own form; a form that has other parts than these stands as it is. */
function writeExample(format) {
  const [year, month, day] = new Date().toISOString().slice(0, 10).split("-");
  const parts = { Y: year, y: year.slice(2), m: month, d: day, H: "13", M: "45", S: "00" };
  const isKnown = [...format.matchAll(/%(.)/g)].every(([, part]) => part in parts);
  return isKnown ? format.replace(/%(.)/g, (_, part) => parts[part]) : format;
}

function writeDate(format) {
  const now = new Date().toISOString();
  if (!/%[HIMST]/.test(format)) return now.slice(0, 10);
  return now.slice(0, 19) + (format.includes("%z") ? "+00:00" : "");
}

byId("instance").addEventListener("submit", predict);
byId("again").addEventListener("click", () => showDrift(false));
byId("access").addEventListener("submit", event => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  load();
});
load();
