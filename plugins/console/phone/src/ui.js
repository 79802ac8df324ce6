// The looks: reads the phone's state and writes the page; hands clicks and keys to the phone.
import { duration, moment } from './history.js';

const $ = id => document.getElementById(id);

const REGISTRATION = {
  offline: 'Signed out',
  connecting: 'Connecting …',
  registered: 'Ready',
  retrying: 'Reconnecting …',
  refused: 'Not signed in',
};

const CALL = {
  preparing: 'Waiting for the microphone …',
  calling: 'Calling …',
  ringing: 'Ringing …',
  early: 'Connecting …',
  incoming: 'Incoming call',
  answering: 'Answering …',
  active: 'In call',
  ended: 'Call ended',
};

const KEYS = [['1', ''], ['2', 'ABC'], ['3', 'DEF'], ['4', 'GHI'], ['5', 'JKL'], ['6', 'MNO'], ['7', 'PQRS'], ['8', 'TUV'], ['9', 'WXYZ'], ['*', ''], ['0', '+'], ['#', '']];
const KEY_NAMES = { '*': 'star', '#': 'hash' };
const ENDED_SHOWN_MS = 2500;
const HOLD_MS = 600;

export class Screen {
  constructor(phone) {
    this.phone = phone;
    this.server = { ws: '', domain: '' };
    this.title = document.title;
    this.shownCall = null;
    this.#pad();
    this.#listen();
    this.#settings();
    phone.addEventListener('change', () => this.render());
    phone.devices.addEventListener('change', () => this.#devices());
    this.render();
    this.#meters();
    setInterval(() => this.#clock(), 500);
  }

  /** Show an account in the sign-in form. */
  fillIn({ device, password, ws, domain }) {
    $('device').value = device;
    $('password').value = password;
    $('server').value = ws ?? '';
    $('domain').value = domain ?? '';
  }

  render() {
    const { registration, call, trouble } = this.phone;
    const state = registration?.state ?? 'offline';
    // A refused sign-in brings the form back; one that has been in keeps the phone in view while it reconnects.
    const inside = Boolean(registration) && state !== 'refused';
    document.body.dataset.view = inside ? 'phone' : 'signin';
    $('signin').hidden = inside;
    $('phone').hidden = !inside;
    $('signout').hidden = !inside;
    $('registration').dataset.state = state;
    $('registration-text').textContent = REGISTRATION[state];
    $('registration').title = registration?.trouble ?? '';
    $('account').textContent = inside ? registration.account.device : '';
    $('submit').disabled = state === 'connecting';

    const said = trouble ?? (registration?.trouble ? { text: registration.trouble, detail: '' } : null);
    $('error').hidden = !said;
    $('error-text').textContent = said?.text ?? '';
    $('error-detail').textContent = said?.detail ?? '';
    $('error-close').hidden = !trouble;

    this.#call(call, state);
    this.#history();
  }

  #call(call, registration) {
    if (call !== this.shownCall) {
      this.shownCall = call;
      clearTimeout(this.forget);
      this.over = null;
    }
    if (call?.ended && this.over !== call) {
      this.over = call;
      this.forget = setTimeout(() => {
        if (this.phone.call === call) this.phone.call = null;
        this.render();
      }, ENDED_SHOWN_MS);
    }
    const running = Boolean(call) && !call.ended;
    const inCall = running && ['active', 'early'].includes(call.state);
    $('dial').hidden = Boolean(call);
    $('call-panel').hidden = !call;
    $('pad').hidden = running && ['incoming', 'answering'].includes(call.state);
    $('call').hidden = running;
    $('call').disabled = registration !== 'registered';
    $('ringing-actions').hidden = !(running && ['incoming', 'answering'].includes(call.state));
    $('call-actions').hidden = !running || ['incoming', 'answering'].includes(call.state);
    document.title = running && call.state === 'incoming' ? `☎ ${call.name || call.peer} is calling` : this.title;
    if (!call) return;
    const label = call.name || call.peer;
    const ended = call.ended ? (call.outcome.error ? 'Not connected' : call.outcome.text) : ''; // an error is told in full above
    $('call-panel').dataset.state = call.state;
    $('call-panel').dataset.held = String(call.held);
    $('avatar').textContent = /^[+\d*#]/.test(label) ? '☎' : label[0].toUpperCase();
    $('call-peer').textContent = label;
    $('call-number').textContent = call.name && call.name !== call.peer ? call.peer : '';
    $('call-state').textContent = ended || (call.held ? 'On hold' : call.heldByPeer ? 'The other side put you on hold' : call.muted && call.state === 'active' ? 'You are muted' : CALL[call.state]);
    $('call-notice').textContent = call.notice;
    $('dtmf-sent').textContent = call.digits;
    $('levels').hidden = !inCall;
    $('answer').disabled = call.state === 'answering';
    $('hold').disabled = call.state !== 'active';
    $('mute').disabled = !inCall;
    $('hold').setAttribute('aria-pressed', String(call.held));
    $('hold-label').textContent = call.held ? 'Resume' : 'Hold';
    $('mute').setAttribute('aria-pressed', String(call.muted));
    $('mute-label').textContent = call.muted ? 'Unmute' : 'Mute';
    $('hangup-label').textContent = call.answered ? 'Hang up' : 'Cancel';
    this.#clock();
  }

  #clock() {
    const { call } = this.phone;
    $('call-duration').textContent = call?.answered ? duration(call.seconds) : '';
  }

  #history() {
    const { calls } = this.phone.history;
    // Written anew only when it changed, so that the keyboard's focus stays where it is.
    const version = JSON.stringify(calls.slice(0, 1)) + calls.length + (this.phone.registration?.state ?? '');
    if (version === this.historyVersion) return;
    this.historyVersion = version;
    $('history-empty').hidden = calls.length > 0;
    $('history-clear').hidden = calls.length === 0;
    $('history').replaceChildren(...calls.map(entry => this.#historyLine(entry)));
  }

  #historyLine(entry) {
    const line = document.createElement('li');
    const button = document.createElement('button');
    button.type = 'button';
    button.dataset.kind = entry.kind;
    button.setAttribute('aria-label', `Call ${entry.name || entry.peer}`);
    const words = { in: 'Incoming', out: 'Outgoing', missed: 'Missed' };
    const parts = [['who', entry.name || entry.peer], ['when', moment(entry.when)], ['what', `${words[entry.kind]} · ${entry.answered ? duration(entry.seconds) : entry.text.replace(/\.$/, '')}`]];
    for (const [name, text] of parts) {
      const span = document.createElement('span');
      span.className = name;
      span.textContent = text;
      button.append(span);
    }
    button.addEventListener('click', () => {
      $('number').value = entry.peer;
      this.phone.dial(entry.peer);
    });
    line.append(button);
    return line;
  }

  #pad() {
    for (const [digit, letters] of KEYS) {
      const key = document.createElement('button');
      key.type = 'button';
      key.dataset.testid = `key-${KEY_NAMES[digit] ?? digit}`;
      key.setAttribute('aria-label', KEY_NAMES[digit] ?? digit);
      const [big, small] = [document.createElement('span'), document.createElement('small')];
      big.textContent = digit;
      small.textContent = letters;
      key.append(big, small);
      key.addEventListener('click', () => this.#press(digit));
      if (digit === '0') this.#holdForPlus(key);
      $('pad').append(key);
    }
  }

  /** Holding the 0 gives a +, as on every mobile phone. */
  #holdForPlus(key) {
    let timer = 0;
    const stop = () => clearTimeout(timer);
    key.addEventListener('pointerdown', () => {
      timer = setTimeout(() => {
        if (this.phone.call) return;
        this.#press('+');
        key.addEventListener('click', event => event.stopImmediatePropagation(), { capture: true, once: true });
      }, HOLD_MS);
    });
    for (const end of ['pointerup', 'pointerleave', 'pointercancel']) key.addEventListener(end, stop);
  }

