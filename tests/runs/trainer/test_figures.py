"""The style of the figures: what they name, where the legend lies, which files they leave."""

import matplotlib
import numpy as np
import pytest
from matplotlib import colors, image

from wgf.agents.registry import AGENTS
from wgf.runs.trainer.figures import COLORS, CROWDED, FEW, LINES, MARKERS, NAMES, ROW, caption, display, figure, returns, thousands
from wgf.runs.trainer.statistics import band

STEPS = np.array([10_000.0, 20_000.0])
RUNS = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])


def test_every_agent_has_a_name_to_show():
    assert set(NAMES) == set(AGENTS)
    assert len(set(NAMES.values())) == len(NAMES)


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("dp-wgf-v", "DP-WGF-V"),
        ("soft-q,alpha=1", "soft Q-learning, alpha = 1"),
        ("wpo,critic_hidden=128,128,n_step=1", "WPO, critic_hidden = 128,128, n_step = 1"),
        ("Stable-Baselines3", "Stable-Baselines3"),
    ],
)
def test_a_label_is_shown_by_the_agents_name_and_its_settings(label, shown):
    assert display(label) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (500, "500"), (999, "999"), (1000, "1k"), (2500, "2.5k"), (20_000, "20k"), (1e6, "1M"), (1.5e6, "1.5M"), (-20_000, "-20k")],
)
def test_thousands_are_short(value, shown):
    assert thousands(value) == shown


def test_a_caption_names_seeds_and_interval():
    assert caption(5).startswith("5 seeds (thin): interquartile mean and 95 % bootstrap interval")
    assert caption(10, 5).startswith("5 to 10 seeds (thin): ")
    assert caption(11).startswith("11 seeds: ")
    assert "84 % (mean) to 89 %" in caption(5)
    assert caption(1) == "1 seed"


def test_curves_differ_in_colour_and_in_line_and_marker_whatever_is_drawn_between_them(tmp_path):
    """A thin line of a seed that took its look from the cycle would move it on, and the fifth curve would look like the first."""
    with figure(tmp_path / "found", columns=2) as axes:
        for k in range(len(COLORS)):
            returns(axes[0, 0], STEPS, RUNS, f"agent {k}")
            axes[0, 1].plot(STEPS, STEPS, label=f"agent {k}")
        drawn = axes[0, 0].figure
        for ax in axes[0]:
            found = [line for line in ax.lines if not line.get_label().startswith("_")]
            assert [line.get_color() for line in found] == list(COLORS)
            assert [line.get_linestyle() for line in found] == list(LINES)
            assert [line.get_marker() for line in found] == list(MARKERS)
    looks = [(line.get_linestyle(), line.get_marker()) for line in drawn.legends[0].legend_handles]
    assert len(set(looks)) == len(COLORS)


def test_the_first_two_colours_are_two_greys():
    light = [np.dot(colors.to_rgb(color), (0.299, 0.587, 0.114)) for color in COLORS[:2]]
    assert abs(light[0] - light[1]) > 0.25


def test_a_crowded_curve_has_some_markers_and_a_short_one_all(tmp_path):
    with figure(tmp_path / "found") as axes:
        for points in (CROWDED, CROWDED + 1, CROWDED + 1):
            axes[0, 0].plot(np.arange(points), label=str(points))
        axes[0, 0].plot(np.arange(CROWDED + 1), "ko")
    short, crowded, other, dots = axes[0, 0].lines
    assert short.get_markevery() is dots.get_markevery() is None
    assert crowded.get_markevery() != other.get_markevery()
    assert crowded.get_markevery()[1] == other.get_markevery()[1] > 0.0


def test_markers_of_as_many_crowded_curves_as_there_are_looks_stand_at_places_of_their_own(tmp_path):
    with figure(tmp_path / "found") as axes:
        for k in range(len(MARKERS)):
            axes[0, 0].plot(np.arange(CROWDED + 1), label=str(k))
    starts, (period, *others) = zip(*(line.get_markevery() for line in axes[0, 0].lines), strict=True)
    assert set(others) == {period}
    places = np.sort(np.array(starts) % period)
    np.testing.assert_allclose(np.diff([*places, period]), period / len(MARKERS))


def test_each_of_many_seeds_is_not_drawn(tmp_path):
    with figure(tmp_path / "found") as axes:
        returns(axes[0, 0], STEPS, np.zeros((FEW + 1, 2)), "SAC")
        returns(axes[0, 0], STEPS, np.zeros((FEW, 2)), "WPO")
        returns(axes[0, 0], STEPS, np.zeros((1, 2)), "PPO")
        assert len(axes[0, 0].lines) == 3 + FEW


