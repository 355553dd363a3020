"""A process that ends all parts of `ringback up` once `ringback up` itself is gone.

The guard leads the process group of all parts. Its standard input is a pipe that `ringback up`
keeps open. The kernel closes the pipe when that process ends, by SIGKILL too.
"""

import os
import signal
import sys

if __name__ == "__main__":
    # A service manager signals each process. The guard ends last, whatever comes.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGKILL)
