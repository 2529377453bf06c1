"""The page of `restore serve` in a real Chromium: run with ``pytest -m browser``."""

from __future__ import annotations

import base64
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.browsing import wait
from tests.serving import serving

pytestmark = pytest.mark.browser

DESK = {"viewport": {"width": 1300, "height": 850}}
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
DONE = "document.querySelectorAll('.run.done').length"
DROP = """([files]) => {
  const data = new DataTransfer();
  for (const [name, bytes] of files) {
    const content = Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0));
    data.items.add(new File([content], name));
  }
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.querySelector("main").dispatchEvent(
      new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
  }
}"""


def photo(name, level=100, size=(48, 64)):
    """A noisy picture that Playwright can choose as a file."""
    noise = np.random.default_rng(level).normal(level, 20, (*size, 3))
    stream = io.BytesIO()
    kind = "JPEG" if name.endswith(".jpg") else "PNG"
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(stream, kind, quality=50)
    return {"name": name, "mimeType": f"image/{kind.lower()}", "buffer": stream.getvalue()}


@pytest.fixture
def asker(tmp_path):
    with serving(tmp_path / "results", limits={"file_bytes": 3_000_000, "photos": 6}) as found:
        yield found


@pytest.fixture
def tab(browser, asker):
    """Opens the page in a tab; fails afterwards if one complained or asked another host."""
    contexts, complaints, requests = [], [], []

    def opened(context=None, **options):
        if context is None:
            context = browser.new_context(**(options or DESK))
            contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(asker.page.address)
        return page

    opened.allowed = ("status of 4",)  # what the browser says of refusals that a test provokes
    yield opened
    for context in contexts:
        context.close()
    assert [text for text in complaints if not any(a in text for a in opened.allowed)] == []
    assert [u for u in requests if not u.startswith((asker.page.address, "data:", "blob:"))] == []


def choose(page, *photos, task="denoise"):
    page.locator(f"input[name=task][value={task}]").check()
    page.set_input_files("#files", list(photos))


def done(page, count=1):
    wait(page, f"{DONE} === {count}", 90)


def shown(page):
    wait(page, "document.getElementById('img-right').naturalWidth > 0")


def test_dropped_photographs_are_restored_and_compared(tab, asker):
    page = tab()
    page.locator("input[value=denoise]").check()
    files = [photo("one.png"), photo("two.png", 140)]
    page.evaluate(DROP, [[[f["name"], base64.b64encode(f["buffer"]).decode()] for f in files]])
    done(page, 2)
    assert page.locator(".photo-name").all_inner_texts() == ["one.png", "two.png"]
    assert [p["runs"][0]["tasks"] for p in asker.photos()] == [["denoise"], ["denoise"]]
    assert page.locator("#viewer-name").inner_text() == "one.png"
    shown(page)
    line = page.get_by_role("slider", name="Position of the line between left and right")
    wait(page, "document.getElementById('divider').getAttribute('aria-valuenow') === '50'")
    line.focus()
    page.keyboard.press("Home")
    assert line.get_attribute("aria-valuetext") == "0 % Original, 100 % Without noise"
    box = page.locator("#frame").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + 20)
    assert line.get_attribute("aria-valuenow") == "75"
    page.get_by_role("button", name="two.png", exact=False).first.click()
    assert page.locator("#viewer-name").inner_text() == "two.png"
    assert page.locator("#position").inner_text() == "2 of 2"
    page.get_by_role("button", name="Next picture").click()
    assert page.locator("#viewer-name").inner_text() == "one.png"


def test_a_pasted_photograph_is_taken(tab):
    page = tab()
    page.locator("input[value=denoise]").check()
    data = base64.b64encode(photo("pasted.png")["buffer"]).decode()
    page.evaluate(DROP.replace('"dragenter", "dragover", "drop"', "").replace(
        "  for (const kind of []) {", "  for (const kind of ['paste']) {").replace(
        "new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data })",
        "new ClipboardEvent(kind, { bubbles: true, clipboardData: data })"),
        [[["pasted.png", data]]])  # fmt: skip
    done(page)


