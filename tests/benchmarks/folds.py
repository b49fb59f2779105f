"""`python -m tests.benchmarks.folds FOLD2 FOLD3`: the cross-validation by places of the bundled model, as a table.

FOLD2 and FOLD3 are the weights that configs/train/mmovseg-compact-fold2.yaml and -fold3.yaml give; the bundled model is
that of the first fold. Every chip of hls_worldcover is mapped once, by weights that have not seen its place, and by a
random forest of pixels that was trained on the same chips. Needs the shared data (MMOVSEG_SHARED).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.accuracy import HLS_WORDS, answers, forest, hls_chips, iou_of
from tests.conftest import ROOT, shared_folder


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs=2, metavar="FOLD")
    options = parser.parse_args(None if arguments is None else list(arguments))
    root = shared_folder() / "data"
    words = [word for word, _ in HLS_WORDS.values()]
    sums = np.zeros((2, 6, 6))
    means = []
    print(f"{'':16}{'mean':>8}" + "".join(f"{name[:5]:>8}" for name in HLS_WORDS))
    for fold, model in enumerate(("mmovseg-compact", *options.weights), 1):
        recipe = ROOT / "configs" / "train" / f"mmovseg-compact{'' if fold == 1 else f'-fold{fold}'}.yaml"
        chips, truths, _ = hls_chips(root, recipe)
        found = answers(model, words, chips, truths)
        confusions = np.stack([found.confusion, forest(root, recipe)])
        print(f"fold {fold}, {len(chips)} chips, calibration error {found.calibration_error:.3f}")
        means.append(_table(confusions))
        sums += confusions
    network, floor = np.mean(means, axis=0)
    print(f"mean over folds: model {network:.3f}, forest {floor:.3f}, {network - floor:+.3f}\nall chips as one")
    _table(sums)


def _table(confusions: NDArray[np.float64]) -> list[float]:
    """Print the IoU of the model and of the forest; their means."""
    means = []
    for name, confusion in zip(("model", "random forest"), confusions, strict=True):
        values = iou_of(confusion)
        means.append(float(values.mean()))
        print(f"  {name:14}{values.mean():8.3f}" + "".join(f"{value:8.3f}" for value in values), flush=True)
    return means


if __name__ == "__main__":
    main()
