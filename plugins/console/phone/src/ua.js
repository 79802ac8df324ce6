// The registration: one JsSIP user agent, kept registered for as long as somebody is signed in.
import JsSIP from 'jssip';

import { instanceId } from './settings.js';
import { registrationTrouble } from './reasons.js';

const RETRY_SECONDS = [5, 10, 20, 40, 80];

/** Events: `change` ({state, trouble}) and `incoming` ({session, request}). States: offline, connecting, registered, retrying, refused. */
export class Registration extends EventTarget {
  #ua = null;
  #attempt = 0;
  #timer = 0;

  constructor(account) {
    super();
    this.account = account;
    this.state = 'offline';
    this.trouble = '';
    this.online = () => this.#reconnect();
    this.unload = () => this.#ua?.stop();
  }

  start() {
    const { device, password, domain, ws } = this.account;
    this.#ua = new JsSIP.UA({
      sockets: [new JsSIP.WebSocketInterface(ws)],
      uri: `sip:${device}@${domain}`,
      authorization_user: device,
      password,
      instance_id: instanceId(),
      display_name: this.account.name || undefined,
      user_agent: 'Siperb web phone',
      register_expires: 300,
      // A dead call is noticed by the gateway, which watches the media; refreshing by UPDATE every 45 s would end calls on PBXs without UPDATE.
      session_timers: false,
      connection_recovery_min_interval: 1,
      connection_recovery_max_interval: 30,
    });
    this.#ua.on('connecting', () => this.#change('connecting'));
    this.#ua.on('connected', () => this.#change('connecting'));
    this.#ua.on('disconnected', ({ error }) => {
      clearTimeout(this.#timer);
      if (this.state !== 'offline') this.#change('retrying', error ? `No connection to ${new URL(ws).host}. Trying again …` : '');
    });
    this.#ua.on('registered', () => {
      this.#attempt = 0;
      this.#change('registered');
    });
    this.#ua.on('unregistered', () => {
      if (this.state === 'registered') this.#change('connecting');
    });
    this.#ua.on('registrationFailed', ({ response, cause }) => this.#failed(response, cause));
    this.#ua.on('newRTCSession', ({ originator, session, request }) => {
      if (originator === 'remote') this.dispatchEvent(new CustomEvent('incoming', { detail: { session, request } }));
    });
    window.addEventListener('online', this.online);
    window.addEventListener('pagehide', this.unload);
    this.#change('connecting');
    this.#ua.start();
  }

  /** Un-REGISTER and close the connection. */
  stop() {
    clearTimeout(this.#timer);
    window.removeEventListener('online', this.online);
    window.removeEventListener('pagehide', this.unload);
    this.#change('offline');
    this.#ua?.stop();
    this.#ua = null;
  }

  /** Start a call; returns JsSIP's session. */
  invite(target, options) {
    return this.#ua.call(target, options);
  }

  #reconnect() {
    if (this.#ua && !this.#ua.isConnected()) this.#ua.transport.connect();
  }

  #failed(response, cause) {
    const status = response?.status_code ?? 0;
    const trouble = registrationTrouble(status, response?.reason_phrase || cause, this.account);
    // A wrong password does not become right by asking again, and asking again gets the address locked out.
    if ([401, 403, 404, 407].includes(status)) return this.#change('refused', trouble);
    if (!this.#ua?.isConnected()) return undefined; // the transport comes back by itself, and registers
    const asked = Number(response?.getHeader('Retry-After')?.match(/^\d+/)?.[0] ?? 0);
    const usual = RETRY_SECONDS[Math.min(this.#attempt++, RETRY_SECONDS.length - 1)];
    const seconds = Math.min(Math.max(asked, usual * (0.75 + Math.random() / 2)), 3600);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ua?.register(), seconds * 1000);
    return this.#change('retrying', `${trouble} Trying again in ${Math.round(seconds)} s.`);
  }

  #change(state, trouble = '') {
    this.state = state;
    this.trouble = trouble;
    this.dispatchEvent(new CustomEvent('change', { detail: { state, trouble } }));
  }
}
