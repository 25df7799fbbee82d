"""argan bench: it checks before it times, and names the machine."""

import json
from dataclasses import replace

import pytest
import torch

from argan import bench
from argan.cli import main
from argan.errors import VerificationError

CPU = torch.device("cpu")


def test_json_has_the_machine_and_a_row_for_each_operation(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["bench", "--side", "32", "--repeats", "2", "--device", "cpu", "--json"])
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert exit.value.code == 0
    assert "triton is not timed" in err
    assert report["machine"]["torch"] == torch.__version__
    assert {row["operation"] for row in report["rows"]} == {op.name for op in bench.operations(32, CPU)}
    timed = [row["back end"] for row in report["rows"]]
    assert timed == [*["reference"] * 4, "numba"]  # Numba has loops for photos only
    for row in report["rows"]:
        assert 0 < row["least ms"] <= row["median ms"]
        assert row["error"] < 1e-3
        assert row["GPU MB"] is None


def test_a_wrong_back_end_is_not_timed(monkeypatch):
    operation = bench.operations(32, CPU)[0]

    def wrong_in_single_precision(image, *inputs, impl):
        off = 0.01 if image.dtype == torch.float32 else 0
        return operation.call(image, *inputs, impl=impl) + off

    monkeypatch.setattr(bench, "_time", lambda *_: pytest.fail("timed"))
    with pytest.raises(VerificationError, match="render_light_field: reference is wrong by"):
        bench.measure(replace(operation, call=wrong_in_single_precision), "reference", 1)


def test_results_that_are_not_numbers_are_wrong(monkeypatch):
    operation = bench.operations(32, CPU)[0]
    monkeypatch.setattr(bench, "_error", lambda *_: float("nan"))
    with pytest.raises(VerificationError):
        bench.measure(operation, "reference", 1)


def test_back_ends_say_why_they_are_not_timed(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert bench.back_ends(CPU)["reference"] is None
    assert bench.back_ends(CPU)["triton"] is not None
