"""Which picture belongs to which: by relative path, then by stem, or by a pattern.

Nothing is guessed: two candidates are an error, and so is none unless missing ones are allowed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from restorecli.errors import InputError, UsageError
from restorecli.images.finding import Found, Picture

SHOWN = 3  # names quoted in a message


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Which picture goes with which, and what was left over on either side."""

    pairs: tuple[tuple[Picture, Picture], ...]
    without_partner: tuple[Picture, ...]
    unused: tuple[Picture, ...]


def pair(
    targets: Found,
    partners: Found,
    *,
    pattern: str | None = None,
    allow_missing: bool = False,
) -> Pairing:
    """Find the partner of every target: same relative path, else same stem, or by ``pattern``.

    Args:
        targets: the pictures to find partners for.
        partners: where to look.
        pattern: stem of the partner, ``"{stem}_clean"``; or ``"LEFT=RIGHT"``, where LEFT says
            what part of the target's stem is meant: ``"{stem}_{any}={stem}"`` finds ``1400`` for
            ``1400_1``. ``{stem}`` takes as little as possible.
        allow_missing: leave targets without a partner, and partners without a target, out
            instead of raising.

    Raises:
        UsageError: the pattern is malformed, or several partners fit one target.
        InputError: a partner or a target is missing, or nothing is paired at all.
    """
    if not partners.from_folder and len(targets.pictures) == len(partners.pictures) == 1:
        return Pairing(
            pairs=((targets.pictures[0], partners.pictures[0]),), without_partner=(), unused=()
        )
    wanted_stem = _stem_mapping(pattern) if pattern else None
    lookup = _Lookup(partners.pictures)
    pairs: list[tuple[Picture, Picture]] = []
    without: list[Picture] = []
    for target in targets.pictures:
        partner = lookup.partner(target, wanted_stem)
        if partner is None:
            without.append(target)
        else:
            pairs.append((target, partner))
    if wanted_stem is None:
        _refuse_twins(pairs)
    used = {partner.path for _, partner in pairs}
    unused = [p for p in partners.pictures if p.path not in used] if targets.from_folder else []
    if not allow_missing:
        _refuse_missing(without, "have no partner with the same path or stem")
        _refuse_missing(unused, "are the partner of nothing")
    if not pairs:
        raise InputError(
            "No picture has a partner with the same relative path or stem.",
            hint='If the names differ, say how: --pair "{stem}_clean".',
        )
    return Pairing(pairs=tuple(pairs), without_partner=tuple(without), unused=tuple(unused))


class _Lookup:
    """Partners by relative path, by relative path without ending, and by stem."""

    def __init__(self, partners: Iterable[Picture]) -> None:
        self._by_path = {partner.relative: partner for partner in partners}
        self._by_key: dict[PurePosixPath, list[Picture]] = defaultdict(list)
        self._by_stem: dict[str, list[Picture]] = defaultdict(list)
        for partner in partners:
            self._by_key[partner.key].append(partner)
            self._by_stem[partner.relative.stem].append(partner)

    def partner(
        self, target: Picture, wanted_stem: Callable[[str], str | None] | None
    ) -> Picture | None:
        """The one partner of ``target``, or None; `UsageError` when several fit."""
        if wanted_stem is None:
            if exact := self._by_path.get(target.relative):
                return exact
            stem: str | None = target.relative.stem
        else:
            stem = wanted_stem(target.relative.stem)
        if stem is None:
            return None
        candidates = self._by_key.get(target.relative.parent / stem) or self._by_stem.get(stem, [])
        if len(candidates) > 1:
            raise UsageError(
                f"{str(target.relative)!r} could go with {_quote(candidates)}.",
                hint='Say which with --pair "{stem}_clean", or give folders that hold only one.',
            )
        return candidates[0] if candidates else None


def _stem_mapping(pattern: str) -> Callable[[str], str | None]:
    left, equals, right = pattern.partition("=")
    if not equals:
        left, right = "{stem}", pattern
    if left.count("{stem}") != 1 or "{stem}" not in right or "/" in right or "\\" in right:
        raise UsageError(
            f"--pair {pattern!r} must contain {{stem}}, once on the left of '=', and no folder.",
            hint='For example "{stem}_clean", or "{stem}_{any}={stem}".',
        )
    parts = {"{stem}": "(?P<stem>.+?)", "{any}": ".*"}
    regex = "".join(parts.get(p, re.escape(p)) for p in re.split(r"(\{stem\}|\{any\})", left))

    def wanted(stem: str) -> str | None:
        match = re.fullmatch(regex, stem, re.DOTALL)
        return right.replace("{stem}", match["stem"]) if match else None

    return wanted


def _refuse_twins(pairs: Iterable[tuple[Picture, Picture]]) -> None:
    first: dict[tuple[PurePosixPath, Path], Picture] = {}
    for target, partner in pairs:
        twin = first.setdefault((target.key, partner.path), target)
        if twin is not target:
            raise UsageError(
                f"{_quote([twin, target])} both go with {str(partner.relative)!r}.",
                hint="Remove one of them, or name the files instead of the folder.",
            )


def _refuse_missing(pictures: Sequence[Picture], what: str) -> None:
    if pictures:
        raise InputError(
            f"{len(pictures)} pictures {what}: {_quote(pictures)}.",
            hint="--allow-missing leaves them out and lists them; "
            '--pair "{stem}_clean" says how the names differ.',
        )


def _quote(pictures: Sequence[Picture]) -> str:
    names = ", ".join(repr(str(picture.relative)) for picture in pictures[:SHOWN])
    more = len(pictures) - SHOWN
    return f"{names} and {more} more" if more > 0 else names
