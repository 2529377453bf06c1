"""Kinds of files that others spoil or refuse: what comes back, by readers that are not ours."""

from __future__ import annotations

import io
import json
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from restorecli.errors import InputError, OutputError
from restorecli.images import bmff, decode_photo, encode_photo, ifd, jxl, lost_in, read_photo
from restorecli.images.formats import suffix_for
from restorecli.images.photo import Carried, Colours
from restorecli.images.reading import identify_data
from tests import kinds, matrix
from tests.conftest import run_command

FILES = kinds.kinds()


@pytest.fixture(scope="module")
def restored(tmp_path_factory):
    """Every kind, read and written again: folders, and notes by name."""
    before, after = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    notes, paths, photos = {}, {}, {}
    for name, data in FILES.items():
        (before / name).write_bytes(data)
        photo = photos[name] = read_photo(before / name)
        kind = identify_data(io.BytesIO(data))
        path = after / name
        paths[name] = path = path.with_suffix(suffix_for(path.suffix, kind))
        path.write_bytes(encode_photo(photo, path))
        notes[name] = " ".join([*photo.notes, *lost_in(path, photo)])
    return SimpleNamespace(before=before, after=after, notes=notes, paths=paths, photos=photos)


@pytest.fixture(scope="module")
def tags(restored):
    """What exiftool finds in the sources and the results, by the sources' names."""
    if not shutil.which("exiftool"):
        pytest.skip("exiftool is not installed")
    sources, results = exiftool(restored.before), exiftool(restored.after)
    return SimpleNamespace(
        before=sources, after={n: results[path.name] for n, path in restored.paths.items()}
    )


def exiftool(folder, *options):
    command = ["exiftool", "-j", "-G1", "-a", "-b", "-charset", "iptc=latin1", *options, folder]
    ended = subprocess.run(command, capture_output=True)
    return {t["SourceFile"].rsplit("/", 1)[1]: t for t in json.loads(ended.stdout)}


def seen_by_imagemagick(path, *options):
    if not shutil.which("convert"):
        pytest.skip("ImageMagick is not installed")
    command = ["convert", path, *options, "-depth", "8", "RGBA:-"]
    ended = subprocess.run(command, capture_output=True)
    if not ended.stdout:
        pytest.skip(f"this ImageMagick does not read {path.suffix}")
    return np.frombuffer(ended.stdout, np.uint8).reshape(-1, 4)


EXACT = [
    "palette_of_8_bits.tif", "palette_of_1_bit.tif", "gray1.png", "gray2.png", "gray4.png",
    "gray8.png", "large_profile.png", "bad_checksum.png", "really_a_png.jpg", "os2.bmp",
    "chunks.png", "opaque.tif", "lossless.webp", "p6.ppm", "still.gif", "iptc.tif", "note.tif",
    "gray_as_rgb.png", "turned_by_xmp.png",
]  # fmt: skip


@pytest.mark.parametrize("name", EXACT)
def test_imagemagick_sees_the_same_picture_before_and_after(restored, name):
    before = seen_by_imagemagick(restored.before / name)
    after = seen_by_imagemagick(restored.paths[name])
    visible = before[:, 3] > 0
    np.testing.assert_array_equal(before[:, 3], after[:, 3])
    np.testing.assert_array_equal(before[visible], after[visible])


def test_a_palette_of_small_numbers_is_not_black(restored):
    small, large = (restored.photos[f"palette_of_{n}_bits.tif"].pixels for n in (8, 16))
    np.testing.assert_array_equal(small, large)
    assert small[0, :, 0].tolist() == list(range(96))


@pytest.mark.parametrize("depth", [1, 2, 4, 8, 16])
def test_the_transparent_value_of_a_gray_png_is_compared_as_it_is_stored(restored, depth):
    stored = np.arange(64 * 96).reshape(64, 96) // 5 % 2**depth
    for photo in (
        restored.photos[f"gray{depth}.png"],
        read_photo(restored.paths[f"gray{depth}.png"]),
    ):
        np.testing.assert_array_equal(photo.alpha == 0, stored == 1)


