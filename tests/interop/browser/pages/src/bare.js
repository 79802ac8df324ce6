// The two libraries people embed, as they come: JsSIP and SIP.js with as little around them as possible. What works with the web phone only
// because the web phone is kind would fail here. `window.bare`: start(options), call(number), hangUp(), state, heard().
import JsSIP from 'jssip';
import { Web } from 'sip.js';

import { Meter } from '../../../../../plugins/console/phone/src/levels.js';

const state = { registered: false, call: 'idle', error: '' };
const player = document.getElementById('player');
const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
let meter = null;
let library = null;

function listen(stream) {
  player.srcObject = stream;
  meter = new Meter(new AudioContext(), stream);
}

function jssip({ ws, domain, device, password }) {
  const media = { mediaConstraints: { audio, video: false }, pcConfig: { iceServers: [] } };
  const ua = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(ws)], uri: `sip:${device}@${domain}`, password });
  let session = null;
  ua.on('registered', () => (state.registered = true));
  ua.on('registrationFailed', ({ cause }) => (state.error = cause));
  ua.on('newRTCSession', event => {
    session = event.session;
    const track = connection => connection.addEventListener('track', e => listen(new MediaStream([e.track])));
    if (session.connection) track(session.connection); // calling: it was made before this event
    else session.on('peerconnection', ({ peerconnection }) => track(peerconnection));
    session.on('progress', () => (state.call = 'ringing'));
    session.on('confirmed', () => (state.call = 'active'));
    session.on('ended', () => (state.call = 'ended'));
    session.on('failed', ({ cause }) => Object.assign(state, { call: 'ended', error: cause }));
    if (event.originator === 'remote') session.answer(media);
  });
  ua.start();
  return { call: number => ua.call(`sip:${number}@${domain}`, media), hangUp: () => session.terminate() };
}

async function sipjs({ ws, domain, device, password }) {
  const user = new Web.SimpleUser(ws, {
    aor: `sip:${device}@${domain}`,
    media: { constraints: { audio, video: false }, remote: { audio: player } },
    userAgentOptions: {
      authorizationUsername: device,
      authorizationPassword: password,
      logLevel: 'error',
      sessionDescriptionHandlerFactoryOptions: { iceGatheringTimeout: 500, peerConnectionConfiguration: { iceServers: [] } },
    },
    delegate: {
      onRegistered: () => (state.registered = true),
      onCallReceived: () => user.answer(),
      onCallAnswered: () => {
        state.call = 'active';
        meter = new Meter(new AudioContext(), user.remoteMediaStream);
      },
      onCallHangup: () => (state.call = 'ended'),
    },
  });
  await user.connect();
  await user.register();
  return { call: number => user.call(`sip:${number}@${domain}`), hangUp: () => user.hangup() };
}

window.bare = {
  state,
  start: async options => {
    library = await (options.library === 'sipjs' ? sipjs : jssip)(options);
  },
  call: number => {
    state.call = 'calling';
    library.call(number);
  },
  hangUp: () => library.hangUp(),
  heard: () => meter?.heard() ?? { hz: 0, dbfs: -100 },
};
