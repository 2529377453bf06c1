"""Relatives of the kinds in `tests.kinds`: nothing that a file says comes back silently poorer."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import zlib

import imagecodecs
import numpy as np
import pytest

from restorecli.errors import InputError
from restorecli.images import colour, decode_photo, encode_photo, jxl, lost_in
from restorecli.images.photo import Carried, Colours, Part, Photo
from tests import carrying, kinds, matrix

P3 = (31_270, 32_900, 68_000, 32_000, 26_500, 69_000, 15_000, 6_000)


def carried_into(data, name, target, *, metadata="keep"):
    """The bytes of a result in the format of ``target``, and all notes."""
    photo = decode_photo(data, name)
    made = encode_photo(photo, target, metadata=metadata)
    return made, (*photo.notes, *lost_in(target, photo, metadata=metadata))


def tags_of(path, data):
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    path.write_bytes(data)
    command = ["exiftool", "-j", "-G1", "-a", "-n", path]
    return json.loads(subprocess.run(command, capture_output=True, check=False).stdout)[0]


# JPEG


def long_exif(size):
    """EXIF with a user's comment and a maker's note of ``size`` bytes, as bytes of a block."""
    note = b"N" * size
    inner = struct.pack("<H", 2) + struct.pack("<HHII", 0x927C, 7, size, 8 + 18 + 30)
    inner += struct.pack("<HHII", 0xA002, 4, 1, 96) + bytes(4)
    first = struct.pack("<H", 1) + struct.pack("<HHII", 0x8769, 4, 1, 8 + 18) + bytes(4)
    return b"II*\0\x08\0\0\0" + first + inner + note


def test_exif_of_several_segments_stays_whole(tmp_path):
    exif = long_exif(120_000)
    pieces = [exif[at : at + 65_000] for at in range(0, len(exif), 65_000)]
    data = kinds.with_segments(kinds.jpeg(), *((0xE1, b"Exif\0\0" + one) for one in pieces))
    assert decode_photo(data, "a.jpg").carried.exif == exif
    made, notes = carried_into(data, "a.jpg", tmp_path / "a.jpg")
    assert notes == ()
    assert decode_photo(made, "a.jpg").carried.exif == exif
    made, notes = carried_into(data, "a.jpg", tmp_path / "a.png")
    assert notes == ()
    assert decode_photo(made, "a.png").carried.exif == exif


def test_a_second_exif_block_goes_along_upright_or_is_told_of(tmp_path):
    first, second = matrix.exif_of(6)[6:], matrix.exif_of(8)[6:]
    data = kinds.with_segments(
        kinds.jpeg(), (0xE1, b"Exif\0\0" + first), (0xE1, b"Exif\0\0" + second)
    )
    made, notes = carried_into(data, "a.jpg", tmp_path / "a.jpg")
    assert notes == ()
    blocks = [c for m, c in kinds.segments(made) if m == 0xE1]
    assert len(blocks) == 2
    tags = tags_of(tmp_path / "a.jpg", made)
    assert {v for k, v in tags.items() if k.endswith(":Orientation")} == {1}
    _, notes = carried_into(data, "a.jpg", tmp_path / "a.png")
    assert notes == ("a second EXIF block is not kept: PNG has no place for it",)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".jxl"])
def test_long_xmp_goes_everywhere_and_back(tmp_path, suffix):
    made, notes = carried_into(carrying.long_xmp(), "a.jpg", tmp_path / f"a{suffix}")
    assert notes == ()
    tags = tags_of(tmp_path / f"a{suffix}", made)
    assert tags["XMP-dc:Format"] == "rain"
    assert len(tags["XMP-dc:Rights"]) == carrying.LONG
    if suffix == ".jpg":
        return
    assert "XMP-xmpNote:HasExtendedXMP" not in tags
    back, notes = carried_into(made, f"a{suffix}", tmp_path / "back.jpg")
    assert notes == ()
    assert len(tags_of(tmp_path / "back.jpg", back)["XMP-dc:Rights"]) == carrying.LONG


def test_long_xmp_that_is_incomplete_is_told_of(tmp_path):
    whole = carrying.long_xmp()
    at = whole.rindex(b"http://ns.adobe.com/xmp/extension/\0") - 4
    (size,) = struct.unpack_from(">H", whole, at + 2)
    _, notes = carried_into(whole[:at] + whole[at + 2 + size :], "a.jpg", tmp_path / "a.png")
    assert notes == ("the second part of XMP is not kept: PNG has no place for it",)


@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9])
def test_an_orientation_of_any_type_turns_once(tmp_path, kind):
    entry = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, kind, 1, 6) + bytes(4)
    block = b"II*\0\x08\0\0\0" + entry
    sources = {
        "a.jpg": kinds.with_segments(kinds.jpeg(), (0xE1, b"Exif\0\0" + block)),
        "a.png": png_colours((b"eXIf", block)),
        "a.tif": kinds.tiff(kinds.smooth(), photometric="rgb", extratags=[(274, kind, 1, 6, True)]),
    }
    for name, data in sources.items():
        photo = decode_photo(data, name)
        assert photo.size == (96, 64), name
        again = decode_photo(encode_photo(photo, tmp_path / name), name)
        assert again.size == (96, 64), name


def test_what_stands_between_scans_or_behind_a_webp_is_told_of(tmp_path):
    data = kinds.jpeg(progressive=True)
    second = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    among = data[:second] + kinds.segment(0xFE, b"between") + data[second:]
    _, notes = carried_into(among, "a.jpg", tmp_path / "a.jpg")
    assert notes == ("1 segment(s) between its scans are not kept",)
    assert carried_into(data, "a.jpg", tmp_path / "a.jpg")[1] == ()
    webp = kinds.saved(kinds.Image.fromarray(kinds.smooth()), "WEBP", lossless=True)
    made, notes = carried_into(webp + b"behind it " * 9, "a.webp", tmp_path / "a.webp")
    assert notes == ("90 bytes behind the end of the WebP are not kept",)
    assert b"behind" not in made


# PNG


def png_colours(*chunks):
    return kinds.png(kinds.smooth(), 8, 2, *chunks)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tif", ".avif"])
@pytest.mark.parametrize(
    ("gamma", "points"), [(45_455, P3), (100_000, None), (55_556, P3)], ids=["P3", "linear", "both"]
)
def test_gamma_and_primaries_of_a_png_become_a_profile(tmp_path, suffix, gamma, points):
    chunks = [(b"gAMA", struct.pack(">I", gamma))]
    chunks += [(b"cHRM", struct.pack(">8I", *points))] if points else []
    made, notes = carried_into(png_colours(*chunks), "a.png", tmp_path / f"a{suffix}")
    assert notes == ("its gamma and primaries became a colour profile",)
    profile = decode_photo(made, f"a{suffix}").carried.icc_profile
    assert profile
    expected = colour.profile_of(Colours(12 if points else 1, 13), "a", gray=False)
    if gamma == 45_455:  # the same light as the code points of P3 say
        pixels = kinds.smooth()
        ours, theirs = (
            colour.to_srgb(Photo(pixels=pixels, carried=Carried(icc_profile=one)), "a").pixels
            for one in (profile, expected)
        )
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    kept, notes = carried_into(png_colours(*chunks), "a.png", tmp_path / "a.png")
    assert notes == ()
    assert b"gAMA" in kept
    assert b"iCCP" not in kept


def test_what_a_png_says_of_srgb_or_beside_a_profile_needs_no_other(tmp_path):
    usual = [(b"gAMA", struct.pack(">I", 45_455)), kinds.CHUNKS[0]]
    beside = [(b"iCCP", b"x\0\0" + zlib.compress(matrix.ICC)), (b"gAMA", struct.pack(">I", 9))]
    for chunks in (usual, [*usual, (b"sRGB", b"\0")], [(b"sRGB", b"\0"), (b"gAMA", bytes(4))]):
        made, notes = carried_into(png_colours(*chunks), "a.png", tmp_path / "a.jpg")
        assert notes == ()
        assert decode_photo(made, "a.jpg").carried.icc_profile is None
    made, notes = carried_into(png_colours(*beside), "a.png", tmp_path / "a.jpg")
    assert decode_photo(made, "a.jpg").carried.icc_profile == matrix.ICC
    _, notes = carried_into(png_colours((b"gAMA", bytes(4))), "a.png", tmp_path / "a.jpg")
    assert "make no sense" in notes[0]


def test_gamma_is_converted_where_no_profile_can_be(tmp_path):
    data = png_colours((b"gAMA", struct.pack(">I", 100_000)))
    made, notes = carried_into(data, "a.png", tmp_path / "a.bmp")
    assert any("converted to sRGB" in note for note in notes)
    light = kinds.smooth() / 255
    shown = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055) * 255
    assert np.abs(decode_photo(made, "a.bmp").pixels - shown).max() <= 2


def hexadecimal(kind, value):
    text = b"\n" + kind + b"\n%8d\n" % len(value) + value.hex().encode() + b"\n"
    return b"zTXt", b"Raw profile type " + kind + b"\0\0" + zlib.compress(text)


@pytest.mark.parametrize("records", [kinds.IPTC, kinds.resource(0x0404, kinds.IPTC)])
def test_iptc_in_a_png_is_never_lost(tmp_path, records):
    data = png_colours(hexadecimal(b"iptc", records))
    for suffix in (".png", ".jpg", ".tif"):
        made, notes = carried_into(data, "a.png", tmp_path / f"a{suffix}")
        assert notes == ()
        assert tags_of(tmp_path / f"a{suffix}", made)["IPTC:By-line"] == "Some Body"


def test_small_things_that_a_png_says_are_told_when_they_stay_behind(tmp_path):
    chunks = [(b"sBIT", b"\5\6\5"), (b"bKGD", bytes(6)), (b"pHYs", struct.pack(">IIB", 2, 1, 0))]
    _, notes = carried_into(png_colours(*chunks), "a.png", tmp_path / "a.jpg")
    assert [note.split(" is not kept")[0] for note in notes] == [
        "chunk sBIT", "chunk bKGD", "chunk pHYs"
    ]  # fmt: skip
    behind = b"after the end" * 9
    made, notes = carried_into(png_colours() + behind, "a.png", tmp_path / "a.png")
    assert notes == ("117 bytes behind the end of the PNG are not kept",)
    assert b"after" not in made


# GIF, PNM, BMP, TIFF


def gif(*blocks):
    data = kinds.saved(kinds.Image.fromarray(kinds.smooth()).quantize(64), "GIF")
    start = 13 + (3 << (data[10] & 7) + 1)
    return b"GIF89a" + data[6:start] + b"".join(blocks) + data[start:]


def application(name, content):
    pieces = (content[at : at + 255] for at in range(0, len(content), 255))
    body = b"".join(bytes([len(piece)]) + piece for piece in pieces)
    return b"\x21\xff\x0b" + name + body + b"\0"


def test_a_gif_keeps_its_profile_and_all_comments(tmp_path):
    data = gif(
        b"\x21\xfe\3one\0", b"\x21\xfe\3two\0", application(b"ICCRGBG1012", matrix.ICC),
        application(b"NETSCAPE2.0", b"\1\0\0"), application(b"MGKIPTC0000", kinds.IPTC),
    )  # fmt: skip
    photo = decode_photo(data, "a.gif")
    assert photo.carried.icc_profile == matrix.ICC
    assert photo.carried.comment == b"one\ntwo"
    assert photo.notes == ("application block MGKIPTC0 is not kept",)


def test_pictures_behind_a_pnm_are_told_of_and_every_comment_goes_along(cli, tmp_path):
    one = b"P6 # one\n# two\n96 64\n255\n" + kinds.smooth().tobytes()
    photo = decode_photo(one, "a.ppm")
    assert photo.carried.comment == b"one\ntwo"
    assert photo.notes == ()
    photo = decode_photo(one + one + one, "a.ppm")
    assert photo.notes == ("2 further picture(s) behind the first one are not kept",)
    assert photo.lost_pictures == 2


def test_a_bmp_that_is_opaque_everywhere_stays_a_bmp(tmp_path):
    values = kinds.smooth().astype(np.uint32) @ [65_536, 256, 1] | 0xFF000000
    data = kinds.bmp_fields((0xFF0000, 0xFF00, 0xFF), 32, values, header=124, alpha=0xFF000000)
    made, _ = carried_into(data, "a.bmp", tmp_path / "a.bmp")
    assert np.array_equal(decode_photo(made, "a.bmp").pixels, kinds.smooth())


def test_what_a_bmp_says_of_its_colours_is_told():
    values = kinds.smooth().astype(np.uint32) @ [65_536, 256, 1]
    data = bytearray(kinds.bmp_fields((0xFF0000, 0xFF00, 0xFF), 32, values, header=124))
    data[70:74] = b"sRGB"[::-1]
    assert decode_photo(bytes(data), "a.bmp").notes == ()
    data[70:74], data[74:78] = bytes(4), b"\1\2\3\4"
    assert "primaries and gamma" in decode_photo(bytes(data), "a.bmp").notes[0]
    data[70:74] = b"KNIL"
    assert "stands in another file" in decode_photo(bytes(data), "a.bmp").notes[0]


def test_a_tag_of_64_bits_is_told_of():
    packet = kinds.RDF.format('xmlns:dc="http://purl.org/dc/elements/1.1/"', "").encode()
    data = kinds.tiff(
        kinds.smooth(), photometric="rgb", bigtiff=True,
        extratags=[(65_000, 16, 1, 2**40, True), (271, 2, 5, b"Ours\0", True),
                   (700, 1, len(packet), packet, True)],
    )  # fmt: skip
    photo = decode_photo(data, "a.tif")
    assert len(photo.notes) == 1
    assert "tag 65000" in photo.notes[0]
    assert photo.carried.xmp == packet
    assert b"Ours" in photo.carried.exif


def test_a_palette_of_deep_colours_keeps_their_depth():
    colours = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 85 + 1
    indices = np.tile(np.arange(96, dtype=np.uint8), (64, 1))
    photo = decode_photo(kinds.tiff(indices, photometric="palette", colormap=colours), "a.tif")
    assert photo.pixels.dtype == np.uint16
    assert np.array_equal(photo.pixels, colours.T[indices])


# JPEG XL


def jxl_file(*parts):
    data = bytes(imagecodecs.jpegxl_encode(kinds.smooth(), lossless=True))
    return jxl.with_parts(data, Carried(container="JXL", parts=parts))


def packed_box(kind, content):
    return Part("brob", kind + bytes(imagecodecs.brotli_encode(content)))


def test_packed_boxes_of_a_jpeg_xl_are_unpacked(tmp_path):
    exif = matrix.exif_of(1)[6:]
    data = jxl_file(
        packed_box(b"xml ", matrix.XMP), packed_box(b"Exif", b"\0\0\0\0" + exif),
        packed_box(b"jumb", b"others"),
    )  # fmt: skip
    photo = decode_photo(data, "a.jxl")
    assert (photo.carried.xmp, photo.carried.exif) == (matrix.XMP, exif)
    for suffix in (".jxl", ".png"):
        made, _ = carried_into(data, "a.jxl", tmp_path / f"a{suffix}")
        tags = tags_of(tmp_path / f"a{suffix}", made)
        assert tags["XMP-dc:Format"] == "rain"
        assert tags["IFD0:Make"] == "Camera of ours"


def test_a_packed_box_that_is_a_bomb_stays_packed():
    bomb = jxl_file(packed_box(b"xml ", bytes(100 << 20)))
    photo = decode_photo(bomb, "a.jxl")
    assert photo.carried.xmp is None
    assert [part.name for part in photo.carried.parts] == ["brob"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_jpeg_xl_keeps_its_profile(tmp_path, channels):
    pytest.importorskip("pylibjxl")
    pixels = kinds.smooth(channels=channels)
    profile = colour.profile_of(Colours(12, 4), "a", gray=channels == 1)
    data = jxl.with_profile(pixels, profile, distance=None)
    photo = decode_photo(data, "a.jxl")
    assert photo.carried.icc_profile == profile
    assert np.array_equal(photo.pixels, pixels[..., :3].squeeze())
    made, notes = carried_into(data, "a.jxl", tmp_path / "b.jxl")
    assert notes == ()
    assert decode_photo(made, "b.jxl").carried.icc_profile == profile
    if shutil.which("djxl"):
        (tmp_path / "b.jxl").write_bytes(made)
        subprocess.run(["djxl", tmp_path / "b.jxl", tmp_path / "c.png"], check=True,
                       capture_output=True)  # fmt: skip
        other = decode_photo((tmp_path / "c.png").read_bytes(), "c.png")
        assert other.carried.icc_profile == profile
        assert np.array_equal(other.pixels, photo.pixels)


def test_without_the_further_package_a_profile_of_jpeg_xl_is_refused_with_it(monkeypatch):
    pytest.importorskip("pylibjxl")
    data = jxl.with_profile(kinds.smooth(), matrix.ICC, distance=None)
    monkeypatch.setitem(sys.modules, "pylibjxl", None)
    with pytest.raises(InputError, match=r"needs a further package.*jxl"):
        decode_photo(data, "a.jxl")


@pytest.mark.parametrize("distance", ["0.3", "0"])
def test_a_jpeg_xl_of_another_encoder_has_the_colours_that_its_profile_says(tmp_path, distance):
    if not shutil.which("cjxl"):
        pytest.skip("cjxl is not installed")
    pixels = kinds.smooth() // 3 + 80  # within sRGB
    profile = colour.profile_of(Colours(12, 4), "a", gray=False)
    (tmp_path / "a.png").write_bytes(
        kinds.png(pixels, 8, 2, (b"iCCP", b"x\0\0" + zlib.compress(profile)))
    )
    subprocess.run(["cjxl", tmp_path / "a.png", tmp_path / "a.jxl", "-d", distance], check=True,
                   capture_output=True)  # fmt: skip
    photo = decode_photo((tmp_path / "a.jxl").read_bytes(), "a.jxl")
    expected = Photo(pixels=pixels, carried=Carried(icc_profile=profile))
    shown, wanted = colour.to_srgb(photo, "a").pixels, colour.to_srgb(expected, "a").pixels
    assert np.abs(shown.astype(int) - wanted).max() <= 3
    assert [note.split(":")[0] for note in photo.notes] == ["converted to sRGB"] * (distance > "0")


@pytest.mark.parametrize("bits", [10, 12])
def test_a_jpeg_xl_of_10_or_12_bits_is_as_bright_as_it_is(tmp_path, bits):
    if not shutil.which("cjxl"):
        pytest.skip("cjxl is not installed")
    values = kinds.smooth(most=2**bits - 1, dtype=np.uint16)
    deep = np.rint(values * (65_535 / (2**bits - 1))).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    subprocess.run(["cjxl", tmp_path / "a.png", tmp_path / "a.jxl", "-d", "0",
                    f"--override_bitdepth={bits}"], check=True, capture_output=True)  # fmt: skip
    photo = decode_photo((tmp_path / "a.jxl").read_bytes(), "a.jxl")
    assert np.array_equal(photo.pixels, deep)


def test_the_way_back_to_a_jpeg_is_told_of(tmp_path):
    data = jxl_file(Part("jbrd", b"how it was coded"))
    made, notes = carried_into(data, "a.jxl", tmp_path / "a.jxl")
    assert notes == ("the way back to the JPEG that it was made of is not kept",)
    assert b"jbrd" not in made