def test_task_network_and_strength_are_what_is_chosen(tab, asker):
    page = tab()
    choose(page, photo("a.png"), task="derain")
    done(page)
    assert page.locator("#again").is_disabled()
    page.locator("input[value=derain]").check()
    page.locator("#model").select_option("glmha-derain-compact")
    page.locator("#strength").fill("40")
    assert page.locator("#strength-value").inner_text() == "40 %"
    page.get_by_role("button", name="Do this to the picture shown").click()
    done(page, 2)
    (found,) = asker.photos()
    assert [(r["models"], r["strength"]) for r in found["runs"]] == [
        (["hint-derain-packed"], 1), (["glmha-derain-compact"], 0.4),
    ]  # fmt: skip
    newest = "Without rain · 40 % · glmha-derain-compact"
    assert page.locator("#right").evaluate("e => e.selectedOptions[0].text") == newest
    page.locator("#left").select_option(label="Without rain")  # any two can be compared
    assert page.locator("#tag-left").inner_text() == "Without rain"
    page.locator("#strength").fill("100")
    page.locator("#model").select_option("hint-derain-packed")
    page.locator("#then").select_option(label="Noise")
    assert "Then it removes noise and grain." in page.locator("#task-help").inner_text()
    page.get_by_role("button", name="Do this to the picture shown").click()
    done(page, 3)
    assert page.locator("#tag-right").inner_text() == "Without rain, without noise"


def test_what_is_wrong_is_found_and_mended_by_one_press(tab, asker):
    page = tab()
    assert page.locator("input[name=task]:checked").get_attribute("value") == "check"
    assert not page.locator("#strength").is_visible()
    page.set_input_files("#files", [photo("noisy.png", 120, (160, 160))])
    done(page)
    sentence = asker.photos()[0]["runs"][0]["finding"]["sentence"]
    assert sentence.startswith("Noise")
    assert page.locator("#finding").inner_text() == sentence
    page.get_by_role("button", name="Make it: without noise").click()
    done(page, 2)
    assert page.locator("#tag-right").inner_text() == "Without noise"
    assert page.locator("#finding").inner_text() == ""
    assert not page.locator("#mend").is_visible()


def test_a_mix_is_seen_at_once_and_becomes_a_file(tab, asker, tmp_path):
    page = tab()
    choose(page, photo("a.png"))
    done(page)
    shown(page)
    page.locator("#mix-share").fill("30")
    assert page.evaluate("document.getElementById('img-right').style.opacity") == "0.3"
    page.get_by_role("button", name="Make a file of the mix").click()
    done(page, 2)
    assert (tmp_path / "results" / "a.denoise-30.png").exists()
    assert page.locator("#tag-right").inner_text() == "Without noise · 30 %"
    assert page.evaluate("document.getElementById('img-right').style.opacity") == "1"


def test_one_and_all_results_are_downloaded(tab, tmp_path):
    page = tab()
    choose(page, photo("a.png"), photo("b.png", 120))
    done(page, 2)
    with page.expect_download() as download:
        page.get_by_role("link", name="Download a.denoise.png").click()
    assert download.value.suggested_filename == "a.denoise.png"
    result = (tmp_path / "results" / "a.denoise.png").read_bytes()
    assert Path(download.value.path()).read_bytes() == result
    with page.expect_download() as download:
        page.get_by_role("link", name="Download all 2").click()
    assert download.value.suggested_filename == "restored.zip"
    with zipfile.ZipFile(download.value.path()) as archive:
        assert sorted(archive.namelist()) == ["a.denoise.png", "b.denoise.png"]
        assert archive.read("a.denoise.png") == result


def test_what_waits_and_what_is_under_way_can_be_cancelled(tab, tmp_path):
    page = tab()
    choose(page, photo("large.jpg", 90, (1400, 1800)), photo("next.png"), photo("last.png", 120))
    wait(page, "document.querySelectorAll('.runs .run').length === 3")
    wait(page, "document.querySelector('.runs .run-bar').value > 0", 60)
    assert page.locator("#viewer").get_attribute("class") == "viewer alone"
    assert "Without noise:" in page.locator(".doing").inner_text()
    page.get_by_role("button", name="Cancel Without noise of next.png").click()
    page.get_by_role("button", name="Cancel Without noise of large.jpg").click()
    done(page)
    states = page.locator(".run-state").all_inner_texts()
    assert states[:2] == ["cancelled", "cancelled"]
    assert [p.name for p in (tmp_path / "results").glob("*.png")] == ["last.denoise.png"]
    again = page.get_by_role("button", name="Do this to the picture shown")
    assert again.is_enabled()


