// The web phone's page: puts the phone and its looks together.
import { Phone } from './phone.js';
import { accountFromAddress, serverSettings } from './settings.js';
import { Screen } from './ui.js';

const phone = new Phone(document.getElementById('player'));
const screen = new Screen(phone);

// What tests and the curious may hold on to.
window.siperbPhone = {
  get state() {
    const { registration, call, trouble } = phone;
    return {
      registration: registration?.state ?? 'offline',
      call: call?.state ?? 'idle',
      held: call?.held ?? false,
      muted: call?.muted ?? false,
      peer: call?.peer ?? '',
      seconds: call?.seconds ?? 0,
      error: trouble?.text ?? '',
      detail: trouble?.detail ?? '',
    };
  },
  heard: () => phone.meters.in?.meter.heard() ?? { hz: 0, dbfs: -100 },
  spoken: () => phone.meters.out?.meter.heard() ?? { hz: 0, dbfs: -100 },
};

async function begin() {
  let server = { ws: '', domain: '' };
  try {
    server = await serverSettings();
  } catch (error) {
    phone.complain('The gateway’s settings could not be read. Reload the page when it is running.', String(error.message ?? error));
  }
  screen.server = server;
  if (!window.isSecureContext) {
    phone.complain('Browsers give the microphone to https:// pages only. Open this page by https.');
  }
  try {
    const account = (await accountFromAddress()) ?? phone.memory.get('account', null);
    if (account) {
      screen.fillIn(account);
      if (account.password) phone.signIn({ ...server, ...account });
    }
  } catch (error) {
    phone.complain(String(error.message ?? error));
  }
}

begin();
