// What went wrong, in words a person understands. SIP's own words are kept for those who need them.

const FAILURES = {
  400: 'The call could not be placed: the gateway did not accept it.',
  401: 'Not allowed: the name or the password is wrong.',
  403: 'This call is not allowed.',
  404: 'Nobody can be reached at this number.',
  407: 'Not allowed: the name or the password is wrong.',
  408: 'No answer from the other side.',
  410: 'This number does not exist any more.',
  420: 'The other side does not support this call.',
  480: 'Not available right now.',
  481: 'The call does not exist any more.',
  482: 'The call went round in a circle.',
  483: 'The call was forwarded too often.',
  484: 'The number is not complete.',
  486: 'Busy.',
  487: 'Call cancelled.',
  488: 'The two phones have no way of talking in common.',
  500: 'The telephone system has a problem.',
  502: 'The telephone system could not be reached.',
  503: 'The telephone system cannot take calls right now.',
  504: 'The telephone system does not answer.',
  600: 'Busy.',
  603: 'Call declined.',
  604: 'This number does not exist.',
  606: 'The two phones have no way of talking in common.',
};

/** The text of a Warning (RFC 3261 20.43) or Reason header (RFC 3326), without its code and quotes. */
export function explanation(message) {
  const warning = message?.getHeader?.('Warning');
  const text = warning?.match(/^\s*\d{3}\s+\S+\s+"((?:[^"\\]|\\.)*)"/)?.[1];
  if (text) return text.replace(/\\(.)/g, '$1');
  const reason = message?.getHeader?.('Reason');
  return reason?.match(/;\s*text\s*=\s*"((?:[^"\\]|\\.)*)"/i)?.[1]?.replace(/\\(.)/g, '$1') ?? '';
}

/**
 * How a call ended: `{text, detail, error}`; `error` when it is something the person should be told of.
 * `event` is JsSIP's `failed` or `ended` event.
 */
export function ending({ originator, cause, message }, { answered, incoming }) {
  const detail = explanation(message);
  const status = message?.status_code ?? 0;
  if (status >= 300) {
    const text = FAILURES[status] ?? `The call failed: ${message.reason_phrase || status}.`;
    return { text, detail, status, error: status !== 487 };
  }
  if (/completed elsewhere/i.test(detail)) return { text: 'Answered on another phone.', detail: '', status, error: false };
  switch (cause) {
    case 'Terminated':
      return { text: originator === 'local' ? 'Call ended.' : 'The other side hung up.', detail, status, error: false };
    case 'Canceled':
      return { text: incoming && originator === 'remote' ? 'Missed call.' : 'Call cancelled.', detail, status, error: false };
    case 'Rejected':
      return { text: 'Call declined.', detail, status, error: false };
    case 'No Answer':
      return { text: incoming ? 'Missed call.' : 'No answer.', detail, status, error: !incoming };
    case 'Connection Error':
      return { text: 'The connection to the gateway was lost.', detail, status, error: true };
    case 'Request Timeout':
      return { text: 'The gateway does not answer.', detail, status, error: true };
    case 'RTP Timeout':
      return { text: 'The call ended: no sound arrived any more.', detail, status, error: true };
    case 'No ACK':
      return { text: 'The call was never confirmed by the other side.', detail, status, error: true };
    case 'WebRTC Error':
    case 'Bad Media Description':
    case 'Incompatible SDP':
    case 'Missing SDP':
      return { text: 'The sound could not be set up between the two phones.', detail, status, error: true };
    default:
      return { text: answered ? 'The call ended.' : `The call failed: ${cause}.`, detail, status, error: !answered };
  }
}

/** Why the microphone cannot be used. `error` is what getUserMedia threw. */
export function microphoneTrouble(error) {
  switch (error?.name) {
    case 'NotAllowedError':
    case 'SecurityError':
      return 'The microphone is blocked. Allow it for this page, beside the address, and call again.';
    case 'NotFoundError':
    case 'OverconstrainedError':
      return 'No microphone was found. Plug one in, or choose another in the settings.';
    case 'NotReadableError':
    case 'AbortError':
      return 'The microphone is in use by another program.';
    case 'InsecureContextError':
      return 'Browsers give the microphone to https:// pages only. Open this page by https.';
    default:
      return `The microphone cannot be used: ${error?.message ?? error}.`;
  }
}

/** Why a registration failed. */
export function registrationTrouble(status, reason, account) {
  if (status === 401 || status === 407) return 'The device name or the password is wrong.';
  if (status === 403) return 'This device may not sign in here: the password is wrong, or there were too many attempts.';
  if (status === 404) return `There is no device called “${account.device}”.`;
  if (status === 503) return 'The gateway is too busy.';
  return status ? `The gateway answered ${status} ${reason}.` : `The gateway does not answer (${reason}).`;
}
