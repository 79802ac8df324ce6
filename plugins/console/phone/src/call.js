// One call: its states, its microphone and what is heard, and the things that can be done with it.
import { ending, microphoneTrouble } from './reasons.js';

const CANDIDATE_GRACE_MS = 20;
const SILENCE_SECONDS = 5;

/**
 * Events: `change` (anything shown has changed), `stream` ({stream}: the other side's sound), `ended` ({outcome}).
 * States: preparing (asking for the microphone), calling, ringing, early (sound before the answer), incoming, answering, active, ended.
 */
export class Call extends EventTarget {
  #session = null;
  #microphone = null;
  #iceServers = [];
  #watch = 0;
  #closed = false;

  constructor({ peer, name = '', incoming, audio, relays = async () => [] }) {
    super();
    this.peer = peer;
    this.name = name;
    this.incoming = incoming;
    this.audio = audio; // () => constraints for getUserMedia
    this.relays = relays; // async () => iceServers
    this.state = incoming ? 'incoming' : 'preparing';
    this.startedAt = Date.now();
    this.answeredAt = 0;
    this.held = false;
    this.heldByPeer = false;
    this.muted = false;
    this.digits = '';
    this.notice = '';
  }

  get ended() {
    return this.state === 'ended';
  }

  get answered() {
    return this.answeredAt > 0;
  }

  /** Seconds since the answer. */
  get seconds() {
    return this.answeredAt ? Math.floor(((this.endedAt ?? Date.now()) - this.answeredAt) / 1000) : 0;
  }

  /** The stream of the own microphone, while there is one. */
  get microphone() {
    return this.#microphone;
  }

