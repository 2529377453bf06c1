"""Where does the time of one cold command go? ``python -m benchmarks.startup``.

The command itself is timed from outside; its parts are timed in further processes that do the
same steps one after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.common import has_device, machine
from restorecli.engine.bench import made_up_picture

PARTS = """
import atexit, gc, json, sys, time
atexit.register(gc.freeze)  # as the command does
times = []
def part(name):
    times.append((name, time.time()))
from restorecli import cli
part("interpreter and command line")
import torch
part("import torch")
from restorecli import console
from restorecli.engine import engine as restore
from restorecli.scoring import score as scoring
part("other imports")
from restorecli.engine.settings import EngineSettings
from restorecli.weights import choose_model
engine = restore.prepare(EngineSettings(model=choose_model("derain"), device=sys.argv[3]))
part("load the network")
from pathlib import Path
from restorecli.images import read_photo, write_photo
photo = read_photo(Path(sys.argv[1]))
part("decode")
restored, plan = restore.restore_photo(engine, photo)
part("restore, first picture")
write_photo(restored, Path(sys.argv[2]), overwrite=True)
part("encode")
restore.restore_photo(engine, photo)
part("restore, second picture (not in the command)")
print(json.dumps(times))
"""


def main() -> None:
    """Print the seconds of the command, and of its parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512, help="of the square photo, in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    if not has_device(options.device):
        return
    with tempfile.TemporaryDirectory() as name:
        photo, restored = Path(name) / "photo.png", Path(name) / "restored.png"
        Image.fromarray(made_up_picture(options.side, options.side, gray=False)).save(photo)
        command = [sys.executable, "-m", "restorecli", "derain", str(photo), "-o", str(restored),
                   "--overwrite", "--quiet", "--device", options.device]  # fmt: skip
        parts_of = [sys.executable, "-c", PARTS, str(photo), str(restored), options.device]
        whole: list[float] = []
        parts: dict[str, list[float]] = {}
        for _ in range(options.repeats):
            start = time.time()
            subprocess.run(command, check=True)
            whole.append(time.time() - start)
            before = time.time()
            ended = subprocess.run(parts_of, check=True, capture_output=True, text=True)
            for part, at in json.loads(ended.stdout):
                parts.setdefault(part, []).append(at - before)
                before = at
            parts.setdefault("end of the process", []).append(time.time() - before)
    print(f"{options.side}x{options.side} on {options.device}; {machine()}")
    print(f"{'':46}{'median s':>9}{'min s':>8}{'max s':>8}   of {options.repeats} runs")
    for part, seconds in {"restore derain, cold": whole, **parts}.items():
        print(f"{part:46}{statistics.median(seconds):9.2f}{min(seconds):8.2f}{max(seconds):8.2f}")


if __name__ == "__main__":
    main()
