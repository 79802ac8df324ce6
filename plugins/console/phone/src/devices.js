// Which microphone and which speaker: choosing, remembering, and what to ask getUserMedia for.

export class AudioDevices extends EventTarget {
  constructor(memory) {
    super();
    this.memory = memory;
    this.microphones = [];
    this.speakers = [];
    this.canChooseSpeaker = 'setSinkId' in HTMLMediaElement.prototype;
    navigator.mediaDevices?.addEventListener('devicechange', () => this.refresh());
  }

  get microphone() {
    return this.memory.get('microphone', '');
  }

  set microphone(id) {
    this.memory.set('microphone', id || null);
  }

  get speaker() {
    return this.memory.get('speaker', '');
  }

  set speaker(id) {
    this.memory.set('speaker', id || null);
  }

  /** Echo cancelling, noise suppression and gain control; off for music, tones and measurements. */
  get processing() {
    return this.memory.get('processing', true);
  }

  set processing(on) {
    this.memory.set('processing', Boolean(on));
  }

  /** What to ask getUserMedia for. A microphone that is gone is no reason to fail: `ideal`, not `exact`. */
  constraints() {
    const on = this.processing;
    const wanted = { echoCancellation: on, noiseSuppression: on, autoGainControl: on };
    if (this.microphone) wanted.deviceId = { ideal: this.microphone };
    return wanted;
  }

  /** Read the list anew. Names are hidden by the browser until the microphone was allowed once. */
  async refresh() {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const named = kind => all.filter(d => d.kind === kind && d.deviceId && d.deviceId !== 'default').map(({ deviceId, label }) => ({ id: deviceId, label }));
    this.microphones = named('audioinput');
    this.speakers = named('audiooutput');
    this.dispatchEvent(new Event('change'));
  }

  /** Let an audio element play through the chosen speaker. */
  async route(element) {
    if (!this.canChooseSpeaker) return;
    try {
      await element.setSinkId(this.speaker);
    } catch {
      await element.setSinkId(''); // it was unplugged: the usual one
    }
  }
}
