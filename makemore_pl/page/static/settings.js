// What is asked for: read from the page's fields or an address, checked by the same rules as `makemore sample`.

export const MOST_NAMES = 10_000; // that a page shows; the command has no limit
const MOST_LENGTH = 10_000;
const MOST_SHOWN = 60; // characters of a sentence
export const DEFAULTS = { n: "20", temperature: "1", top_k: "0", top_p: "1", min_length: "1", max_length: "", prefix: "", label: "" };
export const FIELDS = [...Object.keys(DEFAULTS), "seed"];

/** A setting that cannot be met: `field` is its name, the message a sentence for the visitor. */
export class SettingError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

function whole(texts, field, name, least, most = null) {
  const text = texts[field].trim();
  const range = most === null ? `${least} or more` : `from ${least} to ${most.toLocaleString("en")}`;
  if (!/^\d+$/.test(text) || BigInt(text) < BigInt(least) || (most !== null && BigInt(text) > BigInt(most))) {
    throw new SettingError(field, `${name} must be a whole number, ${range}.`);
  }
  return BigInt(text);
}

function real(texts, field, name, fits, range) {
  const text = texts[field].trim();
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) || !fits(Number(text))) {
    throw new SettingError(field, `${name} must be a number ${range}.`);
  }
  return Number(text);
}

const code = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
const isUnseen = (character) => /[\p{C}\p{Z}\p{M}]/u.test(character);

/** `“ö” (U+00F6)`; what cannot be seen alone, by its number. */
function describe(character) {
  return isUnseen(character) ? code(character) : `“${character}” (${code(character)})`;
}

/** The ids of a prefix, BigInts: characters are sorted by code point, and id 0 is the boundary. */
function encode(prefix, model) {
  const ids = new Map(Array.from(model.characters, (character, i) => [character, BigInt(i + 1)]));
  const unknown = [...new Set(prefix)].filter((character) => !ids.has(character));
  if (unknown.length) {
    const known = [...ids.keys()].map((character) => (isUnseen(character) ? code(character) : character));
    const more = known.length > MOST_SHOWN ? ` and ${known.length - MOST_SHOWN} more` : "";
    const shown = known.slice(0, MOST_SHOWN).join(" ") + more;
    throw new SettingError("prefix", `The model does not know ${unknown.map(describe).join(", ")}. It knows: ${shown}`);
  }
  return Array.from(prefix, (character) => ids.get(character));
}

/** A prefix in the spelling of the training names, as far as browsers know it. */
function spelled(text, { normalize = "none", case: letters = "keep" }) {
  let prefix = normalize === "none" ? text : text.normalize(normalize.toUpperCase());
  if (letters !== "keep") prefix = prefix.toLowerCase();
  if (letters === "title") prefix = prefix.replace(/(?<![\p{L}\p{N}\p{M}])\p{L}/gu, (letter) => letter.toUpperCase());
  return prefix;
}

/** A label's number; null: of each name by the labels' shares, or there are none. */
function labelNumber(text, labels = []) {
  if (text === "") return null;
  const number = labels.indexOf(text);
  if (number < 0) throw new SettingError("label", `The model's names have no kind “${text}”.`);
  return number;
}

/**
 * Check settings.
 *
 * @param {Object<string, string>} texts of FIELDS
 * @param {Object} model what model.json holds
 * @returns their values, with `prefix` as ids and `steps`, the most characters to draw
 */
export function check(texts, model) {
  const settings = {
    texts,
    n: Number(whole(texts, "n", "How many", 1, MOST_NAMES)),
    seed: whole(texts, "seed", "Seed", 0),
    temperature: real(texts, "temperature", "Temperature", (t) => t >= 0 && t <= 1e30, "from 0 to 1e30"),
    topK: whole(texts, "top_k", "Top-k", 0),
    topP: real(texts, "top_p", "Top-p", (p) => p > 0 && p <= 1, "above 0, and at most 1"),
    minLength: whole(texts, "min_length", "The least length", 0),
    prefix: encode(spelled(texts.prefix, model), model),
    label: labelNumber(texts.label, model.labels),
  };
  const limit = texts.max_length.trim() ? Number(whole(texts, "max_length", "The greatest length", 1, MOST_LENGTH)) : null;
  const most = limit ?? MOST_LENGTH;
  if (settings.minLength > BigInt(most)) {
    throw new SettingError("min_length", `The least length, ${settings.minLength}, is more than the greatest, ${most}.`);
  }
  const given = settings.prefix.length;
  if (given > most) {
    throw new SettingError("prefix", `A name of at most ${most} characters cannot start with ${given}.`);
  }
  settings.longest = limit ?? Math.max(2 * model.longest_name, Number(settings.minLength), given);
  settings.steps = settings.longest - given;
  return settings;
}

/** Texts of all fields from an address's query, and which of them it has. */
export function fromQuery(query) {
  const parameters = new URLSearchParams(query);
  return Object.fromEntries(FIELDS.filter((field) => parameters.has(field)).map((field) => [field, parameters.get(field)]));
}

/** The query of an address that repeats the names: the seed, the model, and whatever is not the default. */
export function toQuery(texts, model) {
  const parameters = new URLSearchParams({ seed: texts.seed });
  for (const [field, value] of Object.entries(DEFAULTS)) if (texts[field] !== value) parameters.set(field, texts[field]);
  parameters.set("model", model.export_id);
  return `?${parameters}`;
}

/** A POSIX shell's command that prints the names. */
export function toCommand(texts) {
  const words = ["makemore", "sample", "sampler.onnx", "-n", texts.n, "--seed", texts.seed];
  for (const [field, value] of Object.entries(DEFAULTS)) {
    // With "=", a value may begin with a dash.
    if (field !== "n" && texts[field] !== value) words.push(`--${field.replace("_", "-")}=${quote(texts[field])}`);
  }
  return words.join(" ");
}

function quote(text) {
  return /^[\w.,:/@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
