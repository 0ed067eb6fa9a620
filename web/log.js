/** The log of a session: calls that are over, with a way to call again, and messages. */
import { nameOf } from '/desk.js';

/** @param {Date} time */
const clock = (time) => time.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });

/**
 * Minutes and seconds.
 * @param {number} milliseconds
 */
export function duration(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

/**
 * @param {HTMLElement} list
 * @param {(string|Node)[]} parts
 */
function note(list, parts) {
  const entry = document.createElement('li');
  entry.append(...parts);
  list.prepend(entry);
}

/** @param {string} text */
function aside(text) {
  const element = document.createElement('span');
  element.className = 'why';
  element.textContent = text;
  return element;
}

/**
 * @param {HTMLElement} list
 * @param {any} call
 * @param {{status?: number|null, reason: string}} how
 * @param {(to: string) => void} dial
 */
export function logCall(list, call, how, dial) {
  const again = document.createElement('button');
  again.type = 'button';
  again.className = 'link';
  again.textContent = nameOf(call);
  again.title = `Call ${call.remote} again`;
  again.addEventListener('click', () => dial(call.remote));
  const incoming = call.direction === 'incoming';
  const kind = document.createElement('span');
  kind.textContent = incoming ? '↙' : '↗';
  kind.setAttribute('aria-label', incoming ? 'incoming' : 'outgoing');
  kind.setAttribute('role', 'img');
  const now = new Date();
  const took = call.connectedAt ? duration(now.getTime() - call.connectedAt.getTime()) : 'not connected';
  const why = [how.status, how.reason].filter(Boolean).join(' ');
  note(list, [kind, again, aside(`${clock(now)}, ${took}${why ? `, ${why}` : ''}`)]);
}

/**
 * @param {HTMLElement} list
 * @param {{from: string, fromName: string|null, contentType: string, body: string}} message
 */
export function logMessage(list, { from, fromName, contentType, body }) {
  const text = contentType.startsWith('text/plain') ? body : `[${contentType}]`;
  note(list, ['✉ ', `${fromName || from.replace(/^sip:/, '')}: ${text}`, aside(clock(new Date()))]);
}
