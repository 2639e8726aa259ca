"""One run over several processes of this machine, for Lightning's DDP to join.

Started here and not by Lightning, which runs the command line anew for each process and lets them
meet at a port that is open to the network.
"""

import gc
import multiprocessing as mp
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from flowlab.errors import FlowlabError
from flowlab.painter import SIGNALS, leave_with_parent


@contextmanager
def processes(num: int, on_gpu: bool, work: Callable[..., Any], *args: Any) -> Iterator[None]:
    """Be the first of `num` processes, the others of which call work(*args).

    The others heed no signals and end with this one. Raises FlowlabError if one of them fails.
    """
    if num == 1:
        yield
        return
    context = mp.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        meeting = Path(folder, "meeting")
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # they inherit it
        places = [(rank, num, on_gpu, meeting) for rank in range(num)]
        others = [context.Process(target=_other, args=(p, work, args)) for p in places[1:]]
        try:
            for process in others:
                process.start()
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            _join(*places[0])
            yield
        except BaseException as error:
            lost = isinstance(error, RuntimeError)  # perhaps gloo's, for its peer is gone
            for process in others:
                process.join(1 if lost else 0)
            lost = lost and any(process.exitcode for process in others)
            for process in others:  # before they notice, and tell it too
                process.kill()
            if lost:
                raise FlowlabError(f"another of the {num} processes failed ({error})") from error
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.environ.pop("LOCAL_RANK", None)
            if dist.is_initialized():
                dist.destroy_process_group()
            for process in others:
                process.join()


def _other(place: tuple[int, int, bool, Path], work: Callable[..., Any], args: Any) -> None:
    gc.enable()  # train.py, which this process imports too, has switched it off
    leave_with_parent()
    _join(*place)
    try:
        work(*args)
    except FlowlabError:
        os._exit(1)  # the first process has the same, and tells it
    finally:
        dist.destroy_process_group()


def _join(rank: int, num: int, on_gpu: bool, meeting: Path) -> None:
    os.environ["LOCAL_RANK"] = str(rank)  # tells Lightning which process this is
    os.environ |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    if on_gpu:
        torch.cuda.set_device(rank)
    backend, wait = "nccl" if on_gpu else "gloo", timedelta(minutes=5)
    dist.init_process_group(backend, meeting.as_uri(), wait, world_size=num, rank=rank)
