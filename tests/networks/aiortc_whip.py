"""A WHIP client (RFC 9725) made of aiortc: places one call, talks, hangs up, and prints what it saw as one line of JSON.

usage: aiortc_whip.py ENDPOINT CODEC SECONDS
"""

import asyncio
import json
import sys
import time
import urllib.parse
import urllib.request

from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import AudioStreamTrack

LIMIT_S = 20


def request(method, url, body=None):
    headers = {"Content-Type": "application/sdp"} if body else {}
    data = body.encode() if body else None
    wanted = urllib.request.Request(url, data=data, headers=headers, method=method)
    with urllib.request.urlopen(wanted, timeout=LIMIT_S) as response:
        return response.status, response.headers, response.read().decode()


async def until(what, holds):
    end = time.monotonic() + LIMIT_S
    while not await holds():
        if time.monotonic() > end:
            raise TimeoutError(what)
        await asyncio.sleep(0.05)


async def counted(connection):
    report = (await connection.getStats()).values()
    sent = sum(entry.packetsSent for entry in report if entry.type == "outbound-rtp")
    received = sum(entry.packetsReceived for entry in report if entry.type == "inbound-rtp")
    return sent, received


async def main(endpoint, codec, seconds):
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    transceiver = connection.addTransceiver(AudioStreamTrack(), direction="sendrecv")
    capabilities = RTCRtpSender.getCapabilities("audio").codecs
    transceiver.setCodecPreferences([entry for entry in capabilities if entry.mimeType == codec])

    @connection.on("track")
    def heard(track):
        async def drain():
            while True:
                await track.recv()

        asyncio.ensure_future(drain())

    await connection.setLocalDescription(await connection.createOffer())
    status, headers, answer = await asyncio.to_thread(request, "POST", endpoint, connection.localDescription.sdp)
    resource = urllib.parse.urljoin(endpoint, headers["Location"])
    await connection.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    async def connected():
        return connection.connectionState == "connected"

    await until("connected", connected)
    sent, received = await counted(connection)
    enough = 50 * seconds

    async def talked():
        now = await counted(connection)
        return now[0] >= sent + enough and now[1] >= received + enough

    await until(f"{enough} packets each way", talked)
    state = connection.connectionState
    print(json.dumps({"created": status, "state": state}), flush=True)
    # The test looks at the flows while they are there.
    await asyncio.to_thread(sys.stdin.readline)
    status, _, _ = await asyncio.to_thread(request, "DELETE", resource)
    await connection.close()
    print(json.dumps({"deleted": status}), flush=True)


asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
