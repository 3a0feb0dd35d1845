"""Pictures of what a trained model finds: its worst, its median and its best validation page by H."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from orchestrator.evaluation.maps import ensure_maps
from orchestrator.evaluation.scores import Board, validation_pages
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Study, Trial
from orchestrator.tracking.pictures import draw_page


def draw_samples(trial: Trial, study: Study, ledger: Ledger, board: Board) -> Path:
    """The folder `pictures/` of a trial, with three pages in it (fewer in a set of fewer); drawn once.

    The trial must stand on the board: its maps are in the workspace then.
    """
    from detector.inference.predict import words_of_page

    folder = ledger.folder(trial.digest) / "pictures"
    pages, hmean_N = validation_pages(study), board.scores[trial.digest].stat_N("hmean")
    order = np.argsort(hmean_N, kind="stable")
    wanted = {"1-worst": order[0], "2-median": order[len(order) // 2], "3-best": order[-1]}
    drawn = dict[int, str]()
    for label, index in wanted.items():
        drawn.setdefault(int(index), label)
    missing = {
        index: folder / f"{label}.jpg" for index, label in drawn.items() if not (folder / f"{label}.jpg").exists()
    }
    if missing:
        (store,) = ensure_maps([ledger.best(trial.digest)], pages, ledger.workspace)
        for index, path in missing.items():
            page = pages[index]
            found = words_of_page(store.map(page.name), trial.config.postprocess)
            draw_page(page.path, page.words, found, path, title=f"{page.name}: H {hmean_N[index]:.4f}")
    return folder
