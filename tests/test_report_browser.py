"""The page in a real Chromium: run with ``pytest -m browser`` and the ``browser`` extra."""

import math
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from restorecli.report import LabelledPicture, Report, Row, Settings, write
from restorecli.report.html import html
from restorecli.spectral.page import Panel
from restorecli.spectral.page import page as page_of_spectra
from restorecli.spectral.preview import Preview
from tests.browsing import wait

pytestmark = pytest.mark.browser

HOSTILE = "<script>document.title='owned'</script> \"&' 🌧️\n.png"
WIDTH_PX, HEIGHT_PX = 320, 200
READY = "document.getElementById('img-right').naturalWidth > 0"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Twelve scenes of flat colours: the input is 40 levels darker than the output."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for i in range(12):
        paths = {}
        for kind, level in (("in", 100), ("out", 140), ("gt", 150)):
            pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), level, np.uint8)
            pixels[:, :, 0] = 10 * i
            paths[kind] = folder / f"{kind}-{i}.png"
            Image.fromarray(pixels).save(paths[kind])
        rows.append(
            Row(
                name=HOSTILE if i == 0 else f"scene {i}.png",
                input=str(paths["in"]),
                output=str(paths["out"]),
                reference=str(paths["gt"]),
                height_px=HEIGHT_PX,
                width_px=WIDTH_PX,
                exact=i % 2 == 0,
                elapsed_s=1 + (i * 7 % 12),
                scores_before={"psnr_rgb": 20.0 + i},
                scores_after={"psnr_rgb": math.inf if i == 3 else 30.0 - i},
                others=(LabelledPicture(label=HOSTILE, path=str(paths["gt"]), scores={}),),
            )
        )
    rows.append(Row(name="bad.png", input="bad.png", status="failed", error=HOSTILE))
    return Report(
        title=HOSTILE,
        created="2026-01-02T03:04:05+00:00",
        settings=Settings(command="derain", protocol="rgb"),
        rows=tuple(rows),
        notes=(HOSTILE,),
    )