  /** Place an outgoing call. `invite(target, options)` gives JsSIP's session. */
  async place(target, invite) {
    try {
      this.#microphone = await openMicrophone(this.audio());
      this.#iceServers = await this.relays();
    } catch (error) {
      return this.#finish({ text: microphoneTrouble(error), detail: '', status: 0, error: true });
    }
    if (this.#closed) return this.#releaseMicrophone(); // hung up while the browser was asking
    this.#set('calling');
    try {
      this.#attach(invite(target, this.#media()));
    } catch (error) {
      this.#finish({ text: `“${this.peer}” cannot be dialled.`, detail: String(error.message ?? error), status: 0, error: true });
    }
    return undefined;
  }

  /** Take over a session that JsSIP announced. */
  announce(session) {
    this.#attach(session);
  }

  async answer() {
    if (this.state !== 'incoming') return;
    this.#set('answering');
    let microphone;
    try {
      microphone = await openMicrophone(this.audio());
      this.#iceServers = await this.relays();
    } catch (error) {
      this.notice = microphoneTrouble(error);
      if (!this.ended) this.#set('incoming'); // it goes on ringing; the person may mend it and answer after all
      return;
    }
    this.#microphone = microphone;
    if (this.ended) {
      this.#releaseMicrophone();
      return;
    }
    this.notice = '';
    this.#session.answer(this.#media());
  }

  /** Hang up, cancel or reject, whichever it is. */
  hangUp() {
    if (this.ended) return;
    if (!this.#session) {
      this.#closed = true;
      this.#finish({ text: 'Call cancelled.', detail: '', status: 0, error: false });
    } else if (this.incoming && !this.answered && this.state === 'incoming') {
      this.#session.terminate({ status_code: 603 });
    } else {
      this.#session.terminate();
    }
  }

  toggleHold() {
    if (this.state !== 'active') return;
    const done = this.held ? this.#session.unhold() : this.#session.hold();
    if (!done) this.#say('The last change is still being made. Try again in a moment.');
  }

  toggleMute() {
    if (!this.#session || this.ended) return;
    if (this.muted) this.#session.unmute({ audio: true });
    else this.#session.mute({ audio: true });
    this.muted = !this.muted;
    this.#changed();
  }

  /** Send one key: in the sound (RFC 4733) unless `info` asks for SIP INFO or the other side knows no telephone-event. */
  sendDigit(digit, { info = false } = {}) {
    if (!['active', 'early'].includes(this.state)) return false;
    const sender = this.#session.connection?.getSenders().find(s => s.track?.kind === 'audio')?.dtmf;
    if (!info && sender?.canInsertDTMF) sender.insertDTMF(sender.toneBuffer + digit, 100, 70);
    else if (this.state === 'active') this.#session.sendDTMF(digit, { transportType: 'INFO', duration: 100 });
    else return false;
    this.digits = (this.digits + digit).slice(-32);
    this.#changed();
    return true;
  }

  /** Change to another microphone in mid call. */
  async changeMicrophone() {
    if (!this.#microphone || this.ended) return;
    let fresh;
    try {
      fresh = await openMicrophone(this.audio());
    } catch (error) {
      this.#say(microphoneTrouble(error));
      return;
    }
    const [track] = fresh.getAudioTracks();
    const sender = this.#session?.connection?.getSenders().find(s => s.track?.kind === 'audio');
    track.enabled = sender?.track?.enabled ?? true;
    await sender?.replaceTrack(track);
    this.#releaseMicrophone();
    this.#microphone = fresh;
    this.#changed();
  }

  #media() {
    return { mediaStream: this.#microphone, pcConfig: { iceServers: this.#iceServers, bundlePolicy: 'max-bundle' } };
  }

  #attach(session) {
    this.#session = session;
    if (session.connection) this.#listen(session.connection);
    session.on('peerconnection', ({ peerconnection }) => this.#listen(peerconnection));
    // The first address is enough: the gateway learns the others from the checks. Waiting for all of them is what makes calls slow.
    session.on('icecandidate', ({ candidate, ready }) => {
      if (candidate.protocol === 'udp' || candidate.type === 'relay') setTimeout(ready, CANDIDATE_GRACE_MS);
    });
    session.on('progress', ({ response }) => {
      if (this.incoming) return;
      if (response?.body) this.#set('early');
      else if (this.state !== 'early') this.#set('ringing');
    });
    session.on('accepted', () => this.#active());
    session.on('confirmed', () => this.#active());
    session.on('hold', ({ originator }) => this.#hold(originator, true));
    session.on('unhold', ({ originator }) => this.#hold(originator, false));
    session.on('peerconnection:setremotedescriptionfailed', () => this.#say('The other side’s description of its sound cannot be used.'));
    session.on('ended', event => this.#finish(ending(event, this)));
    session.on('failed', event => this.#finish(ending(event, this)));
  }

  #listen(connection) {
    connection.addEventListener('track', ({ track }) => {
      this.dispatchEvent(new CustomEvent('stream', { detail: { stream: new MediaStream([track]) } }));
    });
    connection.addEventListener('connectionstatechange', () => {
      if (connection.connectionState === 'failed') this.#say('No sound: the direct path to the gateway is blocked, by a firewall perhaps.');
      else if (connection.connectionState === 'connected') this.#say('');
    });
  }

  #active() {
    if (this.answered) return;
    this.answeredAt = Date.now();
    this.#set('active');
    let packets = 0;
    let silent = 0;
    this.#watch = setInterval(async () => {
      const connection = this.#session?.connection;
      if (!connection || connection.connectionState === 'failed') return;
      let received = 0;
      for (const report of (await connection.getStats()).values()) {
        if (report.type === 'inbound-rtp') received += report.packetsReceived ?? 0;
      }
      silent = received > packets || this.held || this.heldByPeer ? 0 : silent + 1;
      packets = received;
      if (silent === SILENCE_SECONDS) this.#say('No sound is arriving from the other side.');
      else if (!silent && this.notice.startsWith('No sound is')) this.#say('');
    }, 1000);
  }

  #hold(originator, on) {
    if (originator === 'local') this.held = on;
    else this.heldByPeer = on;
    this.#changed();
  }

  #finish(outcome) {
    if (this.ended) return;
    clearInterval(this.#watch);
    this.endedAt = Date.now();
    this.outcome = outcome;
    this.#releaseMicrophone();
    this.#set('ended');
    this.dispatchEvent(new CustomEvent('ended', { detail: { outcome } }));
  }

  #releaseMicrophone() {
    for (const track of this.#microphone?.getTracks() ?? []) track.stop();
    this.#microphone = null;
  }

  #say(notice) {
    this.notice = notice;
    this.#changed();
  }

  #set(state) {
    this.state = state;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event('change'));
  }
}

async function openMicrophone(constraints) {
  if (!navigator.mediaDevices) throw new DOMException('', 'InsecureContextError');
  return navigator.mediaDevices.getUserMedia({ audio: constraints, video: false });
}
