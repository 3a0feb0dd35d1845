"""Folds on disk: the assignment that a workspace keeps, and a file of the user's own.

    <workspace>/data/folds-<inputs>.json
        format, rules     of this file and of `orchestrator.plan.folds`
        digest            over which page is in which fold: what the identity of a trial with a fold holds
        k, seed, group    or k and `file`, as the plan gives them
        pages, words      of each fold
        folds             page -> fold

    FILE.csv    header `image,fold`, a line a page          FILE.json    {"a.jpg": 0, ...}, or a workspace's own file

`inputs` is a digest of all that the assignment follows from, so that one that is kept is that of these very pages.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from detector.errors import DataError
from detector.files import read_json, write_json
from orchestrator.plan.folds import RULES, Sheet, sizes_of
from orchestrator.plan.identity import short

FORMAT: Final = 1
SHOWN: Final = 20  # faults in a message
HEADER: Final = ["image", "fold"]


def digest_of(names: Sequence[str], folds: Sequence[int]) -> str:
    """Over which page is in which fold; empty without folds."""
    if not folds:
        return ""
    home = sorted(zip(names, folds, strict=True))
    return short(json.dumps([list(pair) for pair in home], ensure_ascii=True).encode())


def place_of(sheets: Sequence[Sheet], given: Mapping[str, Any], workspace: Path) -> Path:
    """Where the assignment of these pages is kept.

    Args:
        given: the plan's `data.folds`.
    """
    pages = sorted((sheet.name, sheet.words, sheet.content) for sheet in sheets)
    inputs = json.dumps([FORMAT, RULES, dict(given), pages], sort_keys=True, ensure_ascii=True)
    return workspace / "data" / f"folds-{short(inputs.encode())}.json"


def kept(path: Path, sheets: Sequence[Sheet]) -> tuple[int, ...] | None:
    """The assignment in a file of a workspace; None where there is none, or a damaged one."""
    if not path.is_file():
        return None
    try:
        value = read_json(path)
        folds = tuple(int(value["folds"][sheet.name]) for sheet in sheets)
        same = value["digest"] == digest_of([sheet.name for sheet in sheets], folds)
    except (DataError, KeyError, TypeError, ValueError):
        return None
    return folds if same else None


def keep(path: Path, sheets: Sequence[Sheet], folds: Sequence[int], given: Mapping[str, Any]) -> None:
    """Write an assignment, whole or not at all."""
    names = [sheet.name for sheet in sheets]
    value = {
        "format": FORMAT,
        "rules": RULES,
        "digest": digest_of(names, folds),
        **given,
        "pages": list(sizes_of(folds)),
        "words": list(sizes_of(folds, [sheet.words for sheet in sheets])),
        "folds": dict(sorted(zip(names, folds, strict=True))),
    }
    try:
        write_json(path, value, indent=1)
    except OSError:  # `check` by someone who may not write here: it is made again
        return


def read_folds(path: Path, sheets: Sequence[Sheet], k: int) -> tuple[int, ...]:
    """The folds of a user's own file, for the pages in their order.

    Raises:
        DataError: all faults at once, each with its line: pages that are not there, come twice or have no fold, folds
            that are none of 0 .. k - 1 or have no pages, equal images in different folds.
    """
    faults: list[str] = []
    known = {sheet.name: sheet for sheet in sheets}
    home: dict[str, tuple[int, int]] = {}  # page -> line, fold
    contents: dict[str, str] = {}  # image -> the page that had it first
    for line, name, text in _rows(path):
        place = f"{path}:{line}: {name}"
        fold = int(text) if text.isascii() and text.isdigit() else -1
        if name not in known:
            faults.append(f"{place}: is no page of data.train; remove the line, or mend the name")
        elif name in home:
            faults.append(f"{place}: stands in line {home[name][0]} already; remove one of the two")
        elif not 0 <= fold < k:
            faults.append(f"{place}: `0 <= fold < k` must hold with k={k}, got {text or 'nothing'}; mend it, or `k`")
            home[name] = line, -1
        else:
            home[name] = line, fold
            content = known[name].content
            first = contents.setdefault(content, name) if content else name
            if home[first][1] != fold:
                faults.append(
                    f"{place}: is byte for byte {first} (line {home[first][0]}), but that is in fold {home[first][1]}, "
                    f"not {fold}; put both in one, or its out-of-fold score is of a page learned from"
                )
    without = [sheet.name for sheet in sheets if sheet.name not in home]
    if without:
        others = f" ({len(without) - 3} more)" if len(without) > 3 else ""
        faults.append(f"{path}: {', '.join(without[:3])}{others}: pages of data.train without a fold; add them")
    empty = sorted(set(range(k)) - {fold for _, fold in home.values()})
    if empty and not faults:
        faults.append(f"{path}: fold {empty[0]} of k={k} has no pages; mend the file, or `k`")
    if faults:
        more = [f"{path}: {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        raise DataError("\n".join([*faults[:SHOWN], *more]))
    return tuple(home[sheet.name][1] for sheet in sheets)


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line, page, fold as written) of every entry."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check data.folds.file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 at byte {error.start}; save it as UTF-8") from error
    yield from _json_rows(path, text) if path.suffix.lower() == ".json" else _csv_rows(path, text)


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    reader = csv.reader(io.StringIO(text))
    head = [cell.strip() for cell in next(reader, [])]
    if head != HEADER:
        raise DataError(f"{path}:1: the header `{','.join(HEADER)}` expected, got `{','.join(head)}`; write it so")
    for row in reader:
        if not row:
            continue
        if len(row) != len(HEADER):
            raise DataError(f"{path}:{reader.line_num}: two cells expected, image and fold, got {len(row)}; mend it")
        yield reader.line_num, row[0].strip(), row[1].strip()


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Lines are those of the keys, looked for from the one before: entries stand in the file's order."""
    try:
        value = json.loads(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}:{error.colno}: is not JSON ({error.msg}); mend the file") from error
    inner = next((found for key, found in value if key == "folds"), None) if isinstance(value, _Pairs) else None
    start = 0
    if isinstance(inner, _Pairs):
        value, start = inner, text.find('"folds"') + len('"folds"')
    if not isinstance(value, _Pairs):
        raise DataError(f'{path}: an object {{"a.jpg": 0, ...}} expected, got {type(value).__name__}; write it so')
    for key, fold in value:
        found = max(text.find(json.dumps(key, ensure_ascii=ascii), start) for ascii in (True, False))
        start = max(start, found)
        whole = isinstance(fold, int) and not isinstance(fold, bool)
        yield text.count("\n", 0, start) + 1, key, str(fold) if whole else json.dumps(fold)


class _Pairs(list[tuple[str, Any]]):
    """An object's entries, those of one key included."""
