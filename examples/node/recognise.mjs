// The emotion of WAV files: node recognise.mjs recogniser.golden.json CLIP.wav..., one JSON object a line.
// The golden cases are checked first, so that no answer comes from a file or runtime that computes something else.

import { readFile } from "node:fs/promises";
import { checkGolden, openRecogniser } from "./recogniser.mjs";
import { readWav } from "./wav.mjs";

const [goldenPath, ...clips] = process.argv.slice(2);
const recogniser = await openRecogniser(goldenPath);
console.error(`${await checkGolden(recogniser)} golden cases are right`);
for (const file of clips) {
  try {
    const probabilities = await recogniser.ask(readWav(await readFile(file), recogniser.golden.rate));
    const emotion = Object.keys(probabilities).reduce((best, one) => (probabilities[one] > probabilities[best] ? one : best));
    console.log(JSON.stringify({ file, emotion, probabilities }));
  } catch (error) {
    console.error(`${file}: ${error.message}`);
    process.exitCode = 2;
  }
}
