"""What TensorBoard gets: scalars, pictures, the configuration and an HParams entry."""

import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.loggers import Logger
from matplotlib.figure import Figure
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from torch.utils.tensorboard import FileWriter, SummaryWriter

from flowlab.painter import Painter
from flowlab.runs.directory import EVENT_FILES

IMAGE_SIZE = {"height": 500, "width": 1000, "colorspace": 4}


class RunLogger(Logger):
    """Writes one event file into the run directory, and the last of each picture into plots/.

    The horizontal axis counts finished epochs: 0 is before the training. A run that goes on with
    another takes over the curves of its first `epochs`, and the pictures of the first `drawn`.
    """

    def __init__(self, run_dir: Path, before: Path | None = None, epochs: int = 0, drawn: int = 0):
        super().__init__()
        self.run_dir = run_dir
        self.start_time = time.time()
        replaced = sorted(run_dir.glob(EVENT_FILES))
        history = sorted(before.glob(EVENT_FILES)) if before is not None else []
        self.writer = SummaryWriter(run_dir)
        for event in _history(history, epochs, drawn):
            self._file_writer.event_writer.add_event(event)
        self.writer.flush()
        for path in replaced:
            path.unlink()
        self.painter = Painter()
        self.unwritten: dict[str, float] = {}
        self.writer.add_custom_scalars(
            {"NLL": {"training and validation": ["Multiline", ["train/nll", "val/nll"]]}}
        )

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Write metrics of an epoch; of those that do not tell theirs the last, when it ends."""
        self.unwritten |= metrics
        if "epoch" in self.unwritten:
            epoch = int(self.unwritten.pop("epoch")) + 1
            for tag, value in self.unwritten.items():
                self.writer.add_scalar(tag, value, epoch)
            self.unwritten.clear()
        self._add_finished_pictures()

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any) -> None:
        """Nothing: hyperparameters are written once, with their result, by `log_result`."""

    def log_config(self, yaml: str) -> None:
        """Write the whole configuration as text."""
        self.writer.add_text("config", "    " + yaml.replace("\n", "\n    "))

    def log_picture(self, name: str, epoch: int, plot: Callable[..., Figure], *args: Any) -> None:
        """Draw plot(*args) in the background, for plots/<name>.png and for the slider of `name`."""
        path = self.run_dir / "plots" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        self.painter.paint((name, epoch), path, plot, *args)
        self._add_finished_pictures()

    def log_result(
        self,
        trial: str,
        config: dict[str, bool | float | str],
        metrics: dict[str, float],
        epoch: int,
    ) -> None:
        """Write the final metrics once, and an HParams entry that joins them to the configuration.

        Runs of the same trial share a row, whose details name them. There is no experiment entry,
        so that TensorBoard collects the columns from all runs that it sees.
        """
        for tag, metric in metrics.items():
            self.writer.add_scalar(tag, metric, epoch)
        start = SessionStartInfo(group_name=trial, start_time_secs=self.start_time)
        for key, value in config.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[key], kind, value)
        end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        self._add_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
        self._add_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end)

    def flush(self) -> None:
        """Write to the disk what was logged."""
        self.writer.flush()

    def finalize(self, status: str) -> None:
        self._add_finished_pictures()
        self.writer.flush()

    def close(self) -> None:
        """Close the event file after the last picture."""
        try:
            self._add_finished_pictures(wait=True)
        finally:
            self.painter.cancel()
            self.writer.close()

    def _add_finished_pictures(self, wait: bool = False) -> None:
        for (name, epoch), png in self.painter.finished(wait):
            image = Summary.Image(encoded_image_string=png, **IMAGE_SIZE)
            self._add(Summary.Value(tag=name, image=image), epoch)

    def _add_hparams(self, tag: str, **info: SessionStartInfo | SessionEndInfo) -> None:
        plugin_data = metadata.create_summary_metadata(HParamsPluginData(**info))
        self._add(Summary.Value(tag=tag, metadata=plugin_data, tensor=metadata.NULL_TENSOR))

    def _add(self, value: Summary.Value, step: int | None = None) -> None:
        self._file_writer.add_summary(Summary(value=[value]), step)

    @property
    def _file_writer(self) -> FileWriter:
        return cast(FileWriter, self.writer.file_writer)


def _history(files: list[Path], epochs: int, drawn: int) -> Iterator[Event]:
    """The curves and pictures of a run's first epochs, each point once; not its final results."""
    last, seen = {"simple_value": epochs, "image": drawn}, set()
    for path in files:
        for event in LegacyEventFileLoader(str(path)).Load():
            for value in event.summary.value:
                result = value.tag.startswith("test/") or value.tag.endswith("_best")
                point = (value.tag, event.step)
                kept = event.step <= last.get(str(value.WhichOneof("value")), -1)
                if kept and not result and point not in seen:
                    seen.add(point)
                    yield event
