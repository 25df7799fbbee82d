"""What a run writes down: means, rates, and lines that are whole."""

import json
import math

import pytest
import torch

from argan.training.logs import Log


def lines(folder) -> list[dict]:
    text = (folder / "metrics.jsonl").read_text()
    assert "NaN" not in text
    return [json.loads(line) for line in text.splitlines()]


def test_a_line_holds_the_means_and_rates_since_the_last(tmp_path):
    log = Log(tmp_path, 0)
    for step, value in enumerate((1.0, 3.0)):
        log.add({"d": torch.tensor(value)} | ({"r1": torch.tensor(7.0)} if step == 0 else {}), images=8)
    means = log.write(2)
    assert (means["d"], means["r1"]) == (2, 7)  # of the steps that had one
    assert means["images_per_second"] == pytest.approx(8 * means["steps_per_second"])
    log.add({"d": torch.tensor(5.0)}, images=8)
    assert log.write(3)["d"] == 5
    assert [(line["step"], line["d"]) for line in lines(tmp_path)] == [(2, 2), (3, 5)]


def test_a_step_within_one_tick_of_the_coarse_clock_has_a_rate(tmp_path, monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 7.0)
    log = Log(tmp_path, 0)
    log.add({"d": torch.tensor(1.0)}, images=8)
    assert math.isfinite(log.write(1)["steps_per_second"])


def test_what_is_not_finite_is_no_number_of_json(tmp_path):
    log = Log(tmp_path, 0)
    log.add({"d": torch.tensor(math.nan)}, images=1)
    assert math.isnan(log.write(1)["d"])
    assert lines(tmp_path)[0]["d"] is None


def test_lines_of_a_life_that_was_lost_are_dropped(tmp_path):
    log = Log(tmp_path, 0)
    for step in (2, 4, 6):
        log.add({"d": torch.tensor(1.0)}, images=1)
        log.write(step)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "d"')  # killed while it was written
    Log(tmp_path, 4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]
    Log(tmp_path, 0, writes=False)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]


@pytest.mark.parametrize(
    "damage", [b"\0" * 60, b"7", b"[1]", b"null", b'{"d": 1}', b'{"step": null}', b'{"st', b"\xff{}"]
)
def test_damaged_lines_are_dropped_and_said(tmp_path, damage):
    """A power cut can leave NULs where a line was to be."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 2}\n' + damage + b'\n{"step": 4}\n')
    with pytest.warns(UserWarning, match=r"damaged line of metrics\.jsonl"):
        Log(tmp_path, 4)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4]


def test_tensorboard_shows_what_the_lines_say(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with Log(tmp_path, 0, tensorboard=True) as log:
        for step in (2, 4, 6):
            log.add({"d": torch.tensor(float(step))}, images=1)
            log.write(step)
    with Log(tmp_path, 4, tensorboard=True) as log:  # killed before it had saved step 6
        log.add({"d": torch.tensor(5.0)}, images=1)
        log.write(5)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("d")] == [(2, 2), (4, 4), (5, 5)]
