// The module, by its own comments, has every member that causeway.d.ts promises, of a type that fits.
import * as Declared from './declared/causeway';
import * as Written from './written/causeway.js';

declare const session: Written.Session;
declare const call: Written.Call;
declare const problem: Written.Problem;

type Fields<Type> = { [Key in keyof Type]: Type[Key] };
/** Where a member is a call or a session itself, it is compared by its own. */
type Others = 'calls' | 'call' | 'session' | 'transfer' | 'addEventListener' | 'removeEventListener';

export const sessions: Omit<Fields<Declared.Session>, Others> = session;
export const calls: Omit<Fields<Declared.Call>, Others | 'direction' | 'state'> = call;
export const problems: Fields<Declared.Problem> = problem;
export const state: Declared.CallState = call.state;
export const direction: Declared.Call['direction'] = call.direction;
export const others = [session.calls, session.call, call.session, call.transfer];

type Given<Method extends (...given: never[]) => unknown> = Parameters<Method>;
export const placed: Given<Written.Session['call']> = [] as unknown as Given<Declared.Session['call']>;
export const answered: Given<Written.Call['answer']> = [] as unknown as Given<Declared.Call['answer']>;
export const dialled: Given<Written.Call['sendDigits']> = [] as unknown as Given<Declared.Call['sendDigits']>;
export const signedIn: Given<typeof Written.Causeway.signIn> = [] as unknown as Given<typeof Declared.Causeway.signIn>;
