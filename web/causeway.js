/**
 * causeway.js: the browser side of a Causeway gateway. An ES module without dependencies; `socket.js` beside it is for `transport: 'websocket'`.
 *
 *     const session = await Causeway.signIn({ user: 'alice', password: 'secret' });
 *     session.addEventListener('incoming', ({ call }) => call.answer());
 *     const call = await session.call('sip:echo@example.org');
 *     call.addEventListener('connected', () => console.log(call.codec));
 *
 * One `Session` per signed-in user, one `Call` per call. Everything that happens is an event of one of them. The API behind it
 * is described by the gateway itself at `/api/v1/openapi.json`, and this module for TypeScript by `causeway.d.ts` beside it.
 *
 * @module causeway
 */

/**
 * A refused request. `status` is the HTTP status, `kind` the machine-readable type of the problem document (RFC 9457).
 */
export class Problem extends Error {
  /**
   * @param {{status: number, type?: string, title?: string, detail?: string, retry_after_s?: number, state?: string,
   *   hold?: string}} document
   */
  constructor(document) {
    super(document.detail || document.title || `HTTP ${document.status}`);
    this.name = 'Problem';
    this.status = document.status;
    this.kind = document.type || 'unknown';
    this.title = document.title || '';
    /** Seconds after which another try makes sense, where the gateway said so. */
    this.retryAfter = document.retry_after_s;
    /** With 409: where the call stands instead. */
    this.state = document.state;
    /** With 409: who holds the call, if anybody does: `page`, `sip` or `both`. */
    this.hold = document.hold;
  }
}

/**
 * @typedef {object} SignIn
 * @property {string} [user] SIP user or address; for a guest the name that is shown.
 * @property {string} [password] SIP password; without one the session is a guest's.
 * @property {string} [token] JWT that names the user, where the gateway takes such.
 * @property {string} [displayName] Name shown to the other party.
 * @property {number} [noAnswerSeconds] Calls that nobody answers end after so many; from 5 up to the gateway's own limit.
 * @property {string} [gateway] Base URL of the gateway; default: where the page came from.
 * @property {RequestCredentials} [credentials] `include` sends cookies to a gateway of another origin: needed where a balancer before several
 *   gateways tells by one where the page signed in. The page's origin has to stand in the gateways' `cors_origins`.
 * @property {'http'|'websocket'} [transport] What requests and events go over: HTTP requests and an event stream, or one WebSocket.
 * @property {RTCConfiguration} [rtc] What the calls' connections shall have beside the gateway's own: certificates, a transport policy.
 */

/**
 * @typedef {object} PathView
 * @property {'xdp-native'|'xdp-generic'|'userspace'} path Which datapath forwards.
 * @property {string} reason Why that one.
 */

/**
 * @typedef {object} LiveStatistics
 * @property {number|null} roundTripMs Browser to gateway, by RTCP.
 * @property {number|null} jitterMs Of the audio that arrives here.
 * @property {number} lost Packets lost on the way here.
 * @property {number} received Packets that arrived here.
 * @property {number} sent Packets sent from here.
 * @property {number} audioLevel Level of the audio that arrives, 0..1.
 * @property {number} audioEnergy Total energy of the audio that arrived.
 * @property {string|null} codec Codec with its clock.
 * @property {VideoStatistics|null} video Where the call has video.
 * @property {string|null} suite SRTP suite.
 * @property {string|null} dtls DTLS version.
 * @property {PathView|null} toSip Path of the browser's media.
 * @property {PathView|null} toBrowser Path of the other side's media.
 */

/**
 * @typedef {object} VideoStatistics
 * @property {string|null} codec Codec with its clock.
 * @property {number} received Packets that arrived here.
 * @property {number} sent Packets sent from here.
 * @property {number} lost Packets lost on the way here.
 * @property {number} framesDecoded Pictures that were shown.
 * @property {number} framesSent Pictures sent from here.
 */

/**
 * @typedef {object} Media
 * @property {MediaStream} [stream] What to send, opened by the page itself.
 * @property {MediaTrackConstraints|boolean} [audio] Microphone; on where nothing is said.
 * @property {MediaTrackConstraints|boolean} [video] Camera; off where nothing is said.
 */

