"""Calibration from pictures of known subjects: operating points, score map, quality."""