@pytest.mark.parametrize(
    ("name", "expected"), [("p3.avif", (12, 13, 6, 8)), ("pq.avif", (9, 16, 9, 10))]
)
def test_avif_keeps_its_code_points_and_depth(restored, name, expected):
    if not shutil.which("avifdec"):
        pytest.skip("avifdec is not installed")
    shown = subprocess.run(["avifdec", "--info", restored.paths[name]], capture_output=True)
    lines = dict(
        line.strip(" *").split(":", 1) for line in shown.stdout.decode().splitlines() if ":" in line
    )
    found = {key.strip(): value.strip() for key, value in lines.items()}
    names = ("Color Primaries", "Transfer Char.", "Matrix Coeffs.", "Bit Depth")
    assert tuple(int(found[key]) for key in names) == expected


def test_code_points_become_a_profile_where_there_is_no_place_for_them(restored, tmp_path):
    photo = restored.photos["p3.avif"]
    data = encode_photo(photo, tmp_path / "a.png")
    assert data[data.index(b"cICP") + 4 :][:4] == bytes([12, 13, 0, 1])
    shown = decode_photo(encode_photo(photo, tmp_path / "a.bmp"), "a.bmp").pixels
    for suffix in (".jpg", ".webp", ".tif"):
        data = encode_photo(photo, tmp_path / f"a{suffix}")
        again = decode_photo(data, "again")
        assert again.carried.icc_profile
        bmp = decode_photo(encode_photo(again, tmp_path / "b.bmp"), "b.bmp").pixels
        error = np.abs(bmp.astype(int) - shown)
        assert error.mean() < 2, suffix  # the same colours, whichever way they were told
    assert np.abs(shown.astype(int) - photo.pixels).mean() > 3  # and not the same numbers
    with pytest.raises(OutputError, match="PQ"):
        encode_photo(restored.photos["pq.avif"].in_depth(np.uint8), tmp_path / "a.jpg")


def test_an_avif_is_cropped_and_turned_as_it_says(restored):
    expected = np.rot90(kinds.smooth()[22:42, 32:64])
    assert restored.photos["cropped.avif"].size == (32, 20)
    assert np.abs(restored.photos["cropped.avif"].pixels.astype(int) - expected).mean() < 2


def test_a_clip_behind_a_jpeg_goes_with_it_or_is_told_of(restored, tags, tmp_path):
    data = restored.paths["motion.jpg"].read_bytes()
    assert data.endswith(b"\xff\xd9" + kinds.CLIP)
    assert tags.after["motion.jpg"]["XMP-GCamera:MicroVideoOffset"] == len(kinds.CLIP)
    photo = restored.photos["motion.jpg"]
    path = tmp_path / "a.png"
    path.write_bytes(encode_photo(photo, path))
    assert "clip behind the picture" in " ".join(lost_in(path, photo))
    found = exiftool(tmp_path)["a.png"]
    assert not any("Motion" in n or "MicroVideo" in n for n in found)
    assert not any("MotionPhoto" in str(v) for v in found.values())


def test_a_gain_map_goes_with_a_note_and_xmp_does_not_announce_it(restored, tags):
    assert "gain map" in restored.notes["gain.jpg"]
    assert "hdrgm" in str(tags.before["gain.jpg"]).lower()
    found = str(tags.after["gain.jpg"])
    assert "GainMap" not in found
    assert "hdrgm" not in found.lower()
    assert restored.paths["gain.jpg"].read_bytes().count(b"\xff\xd8\xff") == 1


def test_further_pictures_are_told_of_and_never_lost_in_place(cli, tmp_path, identity_weights):
    path = tmp_path / "stereo.jpg"
    path.write_bytes(FILES["stereo.jpg"])
    outcome = cli("derain", path, "--weights", identity_weights, "--in-place")
    assert outcome.exit_code == 2
    assert "1 further picture(s) in it would be lost" in " ".join(outcome.stderr.split())
    assert path.read_bytes() == FILES["stereo.jpg"]
    photo = read_photo(path)
    assert any("further picture" in note for note in photo.notes)


