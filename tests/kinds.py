"""Kinds of files that tools like ours have spoiled or refused, each made by code."""

from __future__ import annotations

import io
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile
from PIL import Image, ImageCms

from tests.matrix import ICC, exif_of

NAME = "Jürgen Müller"
CLIP = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(range(256)) * 8
IPTC = (
    b"\x1c\x02\x00\x00\x02\x00\x04" + b"\x1c\x02\x50\x00\x09Some Body" + b"\x1c\x02\x5a\x00\x04Town"
)
RDF = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" {}>{}'
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
)
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
CONTAINER = (
    'xmlns:Container="http://ns.google.com/photos/1.0/container/" '
    'xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
)
GAIN = 'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
ITEM = '<rdf:li rdf:parseType="Resource"><Container:Item {}/></rdf:li>'
DIRECTORY = "<Container:Directory><rdf:Seq>{}</rdf:Seq></Container:Directory>"


def smooth(height=64, width=96, channels=3, most=255, dtype=np.uint8):
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 2 + 20, columns * 2, rows + columns, 255 - rows * 2][:channels]
    values = np.stack(planes, -1) * (most / 255)
    return np.rint(values.clip(0, most)).astype(dtype)


def jpeg(pixels=None, **options):
    stream = io.BytesIO()
    options = {"quality": 92, "subsampling": 0} | options
    Image.fromarray(smooth() if pixels is None else pixels).save(stream, "JPEG", **options)
    return stream.getvalue()


def saved(picture, kind, **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def segment(marker, content):
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def with_segments(data, *segments):
    """``data`` with segments behind its first one."""
    end = 4 + struct.unpack_from(">H", data, 4)[0]
    return data[:end] + b"".join(segment(*s) for s in segments) + data[end:]


def segments(data):
    """(marker, content) in front of the pixels."""
    at = 2
    while data[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", data, at + 2)
        yield data[at + 1], data[at + 4 : at + 2 + size]
        at += 2 + size


def xmp_segment(packet):
    return 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + packet.encode()


def chunk(name, content):
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def png(pixels, depth, colour, *before, behind=()):
    """A PNG without Pillow: rows of ``pixels`` packed to ``depth`` bits."""
    height, width = pixels.shape[:2]
    rows = pixels.reshape(height, -1)
    if depth < 8:
        bits = (rows[..., None] >> np.arange(depth)[::-1] & 1).reshape(height, -1)
        packed = np.packbits(bits.astype(np.uint8), axis=1)
    else:
        packed = rows.astype(">u2" if depth == 16 else np.uint8).view(np.uint8)
    raw = b"".join(b"\0" + row.tobytes() for row in packed.reshape(height, -1))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"".join([
        b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), *(chunk(*c) for c in before),
        chunk(b"IDAT", zlib.compress(raw)), *(chunk(*c) for c in behind), chunk(b"IEND", b""),
    ])  # fmt: skip


def motion_photo():
    items = ITEM.format('Item:Semantic="Primary" Item:Mime="image/jpeg"') + ITEM.format(
        f'Item:Semantic="MotionPhoto" Item:Mime="video/mp4" Item:Length="{len(CLIP)}"'
    )
    packet = RDF.format(
        f'{CAMERA} {CONTAINER} GCamera:MotionPhoto="1" GCamera:MicroVideoOffset="{len(CLIP)}"',
        DIRECTORY.format(items),
    )
    return with_segments(jpeg(), xmp_segment(packet)) + CLIP


def gain_map():
    small = jpeg(smooth(16, 24))
    items = ITEM.format('Item:Semantic="Primary" Item:Mime="image/jpeg"') + ITEM.format(
        f'Item:Semantic="GainMap" Item:Mime="image/jpeg" Item:Length="{len(small)}"'
    )
    packet = RDF.format(f"{GAIN} {CONTAINER}", DIRECTORY.format(items))
    return with_segments(jpeg(), xmp_segment(packet)) + small


def stereo():
    frames = [Image.fromarray(smooth()), Image.fromarray(smooth()[:, ::-1])]
    return saved(frames[0], "MPO", save_all=True, append_images=frames[1:])


def segments_of_makers():
    return with_segments(
        jpeg(),
        (0xE1, b"FLIR\0\1\0\0" + b"thermal" * 9),
        (0xE2, b"FPXR\0\0\1" + b"flashpix"),
        (0xE3, b"Meta\0\0" + b"kodak"),
        (0xE4, b"QVCI\0" + b"casio"),
        (0xED, b"Photoshop 3.0\0" + resource(0x0404, IPTC) + resource(0x040B, b"http://a.example")),
        (0xFE, NAME.encode("latin-1")),
    )


def resource(number, content):
    padded = content + b"\0" * (len(content) % 2)
    return b"8BIM" + struct.pack(">HHI", number, 0, len(content)) + padded


def thumbnail_turned():
    """Orientation 6, and a thumbnail that lies as the sensor saw it."""
    small = jpeg(smooth(32, 48))
    ifd0 = struct.pack("<HHHIHH", 1, 0x0112, 3, 1, 6, 0)
    at = 8 + len(ifd0) + 4
    ifd1 = struct.pack("<H", 5)
    for tag, kind, value in (
        (0x0103, 3, 6), (0x0112, 3, 6), (0x0201, 4, 0), (0x0202, 4, len(small)), (0x0100, 3, 48)
    ):  # fmt: skip
        value = at + 2 + 5 * 12 + 4 if tag == 0x0201 else value
        ifd1 += struct.pack("<HHII", tag, kind, 1, value)
    block = b"II*\0\x08\0\0\0" + ifd0 + struct.pack("<I", at) + ifd1 + bytes(4) + small
    return with_segments(jpeg(), (0xE1, b"Exif\0\0" + block))


def renumbered_tables(first, second):
    """A JPEG whose quantisation tables have other numbers than 0 and 1."""
    data = bytearray(jpeg(quality=70))
    at = 0
    while (at := data.find(b"\xff\xdb", at)) >= 0:
        data[at + 4] = {0: first, 1: second}[data[at + 4]]
        at += 4
    frame = data.index(b"\xff\xc0")
    for i in range(3):
        data[frame + 12 + 3 * i] = second if i else first
    return bytes(data)


def stray_bytes():
    data = jpeg()
    end = 4 + struct.unpack_from(">H", data, 4)[0]
    return data[:2] + b"\xff\xe0\0\x02" + segment(0xE1, b"") + b"stray" + data[end:]


def tiff(pixels, **options):
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, metadata=None, **options)
    return stream.getvalue()


