"""Another machine for tests of the network: a network namespace."""

import os
import shutil
import subprocess
from contextlib import contextmanager

import pytest


def run(*command):
    """Run a command of iproute2."""
    subprocess.run(command, check=True, capture_output=True)


class Machine:
    """A network namespace that is reached through a link. Its names have the number of this process."""

    def __init__(self) -> None:
        number = os.getpid() % 250
        self.name, self.link = f"refc{number}", f"refc{number}a"
        self.here, self.address = f"10.213.{number}.1", f"10.213.{number}.2"
        self.inside = ["ip", "netns", "exec", self.name]  # how a command begins that runs there

    def reachable(self, yes):
        """Connect the link, or cut it: packets are lost in silence."""
        run("ip", "link", "set", self.link, "up" if yes else "down")


@contextmanager
def another_machine():
    """A machine, as long as the context lasts. Skips the test where there can be none."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need iproute2 and root")
    machine = Machine()
    try:
        run("ip", "netns", "add", machine.name)
    except subprocess.CalledProcessError:
        pytest.skip("network namespaces are not allowed here")
    try:
        there = f"{machine.link[:-1]}b"
        run("ip", "link", "add", machine.link, "type", "veth", "peer", "name", there, "netns", machine.name)
        run("ip", "addr", "add", f"{machine.here}/30", "dev", machine.link)
        machine.reachable(True)
        run("ip", "-n", machine.name, "addr", "add", f"{machine.address}/30", "dev", there)
        for device in (there, "lo"):
            run("ip", "-n", machine.name, "link", "set", device, "up")
        yield machine
    finally:
        run("ip", "netns", "del", machine.name)
