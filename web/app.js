/**
 * The demo page: one line, one call at a time, on top of causeway.js.
 *
 * `window.causeway` holds the session and the current call, for tests and for curious people at the console.
 */
import { Causeway } from '/causeway.js';

/** @param {string} id */
const $ = (id) => /** @type {any} */ (document.getElementById(id));
const STATES = {
  calling: 'Calling', ringing: 'Ringing', incoming: 'Incoming call', connecting: 'Connecting',
  connected: 'In call', ended: 'Ended',
};
const KEYS = ['1', '2', '3', '4', '5', '6', '7', '8', '9', '*', '0', '#'];
const PATHS = { 'xdp-native': 'XDP native', 'xdp-generic': 'XDP generic', userspace: 'userspace' };

/** @type {{session: any, call: any, lastStatistics: any, ended: any[]}} */
const page = { session: null, call: null, lastStatistics: null, ended: [] };
window.causeway = page;

$('sign-in').addEventListener('submit', async (submit) => {
  submit.preventDefault();
  $('sign-in-error').textContent = '';
  const button = submit.submitter || $('sign-in').querySelector('button');
  button.disabled = true;
  try {
    await signIn($('user').value.trim() || undefined, $('password').value || undefined);
  } catch (error) {
    $('sign-in-error').textContent = error.message;
  } finally {
    button.disabled = false;
  }
});

/**
 * @param {string} [user]
 * @param {string} [password]
 */
async function signIn(user, password) {
  const session = await Causeway.signIn({ user, password });
  page.session = session;
  $('password').value = '';
  $('address').textContent = session.address;
  show(['who', 'dial-card'], ['sign-in-card']);
  standing(true);
  session.addEventListener('incoming', ({ call }) => incoming(call));
  session.addEventListener('offline', () => standing(false));
  session.addEventListener('online', () => standing(true));
  session.addEventListener('registrationfailed', ({ reason }) => {
    $('dial-error').textContent = `Registration lost: ${reason}`;
    standing(false);
  });
  session.addEventListener('registered', () => standing(true));
  session.addEventListener('ended', ({ reason }) => {
    page.session = null;
    show(['sign-in-card'], ['who', 'dial-card', 'call-card']);
    $('sign-in-error').textContent = reason === 'signed out' ? '' : reason;
  });
}

/** @param {boolean} online */
function standing(online) {
  $('standing').className = `dot ${online ? 'on' : 'off'}`;
  $('standing').title = online ? 'connected to the gateway' : 'the gateway does not answer';
}

$('sign-out').addEventListener('click', () => page.session?.signOut());

$('dial').addEventListener('submit', async (submit) => {
  submit.preventDefault();
  $('dial-error').textContent = '';
  if (page.call) return;
  try {
    watch(await page.session.call($('to').value.trim(), { video: $('video').checked }));
  } catch (error) {
    $('dial-error').textContent = error.message;
  }
});

for (const link of document.querySelectorAll('[data-to]')) {
  link.addEventListener('click', () => {
    $('to').value = link.dataset.to;
    $('dial').requestSubmit();
  });
}

/** @param {any} call */
function incoming(call) {
  if (page.call) {
    call.reject(486).catch(() => null);
    return;
  }
  watch(call);
}

/** @param {any} call */
function watch(call) {
  page.call = call;
  page.lastStatistics = null;
  $('call-remote').textContent = call.peerName ? `${call.peerName} <${call.remote}>` : call.remote;
  $('remote-audio').srcObject = call.remoteStream;
  $('remote-video').srcObject = call.remoteStream;
  for (const type of ['state', 'connected', 'path', 'held']) call.addEventListener(type, () => draw(call));
  call.addEventListener('track', ({ track }) => {
    if (track.kind === 'audio') listen(call);
    draw(call);
  });
  call.addEventListener('ended', (how) => ended(call, how));
  const clock = setInterval(() => tick(call), 1000);
  call.addEventListener('ended', () => clearInterval(clock));
  draw(call);
  if (call.state === 'ended') ended(call, { by: 'gateway', reason: 'ended' });
}

/** @param {any} call */
function draw(call) {
  if (call !== page.call) return;
  const waiting = call.state === 'incoming';
  show(['call-card'], []);
  $('call-state').textContent = (call.held ? 'Held by the other side' : STATES[call.state]) + (call.muted ? ' · muted' : '');
  $('incoming-actions').hidden = !waiting;
  $('answer-video').hidden = !call.offersVideo;
  $('remote-video').hidden = call.remoteStream.getVideoTracks().length === 0;
  $('call-actions').hidden = waiting || call.state === 'ended';
  $('statistics').hidden = !call.connectedAt;
  $('mute').setAttribute('aria-pressed', String(call.muted));
  $('mute').textContent = call.muted ? 'Unmute' : 'Mute';
  $('s-path').textContent = pathText(call);
}

