// The exported sampler in onnxruntime-web: loaded with its files' hashes checked, and asked for names.

import { Uniforms } from "./pcg64.js";

const FIRST_NAMES = 50; // drawn at once, so that the first ones are there soon
const MOST_UNIFORMS = 1 << 18; // of one call, which the page waits for

// index.html has the runtime's hash. Only after the browser has found it right may the script be imported: what has
// failed would be loaded once more, unchecked; what has not is there already.
const runtime = document.getElementById("runtime");
const isRuntimeRight = new Promise((resolve) => {
  runtime.addEventListener("load", () => resolve(true));
  runtime.addEventListener("error", () => resolve(false));
});

/** A sentence for the visitor: what could not be loaded, and what may help. */
export class LoadError extends Error {}

function loadError(what, address) {
  const reasons = "there is no connection, the file is missing, or it is not the one that this page was written with";
  return new LoadError(`${what} could not be loaded from ${address}: ${reasons}. Load the page again, or write it again.`);
}

/** A file with that hash; whatever else comes, even with an error's status, is refused. */
function load(what, address, integrity) {
  return fetch(address, { integrity, credentials: "omit" }).catch(() => {
    throw loadError(what, address);
  });
}

/** What model.json says. */
export async function loadModel({ model, modelIntegrity }) {
  return (await load("The description of the model", model, modelIntegrity)).json();
}

/**
 * Open the sampler.
 *
 * @param places data attributes of the page: addresses and hashes
 * @returns {Sampler}
 */
export async function openSampler(places, model) {
  const what = `onnxruntime-web ${places.runtimeVersion}, which runs the model,`;
  const [ort, wasm, sampler] = await Promise.all([
    isRuntimeRight.then((isRight) => {
      if (!isRight) throw loadError(what, runtime.getAttribute("src"));
      return import(runtime.src);
    }),
    load(what, places.wasm, places.wasmIntegrity).then((reply) => reply.arrayBuffer()),
    load("The model", places.sampler, places.samplerIntegrity).then((reply) => reply.arrayBuffer()),
  ]);
  ort.env.wasm.numThreads = 1; // more would need headers that few hosts send
  ort.env.wasm.wasmBinary = wasm;
  try {
    const options = { executionProviders: ["wasm"], graphOptimizationLevel: "basic", logSeverityLevel: 3 };
    return new Sampler(ort, await ort.InferenceSession.create(new Uint8Array(sampler), options), model);
  } catch (error) {
    throw new LoadError(`This browser cannot run the model (${error.message ?? error}).`);
  }
}

class Sampler {
  constructor(ort, session, model) {
    this.ort = ort;
    this.session = session;
    this.model = model;
  }

  /**
   * Draw the names of `makemore sample` with the same settings, in parts.
   *
   * @param settings as `check` gives them
   * @yields {{name: string, logProb: number, perCharacter: number}[]} log-likelihood in nats under the plain
   *   model, and the mean probability of a character, the end of the name being one
   */
  async *draw(settings) {
    const uniforms = new Uniforms(settings.seed);
    const most = Math.max(1, Math.floor(MOST_UNIFORMS / Math.max(1, settings.steps)));
    for (let drawn = 0, size; drawn < settings.n; drawn += size) {
      size = Math.min(settings.n - drawn, most, drawn ? 4 * drawn : FIRST_NAMES);
      // A row a name, in the order in which NumPy fills them.
      const columns = settings.steps + (this.#drawsLabels(settings) ? 1 : 0);
      yield await this.#names(size, uniforms.next(size * columns), settings);
    }
  }

  #drawsLabels(settings) {
    return settings.label === null && Boolean(this.model.labels?.length);
  }

  /** Labels int64 (n,), and the uniforms without the first of each name, which draws its label. */
  #drawLabels(n, uniforms, { steps }) {
    const shares = this.model.label_shares;
    const rest = new Float32Array(n * steps);
    const labels = BigInt64Array.from({ length: n }, (_, i) => {
      const row = uniforms.subarray(i * (steps + 1), (i + 1) * (steps + 1));
      rest.set(row.subarray(1), i * steps);
      let total = 0;
      const cumulative = shares.map((share) => (total += share));
      return BigInt(cumulative.filter((sum) => sum <= Math.fround(row[0]) * total).length);
    });
    return [labels, rest];
  }

  async #names(n, drawn, settings) {
    const { Tensor } = this.ort;
    let uniforms = drawn;
    let labels = new BigInt64Array(n).fill(BigInt(settings.label ?? 0));
    if (this.#drawsLabels(settings)) [labels, uniforms] = this.#drawLabels(n, drawn, settings);
    const whole = (value) => new Tensor("int64", [value < 2n ** 63n ? value : 2n ** 63n - 1n], []);
    const inputs = {
      uniforms: new Tensor("float32", uniforms, [n, settings.steps]),
      prefix: new Tensor("int64", BigInt64Array.from(settings.prefix), [settings.prefix.length]),
      temperature: new Tensor("float32", [settings.temperature], []),
      top_k: whole(settings.topK),
      top_p: new Tensor("float32", [settings.topP], []),
      min_length: whole(settings.minLength),
    };
    if (this.model.labels?.length) inputs.label = new Tensor("int64", labels, [n]);
    const { codepoints, log_prob } = await this.session.run(inputs, ["codepoints", "log_prob"]);
    const length = codepoints.dims[1];
    return Array.from(log_prob.data, (logProb, i) => {
      const points = codepoints.data.subarray(i * length, (i + 1) * length).filter((point) => point > 0);
      const draws = points.length < settings.longest ? points.length + 1 : points.length; // cut: without its end
      const name = Array.from(points, (point) => String.fromCodePoint(point)).join("");
      return { name, logProb, perCharacter: Math.exp(logProb / draws) };
    });
  }
}
