// The page: fields in, names out. A user's texts go in as text, never as HTML.

import { LoadError, loadModel, openSampler } from "./sampler.js";
import { DEFAULTS, FIELDS, SettingError, check, fromQuery, toCommand, toQuery } from "./settings.js";

const SPOKEN = 5; // names that a screen reader is told of
const PAUSE = 300; // milliseconds without a change, after which the address and the screen reader follow
const STAGGERED = 40; // names that appear one after the other

const byId = (id) => document.getElementById(id);
const places = document.body.dataset;
const fields = byId("settings").elements;
const list = byId("names");
const sliders = document.querySelectorAll("input[type=range]");
const whole = new Intl.NumberFormat("en");
const percent = (share) => `${(100 * share).toPrecision(share < 0.0995 ? 1 : 2)}%`;

let model; // what model.json says
let sampler;
let shown; // the names on the page, and the texts of their settings
let latest = 0; // number of the latest request: older ones stop
let pause;

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

const say = (sentence) => (byId("state").textContent = sentence);

/** Show a problem, or none, and which field has it. */
function complain(error) {
  byId("problem").hidden = !error;
  byId("problem").textContent = error?.message ?? "";
  for (const field of FIELDS) fields[field].toggleAttribute("aria-invalid", field === error?.field);
}

/* Settings */

function texts() {
  return Object.fromEntries(FIELDS.map((field) => [field, fields[field].value]));
}

function fill(settings) {
  for (const [field, text] of Object.entries(settings)) fields[field].value = text;
  moveSliders();
}

function moveSliders() {
  for (const slider of sliders) {
    slider.value = fields[slider.dataset.for].value;
    slider.setAttribute("aria-valuetext", fields[slider.dataset.for].value);
  }
}

function takeSeed() {
  fields.seed.value = crypto.getRandomValues(new Uint32Array(1))[0];
}

/* Names */

function listItem({ name, logProb, perCharacter }, place) {
  const item = element("li");
  item.title = `log-likelihood ${logProb.toFixed(2)} nats; ${percent(perCharacter)} per character`;
  item.style.setProperty("--likely", perCharacter);
  item.style.setProperty("--place", Math.min(place, STAGGERED));
  const bar = element("span", "", "bar");
  bar.setAttribute("aria-hidden", "true");
  item.append(element("bdi", name || "∅"), bar, element("span", ` ${percent(perCharacter)}`, "unseen"));
  return item;
}

/** Draw names, and show them as they come. */
async function draw() {
  const request = ++latest;
  try {
    const settings = check(texts(), model);
    complain(null);
    list.setAttribute("aria-busy", "true");
    const names = [];
    for await (const part of sampler.draw(settings)) {
      if (request !== latest) return;
      const items = part.map((name, i) => listItem(name, i));
      if (names.length) list.append(...items);
      else list.replaceChildren(...items);
      names.push(...part);
      await new Promise(requestAnimationFrame);
    }
    if (request !== latest) return;
    shown = { names: names.map(({ name }) => name), texts: settings.texts };
    const likeliest = Math.max(...names.map(({ perCharacter }) => perCharacter));
    list.style.setProperty("--likeliest", likeliest);
    list.removeAttribute("aria-busy");
    byId("most").textContent = percent(likeliest);
    byId("command").textContent = toCommand(shown.texts);
    clearTimeout(pause);
    pause = setTimeout(follow, PAUSE);
  } catch (error) {
    const isOurs = error instanceof SettingError;
    complain(isOurs ? error : new Error(`The names could not be made (${error.message ?? error}).`));
  }
}

/** Have the address and the screen reader follow what is shown. Browsers refuse addresses that change too often. */
function follow() {
  history.replaceState(null, "", toQuery(shown.texts, model));
  const { names } = shown;
  const more = names.length > SPOKEN ? ` and ${whole.format(names.length - SPOKEN)} more` : "";
  const first = names.slice(0, SPOKEN).map((name) => name || "one without characters");
  byId("spoken").textContent = `${whole.format(names.length)} new: ${first.join(", ")}${more}`;
}

/* Buttons */

async function copy(text, button) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Without https there is no clipboard, but for pages of this machine.
    const area = document.body.appendChild(element("textarea", text));
    area.select();
    const copied = document.execCommand("copy");
    area.remove();
    button.focus();
    if (!copied) return say("This browser does not allow the page to copy.");
  }
  return say("Copied.");
}