def palette_tiff(scale):
    indices = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    colours = np.stack([np.arange(256), 255 - np.arange(256), np.full(256, 99)]) * scale
    return tiff(indices, photometric="palette", colormap=colours.astype(np.uint16))


def palette_tiff_of_one_bit():
    """Two colours, 1 bit each, with a colour map of 2 entries."""
    rows = np.packbits(np.arange(64 * 96).reshape(64, 96) // 7 % 2, axis=1).astype(np.uint8)
    colours = struct.pack("<6H", 0, 65_535, 30_069, 0, 10_023, 51_400)  # R R G G B B
    entries = [
        (256, 3, 1, 96), (257, 3, 1, 64), (258, 3, 1, 1), (259, 3, 1, 1), (262, 3, 1, 3),
        (273, 4, 1, 200), (277, 3, 1, 1), (278, 3, 1, 64), (279, 4, 1, rows.nbytes),
        (320, 3, 6, 180),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    return (
        (b"II*\0\x08\0\0\0" + table + bytes(4)).ljust(180, b"\0")
        + colours.ljust(20, b"\0")
        + rows.tobytes()
    )


def tiff_with_iptc():
    longs = np.frombuffer(IPTC + bytes(-len(IPTC) % 4), "<u4")
    photoshop = resource(0x040B, b"http://a.example") + resource(0x040C, b"small picture!")
    return tiff(
        smooth(), photometric="rgb", compression="deflate",
        extratags=[
            (33723, 4, len(longs), tuple(longs), True),
            (34377, 1, len(photoshop), photoshop, True),
            (315, 2, len(NAME.encode()) + 1, NAME.encode(), True),
            (33432, 2, len(NAME), NAME.encode("latin-1"), True),
            (37724, 7, 16, b"Adobe Photoshop ", True),
        ],
    )  # fmt: skip


def tiff_with_note(note_at=4_000):
    """EXIF with a makers' note whose offset counts from the beginning of the file."""
    note = b"NOTE" + struct.pack("<I", note_at + 8) + b"inside"
    exif = struct.pack("<HHHII", 1, 0x927C, 7, len(note), note_at) + bytes(4)
    pixels = smooth().tobytes()
    entries = [
        (256, 3, 1, 96), (257, 3, 1, 64), (258, 3, 3, 190), (259, 3, 1, 1), (262, 3, 1, 2),
        (271, 2, 5, 196), (273, 4, 1, 4_100), (277, 3, 1, 3), (278, 3, 1, 64),
        (279, 4, 1, len(pixels)), (0x8769, 4, 1, 210),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    data = (b"II*\0\x08\0\0\0" + table + bytes(4)).ljust(190, b"\0")
    data += struct.pack("<3H", 8, 8, 8) + b"Ours\0" + bytes(9) + exif
    return data.ljust(note_at, b"\0") + note.ljust(100, b"\0") + pixels


def inner_bomb():
    """A TIFF of 16×16 whose strip is a JPEG of 2000×2000."""
    strip = jpeg(np.zeros((2_000, 2_000, 3), np.uint8), quality=10)
    entries = [
        (256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 3, 160), (259, 3, 1, 7), (262, 3, 1, 2),
        (273, 4, 1, 200), (277, 3, 1, 3), (278, 3, 1, 16), (279, 4, 1, len(strip)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    data = (b"II*\0\x08\0\0\0" + table + bytes(4)).ljust(160, b"\0") + struct.pack("<3H", 8, 8, 8)
    return data.ljust(200, b"\0") + strip


def dng():
    """A mosaic of a smooth scene, with what a raw converter must know."""
    scene = smooth(most=4_000, dtype=np.uint16)
    mosaic = scene[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = scene[::2, ::2, 0], scene[1::2, 1::2, 2]
    one = (1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1)
    tags = [
        (50706, 1, 4, bytes([1, 4, 0, 0]), True), (50707, 1, 4, bytes([1, 1, 0, 0]), True),
        (33421, 3, 2, (2, 2), True), (33422, 1, 4, bytes([0, 1, 1, 2]), True),
        (50714, 3, 1, 0, True), (50717, 4, 1, 4_095, True), (50721, 10, 9, one, True),
        (50778, 3, 1, 21, True), (50708, 2, 5, b"Ours\0", True), (271, 2, 5, b"Ours\0", True),
        (272, 2, 5, b"Cam1\0", True),
    ]  # fmt: skip
    return tiff(mosaic, photometric="cfa", extratags=tags)


def avif(pixels=None, bits=8, **options):
    pixels = smooth() if pixels is None else pixels
    given = {"primaries": 1, "transfer": 13, "matrix": 6, "pixelformat": "444"} | options
    try:
        return bytes(imagecodecs.avif_encode(pixels, 95, bitspersample=bits, **given))
    except TypeError:  # the oldest imagecodecs takes no code points
        points = struct.pack(">3H", *(given.pop(n) for n in ("primaries", "transfer", "matrix")))
        data = bytes(imagecodecs.avif_encode(pixels, 95, bitspersample=bits, **given))
        at = data.index(b"colrnclx") + 8
        return data[:at] + points + data[at + 6 :]


def with_property(data, name, content):
    """An AVIF with one more essential property of its first item."""
    from restorecli.images import bmff

    found = bmff.items(data)
    writer = bmff._Writer()
    listed = []
    for item in found.items.values():
        more = ((name, content),) if item is found.picture else ()
        writer.add(item.id, (*item.properties, *more))
        listed.append((item, b""))
    ftyp = next(data[a - 8 : b] for kind, a, b in bmff.boxes(data) if kind == "ftyp")
    return bmff._assembled(ftyp, found.primary, listed, b"", writer.iprp())


def cropped_avif():
    """Shown are 32×20 in the middle, turned to the left."""
    clap = struct.pack(">IIIIiIiI", 32, 1, 20, 1, 0, 1, 0, 1)
    return with_property(with_property(avif(), "clap", clap), "irot", b"\x01")


def bmp_fields(masks, bits, values, header=40, alpha=0):
    height, width = values.shape
    row = width * bits // 8
    pad = -row % 4
    fields = struct.pack("<4I", *masks, alpha) if header >= 56 else struct.pack("<3I", *masks)
    start = 14 + max(header, 40) + (12 if header == 40 else 0)
    head = struct.pack("<IiiHHIIiiII", header, width, height, 1, bits, 3, 0, 2835, 2835, 0, 0)
    body = b"".join(r.astype(f"<u{bits // 8}").tobytes() + bytes(pad) for r in values[::-1])
    front = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + fields
    return front.ljust(start, b"\0") + body


def bmp_of_os2():
    """The header of OS/2 that stops after 16 bytes."""
    rows = smooth()[::-1, :, ::-1]
    head = struct.pack("<IiiHH", 16, 96, 64, 1, 24)
    return b"BM" + struct.pack("<IHHI", 30 + rows.nbytes, 0, 0, 30) + head + rows.tobytes()


def heic(*pictures, **options):
    import pillow_heif

    file = None
    for picture in pictures:
        one = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        if file is None:
            file = pillow_heif.from_pillow(one)
        else:
            file.add_from_pillow(one)
    stream = io.BytesIO()
    file.save(stream, quality=95, **options)
    return stream.getvalue()


def large_profile(size):
    """The profile of sRGB with a private tag that makes it longer."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    (count,) = struct.unpack_from(">I", data, 128)
    for i in range(count):
        (at,) = struct.unpack_from(">I", data, 132 + 12 * i + 4)
        struct.pack_into(">I", data, 132 + 12 * i + 4, at + 12)
    entry = struct.pack(">4sII", b"zzzz", len(data) + 12, size)
    struct.pack_into(">I", data, 128, count + 1)
    end = 132 + 12 * count
    data = data[:end] + entry + data[end:] + b"data" + bytes(size - 4)
    struct.pack_into(">I", data, 0, len(data))
    return bytes(data)


def tagged_jpeg():
    """A JPEG with a name and a place in every block that can hold one."""
    exif = Image.Exif()
    exif.load(exif_of(1))
    exif[0x013B], exif[0x8298], exif[0x010E], exif[0x013C] = (NAME,) * 4
    exif[0x9C9D] = NAME.encode("utf-16-le")
    inner = exif.get_ifd(0x8769)
    inner[0x9286], inner[0xA430], inner[0x829A] = b"ASCII\0\0\0" + NAME.encode(), NAME, 0.004
    inner[0x927C] = b"Ours serial 4711 " + NAME.encode()
    exif.get_ifd(0x8825)[29] = "2020:02:02"
    packet = RDF.format(
        f'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:creator="{NAME}" dc:source="Sometown"', ""
    )
    return (
        with_segments(
            jpeg(exif=exif.tobytes(), icc_profile=ICC, dpi=(300, 300)),
            xmp_segment(packet),
            (
                0xED,
                b"Photoshop 3.0\0" + resource(0x0404, IPTC) + resource(0x040B, b"http://a.example"),
            ),
            (0xFE, NAME.encode()),
        )
        + CLIP
    )


CHUNKS = (
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)),
    (b"sBIT", b"\5\6\5"),
    (b"bKGD", struct.pack(">3H", 1, 2, 3)),
    (b"pHYs", struct.pack(">IIB", 3000, 3000, 1)),
    (b"sPLT", b"some\0\x08\1\2\3\4\0\5"),
    (b"tIME", struct.pack(">HBBBBB", 2020, 2, 2, 20, 20, 20)),
    (b"oFFs", struct.pack(">iiB", 7, 8, 0)),
    (b"pCAL", b"x\0\0\0\0\0\0\0\0\1\0\2m\x000\x001"),
    (b"sCAL", b"\0011.5\0001.5"),
    (b"sTER", b"\1"),
    (b"mDCV", bytes(range(24))),
    (b"cLLI", bytes(8)),
    (b"zTXt", b"Long\0\0" + zlib.compress(NAME.encode("latin-1") * 9)),
    (b"iTXt", b"Author\0\0\0de\0\0" + NAME.encode()),
    (b"prVt", b"of somebody, safe to copy"),
)  # fmt: skip


def png_of_every_chunk():
    return png(smooth(), 8, 2, *CHUNKS, (b"unKN", b"of these very pixels"), behind=[
        (b"tEXt", b"Behind\0pixels")
    ])  # fmt: skip


def gray_png(depth):
    values = (np.arange(64 * 96).reshape(64, 96) // 5 % 2**depth).astype(np.uint16)
    return png(values, depth, 0, (b"tRNS", struct.pack(">H", 1)))


def kinds():
    """Every kind by its file's name."""
    gray = np.repeat(smooth(channels=1), 3, axis=2)
    bad_crc = bytearray(png(smooth(), 8, 2, (b"tEXt", b"Author\0somebody")))
    bad_crc[bad_crc.index(b"somebody") + 8] ^= 1
    small = Image.fromarray(smooth())
    deep = smooth(most=4_095, dtype=np.uint16)
    opaque = np.dstack([smooth(), np.full((64, 96), 255, np.uint8)])
    packed = np.packbits((deep[..., None] >> np.arange(12)[::-1] & 1).astype(np.uint8)).tobytes()
    assert len(packed) == 64 * 96 * 3 * 3 // 2
    five = smooth().astype(np.uint32) >> 4
    return {
        "palette_of_8_bits.tif": palette_tiff(1),
        "palette_of_16_bits.tif": palette_tiff(257),
        "palette_of_1_bit.tif": palette_tiff_of_one_bit(),
        "p3.avif": avif(primaries=12),
        "pq.avif": avif(
            smooth(most=1_023, dtype=np.uint16), 10, primaries=9, transfer=16, matrix=9
        ),
        "cropped.avif": cropped_avif(),
        "motion.jpg": motion_photo(),
        "gain.jpg": gain_map(),
        "stereo.jpg": stereo(),
        "makers.jpg": segments_of_makers(),
        "iptc.tif": tiff_with_iptc(),
        "note.tif": tiff_with_note(),
        "lossless.webp": saved(small, "WEBP", lossless=True, icc_profile=large_profile(6_000)),
        **{f"gray{depth}.png": gray_png(depth) for depth in (1, 2, 4, 8, 16)},
        "upright.jpg": jpeg_440(),
        "large_profile.png": png(
            smooth(), 8, 2, (b"iCCP", b"mine\0\0" + zlib.compress(large_profile(1_500_000)))
        ),
        "thumbnail.jpg": thumbnail_turned(),
        "gray_as_rgb.png": png(gray, 8, 2),
        "bad_checksum.png": bytes(bad_crc),
        "really_a_png.jpg": png(smooth(), 8, 2),
        "twelve.jpg": bytes(imagecodecs.jpeg8_encode(deep, 98, bitspersample=12)),
        "lossless.jpg": bytes(imagecodecs.jpeg8_encode(smooth(), lossless=True)),
        "unused_alpha.bmp": bmp_fields(
            (0xFF0000, 0xFF00, 0xFF), 32, smooth().astype(np.uint32) @ [65_536, 256, 1],
            header=124, alpha=0xFF000000,
        ),
        "four_bits.bmp": bmp_fields((0xF00, 0xF0, 0xF), 16, five @ [256, 16, 1]),
        "os2.bmp": bmp_of_os2(),
        "chunks.png": png_of_every_chunk(),
        "turned_by_xmp.png": png(
            smooth(), 8, 2,
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + RDF.format(
                'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"', "").encode()),
        ),
        "opaque.tif": tiff(opaque, photometric="rgb", extrasamples=["assocalpha"]),
        "tables_1_3.jpg": renumbered_tables(1, 3),
        "stray.jpg": stray_bytes(),
        "still.gif": saved(small.quantize(100), "GIF", comment=b"hello"),
        "p6.ppm": b"P6 # made by code\n96 64\n255\n" + smooth().tobytes(),
        "p5.pgm": b"P5 96 64 4095\n" + deep[..., 0].astype(">u2").tobytes(),
        "eight.jxl": bytes(imagecodecs.jpegxl_encode(smooth(), lossless=True)),
        "deep.avif": avif(smooth(most=1_023, dtype=np.uint16), 10),
        "twelve.tif": twelve_bit_tiff(packed),
        "tagged.jpg": tagged_jpeg(),
    }  # fmt: skip


def jpeg_440():
    return bytes(imagecodecs.jpeg8_encode(smooth(), 92, subsampling="440"))


def twelve_bit_tiff(packed):
    entries = [
        (256, 3, 1, 96), (257, 3, 1, 64), (258, 3, 3, 160), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 200), (277, 3, 1, 3), (278, 3, 1, 64), (279, 4, 1, len(packed)),
    ]  # fmt: skip
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
    data = (b"II*\0\x08\0\0\0" + table + bytes(4)).ljust(160, b"\0")
    return (data + struct.pack("<3H", 12, 12, 12)).ljust(200, b"\0") + packed
