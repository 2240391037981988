#!/usr/bin/env python3
"""Ends with 0 if the role of this container is healthy, else with 1 and a line: ``sonoshare-healthy [PORT] [PATH]``.

Asks what a role answers on its own loopback (``--monitor 127.0.0.1:PORT``), or a catalogue's ``/api/v1/ready``.
"""

import http.client
import sys

PORT = int(sys.argv[1]) if len(sys.argv) > 1 else 9095
PATH = sys.argv[2] if len(sys.argv) > 2 else "/healthz"
SECONDS = 5.0

try:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=SECONDS)
    connection.request("GET", PATH)
    status = connection.getresponse().status
except (OSError, http.client.HTTPException) as error:
    sys.exit(f"no answer: {error}")
if status != http.HTTPStatus.OK:
    sys.exit(f"it answers {status}")
