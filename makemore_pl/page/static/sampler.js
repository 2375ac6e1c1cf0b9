// The exported sampler in onnxruntime-web: loaded with its files' hashes checked, and asked for names.

import { Uniforms } from "./pcg64.js";

const FIRST_NAMES = 50; // drawn at once, so that the first ones are there soon
const MOST_UNIFORMS = 1 << 18; // of one call, which the page waits for

/** A sentence for the visitor: what could not be loaded, and what may help. */
export class LoadError extends Error {}

async function load(what, address, integrity) {
  let reply;
  try {
    reply = await fetch(address, { integrity, credentials: "omit" });
  } catch {
    const reasons = "no connection, or a file other than the one that this page was written with";
    throw new LoadError(`${what} could not be loaded from ${address}: ${reasons}. Load the page again.`);
  }
  if (!reply.ok) throw new LoadError(`${what} is missing: the server answers ${reply.status} for ${address}.`);
  return reply;
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
  const name = `onnxruntime-web ${places.runtimeVersion}`;
  const [ort, wasm, sampler] = await Promise.all([
    // index.html has the script's hash, and has asked for it already: this is the same script.
    import(new URL(places.runtime, document.baseURI)).catch(() => {
      const reasons = "no connection, a blocked address, or a file other than the one that this page was written with";
      throw new LoadError(`${name}, which runs the model, could not be loaded from ${places.runtime}: ${reasons}.`);
    }),
    load(`${name}, which runs the model,`, places.wasm, places.wasmIntegrity).then((reply) => reply.arrayBuffer()),
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
      yield await this.#names(size, uniforms.next(size * settings.steps), settings);
    }
  }

  async #names(n, uniforms, settings) {
    const { Tensor } = this.ort;
    const whole = (value) => new Tensor("int64", [value < 2n ** 63n ? value : 2n ** 63n - 1n], []);
    const inputs = {
      uniforms: new Tensor("float32", uniforms, [n, settings.steps]),
      prefix: new Tensor("int64", BigInt64Array.from(settings.prefix), [settings.prefix.length]),
      temperature: new Tensor("float32", [settings.temperature], []),
      top_k: whole(settings.topK),
      top_p: new Tensor("float32", [settings.topP], []),
      min_length: whole(settings.minLength),
    };
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
