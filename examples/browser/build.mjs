// Makes the page: npm run build -- FOLDER, the folder that `edgeser export --with-frontend --out FOLDER` wrote.
// What lies in site/ afterwards is all that a web server has to hand out; it asks no other machine for anything.

import { cp, mkdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";

const files = process.argv[2];
if (!files) throw new Error("name the folder that edgeser export --with-frontend wrote");
const golden = join(files, "recogniser.golden.json");
const runtime = "node_modules/onnxruntime-web/dist";
const parts = {
  "index.html": "index.html",
  "page.css": "page.css",
  "page.mjs": "page.mjs",
  "microphone.mjs": "microphone.mjs",
  "ort.mjs": join(runtime, "ort.wasm.bundle.min.mjs"),
  "ort-wasm-simd-threaded.wasm": join(runtime, "ort-wasm-simd-threaded.wasm"),
  "recogniser.golden.json": golden,
};
const { file } = JSON.parse(await readFile(golden, "utf8"));
await rm("site", { recursive: true, force: true });
await mkdir("site");
for (const [name, source] of Object.entries({ ...parts, [file]: join(files, file) })) await cp(source, join("site", name));
console.log("site/ is the page; for example: python3 -m http.server --bind 127.0.0.1 --directory site 8000");
