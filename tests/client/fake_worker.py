"""The real intake child, but the content of a file can make it die, hang or lie."""

import os
import struct
import sys
import time
from typing import Any

from sonoshare_client.intake import worker
from sonoshare_client.intake.channel import Taken
from sonoshare_shared.science.pictures.reasons import Reason

HONEST = worker.answer_for


def answer_for(question: Any, files: Any, limits: Any, devices: Any, renew: Any = lambda: None) -> Taken | Reason:
    start = files[0].read(4)
    files[0].seek(0)
    channel = int(sys.argv[1])
    if start == b"ABRT":
        os.abort()
    if start == b"HANG":
        time.sleep(60)
    if start == b"BURN":
        while True:
            pass
    if start == b"JUNK":
        os.write(channel, b"\xff" * 64)
        time.sleep(60)
    if start == b"LIES":
        header = b'{"shape":[2,2],"mask":false,"box":null,"device":"DOE^JANE","instance":null}'
        os.write(channel, struct.pack(">I", len(header)) + header + b"\0" * 4)
        time.sleep(60)
    if start == b"DRIP":
        os.write(channel, struct.pack(">I", 100))
        while True:
            os.write(channel, b" ")
            time.sleep(0.05)
    if start == b"BOMB":
        _ = bytearray(limits.memory_bytes * 2)
    return HONEST(question, files, limits, devices, renew)


worker.answer_for = answer_for

if __name__ == "__main__":
    worker.main()