@pytest.fixture(scope="module", params=["inline", "linked"])
def address(request, report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    if request.param == "inline":
        write(report, path)
    else:
        path.write_text(html(report, folder=path.parent, inline_bytes=0), encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def page(browser, address):
    """The open page; fails afterwards if it complained or asked for anything but files."""
    context = browser.new_context(viewport={"width": 1100, "height": 800}, offline=True)
    opened = context.new_page()
    complaints, requests = [], []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(address)
    wait(opened, READY)
    yield opened
    context.close()
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []


def value(page):
    return int(page.locator("#divider").get_attribute("aria-valuenow"))


def pixel(page, across):
    """Colour of the picture, ``across`` of the stage's width from the left."""
    shot = page.locator("#stage").screenshot()
    with Image.open(BytesIO(shot)) as image:
        return image.convert("RGB").getpixel((int(across * image.width), image.height // 3))


def drag(page, to):
    stage = page.locator("#stage").bounding_box()
    line = page.locator("#divider").bounding_box()
    y = stage["y"] + 20
    page.mouse.move(line["x"] + line["width"] / 2, y)
    page.mouse.down()
    page.mouse.move(stage["x"] + stage["width"] * to, y, steps=4)
    page.mouse.up()


def choose(page, name):
    page.get_by_role("radio", name=name, exact=True).check()


def test_the_mouse_moves_the_line_and_what_is_seen(page):
    assert value(page) == 50
    assert pixel(page, 0.4)[2] == 100
    assert pixel(page, 0.6)[2] == 140
    drag(page, 0.25)
    assert 15 <= value(page) <= 30
    assert pixel(page, 0.4)[2] == 140


def test_a_press_anywhere_on_the_fitted_picture_moves_the_line(page):
    box = page.locator("#frame").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + 30)
    assert value(page) == 90


def test_the_keyboard_moves_the_line(page):
    line = page.get_by_role("slider", name="Position of the line between left and right")
    line.focus()
    for key, expected in (
        ("ArrowRight", 51), ("Shift+ArrowRight", 61), ("ArrowLeft", 60), ("PageDown", 50),
        ("Home", 0), ("ArrowLeft", 0), ("End", 100),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert value(page) == expected
    assert line.get_attribute("aria-valuetext") == "100 % Input, 0 % Restored"
    assert pixel(page, 0.6)[2] == 100


def test_the_line_is_reached_by_tab(page):
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "divider":
            break
    assert page.evaluate("document.activeElement.id") == "divider"


def test_touch_moves_the_line(browser, address):
    context = browser.new_context(
        viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    page = context.new_page()
    page.goto(address)
    wait(page, READY)
    page.locator("#divider").scroll_into_view_if_needed()
    box = page.locator("#divider").bounding_box()
    x, y = box["x"] + 22, box["y"] + box["height"] / 2
    session = context.new_cdp_session(page)
    for kind, to in (("touchStart", x), ("touchMove", x - 40), ("touchMove", x - 90)):
        points = {"type": kind, "touchPoints": [{"x": to, "y": y}]}
        session.send("Input.dispatchTouchEvent", points)
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert 15 <= value(page) <= 40
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def test_the_difference_is_the_absolute_difference_times_the_gain(page):
    page.locator("#gain").evaluate("e => { e.value = 3 }")
    choose(page, "Difference")
    assert pixel(page, 0.4) == (0, 120, 120)  # |100 - 140| · 3, and equal reds
    assert pixel(page, 0.6) == (0, 120, 120)
    assert not page.locator("#divider").is_visible()
    choose(page, "Slider")
    assert pixel(page, 0.6)[2] == 140


def test_one_to_one_shows_a_picture_pixel_per_screen_pixel_and_moves_by_mouse(page):
    choose(page, "1:1")
    assert page.locator("#frame").bounding_box()["width"] == WIDTH_PX
    choose(page, "4:1")
    box = page.locator("#frame").bounding_box()
    assert (box["width"], box["height"]) == (4 * WIDTH_PX, 4 * HEIGHT_PX)
    before = page.evaluate("document.getElementById('scroller').scrollLeft")
    stage = page.locator("#stage").bounding_box()
    page.mouse.move(stage["x"] + 200, stage["y"] + 100)
    page.mouse.down()
    page.mouse.move(stage["x"] + 150, stage["y"] + 100, steps=3)
    page.mouse.up()
    assert page.evaluate("document.getElementById('scroller').scrollLeft") == before + 50
    assert value(page) == 50  # the line stays where it is on the screen
    assert pixel(page, 0.4)[2] == 100
    assert pixel(page, 0.6)[2] == 140


def test_other_pictures_can_be_chosen_and_stay_chosen(page):
    page.locator("#right").select_option(label="Reference")
    assert pixel(page, 0.6)[2] == 150
    page.get_by_role("button", name="Next picture").click()
    assert page.locator("#viewer-name").inner_text() == "scene 1.png"
    page.wait_for_timeout(200)
    assert pixel(page, 0.6) == (10, 150, 150)
    page.get_by_role("button", name="Previous picture").click()
    page.get_by_role("button", name="Previous picture").click()
    assert page.locator("#viewer-name").inner_text() == "scene 11.png"


def test_arrow_keys_turn_to_the_next_picture_where_nothing_else_takes_them(page):
    name = page.locator("#viewer-name")
    page.keyboard.press("ArrowRight")
    assert name.inner_text() == "scene 1.png"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert name.inner_text().startswith("<script>")
    page.keyboard.press("ArrowLeft")
    assert name.inner_text() == "scene 11.png"
    page.locator("#divider").focus()
    page.keyboard.press("ArrowLeft")
    assert (name.inner_text(), value(page)) == ("scene 11.png", 49)
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    assert (name.inner_text(), value(page)) == ("scene 10.png", 49)
    page.get_by_role("radio", name="Fit", exact=True).focus()
    page.keyboard.press("ArrowRight")  # to 1:1
    assert name.inner_text() == "scene 10.png"
    page.keyboard.press("Control+ArrowRight")
    assert name.inner_text() == "scene 10.png"


def test_the_files_themselves_are_linked(page, report):
    page.keyboard.press("ArrowRight")
    links = page.locator("#files a")
    assert links.all_inner_texts()[:2] == ["Input", "Restored"]
    address = links.nth(1).evaluate("a => a.href")
    assert address == Path(report.rows[1].output).as_uri()


def test_wide_tables_show_on_which_side_there_is_more(page, browser, address):
    edges = "document.querySelector('#rows').closest('.sides').className"
    assert page.evaluate(edges) == "sides"
    context = browser.new_context(viewport={"width": 390, "height": 800}, is_mobile=True)
    phone = context.new_page()
    phone.goto(address)
    wait(phone, f"{edges} === 'sides more-right'")
    table = phone.locator("#rows")
    table.evaluate("t => { t.parentElement.scrollLeft = 40 }")
    wait(
        phone,
        f"{edges} === 'sides more-right more-left' || {edges} === 'sides more-left more-right'",
    )
    table.evaluate("t => { t.parentElement.scrollLeft = 9999 }")
    wait(phone, f"{edges} === 'sides more-left'")
    assert phone.evaluate("document.documentElement.scrollWidth") == 390
    context.close()


def names(page):
    return page.locator("#rows tbody .open").all_inner_texts()


def test_the_table_sorts_by_name_and_by_number_both_ways(page):
    page.locator("#rows thead button", has_text="Picture").click()
    assert names(page)[1:4] == ["bad.png", "scene 1.png", "scene 2.png"]
    assert names(page)[-1] == "scene 11.png"
    restored = page.locator("#rows thead button", has_text="Restored")
    restored.click()
    assert names(page)[0] == "scene 11.png"
    assert names(page)[-2:] == ["scene 3.png", "bad.png"]  # infinite last, nothing after it
    assert page.locator("#rows th[aria-sort]").get_attribute("aria-sort") == "ascending"
    restored.click()
    assert names(page)[0] == "scene 3.png"
    assert names(page)[-1] == "bad.png"
    assert "descending" in page.locator("#sorted").inner_text()


def test_a_row_opens_its_picture(page):
    page.locator("#rows .open", has_text="scene 7.png").click()
    assert page.locator("#viewer-name").inner_text() == "scene 7.png"
    assert page.evaluate("document.activeElement.id") == "divider"


def test_thumbnails_load_when_they_come_near(browser, address):
    context = browser.new_context(viewport={"width": 1100, "height": 300})
    page = context.new_page()
    page.goto(address)
    assert page.locator("img[data-thumbnail][src]").count() == 0
    page.locator("#rows tbody tr").last.scroll_into_view_if_needed()
    wait(page, "document.querySelectorAll('img[data-thumbnail][src]').length > 3")
    context.close()


def test_hostile_text_is_text(page):
    shown = "<script>document.title='owned'</script> \"&' "
    assert page.title().startswith(shown)
    assert page.locator("#viewer-name").inner_text().startswith(shown)
    assert page.locator("h1").inner_text().startswith(shown)
    assert names(page)[0].startswith(shown)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", ["Slider", "Difference"])
def test_axe_finds_nothing(page, scheme, view):
    from axe_playwright_python.sync_playwright import Axe

    page.emulate_media(color_scheme=scheme)
    choose(page, view)
    page.locator(".notes summary").click()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_print_shows_both_pictures_and_every_thumbnail(page):
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("img[data-thumbnail]:not([src])").count() == 0
    assert not page.locator(".tools").is_visible()
    left, right = (page.locator(f"#img-{side}").bounding_box() for side in ("left", "right"))
    assert left["x"] + left["width"] <= right["x"]
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_a_click_shows_the_spectrum_of_that_pixel_beside_the_reference(browser, tmp_path):
    shape, wavelengths = (31, 40, 60), range(400, 701, 10)
    bands = np.full(shape, 0.25, np.float32)
    made, true = (Preview(shape, wavelengths) for _ in range(2))
    true.add(0, bands)
    bands[:, :, 30:] = 0.75
    made.add(0, bands)
    panel = Panel(title="a.png", preview=made, reference=true, scores={"rmse": 0.3536})
    path = tmp_path / "page.html"
    path.write_text(page_of_spectra([panel], wavelengths, "A note."), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    trouble = []
    tab.on("console", lambda message: trouble.append(message.text))
    tab.on("pageerror", lambda error: trouble.append(str(error)))
    tab.goto(path.as_uri())
    picture, said = tab.locator("img"), tab.locator(".said")
    box = picture.bounding_box()
    picture.click(position={"x": 0.81 * box["width"], "y": 0.5 * box["height"]})
    assert "at 81 % from the left" in said.inner_text()
    assert "difference 0.5000" in said.inner_text()
    mark = tab.locator(".here").bounding_box()
    assert abs(mark["x"] + mark["width"] / 2 - box["x"] - 0.808 * box["width"]) < 4
    picture.click(position={"x": 0.2 * box["width"], "y": 0.5 * box["height"]})
    assert "difference 0.0000" in said.inner_text()
    for _ in range(20):
        picture.press("ArrowRight")
    assert "difference 0.5000" in said.inner_text()
    drawn = "c => new Set(c.getContext('2d').getImageData(0, 0, 640, 360).data).size"
    assert tab.locator("canvas").evaluate(drawn) > 4
    assert "RMSE 0.3536" in tab.inner_text("section")
    assert trouble == []
    tab.close()
