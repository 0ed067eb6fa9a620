/**
 * The lines of an agent: several calls at once, of which at most one is talked on. Knows nothing of the document.
 *
 * Events: `change` {call} when anything of a line or the list changed, `ended` {call, how}, `said` {text} for what has to be announced.
 */
import { Causeway } from '/causeway.js';

const STATES = {
  calling: 'calling', ringing: 'ringing', incoming: 'incoming call', connecting: 'connecting', connected: 'in call', ended: 'ended',
};

/**
 * What a line is doing, in words.
 * @param {any} call
 */
export function stateOf(call) {
  if (call.onHold && call.held) return 'on hold on both sides';
  if (call.onHold) return 'on hold';
  if (call.held) return 'held by the other side';
  return STATES[call.state] + (call.muted ? ', muted' : '');
}

/** @param {any} call */
export const nameOf = (call) => call.peerName || call.remote.replace(/^sip:/, '');

class DeskEvent extends Event {
  /**
   * @param {string} type
   * @param {object} fields
   */
  constructor(type, fields) {
    super(type);
    Object.assign(this, fields);
  }
}

/**
 * Whether a line is talked on: answered, with media, and not on hold by us.
 * @param {any} call
 */
const talks = (call) => call.state === 'connected' && !call.onHold;

export class Desk extends EventTarget {
  constructor() {
    super();
    /** @type {any} */
    this.session = null;
    /** Calls in the order in which they came. @type {any[]} */
    this.lines = [];
    /** The line that the controls are about. @type {any} */
    this.selected = null;
    /** Ended calls, as their `ended` events told. @type {object[]} */
    this.ended = [];
  }

  /** @param {{user?: string, password?: string, transport?: any}} who */
  async signIn(who) {
    const session = await Causeway.signIn(who);
    this.session = session;
    session.addEventListener('incoming', ({ call }) => {
      this.add(call);
      this.say(`Incoming call from ${nameOf(call)} on line ${this.lines.length}: A answers, R rejects`);
      // Whoever talks goes on talking: the new line only shows.
      if (!this.selected) this.select(call);
    });
    session.addEventListener('ended', () => {
      this.session = null;
    });
    return session;
  }

  /**
   * Calls somebody; who is talked to meanwhile is held.
   * @param {string} to
   * @param {object} options
   */
  async dial(to, options) {
    await this.holdOthers(null);
    const call = await this.session.call(to, options);
    this.add(call);
    this.select(call);
  }

  /** @param {any} call */
  add(call) {
    this.lines.push(call);
    for (const type of ['state', 'connected', 'path', 'track', 'muted', 'refer']) {
      call.addEventListener(type, () => this.changed(call));
    }
    call.addEventListener('connected', () => this.say(`${nameOf(call)}: in call`));
    call.addEventListener('state', () => this.settle(call));
    call.addEventListener('held', ({ held }) => {
      this.say(`${nameOf(call)} ${held ? 'holds the call' : 'is back'}`);
      this.changed(call);
    });
    call.addEventListener('party', () => {
      this.say(`Now with ${nameOf(call)}`);
      this.changed(call);
    });
    call.addEventListener('control', ({ control }) => this.control(call, control));
    call.addEventListener('transfer', (step) => this.transferred(call, step));
    call.addEventListener('ended', (how) => this.finish(call, how));
    this.changed(call);
    if (call.state === 'ended') this.finish(call, { by: 'gateway', status: null, reason: 'ended' });
  }

  /**
   * The server steers the phone.
   * @param {any} call
   * @param {'talk'|'hold'} control
   */
  async control(call, control) {
    if (control === 'talk' && call.state === 'incoming') await this.answer(call, {});
    else if ((control === 'talk') === call.onHold) await this.toggleHold(call);
  }

  /** @param {any} call */
  finish(call, how) {
    if (!this.lines.includes(call)) return;
    this.lines = this.lines.filter((line) => line !== call);
    this.ended.push({ remote: call.remote, by: how.by, status: how.status, reason: how.reason });
    this.say(`${nameOf(call)}: call ended`);
    if (this.selected === call) this.selected = this.talking ?? this.lines[0] ?? null;
    this.dispatchEvent(new DeskEvent('ended', { call, how }));
    this.changed(call);
  }

  /** The line on which is talked. */
  get talking() {
    return this.lines.find(talks) ?? null;
  }

  /** Selects the call that waits for an answer; the selected one, if it does. */
  selectWaiting() {
    if (this.selected?.state === 'incoming') return;
    const waiting = this.lines.find(({ state }) => state === 'incoming');
    if (waiting) this.select(waiting);
  }

  /**
   * Of two calls that are answered while both rang, the agent talks on the selected one.
   * @param {any} call
   */
  async settle(call) {
    if (!talks(call) || !this.lines.some((line) => line !== call && talks(line))) return;
    try {
      if (call === this.selected) await this.holdOthers(call);
      else await call.hold();
    } catch (error) {
      this.say(error.message);
    }
    this.changed(call);
  }

  /** @param {any} call */
  select(call) {
    this.selected = call;
    this.changed(call);
  }

  /**
   * @param {any} call
   * @param {object} options
   */
  async answer(call, options) {
    await this.holdOthers(call);
    this.select(call);
    await call.answer(options);
  }

  /** @param {any} call */
  async toggleHold(call) {
    if (call.onHold) {
      await this.holdOthers(call);
      await call.resume();
    } else await call.hold();
    this.say(`${nameOf(call)}: ${stateOf(call)}`);
    this.changed(call);
  }

  /** @param {any} call */
  async holdOthers(call) {
    const others = this.lines.filter((line) => line !== call && talks(line));
    await Promise.all(others.map((line) => line.hold()));
    for (const line of others) this.changed(line);
  }

  /** @param {any} call */
  toggleMute(call) {
    call.mute(!call.muted);
    this.say(call.muted ? 'Microphone off' : 'Microphone on');
    this.changed(call);
  }

  /** @param {any} call */
  async toggleVideo(call) {
    await call.showVideo(!Desk.shows(call));
    this.say(Desk.shows(call) ? 'Camera on' : 'Camera off');
    this.changed(call);
  }

  /**
   * Whether the page's camera is on in this call.
   * @param {any} call
   */
  static shows(call) {
    return Boolean(call.stream?.getVideoTracks().length);
  }

  /**
   * @param {any} call
   * @param {any} target An address, or another line.
   */
  async transfer(call, target) {
    await call.transfer(target);
    this.say(`Transfer of ${nameOf(call)} asked for`);
  }

  /** How a transfer goes: who was sent away successfully needs us no more. */
  transferred(call, { status, reason, over }) {
    this.say(`Transfer: ${status} ${reason}`);
    if (over && status >= 200 && status < 300 && call.state !== 'ended') call.hangUp().catch(() => null);
  }

  /** @param {any} call */
  changed(call) {
    this.dispatchEvent(new DeskEvent('change', { call }));
  }

  /** @param {string} text */
  say(text) {
    this.dispatchEvent(new DeskEvent('said', { text }));
  }
}
