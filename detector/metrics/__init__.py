"""How good detections are: CLEval in two variants, ICDAR IoU, and the report of a set. Loads no torch."""
