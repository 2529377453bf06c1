"""What a run did, as frozen data, and the files it is written to.

The formats: JSON (``schema.json`` beside this file describes it), JSON Lines, CSV, Markdown, and
one HTML page that works from disk. `write` picks by the file's ending.
"""

from restorecli.report.data import (
    SCHEMA_VERSION,
    Comparison,
    LabelledPicture,
    Report,
    Row,
    Settings,
    Summary,
    json_schema,
    summarise,
)
from restorecli.report.write import FORMATS, check_destination, json_lines, write

__all__ = [
    "FORMATS",
    "SCHEMA_VERSION",
    "Comparison",
    "LabelledPicture",
    "Report",
    "Row",
    "Settings",
    "Summary",
    "check_destination",
    "json_lines",
    "json_schema",
    "summarise",
    "write",
]