/** @param {any} call */
function pathText({ toSip, toBrowser }) {
  if (!toSip || !toBrowser) return '–';
  if (toSip.path === toBrowser.path && toSip.reason === toBrowser.reason) return `${PATHS[toSip.path]}: ${toSip.reason}`;
  return `to SIP ${PATHS[toSip.path]} (${toSip.reason}), to browser ${PATHS[toBrowser.path]} (${toBrowser.reason})`;
}

/** @param {any} call */
async function tick(call) {
  if (!call.connectedAt || call.state === 'ended') return;
  const seconds = Math.floor((Date.now() - call.connectedAt.getTime()) / 1000);
  $('call-time').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
  const now = await call.statistics();
  page.lastStatistics = now;
  const milliseconds = (/** @type {number|null} */ value) => (value === null ? '–' : `${value.toFixed(1)} ms`);
  $('s-codec').textContent = [now.codec, now.video?.codec].filter(Boolean).join(', ') || '–';
  $('s-suite').textContent = [now.suite?.replace('SRTP_', ''), now.dtls && `DTLS ${now.dtls}`].filter(Boolean).join(', ') || '–';
  $('s-rtt').textContent = milliseconds(now.roundTripMs);
  $('s-jitter').textContent = milliseconds(now.jitterMs);
  $('s-lost').textContent = String(now.lost);
  const video = now.video ? `; video ${now.video.sent} out, ${now.video.received} in` : '';
  $('s-packets').textContent = `${now.sent} out, ${now.received} in${video}`;
}

/**
 * @param {any} call
 * @param {{by: string, status?: number|null, reason: string}} how
 */
function ended(call, { by, status, reason }) {
  page.ended.push({ remote: call.remote, by, status, reason });
  const entry = document.createElement('li');
  const why = document.createElement('span');
  why.className = 'why';
  why.textContent = [status, reason].filter(Boolean).join(' ');
  entry.append(`${call.direction === 'incoming' ? '↙' : '↗'} ${call.remote}`, why);
  $('log').prepend(entry);
  if (call !== page.call) return;
  page.call = null;
  show(['log-card'], ['call-card', 'keypad']);
  $('call-time').textContent = '';
  $('keypad-toggle').setAttribute('aria-expanded', 'false');
}

for (const [button, video] of [['answer', false], ['answer-video', true]]) {
  $(button).addEventListener('click', () => page.call?.answer({ video }).catch((error) => {
    $('dial-error').textContent = error.message;
  }));
}
$('reject').addEventListener('click', () => page.call?.reject());
$('hang-up').addEventListener('click', () => page.call?.hangUp());
$('mute').addEventListener('click', () => {
  page.call?.mute(!page.call.muted);
});
$('keypad-toggle').addEventListener('click', () => {
  $('keypad').hidden = !$('keypad').hidden;
  $('keypad-toggle').setAttribute('aria-expanded', String(!$('keypad').hidden));
});
for (const key of KEYS) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = key;
  button.addEventListener('click', () => tone(key));
  $('keypad').append(button);
}

/** @param {string} key */
function tone(key) {
  try {
    page.call?.dtmf(key);
  } catch (error) {
    $('dial-error').textContent = error.message;
  }
}

document.addEventListener('keydown', (press) => {
  const typing = press.target instanceof HTMLInputElement;
  if (!typing && page.call && KEYS.includes(press.key)) tone(press.key);
});

/**
 * Draws the level of what arrives.
 * @param {any} call
 */
function listen(call) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 64;
  context.createMediaStreamSource(call.remoteStream).connect(analyser);
  const canvas = $('meter');
  const pen = canvas.getContext('2d');
  const bins = new Uint8Array(analyser.frequencyBinCount);
  const paint = () => {
    pen.clearRect(0, 0, canvas.width, canvas.height);
    if (call.state === 'ended') {
      context.close();
      return;
    }
    analyser.getByteFrequencyData(bins);
    pen.fillStyle = getComputedStyle(document.body).getPropertyValue('--brand');
    bins.forEach((value, index) => {
      const height = Math.max(2, (value / 255) * canvas.height);
      pen.fillRect(index * 5, canvas.height - height, 3, height);
    });
    requestAnimationFrame(paint);
  };
  paint();
}

/**
 * @param {string[]} shown
 * @param {string[]} hidden
 */
function show(shown, hidden) {
  for (const id of shown) $(id).hidden = false;
  for (const id of hidden) $(id).hidden = true;
}

addEventListener('pagehide', () => page.session?.signOut());
