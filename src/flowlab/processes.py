"""The processes of one run: started by torchrun or srun, or from here; Lightning's DDP joins them.

The first is the run, and the only one that writes and speaks; the others take part in it.
"""

import os
import signal
import socket
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from flowlab import signals
from flowlab.errors import ConfigError, FlowlabError

if TYPE_CHECKING:
    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from omegaconf import DictConfig
    from torch.distributed.elastic.rendezvous import RendezvousHandler

PATIENCE = 5.0  # seconds in which the first process tells what all have run into
WRITES_NOTHING = ("hydra.output_subdir=null", "hydra.run.dir=.", "hydra.job_logging.root=null")


class Place(NamedTuple):
    """Which of the processes this one is, and how many there are on each of the machines."""

    rank: int
    devices: int
    num_nodes: int


def place() -> Place | None:
    """The place that torchrun or srun has given to this process; None if it is alone.

    A job of Slurm's with a single task is alone, whatever the allocation. Raises ConfigError if the
    machines have not equally many processes each.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:  # first, as srun may start one torchrun on each machine
        rank, devices, nodes = env["RANK"], int(env["LOCAL_WORLD_SIZE"]), env["GROUP_WORLD_SIZE"]
        num = int(env["WORLD_SIZE"])
    elif (num := int(env.get("SLURM_STEP_NUM_TASKS", 1))) > 1:  # a step's: srun alone sets it
        rank, nodes = env["SLURM_PROCID"], env["SLURM_STEP_NUM_NODES"]
        devices = num // int(nodes)
    else:
        return None
    if devices * int(nodes) != num:
        raise ConfigError(f"{num} processes on {nodes} machines: expected equally many on each")
    return Place(int(rank), devices, int(nodes))


def is_first() -> bool:
    """Whether this process is the one that writes."""
    here = place()
    return here is None or here.rank == 0


def words() -> list[str]:
    """What a process that was started adds to its command line: who starts it says how many."""
    here = place()
    if here is None:
        return []
    counts = [f"trainer.devices={here.devices}", f"trainer.num_nodes={here.num_nodes}"]
    return counts if here.rank == 0 else [*counts, *WRITES_NOTHING]


def count(cfg: "DictConfig") -> int:
    """How many processes a configuration asks for."""
    return int(cfg.trainer.devices) * int(cfg.trainer.num_nodes)


def to_be_started(cfg: "DictConfig") -> bool:
    """Whether this process is to start those that a configuration asks for, all on this machine."""
    return place() is None and cfg.trainer.devices == count(cfg) > 1


def check_started(cfg: "DictConfig") -> None:
    """Raise ConfigError unless the processes that a configuration asks for are there."""
    here = place() or Place(0, 1, 1)
    for key, asked, started in (
        ("num_nodes", cfg.trainer.num_nodes, here.num_nodes),
        ("devices", cfg.trainer.devices, here.devices),
    ):
        if asked != started:
            raise ConfigError(
                f"trainer.{key}={asked}: this run was started with {started}; start it as "
                "torchrun --nnodes NODES --nproc-per-node DEVICES ... train.py, or by srun"
            )


def environment() -> "ClusterEnvironment":
    """What tells Lightning its place; the Slurm job that a lone run may be in does not."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if "TORCHELASTIC_RUN_ID" in os.environ:
        return TorchElasticEnvironment()
    if (here := place()) is None:
        return LightningEnvironment()
    os.environ["SLURM_NTASKS_PER_NODE"] = str(here.devices)  # which srun -n leaves unset
    return SLURMEnvironment(auto_requeue=False)


