"""From pictures of known subjects to a calibration: operating points, score map, quality."""
