"""How large a report is, how fast it opens and what it costs: ``python -m benchmarks.report_size``.

Needs the ``browser`` extra and Chromium. The pictures are made by code: smooth gradients with
noise, which compress about as badly as photographs do.
"""

from __future__ import annotations

import argparse
import platform
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
from playwright.sync_api import Browser, sync_playwright

from restorecli.report import Report, Row, Settings, write

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MIB = 2**20
READY = "document.getElementById('img-right').naturalWidth > 0"


def make_pictures(folder: Path, count: int, height_px: int, width_px: int) -> list[Row]:
    """``count`` pairs of pictures and the rows that show them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height_px, 0:width_px]
    rows = []
    for i in range(count):
        wave = 128 + 90 * np.sin(x / (20 + i % 37) + y / (31 + i % 23))
        clean = np.stack([wave, np.roll(wave, 40, 1), 255 - wave], axis=2)
        paths = []
        for kind, sigma in (("in", 18), ("out", 5)):
            noisy = np.clip(clean + rng.normal(0, sigma, clean.shape), 0, 255).astype(np.uint8)
            path = folder / f"{kind}-{i:03}.png"
            path.write_bytes(cv2.imencode(".png", noisy)[1].tobytes())
            paths.append(str(path))
        scores = {"psnr_rgb": 24 + rng.normal(0, 1.5), "ssim_rgb": 0.6 + rng.normal(0, 0.05)}
        rows.append(
            Row(
                name=f"folder/picture {i:03}.png",
                input=paths[0],
                output=paths[1],
                height_px=height_px,
                width_px=width_px,
                exact=True,
                elapsed_s=float(rng.uniform(0.5, 2)),
                peak_memory_bytes=400 * MIB,
                scores_before=scores,
                scores_after={"psnr_rgb": scores["psnr_rgb"] + 5, "ssim_rgb": 0.9},
            )
        )
    return rows


def chromium_mib() -> tuple[float, float]:
    """Memory of all of Chromium's processes, and of the largest page process, in MiB.

    Shared pages are divided among those who share them (PSS).
    """
    everything = page = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
            if command and "chrom" in Path(command[0]).name:
                used = process.memory_full_info().pss / MIB
                everything += used
                if "--type=renderer" in command:
                    page = max(page, used)
        except psutil.NoSuchProcess:
            continue
    return everything, page


def chromium_cpu_s() -> float:
    """Processor time that Chromium's processes have used so far, in seconds."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            command = process.cmdline()
            if command and "chrom" in Path(command[0]).name:
                times = process.cpu_times()
                total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def measure(browser: Browser, address: str) -> dict[str, float]:
    """Open, scroll to the end, sort; times in ms, memory in MiB.

    On a busy machine ``open_ms`` grows; ``open_cpu_ms`` is the processor time of all of Chromium's
    processes, which work in parallel.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    empty, _ = chromium_mib()
    cpu_start, start = chromium_cpu_s(), time.perf_counter()
    page.goto(address, wait_until="load")
    while not page.evaluate(READY):  # the page forbids the eval of Playwright's own waiting
        page.wait_for_timeout(10)
    opened = time.perf_counter() - start
    opened_cpu = chromium_cpu_s() - cpu_start
    after_open, _ = chromium_mib()
    rows = page.locator("#rows tbody tr")
    for i in range(0, rows.count(), 8):
        rows.nth(i).scroll_into_view_if_needed()
    rows.last.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    after_scroll, page_only = chromium_mib()
    click = "b => { const t = performance.now(); b.click(); document.body.offsetHeight; "
    click += "return performance.now() - t }"
    sorted_ms = page.locator("#rows thead button").nth(1).evaluate(click)
    context.close()
    return {
        "open_ms": opened * 1000,
        "open_cpu_ms": opened_cpu * 1000,
        "sort_ms": float(sorted_ms),
        "empty_mib": empty,
        "open_mib": after_open,
        "scrolled_mib": after_scroll,
        "page_mib": page_only,
    }


def main() -> None:
    """Make the report, open it several times and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 320), metavar=("W", "H"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    args = parser.parse_args()
    width_px, height_px = args.size
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        rows = make_pictures(folder, args.pictures, height_px, width_px)
        report = Report(
            title=f"{args.pictures} pictures",
            created="2026-01-01T00:00:00+00:00",
            settings=Settings(command="denoise", protocol="denoise"),
            rows=tuple(rows),
        )
        target = folder / "report.html"
        start = time.perf_counter()
        write(report, target)
        wrote_s = time.perf_counter() - start
        runs = []
        for _ in range(args.repeats):
            browser = playwright.chromium.launch(executable_path=args.chromium, args=FLAGS)
            version = browser.version
            runs.append(measure(browser, target.as_uri()))
            browser.close()
        file_mib = target.stat().st_size / MIB
    load = psutil.getloadavg()[0]
    print(f"Chromium {version}, {platform.machine()}, {psutil.cpu_count()} cores, load {load:.1f}")
    print(f"{args.pictures} pictures of {width_px}×{height_px}, before and after")
    print(f"page {file_mib:.1f} MiB, written in {wrote_s:.1f} s")
    print(f"{'':14}{'median':>9}{'lowest':>9}{'highest':>9}   of {args.repeats} runs")
    for key in runs[0]:
        values = [run[key] for run in runs]
        print(f"{key:14}{statistics.median(values):9.0f}{min(values):9.0f}{max(values):9.0f}")


if __name__ == "__main__":
    main()
