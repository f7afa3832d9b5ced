"""The comparison in TensorBoard, read back with its own reader."""

import numpy as np
import pytest
from matplotlib import image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_multiplexer import EventMultiplexer
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from wgf.runs.trainer import board, compare

STEPS = np.array([1000.0, 2000.0])
FIVE = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [100.0, -100.0]])
TWO = np.array([[1.0, 5.0], [2.0, 7.0]])


def curves(label, evals):
    return compare.Curves(label, STEPS[: evals.shape[1]], evals, [], 1.0)


@pytest.fixture
def written(tmp_path):
    image.imsave(tmp_path / "compare.png", np.zeros((4, 6, 3)))
    board.write([curves("sac", FIVE), curves("dp-wgf-v,w2_scale=0", TWO)], "wgf/CartPole-v0", tmp_path / "compare.png")
    return tmp_path


def read(folder):
    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def scalars(folder, end=""):
    return [(e.step, e.value) for e in read(folder).Scalars(f"compare/wgf/CartPole-v0{end}")]


def test_an_agent_is_one_run_with_its_interquartile_mean_and_the_ends_of_its_interval(written):
    """Of five the mean of the middle three; of two the mean, and resamples of two hold one of them twice half of the time."""
    assert scalars(written / "compare" / "sac") == [(1000, 2.0), (2000, 2.0)]  # of 1, 2, 3 and of 1, 2, 3
    other = written / "compare" / "dp-wgf-v,w2_scale=0"
    assert scalars(other) == [(1000, 1.5), (2000, 6.0)]
    assert scalars(other, "/low") == [(1000, 1.0), (2000, 5.0)]
    assert scalars(other, "/high") == [(1000, 2.0), (2000, 7.0)]
    runs = EventMultiplexer().AddRunsFromDirectory(str(written)).Runs()
    assert sorted(runs) == ["compare", "compare/dp-wgf-v,w2_scale=0", "compare/sac"]


def test_the_last_point_is_the_tables_interval(tmp_path):
    compare.write([curves("sac", FIVE)], "wgf/CartPole-v0", None, tmp_path)
    low, high = (scalars(tmp_path / "compare" / "sac", end)[-1][1] for end in ("/low", "/high"))
    assert f"2 [{low:,.4g}, {high:,.4g}]" in (tmp_path / "compare.txt").read_text()
    assert read(tmp_path / "compare").Images("compare/wgf/CartPole-v0")[0].encoded_image_string == (tmp_path / "compare.png").read_bytes()


def test_the_layout_has_one_margin_chart_of_tags_that_are_there(written):
    (event,) = read(written / "compare").Tensors("custom_scalars__config__")
    (category,) = Layout.FromString(event.tensor_proto.string_val[0]).category
    (chart,) = category.chart
    (series,) = chart.margin.series
    assert chart.title.startswith("wgf/CartPole-v0: evaluation return, interquartile mean and 95 %")
    assert [series.value, series.lower, series.upper] == [f"compare/wgf/CartPole-v0{end}" for end in ("", "/low", "/high")]
    assert sorted(read(written / "compare" / "sac").Tags()["scalars"]) == sorted([series.value, series.lower, series.upper])


def test_the_figure_is_an_image_of_the_last_step(written):
    (event,) = read(written / "compare").Images("compare/wgf/CartPole-v0")
    assert event.encoded_image_string == (written / "compare.png").read_bytes()
    assert (event.height, event.width) == (4, 6)
    assert event.step == 2000


def test_a_later_comparison_takes_the_place_of_an_earlier_one_also_for_a_reader_that_is_there(written):
    reader = read(written / "compare" / "sac")
    for k in (1.0, 2.0, 3.0):
        board.write([curves("sac", FIVE[:, :1] + k)], "wgf/CartPole-v0", written / "compare.png")
        reader.Reload()
        assert [(e.step, e.value) for e in reader.Scalars("compare/wgf/CartPole-v0")] == [(1000, 2.0 + k)]
    assert scalars(written / "compare" / "sac") == [(1000, 5.0)]
    assert len(list((written / "compare" / "sac").iterdir())) == 2
    runs = EventMultiplexer().AddRunsFromDirectory(str(written)).Runs()
    assert sorted(runs) == ["compare", "compare/sac"]