def test_two_tabs_show_the_same(tab):
    first = tab()
    second = tab(first.context)
    choose(first, photo("one.png"))
    done(second)
    choose(second, photo("two.png", 140), task="derain")
    done(first, 2)
    assert first.locator(".photo-name").all_inner_texts() == ["one.png", "two.png"]
    first.get_by_role("button", name="Remove one.png").click()
    wait(second, "document.querySelectorAll('.photo').length === 1")
    assert second.locator("#viewer-name").inner_text() == "two.png"


def test_everything_can_be_done_with_the_keyboard_alone(tab):
    page = tab()
    choosers = []
    page.on(
        "filechooser", lambda one: choosers.append(one)
    )  # before a key is pressed: it takes a while to hold

    def reach(condition):
        for _ in range(60):
            if page.evaluate(
                f"(() => {{ const e = document.activeElement; return {condition}; }})()"
            ):
                return
            page.keyboard.press("Tab")
        raise AssertionError(f"Tab never reaches {condition}")

    reach("e.id === 'files'")
    reach("e.name === 'task'")
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("document.querySelector('[name=task]:checked').value") == "denoise"
    reach("e.id === 'strength'")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#strength-value").inner_text() == "95 %"
    page.keyboard.press("End")
    page.locator("#files").focus()
    page.keyboard.press("Enter")
    while not choosers:
        page.wait_for_timeout(50)
    choosers[0].set_files([photo("a.png")])
    done(page)
    reach("e.id === 'divider'")
    page.keyboard.press("End")
    assert page.locator("#divider").get_attribute("aria-valuenow") == "100"
    reach("e.id === 'mix-share'")
    page.keyboard.press("Home")
    reach("e.id === 'mix-keep'")
    page.keyboard.press("Enter")
    done(page, 2)
    reach("e.classList.contains('get') && !e.hidden")
    with page.expect_download():
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Remove a.png").focus()
    page.keyboard.press("Enter")
    wait(page, "document.querySelectorAll('.photo').length === 0")
    assert page.evaluate("document.activeElement.id") == "files"  # not lost


def test_refusals_are_told_in_sentences(tab):
    page = tab()
    choose(page, {"name": "page.png", "mimeType": "image/png", "buffer": b"<html>"})
    wait(page, "document.querySelector('#troubles p') !== null")
    assert "page.png is a web page (HTML), not a picture" in page.locator("#troubles").inner_text()
    page.locator("#troubles").get_by_role("button", name="Close").click()
    choose(page, {"name": "big.png", "mimeType": "image/png", "buffer": bytes(3_000_001)})
    assert "the limit is 3.0 MB" in page.locator("#troubles").inner_text()
    choose(page, *(photo(f"{i}.png", 100 + i) for i in range(7)))
    assert "6 photographs, which is the limit" in page.locator("#troubles").inner_text()
    done(page, 6)


def test_hostile_names_are_text(tab):
    page = tab()
    choose(page, photo("<img src=x onerror=alert(1)>.png"))
    done(page)
    assert page.locator(".photo-name").inner_text() == "_img src=x onerror=alert(1)_.png"


def test_the_end_of_the_command_is_told(tab, asker):
    tab.allowed = ("ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
    page = tab()
    assert not page.locator("#gone").is_visible()
    asker.page.server.should_exit = True
    wait(page, "!document.getElementById('gone').hidden")
    assert "Finished results are in" in page.locator("#gone").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", ["desk", "phone"])
def test_axe_finds_nothing(tab, scheme, size):
    from axe_playwright_python.sync_playwright import Axe

    page = tab(**(PHONE if size == "phone" else DESK), color_scheme=scheme)
    page.wait_for_timeout(300)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    choose(page, photo("a.png"), photo("b.png", 130), {**photo("c.png"), "buffer": b"no"})
    done(page, 2)
    shown(page)
    page.wait_for_timeout(1300)  # until the line has come in
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()


def test_a_phone_shows_all_of_it_without_scrolling_sideways(tab):
    page = tab(**PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    choose(page, photo(f"{'long name ' * 12}.png"), photo("b.png", 130))
    done(page, 2)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for one in page.locator("main button:visible, main a:visible, main select:visible").all():
        box = one.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 24
    page.get_by_role("button", name="b.png").first.tap()
    wait(page, "document.getElementById('viewer').getBoundingClientRect().top < 700")
    assert page.locator("#viewer-name").inner_text() == "b.png"
