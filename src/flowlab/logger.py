"""What TensorBoard gets: scalars, pictures, the configuration and an HParams entry."""

import io
import shutil
import time
from argparse import Namespace
from contextlib import nullcontext, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import google_crc32c
from lightning.pytorch.loggers import Logger
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from tensorboard.summary.writer import record_writer
from torch.utils.tensorboard import FileWriter, SummaryWriter

from flowlab.painter import Painter, Plot
from flowlab.runs.directory import EVENT_FILES

RESULT = ".result"  # how the name of the event file ends that has what a run ends with


def masked_crc32c(data: bytes) -> int:
    """The checksum of a record in an event file, as TFRecord's format has it."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


# TensorBoard's own takes the bytes one by one in Python: half a second for a run's pictures
record_writer.masked_crc32c = masked_crc32c


class RunLogger(Logger):
    """Writes event files into the run directory, and the last of each picture into plots/.

    The horizontal axis counts finished epochs: 0 is before the training. `config`, as YAML, is
    shown as text. A run that goes on with one in the directory `before` adds a file that has
    TensorBoard forget what it had from `next_epoch` on; from another directory it takes the files
    along. What a run ends with, the last pictures too, has a file of its own, `*.result`, left out
    when it goes on. Nothing is touched before there is something to write.
    """

    def __init__(self, run_dir: Path, config: str, before: Path | None, next_epoch: int):
        super().__init__()
        self.run_dir = run_dir
        self.config, self.before, self.next_epoch = config, before, next_epoch
        self.start_time = time.time()
        self.ended = False
        self.painter = Painter()
        self.unwritten: dict[str, float] = {}

    def __enter__(self) -> "RunLogger":
        return self

    def __exit__(self, kind: object, *args: Any) -> None:
        with suppress(Exception) if kind else nullcontext():  # the first error is the one to tell
            self.close()

    @cached_property
    def writer(self) -> SummaryWriter:
        """The writer of the training's events."""
        before, text = self.before, self.config.replace("\n", "\n    ")
        for path in self.run_dir.glob(f"{EVENT_FILES}{RESULT}"):
            path.unlink()
        if before is not None and before != self.run_dir.resolve():
            for path in before.glob(EVENT_FILES):
                if not path.name.endswith(RESULT):
                    shutil.copyfile(path, self.run_dir / path.name)
        self._wait_for_a_later_name()
        purge_step = None if before is None else self.next_epoch
        writer = SummaryWriter(self.run_dir, purge_step=purge_step)
        writer.add_text("config", f"    {text}", self.next_epoch)
        tags = [f"^{split}/(?!.*_best$)" for split in ("train", "val")]
        layout = {"loss": {"training and validation": ["Multiline", tags]}}
        writer.add_custom_scalars(layout)
        return writer

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

    def log_picture(self, name: str, epoch: int, plot: Plot, *args: Any) -> None:
        """Draw plot(*args) in the background, for a file in plots/ and for the slider of `name`.

        The file is <name>.png, unless the name says that it is a GIF.
        """
        path = self.run_dir / "plots" / (name if name.endswith(".gif") else f"{name}.png")
        path.parent.mkdir(exist_ok=True)
        self.painter.paint((name, epoch, self.ended), path, plot, *args)
        self._add_finished_pictures()

    def log_end(self) -> None:
        """Say that what comes from now on is the result."""
        self.ended = True
        self.painter.start_again()

    def log_result(
        self,
        trial: str,
        config: dict[str, bool | float | str],
        metrics: dict[str, float],
        epoch: int,
    ) -> None:
        """Write the final metrics, and an HParams entry that joins them to the configuration.

        Of what TensorBoard lists as scalars alone HParams takes its figures, and Scalars shows all
        of these: so a metric is a level from the start to `epoch`, and no single dot.

        Runs of the same trial share a row, whose details name them. There is no experiment entry,
        so that TensorBoard collects the columns from all runs that it sees.
        """
        self._add_finished_pictures(wait=True)
        for tag, metric in metrics.items():
            for step in (0, epoch):
                self._result_writer.add_scalar(tag, metric, step)
        start = SessionStartInfo(group_name=trial, start_time_secs=self.start_time)
        for key, value in config.items():
            kind = {bool: "bool_value", str: "string_value"}.get(type(value), "number_value")
            setattr(start.hparams[key], kind, value)
        end = SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        self._add_hparams(metadata.SESSION_START_INFO_TAG, session_start_info=start)
        self._add_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end)

    def flush(self) -> None:
        """Write to the disk what was logged."""
        if "writer" in self.__dict__:
            self.writer.flush()

    def finalize(self, status: str) -> None:
        self._add_finished_pictures()
        self.flush()

    def close(self) -> None:
        """Close the event files after the last picture."""
        try:
            self._add_finished_pictures(wait=True)
        finally:
            self.painter.cancel()
            for name in {"writer", "_result_writer"} & self.__dict__.keys():
                getattr(self, name).close()

    @cached_property
    def _result_writer(self) -> SummaryWriter:
        # after the last of the training, for TensorBoard reads one file after the other
        self.writer.flush()
        self._wait_for_a_later_name()
        return SummaryWriter(self.run_dir, filename_suffix=RESULT)

    def _wait_for_a_later_name(self) -> None:
        """Have the next file of a run that goes on read last.

        TensorBoard reads files in the order of their names, which tell the second, and one may
        have it forget what it has read before.
        """
        while self.before and list(self.run_dir.glob(f"events.*.{int(time.time())}.*")):
            time.sleep(0.1)

    def _add_finished_pictures(self, wait: bool = False) -> None:
        for (name, epoch, of_the_end), picture in self.painter.finished(wait):
            width, height = Image.open(io.BytesIO(picture)).size
            size = {"width": width, "height": height, "colorspace": 4}
            image = Summary.Image(encoded_image_string=picture, **size)
            value = Summary.Value(tag=name, image=image)
            _add(self._result_writer if of_the_end else self.writer, value, epoch)

    def _add_hparams(self, tag: str, **info: SessionStartInfo | SessionEndInfo) -> None:
        plugin_data = metadata.create_summary_metadata(HParamsPluginData(**info))
        value = Summary.Value(tag=tag, metadata=plugin_data, tensor=metadata.NULL_TENSOR)
        _add(self._result_writer, value)


def _add(writer: SummaryWriter, value: Summary.Value, step: int | None = None) -> None:
    cast(FileWriter, writer.file_writer).add_summary(Summary(value=[value]), step)
