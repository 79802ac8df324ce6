// Where the phone gets what it needs to know: the server, the page's address, and what this browser remembers.

const KEY = 'siperb.phone';

/** What this browser remembers between visits: preferences, and the account if its owner asked for it. */
export class Memory {
  #data;

  constructor(storage = window.localStorage) {
    this.storage = storage;
    try {
      this.#data = JSON.parse(storage.getItem(KEY)) ?? {};
    } catch {
      this.#data = {}; // unreadable: begin anew
    }
  }

  get(name, otherwise) {
    return this.#data[name] ?? otherwise;
  }

  set(name, value) {
    if (value === null) delete this.#data[name];
    else this.#data[name] = value;
    try {
      this.storage.setItem(KEY, JSON.stringify(this.#data));
    } catch {
      // a full or forbidden storage only costs the memory
    }
  }
}

/** `{ws, domain}` as the gateway tells them. */
export async function serverSettings() {
  const answer = await fetch('/phone/settings.json', { cache: 'no-store' });
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}`);
  return answer.json();
}

/**
 * The account the page was opened with, after the # (which no server sees): `#device=...&password=...`, or `#provision=TOKEN`,
 * the secret part of a link made by `siperb device link`. The address is cleaned so that neither stays in the history.
 */
export async function accountFromAddress() {
  const words = new URLSearchParams(location.hash.slice(1));
  if (!words.has('device') && !words.has('provision')) return null;
  history.replaceState(null, '', location.pathname + location.search);
  if (words.has('device')) return { device: words.get('device'), password: words.get('password') ?? '' };
  const provision = words.get('provision');
  return { ...(await provisioned(provision)), provision };
}

async function provisioned(token) {
  // In the body: a token in the address would be kept in the logs of every proxy on the way.
  const answer = await fetch('/provision', { method: 'POST', body: token, cache: 'no-store' });
  if (!answer.ok) throw new Error('This link is not valid any more. Ask for a new one.');
  return accountFromProvisioning(await answer.json());
}

/** The TURN servers for a call now: those of the account, fetched again when their credentials have nearly run out. */
export async function iceServers(account) {
  const soon = Date.now() / 1000 + 300;
  if (account.provision && account.iceServers?.length && account.iceServersExpire < soon) {
    try {
      const { iceServers, iceServersExpire } = await provisioned(account.provision);
      Object.assign(account, { iceServers, iceServersExpire });
    } catch {
      return []; // a call without a relay is better than none
    }
  }
  return account.iceServers ?? [];
}

/**
 * From the provisioning names of the gateway to an account. In mode `proxy` the phone registers to the gateway that gave it this page,
 * whose WebSocket it knows from `serverSettings`; in mode `websocket` to the PBX named here.
 */
export function accountFromProvisioning(p) {
  const account = { device: String(p.SipUsername ?? ''), password: String(p.SipPassword ?? ''), name: String(p.profileName ?? '') };
  if (p.SipDomain) account.domain = String(p.SipDomain);
  if (Array.isArray(p.iceServers) && p.iceServers.length) {
    account.iceServers = p.iceServers;
    account.iceServersExpire = Number(p.iceServersExpire) || 0;
  }
  if (p.RegistrationMode !== 'websocket') return account;
  const path = String(p.SipServerPath ?? '/ws');
  const scheme = String(p.SipWssServer).startsWith('ws:') ? 'ws' : 'wss';
  const server = String(p.SipWssServer ?? location.hostname).replace(/^wss?:\/\//, '').replace(/\/.*$/, '');
  const port = p.SipWebsocketPort && !/:\d+$/.test(server) ? `:${p.SipWebsocketPort}` : '';
  account.ws = `${scheme}://${server}${port}${path.startsWith('/') ? '' : '/'}${path}`;
  return account;
}

/**
 * The +sip.instance of this tab (RFC 5626): it lives as long as the tab, so that a reload replaces the old binding instead of
 * leaving it to ring in the void, and two tabs ring both.
 */
export function instanceId(storage = window.sessionStorage) {
  const name = KEY + '.instance';
  let id = storage.getItem(name);
  if (!id) {
    id = crypto.randomUUID();
    storage.setItem(name, id);
  }
  return id;
}