@contextmanager
def taking_part() -> Iterator[None]:
    """Be one of the processes for the length of a program: all but the first of them in silence.

    What they say is kept, and told only if one of them fails and is not ended, as it is when the
    first has run into the same: then it alone knows.
    """
    here = place()
    if here is not None and here.num_nodes == 1:  # not by the network, if by no other machine
        for key in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
            os.environ.setdefault(key, socket.if_indextoname(1))
    if here is not None and "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_stop_without, args=(os.getppid(),), daemon=True).start()
    if here is None or here.rank == 0:
        yield
        return
    with tempfile.TemporaryFile() as said, open(os.devnull, "wb") as null:
        stderr = os.dup(2)
        os.dup2(null.fileno(), 1)
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException as error:
            code = error.code if isinstance(error, SystemExit) else 1
            if code in (0, None, *signals.EXIT_CODES):
                raise
            if not isinstance(error, SystemExit):
                traceback.print_exc()
            signals.end_by_sigterm()
            time.sleep(PATIENCE)
            sys.stderr.flush()
            said.seek(0)
            os.write(stderr, f"process {here.rank}: ".encode() + said.read())
            raise SystemExit(code) from None


def _stop_without(parent: int) -> None:
    """Stop this process as if asked to, when the one that has started it is lost."""
    while os.getppid() == parent:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)


@contextmanager
def together() -> Iterator[None]:
    """Train with the other processes, if there are any.

    While they meet a signal ends this one at once, for torch waits deaf to Python's handlers; after
    an error none does, so that it can be told. Raises FlowlabError where torch says that it cannot
    reach another of them.
    """
    if place() is None:
        yield
        return
    try:
        with signals.as_the_system_does():
            yield
    except RuntimeError as error:
        if "onnection" not in str(error):
            raise
        reason = " ".join(str(error).split())[:120]
        raise FlowlabError(f"another process of this run was lost ({reason})") from error


def start_anew(num: int) -> NoReturn:
    """Run this program's command line as `num` processes, by torchrun's agent; exit as they do.

    Signals are passed on to them.
    """
    import logging

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import rendezvous_handler_registry
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.disable()  # the processes themselves say what there is to say
    rendezvous_handler_registry.register("loopback", _rendezvous)
    config = LaunchConfig(
        *(1, 1, num),
        rdzv_backend="loopback",
        run_id="flowlab",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
        signals_to_handle=",".join(signum.name for signum in signals.SIGNALS),
    )
    try:
        elastic_launch(config, sys.executable)(*sys.orig_argv[1:])
    except SignalException as stop:
        sys.exit(128 + stop.sigval)
    except ChildFailedError as error:
        _exit_as(error.failures, num)
    sys.exit(0)


def _exit_as(failures: dict[int, Any], num: int) -> NoReturn:
    """Exit as the first process did, which has said why; unless it, or another, had no time to."""
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    lost = [rank for rank, code in codes.items() if code < 0 and code != -signal.SIGTERM]
    if lost and codes.get(0) != FlowlabError.exit_code:
        raise FlowlabError(
            f"process {lost[0]} of {num} was lost ({signal.Signals(-codes[lost[0]]).name})"
        )
    sys.exit(max(codes.get(0, 0), 0) or max(*codes.values(), 1))


def _rendezvous(parameters: Any) -> "RendezvousHandler":
    """Where the processes of this machine meet: torch's own would listen to the network."""
    from torch import distributed as dist
    from torch.distributed.elastic.rendezvous import RendezvousInfo, RendezvousStoreInfo
    from torch.distributed.elastic.rendezvous.static_tcp_rendezvous import StaticTCPRendezvous

    class Loopback(StaticTCPRendezvous):
        def get_backend(self) -> str:
            return str(parameters.backend)

        def next_rendezvous(self) -> RendezvousInfo:
            place = RendezvousStoreInfo(self.master_addr, self.master_port)
            store = dist.TCPStore(  # type: ignore[attr-defined]
                *(place.master_addr, place.master_port),
                is_master=True,
                wait_for_workers=False,
                master_listen_fd=listener.detach(),
            )
            return RendezvousInfo(store, 0, 1, place)

    listener = socket.create_server(("127.0.0.1", 0))
    address, port = listener.getsockname()
    return Loopback(address, port, rank=0, world_size=1, run_id="", timeout=60)
