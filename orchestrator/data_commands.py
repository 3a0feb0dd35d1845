"""The `data` commands: make synthetic receipts, convert annotations, check a set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from detector.errors import DataError, InputError
from orchestrator import commands
from orchestrator.commands import Answer, progress

if TYPE_CHECKING:
    from detector.data.check import Part

# The names of `detector.data.convert`, which loads OpenCV: `--help` must not wait for it. A test compares them.
FORMATS: Final = ("competition", "icdar", "sroie", "paddle", "labelme", "coco-text", "coco")
FORMATS_HELP: Final = """\
formats:
  competition  one JSON (the default of --from and of --to)
  icdar        a folder, gt_IMAGE.txt a page: x1,y1,...,x4,y4,text; ### is don't care
  sroie        a folder, IMAGE.txt or .csv a page: x1,y1,...,x4,y4,text
  paddle       one label file, `path<TAB>JSON` a page
  labelme      a folder, IMAGE.json a page
  coco-text    one JSON with imgs and anns
  coco         one JSON with images and annotations

What the target does not hold is counted and said; what would change or drop words is refused without --lossy."""

CHECK_HELP: Final = """\
All sets are checked together: an image of one must not be in another.
Exit codes: 0 no problems (there may be notices); 1 problems; 2 the input is wrong, e.g. annotations that break their
format."""


def arguments(parser: ArgumentParser) -> None:
    """Add the commands under `data`."""
    sub = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    synth = sub.add_parser("synth", help="make synthetic receipts", description=commands.synth.__doc__)
    synth.set_defaults(handler=commands.synth)
    synth.add_argument("folder", metavar="FOLDER", help="gets images/ and annotations.json")
    synth.add_argument("--count", type=int, default=100, help="pages (default 100)")
    synth.add_argument("--seed", type=int, default=0, help="of everything drawn (default 0)")
    synth.add_argument("--size", type=int, default=640, help="longest side, px (default 640)")
    synth.add_argument("--force", action="store_true", help="write over existing pages")
    _convert_arguments(
        sub.add_parser(
            "convert",
            help="read and write other tools' annotations",
            description=convert.__doc__,
            epilog=FORMATS_HELP,
            formatter_class=RawDescriptionHelpFormatter,
        )
    )
    _check_arguments(
        sub.add_parser(
            "check",
            help="look for what is wrong in files, images and words",
            description=check.__doc__,
            epilog=CHECK_HELP,
            formatter_class=RawDescriptionHelpFormatter,
        )
    )


def _convert_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(handler=convert)
    parser.add_argument("source", metavar="SRC", help="file, or folder for the formats with one file an image")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="file or folder, likewise")
    parser.add_argument("--from", dest="origin", choices=FORMATS, default="competition", help="format of SRC")
    parser.add_argument("--to", dest="target", choices=FORMATS, default="competition", help="format of OUT")
    parser.add_argument(
        "--images", metavar="DIR", help="the image files: their names, sizes, orientations; all must exist"
    )
    parser.add_argument("--encoding", default="utf-8", help="of text files that are read (default utf-8)")
    parser.add_argument(
        "--subset", metavar="NAME", help="coco-text: train, val or test; the images of this `set` alone"
    )
    parser.add_argument(
        "--frame",
        choices=("upright", "stored"),
        default="upright",
        help="coordinates of the foreign file: of the image as seen (default), or as its pixels are stored before EXIF",
    )
    parser.add_argument("--round", action="store_true", help="write coordinates as integers")
    parser.add_argument("--lossy", action="store_true", help="go on where words must be changed or left out")
    parser.add_argument("--force", action="store_true", help="write over existing files")


def _check_arguments(parser: ArgumentParser) -> None:
    parser.set_defaults(handler=check)
    parser.add_argument(
        "sets",
        metavar="SET",
        nargs="+",
        help="folder with annotations (*.json) and images/, an annotation file, or a plan file (its data)",
    )
    parser.add_argument("--images", metavar="DIR", help="the image files, where they are not in images/ beside")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a page with pictures there (.html)")
    parser.add_argument("--force", action="store_true", help="write over an existing page")
    parser.add_argument("--threads", type=int, default=0, help="that decode (default: one a processor, 8 at most)")
    parser.add_argument("--json", action="store_true", help="for machines; all findings")


def convert(arguments: Namespace) -> Answer:
    """Convert annotations to another tool's format; say what it does not hold."""
    from detector.data.convert import convert as convert_files
    from detector.data.foreign.trip import Options

    options = Options(
        images=None if arguments.images is None else Path(arguments.images),
        encoding=arguments.encoding,
        subset=arguments.subset,
        frame=arguments.frame,
        whole=arguments.round,
        lossy=arguments.lossy,
    )
    out = Path(arguments.output)
    done = convert_files(
        Path(arguments.source), out, arguments.origin, arguments.target, options, force=arguments.force
    )
    return "\n".join([f"{done.pages} pages, {done.words} words -> {out}", *done.notes]), 0


def check(arguments: Namespace) -> Answer:
    """Look for missing, broken and equal images and for words that are none, in one set or several."""
    from detector.data import check as checks
    from orchestrator.report import data_page

    out = None if arguments.output is None else Path(arguments.output)
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"-o {out}: a .html file expected; rename it")
    if out is not None and out.exists() and not arguments.force:
        raise InputError(f"-o {out}: exists already; choose another name or give --force")
    if arguments.threads < 0:
        raise InputError(f"--threads {arguments.threads}: must be 1 or more, or 0 for one a processor")
    parts = [part for given in arguments.sets for part in _parts(Path(given), arguments.images)]
    twice = [name for name, count in Counter(part.name for part in parts).items() if count > 1]
    if twice:
        raise InputError(f"data check: two sets are called {twice[0]}; name each once, or rename a folder")
    survey = checks.check(parts, lambda looks, total: progress(looks, "images", total), arguments.threads)
    if out is not None:
        data_page.write_page(out, survey)
    code = 0 if survey.clean else 1
    if arguments.json:
        return commands.as_json(data_page.as_json(survey)), code
    lines = [*commands.aligned(data_page.as_cells(survey)), *data_page.as_lines(survey)]
    return "\n".join(lines if out is None else [*lines, "", f"-> {out}"]), code


def _parts(given: Path, images: str | None) -> list[Part]:
    """The parts that an argument names; a plan's synthetic pages are made if they are not there."""
    from detector.data.check import Part, parts_of

    if given.suffix.lower() not in (".yaml", ".yml"):
        return parts_of(given, None if images is None else Path(images))
    from orchestrator.plan.data import places_of
    from orchestrator.plan.expand import workspace_of
    from orchestrator.plan.loading import load

    plan = load(given)
    places = places_of(plan.data, workspace_of(plan))
    listed = [Part(f"{plan.roadmap}/{part}", *place) for part, place in places.items() if place[0] != Path()]
    for part in listed:
        if not part.annotations.is_file() or not part.images.is_dir():
            lost = part.images if part.annotations.is_file() else part.annotations
            raise DataError(f"{given}: data: {lost}: is not there; check the path")
    return listed
