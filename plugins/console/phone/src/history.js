// The calls of this browser, newest first. They never leave it.

const KEPT = 50;

export class CallHistory {
  constructor(memory) {
    this.memory = memory;
  }

  get calls() {
    return this.memory.get('history', []);
  }

  add(call) {
    const { peer, name, incoming, startedAt, seconds, answered, outcome } = call;
    const kind = incoming ? (answered || !/missed/i.test(outcome.text) ? 'in' : 'missed') : 'out';
    const entry = { peer, name, kind, when: startedAt, seconds, answered, text: outcome.text };
    this.memory.set('history', [entry, ...this.calls].slice(0, KEPT));
  }

  clear() {
    this.memory.set('history', null);
  }
}

/** "0:07", "12:34", "1:02:03" */
export function duration(seconds) {
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  if (!parts[0]) parts.shift();
  return parts.map((part, i) => (i ? String(part).padStart(2, '0') : String(part))).join(':');
}

/** "14:05" today, "Mon 14:05" this week, else a date. */
export function moment(when, now = Date.now()) {
  const date = new Date(when);
  const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
  if (new Date(now).toDateString() === date.toDateString()) return time;
  if (now - when < 6 * 86400e3) return `${date.toLocaleDateString([], { weekday: 'short' })} ${time}`;
  return date.toLocaleDateString([], { day: 'numeric', month: 'short' });
}
