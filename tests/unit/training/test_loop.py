"""The loop on a line through points: what does not depend on the network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mmovseg_geo.errors import ConfigError, OutputError, TrainingFailed, WeightsError
from mmovseg_geo.training.loop import Loop
from mmovseg_geo.training.loop_batches import Draw, Draws
from mmovseg_geo.training.loop_checkpoint import BEST, LAST, read_checkpoint, write_checkpoint
from mmovseg_geo.training.loop_processes import Processes
from mmovseg_geo.training.loop_record import Record, read_metrics
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.stage import Stage

SETTINGS = LoopSettings(
    steps=20, batch_size=4, learning_rate=0.05, log_every=1, save_every=5, check_every=5, workers=0, seed=7
)


class Line(Stage):
    """y = a x + b, with what no training needs: a frozen part, dropout, and samples that count differently."""

    def __init__(self, width: int = 1) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.frozen_part = nn.Parameter(torch.ones(3), requires_grad=False)
        self.dropout = nn.Dropout(0.3)

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        off = self.slope * batch["x"] + self.offset - batch["y"] + 0.01 * self.dropout(batch["x"])
        counted = batch["counts"]
        return (off.square() * counted).sum() / counted.sum().clamp(min=1)

    def weight(self, batch: Mapping[str, Any]) -> float:
        return float(batch["counts"].sum())

    def groups(self, weight_decay: float) -> list[dict[str, Any]]:
        return [
            {"params": [self.slope], "rate": 1.0, "weight_decay": weight_decay},
            {"params": [self.offset], "rate": 0.5, "weight_decay": 0.0},
        ]

    def export(self, folder: Path, about: Mapping[str, str]) -> Path:
        raise NotImplementedError

    @property
    def use(self) -> str:
        return "FILE"


class Points:
    """Ten points; a draw moves them a little. `stop_at` raises where the process would have been killed."""

    def __init__(self, *, stop_at: int | None = None, bad: int | None = None, target: float = 2.0) -> None:
        self.stop_at, self.bad, self.target = stop_at, bad, target
        self.drawn: list[Draw] = []

    def __len__(self) -> int:
        return 10

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        if self.stop_at is not None and draw.number >= self.stop_at:
            raise KeyboardInterrupt
        self.drawn.append(draw)
        x = torch.tensor([draw.index / 10 + 0.001 * (draw.number % 7)])
        y = torch.tensor([float("nan")]) if draw.number == self.bad else self.target * x + 1
        return {"id": f"point {draw.index}", "x": x, "y": y, "counts": torch.tensor([float(draw.index % 3)])}


def looped(folder: Path, settings: LoopSettings = SETTINGS, samples: Points | None = None, **more: Any) -> Loop:
    folder.mkdir(exist_ok=True)
    return Loop(Line(), settings, samples or Points(), folder, Processes(), **more)


def losses(folder: Path) -> list[float]:
    return [entry["loss"] for entry in read_metrics(folder) if "loss" in entry]


@pytest.mark.parametrize(
    "more",
    [{}, {"average": 0.9}, {"accumulate": 2, "optimizer": "nadam"}, {"precision": "bf16"}, {"precision": "fp16"}],
)
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, more: dict[str, Any]) -> None:
    settings = replace(SETTINGS, **more)
    straight = looped(tmp_path / "straight", settings, validation=Points())
    straight.run()
    with pytest.raises(KeyboardInterrupt):  # in the twelfth step, after a checkpoint at the tenth
        looped(tmp_path / "stopped", settings, Points(stop_at=4 * 12), validation=Points()).run()
    assert len(losses(tmp_path / "stopped")) == 12
    resumed = looped(tmp_path / "stopped", settings, validation=Points())
    resumed.resume()
    assert resumed.step == 10
    resumed.run()
    assert losses(tmp_path / "stopped") == losses(tmp_path / "straight")
    assert len(losses(tmp_path / "straight")) == 20
    for one, other in zip(straight.weights.values(), resumed.weights.values(), strict=True):
        assert torch.equal(one, other)
    assert straight.take_best() == resumed.take_best()


def test_parts_of_a_step_are_as_the_whole(tmp_path: Path) -> None:
    """Though samples count differently, and the parts hold other numbers of them."""
    for parts in (1, 2, 4):
        loop = looped(tmp_path / str(parts), replace(SETTINGS, accumulate=parts))
        loop.stage.dropout.p = 0.0  # type: ignore[union-attr, assignment]
        loop.run()
    for parts in (2, 4):
        assert losses(tmp_path / str(parts)) == pytest.approx(losses(tmp_path / "1"), rel=1e-5)


def test_processes_share_the_samples_of_a_step() -> None:
    settings = replace(SETTINGS, batch_size=8, accumulate=2, steps=3)
    alone = [draw for part in Draws(10, settings, Processes()) for draw in part]
    shares = [list(Draws(10, settings, Processes(rank, 2))) for rank in range(2)]
    together = [draw for parts in zip(*shares, strict=True) for part in parts for draw in part]
    assert together == alone
    assert [draw.number for draw in alone] == list(range(24))
    assert sorted(draw.index for draw in alone[:10]) == list(range(10))
    assert [draw.index for draw in alone[:10]] != [draw.index for draw in alone[10:20]]


def test_what_is_frozen_and_each_rate_hold(tmp_path: Path) -> None:
    loop = looped(tmp_path, replace(SETTINGS, steps=1))
    loop.run()
    assert torch.equal(loop.stage.frozen_part, torch.ones(3))  # type: ignore[arg-type]
    assert loop.weights["slope"].item() == pytest.approx(0.05, rel=1e-3)
    assert loop.weights["offset"].item() == pytest.approx(0.025, rel=1e-3)


def test_a_loss_that_is_no_number_stops_with_its_batch(tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"Step 8: the loss is nan.*failed_batch\.pt.*point \d") as caught:
        looped(tmp_path, samples=Points(bad=4 * 7 + 2)).run()
    assert "last good checkpoint" in str(caught.value)
    batch = read_checkpoint(tmp_path / "failed_batch.pt")
    assert torch.isnan(batch["parts"][0]["y"]).any()
    assert read_checkpoint(tmp_path / LAST)["step"] == 5


def test_gradients_that_stay_infinite_in_half_precision_stop_the_run(tmp_path: Path) -> None:
    """The scale of the loss is halved from 65536 on; below 1 it would be halved for ever, and nothing learned."""

    class Steep(Line):
        def forward(self, batch: Mapping[str, Any]) -> Tensor:
            loss = super().forward(batch)
            loss.register_hook(lambda gradient: gradient * float("inf"))
            return loss

    loop = Loop(Steep(), replace(SETTINGS, precision="fp16", steps=40), Points(), tmp_path, Processes())
    with pytest.raises(TrainingFailed, match=r"Step 17: .* the norm of its gradients"):
        loop.run()
    assert loop.weights["slope"].item() == 0


def test_a_run_ends_early_where_the_score_stays(tmp_path: Path) -> None:
    settings = replace(SETTINGS, steps=200, patience=3, schedule="constant")
    loop = looped(tmp_path, settings, validation=Points(target=-50.0))
    loop.run()
    assert loop.step < 200
    checks = [entry["validation loss"] for entry in read_metrics(tmp_path) if "validation loss" in entry]
    assert min(checks) not in checks[-3:]
    assert loop.take_best() == loop.step - 3 * settings.check_every
    again = looped(tmp_path, settings, validation=Points(target=-50.0))
    again.resume()
    again.run()
    assert again.step == loop.step


def test_best_and_last_are_kept(tmp_path: Path) -> None:
    loop = looped(tmp_path, validation=Points(target=1.0))
    loop.run()
    checks = {e["step"]: e["validation loss"] for e in read_metrics(tmp_path) if "validation loss" in e}
    best = read_checkpoint(tmp_path / BEST)
    assert (best["step"], best["best"]) == min(checks.items(), key=lambda check: check[1])
    assert read_checkpoint(tmp_path / LAST)["step"] == 20


def test_the_average_is_validated_and_taken(tmp_path: Path) -> None:
    loop = looped(tmp_path, replace(SETTINGS, average=0.999))
    loop.run()
    own = loop.weights["slope"].item()
    assert loop.average["slope"].item() < own
    loop.take_best()
    assert loop.weights["slope"].item() == loop.average["slope"].item()


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / LAST
    write_checkpoint(path, {"step": 5})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OutputError, match=r"cannot be written.*checkpoint before it is still there"):
            write_checkpoint(path, {"step": 10, "weights": torch.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_checkpoint(path)["step"] == 5
    assert sorted(tmp_path.iterdir()) == [path]


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    looped(tmp_path, replace(SETTINGS, steps=5)).run()
    wider = Loop(Line(width=2), SETTINGS, Points(), tmp_path, Processes())
    with pytest.raises(WeightsError, match=r"another network.*slope is \(1,\) instead of \(2,\)"):
        wider.resume()
    with pytest.raises(TrainingFailed, match="began with other weights"):
        looped(tmp_path, start="abc").resume()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"no checkpoint at all"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LAST).write_bytes(content)
    with pytest.raises(WeightsError, match=r"last\.pt.*damaged"):
        looped(tmp_path).resume()


def test_lines_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1.0} for step in (5, 10, 15)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 16, "lo')
    with Record(tmp_path, after=10) as record:
        record.add(11, {"loss": 2.0})
    assert [entry["step"] for entry in read_metrics(tmp_path)] == [5, 10, 11]


def test_rates_fall_as_a_cosine_or_stay() -> None:
    cosine, constant = LoopSettings(steps=100, warmup_steps=3), LoopSettings(steps=100, schedule="constant")
    assert [cosine.pace(step) for step in (0, 3, 50)] == pytest.approx([0.25, 0.99778, 0.5], abs=1e-4)
    assert cosine.pace(99) < 0.001
    assert {constant.pace(step) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps 0 is not positive"),
        ({"batch_size": 3, "accumulate": 2}, "equal parts"),
        ({"precision": "fp8"}, "Known: fp32, bf16, fp16"),
        ({"average": 1.0}, "no share that stays"),
        ({"schedule": "linear"}, "Known: cosine, constant"),
    ],
)
def test_settings_that_cannot_be_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoopSettings(**values)
    with pytest.raises(ConfigError, match="Give a multiple of 3"):
        LoopSettings(batch_size=4).part_size(3)
