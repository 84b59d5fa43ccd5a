// Samples of a WAV file: one channel at 16 kHz, full scale 1. 16-bit and 24-bit numbers and 32-bit floats are read.

const READERS = {
  "1/16": (view, at) => view.getInt16(at, true) / 2 ** 15,
  "1/24": (view, at) => (view.getUint16(at, true) | (view.getInt8(at + 2) << 16)) / 2 ** 23,
  "3/32": (view, at) => view.getFloat32(at, true),
};

export function readWav(bytes, rate) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || name(0) !== "RIFF" || name(8) !== "WAVE") throw new Error("it is no WAV file");
  let form;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const size = view.getUint32(at + 4, true), body = at + 8;
    if (name(at) === "fmt ") {
      const kind = view.getUint16(body, true);  // 0xfffe: the kind stands in the extension
      form = {
        kind: kind === 0xfffe ? view.getUint16(body + 24, true) : kind,
        channels: view.getUint16(body + 2, true),
        rate: view.getUint32(body + 4, true),
        bits: view.getUint16(body + 14, true),
      };
    } else if (name(at) === "data" && form) {
      return samplesOf(view, body, Math.min(size, bytes.length - body), form, rate);
    }
    at = body + size + (size % 2);
  }
  throw new Error("it holds no sound");
}

function samplesOf(view, start, size, { kind, channels, rate: found, bits }, rate) {
  const read = READERS[`${kind}/${bits}`], step = (bits / 8) * channels;
  if (!read) throw new Error(`samples of ${bits} bits of the kind ${kind} are not read`);
  if (found !== rate) throw new Error(`it has ${found} Hz: resample it to ${rate} Hz first`);
  const samples = new Float32Array(Math.floor(size / step));
  for (let k = 0; k < samples.length; k++) {
    let sum = 0;
    for (let channel = 0; channel < channels; channel++) sum += read(view, start + k * step + (channel * bits) / 8);
    samples[k] = sum / channels;
  }
  if (!samples.length) throw new Error("it holds no samples");
  return samples;
}