def test_segments_of_makers_travel_byte_for_byte(restored, tags):
    before, after = FILES["makers.jpg"], restored.paths["makers.jpg"].read_bytes()
    for part in (b"FLIR\0", b"FPXR\0", b"Meta\0", b"QVCI\0", b"Photoshop 3.0\0"):
        at = before.index(part) - 4
        size = struct.unpack_from(">H", before, at + 2)[0] + 2
        assert before[at : at + size] in after, part
    assert tags.after["makers.jpg"]["IPTC:By-line"] == "Some Body"
    assert tags.after["makers.jpg"]["File:Comment"] == tags.before["makers.jpg"]["File:Comment"]


def test_iptc_in_a_tiff_and_text_beyond_ascii_stay_as_they_are(restored, tags):
    found, source = tags.after["iptc.tif"], tags.before["iptc.tif"]
    assert found["IPTC:By-line"] == "Some Body"
    assert found["IPTC:City"] == "Town"
    assert found["IFD0:Artist"] == kinds.NAME
    assert found["IFD0:Copyright"] == source["IFD0:Copyright"]
    assert found["Photoshop:URL"] == "http://a.example"
    assert "layers" in restored.notes["iptc.tif"]
    assert "thumbnail" in restored.notes["iptc.tif"]
    with tifffile.TiffFile(restored.paths["iptc.tif"]) as file:
        tag = file.pages.first.tags[33723]
        data = restored.paths["iptc.tif"].read_bytes()
        assert data[tag.valueoffset :].startswith(kinds.IPTC)
        assert tag.dtype == 4


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_iptc_finds_its_place_in_other_containers(restored, tmp_path, suffix, tags):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_photo(restored.photos["iptc.tif"], path))
    found = exiftool(tmp_path)[path.name]
    assert found["IPTC:By-line"] == "Some Body"
    assert found["IFD0:Artist"] == kinds.NAME


def test_a_makers_note_stays_where_its_offsets_count_from(restored):
    data = restored.paths["note.tif"].read_bytes()
    assert data[4_000:4_014] == FILES["note.tif"][4_000:4_014]
    (inside,) = struct.unpack_from("<I", data, 4_004)
    assert data[inside : inside + 6] == b"inside"
    with tifffile.TiffFile(restored.paths["note.tif"]) as file:
        assert file.pages.first.tags[0x8769].value["MakerNote"]
    assert len(data) < len(FILES["note.tif"])  # the gap in front of it is not left empty


def test_a_lossless_webp_stays_lossless_whatever_its_profile(restored):
    assert b"VP8L" in restored.paths["lossless.webp"].read_bytes()
    if shutil.which("vips"):
        command = ["vipsheader", "-f", "icc-profile-data", restored.paths["lossless.webp"]]
        assert subprocess.run(command, capture_output=True, check=True).stdout


def test_a_jpeg_of_rare_subsampling_or_tables_loses_nothing(restored, tags):
    for name in ("upright.jpg", "tables_1_3.jpg", "stray.jpg"):
        assert tags.after[name]["File:YCbCrSubSampling"] in {"1 1", "YCbCr4:4:4 (1 1)"}
        source, result = restored.photos[name], read_photo(restored.paths[name])
        assert np.abs(source.pixels.astype(int) - result.pixels).mean() < 1, name
    path = restored.paths["tables_1_3.jpg"]
    path = path.with_name("same.jpg")
    path.write_bytes(encode_photo(restored.photos["tables_1_3.jpg"], path, jpeg_quality="source"))
    with Image.open(io.BytesIO(kinds.jpeg(quality=70))) as plain, Image.open(path) as result:
        assert result.quantization == plain.quantization