  #press(digit) {
    const { call } = this.phone;
    if (call && !call.ended) {
      this.phone.digit(digit);
      return;
    }
    const field = $('number');
    field.setRangeText(digit, field.selectionStart, field.selectionEnd, 'end');
    this.phone.tones.key(digit);
  }

  #listen() {
    const { phone } = this;
    $('signin').addEventListener('submit', event => {
      event.preventDefault();
      const typed = { device: $('device').value.trim(), password: $('password').value };
      if ($('server').value.trim()) typed.ws = $('server').value.trim();
      if ($('domain').value.trim()) typed.domain = $('domain').value.trim();
      phone.memory.set('account', $('remember').checked ? typed : null);
      phone.signIn({ ...this.server, ...typed });
      $('number').focus();
    });
    $('signout').addEventListener('click', () => {
      phone.memory.set('account', null);
      $('password').value = '';
      phone.signOut();
      $('device').focus();
    });
    $('dial').addEventListener('submit', event => {
      event.preventDefault();
      this.#dial();
    });
    $('erase').addEventListener('click', () => {
      $('number').value = $('number').value.slice(0, -1);
      $('number').focus();
    });
    $('call').addEventListener('click', () => this.#dial());
    $('answer').addEventListener('click', () => phone.call?.answer());
    $('reject').addEventListener('click', () => phone.call?.hangUp());
    $('hangup').addEventListener('click', () => phone.call?.hangUp());
    $('hold').addEventListener('click', () => phone.call?.toggleHold());
    $('mute').addEventListener('click', () => phone.call?.toggleMute());
    $('error-close').addEventListener('click', () => phone.dismiss());
    $('history-clear').addEventListener('click', () => {
      phone.history.clear();
      this.render();
    });
    document.addEventListener('keydown', event => this.#key(event));
    for (const gesture of ['pointerdown', 'keydown']) {
      document.addEventListener(gesture, () => phone.context && phone.audio, { passive: true }); // wakes a suspended AudioContext
    }
    window.addEventListener('beforeunload', event => {
      if (phone.call && !phone.call.ended) event.preventDefault();
    });
  }

  #dial() {
    const number = $('number').value.trim();
    if (number) {
      this.phone.dial(number);
    } else {
      const last = this.phone.history.calls.find(call => call.kind === 'out'); // as on a desk phone: an empty number brings back the last one
      if (last) $('number').value = last.peer;
      $('number').focus();
    }
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || $('phone').hidden || $('settings').open) return;
    const { call } = this.phone;
    const running = Boolean(call) && !call.ended;
    const typing = event.target.closest?.('input, select, textarea');
    if (event.key === 'Escape' && running) {
      event.preventDefault();
      call.hangUp();
    } else if (event.key === 'Enter' && running && call.state === 'incoming' && !event.target.closest?.('button')) {
      event.preventDefault();
      call.answer();
    } else if (running && /^[\d*#]$/.test(event.key)) {
      event.preventDefault();
      this.phone.digit(event.key);
    } else if (!running && !typing && /^[\d*#+]$/.test(event.key)) {
      event.preventDefault();
      $('number').focus();
      this.#press(event.key);
    } else if (!running && !typing && event.key === 'Enter' && !event.target.closest?.('button')) {
      this.#dial();
    }
  }

  #settings() {
    const { phone } = this;
    $('settings-open').addEventListener('click', () => {
      phone.devices.refresh();
      $('settings').showModal();
    });
    $('settings-close').addEventListener('click', () => $('settings').close());
    $('processing').checked = phone.devices.processing;
    $('processing').addEventListener('change', ({ target }) => {
      phone.devices.processing = target.checked;
      phone.call?.changeMicrophone();
    });
    $('dtmf').value = phone.memory.get('dtmf', 'rtp');
    $('dtmf').addEventListener('change', ({ target }) => phone.memory.set('dtmf', target.value));
    $('microphone').addEventListener('change', ({ target }) => {
      phone.devices.microphone = target.value;
      phone.call?.changeMicrophone();
    });
    $('speaker').addEventListener('change', ({ target }) => {
      phone.devices.speaker = target.value;
      phone.devices.route(phone.player);
    });
    this.#devices();
  }

  #devices() {
    const { devices } = this.phone;
    const fill = (id, list, chosen, kind) => {
      const options = [new Option('System default', '')];
      list.forEach(({ id: value, label }, i) => options.push(new Option(label || `${kind} ${i + 1}`, value)));
      $(id).replaceChildren(...options);
      $(id).value = list.some(d => d.id === chosen) ? chosen : '';
    };
    fill('microphone', devices.microphones, devices.microphone, 'Microphone');
    fill('speaker', devices.speakers, devices.speaker, 'Speaker');
    $('speaker').disabled = !devices.canChooseSpeaker;
    $('speaker-note').hidden = devices.canChooseSpeaker;
  }

  #meters() {
    const shown = { in: 0, out: 0 };
    const draw = () => {
      for (const which of ['in', 'out']) {
        const level = $('levels').hidden ? 0 : (this.phone.meters[which]?.meter.level ?? 0);
        shown[which] = Math.max(level, shown[which] * 0.9); // falls slowly, as the eye expects
        $(`level-${which}`).style.clipPath = `inset(0 ${(100 - 100 * shown[which]).toFixed(1)}% 0 0)`;
      }
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }
}
