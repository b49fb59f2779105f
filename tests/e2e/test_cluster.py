"""A batch on a Dask cluster: the files of one machine, through killed workers, lost GPUs and wrong versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pytest

import mmovseg_geo
from mmovseg_geo import cluster
from mmovseg_geo.cluster import connect, map_on_cluster
from mmovseg_geo.cluster.allocation import DASKS_TRIM
from mmovseg_geo.cluster.orders import Order, Outcome
from mmovseg_geo.cluster.work import perform
from mmovseg_geo.config import SegmentConfig
from mmovseg_geo.errors import ClusterError
from mmovseg_geo.manifest import ScenePair
from mmovseg_geo.unfinished import hidden_folder

distributed = pytest.importorskip("distributed")
dask = pytest.importorskip("dask")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")

MODEL = '''
"""The threshold model; it notes each batch, and at the one that a file names its process dies or loses its GPU."""
import os, signal
from pathlib import Path
from mmovseg_geo.models.threshold import threshold

HERE = Path(__file__).parent


def build(vocabulary, **settings):
    segmenter = threshold(vocabulary, **settings)

    class Mortal:
        def __getattr__(self, name):
            return getattr(segmenter, name)

        def __call__(self, batch):
            with (HERE / "batches").open("a") as file:
                file.write(f"{os.getpid()}\\n")
            done = len((HERE / "batches").read_text().split())
            for end in ("killed", "lost"):
                at = HERE / end
                if at.exists() and done >= int(at.read_text()) and os.getpid() != int((HERE / "tests").read_text()):
                    at.unlink()
                    if end == "killed":
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise RuntimeError("CUDA error: unspecified launch failure")
            return segmenter(batch)

    return Mortal()
'''

WORDS = ("--classes", "dark,middle,bright", "--tile-size", "64", "--overlap", "16", "--batch-size", "3")
MORTAL = ("--model", "mortal_model:build")
PLAIN = ("--no-polygons", "--no-preview")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """The folder of the model, which processes started from here can import."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "mortal_model.py").write_text(MODEL)
    (folder / "tests").write_text(str(os.getpid()))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("OGR_CURRENT_DATE", "2026-01-01T00:00:00Z")
        yield folder


@pytest.fixture(scope="module")
def processes(models):
    """A scheduler and two worker processes: their cluster."""
    with connect._processes(2, "cpu") as running:
        yield running


@pytest.fixture
def tall(here, write) -> str:
    """A table of one scene of 17 rows of two 64-pixel windows, 12 batches."""
    rng = np.random.default_rng(3)
    optical = np.kron(rng.integers(1, 256, (42, 5)), np.ones((20, 20))).astype(np.uint8)
    write("s2.tif", np.stack([optical] * 3))
    write("s1.tif", rng.normal(-12, 3, (2, 840, 100)).astype(np.float32))
    (here / "scenes.csv").write_text(f"optical,sar,out\n{here / 's2.tif'},{here / 's1.tif'},map\n")
    return "scenes.csv"


def outputs(folder: Path) -> dict[str, object]:
    """Files by name: bytes, and of the record all but its timings."""
    found: dict[str, object] = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in found:
        if name.endswith("_run.json"):
            found[name] = {key: value for key, value in json.loads(found[name]).items() if key != "timings_s"}  # type: ignore[call-overload]
    return found


@pytest.mark.parametrize("unit", ["scene", "strip"])
def test_a_cluster_writes_what_one_machine_writes(here, tall, run, processes, unit):
    assert run("batch", tall, *WORDS, "-o", "alone").exit_code == 0
    where = ("--scheduler", processes.scheduler_address, "--unit", unit)
    result = run("batch", tall, *WORDS, "-o", "many", *where)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == ["many/map"]
    assert len(outputs(here / "many/map")) == 6
    assert outputs(here / "many/map") == outputs(here / "alone/map")
    again = run("batch", tall, *WORDS, "-o", "many", *where, "--json")
    assert json.loads(again.stdout)["counts"] == {"done": 0, "skipped": 1, "failed": 0}


