/**
 * The agent desk: several lines on top of causeway.js. This file joins the document to the desk; `desk.js` has the lines, `view.js` draws.
 *
 * `window.causeway` holds the session, the selected call and all lines, for tests and for curious people at the console. With
 * `/?transport=websocket` everything goes over one WebSocket.
 */
import { Desk } from '/desk.js';
import { listenToKeys } from '/keys.js';
import { logCall, logMessage } from '/log.js';
import { meter } from '/meter.js';
import { $, draw, drawFigures, fold, show, unfold } from '/view.js';

const KEYPAD = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '0', '#'];
const desk = new Desk();
window.causeway = {
  get session() { return desk.session; },
  get call() { return desk.selected; },
  get lines() { return desk.lines; },
  get ended() { return desk.ended; },
  /** @type {any} */
  lastStatistics: null,
};

desk.addEventListener('change', () => draw(desk));
desk.addEventListener('said', ({ text }) => {
  $('said').textContent = text;
});
desk.addEventListener('ended', ({ call, how }) => {
  logCall($('log'), call, how, dial);
  show(['log-card'], []);
});

/**
 * Runs what a control asks for; what is refused is shown.
 * @param {() => Promise<unknown>|unknown} work
 */
async function attempt(work) {
  $('dial-error').textContent = '';
  try {
    await work();
  } catch (error) {
    $('dial-error').textContent = error.message;
  }
}

$('sign-in').addEventListener('submit', async (submit) => {
  submit.preventDefault();
  $('sign-in-error').textContent = '';
  const button = submit.submitter || $('sign-in').querySelector('button');
  button.disabled = true;
  try {
    const transport = new URLSearchParams(location.search).get('transport') ?? undefined;
    signedIn(await desk.signIn({ user: $('user').value.trim() || undefined, password: $('password').value || undefined, transport }));
  } catch (error) {
    $('sign-in-error').textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

/** @param {any} session */
function signedIn(session) {
  $('password').value = '';
  $('address').textContent = session.address;
  show(['who', 'dial-card'], ['sign-in-card']);
  standing(true);
  $('to').focus();
  session.addEventListener('offline', () => standing(false));
  session.addEventListener('online', () => standing(true));
  session.addEventListener('registered', () => standing(true));
  session.addEventListener('registrationfailed', ({ reason }) => {
    $('dial-error').textContent = `Registration lost: ${reason}`;
    standing(false);
  });
  session.addEventListener('incoming', ({ call }) => watch(call));
  session.addEventListener('message', (message) => {
    logMessage($('log'), message);
    show(['log-card'], []);
  });
  session.addEventListener('messageswaiting', ({ waiting, fresh }) => {
    $('waiting').textContent = waiting ? `${fresh || ''} new messages`.trim() : '';
  });
  session.addEventListener('ended', ({ reason }) => {
    show(['sign-in-card'], ['who', 'dial-card', 'call-card', 'lines-card']);
    $('sign-in-error').textContent = reason === 'signed out' ? '' : reason;
  });
}

/** @param {boolean} online */
function standing(online) {
  $('standing').className = `dot ${online ? 'on' : 'off'}`;
  $('standing').title = online ? 'connected to the gateway' : 'the gateway does not answer';
}

/** @param {string} to */
function dial(to) {
  return attempt(async () => {
    await desk.dial(to, { video: $('video').checked });
    watch(desk.selected);
  });
}

/**
 * What of a call concerns the document alone.
 * @param {any} call
 */
function watch(call) {
  if (!call) return;
  const level = () => meter($('meter'), call, () => desk.selected);
  if (call.remoteStream.getAudioTracks().length) level();
  else {
    const heard = ({ track }) => {
      if (track.kind !== 'audio') return;
      call.removeEventListener('track', heard);
      level();
    };
    call.addEventListener('track', heard);
  }
  call.addEventListener('refer', (asked) => {
    call.asked = asked;
    draw(desk);
  });
}

$('sign-out').addEventListener('click', () => desk.session?.signOut());
$('dial').addEventListener('submit', (submit) => {
  submit.preventDefault();
  dial($('to').value.trim());
});
for (const link of document.querySelectorAll('[data-to]')) {
  link.addEventListener('click', () => {
    $('to').value = link.dataset.to;
    $('dial').requestSubmit();
  });
}

/**
 * @param {string} id
 * @param {(call: any) => Promise<unknown>|unknown} work
 */
function control(id, work) {
  $(id).addEventListener('click', () => attempt(() => desk.selected && work(desk.selected)));
}

control('answer', (call) => desk.answer(call, { video: false }));
control('answer-video', (call) => desk.answer(call, { video: true }));
control('reject', (call) => call.reject());
control('hang-up', (call) => call.hangUp());
control('mute', (call) => desk.toggleMute(call));
control('hold', (call) => desk.toggleHold(call));
control('camera', (call) => desk.toggleVideo(call));
for (const accept of [true, false]) {
  control(accept ? 'refer-accept' : 'refer-decline', async (call) => {
    call.asked = null;
    draw(desk);
    await call.answerRefer(accept);
  });
}
for (const id of ['keypad', 'transfer']) $(`${id}-toggle`).addEventListener('click', () => unfold(id));

/** @param {any} target */
function transfer(target) {
  return attempt(async () => {
    await desk.transfer(desk.selected, target);
    fold(['transfer']);
  });
}
$('transfer').addEventListener('submit', (submit) => {
  submit.preventDefault();
  transfer($('transfer-to').value.trim());
});
$('transfer').addEventListener('attended', ({ detail }) => transfer(detail));

for (const key of KEYPAD) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = key;
  button.addEventListener('click', () => tone(key));
  $('keypad').append(button);
}

/** @param {string} key */
function tone(key) {
  attempt(() => desk.selected?.connectedAt && desk.selected.dtmf(key));
}

listenToKeys({
  on: () => desk.session && $('shortcuts').checked,
  line: (index) => desk.lines[index] && desk.select(desk.lines[index]),
  tone,
  waiting: () => desk.selectWaiting(),
});

setInterval(async () => {
  const call = desk.selected;
  if (call?.connectedAt && call.state !== 'ended') window.causeway.lastStatistics = await drawFigures(call);
}, 1000);

addEventListener('pagehide', () => desk.session?.signOut());
