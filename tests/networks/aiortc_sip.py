"""A SIP phone whose media are aiortc's: answers calls that offer ICE and DTLS-SRTP, as a full ICE agent, and sends back what it hears.

usage: aiortc_sip.py ADDRESS PORT
"""

import asyncio
import sys

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaRelay


def header(message, name):
    for line in message.split("\r\n"):
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def answer(request, status, extra="", body=""):
    """RFC 3261 section 8.2.6."""
    copied = [line for line in request.split("\r\n") if line.split(":")[0].strip().lower() in ("via", "from", "call-id", "cseq")]
    to = header(request, "to")
    to = to if "tag=" in to else to + ";tag=aiortc"
    lines = [f"SIP/2.0 {status}", *copied, f"To: {to}"]
    lines += [extra] if extra else []
    lines += [f"Content-Length: {len(body.encode())}", "", body]
    return "\r\n".join(lines)


class Phone(asyncio.DatagramProtocol):
    def __init__(self, address, port):
        self.contact = f"Contact: <sip:phone@{address}:{port}>"
        self.connection = None
        self.answered = None
        self.relay = MediaRelay()

    def connection_made(self, transport):
        self.transport = transport
        print("ready", flush=True)

    def datagram_received(self, data, source):
        message = data.decode()
        method = message.split(" ")[0]
        if method == "INVITE" and self.connection is None:
            asyncio.ensure_future(self.invited(message, source))
        elif method == "INVITE" and self.answered:
            self.transport.sendto(self.answered, source)
        elif method == "BYE":
            self.transport.sendto(answer(message, "200 OK").encode(), source)
            asyncio.ensure_future(self.connection.close())

    async def invited(self, message, source):
        self.connection = connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))

        @connection.on("connectionstatechange")
        def changed():
            print(connection.connectionState, flush=True)

        @connection.on("track")
        def heard(track):
            connection.addTrack(self.relay.subscribe(track))

        offer = message.partition("\r\n\r\n")[2]
        await connection.setRemoteDescription(RTCSessionDescription(sdp=offer, type="offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        extra = self.contact + "\r\nContent-Type: application/sdp"
        self.answered = answer(message, "200 OK", extra, connection.localDescription.sdp).encode()
        self.transport.sendto(self.answered, source)


async def main(address, port):
    loop = asyncio.get_running_loop()
    await loop.create_datagram_endpoint(lambda: Phone(address, port), local_addr=(address, port))
    await asyncio.Event().wait()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
