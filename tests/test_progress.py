"""What a person sees while a picture is worked on."""

from __future__ import annotations

import pytest

from restorecli import console
from restorecli.report import Row


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(console.time, "monotonic", lambda: Clock.now)
    return Clock


def test_the_time_left_is_told_after_a_tenth(clock):
    pace = console.Pace()
    clock.now += 2
    pace.advance(0.08)
    assert pace.left_s() is None
    clock.now += 2
    pace.advance(0.12)
    assert pace.left_s() == pytest.approx(16)  # a fifth took 4 s
    pace.advance(5)
    assert pace.left_s() == 0


@pytest.mark.parametrize(("whole_s", "is_long"), [(4.9, False), (5.1, True)])
def test_a_picture_of_five_seconds_is_long(clock, whole_s, is_long):
    pace = console.Pace()
    clock.now += whole_s / 4
    pace.advance(0.25)
    assert pace.is_long() is is_long


def test_the_bar_moves_inside_a_long_picture_and_goes_with_it(clock):
    display = console.RunDisplay(as_json=False, quiet=True)
    tasks = {task.id: task for task in display.progress.tasks}
    inside, files = tasks[display.inside], tasks[display.files]
    display.start(2)
    display.begin()
    clock.now += 10
    display.advance(0.25)
    assert inside.visible
    assert inside.percentage == 25
    assert (inside.fields["done"], inside.fields["left"]) == ("25%", "30.0 s left")
    clock.now += 10
    display.finish(Row(name="a.png", input="a.png", output="b.png", status="ok"))
    assert files.completed == 1
    assert (files.fields["done"], files.fields["left"]) == ("1/2", "20.0 s left")
    display.begin()
    assert not inside.visible
    clock.now += 0.2
    display.advance(0.5)
    assert not inside.visible
