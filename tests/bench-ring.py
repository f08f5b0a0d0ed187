#!/usr/bin/env python3
"""Six daemons in a ring on loopback: how soon all reach all after the start, and how
soon datagrams arrive again when a relay on their way falls silent or dies.

    tests/bench-ring.py [ROUNDS]        default 3; the worst round counts

BIN names another binary than the release build of this tree.
"""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

NODES = 6
BUDGETS = [("all reachable after the start", 0.2), ("delivery after a silent cut", 1.0),
           ("delivery after a closed connection", 0.2)]
HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Rpc:
    """One connection to a node's socket; waits until the node serves it."""

    def __init__(self, directory):
        path = os.path.join(directory, "rpc.sock")
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.001)
        self.file = self.socket.makefile("r")

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall((json.dumps(request) + "\n").encode())
        return json.loads(self.file.readline())


def wait_for(what, holds, patience=20):
    """Until it holds; seconds that it took."""
    start = time.monotonic()
    while not holds():
        if time.monotonic() - start > patience:
            sys.exit(f"bench-ring: not in {patience} s: {what}")
        time.sleep(0.002)
    return time.monotonic() - start


class Ring:
    def __init__(self, binary, base):
        self.binary, self.base, self.processes = binary, base, {}
        listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(NODES)]
        self.ports = [listener.getsockname()[1] for listener in listeners]
        for listener in listeners:
            listener.close()
        keys = [self.ask(n, "keygen") for n in range(NODES)]
        self.keys = [key["public_key"] for key in keys]
        self.ids = [key["node_id"] for key in keys]

    def directory(self, n):
        return os.path.join(self.base, str(n))

    def ask(self, n, *command):
        whole = [self.binary, "--json", "--data-dir", self.directory(n), *command]
        return json.loads(subprocess.run(whole, check=True, stdout=subprocess.PIPE).stdout)

    def start(self, n):
        after = (n + 1) % NODES
        self.processes[n] = subprocess.Popen(
            [self.binary, "--json", "--data-dir", self.directory(n), "run",
             "--network", "regtest", "--mode", "open",
             "--listen-addr", f"127.0.0.1:{self.ports[n]}",
             "--peer", f"{self.keys[after]}@127.0.0.1:{self.ports[after]}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self):
        for process in self.processes.values():
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def reach_all(self, n):
        """Until node n has a signed answer from every other."""
        rpc = Rpc(self.directory(n))
        for other in range(NODES):
            if other != n:
                reached = lambda: "result" in rpc.call("findroute", destination=self.ids[other])
                wait_for(f"a route from {n} to {other}", reached)

    def all_reachable(self, start):
        begin = time.monotonic()
        if start:
            for n in range(NODES):
                self.start(n)
        threads = [threading.Thread(target=self.reach_all, args=(n,)) for n in range(NODES)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.monotonic() - begin


class Stream:
    """Datagrams from node 0 to the node opposite, one every few milliseconds."""

    def __init__(self, ring):
        self.ring, self.to = ring, NODES // 2
        self.running, self.lock = True, threading.Lock()
        self.count, self.sent, self.arrived = 0, {}, {}
        works = [self.send] * 4 + [self.receive]
        self.threads = [threading.Thread(target=work) for work in works]
        for thread in self.threads:
            thread.start()

    def send(self):
        # Several, because one that waits for a route does not send.
        rpc = Rpc(self.ring.directory(0))
        while self.running:
            with self.lock:
                self.count += 1
                number = self.count
            self.sent[number] = time.monotonic()
            rpc.call("meshsendpacket", destination=self.ring.ids[self.to],
                     data_hex=number.to_bytes(4, "big").hex())
            time.sleep(0.008)

    def receive(self):
        rpc = Rpc(self.ring.directory(self.to))
        while self.running:
            answer = rpc.call("meshpollreceived", max=64, wait_ms=100)
            now = time.monotonic()
            for datagram in answer["result"]:
                self.arrived[int(datagram["data_hex"], 16)] = now

    def second_hop(self):
        """The relay on the present way that is not the sender's neighbour."""
        rpc = Rpc(self.ring.directory(0))
        # A quote is for the route that is used, and looks for no other.
        answer = rpc.call("meshquoteroute", destination=self.ring.ids[self.to], bytes=4)
        second = answer["result"]["hops"][1]
        return next(n for n in range(NODES) if self.ring.ids[n].startswith(second))

    def again_after(self, cut):
        """Seconds from a cut until something arrives that was sent after it."""
        begin = time.monotonic()
        cut()
        arrives = lambda: any(self.sent[n] > begin for n in list(self.arrived))
        wait_for("delivery", arrives)
        first = min(at for n, at in list(self.arrived.items()) if self.sent[n] > begin)
        return first - begin

    def stop(self):
        self.running = False
        for thread in self.threads:
            thread.join()


def measure(binary):
    base = tempfile.mkdtemp(prefix="ring")
    ring = Ring(binary, base)
    try:
        times = [ring.all_reachable(start=True)]
        stream = Stream(ring)
        wait_for("a first delivery", lambda: stream.arrived)
        relay = stream.second_hop()
        silent = ring.processes[relay]
        times.append(stream.again_after(lambda: silent.send_signal(signal.SIGSTOP)))
        silent.send_signal(signal.SIGCONT)
        time.sleep(0.5)
        ring.all_reachable(start=False)
        relay = stream.second_hop()
        times.append(stream.again_after(ring.processes[relay].kill))
        stream.stop()
        return times
    finally:
        ring.stop()
        shutil.rmtree(base)


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    binary = os.environ.get("BIN")
    if not binary:
        build = ["cargo", "build", "--release", "--quiet", "-p", "blvm-mesh"]
        subprocess.run(build, check=True, cwd=HERE)
        binary = os.path.join(HERE, "target/release/blvm-mesh")
    results = [measure(binary) for _ in range(rounds)]
    print(f"| ring of {NODES} nodes | s, worst of {rounds} | s, best | budget | |")
    print("|---|---|---|---|---|")
    for (what, budget), times in zip(BUDGETS, zip(*results)):
        verdict = "met" if max(times) <= budget else "MISSED"
        print(f"| {what} | {max(times):.3f} | {min(times):.3f} | {budget} | {verdict} |")


if __name__ == "__main__":
    main()
