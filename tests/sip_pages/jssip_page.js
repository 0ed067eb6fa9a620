// A page with JsSIP, as its documentation shows it, behind the same few words as the other library's.
window.startPhone = (url, address, password) => {
    const phone = { registered: false, registrations: 0, disconnections: 0, state: 'idle', error: null, session: null };
    const agent = new JsSIP.UA({ sockets: [new JsSIP.WebSocketInterface(url)], uri: address, password });
    const media = { mediaConstraints: { audio: true, video: false } };
    const play = ({ peerconnection }) => {
        peerconnection.addEventListener('track', ({ streams }) => {
            phone.audio = new Audio();
            phone.audio.srcObject = streams[0];
            phone.audio.play();
        });
    };
    agent.on('registered', () => { phone.registered = true; phone.registrations += 1; });
    agent.on('disconnected', () => { phone.disconnections += 1; });
    agent.on('unregistered', () => { phone.registered = false; });
    agent.on('registrationFailed', ({ cause, response }) => { phone.error = `${cause} ${response?.status_code}`; });
    agent.on('newRTCSession', ({ session, originator }) => {
        phone.session = session;
        phone.state = originator === 'remote' ? 'incoming' : 'calling';
        if (originator === 'remote') session.on('peerconnection', play);
        session.on('confirmed', () => { phone.state = 'up'; });
        session.on('ended', ({ originator, cause }) => { phone.state = 'ended'; phone.cause = `${originator}: ${cause}`; });
        session.on('failed', ({ originator, cause }) => { phone.state = 'ended'; phone.cause = `${originator}: ${cause}`; });
    });
    // An outgoing call has its peer connection before `newRTCSession` tells of it.
    phone.call = (to) => { agent.call(to, { ...media, eventHandlers: { peerconnection: play } }); };
    phone.answer = () => { phone.session.answer(media); };
    phone.hangUp = () => { phone.session.terminate(); };
    // Its events come when the re-INVITE goes out, these when it is answered: until then it refuses the next one.
    phone.hold = () => { phone.session.hold({}, () => { phone.held = true; }); };
    phone.resume = () => { phone.session.unhold({}, () => { phone.held = false; }); };
    phone.peer = () => phone.session.connection;
    phone.leave = () => { agent.unregister(); };
    agent.start();
    window.phone = phone;
};
