// The sounds the phone makes itself, generated: ringing, the tone while it rings there, keys, busy.

const PAIRS = {
  1: [697, 1209], 2: [697, 1336], 3: [697, 1477],
  4: [770, 1209], 5: [770, 1336], 6: [770, 1477],
  7: [852, 1209], 8: [852, 1336], 9: [852, 1477],
  '*': [941, 1209], 0: [941, 1336], '#': [941, 1477],
};

/** Plays tones through the AudioContext. `start` repeats a cadence until `stop`. */
export class Tones {
  #timer = 0;
  #playing = [];

  constructor(context) {
    this.context = context;
  }

  /** An incoming call: two soft chords, then a pause. */
  ring() {
    this.#repeat(3000, () => {
      for (const at of [0, 0.45]) {
        this.#tone([523.25, 659.25], at, 0.35, 0.12);
        this.#tone([784], at + 0.12, 0.23, 0.08);
      }
    });
  }

  /** It rings at the other side (European cadence, 425 Hz). */
  ringback() {
    this.#repeat(5000, () => this.#tone([425], 0, 1, 0.05));
  }

  /** The call did not come about. */
  busy() {
    this.stop();
    for (const at of [0, 0.5, 1]) this.#tone([425], at, 0.25, 0.06);
  }

  /** A key was pressed. */
  key(digit) {
    if (PAIRS[digit]) this.#tone(PAIRS[digit], 0, 0.09, 0.04);
  }

  stop() {
    clearInterval(this.#timer);
    this.#timer = 0;
    for (const node of this.#playing) {
      try {
        node.stop();
      } catch {
        // it has ended by itself
      }
    }
    this.#playing = [];
  }

  #repeat(milliseconds, play) {
    this.stop();
    play();
    this.#timer = setInterval(play, milliseconds);
  }

  #tone(frequencies, at, seconds, volume) {
    const { context } = this;
    const start = context.currentTime + at;
    const gain = context.createGain();
    gain.gain.setValueAtTime(0, start);
    gain.gain.linearRampToValueAtTime(volume, start + 0.02);
    gain.gain.setValueAtTime(volume, start + seconds - 0.03);
    gain.gain.linearRampToValueAtTime(0, start + seconds);
    gain.connect(context.destination);
    for (const hz of frequencies) {
      const node = context.createOscillator();
      node.frequency.value = hz;
      node.connect(gain);
      node.start(start);
      node.stop(start + seconds);
      node.onended = () => {
        this.#playing = this.#playing.filter(other => other !== node);
      };
      this.#playing.push(node);
    }
  }
}
