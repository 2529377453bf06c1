"""What decoding a file takes, told from its first bytes."""

from __future__ import annotations

from restorecli.images import ifd, jxl
from restorecli.images.formats import HEAD_BYTES, kind_of

# Peak bytes for a pixel, by format: the decoder's own, copies, and pixels with alpha; measured with
# 4 megapixels, rounded up. Of TIFF and JPEG XL it depends on the bits of a value.
OF_FORMAT = {
    "JPEG": 18,
    "WEBP": 29,
    "PNG": 22,
    "GIF": 16,
    "BMP": 20,
    "PNM": 24,
    "AVIF": 20,
    "HEIF": 20,
}
OF_BITS = {8: 14, 16: 22, 32: 33}
MOST = 33
BITS_PER_SAMPLE = 258


def decoding_bytes(data: bytes) -> int:
    """Peak bytes that decoding the file in ``data`` takes for a pixel."""
    kind = kind_of(data[:HEAD_BYTES])
    if kind in OF_FORMAT:
        return OF_FORMAT[kind]
    bits = 32
    try:
        if kind == "TIFF" and (block := ifd.block_of(data)) is not None:
            entry = block.first().find(BITS_PER_SAMPLE)
            bits = block.number(entry) if entry else 8
        elif kind == "JXL":
            bits = jxl.header(data).bits
    except Exception:  # a broken header: reading tells of it
        return MOST
    return next((needed for most, needed in OF_BITS.items() if bits <= most), MOST)