def test_a_figure_leaves_png_and_pdf_with_one_legend_below_all_curves(tmp_path):
    with figure(tmp_path / "found.png", columns=2, note="three seeds", panel=(3.0, 2.0)) as axes:
        for ax in axes[0]:
            returns(ax, STEPS, RUNS, "SAC")
            returns(ax, STEPS, 2.0 * RUNS, "soft Q-learning")
        drawn = axes[0, 0].figure
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["SAC", "soft Q-learning"]
    assert legend.get_title().get_text() == "three seeds"
    top = legend.get_window_extent().y1
    assert all(top <= ax.get_tightbbox().y0 for ax in axes.flat)
    assert legend.get_window_extent().y0 >= 0.0
    assert drawn.get_size_inches()[1] > 2.0  # it grows, and the curves keep their height
    assert image.imread(tmp_path / "found.png").shape[:2] == tuple(int(150 * n) for n in drawn.get_size_inches()[::-1])
    assert (tmp_path / "found.pdf").read_bytes().startswith(b"%PDF")
    assert not matplotlib.pyplot.get_fignums()


def test_a_figure_is_as_large_as_its_panels(tmp_path):
    with figure(tmp_path / "found", rows=3, columns=2, panel=(2.0, 1.5)) as axes:
        assert axes.shape == (3, 2)
        drawn = axes[0, 0].figure
    assert drawn.get_size_inches().tolist() == [4.0, 4.5]


def test_names_stand_in_as_many_columns_as_fit_and_the_figure_grows_by_their_rows_and_those_of_the_note(tmp_path):
    """A name of fourteen letters takes 14 + 6 of 0.085 inches, so that two stand side by side on four; the note has smaller letters."""
    with figure(tmp_path / "found", panel=(4.0, 2.0), note="one\ntwo\nthree") as axes:
        for k in range(4):
            axes[0, 0].plot([k], label=f"soft Q, lr = {k}")
        drawn = axes[0, 0].figure
    boxes = [text.get_window_extent() for text in drawn.legends[0].get_texts()]
    assert len({round(box.x0) for box in boxes}) == len({round(box.y0) for box in boxes}) == 2
    assert drawn.get_size_inches().tolist() == pytest.approx([4.0, 2.0 + 2 * ROW + 3 * 0.8 * ROW])


def test_long_names_stand_in_one_column_and_a_bare_figure_has_no_legend(tmp_path):
    with figure(tmp_path / "long", panel=(3.0, 2.0)) as axes:
        for k in range(3):
            axes[0, 0].plot([k], label=f"WPO, critic_hidden = 128,128, n_step = {k}")
        drawn = axes[0, 0].figure
    boxes = [text.get_window_extent() for text in drawn.legends[0].get_texts()]
    assert boxes[0].y0 > boxes[1].y0 > boxes[2].y0
    with figure(tmp_path / "bare") as axes:
        axes[0, 0].plot([1, 2])
        drawn = axes[0, 0].figure
    assert drawn.legends == []


def test_curves_are_the_interquartile_mean_with_its_band(tmp_path):
    middle, low, high = band(RUNS)
    with figure(tmp_path / "found") as axes:
        ax = axes[0, 0]
        returns(ax, STEPS, RUNS, "SAC")
        bold, *thin = ax.lines
        np.testing.assert_array_equal(bold.get_ydata(), middle)
        np.testing.assert_array_equal([line.get_ydata() for line in thin], RUNS)
        assert {(line.get_color(), line.get_linestyle()) for line in ax.lines} == {(bold.get_color(), bold.get_linestyle())}
        assert all(line.get_linewidth() < bold.get_linewidth() for line in thin)
        edge = ax.collections[0].get_paths()[0].vertices
        for k, step in enumerate(STEPS):
            assert {low[k], high[k]} == set(edge[edge[:, 0] == step, 1])
        assert ax.xaxis.get_major_formatter()(20_000.0, 0) == "20k"


def test_one_evaluation_alone_is_a_dot(tmp_path):
    with figure(tmp_path / "one") as axes:
        returns(axes[0, 0], STEPS[:1], RUNS[:, :1], "SAC")
        dot, *each = axes[0, 0].lines
        assert [line.get_marker() for line in (dot, *each)] == ["o"] * 4
        returns(axes[0, 0], STEPS, RUNS, "WPO")
        assert {line.get_marker() for line in axes[0, 0].lines[5:]} == {""}


def test_a_figure_that_goes_wrong_leaves_nothing(tmp_path):
    with pytest.raises(ZeroDivisionError), figure(tmp_path / "found"):
        1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())
    assert not matplotlib.pyplot.get_fignums()
