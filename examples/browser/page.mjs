// The page's program: sound from the microphone or a file, brought to 16 kHz by the browser, goes into the file that
// `edgeser export --with-frontend` wrote. There is no code for levels, windows or trimming here: it is all in that file.

import * as ort from "./ort.mjs";

const QUIET = 10 ** (-60 / 20);  // no sample of the last seconds is louder: nobody speaks
const EVERY = 500;               // milliseconds from one answer to the next
const SECONDS = 3.2;             // the model hears windows of 3.1 s
const element = (id) => document.getElementById(id);

for (const kind of ["error", "unhandledrejection"])
  addEventListener(kind, ({ message, reason }) => say(`The page cannot work here: ${message ?? reason?.message ?? reason}`));
ort.env.wasm.wasmPaths = { wasm: new URL("ort-wasm-simd-threaded.wasm", import.meta.url).href };
ort.env.wasm.numThreads = 1;
const golden = await (await fetch("recogniser.golden.json")).json();
const session = await ort.InferenceSession.create(golden.file);

async function ask(samples) {
  const pcm = new ort.Tensor("float32", samples, [1, samples.length]);
  return Array.from((await session.run({ pcm })).probabilities.data);
}

// The golden cases say whether this browser computes what it should.
for (const { name, samples, hz, harmonics, amplitude, from, to, probabilities } of golden.cases) {
  const pcm = Float32Array.from({ length: samples }, (_, k) => {
    let sum = 0;
    for (let h = 1; from <= k && k < to && h <= harmonics; h++) sum += Math.sin((2 * Math.PI * h * hz * k) / golden.rate) / h;
    return amplitude * sum;
  });
  const found = await ask(pcm);
  if (golden.labels.some((label, k) => !(Math.abs(found[k] - probabilities[label]) <= golden.tolerance)))
    throw say(`This browser computes something else than it should (${name}).`);
}

const rows = golden.labels.map((label) => {
  const row = element("bars").insertRow(), head = document.createElement("th"), bar = document.createElement("meter");
  head.textContent = label;
  row.append(head);
  row.insertCell().append(bar);
  row.insertCell();
  return row;
});

function say(words) {
  element("status").textContent = words;
  return new Error(words);
}

function show(found, source) {
  const best = found.indexOf(Math.max(...found));
  element("answer").firstElementChild.textContent = golden.labels[best];
  element("answer").dataset.source = source;
  element("answer").dataset.probabilities = JSON.stringify(Object.fromEntries(golden.labels.map((label, k) => [label, found[k]])));
  rows.forEach((row, k) => {
    row.className = k === best ? "most" : "";
    row.querySelector("meter").value = found[k];
    row.lastElementChild.textContent = `${Math.round(100 * found[k])} %`;
  });
}

// One channel at the model's rate. The browser resamples.
async function atModelRate(buffer) {
  const offline = new OfflineAudioContext(1, Math.max(1, Math.round(buffer.duration * golden.rate)), golden.rate);
  const source = new AudioBufferSourceNode(offline, { buffer });
  source.connect(offline.destination);
  source.start();
  return (await offline.startRendering()).getChannelData(0);
}

async function hearFile(file) {
  say(`Reading ${file.name} …`);
  try {
    const decoder = new OfflineAudioContext(1, 1, golden.rate);
    const buffer = await decoder.decodeAudioData(await file.arrayBuffer());
    const mono = new Float32Array(buffer.length);
    for (let channel = 0; channel < buffer.numberOfChannels; channel++)
      buffer.getChannelData(channel).forEach((value, k) => (mono[k] += value / buffer.numberOfChannels));
    show(await ask(mono), file.name);
    say(`${file.name}, ${buffer.duration.toFixed(1)} s`);
  } catch (error) {
    say(`${file.name} cannot be read (${error.message}).`);
  }
}

let listening = null;

async function listen() {
  if (listening) return listening.stop();
  let stream;
  try {
    const asItIs = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    stream = await navigator.mediaDevices.getUserMedia({ audio: asItIs });
  } catch (error) {
    return say(`There is no microphone for this page (${error.message}).`);
  }
  const context = new AudioContext(), held = new Float32Array(Math.round(SECONDS * context.sampleRate));
  await context.audioWorklet.addModule("microphone.mjs");
  const node = new AudioWorkletNode(context, "microphone", { numberOfOutputs: 0 });
  let heard = 0;
  node.port.onmessage = ({ data }) => {
    held.copyWithin(0, data.length);
    held.set(data, held.length - data.length);
    heard += data.length;
  };
  context.createMediaStreamSource(stream).connect(node);
  let busy = false;
  const timer = setInterval(async () => {
    const length = Math.min(heard, held.length);
    if (busy || length < context.sampleRate / 2) return;
    busy = true;
    const part = held.slice(held.length - length);
    if (part.some((value) => Math.abs(value) > QUIET)) {
      const buffer = new AudioBuffer({ length, sampleRate: context.sampleRate });
      buffer.copyToChannel(part, 0);
      show(await ask(await atModelRate(buffer)), "microphone");
      say("Listening: the last three seconds, twice a second.");
    } else say("Listening: it is quiet.");
    busy = false;
  }, EVERY);
  element("microphone").textContent = "Stop listening";
  element("microphone").setAttribute("aria-pressed", "true");
  listening = {
    stop() {
      clearInterval(timer);
      stream.getTracks().forEach((track) => track.stop());
      context.close();
      listening = null;
      element("microphone").textContent = "Listen to the microphone";
      element("microphone").setAttribute("aria-pressed", "false");
      say("Stopped.");
    },
  };
}

element("microphone").onclick = listen;
element("file").onchange = ({ target }) => target.files.length && hearFile(target.files[0]);
element("drop").ondragover = (event) => (event.preventDefault(), element("drop").classList.add("over"));
element("drop").ondragleave = () => element("drop").classList.remove("over");
element("drop").ondrop = (event) => {
  event.preventDefault();
  element("drop").classList.remove("over");
  if (event.dataTransfer.files.length) hearFile(event.dataTransfer.files[0]);
};
element("microphone").disabled = element("file").disabled = false;
say("Ready.");
document.body.dataset.ready = "yes";
