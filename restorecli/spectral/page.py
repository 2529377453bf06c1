"""One page to look at: the rendering, and the spectrum of any pixel that is clicked."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from restorecli.report.words import score_text
from restorecli.spectral.preview import PREVIEW_PX, Preview

CODE_VALUES = 65535  # a spectrum's values on the page: 16 bits from 0 to its largest


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One cube on the page, with its reference if there is one."""

    title: str
    preview: Preview
    reference: Preview | None
    scores: dict[str, float]


def page(panels: Sequence[Panel], wavelengths_nm: Sequence[float], note: str) -> str:
    """A page that needs nothing but itself."""
    data = [_data(panel) for panel in panels]
    sections = "".join(
        f'<section data-panel="{i}"><h2>{html.escape(panel.title)}</h2>{_scores(panel)}'
        f'<div class="pair"><div class="shown"><img tabindex="0" alt="Rendering of '
        f'{html.escape(panel.title)} in sRGB under D65" src="{_picture(panel.preview)}">'
        '<i class="here"></i></div><canvas width="640" height="360" '
        'role="img" aria-label="Spectrum of the chosen pixel"></canvas></div>'
        '<p class="said" aria-live="polite"></p></section>'
        for i, panel in enumerate(panels)
    )
    values = json.dumps({"wavelengths": list(wavelengths_nm), "panels": data})
    return (
        PAGE.replace("@NOTE@", html.escape(note))
        .replace("@SECTIONS@", sections)
        .replace("@DATA@", values.replace("<", "\\u003c"))
    )


def _scores(panel: Panel) -> str:
    said = ", ".join(score_text(name, value) for name, value in panel.scores.items())
    return f"<p>{html.escape(said)}</p>" if said else ""


def _data(panel: Panel) -> dict[str, Any]:
    shown = {"spectra": _packed(panel.preview.samples)}
    if panel.reference is not None:
        shown["reference"] = _packed(panel.reference.samples)
    return shown


def _packed(samples: NDArray[np.float32]) -> dict[str, Any]:
    """16-bit values in base64, with their scale: (bands, rows, columns)."""
    largest = max(float(samples.max(initial=0)), 1e-6)
    codes = np.rint(samples.clip(0) / largest * CODE_VALUES).astype("<u2")
    _, rows, columns = samples.shape
    return {
        "rows": rows,
        "columns": columns,
        "scale": largest / CODE_VALUES,
        "codes": base64.b64encode(codes.tobytes()).decode("ascii"),
    }


def _picture(preview: Preview) -> str:
    picture = Image.fromarray(preview.picture)
    picture.thumbnail((PREVIEW_PX, PREVIEW_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Spectra</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 84rem; padding: 0 1rem;
  color: #1b1b1b; background: #fff }
.pair { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start }
.shown { position: relative; flex: 0 1 24rem; min-width: 16rem }
.shown img { cursor: crosshair; display: block; width: 100% }
.here { position: absolute; width: 10px; height: 10px; margin: -7px; border-radius: 50%;
  border: 2px solid #fff; outline: 2px solid #000; pointer-events: none }
.pair canvas { max-width: 100%; border: 1px solid #767676 }
</style>
<h1>Spectra</h1><p>@NOTE@</p>
<p>Click a pixel of the rendering (or use the arrow keys on it) to see its spectrum: solid is the
reconstruction, dashed the reference, dotted their difference.</p>
@SECTIONS@
<script type="application/json" id="data">@DATA@</script>
<script>
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const nm = data.wavelengths;
const unpack = (part) => {
  const bytes = Uint8Array.from(atob(part.codes), (c) => c.charCodeAt(0));
  const codes = new Uint16Array(bytes.buffer);
  return (row, column) => nm.map((_, band) =>
    codes[(band * part.rows + row) * part.columns + column] * part.scale);
};
document.querySelectorAll("section").forEach((section) => {
  const panel = data.panels[section.dataset.panel], part = panel.spectra;
  const spectrum = unpack(part), reference = panel.reference && unpack(panel.reference);
  const image = section.querySelector("img"), canvas = section.querySelector("canvas");
  const said = section.querySelector(".said"), pen = canvas.getContext("2d");
  const here = section.querySelector(".here");
  let row = part.rows >> 1, column = part.columns >> 1;
  const draw = () => {
    const found = spectrum(row, column), true_ = reference && reference(row, column);
    const difference = true_ && found.map((value, i) => value - true_[i]);
    const low = Math.min(0, ...(difference || [0]));
    const high = Math.max(0.05, ...found, ...(true_ || [0]));
    const x = (i) => 50 + (nm[i] - nm[0]) / (nm[nm.length - 1] - nm[0]) * 570;
    const y = (v) => 330 - (v - low) / (high - low) * 310;
    pen.clearRect(0, 0, 640, 360);
    pen.font = "13px sans-serif"; pen.fillStyle = pen.strokeStyle = "#444"; pen.lineWidth = 1;
    pen.setLineDash([]);
    for (let i = 0; i < nm.length; i += 5) {
      pen.fillText(nm[i] + " nm", Math.min(x(i) - 18, 586), 350);
    }
    for (const v of [low, 0, high]) {
      pen.fillText(v.toFixed(2), 4, y(v) + 4);
      pen.beginPath(); pen.moveTo(45, y(v)); pen.lineTo(625, y(v)); pen.stroke();
    }
    const line = (values, dash, colour) => {
      pen.setLineDash(dash); pen.strokeStyle = colour; pen.lineWidth = 2; pen.beginPath();
      values.forEach((v, i) => pen[i ? "lineTo" : "moveTo"](x(i), y(v))); pen.stroke();
    };
    line(found, [], "#0b57a4");
    if (true_) { line(true_, [8, 4], "#9c3d00"); line(difference, [2, 3], "#5b2a86"); }
    const at = (n, of) => (100 * (n + 0.5) / of).toFixed(0);
    here.style.left = 100 * (column + 0.5) / part.columns + "%";
    here.style.top = 100 * (row + 0.5) / part.rows + "%";
    let text = `Pixel at ${at(column, part.columns)} % from the left, ` +
      `${at(row, part.rows)} % from the top.`;
    if (true_) {
      const rms = Math.sqrt(difference.reduce((s, d) => s + d * d, 0) / difference.length);
      text += ` Root mean square difference ${rms.toFixed(4)}.`;
    }
    said.textContent = text;
  };
  const bound = (n, of) => Math.max(0, Math.min(of - 1, n));
  image.addEventListener("click", (event) => {
    const box = image.getBoundingClientRect();
    column = bound(Math.floor((event.clientX - box.left) / box.width * part.columns), part.columns);
    row = bound(Math.floor((event.clientY - box.top) / box.height * part.rows), part.rows);
    draw();
  });
  image.addEventListener("keydown", (event) => {
    const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]};
    if (!(event.key in move)) return;
    event.preventDefault();
    row = bound(row + move[event.key][0], part.rows);
    column = bound(column + move[event.key][1], part.columns);
    draw();
  });
  draw();
});
</script></html>
"""
