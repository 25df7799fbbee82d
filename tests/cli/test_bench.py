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
    assert [row["back end"] for row in report["rows"]].count("reference") == 7
    loops = [row["operation"] for row in report["rows"] if row["back end"] == "numba"]
    assert loops == ["render_bokeh"]  # Numba has loops for photos only, and without gradients
    for row in report["rows"]:
        assert 0 < row["least ms"] <= row["median ms"]
        assert row["error"] < 1e-3
        assert row["GPU MB"] is None


def test_whatever_has_gradients_is_timed_with_and_without_them():
    sizes = {operation.name: operation.size for operation in bench.operations(600, CPU)}
    for name in ("warp_disparity", "render_light_field", "render_bokeh"):
        assert {name, f"{name}, forward and backward"} <= sizes.keys()
    assert sizes["render_bokeh"] == "1x3x600x600"
    assert sizes["render_bokeh, forward and backward"] == "1x3x512x512"  # larger takes too much memory to check


def test_gradients_are_those_of_the_sum_of_squares():
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    once, twice = (bench.gradients(lambda x, y, impl: x * y, learned, x, y, impl="reference") for learned in (1, 2))
    torch.testing.assert_close(once, (2 * x * y**2).flatten())
    torch.testing.assert_close(twice, torch.cat([once, (2 * x**2 * y).flatten()]))


def test_a_wrong_back_end_is_not_timed(monkeypatch):
    operation = bench.operations(32, CPU)[0]

    def wrong_in_single_precision(image, *inputs, impl):
        off = 0.01 if image.dtype == torch.float32 else 0
        return operation.call(image, *inputs, impl=impl) + off

    monkeypatch.setattr(bench, "_time", lambda *_: pytest.fail("timed"))
    with pytest.raises(VerificationError, match=f"{operation.name}: reference is wrong by"):
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
