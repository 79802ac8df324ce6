// How loud it is, and what is heard: Web Audio analysers on both streams.

const FLOOR_DBFS = -100;
const FFT_SIZE = 8192;

/** Watches one stream. `level` is 0 to 1 for a meter; `heard()` the strongest tone and how loud. */
export class Meter {
  #source;
  #wave = new Float32Array(FFT_SIZE);
  #spectrum = new Float32Array(FFT_SIZE / 2);

  constructor(context, stream) {
    this.context = context;
    this.analyser = context.createAnalyser();
    this.analyser.fftSize = FFT_SIZE;
    this.analyser.smoothingTimeConstant = 0;
    this.#source = context.createMediaStreamSource(stream);
    this.#source.connect(this.analyser);
  }

  /** 0 (silence) to 1 (full scale) over the last 20 ms or so, on a scale that follows the ear. */
  get level() {
    this.analyser.getFloatTimeDomainData(this.#wave);
    const recent = this.#wave.subarray(-1024);
    let sum = 0;
    for (const x of recent) sum += x * x;
    const db = 10 * Math.log10(sum / recent.length + 1e-12);
    return Math.min(1, Math.max(0, (db + 60) / 60));
  }

  /** `{hz, dbfs}`: the strongest frequency (between the bins by a parabola) and the level of a sine of that power; hz 0 in silence. */
  heard() {
    this.analyser.getFloatTimeDomainData(this.#wave);
    let sum = 0;
    for (const x of this.#wave) sum += x * x;
    const rms = Math.sqrt(sum / this.#wave.length);
    const dbfs = rms ? Math.max(FLOOR_DBFS, 20 * Math.log10(rms * Math.SQRT2)) : FLOOR_DBFS;
    if (dbfs <= -70) return { hz: 0, dbfs };
    this.analyser.getFloatFrequencyData(this.#spectrum);
    const s = this.#spectrum;
    let k = 2;
    for (let i = 2; i < s.length - 1; i++) if (s[i] > s[k]) k = i;
    const bend = s[k - 1] - 2 * s[k] + s[k + 1];
    const shift = Number.isFinite(bend) && bend ? (s[k - 1] - s[k + 1]) / (2 * bend) : 0;
    return { hz: ((k + shift) * this.context.sampleRate) / FFT_SIZE, dbfs };
  }

  close() {
    this.#source.disconnect();
  }
}
