// Runs beside the page, in the thread of the sound: passes on what the microphone gives, as it comes.

class Microphone extends AudioWorkletProcessor {
  process([channels]) {
    if (channels.length) this.port.postMessage(channels[0].slice());
    return true;
  }
}

registerProcessor("microphone", Microphone);
