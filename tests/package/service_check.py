"""Runs a service as systemd does with Type=notify: waits until it is ready, ends it, and wants status 0.

    service_check.py COMMAND [ARGUMENTS...]
"""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile

TIMEOUT_S = 60  # so that a service that says nothing fails here


def main():
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as supervisor:
        path = pathlib.Path(directory, "notify")
        supervisor.bind(str(path))
        supervisor.settimeout(TIMEOUT_S)
        with subprocess.Popen(sys.argv[1:], env={**os.environ, "NOTIFY_SOCKET": str(path)}, stdout=subprocess.DEVNULL) as service:
            try:
                ready = supervisor.recv(100)
                service.terminate()
                stopping = supervisor.recv(100)
                service.wait(TIMEOUT_S)
            finally:
                service.kill()
    found = (ready, stopping, service.returncode)
    if found != (b"READY=1", b"STOPPING=1", 0):
        sys.exit(f"service_check: found {found}")
    print("the service said that it was ready, and that it stopped")


main()
