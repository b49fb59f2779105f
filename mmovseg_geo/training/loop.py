"""The loop of a stage: steps, checkpoints, validation, early end. It knows nothing of what is trained.

Every step draws from a random stream of its own, so that a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mmovseg_geo.errors import TrainingFailed
from mmovseg_geo.models.compute import PRECISIONS, mixed
from mmovseg_geo.training.loop_batches import Batches, Samples, training_batches, validation_batches
from mmovseg_geo.training.loop_checkpoint import BEST, LAST, check_weights, read_checkpoint, write_checkpoint
from mmovseg_geo.training.loop_processes import Processes
from mmovseg_geo.training.loop_record import VALIDATION, Record, bar
from mmovseg_geo.training.loop_settings import LoopSettings
from mmovseg_geo.training.stages.stage import Stage

logger = logging.getLogger(__name__)
Batch = dict[str, Any]


class Loop:
    """A stage, its optimizer and where it stands.

    Args:
        validation: images that scores are measured on; None for no scores, and so no best weights.
        start: digest of what does not learn; a checkpoint of a run that began otherwise is refused.
    """

    def __init__(
        self, stage: Stage, settings: LoopSettings, samples: Samples, folder: Path, processes: Processes, *,
        validation: Samples | None = None, start: str = "",
    ) -> None:  # fmt: skip
        settings.part_size(processes.world)
        self.settings, self.samples, self.validation = settings, samples, validation
        self.folder, self.processes, self.start = folder, processes, start
        self.stage = stage.to(processes.device)
        self.weights = self.stage.trained()
        self.optimizer = _optimizer(self.stage, settings)
        self.dtype = PRECISIONS[settings.precision]
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=settings.precision == "fp16")
        self.module: nn.Module = self.stage
        if processes.world > 1:
            ids = [processes.device.index] if processes.device.type == "cuda" else None
            self.module = DistributedDataParallel(self.stage, device_ids=ids, broadcast_buffers=False)
        self.average = (
            {name: value.detach().clone() for name, value in self.weights.items()} if settings.average else {}
        )
        self.step, self.best, self.waited = 0, math.nan, 0
        self._judged: Batches | None = None

    def run(self) -> None:
        """Train to the last step, or until the score has not grown for too long.

        Raises:
            TrainingFailed: a loss or gradient that is no number; the batch is saved.
            OutputError: a checkpoint that cannot be written.
        """
        settings = self.settings
        if self.processes.device.type == "cuda":
            torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
        self.stage.train()
        batches = training_batches(self.samples, settings, self.processes, first_step=self.step)
        shown = self.processes.is_first
        record = Record(self.folder, after=self.step) if shown else nullcontext()
        with record as lines, bar(settings.steps, self.step, shown=shown) as progress:
            losses: list[float] = []
            started, first = time.monotonic(), self.step
            while self.step < settings.steps and not self._is_over:
                losses.append(self._learn([next(batches) for _ in range(settings.accumulate)]))
                progress.tell(self.step, losses[-1])
                is_last = self.step == settings.steps
                saves = is_last or self.step % settings.save_every == 0
                checks = self.validation is not None and (is_last or self.step % settings.check_every == 0)
                if lines and (self.step % settings.log_every == 0 or saves or checks):
                    rate = (time.monotonic() - started) / (self.step - first)
                    values = {"loss": sum(losses) / len(losses), "rate": self._rate, "seconds_per_step": rate}
                    lines.add(self.step, values)
                    progress.line(self.step, settings.steps, values, seconds_left=rate * (settings.steps - self.step))
                    losses.clear()
                if checks:
                    scores = self._check()
                    if lines:
                        lines.add(self.step, {VALIDATION + name: value for name, value in scores.items()})
                        progress.line(self.step, settings.steps, scores)
                if saves or checks:
                    self._save()
        if self._is_over and self.step < settings.steps:
            logger.info("Stopped at step %d: %d validations without a better score.", self.step, self.waited)

    def resume(self) -> None:
        """Go on from the last checkpoint of the folder.

        Raises:
            WeightsError: there is none, it is damaged, or it is of another network.
        """
        path = self.folder / LAST
        state = read_checkpoint(path)
        check_weights(state["weights"], self.weights, path)
        if state["start"] != self.start:
            raise TrainingFailed(
                f"{path}: the run began with other weights than are found now (start {state['start'][:12]}…, now "
                f"{self.start[:12]}…).\n  Give the files it began with, or another folder."
            )
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(state["weights"][name])
            for name, mean in self.average.items():
                mean.copy_(state["average"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        self.step, self.best, self.waited = state["step"], state["best"], state["waited"]
        logger.info("Going on from step %d.", self.step)

    def take_best(self) -> int:
        """Put the weights that the run is worth into the stage: the best validated, else the last. Their step."""
        path = self.folder / BEST
        found: Mapping[str, Tensor] = self.average or {name: value.detach() for name, value in self.weights.items()}
        step = self.step
        if path.is_file():
            state = read_checkpoint(path)
            check_weights(state["weights"], self.weights, path)
            found, step = state["weights"], state["step"]
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(found[name])
        return int(step)

    @property
    def _is_over(self) -> bool:
        return 0 < self.settings.patience <= self.waited

    @property
    def _rate(self) -> float:
        return self.settings.learning_rate * self.settings.pace(self.step - 1)

    def _learn(self, parts: list[Batch]) -> float:
        """One step; the loss over the parts of all processes."""
        settings, device = self.settings, self.processes.device
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * settings.pace(self.step) * group["rate"]
        self.optimizer.zero_grad(set_to_none=True)
        parts = [on_device(part, device) for part in parts]
        weights = [self.stage.weight(part) for part in parts]
        total = float(self.processes.summed(torch.tensor(sum(weights), dtype=torch.float64)))
        loss = torch.zeros((), dtype=torch.float64, device=device)
        for number, (part, weight) in enumerate(zip(parts, weights, strict=True)):
            torch.manual_seed(self._seed(number))
            # Gradients of processes are averaged, so each is made as large as if it were the only one.
            share = weight * self.processes.world / max(total, 1.0)
            with self._together(is_last=number == len(parts) - 1):
                with mixed(device, self.dtype):
                    found = self.module(part)
                self.scaler.scale(found * share).backward()
            loss += found.detach().double() * share
        mean = float(self.processes.summed(loss)) / self.processes.world
        self.scaler.unscale_(self.optimizer)
        norm = self._clip()
        # Of fp16, gradients that are too large halve the scale of the loss; none is left to halve where it is 1.
        is_scaled = self.scaler.is_enabled() and self.scaler.get_scale() > 1
        if not math.isfinite(mean) or (not math.isfinite(norm) and not is_scaled):
            self._give_up(parts, mean, norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            keep = min(settings.average, (1 + self.step) / (10 + self.step))
            update = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
            update(list(self.average.values()), list(self.weights.values()), self.step)
        self.step += 1
        return mean

    def _together(self, *, is_last: bool) -> Any:
        """Processes exchange gradients in the last part of a step only."""
        if isinstance(self.module, DistributedDataParallel) and not is_last:
            return self.module.no_sync()
        return nullcontext()

    def _seed(self, part: int) -> int:
        """For what the networks themselves draw."""
        place = part * self.processes.world + self.processes.rank
        return hash((self.settings.seed, self.step, place)) % 2**63

    def _clip(self) -> float:
        """The norm of all gradients, limited where it should be."""
        settings = self.settings
        clips = settings.gradient_clip is not None and (settings.clip_steps is None or self.step < settings.clip_steps)
        limit = settings.gradient_clip if clips and settings.gradient_clip is not None else math.inf
        return float(nn.utils.clip_grad_norm_(self.weights.values(), limit))

    def _give_up(self, parts: list[Batch], loss: float, norm: float) -> None:
        path = self.folder / (
            f"failed_batch_{self.processes.rank}.pt" if self.processes.world > 1 else "failed_batch.pt"
        )
        write_checkpoint(path, {"step": self.step, "parts": [on_device(part, torch.device("cpu")) for part in parts]})
        kept = self.folder / LAST
        names = ", ".join(name for part in parts for name in part["id"])
        raise TrainingFailed(
            f"Step {self.step + 1}: the loss is {loss:.4g} and the norm of its gradients {norm:.4g}. The batch is in "
            f"{path} ({names}).\n"
            + (f"  The last good checkpoint is {kept}. " if kept.is_file() else "  There is no checkpoint yet. ")
            + "Look at these images, lower the learning rate, or compute in bf16 or fp32 instead of fp16."
        )

    @torch.no_grad()
    def _check(self) -> dict[str, float]:
        """Scores on the validation images; the best weights so far are kept."""
        self.stage.eval()
        sums: Tensor | None = None
        with self._averaged(), mixed(self.processes.device, self.dtype):
            self._judged = self._judged or self._validation_batches(self.processes)
            for batch in self._judged:
                found = self.stage.sums(on_device(batch, self.processes.device))
                sums = found if sums is None else sums + found
            if sums is None:  # more processes than images
                sums = torch.zeros_like(
                    self.stage.sums(on_device(next(iter(self._validation_batches(Processes()))), self.processes.device))
                )
            scores = self.stage.scores(self.processes.summed(sums).cpu())
            score = scores[self.stage.judged]
            sign = 1 if self.stage.higher_is_better else -1
            if math.isnan(self.best) or sign * score > sign * self.best:
                self.best, self.waited = score, 0
                if self.processes.is_first:
                    weights = {name: value.detach() for name, value in self.weights.items()}
                    write_checkpoint(self.folder / BEST, {"step": self.step, "best": score, "weights": weights})
            else:
                self.waited += 1
        self.stage.train()
        self.processes.wait()
        return scores

    def _validation_batches(self, processes: Processes) -> Batches:
        assert self.validation is not None, "called only where there are validation images"
        return validation_batches(self.validation, self.settings, processes, at_once=self.stage.judged_at_once)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Within it, the stage has its averaged weights, where there are any."""
        own = {name: value.detach().clone() for name, value in self.weights.items()} if self.average else {}
        with torch.no_grad():
            for name, value in self.average.items():
                self.weights[name].copy_(value)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in own.items():
                    self.weights[name].copy_(value)

    def _save(self) -> None:
        if not self.processes.is_first:
            return
        state = {
            "step": self.step,
            "start": self.start,
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "best": self.best,
            "waited": self.waited,
        }
        write_checkpoint(self.folder / LAST, state)


def on_device(batch: Mapping[str, Any], device: torch.device) -> Batch:
    """The batch with its tensors on a device."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
        for name, value in batch.items()
    }


def _optimizer(stage: Stage, settings: LoopSettings) -> torch.optim.Optimizer:
    groups = stage.groups(settings.weight_decay)
    if settings.optimizer == "nadam":
        return torch.optim.NAdam(groups, lr=settings.learning_rate, decoupled_weight_decay=True)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)