@pytest.mark.parametrize("unit", ["scene", "strip"])
@pytest.mark.parametrize("end", ["killed", "lost"])
def test_a_worker_that_ends_costs_only_its_strip(here, tall, run, models, processes, unit, end):
    assert run("batch", tall, *WORDS, *PLAIN, "-o", "alone", *MORTAL).exit_code == 0
    alone = len((models / "batches").read_text().split())
    (models / "batches").unlink()
    (models / end).write_text("9")
    where = ("--scheduler", processes.scheduler_address, "--unit", unit, "--overwrite")
    result = run("batch", tall, *WORDS, *PLAIN, *MORTAL, "-o", "many", *where)
    workers = (models / "batches").read_text().split()
    (models / "batches").unlink()
    assert result.exit_code == 0, result.output
    assert not (models / end).exists()
    assert len(set(workers)) > 1
    # Lost is what waited to be stitched, less than the nine batches that were scored; batches across the border of two
    # strips are computed for both.
    assert alone < len(workers) <= alone + (8 if unit == "scene" else 12)
    assert outputs(here / "many/map") == outputs(here / "alone/map")
    assert not hidden_folder({"run": here / "many/map/s2_run.json"}).exists()


def test_local_processes_are_started_and_ended(here, tall, run, models):
    result = run("batch", tall, *WORDS, *PLAIN, "-o", "many", "--workers", "1")
    assert result.exit_code == 0, result.output
    assert (here / "many/map/s2_labels.tif").is_file()


