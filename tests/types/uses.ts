// A page in TypeScript that uses everything; what it must not do is marked, and has to be an error.
import Causeway, { Call, Problem, Session } from './declared/causeway';

export async function work(stream: MediaStream): Promise<void> {
  const session: Session = await Causeway.signIn({ user: 'alice', password: 'secret', noAnswerSeconds: 20 });
  await Causeway.signIn({ token: 'header.claims.signature', gateway: 'https://gateway.example.org', credentials: 'include' });
  await Causeway.signIn({ transport: 'websocket' });
  session.addEventListener('incoming', ({ call }) => take(call));
  session.addEventListener('message', ({ from, fromName, body, call }) => console.log(from, fromName, body, call?.id));
  session.addEventListener('messageswaiting', ({ waiting, fresh }) => console.log(waiting, fresh.toFixed()));
  session.addEventListener('ended', ({ reason }) => console.log(reason.length));
  const { status } = await session.send('bob', 'hello');
  const call = await session.call('bob', { video: true, headers: [{ name: 'X-Ticket', value: '7' }], data: { ticket: '7' } });
  const other = await session.call('carol', { stream, withoutOffer: true });
  await call.hold();
  await call.resume();
  call.mute(true);
  call.dtmf('12#', 100);
  await call.sendDigits('12#', { durationMs: 100, gapMs: 50 });
  await call.sendInfo({ contentType: 'text/plain', body: 'hello' });
  await call.showVideo({ width: 640 });
  await call.restart();
  await call.transfer('sip:dave@example.org');
  await call.transfer(other);
  const now = await call.statistics();
  console.log(status + 1, now.video?.framesDecoded, now.toSip?.path === 'xdp-native', call.onHold && call.held);
  await other.hangUp().catch((error: unknown) => error instanceof Problem && error.state);
  await session.signOut();
}

async function take(call: Call): Promise<void> {
  call.addEventListener('dtmf', ({ digit, durationMs }) => console.log(digit.length, durationMs + 1));
  call.addEventListener('transfer', ({ status, reason, over }) => console.log(status + 1, reason.length, over));
  call.addEventListener('refer', ({ to }) => call.answerRefer(to.endsWith('@example.org')));
  call.addEventListener('ended', ({ causes }) => causes.map(({ code, text }) => [code, text]));
  console.log(call.origin.assertedIdentity.length, call.data['ticket'], call.headers[0]?.value);
  await (call.offersVideo ? call.answer({ video: true }) : call.reject(486));
}

export function wrong(session: Session, call: Call): void {
  // @ts-expect-error: no such event
  session.addEventListener('incomming', () => null);
  // @ts-expect-error: no such field
  call.addEventListener('dtmf', ({ duration }) => duration);
  // @ts-expect-error: one address or call has to be named
  void call.transfer();
  // @ts-expect-error: no such transport
  void Causeway.signIn({ transport: 'carrier pigeon' });
  // @ts-expect-error: only a session makes calls
  new Call();
}
