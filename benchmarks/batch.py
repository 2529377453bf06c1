"""What does a folder of photos cost beside pure inference? ``python -m benchmarks.batch``.

The same photos, decoded before, are restored by the network alone; the two take turns.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.common import has_device, machine
from restorecli.engine import engine as restore
from restorecli.engine.bench import made_up_picture
from restorecli.engine.chain import Chain
from restorecli.engine.settings import EngineSettings
from restorecli.images import read_photo
from restorecli.report import Row
from restorecli.runs import local as batch
from restorecli.runs.job import make_job
from restorecli.runs.listener import Silent
from restorecli.runs.naming import Naming
from restorecli.weights import choose_model


class Strict(Silent):
    """A listener that ends the measurement when a photo fails."""

    def finish(self, row: Row) -> None:
        """One input has come to its end."""
        if row.error:
            raise SystemExit(row.error)


def main() -> None:
    """Print seconds per photo with and without files, and the overhead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=50)
    parser.add_argument("--side", type=int, default=512, help="of the square photos, in pixels")
    parser.add_argument("--suffix", choices=[".png", ".jpg", ".webp"], default=".png")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    options = parser.parse_args()
    if not has_device(options.device):
        return
    settings = EngineSettings(model=choose_model("derain"), device=options.device)
    engine = restore.prepare(settings)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        picture = Image.fromarray(made_up_picture(options.side, options.side, gray=False))
        for i in range(options.photos):
            picture.save(folder / f"{i:03}{options.suffix}")
        engine.restore(read_photo(folder / f"000{options.suffix}").pixels)  # what is set up once
        runs: dict[str, list[float]] = {"folder": [], "inference": []}
        for _ in range(options.repeats):
            naming = Naming(task="derain", output=str(Path(name) / "out"))
            job = make_job([folder], naming, settings, existing="replace")
            start = time.perf_counter()
            batch.run_with(Chain(engines=(engine,)), job, Strict())
            runs["folder"].append(time.perf_counter() - start)
            photos = [read_photo(path).pixels for path in sorted(folder.iterdir())]
            start = time.perf_counter()
            for pixels in photos:
                engine.restore(pixels)
            runs["inference"].append(time.perf_counter() - start)
    print(f"{options.photos} photos of {options.side}x{options.side} on {options.device}; "
          f"{machine()}; {options.repeats} runs in turn")  # fmt: skip
    medians = {way: statistics.median(seconds) for way, seconds in runs.items()}
    for way, seconds in runs.items():
        print(f"{way:>10} {medians[way]:8.2f} s ({min(seconds):.2f} … {max(seconds):.2f})")
    print(f"{'overhead':>10} {medians['folder'] / medians['inference'] - 1:8.1%}")


if __name__ == "__main__":
    main()
