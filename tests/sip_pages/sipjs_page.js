// A page with SIP.js, by its SimpleUser, behind the same few words as the other library's.
// `guest`: it does not register. `reliable`: it takes provisional responses that want PRACK.
window.startPhone = (url, address, password, { guest = false, reliable = false } = {}) => {
    const phone = { registered: false, state: 'idle', error: null };
    const audio = document.body.appendChild(new Audio());
    const name = address.replace('sip:', '').split('@')[0];
    const user = new SIP.Web.SimpleUser(url, {
        aor: address,
        media: { constraints: { audio: true, video: false }, remote: { audio } },
        userAgentOptions: {
            authorizationUsername: name,
            authorizationPassword: password,
            sipExtension100rel: reliable ? SIP.SIPExtension.Supported : SIP.SIPExtension.Unsupported,
        },
        delegate: {
            onRegistered: () => { phone.registered = true; },
            onUnregistered: () => { phone.registered = false; },
            onCallReceived: () => { phone.state = 'incoming'; },
            onCallAnswered: () => { phone.state = 'up'; },
            onCallHold: (held) => { phone.held = held; },
            onCallHangup: () => { phone.state = 'ended'; },
        },
    });
    const report = (promise) => promise.catch((error) => { phone.error = String(error); });
    phone.call = (to) => { phone.state = 'calling'; report(user.call(to)); };
    phone.callWithoutOffer = (to) => { phone.state = 'calling'; report(user.call(to, { inviteWithoutSdp: true })); };
    phone.answer = () => { report(user.answer()); };
    phone.hangUp = () => { report(user.hangup()); };
    phone.hold = () => { report(user.hold()); };
    phone.resume = () => { report(user.unhold()); };
    phone.peer = () => user.session.sessionDescriptionHandler.peerConnection;
    phone.leave = () => { report(user.unregister()); };
    report(user.connect().then(() => {
        phone.connected = true;
        return guest ? undefined : user.register();
    }));
    window.phone = phone;
};
