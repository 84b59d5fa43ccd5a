// The file that `edgeser export --with-frontend` writes, and the golden cases beside it.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import ort from "onnxruntime-node";

export async function openRecogniser(goldenPath) {
  const golden = JSON.parse(await readFile(goldenPath, "utf8"));
  const session = await ort.InferenceSession.create(join(dirname(goldenPath), golden.file));
  const ask = async (samples) => {
    const pcm = new ort.Tensor("float32", samples, [1, samples.length]);
    const { probabilities } = await session.run({ pcm });
    return Object.fromEntries(golden.labels.map((label, k) => [label, probabilities.data[k]]));
  };
  return { golden, ask };
}

export function tone({ samples, hz, harmonics, amplitude, from, to }, rate) {
  const pcm = new Float32Array(samples);
  for (let k = from; k < to; k++) {
    let sum = 0;
    for (let h = 1; h <= harmonics; h++) sum += Math.sin((2 * Math.PI * h * hz * k) / rate) / h;
    pcm[k] = amplitude * sum;
  }
  return pcm;
}

export async function checkGolden({ golden, ask }) {
  for (const each of golden.cases) {
    const found = await ask(tone(each, golden.rate));
    const off = Math.max(...golden.labels.map((label) => Math.abs(found[label] - each.probabilities[label])));
    if (!(off <= golden.tolerance)) throw new Error(`the golden case "${each.name}" is off by ${off}`);
  }
  return golden.cases.length;
}
