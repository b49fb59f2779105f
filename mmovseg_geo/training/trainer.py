"""One command from a recipe to weights: distill the text tower, then train the image side, resumably."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmovseg_geo.errors import ConfigError
from mmovseg_geo.models.mmovseg.compact import ConvOptical, SpeakingHead, build, mmovseg_compact
from mmovseg_geo.models.mmovseg.network import MMOVSeg
from mmovseg_geo.models.mmovseg.text_tower import TextTower
from mmovseg_geo.training.augment import TrainingBatch, augmented
from mmovseg_geo.training.calibration import Offsets, claim, hear_as_on_maps, lean, trust
from mmovseg_geo.training.chips import Chips, load_all
from mmovseg_geo.training.concepts import Concepts, read_concepts
from mmovseg_geo.training.cosine_head import Cosines, SideHead, forward
from mmovseg_geo.training.distillation import distill
from mmovseg_geo.training.export import write_weights
from mmovseg_geo.training.kinds import KINDS
from mmovseg_geo.training.likeness import turn_toward
from mmovseg_geo.training.phrases import nouns, read_subjects
from mmovseg_geo.training.pretrained import start_from_photographs
from mmovseg_geo.training.questions import FINE, Asker, Questions, answer_loss, cover_loss, ranking_loss
from mmovseg_geo.training.recipe import Recipe, Round, read_recipe
from mmovseg_geo.training.validation import Validation

logger = logging.getLogger(__name__)
FAR_STEP = 1_000_003
"""Batches that statistics are taken of are those of steps that no training reaches, each this far from the last."""
CALIBRATION_SEED = 998_000
STAGES = "optical.trunk.stages."
"""Parameters that do not begin at random."""


def train(config: str | Path, out: str | Path, *, resume: bool = False) -> Path:
    """Weights (`compact.safetensors` in the folder `out`) made by a recipe.

    Stages that are finished in `out` are not repeated when `resume` is set; an interrupted one goes on.

    Raises:
        ConfigError: a recipe that does not fit, or a folder with another run in it.
    """
    recipe, folder = read_recipe(Path(config)), Path(out)
    trainer = train_recipe(recipe, folder, resume=resume)
    path = folder / "compact.safetensors"
    network = trainer.usable()
    # Invented scenes are easier than places nobody has seen; they only judge where there are no such.
    known = Validation.of(recipe, trainer.concepts, simulated=0)
    if not known.batches:
        known = Validation.of(recipe, trainer.concepts, seed=CALIBRATION_SEED)
    hear_as_on_maps(network, known.kinds)
    head = trainer.head_of(network)
    answers = known.answers(network, head)
    offsets = lean(network, known.kinds, answers)
    logger.info("leaning  %s", _by_word(known.words, offsets))
    factor, shift = trust(network, answers, offsets)
    logger.info("trust  %.3f, after %.3f is added", factor, shift)
    claims = claim(network, known.kinds, known.answers(network, head))
    logger.info("claiming  %s", _by_word(known.words, claims))
    write_weights(path, network, recipe)
    return path


def _by_word(words: Sequence[str], numbers: Offsets) -> str:
    return ", ".join(f"{word} {number:.2f}" for word, number in zip(words, numbers, strict=True))


def train_recipe(recipe: Recipe, folder: Path, *, resume: bool = False) -> Trainer:
    """The trainer after the last step of a recipe."""
    concepts = read_concepts(recipe.concepts)
    torch.manual_seed(recipe.optimization.seed)
    network = build(mmovseg_compact())
    _check_parts(network, recipe)
    _claim(folder, recipe, resume=resume)
    _with_text(network, recipe, folder)
    assert isinstance(network.text, TextTower), "a compact network carries its text tower"
    assert isinstance(network.optical, ConvOptical), "a compact network has one optical trunk"
    start_from_photographs(network.optical.trunk.stages)
    turn_toward(network.text, concepts, nouns(read_subjects(recipe.text.phrases)))
    _name_kinds(network)
    sources = gather(recipe, concepts, folder)
    validation = Validation.of(recipe, concepts)
    trainer = Trainer(network, recipe, concepts, sources, folder)
    if resume:
        trainer.restore()
    trainer.run(validation)
    return trainer


class Trainer:
    """The loop of the image side. Every step draws from its own random stream, so that a resumed run is the same."""

    def __init__(
        self, network: MMOVSeg, recipe: Recipe, concepts: Concepts, sources: Sequence[Source], folder: Path
    ) -> None:
        self.recipe, self.settings, self.folder = recipe, recipe.optimization, folder
        self.concepts = concepts
        self.sources = sources
        assert isinstance(network.text, TextTower), "a compact network carries its text tower"
        network.text.requires_grad_(False)
        self.network = network
        self.averaged = copy.deepcopy(network).eval()
        self.cosines = Cosines()
        with torch.no_grad():
            vectors = network.text.embed(concepts.words)
        words = dict(zip(concepts.words, vectors, strict=True))
        noise, joined = self.settings.text_noise, self.settings.joined
        self.asker = Asker(concepts, words, count=self.settings.questions, text_noise=noise, joined=joined)
        self.trained = [pair for pair in network.named_parameters() if pair[1].requires_grad]
        parts: dict[str, list[nn.Parameter]] = {"head.": [], STAGES: [], "": list(self.cosines.parameters())}
        for name, parameter in self.trained:
            parts[next(part for part in parts if name.startswith(part))].append(parameter)
        rates = (self.settings.head_rate, self.settings.encoder_rate, 1.0)
        groups = [{"params": part, "rate": rate} for part, rate in zip(parts.values(), rates, strict=True)]
        decay = self.settings.weight_decay
        self.optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate, weight_decay=decay)
        self.possible = torch.from_numpy(concepts.possible)
        self.earlier: dict[str, Tensor] | None = None
        self.step = 0

    def run(self, validation: Validation) -> None:
        """Train to the last step.

        Batches are made in turn: a thread beside would take the cores from the network.
        """
        self._set_mode()
        started, first = time.monotonic(), self.step
        losses: list[float] = []
        last = self.recipe.num_steps
        while self.step < last:
            if self.step == self.settings.blend_step:
                self.earlier = {name: value.clone() for name, value in self.averaged.state_dict().items()}
            current, done = self._round
            if current is not None and done == 0:
                self._begin(current)
            losses.append(self._learn(*self.batch(self.step)))
            self.step += 1
            if self.step % 20 == 0:
                rate = (time.monotonic() - started) / (self.step - first)
                left_s = rate * (last - self.step)
                self._log({"step": self.step, "loss": float(np.mean(losses)), "s_per_step": rate, "left_s": left_s})
                losses.clear()
            if self.step % self.settings.check_every == 0 or self.step == last:
                self.save()
                network = self.usable()
                self._log({"step": self.step, **validation.measure(network, self.head_of(network))})

    def usable(self) -> MMOVSeg:
        """The averaged weights, in evaluation: those that maps are made with."""
        if self.step <= self.settings.steps:
            return self._with_statistics(self.averaged)
        is_blended = any(each.blended for each in self.recipe.rounds)
        return self.averaged if self.step < self.recipe.num_steps or is_blended else self._midway()

    def _midway(self) -> MMOVSeg:
        """The averaged weights, blended with the earlier ones where there are such."""
        blended = copy.deepcopy(self.averaged)
        if self.earlier is not None:
            for name, value in blended.state_dict().items():
                if value.dtype.is_floating_point:
                    value.lerp_(self.earlier[name], 0.5)
        return blended

    def _set_mode(self) -> None:
        """Training mode, with the batch norms at rest in the rounds, and in some of these what does not learn."""
        self.network.train()
        current, _ = self._round
        learns = None if current is None else current.learns
        for name, parameter in self.trained:
            parameter.requires_grad_(learns is None or name.startswith(tuple(f"{part}." for part in learns)))
        if self.step >= self.settings.steps:
            for norm in _norms(self.network):
                norm.eval()

    def _begin(self, current: Round) -> None:
        """Go on from the averaged weights; before the first round with statistics of many batches in their norms."""
        if current is self.recipe.rounds[0]:
            self.averaged.load_state_dict(self._with_statistics(self.averaged).state_dict())
        if current.blended:
            self.averaged.load_state_dict(self._midway().state_dict())
        self.network.load_state_dict(self.averaged.state_dict())
        self.optimizer.state.clear()  # its moments are of other gradients
        self._set_mode()

    @torch.no_grad()
    def _with_statistics(self, network: MMOVSeg) -> MMOVSeg:
        """The same weights, in evaluation, with the statistics of many batches in their norms."""
        other = copy.deepcopy(network)
        for norm in _norms(other):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
        other.train()
        for number in range(self.settings.statistics_batches):
            batch, asked, _ = self.batch(self.step + (number + 1) * FAR_STEP)
            forward(other, self.head_of(other), batch, asked.text)
        return other.eval()

    def batch(self, step: int) -> tuple[TrainingBatch, Questions, Questions]:
        """What is learned in a step: chips, what the cost head is asked of them, and what the cosines are."""
        rng = np.random.Generator(np.random.PCG64([self.settings.seed, step]))
        current, _ = self._round
        wanted = None if current is None else current.shares
        shares = np.array([source.share if wanted is None else wanted.get(source.name, 0.0) for source in self.sources])
        picks = rng.choice(len(shares), self.settings.batch_size, p=shares / shares.sum())
        drawn = [
            source.chips.chosen(rng.integers(0, len(source.chips), int((picks == number).sum())))
            for number, source in enumerate(self.sources)
            if (picks == number).any()
        ]
        settings = self.recipe.augmentation if current is None else current.augmentation
        batch = augmented(drawn, settings, rng, self.concepts.water_or_dry if settings.outdated else None)
        labels = batch.labels.numpy().astype(np.uint8)
        return batch, self.asker.ask(labels, rng), self.asker.everything(labels, rng)

    def _learn(self, batch: TrainingBatch, asked: Questions, everything: Questions) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * self._pace() * group["rate"]
        head = self.head_of(self.network, everything.text)
        text = everything.text if head.alone else asked.text
        with torch.autocast("cpu", torch.bfloat16, enabled=self.settings.precision == "bf16"):
            logits, side, covers = forward(self.network, head, batch, text)
        told = torch.stack([cover_loss(part.float(), batch.labels, self.possible) for part in covers]).mean()
        ranked = torch.stack([ranking_loss(part.float(), everything) for part in side]).mean()
        loss = told + self.settings.side_loss * ranked
        if logits is not None:
            logits = logits.float()
            answer = answer_loss(logits, asked, dice=self.settings.dice, edges=self.settings.edges)
            loss = loss + answer + self.settings.ranking * ranking_loss(logits, asked.every(FINE))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.gradient_clip)
        self.optimizer.step()
        self._average()
        return loss.item()

    def head_of(self, network: MMOVSeg, text: Tensor | None = None) -> SideHead:
        """Cosines alone at first, then the cost head with cosines (of `text`) beside it."""
        assert isinstance(network.head, SpeakingHead), "a compact network has such a head"
        current, _ = self._round
        alone = self.step < self.settings.warmup_steps if current is None else current.encoders_only
        return SideHead(network.head, self.cosines, text, alone=alone)

    def _pace(self) -> float:
        """Share of the learning rate: a short rise, the full rate, a cosine down; in each round a rise and a fall."""
        current, step = self._round
        if current is None:
            flat, rate = self.settings.flat_steps, 1.0
            fallen = max(0.0, (step - flat) / max(self.settings.steps - flat, 1))
        else:
            rate, fallen = current.rate, step / current.steps
        return rate * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * fallen))

    @property
    def _round(self) -> tuple[Round | None, int]:
        """The round of this step, None before the first and after the last, and the steps of it that are done."""
        step = self.step - self.settings.steps
        if step < 0:
            return None, self.step
        for current in self.recipe.rounds:
            if step < current.steps:
                return current, step
            step -= current.steps
        return None, self.step

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
            "earlier": self.earlier,
        }
        torch.save(state, partial)
        partial.replace(self.folder / "checkpoint.pt")

    def restore(self) -> None:
        """Go on from the checkpoint of the folder, where there is one.

        Raises:
            ConfigError: it was written by a version whose network was another.
        """
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        state = torch.load(path, weights_only=True)
        try:
            for name in ("network", "averaged", "cosines", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise ConfigError(
                f"{path}: of another network than this version of mmovseg trains.\n"
                "  Train in another folder, or go on with the version that wrote it."
            ) from error
        self.step, self.earlier = state["step"], state.get("earlier")
        logger.info("going on from step %d", self.step)

    def _log(self, values: dict[str, Any]) -> None:
        logger.info("  ".join(f"{key} {value:.4g}" for key, value in values.items()))
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(values) + "\n")


@torch.no_grad()
def _name_kinds(network: MMOVSeg) -> None:
    """Give every kind of land cover the mean vector of its words."""
    assert isinstance(network.head, SpeakingHead), "a compact network has such a head"
    assert isinstance(network.text, TextTower), "a compact network carries its text tower"
    means = [network.text.embed(words).mean(0) for words in KINDS.values()]
    network.head.name(nn.functional.normalize(torch.stack(means), dim=-1))


def _check_parts(network: MMOVSeg, recipe: Recipe) -> None:
    """Refuse a recipe in which a part learns that the network does not have."""
    names = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    for part in (part for each in recipe.rounds for part in each.learns or ()):
        if not any(name.startswith(f"{part}.") for name in names):
            known = ", ".join(dict.fromkeys(name.partition(".")[0] for name in names))
            raise ConfigError(f"A round's `learns` names {part!r}, which is no part of the network. Parts: {known}.")


def _norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@dataclass(frozen=True, eq=False)
class Source:
    """Chips that are drawn from, and in what share."""

    name: str
    share: float
    chips: Chips


def gather(recipe: Recipe, concepts: Concepts, folder: Path) -> list[Source]:
    """The chips of every source; simulated ones fill what the real ones leave."""
    size = recipe.simulated.size
    sources = []
    for real in recipe.real:
        path = folder / f"{real.name}.npz"
        if not path.is_file():
            real.make(recipe.data, concepts, size).save(path)
        sources.append(Source(real.name, real.share, Chips.load(path)))
    simulated = load_all(recipe.simulated.make(folder / "simulated", processes=recipe.processes))
    return [*sources, Source("simulated", 1 - sum(source.share for source in sources), simulated)]


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
