"""One command from a recipe to weights: distill the text tower, then train the image side, resumably."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.compact import build, mmovseg_compact
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.training.augment import TrainingBatch, augmented
from mmovseg_geo.training.calibration import refresh_norms
from mmovseg_geo.training.chips import Chips, load_all
from mmovseg_geo.training.concepts import Concepts, read_concepts
from mmovseg_geo.training.cosine_head import CosineHead, SideHead, forward
from mmovseg_geo.training.distillation import distill
from mmovseg_geo.training.export import write_weights
from mmovseg_geo.training.questions import Asker, Questions, answer_loss
from mmovseg_geo.training.recipe import Recipe, read_recipe
from mmovseg_geo.training.validation import Validation

logger = logging.getLogger(__name__)
SETTLING_BATCHES = 40
CALIBRATION_STEP = 1_000_000
SHORTENING = 12.0


def train(config: str | Path, out: str | Path, *, resume: bool = False) -> Path:
    """Weights (`compact.safetensors` in the folder `out`) made by a recipe.

    Stages that are finished in `out` are not repeated when `resume` is set; an interrupted one goes on.

    Raises:
        ConfigError: a recipe that does not fit, or a folder with another run in it.
    """
    recipe, folder = read_recipe(Path(config)), Path(out)
    _claim(folder, recipe, resume=resume)
    concepts = read_concepts(recipe.concepts)
    torch.manual_seed(recipe.optimization.seed)
    network = build(mmovseg_compact())
    _with_text(network, recipe, folder)
    sources = gather(recipe, concepts, folder)
    validation = Validation.of(recipe, concepts)
    trainer = Trainer(network, recipe, concepts, sources, folder)
    if resume:
        trainer.restore()
    trainer.run(validation)
    refresh_norms(trainer.averaged, trainer.calibration_batches(), recipe.optimization.fresh_statistics)
    logger.info("norms refreshed  %s", validation.measure(trainer.averaged, trainer._head_of(trainer.averaged)))
    path = folder / "compact.safetensors"
    write_weights(path, trainer.averaged, recipe)
    return path


class Trainer:
    """The loop of the image side. Every step draws from its own random stream, so that a resumed run is the same."""

    def __init__(
        self, network: MMOVSeg, recipe: Recipe, concepts: Concepts, sources: list[tuple[float, Chips]], folder: Path
    ) -> None:
        self.recipe, self.settings, self.folder = recipe, recipe.optimization, folder
        self.sources = sources
        assert network.text is not None, "a compact network carries its text tower"
        network.text.requires_grad_(False)
        self.network = network
        self.averaged = copy.deepcopy(network).eval()
        self.cosines = CosineHead()
        with torch.no_grad():
            vectors = network.text.embed(concepts.words)  # type: ignore[operator]
        words = dict(zip(concepts.words, vectors, strict=True))
        noise = self.settings.text_noise
        self.warmup_asker = Asker(concepts, words, count=self.settings.warmup_questions, text_noise=noise)
        self.asker = Asker(concepts, words, count=self.settings.questions, text_noise=noise)
        head = list(network.head.parameters())
        rest = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("head.")]
        groups = [
            {"params": [*rest, *self.cosines.parameters()], "rate": 1.0},
            {"params": head, "rate": self.settings.head_rate},
        ]
        decay = self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=decay)
        self.step = 0

    def run(self, validation: Validation) -> None:
        """Train to the last step. Batches are made in turn: a thread beside would take the cores from the network."""
        self._set_mode()
        started, first = time.monotonic(), self.step
        losses: list[float] = []
        while self.step < self.settings.steps:
            if self.step == self.settings.steps - self.settings.settle_steps:
                self._settle()
            losses.append(self._learn(*self.batch(self.step)))
            self.step += 1
            if self.step % 20 == 0:
                rate = (time.monotonic() - started) / (self.step - first)
                left_s = rate * (self.settings.steps - self.step)
                self._log({"step": self.step, "loss": float(np.mean(losses)), "s_per_step": rate, "left_s": left_s})
                losses.clear()
            if self.step % self.settings.check_every == 0 or self.step == self.settings.steps:
                self.save()
                self._log({"step": self.step, **validation.measure(self.averaged, self._head_of(self.averaged))})

    def _set_mode(self) -> None:
        """Training mode, with the batch norms at rest in the last steps."""
        self.network.train()
        if self.step >= self.settings.steps - self.settings.settle_steps:
            for norm in _norms(self.network):
                norm.eval()

    @torch.no_grad()
    def _settle(self) -> None:
        """Go on from the averaged weights, with statistics of their own over many batches, which stay from here on."""
        self.network.load_state_dict(self.averaged.state_dict())
        self.network.train()
        for norm in _norms(self.network):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        for number in range(SETTLING_BATCHES):
            batch, questions = self.batch(self.settings.steps + number)
            forward(self.network, self._head_of(self.network), batch, questions.text)
        _shorten(self.network)
        self.optimizer.state.clear()  # its moments are of other gradients
        self.averaged.load_state_dict(self.network.state_dict())
        self._set_mode()

    def batch(self, step: int) -> tuple[TrainingBatch, Questions]:
        """What is learned in a step."""
        rng = np.random.Generator(np.random.PCG64([self.settings.seed, step]))
        shares = np.array([share for share, _ in self.sources])
        is_warmup = step < self.settings.warmup_steps
        size = self.settings.warmup_batch_size if is_warmup else self.settings.batch_size
        picks = rng.choice(len(self.sources), size, p=shares / shares.sum())
        drawn = [
            chips.chosen(rng.integers(0, len(chips), int((picks == source).sum())))
            for source, (_, chips) in enumerate(self.sources)
            if (picks == source).any()
        ]
        batch = augmented(Chips.join(drawn), self.recipe.augmentation, rng)
        asker = self.warmup_asker if is_warmup else self.asker
        return batch, asker.ask(batch.labels.numpy().astype(np.uint8), rng)

    def calibration_batches(self) -> Iterator[tuple[TrainingBatch, Tensor]]:
        """Batches that no step of training draws, with their text vectors."""
        for number in range(SETTLING_BATCHES):
            batch, questions = self.batch(CALIBRATION_STEP + number)
            yield batch, questions.text

    def _learn(self, batch: TrainingBatch, questions: Questions) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._pace() * group["rate"]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
            logits, side = forward(self.network, self._head_of(self.network), batch, questions.text)
        edges = self.settings.edges
        loss = sum(
            (answer_loss(part.float(), questions, dice=0.0, edges=edges) for part in side), start=torch.zeros(())
        )
        if logits is not None:
            answer = answer_loss(logits.float(), questions, dice=self.settings.dice, edges=edges)
            loss = self.settings.side_loss * loss + answer
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self._average()
        return loss.item()

    def _head_of(self, network: MMOVSeg) -> nn.Module:
        """Cosines alone at first, then the cost head with cosines beside it."""
        if self.step < self.settings.warmup_steps:
            return self.cosines
        return SideHead(network.head, self.cosines)

    def _pace(self) -> float:
        """Share of the learning rate: a short rise and a cosine down, and again, lower, where the norms are at rest."""
        settled = self.settings.steps - self.settings.settle_steps
        if self.step < settled:
            step, of, height = self.step, settled, 1.0
        else:
            step, of, height = self.step - settled, self.settings.settle_steps, self.settings.settle_rate
        return height * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / of))

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.settings.average, (1 + self.step) / (10 + self.step))
        for mine, theirs in zip(self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)

    def save(self) -> None:
        """A checkpoint to resume from; an interrupted write leaves the one before."""
        partial = self.folder / "checkpoint.partial"
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "cosines": self.cosines.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def restore(self) -> None:
        """Go on from the checkpoint of the folder, where there is one."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        for name in ("network", "averaged", "cosines", "optimizer"):
            getattr(self, name).load_state_dict(state[name])
        self.step = state["step"]
        logger.info("going on from step %d", self.step)

    def _log(self, values: dict[str, Any]) -> None:
        logger.info("  ".join(f"{key} {value:.4g}" for key, value in values.items()))
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")


