"""The benchmark of rounds: what it reads from processes and from the wire, and what it makes of it."""

import socket
import subprocess
import sys
import threading

import psutil
import pytest
from benchmarks._round_watch import Relay, used
from benchmarks.round import Moment, figures

MIB = 1 << 20
SPENDER = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.4: pass"])
print("spent", flush=True)
sys.stdin.read()
"""


def test_what_a_process_that_has_ended_used_is_counted_in_who_waited_for_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SPENDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "spent\n"
        seconds, resident = used([psutil.Process(process.pid)])
        process.communicate()
    assert 0.35 <= seconds < 5  # the kernel counts in hundredths, and the child stops at 0.4
    assert resident > MIB


def test_the_relay_counts_every_byte_both_ways() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        relay = Relay(server.getsockname())

        def answer() -> None:
            peer, _ = server.accept()
            with peer:
                while peer.recv(1 << 16):
                    pass
                peer.sendall(bytes(300_000))

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(("127.0.0.1", relay.port)) as client:
            client.sendall(bytes(200_000))
            client.shutdown(socket.SHUT_WR)
            received = 0
            while block := client.recv(1 << 16):
                received += len(block)
        thread.join()
        relay.close()
    assert received == relay.down == 300_000
    assert relay.up == 200_000


def test_figures_are_of_one_hospital_and_round_and_leave_the_start_out() -> None:
    ours = [
        Moment(
            server=100 + 0.6 * number,
            couriers=50 + 0.3 * number,
            agents=9 + 0.3 * number,
            up=7 + 3 * number * MIB,
            down=9 + 6 * number * MIB,
            resident=(200 + 2 * number) * MIB,
        )
        for number in range(10)
    ]
    found = figures(ours, None, hospitals=3, payload=MIB)
    assert found["overhead_cpu_seconds"] == pytest.approx(0.4)
    assert found["stock_cpu_seconds"] is None
    assert found["wire_over_adapter_plain"] == pytest.approx(2.0)
    assert found["wire_over_adapter_masked"] == pytest.approx(2.0)
    assert found["server_rss_mb"] == 218
    assert found["server_rss_growth_mb"] == pytest.approx(2.0)
