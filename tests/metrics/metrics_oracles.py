"""Second opinions, the benchmarks' peers: the published scorer for `official`, and slow plain twins."""

from benchmarks.peers.plain_cleval_competition import counts as competition
from benchmarks.peers.plain_cleval_competition import plain_centres, plain_ratio
from benchmarks.peers.plain_iou import matches as iou_plain
from benchmarks.peers.published_cleval import counts as official

__all__ = ["competition", "iou_plain", "official", "plain_centres", "plain_ratio"]