def _shorten(network: MMOVSeg) -> None:
    """Divide the layers before the cosines by one number: the cosines stay, and they learn faster again.

    A vector that only its direction matters of grows under gradients, and the longer it is the less a step turns it.
    """
    layers = [network.optical.to_text, network.adapters.optical[-1], network.adapters.sar[-1]]  # type: ignore[attr-defined]
    for layer in layers:
        layer.weight /= SHORTENING
        layer.bias /= SHORTENING


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


def gather(recipe: Recipe, concepts: Concepts, folder: Path) -> list[tuple[float, Chips]]:
    """(share, chips) of every source; simulated chips fill what the real ones leave."""
    size = recipe.simulated.size
    sources = []
    for real in recipe.real:
        path = folder / f"{real.dataset.name}.npz"
        if not path.is_file():
            real.make(recipe.data, concepts, size).save(path)
        sources.append((real.share, Chips.load(path)))
    simulated = load_all(recipe.simulated.make(folder / "simulated", processes=recipe.processes))
    return [*sources, (1 - sum(share for share, _ in sources), simulated)]


def _with_text(network: MMOVSeg, recipe: Recipe, folder: Path) -> None:
    assert network.text is not None, "a compact network carries its text tower"
    path = folder / "text.pt"
    if path.is_file():
        network.text.load_state_dict(torch.load(path, weights_only=True))
        return
    tower = distill(recipe.text, mmovseg_compact().text, folder)
    torch.save(tower.state_dict(), path)
    network.text.load_state_dict(tower.state_dict())


def _claim(folder: Path, recipe: Recipe, *, resume: bool) -> None:
    """Write down which recipe this folder is for, and refuse one that is another's."""
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / "recipe.json"
    if note.is_file():
        kept = json.loads(note.read_text(encoding="utf-8"))["digest"]
        if not resume:
            raise ConfigError(f"{folder} holds a run already. Go on with it (--resume) or give another folder.")
        if kept != recipe.digest:
            raise ConfigError(f"{folder} holds a run of another recipe. Give another folder, or restore the recipe.")
    note.write_text(json.dumps(asdict(recipe), default=str, indent=1), encoding="utf-8")