def test_the_thumbnail_is_made_anew_upright_and_small(restored, tags):
    found = tags.after["thumbnail.jpg"]
    assert found.get("IFD0:Orientation") in {1, "Horizontal (normal)"}
    assert found.get("IFD1:Orientation") in {1, "Horizontal (normal)"}
    command = ["exiftool", "-b", "-ThumbnailImage", restored.paths["thumbnail.jpg"]]
    small = subprocess.run(command, capture_output=True).stdout
    with Image.open(io.BytesIO(small)) as picture:
        assert picture.size == (64, 96)
        upright = np.rot90(kinds.smooth(), -1)
        assert np.abs(np.asarray(picture).astype(int) - upright).mean() < 4


def test_a_gray_picture_in_rgb_gets_no_tint(cli, tmp_path, random_weights):
    (tmp_path / "gray.png").write_bytes(FILES["gray_as_rgb.png"])
    (tmp_path / "clear.png").write_bytes(hidden := transparent_png())
    names = (tmp_path / "gray.png", tmp_path / "clear.png", "-o", tmp_path / "out")
    assert cli("lowlight", *names, "--weights", random_weights).exit_code == 0
    with Image.open(tmp_path / "out" / "gray.png") as result:
        assert result.mode == "RGB"
        planes = np.asarray(result).astype(int)
    assert np.ptp(planes, axis=2).max() == 0
    assert np.abs(planes - kinds.smooth()[..., :1]).max() > 0  # the network did something
    with (
        Image.open(tmp_path / "out" / "clear.png") as result,
        Image.open(io.BytesIO(hidden)) as was,
    ):
        np.testing.assert_array_equal(np.asarray(result), np.asarray(was))


def transparent_png():
    return kinds.saved(
        Image.fromarray(np.dstack([kinds.smooth(), np.zeros((64, 96), "u1")])), "PNG"
    )


def test_what_a_file_is_decides_its_format_and_a_wrong_name_is_told(
    cli, tmp_path, identity_weights
):
    path = tmp_path / "phone.jpg"
    path.write_bytes(FILES["really_a_png.jpg"])
    outcome = cli("derain", path, "--weights", identity_weights, "--json")
    row = outcome.lines[0]
    assert row["output"].endswith("phone.derain.png")
    assert "it is PNG, although its name ends with .jpg" in row["notes"]
    for _ in range(2):
        again = ("--resume", "-o", tmp_path / "out", "--weights", identity_weights)
        assert cli("derain", path, *again).exit_code == 0
        assert [p.name for p in (tmp_path / "out").glob("phone*")] == ["phone.png"]
    for wanted, head in (("jpeg", b"\xff\xd8"), ("jxl", b"\0\0\0\x0cJXL"), ("tiff", b"II*")):
        assert cli("derain", path, "--weights", identity_weights, "--format", wanted).exit_code == 0
        (made,) = tmp_path.glob(f"phone.derain.{wanted[:3].replace('jpe', 'jpg')}*")
        assert made.read_bytes().startswith(head)
    other = cli("derain", path, "--weights", identity_weights, "--format", "png", "-o", "a.jpg")
    assert other.exit_code == 2
    assert "contradicts the ending" in other.stderr


def test_rare_jpegs_come_back_as_deep_or_lossless_pngs(restored):
    expected = kinds.smooth(most=4_095, dtype=np.uint16) / 4_095
    twelve = read_photo(restored.paths["twelve.jpg"])
    assert restored.paths["twelve.jpg"].suffix == ".png"
    assert np.abs(twelve.pixels / 65_535 - expected).mean() < 0.002
    assert "12-bit JPEG" in restored.notes["twelve.jpg"]
    np.testing.assert_array_equal(read_photo(restored.paths["lossless.jpg"]).pixels, kinds.smooth())
    with pytest.raises(InputError, match="it is a JPEG-LS"):
        decode_photo(bytes(imagecodecs.jpegls_encode(kinds.smooth())), "ls.jpg")


