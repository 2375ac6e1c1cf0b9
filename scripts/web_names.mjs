// Names from a sampler.onnx under onnxruntime-web, the runtime of browsers, here run by Node.js.
//
//     npm install onnxruntime-web
//     node scripts/web_names.mjs checkpoints/names/sampler.onnx [N] [UNIFORMS]
//
// UNIFORMS: a file of N * 30 little-endian float32 values in [0, 1); random ones if left out. The same
// uniforms give the same names as in Python.
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

// Found beside the caller, not beside this script.
const require = createRequire(path.join(process.cwd(), "package.json"));
const ort = await import(pathToFileURL(require.resolve("onnxruntime-web")).href);
ort.env.wasm.numThreads = 1;

const STEPS = 30;
const [model, count = "20", uniformsFile] = process.argv.slice(2);
const n = Number(count);
const uniforms = uniformsFile
  ? new Float32Array(new Uint8Array(fs.readFileSync(uniformsFile)).buffer)
  : Float32Array.from({ length: n * STEPS }, Math.random);

const session = await ort.InferenceSession.create(new Uint8Array(fs.readFileSync(model)));
const { codepoints } = await session.run({
  uniforms: new ort.Tensor("float32", uniforms, [n, STEPS]),
  prefix: new ort.Tensor("int64", new BigInt64Array(0), [0]),
  temperature: new ort.Tensor("float32", [1], []),
  top_k: new ort.Tensor("int64", [0n], []),
  top_p: new ort.Tensor("float32", [1], []),
  min_length: new ort.Tensor("int64", [1n], []),
});
const length = codepoints.dims[1];
for (let i = 0; i < n; i++) {
  const name = codepoints.data.slice(i * length, (i + 1) * length).filter((c) => c > 0);
  console.log(String.fromCodePoint(...name));
}
