"""One node of Reticulum with an RNode, which announces itself, or sends a packet to one that did.

    peer.py FOLDER DEVICE announce   until standard input ends
    peer.py FOLDER DEVICE send       until the packet was proved; exit code 1 if it never is

It prints what happens, a line each. FOLDER is for its configuration and state."""
import pathlib
import sys
import threading
import time

import RNS

CONFIG = """
[reticulum]
enable_transport = No
share_instance = No
panic_on_interface_error = No
[logging]
loglevel = 5
[interfaces]
  [[modem]]
    type = RNodeInterface
    enabled = Yes
    port = {device}
    frequency = 869525000
    bandwidth = 500000
    txpower = 14
    spreadingfactor = 7
    codingrate = 5
"""
NAME = ("blvmmesh", "modems")
# More than a frame on the air, so that it is sent in two.
PAYLOAD = bytes(n % 256 for n in range(350))
PATIENCE_S = 60


def say(text):
    print(text, flush=True)


def start(folder, device):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text(CONFIG.format(device=device))
    RNS.Reticulum(configdir=str(folder), logdest=RNS.LOG_FILE)
    modem = next(i for i in RNS.Transport.interfaces if "RNode" in type(i).__name__)
    deadline = time.time() + PATIENCE_S
    while not modem.online:
        if time.time() > deadline:
            sys.exit("the modem was not accepted")
        time.sleep(0.1)
    say("online")
    return modem


def announce(modem):
    identity = RNS.Identity()
    destination = RNS.Destination(identity, RNS.Destination.IN, RNS.Destination.SINGLE, *NAME)
    destination.set_proof_strategy(RNS.Destination.PROVE_ALL)
    destination.set_packet_callback(
        lambda data, packet: say(f"packet {data == PAYLOAD} {packet.rssi} {packet.snr}")
    )
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        destination.announce()
        ended.wait(5)


class Handler:
    aspect_filter = ".".join(NAME)

    def __init__(self):
        self.heard = threading.Event()
        self.identity = None

    def received_announce(self, destination_hash, announced_identity, app_data):
        self.identity = announced_identity
        self.heard.set()


def send(modem):
    handler = Handler()
    RNS.Transport.register_announce_handler(handler)
    if not handler.heard.wait(PATIENCE_S):
        sys.exit("no announce was heard")
    say("announce")
    out = RNS.Destination(handler.identity, RNS.Destination.OUT, RNS.Destination.SINGLE, *NAME)
    for _ in range(5):
        receipt = RNS.Packet(out, PAYLOAD).send()
        proved = threading.Event()
        receipt.set_delivery_callback(lambda _: proved.set())
        # Two nodes that send at once do not hear each other; then it is sent again.
        if proved.wait(8) or receipt.get_status() == RNS.PacketReceipt.DELIVERED:
            say(f"proved, channel load {modem.r_channel_load_short}")
            return
    sys.exit("the packet was never proved")


folder, device, role = sys.argv[1:]
{"announce": announce, "send": send}[role](start(pathlib.Path(folder), device))
say("done")
RNS.Reticulum.exit_handler()
