// A page of the other browser protocol, as its library speaks it: one hanging poll, texts by POST, the whole candidate set in one go.
// Evaluated in a page of the gateway's own origin, or of another one, with the gateway's in `roap.base` and cookies as `roap.credentials`
// says; the test works it by `window.roap`.
window.roap = (() => {
  const it = { base: '', credentials: 'same-origin', texts: [], polls: 0, gaveUp: 0, over: null, answered: 0, seq: 0, pc: null, heard: [] };
  let ssid = null;
  let theirs = null;
  let stream = null;
  const own = `page-${Math.random().toString(36).slice(2)}`;
  const ask = (path, more = {}) => fetch(it.base + path, { credentials: it.credentials, ...more });
  const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

  it.signIn = async (id, password) => {
    const reply = password === undefined
      ? await ask(`/sign_in?${encodeURIComponent(id)}`)
      : await ask('/sign_in', { method: 'POST', body: `${id}:${password}` });
    if (reply.status !== 200) return reply.status;
    ssid = (await reply.text()).split('\n')[0].replace(/^key=/, '');
    stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    poll();
    return 200;
  };

  // The test says when a poll is given up, as by a page whose network stutters: a text that is in the browser by then is lost in it.
  let patience = new AbortController();
  it.giveUp = () => patience.abort();
  async function poll() {
    while (it.over === null) {
      it.polls += 1;
      patience = new AbortController();
      try {
        const reply = await ask(`/wait?id=${ssid}`, { signal: AbortSignal.any([patience.signal, AbortSignal.timeout(10000)]) });
        if (reply.status !== 200) {
          it.over = reply.status;
          return;
        }
        const body = await reply.text();
        if (body) await take(reply.headers.get('Pragma'), body);
      } catch {
        it.gaveUp += 1;
      }
    }
  }

  async function take(peer, body) {
    it.texts.push({ peer, body });
    if (!body.startsWith('SDP ')) return;
    const message = JSON.parse(body.slice(4));
    it.heard.push(message);
    if (message.messageType === 'ANSWER') {
      theirs = message.answererSessionId;
      await it.pc.setRemoteDescription({ type: 'answer', sdp: message.sdp });
      before?.close();
      before = null;
      it.answered += 1;
      await it.send(peer, `RSMP ${JSON.stringify({
        messageType: 'OK',
        offererSessionId: message.offererSessionId,
        answererSessionId: message.answererSessionId,
        seq: message.seq,
      })}`);
    } else if (message.messageType === 'OFFER') it.offered = { peer, ...message };
  }

  it.send = async (peer, body) => {
    const path = `/message?from=${ssid}&to=${encodeURIComponent(peer === 'self' ? ssid : peer)}`;
    return (await ask(path, { method: 'POST', body })).status;
  };

  // The connection before is closed when the new one has its answer: one that is closed within a call ends it.
  let before = null;
  function connect() {
    before = it.pc;
    it.pc = new RTCPeerConnection();
    for (const track of stream.getTracks()) it.pc.addTrack(track, stream);
    // What nobody plays is not decoded, and has no energy.
    it.pc.ontrack = ({ track }) => {
      it.sound = new Audio();
      it.sound.srcObject = new MediaStream([track]);
      it.sound.play();
    };
  }

  async function gathered() {
    while (it.pc.iceGatheringState !== 'complete') await pause(20);
    return it.pc.localDescription.sdp;
  }

  // `anew`: another connection in the same call. `bandwidth`: kb/s by b=AS.
  it.offer = async (peer, { anew = false, direction = null, bandwidth = 0, attached = [] } = {}) => {
    if (anew || !it.pc) connect();
    if (direction) it.pc.getTransceivers()[0].direction = direction;
    await it.pc.setLocalDescription(await it.pc.createOffer());
    let sdp = await gathered();
    if (bandwidth) sdp = sdp.replace(/^(c=.*\r\n)/m, `$1b=AS:${bandwidth}\r\n`);
    it.seq += 1;
    return it.send(peer, `RSMP ${JSON.stringify({
      messageType: 'OFFER',
      offererSessionId: own,
      answererSessionId: theirs,
      seq: it.seq,
      tiebreaker: Math.floor(Math.random() * 2 ** 31),
      sdp,
      Candidates: [...sdp.matchAll(/a=(candidate:.*)\r\n/g)].map(([, candidate]) => ({ sdpMLineIndex: 0, sdpMid: '0', candidate })),
      attacheddata: attached,
    })}`);
  };

  it.answer = async () => {
    const { peer, sdp, offererSessionId, seq } = it.offered;
    connect();
    await it.pc.setRemoteDescription({ type: 'offer', sdp });
    await it.pc.setLocalDescription(await it.pc.createAnswer());
    const answer = { messageType: 'ANSWER', offererSessionId, answererSessionId: own, seq, sdp: await gathered() };
    return it.send(peer, `RSMP ${JSON.stringify(answer)}`);
  };

  it.signOut = async () => (await ask(`/sign_out?id=${ssid}`)).status;

  it.media = async () => {
    const report = [...(await it.pc.getStats()).values()];
    const find = (type) => report.find((entry) => entry.type === type) || {};
    return {
      sent: find('outbound-rtp').packetsSent ?? 0,
      received: find('inbound-rtp').packetsReceived ?? 0,
      energy: find('inbound-rtp').totalAudioEnergy ?? 0,
      cipher: find('transport').srtpCipher ?? '',
    };
  };

  it.has = (start) => it.texts.some(({ body }) => body.startsWith(start));
  return it;
})();
