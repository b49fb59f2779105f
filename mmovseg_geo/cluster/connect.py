"""A Dask cluster: processes of this computer, or one that is there; checked before it gets work."""

from __future__ import annotations

import logging
import os
import pkgutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import mmovseg_geo
from mmovseg_geo.errors import ClusterError, ConfigError, a_few

logger = logging.getLogger(__name__)

PATIENCE_S = 10
"""How long a scheduler may take to answer."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that libraries take their number of threads from."""
INSTALL = "pip install 'mmovseg-geo[dask]'"


def dask_distributed() -> Any:
    """The library.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return import_module("distributed")
    except ImportError as error:
        raise ConfigError(f"Work on several processes or machines needs Dask. Install it: {INSTALL}") from error


@contextmanager
def connected(workers: int | None, scheduler: str | None, device: str = "auto") -> Iterator[Any]:
    """A client of `workers` processes of this computer, or of the scheduler at an address or of a scheduler file.

    Raises:
        ConfigError: Dask is not installed, or not one of both was given. ClusterError: nobody answers.
    """
    if (workers is None) == (scheduler is None):
        raise ConfigError("Give either --workers, for processes of this computer, or the --scheduler of a cluster.")
    if scheduler is not None:
        with _client_of(scheduler) as client:
            yield client
    else:
        with _processes(workers or 1, device) as cluster, dask_distributed().Client(cluster) as client:
            yield client


def require_fit(client: Any) -> int:
    """The number of workers, all of which have this version of the package.

    Raises:
        ClusterError: one has another version, or none.
    """
    # Only names cross here, so that a worker without the package can answer too.
    found = client.run(pkgutil.resolve_name, "mmovseg_geo:__version__", on_error="return")
    without = [address for address, version in found.items() if isinstance(version, ImportError)]
    if without:
        raise ClusterError(
            f"mmovseg-geo is not installed where these workers run: {a_few(without)}. Install it in their environment: "
            f"{INSTALL.replace('geo[dask]', f'geo[dask]=={mmovseg_geo.__version__}')}"
        )
    others = sorted({str(version) for version in found.values() if version != mmovseg_geo.__version__})
    if others:
        raise ClusterError(
            f"Workers have mmovseg-geo {', '.join(others)}, and this is {mmovseg_geo.__version__}. Install the same "
            "version on all machines."
        )
    return len(found)


@contextmanager
def _client_of(scheduler: str) -> Iterator[Any]:
    distributed = dask_distributed()
    file = Path(scheduler)
    is_file = file.suffix == ".json" or file.is_file()
    if is_file and not file.is_file():
        raise ClusterError(f"{scheduler}: no such file. A scheduler writes it: dask scheduler --scheduler-file {file}")
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    try:
        client = distributed.Client(**where, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise ClusterError(
            f"No Dask scheduler answers at {scheduler} within {PATIENCE_S} s. Check that it runs (dask scheduler) and "
            "that this computer reaches its port, 8786 unless told otherwise."
        ) from error
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        what = "is not the file of a scheduler" if is_file else "is not an address: write it as tcp://host:8786"
        raise ClusterError(f"{scheduler} {what}.") from error
    with client:
        yield client


@contextmanager
def _processes(count: int, device: str) -> Iterator[Any]:
    """A scheduler and processes on this computer; each has its share of the processors, and one of the GPUs."""
    distributed = dask_distributed()
    here = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    gpus = _gpus(device)
    workers = {}
    for number in range(count):
        env = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {}
        # The memory of a run is bounded already, and a network's is not what Dask expects: it would end the worker.
        options = {"nthreads": 1, "memory_limit": 0, "env": env, "host": "127.0.0.1", "silence_logs": logging.CRITICAL}
        workers[number] = {"cls": distributed.Nanny, "options": options}
    if gpus and count > len(gpus):
        logger.warning("%d workers share %d GPUs; one worker a GPU is enough.", count, len(gpus))
    with _threads(max(1, (os.cpu_count() or 1) // count)):
        cluster = distributed.SpecCluster(
            workers, {"cls": distributed.Scheduler, "options": here}, silence_logs=logging.CRITICAL
        )
        with cluster:
            logger.debug("dashboard %s", cluster.dashboard_link)
            yield cluster


@contextmanager
def _threads(share: int) -> Iterator[None]:
    """Within, processes that nannies start compute on so many threads, unless the environment says otherwise.

    Dask gives them one. All its variables are set, because torch goes by the one of MKL; and they are taken back here,
    where nannies leave them.
    """
    dask = import_module("dask")
    before = {name: os.environ.get(name) for name in THREADS}
    threads = before["OMP_NUM_THREADS"] or str(share)
    environ = dask.config.get("distributed.nanny.pre-spawn-environ") | dict.fromkeys(THREADS, threads)
    with dask.config.set({"distributed.nanny.pre-spawn-environ": environ}):
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _gpus(device: str) -> list[str]:
    """The GPUs of this computer that the settings let a worker choose from, as CUDA_VISIBLE_DEVICES names them."""
    if device not in ("auto", "cuda"):
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [part for part in named.split(",") if part and part != "-1"]
    if sys.platform == "darwin":
        return []
    from mmovseg_geo.models.compute import gpu_count

    return [str(number) for number in range(gpu_count())]
