"use strict";
const by = (id) => document.getElementById(id);
const mel = by("mel"), pen = mel.getContext("2d");
const rows = new Map();
let state = { events: 0, columns: 0 };
window.edgeser = state; // tests read it

// A sign and a colour for each emotion: the sign and the word say it to those who do not see the colour.
const LOOKS = {
  anger: ["▲", "red"], happiness: ["★", "amber"], neutral: ["○", "grey"], sadness: ["▼", "blue"],
  fear: ["◆", "violet"], disgust: ["✖", "green"], surprise: ["✚", "pink"], calm: ["●", "teal"],
  boredom: ["▬", "grey"], excitement: ["✦", "pink"], frustration: ["△", "amber"], contempt: ["◣", "violet"],
};
const OTHERS = [["■", "blue"], ["□", "amber"], ["▣", "green"], ["◇", "pink"], ["▷", "teal"], ["◁", "violet"], ["◎", "red"], ["▽", "grey"]];
const looks = new Map();

function lookOf(name) {
  if (!looks.has(name)) looks.set(name, LOOKS[name] || OTHERS[[...looks.keys()].filter((each) => !(each in LOOKS)).length % OTHERS.length]);
  return looks.get(name);
}

function dress(element, name, words) { // the sign, then the words; the colour is on the element for all below it
  const [sign, hue] = lookOf(name), mark = document.createElement("span");
  mark.className = "sign"; mark.textContent = sign; mark.setAttribute("aria-hidden", "true");
  element.style.setProperty("--hue", `var(--${hue})`);
  element.replaceChildren(mark, words);
}

function row(name) {
  if (rows.has(name)) return rows.get(name);
  const line = document.createElement("div");
  line.className = "row";
  const label = document.createElement("span"), track = document.createElement("span");
  const bar = document.createElement("i"), value = document.createElement("span");
  label.className = "name"; label.title = name; dress(label, name, name);
  line.style.setProperty("--hue", `var(--${lookOf(name)[1]})`);
  track.className = "track"; track.append(bar);
  value.className = "value";
  line.append(label, track, value);
  by("bars").append(line);
  const made = { line, bar, value };
  rows.set(name, made);
  return made;
}

function showEvent(event) {
  state.events += 1;
  for (const [name, share] of Object.entries(event.probabilities)) {
    const { line, bar, value } = row(name);
    const shown = event.speech ? share : 0;
    bar.style.transform = `scaleX(${shown})`;
    value.textContent = event.speech ? `${Math.round(100 * share)} %` : "";
    line.classList.toggle("best", event.state === "sure" && name === event.emotion);
  }
  const now = by("now");
  now.className = event.state;
  if (event.state === "sure") dress(now, event.emotion, event.emotion);
  else now.textContent = event.state === "uncertain" ? `${event.emotion}?` : event.state.replaceAll("_", " ");
  by("sub").textContent = event.emotion ? `${Math.round(100 * event.confidence)} % · after ${Math.round(event.latency_ms)} ms` : "";
  showLevel(event.level_db);
  if (event.final) remember(event);
}

function remember(event) {
  const line = document.createElement("li"), words = document.createElement("span"), time = document.createElement("time");
  words.className = event.state;
  if (event.emotion) dress(words, event.emotion, `${event.emotion}${event.state === "sure" ? "" : "?"} ${Math.round(100 * event.confidence)} %` + (event.clip ? ` · stored: ${event.clip}` : ""));
  else words.textContent = event.state.replaceAll("_", " ");
  time.textContent = `${(event.ended - event.began).toFixed(1)} s · ${new Date(event.time || Date.now()).toLocaleTimeString()}`;
  line.append(words, time);
  by("history").prepend(line);
  while (by("history").children.length > 30) by("history").lastChild.remove();
}

function showLevel(db) {
  by("level").style.transform = `scaleX(${Math.min(1, Math.max(0, 1 + db / 70))})`;
  by("db").textContent = `${Math.round(db)}\u00a0dB`;
}

function showSound(sound) { // columns of bytes, lowest band first
  by("sound").hidden = false;
  const bytes = Uint8Array.from(atob(sound.columns), (c) => c.charCodeAt(0));
  const bands = sound.bands, count = bytes.length / bands;
  if (mel.height !== bands) mel.height = bands;
  pen.drawImage(mel, -count, 0);
  const image = pen.createImageData(count, bands);
  for (let x = 0; x < count; x++) {
    for (let y = 0; y < bands; y++) {
      const v = bytes[x * bands + y], at = 4 * ((bands - 1 - y) * count + x);
      image.data[at] = Math.min(255, 2 * v); image.data[at + 1] = Math.max(0, 1.6 * v - 120);
      image.data[at + 2] = v < 128 ? 40 + v : Math.max(0, 300 - v); image.data[at + 3] = 255;
    }
  }
  pen.putImageData(image, mel.width - count, 0);
  state.columns += count;
  showLevel(sound.level_db);
}

function showModel(model) {
  for (const name of model.labels) row(name);
  by("synthetic").hidden = !model.synthetic;
  by("model").textContent = `model: ${model.model}` + (model.corpus ? ` · learnt from: ${model.corpus}` + (model.language ? `, ${model.language}` : "") : "");
  const chance = `chance is ${(1 / model.labels.length).toFixed(2)}`;
  by("expected").textContent = model.uar === null ? `how often it is right was not measured; ${chance}`
    : model.uar_here ? `unweighted average recall ${model.uar.toFixed(2)}, measured here on ${model.tested_on}; ${chance}`
    : `expected unweighted average recall ${model.uar.toFixed(2)}, on voices of that corpus it never heard; ${chance}`;
}

function showStatus(status) {
  by("status").className = status.condition;
  by("status").textContent = status.words;
  by("storing").hidden = !status.storing;
  by("storing").textContent = status.storing ? `What is said here is stored in ${status.storing}` : "";
  by("adapted").hidden = !status.adapted;
  by("adapted").textContent = status.adapted || "";
  const c = status.counters;
  by("counters").textContent = `${c.utterances} utterances · ${c.dropped_blocks} blocks dropped · microphone lost ${c.lost}× · level ${c.correction_db >= 0 ? "+" : ""}${c.correction_db.toFixed(0)} dB`;
}

const feed = new EventSource("events");
feed.onopen = () => by("history").replaceChildren(); // the last answers come again
feed.addEventListener("model", (message) => showModel(JSON.parse(message.data)));
feed.addEventListener("past", (message) => remember(JSON.parse(message.data)));
feed.addEventListener("event", (message) => showEvent(JSON.parse(message.data)));
feed.addEventListener("sound", (message) => showSound(JSON.parse(message.data)));
feed.addEventListener("status", (message) => showStatus(JSON.parse(message.data)));
feed.onerror = () => { by("status").className = "offline"; by("status").textContent = "edgeser is not reachable; trying again"; };
