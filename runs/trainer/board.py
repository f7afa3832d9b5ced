"""A comparison in TensorBoard: one run per agent with its curve and band, a chart of them all among the Custom Scalars, and the figure."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, scalar

from wgf.agents.training.log import Events
from wgf.runs.trainer.statistics import band
from wgf.runs.trainer.tables import writable

if TYPE_CHECKING:
    from wgf.runs.trainer.compare import Curves

__all__ = ["write"]

FOLDER = "compare"  # no agent has this name


def write(runs: "Sequence[Curves]", title: str, picture: Path) -> None:
    """Writes the events of a comparison beside its picture, a PNG file; they take the place of an earlier comparison's.

    Run compare/LABEL has the scalars compare/TITLE, the interquartile mean of evaluation returns over seeds, and compare/TITLE/low and
    compare/TITLE/high, the ends of its 95 % bootstrap interval: ``statistics.band``, as in the figure. Run compare has the layout, one
    margin chart per title, and the picture at the last step.
    """
    folder, tags = picture.parent / FOLDER, [f"{FOLDER}/{title}{end}" for end in ("", "/low", "/high")]
    with _begun(folder) as events:
        chart = f"{title}: evaluation return, interquartile mean and 95 % bootstrap interval over seeds"
        events.add(custom_scalars({FOLDER: {chart: ["Margin", tags]}}))
        events.add(_image(f"{FOLDER}/{title}", picture), int(max(c.steps[-1] for c in runs)))
    for c in runs:
        with _begun(folder / c.label) as events:
            for step, *values in zip(c.steps, *band(c.evals), strict=True):
                for tag, value in zip(tags, values, strict=True):
                    events.add(scalar(tag, value), int(step))
    for path in folder.glob("*/events.*"):
        if path.parent.name not in [c.label for c in runs]:
            path.unlink()


@contextmanager
def _begun(folder: Path) -> Iterator[Events]:
    """Opens events behind which TensorBoard forgets earlier ones of the folder; of these the last stays: it may be being read."""
    older = sorted(folder.glob("events.*"))[:-1]
    events = Events(writable(folder), after=-1)
    with closing(events.file):
        yield events
        events.flush()
    for path in older:
        path.unlink()


def _image(tag: str, picture: Path) -> Any:
    from matplotlib import image

    height, width, channels = image.imread(picture).shape
    png = Summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=picture.read_bytes())
    return Summary(value=[Summary.Value(tag=tag, image=png)])
