/** Draws the desk: the list of lines, and the selected one with its controls and figures. */
import { Desk, nameOf, stateOf } from '/desk.js';
import { duration } from '/log.js';

/** @param {string} id */
export const $ = (id) => /** @type {any} */ (document.getElementById(id));
const PATHS = { 'xdp-native': 'XDP native', 'xdp-generic': 'XDP generic', userspace: 'userspace' };

/**
 * @param {string[]} shown
 * @param {string[]} hidden
 */
export function show(shown, hidden) {
  for (const id of shown) $(id).hidden = false;
  for (const id of hidden) $(id).hidden = true;
}

/** @param {Desk} desk */
export function draw(desk) {
  drawLines(desk);
  const call = desk.selected;
  const waiting = desk.lines.find(({ state }) => state === 'incoming');
  document.title = waiting ? `${nameOf(waiting)} calls` : 'Causeway';
  $('call-card').hidden = !call;
  // One is heard: the line on which is talked, or early media of the selected one.
  const heard = desk.talking ?? call;
  if ($('remote-audio').srcObject !== (heard?.remoteStream ?? null)) $('remote-audio').srcObject = heard?.remoteStream ?? null;
  if (call) drawCall(desk, call);
  else $('call-time').textContent = '';
  // A control that went away must not take the focus with it.
  if (desk.session && !document.activeElement?.checkVisibility()) $('to').focus();
}

/** @param {Desk} desk */
function drawLines(desk) {
  $('lines-card').hidden = desk.lines.length < 2;
  const items = desk.lines.map((call, index) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = `line ${call.state}`;
    button.setAttribute('aria-pressed', String(call === desk.selected));
    button.setAttribute('aria-keyshortcuts', `Alt+${index + 1}`);
    const state = document.createElement('span');
    state.className = 'why';
    state.textContent = stateOf(call);
    button.append(`${index + 1}  ${nameOf(call)}`, state);
    button.addEventListener('click', () => desk.select(call));
    const item = document.createElement('li');
    item.append(button);
    return item;
  });
  redraw($('lines'), items);
}

/**
 * Replaces what a list shows; the focus stays where it was.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} items
 */
function redraw(list, items) {
  const focused = [...list.children].findIndex((item) => item.contains(document.activeElement));
  list.replaceChildren(...items);
  const item = items[focused];
  (item?.querySelector('button') ?? item)?.focus();
}

/**
 * @param {Desk} desk
 * @param {any} call
 */
function drawCall(desk, call) {
  const waiting = call.state === 'incoming';
  const up = Boolean(call.connectedAt);
  $('call-remote').textContent = call.peerName ? `${call.peerName} <${call.remote}>` : call.remote;
  $('call-state').textContent = stateOf(call);
  $('incoming-actions').hidden = !waiting;
  $('answer-video').hidden = !call.offersVideo;
  const video = $('remote-video');
  if (video.srcObject !== call.remoteStream) video.srcObject = call.remoteStream;
  video.hidden = call.remoteStream.getVideoTracks().length === 0;
  $('call-actions').hidden = waiting || call.state === 'ended';
  const answered = call.state === 'connected';
  for (const id of ['hold', 'camera', 'transfer-toggle']) $(id).hidden = !answered;
  pressed('mute', call.muted, 'Unmute', 'Mute');
  pressed('hold', call.onHold, 'Resume', 'Hold');
  pressed('camera', Desk.shows(call), 'Camera off', 'Camera on');
  if (!up) fold(['keypad', 'transfer']);
  drawTransfer(desk, call);
  $('refer').hidden = !call.asked;
  if (call.asked) $('refer-text').textContent = `The other side wants you to talk to ${call.asked.to}.`;
  $('statistics').hidden = !up;
  $('s-path').textContent = pathText(call);
}

/**
 * @param {string} id
 * @param {boolean} on
 * @param {string} off What pressing it again does.
 * @param {string} label What pressing it does.
 */
function pressed(id, on, off, label) {
  $(id).setAttribute('aria-pressed', String(on));
  $(id).firstChild.textContent = on ? off : label;
}

/**
 * Closes panels below the controls.
 * @param {string[]} ids
 */
export function fold(ids) {
  for (const id of ids) {
    $(id).hidden = true;
    $(`${id}-toggle`).setAttribute('aria-expanded', 'false');
  }
}

/** @param {string} id */
export function unfold(id) {
  const open = $(id).hidden;
  fold(['keypad', 'transfer']);
  $(id).hidden = !open;
  $(`${id}-toggle`).setAttribute('aria-expanded', String(open));
  if (open) $(id).querySelector('input, button')?.focus();
}

/**
 * The other lines, each a target of an attended transfer.
 * @param {Desk} desk
 * @param {any} call
 */
function drawTransfer(desk, call) {
  const others = desk.lines.filter((line) => line !== call && line.state === 'connected');
  const buttons = others.map((line) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.textContent = `Connect with ${nameOf(line)}`;
    button.addEventListener('click', () => $('transfer').dispatchEvent(new CustomEvent('attended', { detail: line })));
    return button;
  });
  redraw($('transfer-lines'), buttons);
}

/** @param {any} call */
function pathText({ toSip, toBrowser }) {
  if (!toSip || !toBrowser) return '–';
  if (toSip.path === toBrowser.path && toSip.reason === toBrowser.reason) return `${PATHS[toSip.path]}: ${toSip.reason}`;
  return `to SIP ${PATHS[toSip.path]} (${toSip.reason}), to browser ${PATHS[toBrowser.path]} (${toBrowser.reason})`;
}

/**
 * The figures of the selected call; gives them back.
 * @param {any} call
 */
export async function drawFigures(call) {
  $('call-time').textContent = duration(Date.now() - call.connectedAt.getTime());
  const now = await call.statistics();
  const milliseconds = (/** @type {number|null} */ value) => (value === null ? '–' : `${value.toFixed(1)} ms`);
  $('s-codec').textContent = [now.codec, now.video?.codec].filter(Boolean).join(', ') || '–';
  $('s-suite').textContent = [now.suite?.replace('SRTP_', ''), now.dtls && `DTLS ${now.dtls}`].filter(Boolean).join(', ') || '–';
  $('s-rtt').textContent = milliseconds(now.roundTripMs);
  $('s-jitter').textContent = milliseconds(now.jitterMs);
  $('s-lost').textContent = String(now.lost);
  const video = now.video ? `; video ${now.video.sent} out, ${now.video.received} in` : '';
  $('s-packets').textContent = `${now.sent} out, ${now.received} in${video}`;
  return now;
}
