/** Types of causeway.js, the browser side of a Causeway gateway. What each member does stands in the module itself. */

export interface SignIn {
  /** SIP user or address; for a guest the name that is shown. */
  user?: string;
  /** SIP password; without one the session is a guest's, or that of the token. */
  password?: string;
  /** JWT that names the user, where the gateway takes such. */
  token?: string;
  /** Name shown to the other party. */
  displayName?: string;
  /** Calls that nobody answers end after so many seconds. */
  noAnswerSeconds?: number;
  /** Base URL of the gateway; default: where the page came from. */
  gateway?: string;
  /** `include` sends cookies to a gateway of another origin: where a balancer before several gateways needs one. */
  credentials?: RequestCredentials;
  /** What requests and events go over: HTTP requests and an event stream, which is the default, or one WebSocket. */
  transport?: 'http' | 'websocket';
  /** What the calls' connections shall have beside the gateway's own: certificates, a transport policy. */
  rtc?: RTCConfiguration;
}

export interface Media {
  /** What to send, opened by the page itself. */
  stream?: MediaStream;
  /** Microphone; on where nothing is said. */
  audio?: MediaTrackConstraints | boolean;
  /** Camera; off where nothing is said. */
  video?: MediaTrackConstraints | boolean;
}

export interface Header {
  name: string;
  value: string;
}

export interface Sent {
  /** Headers for the INVITE, of those that the operator lets pages send. */
  headers?: Header[];
  /** What the callee gets with the call: at most 32 pairs. */
  data?: Record<string, string>;
  /** The callee chooses what is spoken: it makes the offer, and the page answers by itself. */
  withoutOffer?: boolean;
}

export interface Content {
  /** Media type. */
  contentType: string;
  body: string;
}

export interface PathView {
  path: 'xdp-native' | 'xdp-generic' | 'userspace';
  /** Why that one. */
  reason: string;
}

export interface VideoStatistics {
  codec: string | null;
  received: number;
  sent: number;
  lost: number;
  framesDecoded: number;
  framesSent: number;
}

export interface LiveStatistics {
  roundTripMs: number | null;
  jitterMs: number | null;
  lost: number;
  received: number;
  sent: number;
  /** 0 to 1. */
  audioLevel: number;
  audioEnergy: number;
  codec: string | null;
  video: VideoStatistics | null;
  suite: string | null;
  dtls: string | null;
  toSip: PathView | null;
  toBrowser: PathView | null;
}

/** Where an incoming call comes from; each value as it stands in its header. */
export interface Origin {
  assertedIdentity: string[];
  diversion: string[];
  historyInfo: string[];
}

/** Why a call ended, as the SIP side says (RFC 3326). */
export interface Cause {
  protocol: string;
  code: number | null;
  text: string | null;
}

export interface Ending {
  by: 'browser' | 'sip' | 'gateway';
  status: number | null;
  reason: string;
  causes: Cause[];
}

export type CallState = 'new' | 'calling' | 'ringing' | 'incoming' | 'connecting' | 'connected' | 'ended';

/** Fields of the events of a session, by their types. */
export interface SessionEvents {
  incoming: { call: Call };
  registered: { expires_s: number };
  registrationfailed: { status: number; reason: string };
  offline: {};
  online: {};
  message: Content & { from: string; fromName: string | null; call: Call | null };
  messageswaiting: { waiting: boolean; account: string | null; fresh: number; old: number };
  ended: { reason: string };
}

/** Fields of the events of a call, by their types. */
export interface CallEvents {
  state: { state: CallState };
  ringing: { status: number };
  early: {};
  answered: {};
  connected: {};
  path: {};
  held: { held: boolean };
  /** The other side added video, or was refused: the codec. */
  video: { video: string | null };
  track: { track: MediaStreamTrack; stream: MediaStream };
  dtmf: { digit: string; durationMs: number };
  dtmfsent: { digit: string; status: number };
  info: Content;
  infosent: { status: number };
  muted: { muted: boolean };
  control: { control: 'talk' | 'hold' };
  refer: { to: string; referredBy: string | null; attended: boolean };
  party: { remote: string; name: string | null };
  transfer: { status: number; reason: string; over: boolean };
  ended: Ending;
}

/** An event target whose listeners know the fields of their events. */
export interface Source<Events> {
  addEventListener<Type extends keyof Events>(
    type: Type,
    listener: (event: Event & Events[Type]) => void,
    options?: AddEventListenerOptions | boolean,
  ): void;
  removeEventListener<Type extends keyof Events>(
    type: Type,
    listener: (event: Event & Events[Type]) => void,
    options?: EventListenerOptions | boolean,
  ): void;
  dispatchEvent(event: Event): boolean;
}

/** A refused request. */
export class Problem extends Error {
  /** HTTP status. */
  status: number;
  /** Machine-readable type of the problem document (RFC 9457). */
  kind: string;
  title: string;
  /** Seconds after which another try makes sense. */
  retryAfter: number | undefined;
  /** With 409: where the call stands instead. */
  state: string | undefined;
  /** With 409: who holds the call: `page`, `sip` or `both`. */
  hold: string | undefined;
}

/** A signed-in user or guest; made by `Causeway.signIn`. */
export interface Session extends Source<SessionEvents> {}
export class Session {
  private constructor();
  id: string;
  address: string;
  registered: boolean;
  /** STUN and TURN servers that the operator has for pages. */
  iceServers: RTCIceServer[];
  /** What `SignIn.rtc` says of the connections of the calls. */
  rtc: RTCConfiguration;
  closed: boolean;
  calls: Map<string, Call>;
  call(to: string, options?: Media & Sent): Promise<Call>;
  send(to: string, body: string, contentType?: string): Promise<{ status: number; reason: string }>;
  view(): Promise<any>;
  signOut(): Promise<void>;
}

/** One call; made by `Session.call` and by the event `incoming`. */
export interface Call extends Source<CallEvents> {}
export class Call {
  private constructor();
  session: Session;
  direction: 'outgoing' | 'incoming';
  remote: string;
  peerName: string | null;
  id: string | null;
  state: CallState;
  muted: boolean;
  /** Whether the other side holds the call. */
  held: boolean;
  /** Whether this page holds the call. */
  onHold: boolean;
  codec: string | null;
  video: string | null;
  suite: string | null;
  toSip: PathView | null;
  toBrowser: PathView | null;
  connectedAt: Date | null;
  headers: Header[];
  data: Record<string, string>;
  origin: Origin;
  stream: MediaStream | null;
  remoteStream: MediaStream;
  peer: RTCPeerConnection;
  get offersVideo(): boolean;
  answer(options?: Media): Promise<void>;
  reject(status?: number): Promise<void>;
  hangUp(): Promise<void>;
  hold(): Promise<void>;
  resume(): Promise<void>;
  mute(muted: boolean): void;
  dtmf(tones: string, durationMs?: number): void;
  sendDigits(digits: string, times?: { durationMs?: number; gapMs?: number }): Promise<void>;
  sendInfo(content: Content): Promise<void>;
  transfer(target: string | Call): Promise<void>;
  answerRefer(accept: boolean): Promise<void>;
  restart(): Promise<void>;
  showVideo(video: MediaTrackConstraints | boolean): Promise<void>;
  view(): Promise<any>;
  statistics(): Promise<LiveStatistics>;
}

export const Causeway: {
  signIn(who?: SignIn): Promise<Session>;
};

export default Causeway;