def test_bmps_of_any_header_are_read(restored):
    np.testing.assert_array_equal(restored.photos["os2.bmp"].pixels, kinds.smooth())
    np.testing.assert_array_equal(restored.photos["unused_alpha.bmp"].pixels, kinds.smooth())
    assert restored.photos["unused_alpha.bmp"].alpha is None
    np.testing.assert_array_equal(
        restored.photos["four_bits.bmp"].pixels, kinds.smooth() // 16 * 17
    )


def test_every_chunk_of_a_png_travels_and_what_describes_pixels_is_told_of(restored):
    after = restored.paths["chunks.png"].read_bytes()
    for name, content in kinds.CHUNKS:
        assert kinds.chunk(name, content) in after, name
    assert kinds.chunk(b"tEXt", b"Behind\0pixels") in after
    assert after.index(b"Behind") > after.index(b"IDAT")
    assert b"unKN" not in after
    assert "unKN" in restored.notes["chunks.png"]
    assert (
        shutil.which("vips") is None
        or not subprocess.run(
            ["vipsheader", restored.paths["chunks.png"]], capture_output=True, check=True
        ).stderr
    )


def test_xmp_alone_turns_no_picture(restored):
    np.testing.assert_array_equal(restored.photos["turned_by_xmp.png"].pixels, kinds.smooth())
    assert b'tiff:Orientation="6"' in restored.paths["turned_by_xmp.png"].read_bytes()


def test_formats_of_other_tools_are_read(restored):
    np.testing.assert_array_equal(restored.photos["p6.ppm"].pixels, kinds.smooth())
    deep = kinds.smooth(most=4_095, dtype=np.uint16)
    expected = np.rint(deep * (65_535 / 4_095)).astype(np.uint16)
    np.testing.assert_array_equal(restored.photos["p5.pgm"].pixels, expected[..., 0])
    np.testing.assert_array_equal(restored.photos["twelve.tif"].pixels, expected)
    np.testing.assert_array_equal(read_photo(restored.paths["eight.jxl"]).pixels, kinds.smooth())
    assert restored.paths["still.gif"].suffix == ".png"
    with Image.open(restored.paths["still.gif"]) as result:
        assert result.info["Comment"] == "hello"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_jpeg_xl_is_written_as_it_is_read_with_the_curve_that_is_meant(tmp_path, dtype, channels):
    most = {np.uint8: 255, np.uint16: 65_535, np.float32: 1}[dtype]
    planes = kinds.smooth(channels=channels, most=255).astype(np.float64) / 255
    planes = (planes * most).round(0 if most > 1 else 6).astype(dtype)
    photo = decode_photo(FILES["chunks.png"], "x")
    photo = replace(
        photo,
        pixels=planes[..., 0] if channels < 3 else planes[..., :3],
        alpha=planes[..., -1] if channels in {2, 4} else None,
    )
    photo = replace(
        photo, carried=replace(photo.carried, exif=matrix.exif_of(1)[6:], xmp=matrix.XMP)
    )
    path = tmp_path / "a.jxl"
    path.write_bytes(encode_photo(photo, path))
    again = read_photo(path)
    np.testing.assert_array_equal(again.pixels, photo.pixels)
    assert again.carried.colours is None  # sRGB
    assert (again.carried.exif, again.carried.xmp) == (photo.carried.exif, matrix.XMP)
    if shutil.which("exiftool"):
        found = exiftool(tmp_path)["a.jxl"]
        assert found.get("IFD0:Make") == "Camera of ours"


def test_deep_pictures_of_phones_keep_their_depth(restored):
    deep = kinds.smooth(most=1_023, dtype=np.uint16) / 1_023
    again = read_photo(restored.paths["deep.avif"])
    assert restored.paths["deep.avif"].suffix == ".avif"
    assert again.carried.bits == 10
    assert np.abs(again.pixels / 65_535 - deep).mean() < 0.01
    heif = pytest.importorskip("pillow_heif")
    values = kinds.smooth(most=65_535, dtype=np.uint16)
    file = heif.from_bytes("RGB;16", (96, 64), values.tobytes())
    stream = io.BytesIO()
    file.save(stream, quality=-1)
    photo = decode_photo(stream.getvalue(), "phone.heic")
    assert photo.pixels.dtype == np.uint16
    assert np.abs(photo.pixels.astype(int) - values).mean() < 65_535 * 0.01


