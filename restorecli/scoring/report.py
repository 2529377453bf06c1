"""The report of a scoring run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

from restorecli.machine.versions import versions
from restorecli.report import Report, Row, Settings
from restorecli.scoring.metrics import EXTRA_METRICS, Protocol
from restorecli.scoring.metrics.spectra import SpectralProtocol
from restorecli.scoring.statistics import compare_methods


def compose_report(
    rows: Iterable[Row],
    protocol: Protocol | SpectralProtocol,
    *,
    title: str,
    notes: Sequence[str] = (),
    extras: Sequence[str] = (),
    other_label: str | None = None,
    elapsed_s: float | None = None,
    interrupted: bool = False,
) -> Report:
    """The report of a scoring run."""
    rows = tuple(rows)
    lower_is_better = [name for name in extras if not EXTRA_METRICS[name].higher_is_better]
    if isinstance(protocol, SpectralProtocol):
        lower_is_better += protocol.lower_is_better
    return Report(
        title=title,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        elapsed_s=elapsed_s,
        settings=Settings(
            command="metrics",
            protocol=protocol.name,
            protocol_text=protocol_text(protocol),
            versions=versions(),
            options={"with": ", ".join(extras)} if extras else {},
        ),
        rows=rows,
        comparisons=tuple(compare_methods(rows, other_label)) if other_label else (),
        notes=tuple(notes),
        interrupted=interrupted,
        lower_is_better=tuple(lower_is_better),
    )


def protocol_text(protocol: Protocol | SpectralProtocol) -> str:
    """A protocol in one sentence, for reports."""
    if isinstance(protocol, SpectralProtocol):
        return protocol.source
    border = protocol.crop_border_px
    crop = f", {border} px left out at each edge" if border else ""
    return (
        f"{protocol.channel_text}{crop}; SSIM of Wang et al. (2004), 11×11 Gaussian, σ 1.5, "
        "valid region"
    )