/**
 * @typedef {object} Sent
 * @property {{name: string, value: string}[]} [headers] Headers for the INVITE, of those that the operator lets pages send.
 * @property {Record<string, string>} [data] What the callee gets with the call: at most 32 pairs.
 * @property {boolean} [withoutOffer] The callee chooses what is spoken: it makes the offer, and the page answers by itself.
 */

/**
 * @typedef {object} Content
 * @property {string} contentType Media type.
 * @property {string} body The text.
 */

/** Milliseconds before the event stream is opened again after it broke, and between two tries to get a call's media back. */
const RETRY_MS = 1000;
/** Milliseconds after which an offer that got no answer is given up: over a dead connection it would wait for minutes. */
const OFFER_MS = 5000;
/** Milliseconds without a byte after which the connection for events is dead: the gateway says something each ten seconds. */
const SILENCE_MS = 25000;

/** Requests of one session, with its token. */
class Api {
  /**
   * @param {string} gateway
   * @param {RequestCredentials} credentials
   */
  constructor(gateway, credentials) {
    this.base = `${gateway.replace(/\/$/, '')}/api/v1`;
    this.credentials = credentials;
    /** @type {string|null} */
    this.token = null;
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {RequestInit} [more]
   * @returns {Promise<Response>}
   */
  async fetch(method, path, body, more = {}) {
    const headers = new Headers(more.headers);
    if (this.token) headers.set('Authorization', `Bearer ${this.token}`);
    if (body !== undefined) headers.set('Content-Type', 'application/json');
    const response = await fetch(this.base + path, {
      ...more,
      method,
      headers,
      credentials: this.credentials,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    if (response.ok) return response;
    const fallback = { status: response.status, title: response.statusText };
    throw new Problem(await response.json().catch(() => fallback));
  }

  /**
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {RequestInit} [more]
   * @returns {Promise<any>}
   */
  async json(method, path, body, more) {
    const response = await this.fetch(method, path, body, more);
    return response.status === 204 ? null : response.json();
  }

  /** Each request has a connection of its own, or the browser's: nothing is open. */
  drop() {}

  /**
   * Reads the event stream of a session until it breaks.
   * @param {Session} session
   * @param {() => void} opened
   */
  async follow(session, opened) {
    const response = await this.fetch('GET', `${session.path}/events`, undefined, {
      headers: { Accept: 'text/event-stream', 'Last-Event-ID': String(session.lastEvent) },
      signal: session.broken.signal,
      cache: 'no-store',
    });
    opened();
    if (response.body) await this.readEvents(session, response.body.getReader());
  }

  /**
   * Server-sent events by `fetch`, because `EventSource` cannot send a bearer token.
   * @param {Session} session
   * @param {ReadableStreamDefaultReader<Uint8Array>} reader
   */
  async readEvents(session, reader) {
    const decoder = new TextDecoder();
    let buffer = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      session.listenForSilence();
      buffer += decoder.decode(value, { stream: true });
      for (let end = buffer.indexOf('\n\n'); end >= 0; end = buffer.indexOf('\n\n')) {
        const lines = buffer.slice(0, end).split('\n');
        buffer = buffer.slice(end + 2);
        const data = lines.filter((line) => line.startsWith('data:')).map((line) => line.slice(5)).join('\n');
        if (data) session.handle(JSON.parse(data));
      }
    }
  }
}

/** An event that carries the fields of what happened. */
class CausewayEvent extends Event {
  /**
   * @param {string} type
   * @param {object} [fields]
   */
  constructor(type, fields = {}) {
    super(type);
    Object.assign(this, fields);
  }
}

/**
 * A signed-in user or guest.
 *
 * Events: `incoming` {call}, `registered` {expires_s}, `registrationfailed` {status, reason}, `offline`, `online`, `ended` {reason},
 * `message` {from, fromName, call, contentType, body}, `messageswaiting` {waiting, account, fresh, old}.
 */
export class Session extends EventTarget {
  /**
   * @param {Api|import('./socket.js').SocketApi} api
   * @param {{id: string, address: string, registered: boolean, ice_servers?: RTCIceServer[]}} created
   * @param {RTCConfiguration} rtc
   */
  constructor(api, created, rtc) {
    super();
    this.api = api;
    this.id = created.id;
    /** Own SIP address. */
    this.address = created.address;
    /** Whether a registration at the SIP server stands behind it. */
    this.registered = created.registered;
    /** STUN and TURN servers that the operator has for pages. @type {RTCIceServer[]} */
    this.iceServers = created.ice_servers || [];
    /** What `SignIn.rtc` says of the connections of the calls. @type {RTCConfiguration} */
    this.rtc = rtc;
    /** @type {Map<string, Call>} */
    this.calls = new Map();
    this.closed = false;
    this.lastEvent = 0;
    /** Ends the connection for events, which is made again unless the session is over. */
    this.broken = new AbortController();
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.silence = undefined;
    /** Events of calls whose creation has not returned yet. @type {Map<string, object[]>} */
    this.early = new Map();
    /** The browser says that its network is back: what was connected over the old one is dead. */
    this.reopen = () => this.broken.abort();
    globalThis.addEventListener('online', this.reopen);
    this.listening = this.listen();
  }

  /** @returns {string} */
  get path() {
    return `/sessions/${this.id}`;
  }

  /**
   * Places a call.
   * @param {string} to SIP URI, or user or number at the gateway's domain.
   * @param {Media & Sent} [options]
   * @returns {Promise<Call>}
   */
  async call(to, options = {}) {
    const stream = options.stream || (await openDevices(options));
    const call = new Call(this, 'outgoing', to, stream);
    try {
      if (!options.withoutOffer) await call.peer.setLocalDescription(await call.peer.createOffer());
      const view = await this.api.json('POST', `${this.path}/calls`, {
        to,
        offer: options.withoutOffer ? undefined : call.description(),
        headers: options.headers,
        data: options.data,
      });
      call.adopt(view.id);
      // Whoever awaits the call adds its listeners first: a callee can be faster than the gateway's answer to the page.
      call.handled = nextTask();
      for (const event of this.early.get(view.id) || []) call.handle(event);
      this.early.delete(view.id);
    } catch (error) {
      const status = error instanceof Problem ? error.status : null;
      call.finish({ by: 'gateway', status, reason: error instanceof Error ? error.message : String(error) });
      throw error;
    }
    return call;
  }

  /**
   * Sends a message; resolves when the SIP side has answered.
   * @param {string} to SIP URI, or user or number at the gateway's domain.
   * @param {string} body
   * @param {string} [contentType]
   * @returns {Promise<{status: number, reason: string}>}
   */
  send(to, body, contentType = 'text/plain') {
    return this.api.json('POST', `${this.path}/messages`, { to, content_type: contentType, body });
  }

  /** @returns {Promise<any>} The gateway's view of the session and its calls. */
  view() {
    return this.api.json('GET', this.path);
  }

  /** Ends all calls, unregisters and invalidates the token. */
  async signOut() {
    if (this.closed) return;
    // keepalive: it has to leave although the page may be going away.
    await this.api.json('DELETE', this.path, undefined, { keepalive: true }).catch(() => null);
    this.finish('signed out');
  }

  /** Follows the events until the session ends; begins again where the connection broke. */
  async listen() {
    let online = true;
    while (!this.closed) {
      this.broken = new AbortController();
      this.listenForSilence();
      try {
        await this.api.follow(this, () => {
          if (!online) this.dispatchEvent(new CausewayEvent('online'));
          online = true;
        });
      } catch (error) {
        if (this.closed) return;
        if (error instanceof Problem && (error.status === 401 || error.status === 404)) {
          this.finish('the gateway does not know this session any more');
          return;
        }
      }
      clearTimeout(this.silence);
      if (this.closed) return;
      if (online) this.dispatchEvent(new CausewayEvent('offline'));
      online = false;
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  /** A network that is gone often says nothing: what is silent for too long is opened again. */
  listenForSilence() {
    const { broken } = this;
    clearTimeout(this.silence);
    this.silence = setTimeout(() => broken.abort(), SILENCE_MS);
  }

  /** @param {any} event */
  handle(event) {
    if (event.id <= this.lastEvent) return;
    this.lastEvent = event.id;
    switch (event.type) {
      case 'session.registered':
        this.registered = true;
        this.dispatchEvent(new CausewayEvent('registered', { expires_s: event.expires_s }));
        return;
      case 'session.registration_failed':
        this.dispatchEvent(new CausewayEvent('registrationfailed', { status: event.status, reason: event.reason }));
        return;
      case 'session.ended':
        this.finish(event.reason);
        return;
      case 'session.message':
        this.dispatchEvent(new CausewayEvent('message', {
          from: event.from,
          fromName: event.from_name,
          call: this.calls.get(event.call) ?? null,
          contentType: event.content_type,
          body: event.body,
        }));
        return;
      case 'session.messages_waiting':
        this.dispatchEvent(new CausewayEvent('messageswaiting', {
          waiting: event.waiting,
          account: event.account,
          fresh: event.new,
          old: event.old,
        }));
        return;
      case 'call.incoming': {
        const call = new Call(this, 'incoming', event.from, null);
        call.peerName = event.from_name || null;
        call.offer = event.offer;
        call.headers = event.headers ?? [];
        call.data = event.data ?? {};
        call.origin = {
          assertedIdentity: event.asserted_identity ?? [],
          diversion: event.diversion ?? [],
          historyInfo: event.history_info ?? [],
        };
        call.adopt(event.call);
        this.dispatchEvent(new CausewayEvent('incoming', { call }));
        return;
      }
      default: {
        const call = this.calls.get(event.call);
        if (call) call.handle(event);
        else if (event.call) this.early.set(event.call, [...(this.early.get(event.call) || []), event]);
      }
    }
  }

  /** @param {string} reason */
  finish(reason) {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.silence);
    globalThis.removeEventListener('online', this.reopen);
    this.broken.abort();
    for (const call of [...this.calls.values()]) call.finish({ by: 'gateway', status: null, reason });
    this.dispatchEvent(new CausewayEvent('ended', { reason }));
  }
}

/**
 * One call.
 *
 * Events: `state` {state}, `ringing` {status}, `early`, `answered`, `connected`, `path`, `held` {held}, `track` {track, stream},
 * `dtmf` {digit, durationMs}, `dtmfsent` {digit, status}, `info` {contentType, body}, `infosent` {status}, `muted` {muted},
 * `control` {control}, `refer` {to, referredBy, attended}, `party` {remote, name}, `transfer` {status, reason, over},
 * `ended` {by, status, reason, causes}.
 */
export class Call extends EventTarget {
  /**
   * @param {Session} session
   * @param {'outgoing'|'incoming'} direction
   * @param {string} remote
   * @param {MediaStream|null} stream
   */
  constructor(session, direction, remote, stream) {
    super();
    this.session = session;
    this.direction = direction;
    /** The other party's address. */
    this.remote = remote;
    /** @type {string|null} */
    this.peerName = null;
    /** @type {string|null} */
    this.id = null;
    /** @type {'new'|'calling'|'ringing'|'incoming'|'connecting'|'connected'|'ended'} */
    this.state = direction === 'incoming' ? 'incoming' : 'calling';
    this.muted = false;
    /** Whether the other side holds the call. */
    this.held = false;
    /** Whether this page holds the call. */
    this.onHold = false;
    /** Headers that came with an incoming call. @type {{name: string, value: string}[]} */
    this.headers = [];
    /** Data that came with an incoming call. @type {Record<string, string>} */
    this.data = {};
    /** Where an incoming call comes from, as its SIP server says; each value as it stands in its header. */
    this.origin = {
      assertedIdentity: /** @type {string[]} */ ([]),
      diversion: /** @type {string[]} */ ([]),
      historyInfo: /** @type {string[]} */ ([]),
    };
    /** SDP offer of an incoming call. @type {string|undefined} */
    this.offer = undefined;
    /** @type {string|null} */
    this.codec = null;
    /** Video codec, where the call has video. @type {string|null} */
    this.video = null;
    /** @type {string|null} */
    this.suite = null;
    /** @type {PathView|null} */
    this.toSip = null;
    /** @type {PathView|null} */
    this.toBrowser = null;
    /** @type {Date|null} */
    this.connectedAt = null;
    this.handled = Promise.resolve();
    /** The change of the media that runs; the next one waits for it. @type {Promise<unknown>} */
    this.changing = Promise.resolve();
    this.recovering = false;
    /** What the other side sends. */
    this.remoteStream = new MediaStream();
    this.peer = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require', iceServers: session.iceServers, ...session.rtc });
    this.peer.addEventListener('track', ({ track }) => {
      this.remoteStream.addTrack(track);
      this.dispatchEvent(new CausewayEvent('track', { track, stream: this.remoteStream }));
    });
    this.peer.addEventListener('connectionstatechange', () => {
      if (this.peer.connectionState === 'failed') this.recover();
    });
    this.stream = stream;
    if (stream) this.addTracks(stream);
  }

  /** @param {MediaStream} stream */
  addTracks(stream) {
    this.stream = stream;
    for (const track of stream.getTracks()) this.peer.addTrack(track, stream);
  }

  /** Whether an incoming call offers video. */
  get offersVideo() {
    return /^m=video [1-9]/m.test(this.offer || '');
  }

  /** @returns {string} */
  get path() {
    return `${this.session.path}/calls/${this.id}`;
  }

  /** @param {string} id */
  adopt(id) {
    this.id = id;
    this.session.calls.set(id, this);
  }

  /**
   * Takes an incoming call. Video that is offered is received in any case, and sent where `options` say so.
   * @param {Media} [options]
   */
  async answer(options = {}) {
    const stream = options.stream || (await openDevices(options));
    // The microphone can take its time, for one to ask the user for it.
    if (this.state !== 'incoming') {
      if (!options.stream) for (const track of stream.getTracks()) track.stop();
      throw new Error(`the call cannot be answered: it is ${this.state}`);
    }
    this.addTracks(stream);
    await this.peer.setRemoteDescription({ type: 'offer', sdp: this.offer });
    await this.peer.setLocalDescription(await this.peer.createAnswer());
    this.setState('connecting');
    await this.session.api.json('POST', `${this.path}/answer`, { answer: this.description() });
  }

  /**
   * Refuses an incoming call, which is over as soon as the gateway has heard of it.
   * @param {number} [status] SIP status.
   */
  async reject(status = 486) {
    if (this.state === 'ended') return;
    await this.session.api.json('POST', `${this.path}/reject`, { status }).catch((error) => {
      if (error.status !== 404) throw error;
    });
    this.finish({ by: 'browser', status, reason: 'refused by the page' });
  }

  /** Ends the call. */
  async hangUp() {
    if (this.state === 'ended') return;
    await this.session.api.json('DELETE', this.path).catch((error) => {
      if (error.status !== 404) throw error;
    });
    this.finish({ by: 'browser', status: null, reason: 'hung up' });
  }

  /**
   * Turns the microphone off or on; others who follow the session are told.
   * @param {boolean} muted
   */
  mute(muted) {
    this.muted = muted;
    this.sendOrNot();
    this.dispatchEvent(new CausewayEvent('state', { state: this.state }));
    // What others see of it may be late or lost; the microphone is off in any case.
    if (this.id) this.session.api.json('POST', `${this.path}/mute`, { muted }).catch(() => null);
  }

  /** A track that is off sends silence or black. */
  sendOrNot() {
    for (const track of this.stream?.getTracks() || []) {
      track.enabled = !this.onHold && !(track.kind === 'audio' && this.muted);
    }
  }

  /** Holds the call: the other party hears nothing of this page, and the page nothing of it. */
  hold() {
    return this.setHold(true);
  }

  /** Takes the call back from hold. */
  resume() {
    return this.setHold(false);
  }

  /** @param {boolean} onHold */
  setHold(onHold) {
    return this.change(async () => {
      if (this.onHold === onHold) return;
      const used = this.peer.getTransceivers().filter(({ currentDirection }) => currentDirection && currentDirection !== 'stopped');
      const before = used.map(({ direction }) => direction);
      for (const transceiver of used) {
        const sends = transceiver.sender.track !== null;
        if (onHold) transceiver.direction = sends ? 'sendonly' : 'inactive';
        else transceiver.direction = sends ? 'sendrecv' : 'recvonly';
      }
      try {
        await this.renegotiate();
      } catch (error) {
        used.forEach((transceiver, index) => { transceiver.direction = before[index]; });
        throw error;
      }
      this.onHold = onHold;
      this.sendOrNot();
      this.dispatchEvent(new CausewayEvent('state', { state: this.state }));
    });
  }

  /**
   * Sends tones by RFC 4733, in the media.
   * @param {string} tones `0-9 * # A-D`, and `,` for a pause.
   * @param {number} [durationMs] 70 to 6000.
   */
  dtmf(tones, durationMs = 160) {
    const sender = this.peer.getSenders().find(({ track }) => track?.kind === 'audio');
    if (!sender?.dtmf?.canInsertDTMF) throw new Error('this call carries no telephone-event');
    sender.dtmf.insertDTMF(tones, durationMs, 70);
  }

  /**
   * Has the gateway send digits by SIP INFO, for servers that do not listen to the media; `dtmfsent` tells what each was answered.
   * @param {string} digits 1 to 32 of `0-9 * # A-D`.
   * @param {{durationMs?: number, gapMs?: number}} [times]
   * @returns {Promise<void>}
   */
  sendDigits(digits, { durationMs, gapMs } = {}) {
    return this.session.api.json('POST', `${this.path}/dtmf`, { digits, duration_ms: durationMs, gap_ms: gapMs });
  }

  /**
   * Sends data to the SIP side inside the call (INFO); `infosent` tells what it was answered.
   * @param {Content} content
   * @returns {Promise<void>}
   */
  sendInfo({ contentType, body }) {
    return this.session.api.json('POST', `${this.path}/info`, { content_type: contentType, body });
  }

  /**
   * Sends the other party to somebody else; `transfer` tells how it goes.
   * @param {string|Call} target Blind: an address. Attended: an answered call of the same session, whose party it is.
   * @returns {Promise<void>}
   */
  transfer(target) {
    const body = target instanceof Call ? { call: target.id } : { to: target };
    return this.session.api.json('POST', `${this.path}/transfer`, body);
  }

  /**
   * Answers `refer`: whether the party that it names is called.
   * @param {boolean} accept
   * @returns {Promise<void>}
   */
  answerRefer(accept) {
    return this.session.api.json('POST', `${this.path}/refer`, { accept });
  }

  /** ICE restart: after a change of network, without a new DTLS handshake. */
  restart() {
    return this.change(() => this.renegotiate({ iceRestart: true }));
  }

  /** Restarts ICE until media flows again, or the gateway has given the call up. */
  async recover() {
    if (this.recovering) return;
    this.recovering = true;
    while (this.state !== 'ended' && this.peer.connectionState === 'failed') {
      await this.restart().catch(() => null);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.recovering = false;
  }

  /**
   * Turns the camera on or off within the call; the other side is asked where the call had no video yet.
   * @param {MediaTrackConstraints|boolean} video
   */
  showVideo(video) {
    return this.change(async () => {
      const transceiver = this.peer.getTransceivers()
        .find(({ receiver, currentDirection }) => receiver.track.kind === 'video' && currentDirection !== 'stopped');
      const old = transceiver?.sender.track;
      if (video) {
        const [track] = (await openDevices({ audio: false, video })).getVideoTracks();
        this.stream?.addTrack(track);
        if (transceiver) {
          await transceiver.sender.replaceTrack(track);
          transceiver.direction = 'sendrecv';
        } else this.peer.addTransceiver(track, { direction: 'sendrecv', streams: this.stream ? [this.stream] : [] });
      } else if (transceiver) {
        await transceiver.sender.replaceTrack(null);
        transceiver.direction = 'recvonly';
      }
      if (old) {
        old.stop();
        this.stream?.removeTrack(old);
      }
      await this.renegotiate();
      this.video = (await this.view()).video ?? null;
    });
  }

  /**
   * One change of the media after the other: two offers at once would undo each other.
   * @param {() => Promise<void>} work
   * @returns {Promise<void>}
   */
  change(work) {
    const done = this.changing.then(() => (this.state === 'ended' ? undefined : work()));
    this.changing = done.catch(() => null);
    return done;
  }

  /** @param {RTCOfferOptions} [options] */
  async renegotiate(options) {
    await this.peer.setLocalDescription(await this.peer.createOffer(options));
    try {
      const offer = { offer: this.description() };
      // Nobody has to be asked about a restart; a change of the media may wait for the other side.
      const limit = options?.iceRestart ? { signal: AbortSignal.timeout(OFFER_MS) } : {};
      const { answer } = await this.session.api.json('POST', `${this.path}/offer`, offer, limit);
      await this.peer.setRemoteDescription({ type: 'answer', sdp: answer });
    } catch (error) {
      // What was refused, or never arrived, must not stand in the way of the next offer.
      if (this.peer.signalingState === 'have-local-offer') await this.peer.setLocalDescription({ type: 'rollback' });
      throw error;
    }
  }

  /**
   * The other side adds video: it is taken, and the own camera stays off until `showVideo`.
   * @param {string} offer
   */
  async takeOffer(offer) {
    await this.peer.setRemoteDescription({ type: 'offer', sdp: offer });
    try {
      await this.peer.setLocalDescription(await this.peer.createAnswer());
      await this.session.api.json('POST', `${this.path}/answer`, { answer: this.description() });
    } catch (error) {
      if (this.peer.signalingState === 'have-remote-offer') await this.peer.setRemoteDescription({ type: 'rollback' });
      throw error;
    }
    this.video = (await this.view()).video ?? null;
    this.dispatchEvent(new CausewayEvent('video', { video: this.video }));
  }

  /**
   * The callee's offer, on a call that was placed without one. Video that it has is received in any case.
   * @param {string} offer
   * @param {boolean} early The callee has not picked up yet.
   */
  async answerCallee(offer, early) {
    try {
      await this.peer.setRemoteDescription({ type: 'offer', sdp: offer });
      await this.peer.setLocalDescription(await this.peer.createAnswer());
      await this.session.api.json('POST', `${this.path}/answer`, { answer: this.description() });
    } catch (error) {
      // Nobody shall wait for an answer that does not come.
      await this.hangUp();
      throw error;
    }
    if (early) this.dispatchEvent(new CausewayEvent('early'));
  }

  /** @returns {string} The page's description of the call, which is set already. */
  description() {
    return this.peer.localDescription?.sdp ?? '';
  }

  /** @returns {Promise<any>} The gateway's view of the call. */
  view() {
    return this.session.api.json('GET', this.path);
  }

  /** @returns {Promise<LiveStatistics>} */
  async statistics() {
    const report = [...(await this.peer.getStats()).values()];
    const find = (/** @type {string} */ type) => report.find((entry) => entry.type === type && entry.kind !== 'video') || {};
    const inbound = find('inbound-rtp');
    const outbound = find('outbound-rtp');
    const remote = find('remote-inbound-rtp');
    const transport = find('transport');
    /** @type {Record<string, string>} */
    const versions = { FEFD: '1.2', FEFC: '1.3' };
    const milliseconds = (/** @type {number|undefined} */ seconds) => (seconds === undefined ? null : seconds * 1000);
    return {
      roundTripMs: milliseconds(remote.roundTripTime),
      jitterMs: milliseconds(inbound.jitter),
      lost: inbound.packetsLost ?? 0,
      received: inbound.packetsReceived ?? 0,
      sent: outbound.packetsSent ?? 0,
      audioLevel: inbound.audioLevel ?? 0,
      audioEnergy: inbound.totalAudioEnergy ?? 0,
      codec: this.codec,
      video: this.video ? videoStatistics(report, this.video) : null,
      suite: transport.srtpCipher || this.suite,
      dtls: versions[transport.tlsVersion] || null,
      toSip: this.toSip,
      toBrowser: this.toBrowser,
    };
  }

  /**
   * Takes an event of the gateway; they are worked off one after the other, in order.
   * @param {any} event
   */
  handle(event) {
    this.handled = this.handled.then(() => this.process(event)).catch((error) => {
      console.error('causeway:', event.type, error);
    });
  }

  /** @param {any} event */
  async process(event) {
    switch (event.type) {
      case 'call.ringing':
        if (this.state === 'calling') this.setState('ringing');
        this.dispatchEvent(new CausewayEvent('ringing', { status: event.status }));
        return;
      case 'call.answer':
        await this.peer.setRemoteDescription({ type: 'answer', sdp: event.answer });
        if (event.early) this.dispatchEvent(new CausewayEvent('early'));
        return;
      case 'call.answered':
        if (this.connectedAt) this.setState('connected');
        else this.setState('connecting');
        this.dispatchEvent(new CausewayEvent('answered'));
        return;
      case 'call.connected':
        this.codec = event.codec;
        this.video = event.video ?? null;
        this.suite = event.suite;
        this.connectedAt = new Date();
        [this.toSip, this.toBrowser] = [event.to_sip, event.to_browser];
        if (this.state !== 'ringing') this.setState('connected');
        this.dispatchEvent(new CausewayEvent('connected'));
        return;
      case 'call.path':
        [this.toSip, this.toBrowser] = [event.to_sip, event.to_browser];
        this.dispatchEvent(new CausewayEvent('path'));
        return;
      case 'call.offer':
        if (this.peer.currentRemoteDescription) await this.change(() => this.takeOffer(event.offer));
        else await this.answerCallee(event.offer, event.early ?? false);
        return;
      case 'call.held':
        this.held = event.held;
        this.dispatchEvent(new CausewayEvent('held', { held: event.held }));
        return;
      case 'call.dtmf':
        this.dispatchEvent(new CausewayEvent('dtmf', { digit: event.digit, durationMs: event.duration_ms }));
        return;
      case 'call.dtmf_sent':
        this.dispatchEvent(new CausewayEvent('dtmfsent', { digit: event.digit, status: event.status }));
        return;
      case 'call.info':
        this.dispatchEvent(new CausewayEvent('info', { contentType: event.content_type, body: event.body }));
        return;
      case 'call.info_sent':
        this.dispatchEvent(new CausewayEvent('infosent', { status: event.status }));
        return;
      case 'call.muted':
        this.dispatchEvent(new CausewayEvent('muted', { muted: event.muted }));
        return;
      case 'call.control':
        this.dispatchEvent(new CausewayEvent('control', { control: event.control }));
        return;
      case 'call.refer': {
        const { to, referred_by: referredBy, attended } = event;
        this.dispatchEvent(new CausewayEvent('refer', { to, referredBy, attended }));
        return;
      }
      case 'call.party':
        [this.remote, this.peerName] = [event.peer, event.name || null];
        this.dispatchEvent(new CausewayEvent('party', { remote: this.remote, name: this.peerName }));
        return;
      case 'call.transfer':
        this.dispatchEvent(new CausewayEvent('transfer', { status: event.status, reason: event.reason, over: event.over }));
        return;
      case 'call.ended':
        this.finish(event);
        return;
      default:
    }
  }

  /** @param {Call['state']} state */
  setState(state) {
    if (this.state === 'ended' || this.state === state) return;
    this.state = state;
    this.dispatchEvent(new CausewayEvent('state', { state }));
  }

  /**
   * @param {{by: string, status: number|null, reason: string,
   *   causes?: {protocol: string, code: number|null, text: string|null}[]}} how
   */
  finish({ by, status, reason, causes = [] }) {
    if (this.state === 'ended') return;
    this.setState('ended');
    if (this.id) this.session.calls.delete(this.id);
    for (const track of this.stream?.getTracks() || []) track.stop();
    this.peer.close();
    this.dispatchEvent(new CausewayEvent('ended', { by, status, reason, causes }));
  }
}

/**
 * @param {Media} options
 * @returns {Promise<MediaStream>}
 */
function openDevices({ audio = true, video = false }) {
  if (!navigator.mediaDevices) throw new Error('the page needs HTTPS or localhost for the microphone');
  return navigator.mediaDevices.getUserMedia({ audio, video });
}

/** A task after those that are queued, without the delay of a hidden page's timers. @returns {Promise<void>} */
function nextTask() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

/**
 * @param {any[]} report
 * @param {string} codec
 * @returns {VideoStatistics}
 */
function videoStatistics(report, codec) {
  const find = (/** @type {string} */ type) => report.find((entry) => entry.type === type && entry.kind === 'video') || {};
  const [inbound, outbound] = [find('inbound-rtp'), find('outbound-rtp')];
  return {
    codec,
    received: inbound.packetsReceived ?? 0,
    sent: outbound.packetsSent ?? 0,
    lost: inbound.packetsLost ?? 0,
    framesDecoded: inbound.framesDecoded ?? 0,
    framesSent: outbound.framesSent ?? 0,
  };
}

/**
 * @param {string} gateway
 * @returns {Promise<import('./socket.js').SocketApi>}
 */
async function openSocket(gateway) {
  const { SocketApi } = await import('./socket.js');
  const api = new SocketApi(gateway, Problem);
  await api.signIn();
  return api;
}

/** The way in. */
export const Causeway = {
  /**
   * Signs in; with a password the gateway registers the user at the SIP server first.
   * @param {SignIn} [who]
   * @returns {Promise<Session>}
   */
  async signIn({
    user, password, token, displayName, noAnswerSeconds, rtc = {}, gateway = globalThis.location?.origin ?? '', credentials = 'same-origin',
    transport = 'http',
  } = {}) {
    const api = transport === 'websocket' ? await openSocket(gateway) : new Api(gateway, credentials);
    api.token = token ?? null;
    const body = { user, password, display_name: displayName, no_answer_s: noAnswerSeconds, takes_offers: true };
    try {
      const created = await api.json('POST', '/sessions', body);
      api.token = created.token;
      return new Session(api, created, rtc);
    } catch (error) {
      api.drop();
      throw error;
    }
  },
};

export default Causeway;