function download() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([lines()], { type: "text/plain;charset=utf-8" }));
  link.download = "names.txt";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

const lines = () => shown.names.map((name) => `${name}\n`).join("");

function listen() {
  byId("settings").addEventListener("input", ({ target }) => {
    if (target.dataset.for) fields[target.dataset.for].value = target.value;
    moveSliders();
    say("");
    draw();
  });
  byId("settings").addEventListener("submit", (event) => {
    event.preventDefault();
    say("");
    takeSeed();
    draw();
  });
  byId("reset").addEventListener("click", () => {
    fill(DEFAULTS);
    draw();
  });
  byId("copy").addEventListener("click", ({ target }) => copy(lines(), target));
  byId("link").addEventListener("click", ({ target }) => {
    copy(new URL(toQuery(shown.texts, model), location.href).href, target);
  });
  byId("download").addEventListener("click", download);
}

/* The model */

function describeModel() {
  const { verification } = model;
  const written = new Date(places.written).toLocaleDateString("en", { dateStyle: "long", timeZone: "UTC" });
  const facts = {
    "trained on": element("bdi", model.list_name),
    "parameters": whole.format(model.n_parameters),
    "looks back": `${whole.format(model.block_size)} characters`,
    "knows": `${whole.format(Array.from(model.characters).length)} characters`,
    "file written": written,
  };
  for (const [term, fact] of Object.entries(facts)) {
    const group = element("div");
    const description = element("dd");
    description.append(fact);
    group.append(element("dt", term), description);
    byId("facts").append(group);
  }
  byId("proof").textContent = proofInWords(verification);
  document.title = `Names like ${model.list_name}`;
  byId("lead").replaceChildren("In the manner of the list “", element("bdi", model.list_name), "”: a small network makes them up, here in your browser.");
}

function proofInWords({ contexts, contexts_total: total, exhaustive, largest_deviation: largest, bound, names }) {
  if (!total) return "The file does not say that it was compared with the trained network.";
  const which = exhaustive
    ? `all ${whole.format(total)} contexts that there are`
    : `${whole.format(contexts)} of ${total.toLocaleString("en", { maximumSignificantDigits: 3 })} contexts`;
  const raised = (digits) => digits.replaceAll("-", "⁻").replace("+", "").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
  const size = (value) => value.toExponential(1).replace(/e(.*)/, (_, digits) => ` × 10${raised(digits)}`);
  return [
    `Before it was written, the file was compared with the trained network on ${which}:`,
    `no logit differs by more than ${size(largest)}.`,
    !exhaustive && bound ? `For every other context there is a bound, ${size(bound)}.` : "",
    names ? `${whole.format(names)} names, drawn by both, are the same character by character.` : "",
  ].filter(Boolean).join(" ");
}

async function start() {
  complain(null);
  try {
    say("Loading the model and what runs it: 14 MB, the first time …");
    model = await loadModel(places);
    describeModel();
    byId("about").hidden = false;
    sampler = await openSampler(places, model);
  } catch (error) {
    say("");
    complain(error);
    if (error instanceof LoadError) return;
    throw error;
  }
  if (model.labels?.length) {
    fields.label.append(element("option", "any"), ...model.labels.map((label) => element("option", label)));
    fields.label.options[0].value = "";
    for (const option of [...fields.label.options].slice(1)) option.value = option.textContent;
    byId("label-field").hidden = false;
  }
  fields.max_length.placeholder = 2 * model.longest_name;
  document.querySelector("[data-for=top_k]").max = Array.from(model.characters).length + 1;
  takeSeed();
  const asked = fromQuery(location.search);
  fill(asked);
  listen();
  for (const button of document.querySelectorAll("button")) button.disabled = false;
  const other = new URLSearchParams(location.search).get("model");
  say(other && other !== model.export_id ? "The link to this page was made with another model: its names differ." : "");
  if (asked.label && fields.label.value !== asked.label) {
    fields.label.value = "";
    say(`The link to this page asks for the kind “${asked.label}”, which the model does not have.`);
  }
  await draw();
  byId("key").hidden = false;
}

start();
