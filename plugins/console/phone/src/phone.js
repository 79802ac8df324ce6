// The phone itself, without its looks: who is signed in, the one call, and the sounds.
import { Call } from './call.js';
import { AudioDevices } from './devices.js';
import { CallHistory } from './history.js';
import { Meter } from './levels.js';
import { Memory, iceServers } from './settings.js';
import { Tones } from './tones.js';
import { Registration } from './ua.js';

/** Events: `change` whenever something that is shown has changed. */
export class Phone extends EventTarget {
  constructor(player) {
    super();
    this.player = player; // <audio>: Chromium gives an analyser silence unless an element plays the stream too
    this.memory = new Memory();
    this.devices = new AudioDevices(this.memory);
    this.history = new CallHistory(this.memory);
    this.registration = null;
    this.call = null;
    this.trouble = null; // {text, detail}: the last thing that went wrong
    this.meters = { in: null, out: null };
    this.changed = () => this.dispatchEvent(new Event('change'));
  }

  /** One AudioContext for all; browsers let it sound after the first click or key. */
  get audio() {
    this.context ??= new AudioContext();
    if (this.context.state === 'suspended') this.context.resume().catch(() => {});
    return this.context;
  }

  get tones() {
    this.ownTones ??= new Tones(this.audio);
    return this.ownTones;
  }

  signIn(account) {
    this.signOut();
    this.trouble = null;
    try {
      this.registration = new Registration(account);
      this.registration.addEventListener('change', this.changed);
      this.registration.addEventListener('incoming', ({ detail }) => this.#incoming(detail));
      this.registration.start();
    } catch (error) {
      this.registration = null;
      this.complain(`Signing in is not possible: ${error.message}`);
    }
    this.devices.refresh();
    this.changed();
  }

  signOut() {
    this.call?.hangUp();
    const registration = this.registration;
    this.registration = null;
    registration?.stop();
    this.changed();
  }

  /** Dial what a person typed: a number with its usual spaces and dashes, a name, or an address. */
  dial(text) {
    if (!this.registration || (this.call && !this.call.ended)) return;
    const number = dialled(text);
    if (!number) return;
    this.trouble = null;
    const call = new Call({ peer: number, incoming: false, audio: () => this.devices.constraints(), relays: () => iceServers(this.registration?.account ?? {}) });
    this.#adopt(call);
    const target = number.includes('@') ? `sip:${number.replace(/^sips?:/, '')}` : `sip:${encodeUser(number)}@${this.registration.account.domain}`;
    call.place(target, (to, options) => this.registration.invite(to, options));
  }

  /** A key of the pad during a call. */
  digit(digit) {
    if (this.call?.sendDigit(digit, { info: this.memory.get('dtmf', 'rtp') === 'info' })) this.tones.key(digit);
  }

  complain(text, detail = '') {
    this.trouble = { text, detail };
    this.changed();
  }

  dismiss() {
    this.trouble = null;
    this.changed();
  }

  #incoming({ session, request }) {
    if (this.call && !this.call.ended) {
      session.terminate({ status_code: 486 });
      return;
    }
    const { uri, display_name: name } = session.remote_identity;
    const call = new Call({ peer: uri.user ?? String(uri), name: name ?? '', incoming: true, audio: () => this.devices.constraints(), relays: () => iceServers(this.registration?.account ?? {}) });
    call.subject = request.getHeader('Subject') ?? '';
    this.trouble = null;
    this.#adopt(call);
    call.announce(session);
    this.changed();
  }

  #adopt(call) {
    this.call = call;
    let sounding = '';
    call.addEventListener('change', () => {
      const wanted = { incoming: 'ring', ringing: 'ringback' }[call.state] ?? '';
      if (wanted !== sounding) {
        sounding = wanted;
        if (wanted) this.tones[wanted]();
        else this.ownTones?.stop();
      }
      this.#meter('out', call.microphone);
      this.changed();
    });
    call.addEventListener('stream', ({ detail }) => this.#play(detail.stream));
    call.addEventListener('ended', ({ detail: { outcome } }) => {
      this.#meter('out', null);
      this.#meter('in', null);
      this.player.srcObject = null;
      this.history.add(call);
      if (outcome.error) {
        this.trouble = outcome;
        if (outcome.status >= 300) this.tones.busy();
      }
      this.changed();
    });
    if (call.incoming) {
      sounding = 'ring';
      this.tones.ring();
    }
    this.changed();
  }

  #play(stream) {
    this.player.srcObject = stream;
    this.devices.route(this.player);
    this.player.play().catch(() => this.complain('The browser holds the sound back. Click anywhere on the page.'));
    this.#meter('in', stream);
  }

  #meter(which, stream) {
    if (this.meters[which]?.stream === stream) return;
    this.meters[which]?.meter.close();
    this.meters[which] = stream ? { stream, meter: new Meter(this.audio, stream) } : null;
  }
}

/** What is dialled for what was typed: spaces, dashes, dots and brackets of a written number are left out. */
export function dialled(text) {
  const plain = text.trim().replace(/^(sips?|tel):/i, '');
  return /^[+\d\s()./*#-]+$/.test(plain) ? plain.replace(/[\s()./-]/g, '') : plain;
}

function encodeUser(user) {
  return encodeURIComponent(user).replace(/%(2B|2A)/gi, decodeURIComponent);
}
