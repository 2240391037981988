"""Flower's SuperNode, with its loop made safe against runs that end (``one_message``).

Run as ``python -m sonoshare_client.courier.network_side <flower-supernode arguments>`` by the worker, which has checked
that Flower is as expected.
"""

from sonoshare_client.courier import flower

if __name__ == "__main__":
    flower.run_supernode()
