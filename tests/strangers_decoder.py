"""One decoder of strangers' photos for all tests of this process, and a look at the processes of any."""

import atexit
import os
from pathlib import Path

from edge.photos.decoder import PhotoDecoder

DECODER = PhotoDecoder()  # its child starts with the first photo
atexit.register(DECODER.close)


def decoders_of(parent: int) -> list[int]:
    """The ids of the decoding processes that the process `parent` has started, and that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            name, _, numbers = (entry / "stat").read_text(encoding="utf-8").rpartition(")")
            state, ppid = numbers.split()[:2]
        except OSError:  # it has ended
            continue
        # A killed process loses its command line first; with the many libraries of Debian's OpenCV it ends later.
        ending = not command and "(python" in name
        if int(ppid) == parent and state != "Z" and (b"decoder_child" in command or ending):
            found.append(int(entry.name))
    return found


def peak_bytes(process: int | str) -> int:
    """The most physical memory that a process has used at once."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) << 10


def cpu_s(process: int) -> float:
    """The processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