def test_workers_share_the_processors_and_nothing_of_it_stays_here(processes, monkeypatch):
    with distributed.Client(processes.scheduler_address, set_as_default=False) as client:
        (threads,) = {tuple(map(found.get, connect.THREADS)) for found in client.run(lambda: dict(os.environ)).values()}
    share = os.environ.get("OMP_NUM_THREADS") or str(max(1, (os.cpu_count() or 1) // 2))
    assert threads == (share, *(os.environ.get(name, share) for name in connect.THREADS[1:]))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    with connect._threads(7):
        told = dask.config.get("distributed.nanny.pre-spawn-environ")
        assert [told[name] for name in connect.THREADS] == ["7", "7", "7"]
        os.environ.update(dict.fromkeys(connect.THREADS, "1"))  # as nannies do
    assert "OMP_NUM_THREADS" not in os.environ
    assert os.environ["MKL_NUM_THREADS"] == "5"


FAULTS = """
import resource, sys
import numpy as np
from mmovseg_geo.cluster.allocation import keep_freed_memory

done = sys.argv[1] == "keep" and keep_freed_memory()
for turn in range(12):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**20, np.uint8)
fresh = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) * resource.getpagesize()
print(int(done), fresh / 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="thresholds are those of glibc")
def test_a_worker_keeps_the_memory_that_dask_tells_it_to_give_back():
    def last_turn(how: str, trim: str) -> tuple[bool, bool]:
        """Whether something was undone, and whether the last of some arrays of 1 MB was fresh memory."""
        told = subprocess.run(
            [sys.executable, "-c", FAULTS, how],
            env={**os.environ, "MALLOC_TRIM_THRESHOLD_": trim},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        return told[0] == "1", float(told[1]) > 0.5

    assert last_turn("as it is", DASKS_TRIM) == (False, True)
    assert last_turn("keep", DASKS_TRIM) == (True, False)
    assert last_turn("keep", "131072") == (False, True)  # somebody's own choice
    started = dask.config.get("distributed.nanny.pre-spawn-environ")["MALLOC_TRIM_THRESHOLD_"]
    assert str(started) == DASKS_TRIM


def test_a_failed_scene_is_told_and_the_others_are_mapped(here, tall, run, processes):
    (here / "broken.tif").write_text("no raster")
    with (here / tall).open("a") as table:
        table.write(f"{here / 'broken.tif'},,broken\n")
    result = run("batch", tall, *WORDS, *PLAIN, "-o", "many", "--scheduler", processes.scheduler_address)
    assert result.exit_code == 3
    assert "broken.tif: cannot be read" in result.stderr
    assert result.stdout.splitlines() == ["many/map"]


def test_what_no_worker_can_do_stops_the_batch(tall, refused, processes):
    where = ("--scheduler", processes.scheduler_address)
    assert "Unknown model" in refused("batch", tall, *WORDS, "-o", "many", *where, "--model", "nothing")


def test_workers_of_another_version_are_refused(tall, refused, processes, monkeypatch):
    monkeypatch.setattr(mmovseg_geo, "__version__", "9.9")
    told = refused("batch", tall, *WORDS, "-o", "many", "--scheduler", processes.scheduler_address)
    assert "Workers have mmovseg-geo 0.1.0, and this is 9.9" in told


def test_a_worker_without_the_package_is_refused():
    class Client:
        def run(self, function, *arguments, on_error):
            return {"tcp://10.0.0.1:4000": ModuleNotFoundError("No module named 'mmovseg_geo'"), "tcp://b": "0.1.0"}

    with pytest.raises(ClusterError, match=r"not installed where these workers run: tcp://10\.0\.0\.1:4000"):
        connect.require_fit(Client())


def test_a_worker_refuses_orders_of_another_version():
    order = Order("scene", 0, ScenePair("a.tif", None, "a"), "maps", SegmentConfig(), version="9.9")
    with pytest.raises(ClusterError, match=r"this is 9\.9"):
        perform(order)


def test_a_scheduler_that_does_not_answer_is_told(here, tall, refused, monkeypatch):
    monkeypatch.setattr(connect, "PATIENCE_S", 1)
    words = ("batch", tall, *WORDS, "-o", "many", "--scheduler")
    assert "No Dask scheduler answers at tcp://127.0.0.1:9" in refused(*words, "tcp://127.0.0.1:9")
    assert "dask scheduler --scheduler-file" in refused(*words, "head.json")
    (here / "head.json").write_text("{}")
    assert "is not the file of a scheduler" in refused(*words, "head.json")
    told = refused(*words, "tcp://127.0.0.1:9", "--workers", "2", code=2)
    assert "not both" in told


def test_dask_is_asked_for_only_where_it_is_needed(tall, refused, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert "pip install 'mmovseg-geo[dask]'" in refused("batch", tall, *WORDS, "-o", "many", "--workers", "2")


@pytest.fixture
def threads():
    """A cluster of threads in this process, with a scheduler that can be looked into."""
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None) as running,
        distributed.Client(running, set_as_default=False) as client,
    ):
        yield running, client


def many(here: Path, count: int) -> list[ScenePair]:
    return [ScenePair(f"/vsimem/{number}.tif", None, str(number)) for number in range(count)]


def test_a_thousand_scenes_take_no_more_memory_than_a_few(here, threads, monkeypatch):
    running, client = threads
    monkeypatch.setattr(cluster, "perform", lambda order: Outcome("done"))
    known: list[int] = []
    result = map_on_cluster(
        many(here, 1000), here / "maps", config=SegmentConfig(classes="a,b"), client=client, unit="scene",
        finished=lambda scene: known.append(len(running.scheduler.tasks)),
    )  # fmt: skip
    assert result.count("done") == 1000
    assert [scene.folder.name for scene in result.scenes] == [str(number) for number in range(1000)]
    # Some that are done are not forgotten yet when the next ones are sent.
    assert max(known) <= 2 * cluster.FEWEST_ORDERS
    assert max(known[500:]) <= max(known[:500]) + cluster.FEWEST_ORDERS // 2


def test_a_cluster_that_adapts_grows_from_nothing(here, monkeypatch):
    monkeypatch.setattr(cluster, "perform", lambda order: Outcome("done"))
    with distributed.LocalCluster(
        n_workers=0, threads_per_worker=1, processes=False, dashboard_address=None
    ) as running:
        running.adapt(minimum=0, maximum=2, interval="50ms")
        with distributed.Client(running, set_as_default=False) as client:
            config = SegmentConfig(classes="a,b")
            result = map_on_cluster(many(here, 30), here / "maps", config=config, client=client)
    assert result.count("done") == 30


def test_orders_and_outcomes_are_small(here, tall):
    config = SegmentConfig(model="threshold", classes="dark,bright", tile_size=64, overlap=16)
    pair = ScenePair(str(here / "s2.tif"), str(here / "s1.tif"), "map")
    order = Order("cut", 0, pair, str(here / "map"), config, parts=4)
    outcome = perform(order)
    assert outcome.status == "cut"
    assert [rows[0] for rows in outcome.spans[1:]] == [rows[1] for rows in outcome.spans[:-1]]
    assert (outcome.spans[0][0], outcome.spans[-1][1]) == (0, 840)
    assert len(outcome.spans) > 2
    sent = order.strip(outcome.spans[0], outcome.scene)
    assert len(cloudpickle.dumps(sent)) < 50_000
    assert len(cloudpickle.dumps(outcome)) < 50_000
