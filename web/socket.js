/**
 * causeway.js over one WebSocket: API v1 with requests and events as frames of `/api/v1/socket`. Loaded where a page signs in with
 * `transport: 'websocket'`.
 *
 * @module causeway/socket
 */

/** The subprotocol. */
const PROTOCOL = 'causeway.v1';
/** Milliseconds that a request waits for a socket to be sent over. */
const WAIT_MS = 10000;

/**
 * @typedef {object} Asked
 * @property {string} frame The request.
 * @property {boolean} sent Whether a socket took it.
 * @property {(body: any) => void} resolve
 * @property {(error: unknown) => void} reject
 */

/** Requests and events of one session, with its token. */
export class SocketApi {
  /**
   * @param {string} gateway
   * @param {typeof import('./causeway.js').Problem} Problem What a refused request is rejected with.
   */
  constructor(gateway, Problem) {
    this.url = `${gateway.replace(/^http/, 'ws').replace(/\/$/, '')}/api/v1/socket`;
    this.Problem = Problem;
    /** Before the sign-in a JWT, where there is one; then the session's. @type {string|null} */
    this.token = null;
    /** @type {WebSocket|null} */
    this.socket = null;
    /** Whether requests may be sent: a socket that has just been opened belongs to no session yet. */
    this.ready = false;
    this.number = 0;
    /** Requests without a response. @type {Map<number, Asked>} */
    this.asked = new Map();
    /** @type {import('./causeway.js').Session|null} */
    this.session = null;
    /** Called when the socket is over. @type {(value?: any) => void} */
    this.over = () => undefined;
    this.ended = Promise.resolve();
  }

  /** Opens a socket for a sign-in. */
  async signIn() {
    await this.open();
    this.ready = true;
  }

  /**
   * A request; it waits for a socket while there is none. Over a socket that breaks before the response, what became of it is not known.
   * @param {string} method
   * @param {string} path
   * @param {object} [body]
   * @param {{signal?: AbortSignal|null, first?: boolean}} [more] `first`: a new socket gets it before all that waits.
   * @returns {Promise<any>}
   */
  async json(method, path, body, { signal, first } = {}) {
    signal?.throwIfAborted();
    this.number += 1;
    const id = this.number;
    const frame = JSON.stringify({ id, method, path: `/api/v1${path}`, body, token: this.token ?? undefined });
    const aborted = () => this.asked.get(id)?.reject(signal?.reason);
    signal?.addEventListener('abort', aborted);
    const timer = setTimeout(() => {
      const asked = this.asked.get(id);
      if (!asked?.sent) asked?.reject(new TypeError('the gateway cannot be reached'));
    }, WAIT_MS);
    try {
      return await new Promise((resolve, reject) => {
        const asked = { frame, sent: false, resolve, reject };
        this.asked.set(id, asked);
        if (this.ready || first) this.send(asked);
      });
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
      this.asked.delete(id);
    }
  }

  /** @param {Asked} asked */
  send(asked) {
    this.socket?.send(asked.frame);
    asked.sent = true;
  }

  /** @returns {Promise<void>} */
  open() {
    this.ended = new Promise((resolve) => {
      this.over = resolve;
    });
    return new Promise((resolve, reject) => {
      const socket = new WebSocket(this.url, PROTOCOL);
      this.socket = socket;
      socket.onopen = () => resolve();
      socket.onmessage = ({ data }) => this.take(JSON.parse(data));
      socket.onclose = () => this.drop();
      this.ended.then(() => reject(new TypeError('the gateway cannot be reached')));
    });
  }

  /** @param {any} frame */
  take(frame) {
    this.session?.listenForSilence();
    // Each message is a task of its own: whoever signs in has the session before its first event comes.
    if (frame.event) this.session?.handle(frame.event);
    else if ('status' in frame) {
      const asked = this.asked.get(frame.id);
      if (frame.status < 300) asked?.resolve(frame.body ?? null);
      else asked?.reject(new this.Problem(frame.body));
    }
  }

  /**
   * Hears the events of a session until the socket breaks; opens one first where none is open, and goes on after the last event.
   * @param {import('./causeway.js').Session} session
   * @param {() => void} opened
   */
  async follow(session, opened) {
    const drop = () => this.drop();
    this.session = session;
    session.broken.signal.addEventListener('abort', drop);
    try {
      if (!this.socket) {
        await this.open();
        await this.json('GET', `${session.path}/events?after=${session.lastEvent}`, undefined, { first: true });
        this.ready = true;
        for (const asked of this.asked.values()) if (!asked.sent) this.send(asked);
      }
      opened();
      await this.ended;
    } finally {
      session.broken.signal.removeEventListener('abort', drop);
      this.drop();
    }
  }

  /** The socket is over: at once, whatever the browser still waits for. Requests that were sent over it get no response. */
  drop() {
    const { socket } = this;
    if (!socket) return;
    this.socket = null;
    this.ready = false;
    [socket.onopen, socket.onmessage, socket.onclose] = [null, null, null];
    socket.close();
    for (const { sent, reject } of this.asked.values()) {
      if (sent || this.session?.closed) reject(new TypeError('the connection to the gateway broke'));
    }
    this.over();
  }
}