def test_of_several_stills_the_primary_one_is_restored_and_the_rest_told_of():
    pytest.importorskip("pillow_heif")
    data = kinds.heic(kinds.smooth(), kinds.smooth()[:, ::-1])
    photo = decode_photo(data, "burst.heic")
    assert np.abs(photo.pixels.astype(int) - kinds.smooth()).mean() < 4
    assert "1 further picture(s) in it are not kept" in photo.notes


@pytest.mark.parametrize("size", [70_000, 400_000])
def test_exif_that_is_too_long_for_a_jpeg_costs_the_note_and_not_the_picture(tmp_path, size):
    exif = Image.Exif()
    exif[0x010F] = "Camera of ours"
    exif.get_ifd(0x8769)[0x927C] = bytes(range(256)) * (size // 256)
    photo = decode_photo(kinds.png(kinds.smooth(), 8, 2, (b"eXIf", exif.tobytes()[6:])), "a.png")
    path = tmp_path / "a.jpg"
    path.write_bytes(encode_photo(photo, path))
    assert "maker's note is not kept" in " ".join(lost_in(path, photo))
    with Image.open(path) as result:
        assert result.getexif()[0x010F] == "Camera of ours"


def test_cmyk_of_the_wrong_profile_and_bombs_in_strips_are_refused_with_the_reason():
    inks = kinds.saved(Image.new("CMYK", (8, 8)), "JPEG", icc_profile=matrix.ICC)
    with pytest.raises(InputError, match="colours are CMYK, but its profile is for RGB"):
        decode_photo(inks, "print.jpg")
    with pytest.raises(InputError, match="says of itself that it has 2000×2000"):
        decode_photo(kinds.inner_bomb(), "bomb.tif")
    for head, name in ((b"8BPS", "Photoshop"), (b"\0\0\0\x0cjP  ", "JPEG 2000"), (b"P7\n", "PAM")):
        with pytest.raises(InputError, match=name):
            decode_photo(head + bytes(99), "a.png")


PRIVATE = ("Jürgen", "Müller", "Some Body", "Town", "Sometown", "SERIAL-42", "4711", "a.example",
           "48 deg", "GPS")  # fmt: skip


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif", ".jxl"])
def test_safe_metadata_names_neither_a_person_nor_a_place(restored, tmp_path, suffix, tags):
    photo = restored.photos["tagged.jpg"]
    assert all(word in str(tags.before["tagged.jpg"]) for word in ("Jürgen", "Some Body", "GPS"))
    path = tmp_path / f"a{suffix}"
    data = encode_photo(photo, path, metadata="safe")
    path.write_bytes(data)
    found = {k: v for k, v in exiftool(tmp_path)[path.name].items() if k != "SourceFile"}
    assert not [word for word in PRIVATE if word in str(found)]
    for word in (kinds.NAME, "Some Body", "Sometown", "SERIAL-42"):
        assert word.encode() not in data
        assert word.encode("utf-16-le") not in data
    assert found["IFD0:Make"] == "Camera of ours"
    assert found["ExifIFD:ExposureTime"] == 0.004 or "1/250" in str(found["ExifIFD:ExposureTime"])
    iptc = encode_photo(restored.photos["iptc.tif"], path, metadata="safe")
    assert b"Some Body" not in iptc
    assert b"a.example" not in iptc
    assert kinds.NAME.encode() not in iptc


@pytest.mark.long
def test_the_command_restores_every_kind(tmp_path, identity_weights):
    for name, data in FILES.items():
        path = tmp_path / "in" / name.replace(".", "_", name.count(".") - 1)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    ended = run_command(
        "derain", "in", "-o", "out", "--weights", identity_weights, "--json", cwd=tmp_path
    )
    rows = [json.loads(line) for line in ended.stdout.splitlines()][:-1]
    assert {row["input"]: row.get("error") for row in rows if row["status"] != "ok"} == {}
    assert len(rows) == len(FILES)


def test_a_cmyk_tiff_is_converted_by_its_profile(tmp_path):
    from tests.test_formats import INKS, cmyk_profile, rgb_of_lab

    inks = list(INKS)
    for dtype, most in ((np.uint8, 255), (np.uint16, 65_535)):
        squares = np.repeat(np.array([inks]) * most, 4, axis=0).astype(dtype)
        data = kinds.tiff(squares, photometric="separated", iccprofile=cmyk_profile())
        photo = decode_photo(data, "print.tif")
        assert photo.pixels.dtype == dtype
        in_d65 = rgb_of_lab([INKS[i] for i in inks])
        shown = ((in_d65 > 0) & (in_d65 < 1)).all(axis=1) | (in_d65 > 0.99).all(axis=1)
        np.testing.assert_allclose(photo.pixels[0][shown] / most, in_d65[shown], atol=0.02)
        assert any("CMYK" in note for note in photo.notes)


def test_a_raw_file_is_developed_where_the_reader_is_installed(tmp_path, monkeypatch):
    data = kinds.dng()
    with monkeypatch.context() as without:
        without.setattr("restorecli.images.raw.can_develop", lambda: False)
        with pytest.raises(InputError, match="a camera's raw file") as refused:
            decode_photo(data, "a.dng")
        assert re.search(r"pip install \S*\braw", refused.value.hint)
    pytest.importorskip("rawpy")
    photo = decode_photo(data, "a.dng")
    assert photo.pixels.dtype == np.uint16
    assert photo.size == (64, 96)
    assert np.median(np.abs(np.diff(photo.pixels[8:-8, 8:-8, 1].astype(int), axis=1))) < 1_000
    assert ifd.orientation(photo.carried.exif) == 1
    path = tmp_path / "a.png"
    path.write_bytes(encode_photo(photo, path))
    if shutil.which("exiftool"):
        assert exiftool(tmp_path)["a.png"]["IFD0:Model"] == "Cam1"
    with pytest.raises(InputError, match="96×64"):
        decode_photo(data, "a.dng", max_pixels=100)


def noted(data, name, target):
    """The result in the format of ``target``, and all notes, of a file that was made here."""
    photo = decode_photo(data, name)
    return encode_photo(photo, Path(target)), " ".join(
        [*photo.notes, *lost_in(Path(target), photo)]
    )


def test_signatures_of_the_pixels_as_they_were_are_dropped_with_a_note():
    webp = kinds.saved(
        Image.fromarray(kinds.smooth()), "WEBP", lossless=True, exif=matrix.exif_of(1)
    )
    signed = {
        "a.webp": webp + b"C2PA" + struct.pack("<I", 6) + b"signed",
        "a.jxl": jxl.with_parts(FILES["eight.jxl"], Carried()) + bmff.box("jumb", b"signed"),
        "a.avif": FILES["p3.avif"] + bmff.box("uuid", bytes(16) + b"signed"),
        "a.png": kinds.png(kinds.smooth(), 8, 2, (b"caBX", b"signed")),
        "a.jpg": kinds.with_segments(kinds.jpeg(), (0xEB, b"JP\0\1signed")),
    }
    for name, data in signed.items():
        made, notes = noted(data, name, name)
        assert b"signed" not in made, name
        assert "not kept" in notes, name


def test_what_small_formats_say_is_carried_too(tmp_path):
    profile = matrix.ICC
    values = kinds.smooth().astype(np.uint32) @ [65_536, 256, 1]
    head = bytearray(kinds.bmp_fields((0xFF0000, 0xFF00, 0xFF), 32, values, header=124))
    struct.pack_into("<4s", head, 70, b"DEBM")
    struct.pack_into("<II", head, 126, len(head) - 14, len(profile))
    photo = decode_photo(bytes(head) + profile, "a.bmp")
    assert photo.carried.icc_profile == profile
    _, notes = noted(bytes(head) + profile, "a.bmp", "b.bmp")
    assert "converted to sRGB" in notes
    made, _ = noted(FILES["p6.ppm"], "a.ppm", "b.png")
    assert b"made by code" in made
    broken = (b"tEXt", b"Raw profile type exif\0\nexif\n  4\nzz")
    made, _ = noted(kinds.png(kinds.smooth(), 8, 2, broken), "a.png", "b.png")
    assert broken[1] in made
    linear = kinds.png(kinds.smooth(), 8, 2, (b"gAMA", struct.pack(">I", 100_000)))
    made, notes = noted(linear, "a.png", "b.jpg")
    assert "became a colour profile" in notes


def test_a_profile_is_not_overruled_by_code_points_beside_it(tmp_path):
    photo = decode_photo(FILES["p3.avif"], "a.avif")
    photo = replace(photo, carried=replace(photo.carried, icc_profile=matrix.ICC))
    assert b"cICP" not in encode_photo(photo, tmp_path / "a.png")
    unspecified = replace(photo.carried, icc_profile=None, colours=Colours(2, 2, 6))
    assert b"cICP" not in encode_photo(replace(photo, carried=unspecified), tmp_path / "a.png")
    again = decode_photo(encode_photo(photo, tmp_path / "a.avif"), "a.avif").carried
    assert (again.icc_profile, again.colours[:2]) == (matrix.ICC, (12, 13))


def test_gain_maps_and_previews_behind_a_jpeg_are_no_lost_pictures():
    plain, small = kinds.jpeg(), kinds.jpeg(kinds.smooth(16, 24))
    words = kinds.RDF.format('xmlns:g="http://ns.apple.com/HDRGainMap/1.0/" g:Version="1"', "")
    photo = decode_photo(plain + kinds.with_segments(small, kinds.xmp_segment(words)), "a.jpg")
    assert photo.lost_pictures == 0
    assert "gain map" in " ".join(photo.notes)
    entries = struct.pack("<IIIHH", 0x030000, 9, 0, 0, 0) + struct.pack(
        "<IIIHH", 0x010002, 9, 9, 0, 0
    )
    table = struct.pack("<HHHII", 1, 0xB002, 7, len(entries), 26) + bytes(4)
    directory = (0xE2, b"MPF\0II*\0\x08\0\0\0" + table + entries)
    photo = decode_photo(kinds.with_segments(plain, directory) + small, "a.jpg")
    assert photo.lost_pictures == 0
    assert "1 preview(s)" in " ".join(photo.notes)
    assert decode_photo(plain + small, "a.jpg").lost_pictures == 1


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_depth_map_goes_with_a_picture_unless_it_is_turned(tmp_path, orientation):
    packet = kinds.RDF.format(
        'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Near="1.5" '
        'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="' + "A" * 32 + '"',
        "",
    )
    long = (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"A" * 32 + bytes(8) + b"<depth/>")
    tagged = kinds.jpeg(exif=matrix.exif_of(orientation))
    made, notes = noted(
        kinds.with_segments(tagged, kinds.xmp_segment(packet), long), "a.jpg", "b.jpg"
    )
    is_kept = orientation == 1
    assert (
        (b"GDepth:Near" in made) == (b"HasExtendedXMP" in made) == (b"<depth/>" in made) == is_kept
    )
    assert ("depth map was not turned" in notes) == (not is_kept)
    made, notes = noted(
        kinds.with_segments(tagged, kinds.xmp_segment(packet), long), "a.jpg", "b.webp"
    )
    assert b"HasExtendedXMP" not in made
    assert "second part of XMP" in notes or "depth map" in notes
