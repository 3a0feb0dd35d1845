"""The `data` commands: make synthetic receipts, convert annotations, check a set."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Final

from orchestrator import commands
from orchestrator.commands import Answer

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
    check = sub.add_parser("check", help="read data as a training would", description=data_check.__doc__)
    check.set_defaults(handler=data_check)
    check.add_argument("annotations", metavar="ANNOTATIONS", help=".json in the competition's format")
    check.add_argument("images", metavar="IMAGES", help="folder of the images")
    check.add_argument("--json", action="store_true", help="for machines")


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


def data_check(arguments: Namespace) -> Answer:
    """Read annotations and images as a training would, and say what is in them."""
    from detector.data.formats import read_annotations

    reading = read_annotations(Path(arguments.annotations), Path(arguments.images))
    if arguments.json:
        return commands.as_json({"counts": reading.counts, "notes": list(reading.notes)}), 0
    counts = commands.aligned([(name, str(count)) for name, count in reading.counts.items()])
    return "\n".join([*counts, *reading.notes]), 0
